"""Seconds of a training step of every small profile, beside the time its operations take as plain matrix products.

    python -m benchmarks.small_steps

A step is the engine's (losses, backward, clipping, optimisers, EMA copy) at the profile's batch size, on a fixed batch
of the bouncing shapes; in bf16, the default where the hardware multiplies it natively, and in fp32. Operations are
those of convolutions and matrix products, counted while they run. One thread: steps as small as these gain little from
more, and two trainings beside each other use two cores better.

Layers of few channels cannot reach the rate of large matrices in any layout. So each row has a second floor, the part
of the step that its convolutions and matrix products take as they are called, each at its best of several steps; what
a step takes beyond that is elementwise work, copies and Python.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.ceiling import beside, count_flops, times
from benchmarks.row import Row, Settings, floor_row, run_script
from benchmarks.small_cases import CASES, Case, Step, make_data
from benchmarks.training_step import precisions
from framecast.nn.doubling import DoubledConvTranspose2d
from framecast.training.device import Device

#: Goal: multiple of the floor at the GEMM rate.
GOAL = 3.0


def run(settings: Settings) -> Iterator[Row]:
    """Rows of all cases."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="framecast-bench-") as place:
            folder = Path(place)
            make_data(folder / "data")
            for number, case in enumerate(_kinds(settings.tiny)):
                for precision in precisions(settings.device):
                    yield _row(settings, folder, case, precision, number)
    finally:
        torch.set_num_threads(before)


def _kinds(tiny: bool) -> tuple[Case, ...]:
    return CASES[2:5] if tiny else CASES


def _row(settings: Settings, folder: Path, case: Case, precision: str, number: int) -> Row:
    place = folder / f"{number}-{precision}"
    step = Step(folder / "data", place, case, Device(settings.device, precision), settings.tiny)
    with _plain_convolutions():
        flops = count_flops(step)
    count = max(settings.repeats(5), 1 if settings.tiny else min(50, round(1.0 / max(_seconds(step), 1e-6))))
    seconds, machine = beside(lambda: min(times(step, count, settings.device)), settings.device, settings.tiny)
    layers = min(layer_seconds(step) for _ in range(settings.repeats(3)))
    details = {
        "clips_per_second": step.clips / seconds,
        "layers_alone_s": layers,
        "times_the_layers_alone": seconds / layers,
    }
    name = f"training step of {case.name}, batch {step.clips}, {precision}"
    return floor_row(settings, name, seconds, flops, precision, machine, goal=GOAL, details=details)


@contextlib.contextmanager
def _plain_convolutions() -> Iterator[None]:
    """Within: transposed convolutions are torch's own, for a count of no more operations than the network has."""
    doubled = DoubledConvTranspose2d.forward

    def plain(self: DoubledConvTranspose2d, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        whole = nn.ConvTranspose2d.forward(self, x, output_size)
        return whole[..., : -self.cropped or None, : -self.cropped or None].clone()

    DoubledConvTranspose2d.forward = plain  # type: ignore[method-assign]
    try:
        yield
    finally:
        DoubledConvTranspose2d.forward = doubled  # type: ignore[method-assign]


def _seconds(step: Step) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def layer_seconds(step: Step, repeats: int = 4) -> float:
    """Seconds that the convolutions and matrix products of a step take, forward and backward, on a CPU.

    Each call counts with the least of `repeats` steps.
    """
    found = []
    for _ in range(repeats):
        with _Layers() as layers:
            step()
        found.append(layers.seconds)
    shortest = min(len(each) for each in found)
    return sum(min(each) for each in zip(*(each[:shortest] for each in found), strict=True))


class _Layers(TorchDispatchMode):
    """Within: the seconds of every convolution and matrix product, in `seconds`."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket not in flop_registry:
            return func(*args, **(kwargs or {}))
        began = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        self.seconds.append(time.perf_counter() - began)
        return result


if __name__ == "__main__":
    run_script(run, __doc__)
