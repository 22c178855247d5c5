"""Checksums stored beside files, to detect bytes that changed on the disk: CRC-32C, 8 hex digits each.

They detect accidents, not manipulation. A file of an older version has none and is opened with a note.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from framecast.core.errors import UserError
from framecast.core.io import json_lines, parse_json

CHECKSUMS = "checksums.json"
_BLOCK = 1 << 22


class Checksum:
    """Checksum of bytes that arrive in pieces."""

    def __init__(self) -> None:
        self.value = 0

    def update(self, data: Any) -> Checksum:
        """The checksum itself, after further bytes."""
        self.value = _extended(self.value, bytes(data))
        return self

    @property
    def text(self) -> str:
        """Checksum of the bytes so far, 8 hex digits."""
        return f"{self.value:08x}"


class HashingFile:
    """Binary file that computes the checksum of what is written to it.

    Args:
        file: open binary file.
    """

    def __init__(self, file: Any) -> None:
        self.file, self.sum = file, 0

    def write(self, data: Any) -> int:
        """Write bytes and add them to the checksum."""
        self.sum = _extended(self.sum, bytes(data))
        return int(self.file.write(data))

    def flush(self) -> None:
        """Flush the file."""
        self.file.flush()

    @property
    def checksum(self) -> str:
        """Checksum of the bytes so far."""
        return f"{self.sum:08x}"


def _extended(value: int, data: bytes) -> int:
    import google_crc32c

    return int(google_crc32c.extend(value, data))


def checksum(path: Path) -> str:
    """Checksum of a file."""
    found = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found = _extended(found, block)
    return f"{found:08x}"


def write_checksums(folder: Path, names: Sequence[str] | None = None, known: Mapping[str, str] | None = None) -> None:
    """Write the checksums of files in a folder that is not yet in its place.

    Args:
        folder: the folder.
        names: files; None for all.
        known: file name -> checksum, of files that need not be read for it.
    """
    names = sorted(p.name for p in folder.iterdir() if p.is_file()) if names is None else names
    known = known or {}
    found = {name: known.get(name) or checksum(folder / name) for name in names}
    text = json_lines({"format": 1, "kind": "crc32c", "files": found})
    (folder / CHECKSUMS).write_text(text, encoding="utf-8", newline="\n")


def read_checksums(path: Path) -> dict[str, list[str]]:
    """File name -> valid checksums, of a file written by `write_checksums`; {} if there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        data = parse_json(path.read_bytes(), path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); copy the folder again") from error
    files = data.get("files") if isinstance(data, dict) else None
    if not isinstance(files, dict):
        raise UserError(f"{path}: is damaged; copy the folder again")
    found = {str(name): [value] if isinstance(value, str) else value for name, value in files.items()}
    if not all(isinstance(v, list) and all(isinstance(c, str) for c in v) for v in found.values()):
        raise UserError(f"{path}: is damaged; copy the folder again")
    return found


def intact(path: Path, beside: str = CHECKSUMS) -> bool | None:
    """Whether a file has its stored checksum; None if none is stored.

    Args:
        path: the file.
        beside: name of the file with its checksum, in the same folder.

    Raises:
        UserError: the stored checksums are damaged.
    """
    known = read_checksums(path.with_name(beside)).get(path.name)
    return None if known is None else checksum(path) in known


@functools.cache
def note_unchecked(path: Path) -> None:
    """Print, once per path, that a file is opened unchecked."""
    print(f"note: {path}: has no checksum (written by an older version); opened unchecked", file=sys.stderr)
