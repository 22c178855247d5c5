"""Seconds and memory of scoring 10,000 frames of 64x64 RGB: MSE, PSNR, SSIM and the parts that skill is made of.

    python -m benchmarks.metrics

The floor is that of SSIM's window alone: products with banded matrices on four maps, at the speed of a float64 matrix
product.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.ceiling import beside, median_seconds, times
from benchmarks.memory import peak_memory
from benchmarks.row import Row, Settings, run_script
from framecast.metrics.clips import MetricSettings, measure, parts_of
from framecast.metrics.frames import WINDOW

#: Goals: seconds, and memory beyond the frames themselves.
GOAL_SECONDS, GOAL_MB = 4.0, 100.0
_MAPS, _SIDE = 4, 512


def run(settings: Settings) -> Iterator[Row]:
    """Seconds, then memory."""
    frames, side, device = 20 if settings.tiny else 10_000, 64, torch.device("cpu")
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand((frames, 3, side, side), generator=generator)
    prediction = truth.add(torch.randn(truth.shape, generator=generator), alpha=0.05).clamp_(0, 1)

    names = MetricSettings(names=("mse", "psnr", "ssim"))
    last = truth[:1]  # of one clip that holds all frames
    forecast, real = prediction[None], truth[None]

    def score() -> tuple[float, float]:
        parts = parts_of(forecast, real, last, names)
        found = measure(forecast, real, last, names, parts=parts)
        return float(found["psnr"].mean()), float(found["ssim"].mean())

    few = forecast[:, :10], real[:, :10], last, names
    measure(*few, parts=parts_of(*few))  # what is set up once is not growth
    (decibels, similarity), grown, highest = peak_memory(score)
    inside = side - WINDOW + 1
    multiply_adds = frames * 3 * _MAPS * side * inside * (side + inside)

    def both() -> tuple[float, float]:
        return median_seconds(score, settings.repeats(3), device), _multiply_adds_per_second()

    (seconds, speed), machine = beside(both, device, settings.tiny)
    yield Row(
        name=f"scores of {frames:,} frames of {side}x{side} RGB: MSE, PSNR, SSIM, parts of skill",
        figure=seconds,
        unit="s",
        ceiling=multiply_adds / speed,
        against="SSIM's window as float64 matrix products",
        machine=machine,
        device=device,
        precision="fp64",
        flops=2.0 * multiply_adds,
        goal=GOAL_SECONDS,
        goal_is="figure",
        details={"mean_psnr_db": decibels, "mean_ssim": similarity, "multiply_adds_per_second": speed},
    )
    yield Row(
        name=f"memory growth of these scores of {frames:,} frames of {side}x{side} RGB",
        figure=grown,
        unit="MB",
        ceiling=2 * truth.nbytes / 1e6,
        against="the frames themselves, float32, prediction and truth",
        machine=machine,
        device=device,
        goal=GOAL_MB,
        goal_is="figure",
        details={"highest_mb": highest},
    )


def _multiply_adds_per_second() -> float:
    """Of a float64 matrix product."""
    a = torch.rand(_SIDE, _SIDE, dtype=torch.float64)
    return _SIDE**3 / min(times(lambda: a @ a, 7, torch.device("cpu")))


if __name__ == "__main__":
    run_script(run, __doc__)
