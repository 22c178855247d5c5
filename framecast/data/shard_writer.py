"""Writer of the shards of packed stores of format 2 (format in `shards.py`)."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from framecast.core.checksums import Checksum
from framecast.core.errors import UserError
from framecast.data.npy_files import HEADER_BYTES, NpyFile, npy_header
from framecast.data.shards import ALIGNMENT, BLOCK, MAGIC, SHARD_BYTES, shard_name

__all__ = ["SHARD_BYTES", "ShardFiles"]

#: Share of a shard left for its index, which grows with its videos and blocks.
_INDEX_SHARE = 64


class ShardFiles:
    """Format 2: shards of at most a given size, each with its arrays, index and checksums.

    A video begins in the shard that was written last, if it fits into it, and is divided only if it is longer than a
    shard.

    Args:
        folder: Folder of the unfinished store.
        limit: Largest size of a shard, bytes.

    Raises:
        UserError: The limit is too small.
    """

    version = 2

    def __init__(self, folder: Path, limit: int) -> None:
        if limit < 1 << 16:
            raise UserError(f"a shard of at most {limit} bytes is too small; use at least 64 KiB, such as 512MiB")
        self.folder, self.limit = folder, limit
        self._shards: list[_Shard] = []
        self._current: dict[str, _Shard] = {}
        self._written: list[tuple[_Shard, int]] = []  # shards of the video being written, with their rows before it
        self._row_bytes = 0  # of the per-frame arrays
        self._expected = 0

    def expect(self, frames: int, array_bytes: int) -> None:
        """Announce the next video, which begins a new shard if it does not fit into the current one."""
        self._expected = frames
        self._row_bytes = max(self._row_bytes, array_bytes)

    def add_frames(self, key: str, array: np.ndarray) -> None:
        """Append frames, to a further shard where one is full."""
        at, capacity = 0, self._capacity(int(np.prod(array.shape[1:])))
        while at < len(array):
            shard = self._current.get(key)
            if not self._written:
                whole = max(self._expected, len(array))
                if shard is None or (capacity >= whole > capacity - shard.frames.rows):
                    shard = self._new(key, array)
            if shard is None or shard.frames.rows >= capacity:
                shard = self._new(key, array)
            if not self._written or self._written[-1][0] is not shard:
                self._written.append((shard, shard.frames.rows))
            part = array[at : at + capacity - shard.frames.rows]
            shard.frames.append(part)
            at += len(part)

    def _capacity(self, frame_bytes: int) -> int:
        room = self.limit - self.limit // _INDEX_SHARE - (HEADER_BYTES + ALIGNMENT) * 8
        return max(1, room // (frame_bytes + self._row_bytes))

    def _new(self, key: str, like: np.ndarray) -> _Shard:
        shard = _Shard(self.folder / shard_name(len(self._shards)), len(self._shards), key, like.shape[1:])
        self._shards.append(shard)
        self._current[key] = shard
        return shard

    def commit(self, key: str, name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Divide the arrays among the shards; the entry has [shard, row, frames] of each as "parts"."""
        parts, first = [], 0
        for shard, row in self._written:
            count = shard.frames.rows - row
            for k, array in arrays.items():
                shard.arrays.setdefault(k, []).append(np.array(array[first : first + count]))
            shard.videos.append([name, first, count])
            parts.append([shard.number, row, count])
            first += count
        self._row_bytes = max(self._row_bytes, sum(a.nbytes // len(a) for a in arrays.values()))
        self._written, self._expected = [], 0
        for shard in self._shards:
            if not shard.sealed and self._current[shard.key] is not shard:
                shard.seal()
        return {"parts": parts}

    def roll_back(self) -> None:
        """Truncate the shards of the video being written, and remove those that it began."""
        for shard, rows in reversed(self._written):
            if rows:
                shard.frames.truncate(rows)
            else:
                shard.frames.discard()
                self._shards.remove(shard)
        self._current = {shard.key: shard for shard in self._shards}  # the last of each size, which is not sealed
        self._written, self._expected = [], 0

    def finish(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Seal all shards: their entries in the index, and their checksums."""
        for shard in self._shards:
            if not shard.sealed:
                shard.seal()
        return {"shards": [s.entry for s in self._shards]}, {s.frames.path.name: s.checksum for s in self._shards}

    def close(self) -> None:
        """Close all files."""
        for shard in self._shards:
            shard.frames.close()


class _Shard:
    """A shard being written: frames go to the file, per-frame arrays are kept until it is sealed."""

    def __init__(self, path: Path, number: int, key: str, shape: tuple[int, ...]) -> None:
        self.number, self.key = number, key
        self.frames = NpyFile(path, shape, np.dtype(np.uint8))
        self.arrays: dict[str, list[np.ndarray]] = {}
        self.videos: list[list[Any]] = []
        self.sealed, self.checksum = False, ""
        self.entry: dict[str, Any] = {}

    def seal(self) -> None:
        """Append arrays and index, and compute the checksums."""
        path, rows = self.frames.path, self.frames.rows
        self.frames.finish()
        places: dict[str, list[Any]] = {
            "frames": [HEADER_BYTES, self.frames.dtype.str, [rows, *self.frames.shape]],
        }
        with path.open("r+b") as file:
            for name, parts in sorted(self.arrays.items()):
                array = np.concatenate(parts)
                array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
                start = file.seek(0, 2)
                file.write(bytes(-start % ALIGNMENT))
                file.write(npy_header(array.shape, array.dtype))
                places[name] = [file.tell(), array.dtype.str, list(array.shape)]
                file.write(array.data)
            self.arrays.clear()
            end = file.seek(0, 2)
            file.seek(0)
            whole, blocks = Checksum(), []
            for data in _blocks(file, end):
                whole.update(data)
                blocks.append(Checksum().update(data).text)
            index = {
                "format": ShardFiles.version,
                "size": self.key,
                "rows": rows,
                "arrays": places,
                "block": BLOCK,
                "checksums": blocks,
                "videos": self.videos,
            }
            text = json.dumps(index, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
            tail = text + struct.pack("<Q8s", len(text), MAGIC)
            file.write(tail)
        self.checksum = whole.update(tail).text
        self.entry = {
            "file": path.name,
            "size": self.key,
            "rows": rows,
            "bytes": end + len(tail),
            "index": end,
            "crc32c": Checksum().update(tail).text,
        }
        self.sealed = True


def _blocks(file: BinaryIO, end: int) -> Iterable[bytes]:
    for start in range(0, end, BLOCK):
        yield file.read(min(BLOCK, end - start))
