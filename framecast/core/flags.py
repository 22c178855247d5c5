"""Parsing of command-line arguments into a dataclass of flags; every error is one sentence."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import io
import itertools
import math
import os
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.migration import RENAMED_FLAGS

#: Positional arguments.
RunName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
OptionalRunName = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN]")]
RunNames = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN …]")]
SetName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
PathName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
ModelName = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL]")]
#: A flag without a value; a plain bool also has a --no-… form.
Switch = tyro.conf.FlagCreatePairsOff[bool]


_ROWS = tuple[tuple[int, ...], ...]


def _read_table(words: list[str]) -> _ROWS:
    if not re.fullmatch(r"\d+(-\d+)*(,\d+(-\d+)*)*", words[0]):
        raise ValueError(f"expected rows of whole numbers such as 16-32-16,16-32-16, got {words[0]!r}")
    return tuple(tuple(int(v) for v in row.split("-")) for row in words[0].split(","))


#: Tables such as ((16, 32), (8,)), written 16-32,8.
Table = Annotated[
    _ROWS,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="16-32-16,16-32-16",
        instance_from_str=_read_table,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join("-".join(map(str, row)) for row in value)],
    ),
]


def parse(flags: type, argv: Sequence[str], command: str) -> Any:
    """An instance of the dataclass `flags` from command-line arguments; `--help` prints the help and exits.

    Args:
        flags: dataclass with one field per flag.
        argv: the arguments after the command.
        command: the command as the user typed it, e.g. "data import".

    Raises:
        UserError: one sentence for an unknown or missing flag, or an invalid value.
    """
    argv = _renamed(argv, flag_names(flags))
    _check_names(argv, flag_names(flags), command)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), _constructors(), _wide({"-h", "--help"}.isdisjoint(argv)):
            # help texts are metadata or docstrings; without comments tyro does not tokenize every source file
            config = (tyro.conf.HelptextFromCommentsOff,)
            return tyro.cli(flags, args=list(argv), prog=f"framecast {command}", config=config)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        sentence = _sentence(errors.getvalue(), flags, argv)
        more = "" if sentence.endswith("?") else f"; see framecast {command} --help"
        raise UserError(f"{command}: {sentence}{more}") from None


def _renamed(argv: Sequence[str], known: Sequence[str]) -> list[str]:
    """The arguments with present names of flags; each old name prints a warning to standard error."""
    words = []
    for word in argv:
        flag, equals, value = word.partition("=")
        new = RENAMED_FLAGS.get(flag)
        if new is not None and new in known:
            print(f"warning: {flag} is now {new}; the old name will be removed in the next version", file=sys.stderr)
            word = f"{new}{equals}{value}"
        words.append(word)
    return words


def flag_names(flags: type, prefix: str = "--") -> list[str]:
    """All flags of a dataclass; those of nested dataclasses have a dotted prefix."""
    names = ["--help"] if prefix == "--" else []
    hints = typing.get_type_hints(flags, include_extras=True)
    for f in dataclasses.fields(flags):
        marks = typing.get_args(hints[f.name])[1:] if typing.get_origin(hints[f.name]) is Annotated else ()
        if tyro.conf.Positional in marks:
            continue
        name, hint = f.name.replace("_", "-"), _bare(hints[f.name])
        inner = [a for a in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(a)]
        names += [flag for a in inner for flag in flag_names(typing.cast(type, a), f"{prefix}{name}.")]
        names += [] if inner else [f"{prefix}{name}"]
        if hint is bool and tyro.conf.FlagCreatePairsOff not in marks:
            names.append(f"{prefix}no-{name}")
    return names


def field_docs(cls: type) -> dict[str, str]:
    """Help text of each field of a dataclass: the string below it, or `name: …` in the class's docstring."""
    names = [f.name for f in dataclasses.fields(cls)]
    found: dict[str, str] = {}
    parts = re.split(r"(?:^|\s{2,}|\n)((?:\w+)(?:,\s+\w+)*):\s", cls.__doc__ or "")
    for heads, text in zip(parts[1::2], parts[2::2], strict=True):
        text = " ".join(text.split())
        found |= {name: text[:1].upper() + text[1:] for name in re.split(r",\s+", heads) if name in names}
    return found | _strings_below(cls)


def documented(text: str, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field with a help text and, if given, a default."""
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata={"help": text})
    return dataclasses.field(default_factory=lambda: default, metadata={"help": text})


def fields_of(value: Any, leave_out: Sequence[str] = ()) -> list[tuple[str, Any, Any]]:
    """Fields for `dataclasses.make_dataclass` from a dataclass instance: values as defaults, docs as help."""
    cls = type(value)
    hints, docs = typing.get_type_hints(cls), field_docs(cls)
    return [
        (
            f.name,
            Table if hints[f.name] == _ROWS else hints[f.name],
            documented(docs.get(f.name, ""), getattr(value, f.name)),
        )
        for f in dataclasses.fields(cls)
        if f.init and f.name not in leave_out
    ]


# ----------------------------------------------------------------------------------------------------------- values


@contextlib.contextmanager
def _wide(wanted: bool) -> Iterator[None]:
    """Within: error messages are not wrapped."""
    before = os.environ.get("COLUMNS")
    if wanted:
        os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        if before is not None:
            os.environ["COLUMNS"] = before
        elif wanted:
            del os.environ["COLUMNS"]


@contextlib.contextmanager
def _constructors() -> Iterator[None]:
    """Within: conversion of arguments to values with the errors and placeholders of this module."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        arguments = [a for a in typing.get_args(info.type) if a is not types.NoneType]
        optional = types.NoneType in typing.get_args(info.type) and len(arguments) == 1
        kind = arguments[0] if optional else info.type
        if kind in _READERS and "Positional" not in str(info.markers):
            return _plain(kind, optional)
        return None

    with registry:
        yield


_READERS: dict[Any, tuple[str, str]] = {
    int: ("INT", "a whole number"),
    float: ("FLOAT", "a number"),
    str: ("TEXT", "text"),
}


def _plain(kind: Any, optional: bool) -> PrimitiveConstructorSpec[Any]:
    metavar, words = _READERS[kind]

    def read(given: list[str]) -> Any:
        if optional and given[0].lower() == "none":
            return None
        try:
            value = kind(given[0])
        except ValueError:
            raise ValueError(f"expected {words}, got {given[0]!r}") from None
        if kind is float and not math.isfinite(value):  # which a file of settings cannot hold
            raise ValueError(f"expected a finite number, got {given[0]!r}")
        return value

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, kind) or (optional and value is None),
        str_from_instance=lambda value: ["none" if value is None else str(value)],
    )


# --------------------------------------------------------------------------------------------------------- sentences


def _check_names(argv: Sequence[str], known: Sequence[str], command: str) -> None:
    for word in argv:
        flag = word.split("=", 1)[0].replace("_", "-")
        if flag.startswith("--") and flag not in known:
            raise UserError(f"{command}: unknown flag {word.split('=', 1)[0]}; {_near(flag, known)}")
        if re.fullmatch(r"-[A-Za-z]\w*", word) and word != "-h":
            raise UserError(f"{command}: unknown flag {word}; flags begin with two dashes")


def _near(flag: str, known: Sequence[str]) -> str:
    """A suggestion of the nearest flag; the last part counts too: --generator-lr finds --optim.generator-lr."""
    tails = {k.rsplit(".", 1)[-1].removeprefix("--"): k for k in reversed(known)}
    tail = flag.rsplit(".", 1)[-1].removeprefix("--")
    if tail in tails:
        return f"did you mean {tails[tail]!r}?"
    found = suggest(flag, known)
    return found if found.startswith("did") else "see --help for all of them"


_WORD = r"[^,'\s]+"
_ERRORS: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (
        r"invalid choice '(.*?)' for argument '(.*?)'\. Expected one of \((.*?)\)",
        lambda m: f"{m[2]} {m[1]!r} is not known; {suggest(m[1], re.findall(_WORD, m[3]))}",
    ),
    (r"Error parsing (--\S+): (.*)", lambda m: f"{m[1]}: {m[2]}"),
    (r"Error parsing \S+: (.*)", lambda m: m[1]),
    (r"Unrecognized options:? (?:Unrecognized options:? )?(.*)", lambda m: f"{m[1]!r} is unexpected"),
)


def _sentence(box: str, flags: type, argv: Sequence[str]) -> str:
    """The sentence for the parser's boxed message; see docs/decisions/0012-flag-errors.md."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    text = " ".join(re.sub(r"[│╭╮╰╯─┃━]+", " ", plain).split())
    text = re.split(r" Argument helptext:| For full helptext", text)[0].strip()
    if re.match(r"Missing|Required|.*(missing|required)", text) and (missing := _missing(flags, argv, text)):
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    for pattern, sentence in _ERRORS:
        if match := re.search(pattern, text):
            return sentence(match)
    return text.strip(" .") or "the flags are invalid"


def _missing(flags: type, argv: Sequence[str], text: str) -> list[str]:
    given = {word.split("=", 1)[0].replace("_", "-") for word in argv}
    hints = typing.get_type_hints(flags, include_extras=True)
    found = []
    for f in dataclasses.fields(flags):
        if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING:
            continue
        flag = f"--{f.name.replace('_', '-')}"
        if flag in flag_names(flags):
            found += [flag] if flag not in given else []
        else:
            name = next(a.metavar for a in typing.get_args(hints[f.name]) if hasattr(a, "metavar"))
            found += [name] if re.search(rf"\b{name}\b", text) else []
    return found


def _bare(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


@functools.cache
def _strings_below(cls: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError):
            continue  # made at run time, without source code
        assert isinstance(body, ast.ClassDef)
        for pair in itertools.pairwise(body.body):
            match pair:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                    found[name] = " ".join(text.split())
    return found


def peek(argv: Sequence[str], flag: str) -> str | None:
    """The value of a flag in unparsed arguments; None without it."""
    for i, word in enumerate(argv):
        if word == flag and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1]
    return None
