"""Scores of several samples as one probabilistic forecast: CRPS, energy score, spread-skill ratio.

Estimators are the fair ones: their expectation does not depend on the number of samples.

Source: Gneiting and Raftery 2007, section 4.2 and 4.3; Ferro 2014 (fair estimators); Fortin et al. 2014 (spread and
skill).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from framecast.core.errors import UserError

#: Standard deviations on each side of the mean that hold 90 % of a normal distribution.
NORMAL_HALF = 1.6448536
#: Numbers per clip and frame that `ensemble_parts` returns.
ENSEMBLE_PARTS = ("crps", "energy", "ensemble_variance", "ensemble_mse")


def ensemble_parts(samples: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Scores of the samples of each clip and frame.

    Args:
        samples: float (s, b, horizon, c, h, w) in 0…1, s at least 2.
        truth: float (b, horizon, c, h, w) in 0…1.

    Returns:
        Name of ENSEMBLE_PARTS -> float64 (b, horizon):

        - crps: mean over pixels of the continuous ranked probability score; the absolute error for equal samples.
        - energy: energy score of the whole frame with the root-mean-square distance.
        - ensemble_variance: variance over samples (divisor s - 1), mean over pixels.
        - ensemble_mse: squared error of the mean over samples.

    Raises:
        UserError: For a single sample.
    """
    count = len(samples)
    if count < 2:
        raise UserError("CRPS, energy score and spread need at least 2 samples, got 1")
    out = {name: torch.empty(truth.shape[:2], dtype=torch.float64, device=truth.device) for name in ENSEMBLE_PARTS}
    weights = 2 * torch.arange(count, device=truth.device, dtype=torch.float64) - (count - 1)
    for i, j in ((i, j) for i in range(truth.shape[0]) for j in range(truth.shape[1])):  # one frame in float64 at once
        x, y = samples[:, i, j].double().flatten(1), truth[i, j].double().flatten()
        # of sorted samples the sum of all differences between pairs is one weighted sum
        between = weights @ x.sort(0).values / (count * (count - 1))
        out["crps"][i, j] = ((x - y).abs().mean(0) - between).mean()
        # not by matrix products, whose rounding error is that of the squares
        distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sum() / (2 * count * (count - 1))
        out["energy"][i, j] = (x - y).square().mean(1).sqrt().mean() - distances / math.sqrt(x.shape[1])
        out["ensemble_variance"][i, j] = x.var(0).mean()
        out["ensemble_mse"][i, j] = (x.mean(0) - y).square().mean()
    return out


def sample_interval(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds between which 90 % of the true values are expected, of a normal distribution with the samples' mean and
    standard deviation.

    Args:
        samples: float (s, …) in 0…1, s at least 2.

    Returns:
        Lower and upper bound, (…) each, in 0…1.

    Raises:
        UserError: For a single sample.
    """
    if len(samples) < 2:
        raise UserError("an interval of samples needs at least 2 samples, got 1")
    mean, half = samples.mean(0), NORMAL_HALF * samples.std(0)
    return (mean - half).clamp(0, 1), (mean + half).clamp(0, 1)


def spread_skill(variance: Tensor, error: Tensor, samples: int) -> Tensor:
    """Spread of the samples over the error of their mean, pooled over clips: 1 for samples as uncertain as they err.

    Args:
        variance: "ensemble_variance", (clips, horizon).
        error: "ensemble_mse", (clips, horizon).
        samples: Number of samples; the factor (s + 1) / s corrects for the mean of few.

    Returns:
        float64 (horizon,), below 1 too certain, above 1 too uncertain; NaN without any error.
    """
    below = error.sum(0)
    ratio = (variance.sum(0) * (samples + 1) / samples / below).sqrt()
    return torch.where(below > 0, ratio, torch.nan)
