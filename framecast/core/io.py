"""Reading of JSON and YAML files, and atomic writing of JSON and text files."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framecast.core.config import _kind
from framecast.core.errors import UserError, writing

#: Largest JSON or YAML file that is read, bytes; enough for the index of a million videos.
MAX_TEXT = 1 << 28
#: Largest number of values in a YAML file, whose references can multiply.
_MAX_VALUES = 1_000_000


def require_regular(path: Path) -> None:
    """Check that a path is a file or a folder, before it is opened: opening a FIFO waits forever.

    Raises:
        UserError: a FIFO, socket or device. A path that does not exist passes.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{path}: is neither a file nor a folder, but a pipe or device; copy its contents to a file")


def file_text(path: Path) -> str:
    """The text of a file in UTF-8.

    Raises:
        UserError: it is missing, no regular file, too large, or not text.
    """
    require_regular(path)
    try:
        size = path.stat().st_size
        if size > MAX_TEXT:
            raise UserError(f"{path}: has {size >> 20} MB, more than the {MAX_TEXT >> 20} read; check the path")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read as text ({error}); expected UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def parse_json(text: str | bytes, where: Path | str) -> Any:
    """Plain data from JSON text.

    Args:
        text: the text.
        where: the file, for errors.

    Raises:
        UserError: the text is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(f"{where}: is not valid JSON: nested too deeply; write the file again") from None
    except ValueError as error:
        raise UserError(f"{where}: is not valid JSON: {str(error).splitlines()[0]}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        UserError: the file is missing, unreadable, invalid or holds no mapping.
    """
    data = parse_json(file_text(path), path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of names to values, got {_kind(data)}")
    return data


def read_file(path: str | Path) -> dict[str, Any]:
    """Plain data from a .json, .yaml or .yml file; {} for an empty one.

    Raises:
        UserError: the file is missing, unreadable, invalid or holds no mapping.
    """
    import yaml

    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such config file")
    text = file_text(path)
    if path.suffix == ".json":
        data = parse_json(text, path)
    else:
        try:
            data = yaml.safe_load(text)
            _check_count(data)
        except RecursionError:
            raise UserError(f"{path}: is not valid YAML: nested too deeply") from None
        # a wrong value after a tag such as !!timestamp raises whatever its parser meets
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, yaml.YAMLError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path}: is not valid YAML: {first}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of names to values, got {_kind(data)}")
    return data


def _check_count(data: Any) -> None:
    """Raise ValueError if references make more than `_MAX_VALUES` values of a short file, or a value holds itself."""
    count, open_values = 0, [data]
    while open_values:
        value = open_values.pop()
        count += 1
        if count > _MAX_VALUES:
            raise ValueError(f"more than {_MAX_VALUES} values")
        if isinstance(value, Mapping):
            open_values.extend(value.values())
        elif isinstance(value, list | tuple):
            open_values.extend(value)


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
    """The path of a text file, written atomically and synced; missing folders are created.

    Raises:
        UserError: the file cannot be written; the previous file is then unchanged.
    """
    from framecast.core.commit import replaced_file

    with writing(path, "free some space or choose another folder"), replaced_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return path
