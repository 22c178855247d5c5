"""Clips per second from the packed store, and what training crops cost in time and disk.

    python -m benchmarks.loader

Whole clips of 16 frames of 64x64 RGB in batches of 32 stand beside a bare copy of the same frames into one array that
is there already. Training crops (5 frames of 32x32, motion filter of the published system) are cut from a recorded
game, or from bouncing shapes without the emulator. The published system cut five million beforehand, one file each.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.ceiling import beside, median_seconds
from benchmarks.row import CPU, Row, Settings, run_script
from framecast.core.types import ClipRequest
from framecast.data.loader import Loader
from framecast.data.store import DatasetWriter, Store
from framecast.data.synthetic.atari import Atari, AtariConfig
from framecast.data.synthetic.bouncing import Bouncing, BouncingConfig
from framecast.models.multiscale_gan.config import PROFILES
from framecast.models.multiscale_gan.predictor import MultiscaleGAN

#: The published clips: number of files and bytes of each, 32x32 pixels by 15 channels (five RGB frames) of float64.
PUBLISHED_FILES, PUBLISHED_BYTES = 5_000_000, 32 * 32 * 15 * 8
#: Goal of whole clips a second.
GOAL = 20_000.0
_BLOCK = 4096  # bytes a file takes at least on most file systems, and in multiples of which it grows


def run(settings: Settings) -> Iterator[Row]:
    """Whole clips, then training crops with and without the motion filter, then the disk they take."""
    with tempfile.TemporaryDirectory(prefix="framecast-bench-") as folder:
        yield _whole_clips(settings, Path(folder))
        yield from _crops(settings, Path(folder))


def _whole_clips(settings: Settings, folder: Path) -> Row:
    videos, frames, batches = (4, 40, 3) if settings.tiny else (64, 400, 200)
    rng = np.random.default_rng(0)
    with DatasetWriter(folder / "clips", fps=30) as writer:
        for _ in range(videos):
            writer.add(rng.integers(0, 256, (frames, 3, 64, 64), np.uint8), axes="tchw")
    store, request = Store(folder / "clips"), ClipRequest(context=8, future=8)
    segments = [s for part in store.splits(request.source_length).values() for s in part]
    loader = Loader(store, segments, request, batch_size=32)
    uniforms = rng.random((batches, 32, 2))
    drawn = [list(zip(*(x.tolist() for x in loader.windows.from_uniform(u)), strict=True)) for u in uniforms]
    out = np.empty((32, request.length, 3, 64, 64), np.uint8)

    def load() -> None:
        for step in range(batches):
            loader.batch(step)

    def copy() -> None:
        for pairs in drawn:
            for slot, (video, start) in zip(out, pairs, strict=True):
                slot[...] = store.clip(video, start, request.length).frames

    def measure() -> tuple[float, float]:
        return median_seconds(load, settings.repeats(5), CPU), median_seconds(copy, settings.repeats(5), CPU)

    (loaded, copied), machine = beside(measure, CPU, settings.tiny)
    clips = 32 * batches
    return Row(
        name="packed store, clips of 16x64x64x3 in batches of 32",
        figure=clips / loaded,
        unit="clips/s",
        ceiling=clips / copied,
        against="bare copy of such clips by one core",
        machine=machine,
        better="more",
        goal=GOAL,
        goal_is="figure",
        details={"gigabytes_per_second": clips * out[0].nbytes / loaded / 1e9},
    )


def _crops(settings: Settings, folder: Path) -> Iterator[Row]:
    store = _recording(settings, folder / "recording")
    request = MultiscaleGAN.request(PROFILES["default"]())
    segments = store.splits(request.source_length)["train"]
    batches = 2 if settings.tiny else 100
    before = _bytes_under(folder)
    loaders = {
        "with the motion filter": Loader(store, segments, request, batch_size=8),
        "without": Loader(store, segments, replace(request, motion_filter=None), batch_size=8),
    }

    def seconds(loader: Loader) -> float:
        return median_seconds(lambda: [loader.batch(step) for step in range(batches)], settings.repeats(5), CPU)

    def measure() -> dict[str, float]:
        return {name: seconds(loader) for name, loader in loaders.items()}

    found, machine = beside(measure, CPU, settings.tiny)
    rate = {name: 8 * batches / s for name, s in found.items()}
    name = store.meta().get("generator", "recording")
    yield Row(
        name=f"training crops of 5x32x32x3 with the motion filter, batches of 8, from {name}",
        figure=rate["with the motion filter"],
        unit="clips/s",
        ceiling=rate["without"],
        against="the same without the filter",
        machine=machine,
        better="more",
    )
    sample = [loaders["with the motion filter"].batch(step) for step in range(batches)]
    packed = _packed_size(np.concatenate([torch.cat([b.context, b.future], 1).numpy() for b in sample]), folder)
    yield Row(
        name="disk used by training crops beyond the frames themselves",
        figure=float(_bytes_under(folder) - before),
        unit="bytes",
        ceiling=float(PUBLISHED_FILES * PUBLISHED_BYTES),
        against=f"the published {PUBLISHED_FILES:,} files of 32x32x15 float64, uncompressed, computed",
        machine=machine,
        goal=0.0,
        goal_is="figure",
        details={"published_files_compressed_in_blocks_gb": PUBLISHED_FILES * packed / 1e9, "frames_mb": before / 1e6},
    )


def _recording(settings: Settings, folder: Path) -> Store:
    """A game where the emulator is there, else bouncing shapes."""
    if importlib.util.find_spec("ale_py") is not None:
        episodes, frames = (2, 40) if settings.tiny else (10, 300)
        Atari(AtariConfig(episodes=episodes, max_frames=frames, frame_skip=4)).prepare(folder)
    else:
        videos, frames = (4, 20) if settings.tiny else (40, 64)
        Bouncing(BouncingConfig(videos=videos, frames=frames)).prepare(folder)
    return Store(folder)


def _packed_size(clips: np.ndarray, folder: Path) -> float:
    """Mean disk space of one clip as the published code saved it, in blocks of a file system: a compressed npz of
    float64 in -1…1, pixels first."""
    path, total = folder / "one.npz", 0
    for clip in clips:
        values = clip.reshape(-1, *clip.shape[-2:]).transpose(1, 2, 0).astype(np.float64) / 127.5 - 1
        np.savez_compressed(path, values)
        total += -(-path.stat().st_size // _BLOCK) * _BLOCK
    path.unlink()
    return total / len(clips)


def _bytes_under(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


if __name__ == "__main__":
    run_script(run, __doc__)
