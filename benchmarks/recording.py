"""Emulator frames per second into a store, and seconds and memory of reading a phone's video.

    python -m benchmarks.recording

The game stands beside the bare emulator, the video beside bare decoding, both measured in the same run. The video is a
generated clip of 30 s, 1080 pixels wide and 1920 high, 30 frames a second; it is read with its shorter side at 128.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.ceiling import beside, median_seconds
from benchmarks.memory import peak_memory
from benchmarks.row import CPU, Row, Settings, run_script
from framecast.data.synthetic.atari import Atari, AtariConfig
from framecast.media.video import iter_frames, probe

T = TypeVar("T")

_FPS, _BITRATE = 30, 12_000_000  # a phone's


def run(settings: Settings) -> Iterator[Row]:
    """The game where the emulator is there, then the video."""
    with tempfile.TemporaryDirectory(prefix="framecast-bench-") as folder:
        if importlib.util.find_spec("ale_py") is not None:
            yield _game(settings, Path(folder))
        else:
            print('no emulator (pip install "framecast[atari]"): the game is left out')
        yield from _video(settings, Path(folder))


def _game(settings: Settings, folder: Path) -> Row:
    frames = 30 if settings.tiny else 1500
    config = AtariConfig(episodes=1, max_frames=frames)

    def record() -> None:
        Atari(config).prepare(folder / "game", overwrite=True)

    def measure() -> tuple[float, float]:
        bare = median_seconds(lambda: _bare_game(frames), settings.repeats(3), CPU)
        return median_seconds(record, settings.repeats(3), CPU), bare

    (recorded, bare), machine = beside(measure, CPU, settings.tiny)
    return Row(
        name="emulator frames of 210x160 RGB into a packed store",
        figure=frames / recorded,
        unit="frames/s",
        ceiling=frames / bare,
        against="the emulator alone: play a frame, take its picture",
        machine=machine,
        better="more",
    )


def _bare_game(frames: int) -> None:
    """The least that recording needs, the tune at the game's start included."""
    import ale_py
    from ale_py import roms

    from framecast.data.synthetic.atari import STILL_START

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    console: Any = ale_py.ALEInterface()
    console.setInt("frame_skip", 1)
    console.loadROM(str(roms.get_rom_path("ms_pacman")))
    actions = console.getMinimalActionSet()
    for _ in range(STILL_START["ms_pacman"]):
        console.act(actions[0])
    for i in range(frames):
        console.act(actions[i // 20 % len(actions)])
        console.getScreenRGB()


def _video(settings: Settings, folder: Path) -> Iterator[Row]:
    width, height, seconds, side = (72, 128, 1, 32) if settings.tiny else (1080, 1920, 30, 128)
    path = folder / "phone.mp4"
    _elsewhere(_generate, path, width, height, seconds)
    read_frames, grown, highest = _elsewhere(_read_watched, path, side)
    count = probe(path).frames

    assert read_frames == count, (read_frames, count)

    def measure() -> tuple[float, float]:
        bare = median_seconds(lambda: _bare_decode(path), settings.repeats(3), CPU, warm_up=0)
        return median_seconds(lambda: _read(path, side), settings.repeats(3), CPU, warm_up=0), bare

    (taken, bare), machine = beside(measure, CPU, settings.tiny)
    name = f"video of {seconds} s, {width}x{height}, read at a shorter side of {side}"
    yield Row(
        name=name,
        figure=taken,
        unit="s",
        ceiling=bare,
        against="decoding alone, every frame thrown away",
        machine=machine,
        details={"frames_per_second": count / taken, "file_mb": path.stat().st_size / 1e6},
    )
    yield Row(
        name=f"memory growth, {name}",
        figure=grown,
        unit="MB",
        ceiling=count * 3 * width * height / 1e6,
        against="all frames at full size at once",
        machine=machine,
        details={"highest_mb": highest},
    )


def _elsewhere(function: Callable[..., T], *arguments: Any) -> T:
    """What the function returns in a fresh process: memory that earlier work gave back would hide what it takes."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _read(path: Path, side: int) -> int:
    """Number of frames read."""
    return sum(1 for _ in iter_frames(path, side))


def _read_watched(path: Path, side: int) -> tuple[int, float, float]:
    return peak_memory(lambda: _read(path, side))


def _bare_decode(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for _ in container.decode(stream):
            pass


def _generate(path: Path, width: int, height: int, seconds: int) -> None:
    """H.264 at a phone's bit rate: a textured picture that drifts, with a bright square crossing it."""
    import av

    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    picture = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
    side = width // 5
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=_FPS, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", _BITRATE
        for i in range(seconds * _FPS):
            frame = np.roll(picture, (2 * i, i), (0, 1))
            top, left = 7 * i % (height - side), 5 * i % (width - side)
            frame[top : top + side, left : left + side] = (250, 240, 60)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    run_script(run, __doc__)
