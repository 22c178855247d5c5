"""How fast clips are compared, and what is held: rf-mmd of 2,048 clips, and memory as clips grow in number.

    python -m benchmarks.comparing

The floor of rf-mmd is the multiply-adds of its three convolutions, for forecasts and truths, at this machine's fp32
GEMM rate. Memory of a comparison must not grow with the number of clips; the ceiling is one batch of forecasts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.ceiling import beside, median_seconds
from benchmarks.memory import peak_memory
from benchmarks.row import CPU, Row, Settings, run_script
from framecast.data.store import Store
from framecast.data.synthetic.bouncing import Bouncing, BouncingConfig
from framecast.evaluation.compare import compare
from framecast.metrics.features import FRAMES, LAYERS, SIDE, mmd, random_features
from framecast.models.registry import find_model
from framecast.training.config import RunConfig
from framecast.training.run_folder import Run

#: Goals: seconds for 2,048 clips; MB that eight times as many clips may take more.
GOAL_SECONDS, GOAL_MB = 60.0, 50.0


def run(settings: Settings) -> Iterator[Row]:
    """Time of rf-mmd, then growth of memory."""
    yield distance(settings)
    yield memory(settings)


def operations(clips: int) -> float:
    """Floating-point operations of the convolutions for `clips` clips of 16 frames."""
    size, total = [FRAMES, SIDE, SIDE], 0
    for inputs, filters, kernel, stride in LAYERS:
        size = [-(-n // s) for n, s in zip(size, stride, strict=True)]
        total += 2 * inputs * filters * kernel[0] * kernel[1] * kernel[2] * size[0] * size[1] * size[2]
    return float(total * clips)


def distance(settings: Settings) -> Row:
    """Seconds from clips of 16x64x64 RGB to the distance, both sides."""
    clips, batch = (8, 4) if settings.tiny else (2048, 32)
    generator = torch.Generator().manual_seed(0)
    block = torch.rand(batch, FRAMES, 3, SIDE, SIDE, generator=generator)  # the same again: its values do not matter
    noise = 0.01 * torch.rand(clips, 1, generator=generator)

    def features() -> torch.Tensor:
        return torch.cat([random_features(block) for _ in range(clips // batch)]) + noise

    def work() -> float:
        return mmd(features(), features() + 0.001)

    def measure() -> tuple[float, float]:
        random_features(block)  # what is set up once does not count
        began = time.process_time()
        seconds = median_seconds(work, 1, CPU, warm_up=0)
        return seconds, time.process_time() - began

    (seconds, processor), machine = beside(measure, CPU, settings.tiny)
    flops = operations(2 * clips)
    return Row(
        name=f"rf-mmd of {clips:,} forecasts and as many truths, 16x64x64 RGB",
        figure=seconds,
        unit="s",
        ceiling=machine.floor(flops, "fp32"),
        against="its convolutions at the fp32 GEMM rate",
        machine=machine,
        precision="fp32",
        flops=flops,
        goal=GOAL_SECONDS,
        goal_is="figure",
        details={"processor_seconds": processor},
    )


def memory(settings: Settings) -> Row:
    """How much more memory a comparison takes when the clips are eight times as many."""
    few, horizon = (2, 4) if settings.tiny else (16, 16)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "shapes"
        Bouncing(BouncingConfig(videos=4 if settings.tiny else 32, frames=64)).prepare(place)
        source = Store(place)
        grown = []

        copy = find_model("copy-last")
        config = RunConfig(name="copy-last", model=copy.Config(), spec=source.spec)
        run = Run(Path(folder), config, copy, name="copy")

        def compared(clips: int) -> int:
            settings = {"split": "all", "horizon": horizon, "clips": clips, "show": 0, "mmd": False, "batch_size": 8}
            return compare([run], source, **settings)[0].protocol.clips

        compared(few)  # what is set up once is not growth
        for clips in (few, 8 * few):
            _, more, _ = peak_memory(lambda n=clips: compared(n))
            grown.append(more)
    _, machine = beside(lambda: 0.0, CPU, settings.tiny)
    batch = 8 * horizon * 3 * 64 * 64 * 4 / 1e6
    return Row(
        name=f"memory of a comparison of {8 * few} clips over that of {few}, horizon {horizon}, 64x64",
        figure=max(grown[1] - grown[0], 0.0),
        unit="MB",
        ceiling=batch,
        against="one batch of forecasts",
        machine=machine,
        goal=GOAL_MB,
        goal_is="figure",
        details={"few_mb": grown[0], "many_mb": grown[1]},
    )


if __name__ == "__main__":
    run_script(run, __doc__)
