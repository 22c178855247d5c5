"""Seconds of the two training steps of dreams, and imagined frames per second, beside the machine's ceiling.

    python -m benchmarks.dreams

Published sizes, batches of 32: a step of the autoencoder on 32 frames, a step of the memory on 32 windows of ten codes.
Dreams of 100 frames without a page around them, one at a time (as played live: code by code, each decoded by itself)
and 64 beside one another. Operations are those of convolutions and matrix products, counted while they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ceiling import beside, median_seconds
from benchmarks.row import Row, Settings, run_script
from framecast.engine.device import Device
from framecast.engine.state import TrainState
from framecast.engine.step import train_step
from framecast.models.dreams import PROFILES, Dreams
from framecast.rollout import Dream, rollout
from framecast.types import Batch, ClipSpec

#: Imagined frames a second that the live page needs.
LIVE = 30.0


def run(settings: Settings) -> Iterator[Row]:
    """Rows of all cases, in fp32."""
    torch.manual_seed(0)
    profile = "tiny" if settings.tiny else "default"
    model = Dreams(PROFILES[profile](), ClipSpec(channels=3, height=64, width=64)).to(settings.device)
    yield _row(settings, "vision step, batch 32", Step(model, settings.device, 0))
    yield _row(settings, "memory step, batch 32", Step(model, settings.device, 1))
    frames = 5 if settings.tiny else 100
    for size in (1, 64):
        context = torch.rand(size, model.num_context, 3, 64, 64, device=settings.device)

        def live(context: torch.Tensor = context) -> None:
            dream = Dream(model, context)
            for _ in range(frames):
                dream.step()

        def whole(context: torch.Tensor = context) -> None:
            rollout(model, context, frames)

        yield _rate(settings, f"dream, batch {size}", live if size == 1 else whole, frames * size, LIVE)


class Step:
    """One call is one training step of a stage, on fixed noise."""

    def __init__(self, model: Dreams, device: torch.device, stage: int) -> None:
        self.device, self.state = Device(device, "fp32"), TrainState.create(model)
        self.state.enter_stage(stage)
        request = model.request(model.config)
        code = {k: torch.randn(32, request.length, model.config.code_size, device=device) for k in ("mean", "logvar")}
        frames = torch.rand(32, 1, 3, 64, 64, device=device)
        if stage:
            self.batch = Batch(context=frames[:, :0], future=frames[:, :0], codes=code)
        else:
            self.batch = Batch(context=frames, future=frames[:, :0])

    def __call__(self) -> None:
        train_step(self.state, lambda stream, micro: self.batch, self.device)


def _count(work: Callable[[], None]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _row(settings: Settings, name: str, work: Callable[[], None]) -> Row:
    flops = _count(work)
    seconds, machine = beside(
        lambda: median_seconds(work, settings.repeats(9), settings.device, warm_up=settings.repeats(3)),
        settings.device,
        settings.tiny,
    )
    return Row(
        name=f"{name}, fp32",
        figure=seconds,
        unit="s",
        ceiling=machine.floor(flops, "fp32"),
        against="floor: its operations at the GEMM rate of fp32",
        machine=machine,
        device=settings.device,
        precision="fp32",
        flops=flops,
        details={"steps_per_second": 1 / seconds},
    )


def _rate(settings: Settings, name: str, work: Callable[[], None], frames: int, goal: float) -> Row:
    flops = _count(work)
    seconds, machine = beside(
        lambda: median_seconds(work, settings.repeats(5), settings.device, warm_up=1), settings.device, settings.tiny
    )
    return Row(
        name=f"{name}, fp32",
        figure=frames / seconds,
        unit="frames/s",
        ceiling=frames / machine.floor(flops, "fp32"),
        against="ceiling: its operations at the GEMM rate of fp32",
        machine=machine,
        device=settings.device,
        better="more",
        precision="fp32",
        flops=flops,
        goal=None if settings.tiny else goal,
        goal_is="figure",
        details={"milliseconds_a_frame": 1000 * seconds / frames},
    )


if __name__ == "__main__":
    run_script(run, __doc__)
