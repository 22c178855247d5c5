"""Shards of packed stores of format 2: files of at most 512 MiB that are memory-mapped, each with index and checksums.

A shard holds videos of one frame size:

    0       .npy file of the frames, uint8 (rows, c, h, w); numpy.load reads it and ignores what follows
    …       the same for every per-frame array (rows, …), each at a multiple of 64 bytes
    index   JSON: rows; of each array offset, type and shape; CRC-32C of every block of 4 MiB before the index; videos
    end     length of the index (8 bytes, little-endian) and the eight bytes "fc-shard"

index.json of the store has, of every shard, name, size, rows, bytes, offset and CRC-32C of its index, and of every
video its parts: [shard, row, frames]. So any block of any shard can be read alone, and checked.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from framecast.core.checksums import Checksum
from framecast.core.errors import UserError
from framecast.core.io import parse_json

#: Largest size of a shard unless another is chosen, bytes.
SHARD_BYTES = 512 << 20
#: Bytes that have a checksum of their own and are fetched together.
BLOCK = 4 << 20
#: Last bytes of a shard.
MAGIC = b"fc-shard"
#: Every array begins at a multiple of this, bytes.
ALIGNMENT = 64

_TAIL = struct.calcsize("<Q8s")
_MOST_INDEX = 1 << 26  # bytes of the index of one shard
#: Shards mapped at the same time; each holds a file descriptor.
MOST_OPEN = 256
_NAME = re.compile(r"shard-\d{5,9}\.npy")
_TYPES = re.compile(r"[<|][biuf][1248]")


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.npy"


@dataclass(frozen=True)
class ShardEntry:
    """A shard as index.json describes it."""

    file: str
    """Name of the file."""
    size: str
    """Frame size, CxHxW."""
    rows: int
    """Number of frames."""
    bytes: int
    """Size of the file."""
    index: int
    """Offset of its index."""
    crc32c: str
    """Checksum of the bytes from that offset to the end."""


@dataclass(frozen=True)
class ShardIndex:
    """The own index of a shard, checked against its entry."""

    arrays: dict[str, tuple[int, np.dtype[Any], tuple[int, ...]]]
    """Name -> offset, type and shape."""
    checksums: list[str]
    """Checksum of every block before the index."""


class OpenShard(Protocol):
    """A mapped shard."""

    closed: bool

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Name -> rows."""

    def need(self, start: int, stop: int, names: Sequence[str] | None = None) -> None:
        """Make rows readable, where the shard is not complete yet."""


class ShardFolder(Protocol):
    """Where shards are opened: a folder, or an address with a cache."""

    def open(self, number: int) -> OpenShard:
        """The mapped shard with a number."""

    def readahead(self, numbers: Iterable[int]) -> None:
        """Read whole shards in the background, in this order."""

    def require(self, count: int) -> None:
        """Check that a number of shards can be kept near."""


class MappedShard:
    """A shard of a local folder."""

    closed = False

    def __init__(self, raw: np.ndarray, index: ShardIndex) -> None:
        self.arrays = views(raw, index)

    def need(self, start: int, stop: int, names: Sequence[str] | None = None) -> None:
        """Nothing: the operating system reads what is touched."""


class LocalShards:
    """The shards of a local folder.

    Args:
        folder: Folder of the store.
        entries: Shards of its index.

    Raises:
        UserError: A shard is missing, has another size, or a file of format 1 lies beside them.
    """

    def __init__(self, folder: Path, entries: Sequence[ShardEntry]) -> None:
        self.folder, self.entries = folder, entries
        found = {entry.name: entry.stat().st_size for entry in os.scandir(folder) if entry.is_file()}
        for entry in entries:
            path = folder / entry.file
            if entry.file not in found:
                raise UserError(f"{path} is missing; copy the store again, or make it again")
            if found[entry.file] != entry.bytes:
                raise UserError(
                    f"{path} has {found[entry.file]} bytes but index.json has {entry.bytes}; copy the store again"
                )
        check_mixed(folder, found, 2)

    def open(self, number: int) -> OpenShard:
        """The mapped shard with a number."""
        entry = self.entries[number]
        path = self.folder / entry.file
        try:
            raw = np.memmap(path, np.uint8, "r").view(np.ndarray)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); copy the store again") from error
        return MappedShard(raw, read_index(raw[entry.index :].tobytes(), entry, path))

    def readahead(self, numbers: Iterable[int]) -> None:
        """Have the operating system read whole shards in the background, where it can."""
        for number in numbers if hasattr(os, "posix_fadvise") else ():
            with contextlib.suppress(OSError), (self.folder / self.entries[number].file).open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)

    def require(self, count: int) -> None:
        """Nothing: they are on this machine."""


class Shards:
    """Frames and per-frame arrays of videos in shards.

    Args:
        folder: Where shards are opened.
        parts: Of every video, (shard, row, frames) of its parts.
    """

    def __init__(self, folder: ShardFolder, parts: Sequence[Sequence[Sequence[int]]]) -> None:
        self.folder, self.parts = folder, parts
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._lock = threading.Lock()

    def views(
        self, video: int, start: int, stop: int, stride: int, names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Rows start…stop - 1 of a video at a stride, by array; read-only views unless it is divided there.

        Args:
            video: Index of the video.
            start: First frame.
            stop: One past the last frame.
            stride: Frames from one row to the next.
            names: Arrays wanted; None for all.
        """
        if len(self.parts[video]) == 1:
            number, row, _ = self.parts[video][0]
            return self._views(number, row + start, row + stop, stride, names)
        first, found = 0, []
        for number, row, count in self.parts[video]:
            if start < first + count and stop > first:
                # the first row of the stride at or after the beginning of this part
                a = start if start >= first else first + (start - first) % stride
                b = min(stop, first + count)
                if a < b:
                    found.append(self._views(number, row + a - first, row + b - first, stride, names))
            first += count
        if len(found) == 1:
            return found[0]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _views(
        self, number: int, start: int, stop: int, stride: int, names: Sequence[str] | None
    ) -> dict[str, np.ndarray]:
        shard = self.shard(number)
        shard.need(start, stop, names)
        cut = slice(start, stop, stride)
        if names is None:
            return {name: array[cut] for name, array in shard.arrays.items()}
        return {name: shard.arrays[name][cut] for name in names}

    def shard(self, number: int) -> OpenShard:
        """A mapped shard; of many, those mapped last stay so."""
        shard = self._open.get(number)
        if shard is None or shard.closed:
            with self._lock:  # batches may be made by a thread while others are read for validation
                while len(self._open) >= MOST_OPEN:
                    self._open.popitem(last=False)
                shard = self._open[number] = self.folder.open(number)
        return shard


def views(raw: np.ndarray, index: ShardIndex) -> dict[str, np.ndarray]:
    """Read-only arrays of a shard whose bytes are mapped."""
    found = {}
    for name, (offset, dtype, shape) in index.arrays.items():
        array = raw[offset : offset + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        array.flags.writeable = False
        found[name] = array
    return found


def check_mixed(folder: Path | str, names: Mapping[str, Any] | Sequence[str], version: int) -> None:
    """Check that a folder has files of one store format only.

    Args:
        folder: The folder, for the message.
        names: Names of its files.
        version: Format of its index.json.

    Raises:
        UserError: It has files of the other format too.
    """
    other = [n for n in names if (n.startswith("frames-") if version == 2 else _NAME.fullmatch(n) is not None)]
    if other:
        raise UserError(
            f"{folder} mixes store formats: index.json has format {version} but {min(other)} is of format "
            f"{3 - version}; make the store again in an empty folder"
        )


def read_entries(where: Path | str, values: Any) -> list[ShardEntry]:
    """The shards of an index.json, checked.

    Args:
        where: The file, for the message.
        values: Its "shards".

    Raises:
        UserError: An entry is invalid.
    """
    entries: list[ShardEntry] = []
    for i, value in enumerate(values if isinstance(values, list) else []):
        fine = (
            isinstance(value, dict)
            and set(value) == set(ShardEntry.__dataclass_fields__)
            and all(isinstance(value[k], str) for k in ("file", "size", "crc32c"))
            and all(type(value[k]) is int and 0 < value[k] < 2**48 for k in ("rows", "bytes", "index"))
            and _NAME.fullmatch(value["file"]) is not None
            and _TAIL < value["bytes"] - value["index"] <= _MOST_INDEX
        )
        if not fine:
            raise UserError(f"{where} is damaged (shard {i}); make the store again")
        entries.append(ShardEntry(**value))
    if not entries or len({entry.file for entry in entries}) != len(entries):
        raise UserError(f"{where} lists no shards, or one twice; make the store again")
    return entries


def check_parts(where: Path | str, entries: Sequence[ShardEntry], videos: Sequence[Mapping[str, Any]]) -> None:
    """Check that the parts of all videos lie in their shards and add up.

    Args:
        where: File of the index, for the message.
        entries: The shards.
        videos: Entries of the videos, with "parts", "frames", "size" and "name".

    Raises:
        UserError: A part does not.
    """
    for v in videos:
        parts = v.get("parts")
        fine = isinstance(parts, list) and len(parts) > 0
        total = 0
        for part in parts if isinstance(parts, list) else ():
            fine = fine and isinstance(part, list) and len(part) == 3 and all(type(n) is int for n in part)
            if not fine:
                break
            number, row, count = part
            fine = 0 <= number < len(entries) and row >= 0 and count > 0
            fine = fine and row + count <= entries[number].rows and entries[number].size == v["size"]
            total += count
        if not fine or total != v["frames"]:
            raise UserError(f"{where} is damaged (parts of video {v['name']!r}); make the store again")


def read_index(tail: bytes, entry: ShardEntry, where: Path | str) -> ShardIndex:
    """The own index of a shard.

    Args:
        tail: Bytes of the shard from the offset of its index to its end.
        entry: Its entry in index.json.
        where: The shard, for messages.

    Raises:
        UserError: Its checksum is wrong, or it does not fit the file.
    """
    if Checksum().update(tail).text != entry.crc32c:
        raise UserError(f"{where}: its index does not fit its file (checksum mismatch); copy the store again")
    length, magic = struct.unpack("<Q8s", tail[-_TAIL:])
    remedy = f"{where}: its index does not fit its file; copy the store again"
    if magic != MAGIC or length != len(tail) - _TAIL:
        raise UserError(remedy)
    data = parse_json(tail[:-_TAIL], where)
    try:
        arrays = {str(k): (int(o), np.dtype(d), tuple(int(n) for n in s)) for k, (o, d, s) in data["arrays"].items()}
        types = [d for _, d, _ in data["arrays"].values()]
        checksums = [str(c) for c in data["checksums"]]
        fine = (
            data["format"] == 2
            and data["size"] == entry.size
            and data["rows"] == entry.rows
            and data["block"] == BLOCK
            and len(checksums) == -(-entry.index // BLOCK)
            and all(_TYPES.fullmatch(d) for d in types)
            and arrays["frames"][1:] == (np.dtype(np.uint8), (entry.rows, *map(int, entry.size.split("x"))))
            and all(
                shape[0] == entry.rows and min(shape) > 0 and 0 < o <= entry.index - math.prod(shape) * d.itemsize
                for o, d, shape in arrays.values()
            )
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(remedy) from error
    if not fine:
        raise UserError(remedy)
    return ShardIndex(arrays, checksums)
