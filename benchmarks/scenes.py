"""Clips per second from TFRecords, and frames per second of the simulated scenes.

    python -m benchmarks.scenes

Records: the checksum of google-crc32c beside zlib's CRC-32 (another polynomial), and clips of 20 JPEGs of
64x64 with actions and states beside decoding the same JPEGs and nothing else. Scenes: a finished clip (motion, frame,
mask of every frame, written to disk) beside drawing the frames alone.
"""

from __future__ import annotations

import importlib.util
import io
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.ceiling import Ceiling, beside, median_seconds
from benchmarks.row import CPU, Row, Settings, run_script
from framecast.core.types import ClipRequest
from framecast.data.loader import Loader
from framecast.data.readers.tfrecord_format import crc32c, feature, parse_example, read_record, scan
from framecast.data.readers.tfrecords import TFRecords
from framecast.data.store import DatasetWriter, Store
from framecast.data.synthetic.pushing import Pushing, PushingConfig
from framecast.data.synthetic.walking import Walking, WalkingConfig
from framecast.data.tfrecord_writer import write_records


def run(settings: Settings) -> Iterator[Row]:
    """Checksum, clips from records, then the scenes where the physics is installed."""
    yield _checksum(settings)
    with tempfile.TemporaryDirectory(prefix="framecast-bench-") as folder:
        yield _clips(settings, Path(folder))
        if importlib.util.find_spec("mujoco") is not None:
            yield from _scenes(settings, Path(folder))


def _checksum(settings: Settings) -> Row:
    data = np.random.default_rng(0).bytes(1 << (16 if settings.tiny else 22))
    repeats = settings.repeats(9)

    def measure() -> tuple[float, float]:
        ours = median_seconds(lambda: crc32c(data), repeats, CPU)
        return ours, median_seconds(lambda: zlib.crc32(data), repeats, CPU)

    (ours, theirs), machine = beside(measure, CPU, settings.tiny)
    return Row(
        name="CRC-32C of a record",
        figure=len(data) / ours / 1e6,
        unit="MB/s",
        ceiling=len(data) / theirs / 1e6,
        against="CRC-32 of zlib, in C",
        machine=machine,
        better="more",
    )


def _clips(settings: Settings, folder: Path) -> Row:
    """Batches of 8 clips of 20 frames."""
    videos, batches = (3, 1) if settings.tiny else (64, 12)
    rng = np.random.default_rng(0)
    with DatasetWriter(folder / "store", fps=10) as writer:
        for _ in range(videos):
            coarse = rng.integers(30, 226, (20, 3, 8, 8), np.uint8)
            frames = coarse.repeat(8, 2).repeat(8, 3)
            writer.add(frames, actions=rng.normal(size=(20, 5)), states=rng.normal(size=(20, 5)), split="train")
    write_records(Store(folder / "store"), folder / "records")
    source = TFRecords(folder / "records")
    request = ClipRequest(context=2, future=18, extras=("states",))
    loader = Loader(source, source.splits(20)["train"], request, batch_size=8)
    pictures = [
        [feature(features[f"image_{i}"])[0] for i in range(20)]
        for file in sorted((folder / "records").glob("[!.]*"))
        for number, place in enumerate(scan(file))
        for features in [parse_example(read_record(file, *place, number))]
    ]

    def decode() -> None:
        for clip in range(8 * batches):
            for picture in pictures[clip % len(pictures)]:
                np.asarray(Image.open(io.BytesIO(picture), formats=("JPEG",)))

    def measure() -> tuple[float, float]:
        ours = median_seconds(lambda: [loader.batch(step) for step in range(batches)], settings.repeats(5), CPU)
        return ours, median_seconds(decode, settings.repeats(5), CPU)

    (ours, decoding), machine = beside(measure, CPU, settings.tiny)
    opening = median_seconds(lambda: TFRecords(folder / "records"), settings.repeats(5), CPU)
    return Row(
        name="TFRecords, clips of 20x64x64x3 with actions and states in batches of 8",
        figure=8 * batches / ours,
        unit="clips/s",
        ceiling=8 * batches / decoding,
        against="decoding the same JPEGs with Pillow",
        machine=machine,
        better="more",
        details={"opening_a_record_ms": 1000 * opening / videos},
    )


def _scenes(settings: Settings, folder: Path) -> Iterator[Row]:
    few = settings.tiny
    pushing = PushingConfig(train=1 if few else 12, val=0, test=0, novel=0, frames=4 if few else 20)
    walking = WalkingConfig(subjects=1, takes=1, cameras=1 if few else 4, frames=4 if few else 64)
    frames = {"pushing": pushing.train * pushing.frames, "walking": walking.cameras * walking.frames}
    for name, maker in (("pushing", Pushing(pushing)), ("walking", Walking(walking))):
        maker.prepare(folder / f"{name}-first")  # loads the graphics, which is done once a process

        def make(name: str = name, maker: Pushing | Walking = maker) -> None:
            maker.prepare(folder / name, overwrite=True)

        def measure(name: str = name, make: object = make) -> tuple[float, float]:
            assert callable(make)
            return median_seconds(make, settings.repeats(3), CPU), _drawing(name, 64, settings)

        (seconds, drawn), machine = beside(measure, CPU, settings.tiny)
        yield _row(name, frames[name] / seconds, 1 / drawn, machine)


def _drawing(name: str, size: int, settings: Settings) -> float:
    """Seconds of one frame of a scene that stands still, without its mask."""
    from framecast.data.synthetic import push_scene, walk_scene
    from framecast.data.synthetic.rendering import SceneRenderer, load_mujoco

    mujoco = load_mujoco()
    if name == "pushing":
        xml = push_scene.scene(push_scene.things(3, False, 0), (0.6, 0.0, 0.56), 46.0)
    else:
        xml = walk_scene.scene(walk_scene.subject(0, 0))
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    count = 2 if settings.tiny else 100
    with SceneRenderer(model, size) as renderer:
        return median_seconds(lambda: [renderer.frame(data) for _ in range(count)], settings.repeats(3), CPU) / count


def _row(name: str, figure: float, ceiling: float, machine: Ceiling) -> Row:
    return Row(
        name=f"source {name}, frames of 64x64 with masks, written",
        figure=figure,
        unit="frames/s",
        ceiling=ceiling,
        against="drawing the frames alone",
        machine=machine,
        better="more",
    )


if __name__ == "__main__":
    run_script(run, __doc__)
