"""Reading and writing small files: JSON and YAML in, JSON and text out, whole or not at all."""

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
    """Plain data from a .json, .yaml or .yml file."""
    import yaml

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); give a YAML or JSON file") from error
    try:
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: is not valid {'JSON' if path.suffix == '.json' else 'YAML'}: {first}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{path}: must hold a mapping of names to values, got {_kind(data)}")
    return data


def json_lines(data: Any, digits: int | None = None) -> str:
    """JSON text of tables and curves: a mapping that holds no further mapping, and every list, stands on one line.

    digits: significant digits of floats, for files that are kept with code; None keeps them exact.
    Raises: ValueError for numbers that JSON lacks.
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
    """Write `data` as JSON; see `write_text`. lines: as `json_lines` sets it, for tables and curves; else indented."""
    return write_text(path, json_lines(data) if lines else json.dumps(data, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a text file, whole or not at all, and return its path; folders on the way are made.

    Raises: UserError when it cannot be written; the previous file is then intact.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from error
    return path
