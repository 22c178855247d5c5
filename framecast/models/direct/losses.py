"""Losses of `direct`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def main_loss(kind: str, floor: float, squared: Tensor, copied: Tensor, error: Tensor) -> Tensor:
    """Loss of the mean.

    Args:
        kind: as `DirectConfig.loss`.
        floor: as `DirectConfig.relative_floor`.
        squared: mean squared error of each block, (m,).
        copied: that of the last frame repeated, (m,).
        error: forecast minus truth, any shape.

    Returns:
        A number.
    """
    if kind == "relative":
        return (squared / (copied + floor)).mean()
    if kind == "l2":
        return 10 * squared.mean()
    if kind == "log":
        return (squared + 1e-6).log().mean()
    return (error.square() + 1e-6).sqrt().mean()


def bounds_loss(coverage: float, mean: Tensor, bounds: Tensor, truth: Tensor, last: Tensor) -> Tensor:
    """Pinball loss of both bounds, over the moving area: still pixels are far more and would hide it.

    Args:
        coverage: share of true values between the bounds, in 0…1.
        mean: (m, n, c, h, w) in 0…1.
        bounds: distances of lower and upper bound from the mean, (m, n, 2, h, w).
        truth: (m, n, c, h, w) in 0…1.
        last: last frame, (m, 1, c, h, w) in 0…1.

    Returns:
        A number.
    """
    tail = (1 - coverage) / 2
    moved = ((truth - last).abs().amax(2) > 0.02).float()  # (m, n, h, w)
    weight = functional.max_pool2d(moved, 7, 1, 3).unsqueeze(2) + 0.01
    loss = torch.zeros((), device=mean.device)
    for bound, sign in zip(bounds.unbind(2), (-1, 1), strict=True):
        over = sign * (truth - mean) - bound.unsqueeze(2)  # above the bound, positive
        loss = loss + (weight * torch.maximum((1 - tail) * over, -tail * over)).mean() / weight.mean()
    return loss
