"""Seconds and memory of PSNR and SSIM on 10,000 frames of 64x64 RGB.

    python -m benchmarks.metrics

The floor is that of SSIM's window alone: its multiply-adds in float64, eleven an axis on four maps, at the speed of one
torch operation on data that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.ceiling import beside, median_seconds, times
from benchmarks.row import Row, Settings, peak_memory, run_script
from framecast.metrics.frames import WINDOW, psnr, ssim

#: Goals: seconds, and memory beyond the frames themselves.
GOAL_SECONDS, GOAL_MB = 4.0, 100.0
_MAPS, _CACHED = 4, 2**15


def run(settings: Settings) -> Iterator[Row]:
    """Seconds, then memory."""
    frames, side, device = 20 if settings.tiny else 10_000, 64, torch.device("cpu")
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand((frames, 3, side, side), generator=generator)
    prediction = truth.add(torch.randn(truth.shape, generator=generator), alpha=0.05).clamp_(0, 1)

    def score() -> tuple[float, float]:
        return float(psnr(prediction, truth).mean()), float(ssim(prediction, truth).mean())

    psnr(prediction[:10], truth[:10]), ssim(prediction[:10], truth[:10])  # what is set up once is not growth
    (decibels, similarity), grown, highest = peak_memory(score)
    inside = side - WINDOW + 1
    multiply_adds = frames * 3 * _MAPS * WINDOW * (side * inside + inside * inside)

    def measure() -> tuple[float, float]:
        return median_seconds(score, settings.repeats(3), device), _multiply_adds_per_second()

    (seconds, speed), machine = beside(measure, device, settings.tiny)
    yield Row(
        name=f"PSNR and SSIM of {frames:,} frames of {side}x{side} RGB",
        figure=seconds,
        unit="s",
        ceiling=multiply_adds / speed,
        against="SSIM's window, float64 multiply-adds in the cache",
        machine=machine,
        device=device,
        precision="fp64",
        flops=2.0 * multiply_adds,
        goal=GOAL_SECONDS,
        goal_is="figure",
        details={"mean_psnr_db": decibels, "mean_ssim": similarity, "multiply_adds_per_second": speed},
    )
    yield Row(
        name=f"memory growth of PSNR and SSIM of {frames:,} frames of {side}x{side} RGB",
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
    """Of `out += a * x` in float64 on arrays that fit a cache."""
    out, x = torch.zeros(_CACHED, dtype=torch.float64), torch.ones(_CACHED, dtype=torch.float64)
    rounds = 100

    def work() -> None:
        for _ in range(rounds):
            out.add_(x, alpha=0.5)

    return rounds * _CACHED / min(times(work, 7, torch.device("cpu")))


if __name__ == "__main__":
    run_script(run, __doc__)
