"""Seconds of one predicted frame of 210x160 at paper widths, and frames per second when `small` rolls out.

python -m benchmarks.full_frame
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.row import Row, Settings, against_gemm, run_script
from benchmarks.training_step import precisions
from framecast.core.types import ClipSpec
from framecast.models.multiscale_gan.config import PROFILES
from framecast.models.multiscale_gan.predictor import MultiscaleGAN
from framecast.models.rollout import rollout
from framecast.nn.precision import resolve_precision

HEIGHT, WIDTH = 210, 160
#: Goal for paper widths on a CPU, as a multiple of the floor: 0.68 s of 0.649 s, the floor of 610 GFLOP at 940
#: GFLOP/s, where the published code took 1.34 s.
GOAL = 0.68 / (610 / 940)


def run(settings: Settings) -> Iterator[Row]:
    """One frame at paper widths, then a roll-out of `small`."""
    for precision in precisions(settings.device):
        yield _row(settings, "tiny" if settings.tiny else "default", 1, precision)
    for precision in precisions(settings.device):
        yield _row(settings, "tiny" if settings.tiny else "small", 2 if settings.tiny else 16, precision)


def _row(settings: Settings, profile: str, horizon: int, precision: str) -> Row:
    torch.manual_seed(0)
    height, width = (42, 32) if settings.tiny else (HEIGHT, WIDTH)
    model = MultiscaleGAN(PROFILES[profile](), ClipSpec(channels=3, height=height, width=width))
    model.to(settings.device).requires_grad_(False)
    context = torch.rand(1, model.num_context, 3, height, width, device=settings.device)

    def predict() -> None:
        rollout(model, context, horizon, precision=precision)

    single = horizon == 1
    own = resolve_precision("auto", settings.device)  # a slower machine is held to the same ratio
    return against_gemm(
        settings,
        f"{height}x{width} frame, paper widths"
        if single
        else f"roll-out of {horizon} frames of {height}x{width}, small",
        predict,
        frames=0 if single else horizon,
        precision=precision,
        warm_up=2,
        goal=GOAL if single and precision == own and settings.device.type == "cpu" else None,
        details=lambda seconds, flops: {"gflops_reached": flops / seconds / 1e9},
    )


if __name__ == "__main__":
    run_script(run, __doc__)
