"""Peak resident memory of a piece of work. Imports little, so that a fresh process can measure it at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")


def peak_memory(work: Callable[[], T]) -> tuple[T, float, float]:
    """What `work` returns, how far the process's memory grew meanwhile, and its highest value; both in MB.

    Read off the process's high-water mark, which is reset before, where the system can do so (Linux). Elsewhere only
    sampled every 2 ms, which may miss memory that is held for a shorter time.
    """
    process, done = psutil.Process(), threading.Event()
    marked = _reset_high_water_mark()
    before = highest = process.memory_info().rss

    def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, process.memory_info().rss)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch, daemon=True)
    if not marked:
        watcher.start()
    try:
        result = work()
    finally:
        done.set()
        if not marked:
            watcher.join()
    highest = max(highest, process.memory_info().rss, _high_water_mark() if marked else 0)
    return result, (highest - before) / 1e6, highest / 1e6


def _reset_high_water_mark() -> bool:
    """Whether the mark was set back to the present memory, so that an earlier peak is not counted."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return _high_water_mark() > 0


def _high_water_mark() -> int:
    """Peak resident memory since the reset, bytes; 0 where the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
