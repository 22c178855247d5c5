"""Training frames per second of each of the fourteen autoencoders, beside what their work allows, and of the loader.

    python -m benchmarks.autoencoders

Batches of 100 frame pairs, or 10 clips of 10 frames, at 210x160 in `default`, the last stage of training (with an
adversary its discriminators too), fp32. A frame is a target frame. The ceiling is the larger of two floors: operations
at the rate of a plain matrix product, and the bytes that weights, gradients, moments and the average of the weights
must be moved a step at the rate of a memory copy. The row states which of the two is larger: dense layers of 15 million
weights are bound by memory; ConvLSTM layers by neither, but by passing over gates ten times in a row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.ceiling import beside, count_flops, median_seconds
from benchmarks.row import Row, Settings, run_script
from framecast.core.types import Batch, ClipSpec
from framecast.data.loader import Loader
from framecast.data.store import DatasetWriter, Store
from framecast.models.autoencoders.config import PROFILES, VARIANTS
from framecast.models.autoencoders.predictor import Autoencoder
from framecast.training.device import Device
from framecast.training.state import TrainState, phase_parameters
from framecast.training.step import train_step

#: Values read and written of every trained weight a step: gradient, weight and its average, two moments; each read by
#: the optimiser and written again, the weight read by both directions of the pass, the gradient written by it.
MOVED = 12


def run(settings: Settings) -> Iterator[Row]:
    """A row a model, then the loader."""
    fastest = 0.0
    for name in VARIANTS:
        row = _model(settings, name)
        fastest = max(fastest, row.figure)
        yield row
    yield _loader(settings, fastest)


def _model(settings: Settings, name: str) -> Row:
    profile, height, width = ("tiny", 32, 32) if settings.tiny else ("default", 210, 160)
    clips = 2 if settings.tiny else 10
    torch.manual_seed(0)
    model = Autoencoder(PROFILES[profile](name), ClipSpec(channels=3, height=height, width=width))
    model.to(settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = TrainState.create(model)
    while state.stage + 1 < len(state.stages):
        state.leave_stage()
    request = model.request(model.config)
    window = torch.rand(clips, request.length, 3, height, width, device=settings.device)
    first = request.future_start
    batch = Batch(context=window[:, : request.context], future=window[:, first : first + request.future])
    device = Device(settings.device, "fp32")

    def step() -> None:
        train_step(state, lambda stream, micro: batch, device)

    flops = count_flops(step)
    trained = sum(p.numel() for phase in state.current.phases for p in phase_parameters(model, phase))
    moved = 4.0 * MOVED * trained

    def measure() -> float:
        return median_seconds(step, settings.repeats(5), settings.device, warm_up=settings.repeats(2))

    seconds, machine = beside(measure, settings.device, settings.tiny)
    # A copy is counted once although it reads and writes: two bytes moved for each.
    floors = {"operations": machine.floor(flops, "fp32"), "memory": moved / (2 * machine.copy * 1e9)}
    bound = max(floors, key=lambda k: floors[k])
    frames = clips * request.future
    return Row(
        name=f"{name}, {height}x{width}, {frames} frames a step",
        figure=frames / seconds,
        unit="frames/s",
        ceiling=frames / floors[bound],
        against=f"ceiling: {bound}",
        machine=machine,
        device=settings.device,
        better="more",
        precision="fp32",
        flops=flops,
        details={
            "bound_by": bound,
            "seconds": seconds,
            "weights": trained,
            "operations_floor": floors["operations"],
            "memory_floor": floors["memory"],
            "recurrent_steps": request.context if model.config.memory == "lstm" else 0,
        },
    )


def _loader(settings: Settings, fastest: float) -> Row:
    """Target frames per second that come from a packed store at the same size: it must outrun the fastest model."""
    height, width = (32, 32) if settings.tiny else (210, 160)
    config = PROFILES["default"]("c-ae")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        with DatasetWriter(Path(folder) / "store", fps=60) as writer:
            for _ in range(4):
                writer.add(rng.integers(0, 256, (60, 3, height, width), np.uint8), axes="tchw")
        source = Store(Path(folder) / "store")
        whole = source.splits(15)["train"]
        loader = Loader(source, whole, Autoencoder.request(config), 10)
        number = iter(range(10**9))

        def load() -> None:
            loader.batch(next(number)).to(settings.device)

        def measure() -> float:
            return median_seconds(load, settings.repeats(9), settings.device, warm_up=2)

        seconds, machine = beside(measure, settings.device, settings.tiny)
    frames = 10 * config.episode
    values = frames * 3 * height * width
    floor = values * 2 / (machine.copy * 1e9)  # input and target, as bytes
    return Row(
        name=f"loader, batches of {frames} pairs of {height}x{width}, floats on the device",
        figure=frames / seconds,
        unit="frames/s",
        ceiling=frames / floor,
        against="ceiling: copying the bytes once",
        machine=machine,
        device=settings.device,
        better="more",
        goal=None if settings.tiny else fastest,
        goal_is="figure",
        details={"fastest_model": fastest},
    )


if __name__ == "__main__":
    run_script(run, __doc__)
