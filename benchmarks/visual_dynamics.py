"""Seconds of a training step of visual-dynamics and of 100 futures of one picture, beside the machine's ceiling.

    python -m benchmarks.visual_dynamics

Published sizes: a step on 32 pairs of 128x128; 100 samples of the next frame of one picture, for which the image
encoder runs once and the motion encoder not at all; the same without that sharing; and the four cross convolutions of a
step alone, forward and backward, whose share of the step is reported. Operations are those of convolutions, counted
while they run.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.row import Row, Settings, against_gemm, run_script
from framecast.core.types import Batch, ClipSpec
from framecast.models.visual_dynamics.config import PROFILES
from framecast.models.visual_dynamics.predictor import VisualDynamics
from framecast.nn.conv import cross_convolve
from framecast.training.device import Device
from framecast.training.state import TrainState
from framecast.training.step import train_step


def run(settings: Settings) -> Iterator[Row]:
    """Rows of all cases, in fp32."""
    torch.manual_seed(0)
    config = PROFILES["tiny" if settings.tiny else "default"]()
    model = VisualDynamics(config, ClipSpec(channels=3, height=config.size, width=config.size)).to(settings.device)
    size, samples = (2, 3) if settings.tiny else (32, 100)
    step = Step(model, size, settings.device)
    whole = against_gemm(settings, f"visual-dynamics: training step, batch {size}", step)
    yield whole
    yield against_gemm(
        settings,
        f"visual-dynamics: cross convolutions of a step, batch {size}",
        Crossed(model, size),
        details=lambda seconds, _: {"share_of_the_step": seconds / whole.figure},
    )
    picture = torch.rand(1, 1, 3, config.size, config.size, device=settings.device)
    model.eval()

    def futures() -> None:
        model.predict(picture, 1, samples=samples)

    def one_by_one() -> None:
        model.predict(picture.expand(samples, -1, -1, -1, -1), 1)

    yield against_gemm(settings, f"visual-dynamics: {samples} futures of one picture", futures)
    yield against_gemm(settings, f"visual-dynamics: {samples} futures, the picture encoded for each", one_by_one)


class Step:
    """One call is one training step on fixed noise."""

    def __init__(self, model: VisualDynamics, size: int, device: torch.device) -> None:
        self.device, self.state = Device(device, "fp32"), TrainState.create(model)
        frames = torch.rand(size, 2, 3, model.config.size, model.config.size, device=device)
        self.batch = Batch(context=frames[:, :1], future=frames[:, 1:])

    def __call__(self) -> None:
        train_step(self.state, lambda stream, micro: self.batch, self.device)


class Crossed:
    """One call is the cross convolutions of one step and their gradients, alone."""

    def __init__(self, model: VisualDynamics, size: int) -> None:
        with torch.no_grad():
            frames = torch.rand(size, 3, model.config.size, model.config.size, device=model.num_stored.device)
            maps = model.features(frames)
            kernels = model.kernels(model.draw(size))
        self.pairs = [
            (m.clone().requires_grad_(), k.clone()[None].requires_grad_()) for m, k in zip(maps, kernels, strict=True)
        ]

    def __call__(self) -> None:
        for maps, kernels in self.pairs:
            cross_convolve(maps, kernels).sum().backward()  # type: ignore[no-untyped-call]
            maps.grad = kernels.grad = None


if __name__ == "__main__":
    run_script(run, __doc__)
