"""Strict conversion between dataclasses and plain data, with errors that suggest the nearest name.

Values from files are checked here, so that an invalid `config.json` fails with the name of the key.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from framecast.core.errors import UserError

T = TypeVar("T")


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known name, or all of them if none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are {', '.join(names)}" if names else "none is known"


def to_dict(value: Any) -> Any:
    """The JSON form of a dataclass: nested dicts and lists of plain values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_dict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_dict(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a config holds plain values, not {type(value).__name__}: {value!r}")


def from_dict(cls: type[T], data: Any, where: str = "config") -> T:
    """An instance of dataclass `cls` from plain data.

    Args:
        cls: the dataclass.
        data: mapping of field names to plain values.
        where: name of the place in errors, e.g. a file's name.

    Raises:
        UserError: a key is unknown or missing, has a wrong type, or has a value that the class refuses.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: expected a mapping of {cls.__name__} fields, got {_kind(data)}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise UserError(f"{where}: unknown key {key!r}; {suggest(str(key), fields)}")
    hints = typing.get_type_hints(cls)
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], f"{where}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: key {name!r} is missing")
    try:
        return cls(**values)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def overlay(base: T, data: Any, where: str = "config") -> T:
    """`base` with the fields in `data` replaced, nested dataclasses field by field.

    Args:
        base: instance of a dataclass.
        data: mapping of some field names to plain values.
        where: name of the place in errors, e.g. a file's name.

    Raises:
        UserError: as for `from_dict`.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: expected a mapping of {type(base).__name__} fields, got {_kind(data)}")
    hints = typing.get_type_hints(type(base))
    names = {f.name for f in dataclasses.fields(base)}  # type: ignore[arg-type]
    changes = {}
    for key, value in data.items():
        if key not in names:
            raise UserError(f"{where}: unknown key {key!r}; {suggest(str(key), names)}")
        old = getattr(base, key)
        if dataclasses.is_dataclass(old) and isinstance(value, Mapping):
            changes[key] = overlay(old, value, f"{where}: {key}")
        else:
            changes[key] = _convert(hints[key], value, f"{where}: {key}")
    try:
        return dataclasses.replace(base, **changes)  # type: ignore[type-var]
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted names at which two plain-data trees differ, with both values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found: dict[str, tuple[Any, Any]] = {}
        for key in [*old, *(k for k in new if k not in old)]:
            found |= differences(old.get(key), new.get(key), f"{prefix}{key}.")
        return found
    return {} if old == new else {prefix.rstrip("."): (old, new)}


def parse_duration(text: str) -> float:
    """Seconds in "90s", "10m", "1.5h" or a plain number of seconds.

    Raises:
        UserError: another text, or a duration of 0.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if not match or float(match[1]) <= 0:
        raise UserError(f"duration {text!r}: expected a positive duration such as 90s, 10m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def duration_in_words(seconds: float) -> str:
    """A duration as text, such as "50 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def length_in_words(steps: int | None, budget: str | None, clock: str) -> str:
    """Training length of a run as text, of steps or a budget of one of the two clocks."""
    return f"{steps:,} steps" if steps else f"{budget}{' of processor time' if clock == 'cpu' else ''}"


def brief(value: Any, most: int = 40) -> str:
    """The `repr` of a value, cut to `most` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 4]} …"


def require_least(settings: Any, where: str, **least: float) -> None:
    """Check that settings are at least their smallest valid value.

    Args:
        settings: object with the fields.
        where: prefix of the field's name in the error, such as "model." or "ball: ".
        least: field -> smallest valid value.

    Raises:
        UserError: a field is too small, or not a number.
    """
    for name, value in least.items():
        if not getattr(settings, name) >= value:
            raise UserError(f"{where}{name} must be at least {value}, got {getattr(settings, name)}")


def require_above(settings: Any, where: str, *names: str) -> None:
    """Check that settings are above 0, or None; arguments and error as for `require_least`."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise UserError(f"{where}{name} must be above 0, got {value}")


def require_share(settings: Any, where: str, *names: str, open_end: bool = False) -> None:
    """Check that settings, or all numbers of a tuple, lie in 0…1, with `open_end` below 1; as for `require_least`."""
    for name in names:
        value = getattr(settings, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(0 <= number < 1 if open_end else 0 <= number <= 1 for number in numbers):
            raise UserError(f"{where}{name} must lie in 0…1{', below 1' if open_end else ''}, got {value}")


def require_choices(settings: Any, where: str) -> None:
    """Check that settings whose type is a Literal hold one of its values; otherwise as `require_least`."""
    for name, hint in typing.get_type_hints(type(settings)).items():
        allowed = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        if allowed and getattr(settings, name) not in allowed:
            raise UserError(
                f"{where}{name} must be one of {', '.join(map(str, allowed))}, got {getattr(settings, name)!r}"
            )


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
        raise UserError(f"{where}: {value!r} is not allowed; {suggest(str(value), map(str, arguments))}")
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where}: expected a list, got {_kind(value)}")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(arguments):
            raise UserError(f"{where}: expected {len(arguments)} entries, got {len(value)}")
        return tuple(_convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: expected a mapping, got {_kind(value)}")
        return {k: _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)  # YAML 1.1 reads 4e-5 as text
    if isinstance(hint, type) and isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        if isinstance(value, float) and not math.isfinite(value):  # the run's config.json cannot hold it
            raise UserError(f"{where}: expected a finite number, got {value}")
        return value
    expected = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}.get(hint, str(hint))
    raise UserError(f"{where}: expected {expected}, got {_kind(value)} {value!r}")


def _convert_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    choices = [a for a in arguments if a is not type(None)]
    for choice in choices:
        if isinstance(choice, type) and type(value) is choice:
            return value
    error: UserError | None = None
    for choice in choices:
        try:
            return _convert(choice, value, where)
        except UserError as caught:
            error = error or caught
    assert error is not None
    raise error


def _kind(value: Any) -> str:
    names = {type(None): "nothing", bool: "true/false", int: "number", float: "number", str: "text", list: "a list"}
    return names.get(type(value), "a mapping" if isinstance(value, Mapping) else type(value).__name__)
