"""Clips per second from shards: of a folder, beside a store of format 1, and of a slow file system, cold and warm.

    python -m benchmarks.shards

Clips of 16 frames of 64x64 RGB in batches of 32. The slow file system has a latency of 20 ms per request and 200 MB/s
in all; it is read in the order of shards (`--train.order shards`), in which every byte serves up to 16 clips. Cold is
one epoch from an empty cache, warm the next one. Formats and passes are measured in turns.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.ceiling import beside
from benchmarks.loader import GOAL
from benchmarks.row import CPU, Row, Settings, run_script
from benchmarks.slow_files import SlowFiles
from framecast.core.types import ClipRequest
from framecast.data.loader import Loader
from framecast.data.store import DatasetWriter, Store

REQUEST = ClipRequest(context=8, future=8)
#: Parts of the local rate to reach from the slow file system.
COLD, WARM = 0.5, 0.9


def run(settings: Settings) -> Iterator[Row]:
    """Local shards against format 1, then the slow file system against local shards."""
    with tempfile.TemporaryDirectory(prefix="framecast-bench-") as place:
        folder = Path(place)
        videos, frames, shard = (8, 40, 1 << 20) if settings.tiny else (256, 400, 64 << 20)
        rng = np.random.default_rng(0)
        one = DatasetWriter(folder / "one", fps=30)
        two = DatasetWriter(folder / "two", fps=30, shards=shard)
        for _ in range(videos):
            video = rng.integers(0, 256, (frames, 3, 64, 64), np.uint8)
            one.add(video, axes="tchw")
            two.add(video, axes="tchw")
        one.close()
        two.close()
        yield _local(settings, folder)
        yield from _slow(settings, folder)


def _loader(store: Store, order: str) -> Loader:
    segments = [s for part in store.splits(REQUEST.source_length).values() for s in part]
    return Loader(store, segments, REQUEST, batch_size=32, order=order)  # type: ignore[arg-type]


def _rate(loader: Loader, steps: range) -> float:
    began = time.perf_counter()
    for step in steps:
        loader.batch(step)
    return 32 * len(steps) / (time.perf_counter() - began)


def _local(settings: Settings, folder: Path) -> Row:
    loaders = [_loader(Store(folder / name), "random") for name in ("one", "two")]
    steps = range(3 if settings.tiny else 200)

    def measure() -> list[tuple[float, float]]:
        for loader in loaders:
            _rate(loader, steps)
        return [(_rate(loaders[0], steps), _rate(loaders[1], steps)) for _ in range(settings.repeats(9))]

    turns, machine = beside(measure, CPU, settings.tiny)
    ratio = statistics.median(two / one for one, two in turns)
    return Row(
        name="shards of a folder, clips of 16x64x64x3 in batches of 32",
        figure=statistics.median(two for _, two in turns),
        unit="clips/s",
        ceiling=statistics.median(one for one, _ in turns),
        against="the same clips from a store of format 1, in turns",
        machine=machine,
        better="more",
        goal=GOAL,
        goal_is="figure",
        details={"median_of_ratios": ratio},
    )


def _slow(settings: Settings, folder: Path) -> Iterator[Row]:
    local = _loader(Store(folder / "two"), "shards")
    epoch = local.steps_per_epoch

    def measure() -> tuple[list[float], list[float], list[float], float]:
        near, cold, warm, megabytes = [], [], [], 0.0
        for turn in range(settings.repeats(3)):
            SlowFiles.reset(folder, sleeps=True)
            os.environ["FRAMECAST_CACHE"] = str(folder / f"cache-{turn}")
            slow = _loader(Store("slow://two"), "shards")
            cold.append(_rate(slow, range(epoch)))
            megabytes = SlowFiles.bytes_read / 1e6
            warm.append(_rate(slow, range(epoch, 2 * epoch)))
            near.append(_rate(local, range(epoch)))
        return near, cold, warm, megabytes

    before = os.environ.get("FRAMECAST_CACHE")
    try:
        (near, cold, warm, megabytes), machine = beside(measure, CPU, settings.tiny)
    finally:
        os.environ.pop("FRAMECAST_CACHE")
        if before is not None:
            os.environ["FRAMECAST_CACHE"] = before
    for name, rates, goal in (("cold", cold, COLD), ("warm", warm, WARM)):
        yield Row(
            name=f"shards at an address with 20 ms latency and 200 MB/s, {name}",
            figure=statistics.median(rates),
            unit="clips/s",
            ceiling=statistics.median(near),
            against="the same epoch from the folder, in turns",
            machine=machine,
            better="more",
            goal=goal,
            details={"megabytes_fetched": megabytes} if name == "cold" else {},
        )


if __name__ == "__main__":
    run_script(run, __doc__)
