"""An fsspec file system of simulated latency and bandwidth, over files in memory or in a folder.

Time is counted, not measured: a test reads `seconds`. With `sleeps` a benchmark also waits for it.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem


class SlowFiles(AbstractFileSystem):
    """Files at slow://, read from `folder`, by requests with a latency that share one bandwidth.

    Class attributes are the simulation's settings and counters; `reset` sets them.
    """

    protocol = "slow"
    cachable = False
    folder: Path = Path()
    latency, bandwidth, sleeps = 0.02, 200e6, False
    requests: int = 0
    bytes_read: int = 0
    log: list[tuple[str, int, int]] = []
    fault: Any = None
    _lock = threading.Lock()
    _free_at = 0.0

    @classmethod
    def reset(cls, folder: Path, sleeps: bool = False, latency: float = 0.02, bandwidth: float = 200e6) -> None:
        """Serve a folder, with all counters at 0."""
        cls.folder, cls.sleeps, cls.latency, cls.bandwidth = folder, sleeps, latency, bandwidth
        cls.requests = cls.bytes_read = 0
        cls.log, cls.fault, cls._free_at = [], None, 0.0

    @classmethod
    def seconds(cls) -> float:
        """Time that the requests so far take one after another."""
        return cls.requests * cls.latency + cls.bytes_read / cls.bandwidth

    def _file(self, path: str) -> Path:
        return self.folder / self._strip_protocol(path).lstrip("/")

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name, size and type of a file."""
        file = self._file(path)
        if not file.exists():
            raise FileNotFoundError(path)
        return {"name": path, "size": file.stat().st_size, "type": "directory" if file.is_dir() else "file"}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Bytes of a file, after the simulated time."""
        if self.fault is not None:
            type(self).fault(path)
        file = self._file(path)
        if not file.is_file():
            raise FileNotFoundError(path)
        with file.open("rb") as opened:
            opened.seek(start or 0)
            data = opened.read() if end is None else opened.read(end - (start or 0))
        self._take(path, start or 0, len(data))
        return data

    def _take(self, path: str, start: int, size: int) -> None:
        cls = type(self)
        with cls._lock:
            cls.requests += 1
            cls.bytes_read += size
            cls.log.append((path.rsplit("/", 1)[-1], start, size))
            now = time.monotonic()
            cls._free_at = max(cls._free_at, now) + size / cls.bandwidth  # the line carries one after another
            until = cls._free_at + cls.latency
        if cls.sleeps:
            time.sleep(max(0.0, until - now))


fsspec.register_implementation("slow", SlowFiles, clobber=True)
