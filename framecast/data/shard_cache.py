"""Shards at an address, read through a local cache of bounded size.

A block of 4 MiB is fetched when something in it is first read, compared with its checksum and written to a sparse file
of the shard's size, which is memory-mapped: a shard that is complete is read like a local one. A block is present if
its checksum is right, so a killed process, another process or a full disk can leave nothing wrong behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.checksums import Checksum
from framecast.core.errors import UserError
from framecast.core.remote import RemoteFolder, parse_bytes
from framecast.data.npy_files import bytes_in_words
from framecast.data.shards import BLOCK, MOST_OPEN, OpenShard, ShardEntry, read_index, views

#: Variable with the largest size of the cache, which `--cache-size` sets, and its default.
CACHE_SIZE, DEFAULT_SIZE = "FRAMECAST_CACHE_SIZE", "20GB"
#: Requests at the same time.
CONNECTIONS = 8

_MISSING, _FETCHING, _PRESENT = 0, 1, 2
_RESCAN = 1.0  # seconds after which the cache's size, which other processes change too, is counted again


def cache_limit() -> int:
    """Largest size of the cache in bytes: $FRAMECAST_CACHE_SIZE, else 20 GB."""
    return parse_bytes(os.environ.get(CACHE_SIZE) or DEFAULT_SIZE, f"${CACHE_SIZE}")


class CachedShards:
    """The shards of a store at an address.

    Args:
        remote: The store.
        entries: Shards of its index.
        folder: Folder of the cache for this store, below the cache's root.
        root: Root of the cache, whose size is bounded over all stores.
        limit: Largest size of the cache, bytes.

    Raises:
        UserError: The cache is smaller than two shards.
    """

    def __init__(
        self, remote: RemoteFolder, entries: Sequence[ShardEntry], folder: Path, root: Path, limit: int
    ) -> None:
        self.remote, self.entries, self.folder, self.root, self.limit = remote, entries, folder, root, limit
        largest = max(entry.bytes for entry in entries)
        if limit < 2 * largest:
            raise UserError(
                f"{remote}: a cache of {bytes_in_words(limit)} is too small for shards of {bytes_in_words(largest)}; "
                f"use --cache-size {bytes_in_words(4 * largest).replace(' ', '')} or more"
            )
        self._lock = threading.RLock()
        self._live: dict[int, CachedShard] = {}
        self._size, self._counted = 0, -1.0
        self._unwritten = 0  # bytes for which there is room, and which a count of the files does not find yet
        self._ahead: set[int] = set()
        self._jobs: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def open(self, number: int) -> OpenShard:
        """The mapped shard with a number, whose blocks may not be present yet."""
        with self._lock:
            shard = self._live.get(number)
            if shard is None or shard.closed:
                shard = self._live[number] = CachedShard(self, number)
                while len(self._live) > MOST_OPEN:
                    del self._live[next(iter(self._live))]
            return shard

    def readahead(self, numbers: Iterable[int]) -> None:
        """Fetch whole shards in the background, in this order.

        An error is reported when the same block is read.
        """
        for number in numbers:
            if number in self._ahead:
                # needed now: written before others that are not, it would be deleted before them
                with contextlib.suppress(OSError):
                    os.utime(self.folder / self.entries[number].file)
                continue
            self._ahead.add(number)
            for block in range(-(-self.entries[number].index // BLOCK)):
                self._jobs.put((number, block))
        while len(self._threads) < CONNECTIONS:
            thread = threading.Thread(target=self._work, daemon=True, name="readahead")
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while True:
            number, block = self._jobs.get()
            with contextlib.suppress(UserError, OSError):
                if number in self._ahead:
                    shard = self.open(number)
                    assert isinstance(shard, CachedShard)
                    shard.fetch(block)

    def require(self, count: int) -> None:
        """Check that a number of shards fit into the cache.

        Raises:
            UserError: They do not.
        """
        need = sum(sorted((entry.bytes for entry in self.entries), reverse=True)[:count])
        if need > self.limit:
            raise UserError(
                f"{self.remote}: {count} shards are read at a time, which are {bytes_in_words(need)}, but the cache is "
                f"{bytes_in_words(self.limit)}; raise --cache-size or lower --train.shuffle-shards"
            )

    @contextlib.contextmanager
    def room(self, size: int, wanted: Path) -> Iterator[None]:
        """Room for `size` more bytes, which are written meanwhile: the files used least recently are deleted.

        Args:
            size: Bytes that will be written.
            wanted: File they are for, which stays.

        Raises:
            UserError: The cache is full of files that are in use.
        """
        self._make_room(size, wanted)
        try:
            yield
        finally:
            with self._lock:
                self._unwritten -= size

    def _make_room(self, size: int, wanted: Path) -> None:
        with self._lock:
            now = time.monotonic()
            if self._size + size <= self.limit and now - self._counted < _RESCAN:
                self._size += size
                self._unwritten += size
                return
            found = []
            for path in self.root.rglob("shard-*.npy"):
                with contextlib.suppress(OSError):
                    stat = path.stat()
                    found.append((stat.st_mtime_ns, getattr(stat, "st_blocks", 0) * 512 or stat.st_size, path))
            self._size, self._counted = sum(length for _, length, _ in found) + self._unwritten, now
            for _, length, path in sorted(found):
                if self._size + size <= self.limit:
                    break
                if path != wanted:
                    self._evict(path)
                    self._size -= length
            if self._size + size > self.limit:
                raise UserError(
                    f"the cache {self.root} of {bytes_in_words(self.limit)} is full; raise --cache-size or delete it"
                )
            self._size += size
            self._unwritten += size

    def _evict(self, path: Path) -> None:
        with contextlib.suppress(OSError):  # of Windows, where a mapped file cannot be deleted
            path.unlink()
        for number, shard in list(self._live.items()):
            if shard.path == path:
                shard.closed = True  # views that were given out stay valid until they are dropped
                del self._live[number]
                self._ahead.discard(number)


class CachedShard:
    """A shard whose file in the cache is filled as it is read.

    Args:
        cache: Where it belongs.
        number: Index of the shard.
    """

    def __init__(self, cache: CachedShards, number: int) -> None:
        self.cache, self.entry = cache, cache.entries[number]
        self.path = cache.folder / self.entry.file
        self.closed = self.complete = False
        entry, where = self.entry, cache.remote.place(self.entry.file)
        with self._disk():
            cache.folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._file = os.fdopen(os.open(self.path, flags, 0o666), "r+b", buffering=0)
            if os.fstat(self._file.fileno()).st_size != entry.bytes:
                self._file.truncate(entry.bytes)
            os.utime(self.path)
            self._raw = np.memmap(self._file, np.uint8, "r").view(np.ndarray)
        tail = self._raw[entry.index :].tobytes()
        if Checksum().update(tail).text != entry.crc32c:
            tail = cache.remote.read(entry.file, entry.index, entry.bytes)
            index = read_index(tail, entry, where)
            self._write(entry.index, tail)
        else:
            index = read_index(tail, entry, where)
        self._index = index
        self._arrays = views(self._raw, index)
        self._places = {
            name: (offset, array[:1].nbytes)
            for name, array in self._arrays.items()
            for offset in [index.arrays[name][0]]
        }
        self._state = bytearray(len(index.checksums))
        self._left = len(self._state)
        self._condition = threading.Condition()

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Name -> rows, of which only those asked for by `need` are valid."""
        return self._arrays

    def need(self, start: int, stop: int, names: Sequence[str] | None = None) -> None:
        """Fetch the blocks with some rows, of all arrays or of those named.

        Raises:
            UserError: They cannot be read, a checksum is wrong, or disk or cache are full.
        """
        if self.complete:
            return
        for name in self._places if names is None else names:
            offset, size = self._places[name]
            for block in range((offset + start * size) // BLOCK, (offset + stop * size - 1) // BLOCK + 1):
                if self._state[block] != _PRESENT:
                    self.fetch(block)

    def fetch(self, block: int) -> None:
        """Make a block present; another thread that is fetching it is waited for."""
        with self._condition:
            while self._state[block] == _FETCHING:
                self._condition.wait()
            if self._state[block] == _PRESENT:
                return
            self._state[block] = _FETCHING
        state = _MISSING
        try:
            self._load(block)
            state = _PRESENT
        finally:
            with self._condition:
                self._state[block] = state
                self._left -= state == _PRESENT
                self.complete = self._left == 0
                self._condition.notify_all()

    def _load(self, block: int) -> None:
        start = block * BLOCK
        stop = min(start + BLOCK, self.entry.index)
        expected = self._index.checksums[block]
        with self.cache._lock:
            self._file.seek(start)
            held = self._file.read(stop - start)
        if Checksum().update(held).text == expected:
            return  # of an earlier process
        with self.cache.room(stop - start, self.path):
            data = self.cache.remote.read(self.entry.file, start, stop)
            if Checksum().update(data).text != expected:
                raise UserError(
                    f"{self.cache.remote.place(self.entry.file)}: checksum mismatch in bytes {start} to {stop - 1}; "
                    "copy the store again"
                )
            self._write(start, data)

    def _write(self, start: int, data: bytes) -> None:
        with self._disk(), self.cache._lock:
            self._file.seek(start)
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) or 0 :]

    @contextlib.contextmanager
    def _disk(self) -> Any:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                what = "the disk is full; free some space, lower --cache-size"
            else:
                what = f"cannot be written ({error.strerror}); check it"
            raise UserError(f"the cache {self.cache.root}: {what} or set FRAMECAST_CACHE to another folder") from error
