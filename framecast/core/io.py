"""Reading of JSON and YAML files, and atomic writing of JSON and text files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framecast.core.config import _kind
from framecast.core.errors import UserError


def read_file(path: str | Path) -> dict[str, Any]:
    """Plain data from a .json, .yaml or .yml file; {} for an empty one.

    Raises:
        UserError: the file is missing, unreadable, invalid or holds no mapping.
    """
    import yaml

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); expected a YAML or JSON file") from error
    try:
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: is not valid {'JSON' if path.suffix == '.json' else 'YAML'}: {first}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of names to values, got {_kind(data)}")
    return data


def shown_name(path: str | os.PathLike[str]) -> str:
    """A path as text that can be printed and stored: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def check_name(path: str | os.PathLike[str]) -> None:
    """Check that a path can be stored as text.

    Raises:
        UserError: it holds bytes that are not UTF-8.
    """
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{shown_name(path)} has a name that is not UTF-8; rename it") from error


def json_lines(data: Any, digits: int | None = None) -> str:
    """JSON text for tables and curves, with every list and every innermost mapping on one line.

    Args:
        data: plain data.
        digits: significant digits of floats, for files in version control; None keeps them exact.

    Raises:
        ValueError: a number is not finite, which JSON cannot represent.
    """

    def text(value: Any, margin: str) -> str:
        if not isinstance(value, Mapping) or not any(isinstance(v, Mapping) for v in value.values()):
            return json.dumps(value, allow_nan=False)
        inner = margin + " "
        rows = (f"{inner}{json.dumps(str(key))}: {text(v, inner)}" for key, v in value.items())
        return "{\n" + ",\n".join(rows) + f"\n{margin}}}"

    return text(data if digits is None else _shortened(data, digits), "") + "\n"


def _shortened(value: Any, digits: int) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {k: _shortened(v, digits) for k, v in value.items()}
    return [_shortened(v, digits) for v in value] if isinstance(value, list | tuple) else value


def write_json(path: Path, data: Any, lines: bool = False) -> Path:
    """The path of a JSON file, written as by `write_text`.

    Args:
        path: file to write.
        data: plain data.
        lines: whether to format it by `json_lines`, for tables and curves, instead of indentation.
    """
    return write_text(path, json_lines(data) if lines else json.dumps(data, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """The path of a text file, written atomically; missing folders are created.

    Raises:
        UserError: the file cannot be written; the previous file is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from error
    return path
