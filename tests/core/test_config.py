"""Conversion between dataclasses and files: strict, and every error names its place."""

import dataclasses
import importlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from framecast.core.config import differences, from_dict, overlay, parse_duration, suggest, to_dict
from framecast.core.errors import UserError
from framecast.core.io import json_lines, read_file, write_json
from framecast.core.types import ActionSpec, ClipSpec
from framecast.data import SOURCES
from framecast.models import MODELS
from framecast.training.config import RunConfig, TrainConfig, config_from_json
from framecast.training.presets import PRESETS, preset


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    kind: Literal["adam", "sgd"] = "adam"


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int = 3
    on: bool = False
    name: str = "x"
    size: tuple[int, int] | None = None
    widths: tuple[tuple[int, ...], ...] = ((1, 2), (3,))
    inner: Inner = field(default_factory=Inner)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    anything: Any = None

    def __post_init__(self):
        if self.steps < 0:
            raise ValueError(f"steps must be at least 0, got {self.steps}")


@dataclass(frozen=True)
class Needy:
    must: int


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"stepz": 3}, "here: unknown key 'stepz'; did you mean 'steps'?"),
        ({"inner": {"rat": 1.0}}, "here: inner: unknown key 'rat'; did you mean 'rate'?"),
        ({"zzzzzz": 1}, "here: unknown key 'zzzzzz'; known are anything, inner, name"),
        ({"steps": "many"}, "here: steps: expected a whole number, got text 'many'"),
        ({"steps": "3"}, "here: steps: expected a whole number, got text '3'"),
        ({"steps": True}, "here: steps: expected a whole number, got true/false True"),
        ({"steps": 2.5}, "here: steps: expected a whole number, got number 2.5"),
        ({"steps": None}, "here: steps: expected a whole number, got nothing None"),
        ({"on": 1}, "here: on: expected true or false, got number 1"),
        ({"name": 5}, "here: name: expected text, got number 5"),
        ({"size": [1, 2, 3]}, "here: size: expected 2 entries, got 3"),
        ({"size": 64}, "here: size: expected a list, got number"),
        ({"size": [1, "b"]}, "here: size[1]: expected a whole number, got text 'b'"),
        ({"widths": [[1, 2], 3]}, "here: widths[1]: expected a list, got number"),
        ({"inner": 3}, "here: inner: expected a mapping of Inner fields, got number"),
        ({"inner": {"rate": "fast"}}, "here: inner: rate: expected a number, got text 'fast'"),
        ({"inner": {"rate": False}}, "here: inner: rate: expected a number, got true/false False"),
        ({"inner": {"rate": float("inf")}}, "here: inner: rate: expected a finite number, got inf"),
        ({"inner": {"rate": float("nan")}}, "here: inner: rate: expected a finite number, got nan"),
        ({"inner": {"kind": "adan"}}, "here: inner: kind: 'adan' is not allowed; did you mean 'adam'?"),
        ({"shapes": [1]}, "here: shapes: expected a mapping, got a list"),
        ({"shapes": {"pose": 3}}, "here: shapes.pose: expected a list, got number"),
        ({"steps": -1}, "here: steps must be at least 0, got -1"),
        ([1], "here: expected a mapping of Outer fields, got a list"),
    ],
)
def test_error_of_an_invalid_value_names_its_place(data, sentence):
    for read in (lambda: from_dict(Outer, data, "here"), lambda: overlay(Outer(), data, "here")):
        with pytest.raises(UserError, match=re.escape(sentence)) as error:
            read()
        assert "\n" not in str(error.value)


def test_error_names_a_missing_key():
    with pytest.raises(UserError, match="config: key 'must' is missing"):
        from_dict(Needy, {})


def test_valid_data_become_the_dataclass():
    data = {"steps": 4, "on": True, "size": [3, 4], "widths": [[1], []], "shapes": {"pose": [2]}, "inner": {"rate": 1}}
    made = from_dict(Outer, data)
    expected = Outer(steps=4, on=True, size=(3, 4), widths=((1,), ()), shapes={"pose": (2,)}, inner=Inner(rate=1.0))
    assert made == expected
    assert type(made.inner.rate) is float
    assert from_dict(Outer, {}) == Outer()
    assert from_dict(Outer, json.loads(json.dumps(to_dict(made)))) == made


def test_overlay_changes_only_its_keys():
    base = Outer(steps=9, inner=Inner(rate=5.0, kind="sgd"), size=(1, 2))
    assert overlay(base, {"inner": {"rate": 6}}) == dataclasses.replace(base, inner=Inner(rate=6.0, kind="sgd"))
    assert overlay(base, {"size": None}).size is None
    assert overlay(base, {}) == base
    run = overlay(preset("multiscale-gan", "tiny"), {"model": {"optim": {"generator_lr": 0.5}}, "train": {"seed": 7}})
    plain = preset("multiscale-gan", "tiny")
    assert (run.model.optim.generator_lr, run.train.seed) == (0.5, 7)
    assert run.model.optim.discriminator_lr == plain.model.optim.discriminator_lr
    assert run.train.steps == plain.train.steps
    with pytest.raises(UserError, match="model: optim: unknown key 'generator_rl'; did you mean 'generator_lr'"):
        overlay(plain, {"model": {"optim": {"generator_rl": 0.5}}})


@pytest.mark.parametrize("text", ["4e-5", "4E-5", "1e3", "-2.5e-1", "4.e-5"])
def test_yaml_exponents_without_a_point_are_numbers(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(f"inner:\n  rate: {text}\n")
    assert from_dict(Outer, read_file(path)).inner.rate == float(text)
    with pytest.raises(UserError, match="expected a whole number"):
        from_dict(Outer, {"steps": text})


def all_configs():
    for name, (module, attribute) in (*MODELS.items(), *SOURCES.items()):
        cls = getattr(importlib.import_module(module), attribute)
        yield pytest.param(cls.Config(), id=name)
    for name, (profiles, _) in PRESETS.items():
        for profile in profiles:
            yield pytest.param(preset(name, profile).model, id=f"{name}-{profile}")
    yield pytest.param(TrainConfig(budget="10m"), id="train")


@pytest.mark.parametrize("config", list(all_configs()))
def test_every_config_is_equal_after_json_and_yaml(config, tmp_path):
    assert from_dict(type(config), to_dict(config)) == config
    for suffix in ("json", "yaml"):
        (tmp_path / f"c.{suffix}").write_text(json.dumps(to_dict(config)))  # JSON is YAML
        assert from_dict(type(config), read_file(tmp_path / f"c.{suffix}")) == config


def test_run_config_is_equal_after_its_file(tmp_path):
    actions = ActionSpec(kind="continuous", size=2, names=("x", "y"), mean=(0.0, 1.0), std=(1.0, 2.0))
    spec = ClipSpec(channels=1, height=9, width=7, fps=12.5, actions=actions, extras={"pose": (3, 2), "done": ()})
    for name, (profiles, _) in PRESETS.items():
        config = dataclasses.replace(preset(name, profiles[0]), spec=spec)
        write_json(tmp_path / "config.json", config.to_json())
        assert config_from_json(read_file(tmp_path / "config.json"), tmp_path / "config.json") == config
        assert isinstance(config, RunConfig)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.yaml", "a: [1", "a.yaml: is not valid YAML"),
        ("a.json", '{"a": 1', "a.json: is not valid JSON"),
        ("a.yaml", "- 1\n- 2\n", "a.yaml: expected a mapping of names to values, got a list"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "a.yaml: is not valid YAML"),
        ("a.json", b"\xff\xfe\x00", "a.json: cannot be read as text"),
    ],
)
def test_invalid_files_are_refused(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=sentence):
        read_file(tmp_path / name)


def test_missing_file_is_refused_and_empty_file_is_empty(tmp_path):
    with pytest.raises(UserError, match="no such config file"):
        read_file(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_file(tmp_path / "empty.yaml") == {}


def test_writing_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})

    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"config\.json: cannot be written \(No space left on device\)"):
        write_json(path, {"a": 2})
    with pytest.raises(UserError, match="cannot be written"):
        write_json(path / "below" / "a.json", {"a": 2})  # config.json is a file
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_only_plain_values_become_json():
    assert to_dict({"p": Path("a") / "b", "t": (1, [2.0])}) == {"p": str(Path("a") / "b"), "t": [1, [2.0]]}
    with pytest.raises(TypeError, match="a config holds plain values, not function"):
        to_dict({"f": to_dict})


def test_differences_are_dotted_names_with_both_values():
    old = {"a": 1, "b": {"c": [1, 2], "d": None}, "gone": 0}
    new = {"a": 1, "b": {"c": [1, 3], "d": None}, "come": 5}
    assert differences(old, new) == {"b.c": ([1, 2], [1, 3]), "gone": (0, None), "come": (None, 5)}
    assert differences(old, old) == {}


def test_suggestion_is_the_nearest_name_or_all():
    assert suggest("adma", ["adam", "sgd"]) == "did you mean 'adam'?"
    assert suggest("qqq", ["b", "a"]) == "known are a, b"
    assert suggest("x", []) == "none is known"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("45", 45), (" 2 m ", 120)])
def test_durations_are_parsed(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "ten", "-5m", "0s", "5d", "1e3s"])
def test_invalid_durations_are_refused(text):
    with pytest.raises(UserError, match=r"expected a positive duration such as 90s, 10m or 1\.5h"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"batch_size": 0}, "batch-size must be at least 1, got 0"),
        ({"keep": 0}, "--train.keep must be at least 1, got 0"),
        ({"ema": 1.0}, "--train.ema must be a decay in 0…1 (below 1), got 1.0"),
        ({"steps": 5, "budget": "1m"}, "expected one of --steps, --epochs and --budget, got several"),
        ({"steps": 0}, "--steps must be above 0, got 0"),
        ({"epochs": -1.0}, "--epochs must be above 0, got -1.0"),
        ({"budget": "soon"}, "duration 'soon': expected a positive duration"),
    ],
)
def test_invalid_training_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        TrainConfig(**settings)


def test_curves_have_one_line_each_and_are_equal_after_reading():
    data = {
        "format": 1,
        "rows": {"a": {"mean": [0.123456789, None], "n": [2, 2]}, "b": {}},
        "words": {"psnr": "peak 1"},
    }
    text = json_lines(data)
    assert json.loads(text) == data
    assert [line.strip() for line in text.splitlines() if "mean" in line] == [
        '"a": {"mean": [0.123456789, null], "n": [2, 2]},'
    ]
    assert len(text.splitlines()) == 8
    short = json.loads(json_lines(data, digits=3))
    assert short["rows"]["a"] == {"mean": [0.123, None], "n": [2, 2]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_lines({"mean": [float("nan")]})
