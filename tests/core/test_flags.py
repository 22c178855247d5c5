"""Parsing of flags: values, defaults, and one sentence for every error."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from framecast.core.errors import UserError
from framecast.core.flags import RunName, Switch, Table, field_docs, fields_of, flag_names, parse, peek


@dataclass(frozen=True, kw_only=True)
class Inner:
    """rate: speed.  low, high: from where to where,
    in pixels.
    """

    rate: float = 0.5
    low: int = 0
    high: int = 9


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Words.

    Example: framecast words RUN --out x
    """

    run: RunName
    """Which."""
    out: str
    """Where
    to."""
    count: int | None = None
    """How many."""
    mode: Literal["fast", "slow"] = "fast"
    table: Table = ((1, 2), (3,))
    half: Switch = False
    both: bool = True
    inner: Inner = field(default_factory=Inner)


def words(*argv):
    return parse(Flags, argv, "words")


def test_values_of_every_type_are_parsed():
    given = ("r", "--out", "x", "--count", "3", "--mode=slow", "--table", "4-5-6,7", "--half", "--no-both")
    assert words(*given, "--inner.rate", "1e-3") == Flags(
        run="r",
        out="x",
        count=3,
        mode="slow",
        table=((4, 5, 6), (7,)),
        half=True,
        both=False,
        inner=Inner(rate=0.001),
    )
    assert words("--out", "x", "r") == Flags(run="r", out="x")
    assert words("r", "--out", "x", "--count", "none").count is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("r", "words: --out is missing; see framecast words --help"),
        ("", "words: RUN and --out are missing; see framecast words --help"),
        ("r --out x --ot 3", "words: unknown flag --ot; did you mean '--out'?"),
        ("r --out x --rate 3", "words: unknown flag --rate; did you mean '--inner.rate'?"),
        ("r --out x -o 3", "words: unknown flag -o; flags begin with two dashes"),
        ("r --out x --count many", "words: --count: expected a whole number, got 'many'; see framecast words --help"),
        ("r --out x --count 1.5", "words: --count: expected a whole number, got '1.5'; see framecast words --help"),
        ("r --out x --inner.rate x", "words: --inner.rate: expected a number, got 'x'; see framecast words --help"),
        (
            "r --out x --inner.rate inf",
            "words: --inner.rate: expected a finite number, got 'inf'; see framecast words --help",
        ),
        (
            "r --out x --inner.rate nan",
            "words: --inner.rate: expected a finite number, got 'nan'; see framecast words --help",
        ),
        ("r --out x --mode slwo", "words: --mode 'slwo' is not known; did you mean 'slow'?"),
        ("r --out x y", "words: 'y' is unexpected; see framecast words --help"),
        (
            "r --out x --table 3x4",
            "words: --table: expected rows of whole numbers such as 16-32-16,16-32-16, got",
        ),
    ],
)
def test_every_error_is_one_sentence(given, sentence):
    with pytest.raises(UserError) as error:
        words(*given.split())
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


def test_error_names_a_flag_without_value():
    with pytest.raises(UserError, match="--count"):
        words("r", "--out", "x", "--count")


def test_flag_names_include_nested_fields():
    assert flag_names(Flags) == [
        *("--help", "--out", "--count", "--mode", "--table", "--half", "--both", "--no-both"),
        *("--inner.rate", "--inner.low", "--inner.high"),
    ]


def test_help_texts_come_from_field_and_class_docstrings():
    assert field_docs(Flags) == {"run": "Which.", "out": "Where to.", "count": "How many."}
    both = "From where to where, in pixels."
    assert field_docs(Inner) == {"rate": "Speed.", "low": both, "high": both}
    assert [(name, kind) for name, kind, _ in fields_of(Inner(), ["low"])] == [("rate", float), ("high", int)]


def test_help_exits_with_zero_and_shows_the_example(capsys):
    with pytest.raises(SystemExit) as stop:
        words("--help")
    assert not stop.value.code
    assert "Example: framecast words RUN --out x" in capsys.readouterr().out


def test_peek_returns_the_value_of_a_flag():
    assert peek(["--a", "1", "--b=2"], "--a") == "1"
    assert peek(["--a", "1", "--b=2"], "--b") == "2"
    assert peek(["--a"], "--a") is None
