"""Seconds of the two training steps of dreams, and imagined frames per second, beside the machine's ceiling.

    python -m benchmarks.dreams

Published sizes, batches of 32: a step of the autoencoder on 32 frames, a step of the memory on 32 windows of ten codes.
Dreams of 100 frames without a page around them, one at a time (as played live: code by code, each decoded by itself)
and 64 beside one another. Operations are those of convolutions and matrix products, counted while they run.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.row import Row, Settings, against_gemm, run_script
from framecast.core.types import Batch, ClipSpec
from framecast.models.dreams.config import PROFILES
from framecast.models.dreams.predictor import Dreams
from framecast.models.rollout import RolloutSession, rollout
from framecast.training.device import Device
from framecast.training.state import TrainState
from framecast.training.step import train_step

#: Imagined frames a second that the live page needs.
LIVE = 30.0


def run(settings: Settings) -> Iterator[Row]:
    """Rows of all cases, in fp32."""
    torch.manual_seed(0)
    profile = "tiny" if settings.tiny else "default"
    model = Dreams(PROFILES[profile](), ClipSpec(channels=3, height=64, width=64)).to(settings.device)
    for stage, name in enumerate(("vision", "memory")):
        yield against_gemm(
            settings,
            f"dreams: {name} step, batch 32",
            Step(model, settings.device, stage),
            repeats=9,
            warm_up=3,
            details=lambda seconds, _: {"steps_per_second": 1 / seconds},
        )
    frames = 5 if settings.tiny else 100
    for size in (1, 64):
        context = torch.rand(size, model.num_context, 3, 64, 64, device=settings.device)

        def live(context: torch.Tensor = context) -> None:
            dream = RolloutSession(model, context)
            for _ in range(frames):
                dream.step()

        def whole(context: torch.Tensor = context) -> None:
            rollout(model, context, frames)

        yield against_gemm(
            settings,
            f"dreams: dream, batch {size}",
            live if size == 1 else whole,
            frames=frames * size,
            goal=LIVE,
            goal_is="figure",
            details=lambda seconds, _, made=frames * size: {"milliseconds_a_frame": 1000 * seconds / made},
        )


class Step:
    """One call is one training step of a stage, on fixed noise."""

    def __init__(self, model: Dreams, device: torch.device, stage: int) -> None:
        self.device, self.state = Device(device, "fp32"), TrainState.create(model)
        self.state.enter_stage(stage)
        request = model.request(model.config)
        code = {k: torch.randn(32, request.length, model.config.code_size, device=device) for k in ("mean", "logvar")}
        frames = torch.rand(32, 1, 3, 64, 64, device=device)
        if stage:
            self.batch = Batch(context=frames[:, :0], future=frames[:, :0], latents=code)
        else:
            self.batch = Batch(context=frames, future=frames[:, :0])

    def __call__(self) -> None:
        train_step(self.state, lambda stream, micro: self.batch, self.device)


if __name__ == "__main__":
    run_script(run, __doc__)
