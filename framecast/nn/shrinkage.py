"""Shrinkage of forecasts towards the last frame: the share of the predicted change that has the least squared error."""

from __future__ import annotations

import torch
from torch import Tensor

#: Clips whose changes come as predicted that `shrinkage` adds to those given.
PRIOR_CLIPS = 2


def change_sums(forecast: Tensor, truth: Tensor, last: Tensor) -> Tensor:
    """Sums over the pixels of p t, p p and t t, for predicted changes p and true changes t from the last frame.

    Args:
        forecast: (b, n, c, h, w) in 0…1.
        truth: (b, n, c, h, w) in 0…1.
        last: last context frame, (b, 1, c, h, w).

    Returns:
        float64 (3, b, n).
    """
    predicted, true = (forecast - last).double(), (truth - last).double()
    products = predicted * true, predicted.square_(), true.square_()
    return torch.stack([product.sum((2, 3, 4)) for product in products])


def shrinkage(sums: Tensor) -> Tensor:
    """Share, in 0…1, of the predicted change that has the least squared error at each lead time.

    It is sum(p t) / sum(p p): below 1 where changes are predicted that mostly do not come. `PRIOR_CLIPS` clips that
    change as predicted are added to those given, so that few clips do not decide alone.

    Args:
        sums: of `change_sums`, (3, b, n).

    Returns:
        float64 (n,).

    Source: least-squares linear calibration of forecasts, e.g. Theil, "Applied Economic Forecasting", 1966.
    """
    both, own, _ = sums.sum(1)
    trusted = PRIOR_CLIPS * own / max(sums.shape[1], 1)
    return torch.where(own > 0, (both + trusted) / (own + trusted).clamp_min(1e-30), 1.0).clamp(0, 1)


def shrunk_errors(sums: Tensor) -> Tensor:
    """Squared error of each clip at each lead time, scaled by the shares of the other clips (leave one out).

    Args:
        sums: of `change_sums`, (3, b, n).

    Returns:
        Sums over the pixels, float64 (b, n).
    """
    others = [torch.cat([sums[:, :i], sums[:, i + 1 :]], 1) for i in range(sums.shape[1])]
    shares = torch.stack([shrinkage(each) for each in others])
    both, own, true = sums.unbind(0)
    return shares.square() * own - 2 * shares * both + true
