"""What the scores of a forecast are made of, one number per clip and frame, from one pass over the frames.

The squared error splits exactly in two: the part where the truth moved (the moving area) and the part where it stood
still, which is false motion. Sharpness is compared within the moving area of truth or forecast, since over the whole
frame the still background hides a blurred object.
"""

from __future__ import annotations

import torch
from torch import Tensor

from framecast.metrics.frames import by_block, edges, moving_mask

#: Names of the numbers: errors in float64, and what guards against blur and instability in float32.
ERRORS = ("mse", "mae", "moving_mse", "moving_mae", "still_mse", "still_mae")
GUARDS = ("area_sharpness", "true_area_sharpness", "sharpness", "true_sharpness", "mean", "variance")
PARTS = (*ERRORS, *GUARDS)


def frame_parts(
    prediction: Tensor,
    truth: Tensor,
    last_context: Tensor,
    mask: Tensor,
    threshold: float = 0.02,
    dilate: int = 3,
) -> dict[str, Tensor]:
    """Errors, their parts, and sharpness of every frame.

    Args:
        prediction: float (b, horizon, c, h, w) in 0…1.
        truth: float (b, horizon, c, h, w) in 0…1.
        last_context: float (b, c, h, w) in 0…1.
        mask: Moving area of the truth, bool (b, horizon, h, w).
        threshold: Of the moving area of the forecast, see `frames.moving_mask`.
        dilate: Likewise.

    Returns:
        Name of PARTS -> float64 (b, horizon):

        - mse, mae: over the whole frame.
        - moving_mse, moving_mae: averaged over the moving area; NaN where it is empty.
        - still_mse, still_mae: error outside the moving area, divided by all pixels of the frame, so that still_mse is
          a part of mse.
        - area_sharpness, true_area_sharpness: sums of |dx| + |dy| of forecast and truth within the moving area of truth
          or forecast.
        - sharpness, true_sharpness: means of |dx| + |dy| over the frame; NaN for frames with a side of one pixel.
        - mean, variance: of the forecast's values.
    """
    area = moving_mask(prediction, last_context[:, None], threshold, dilate).logical_or_(mask)
    errors = by_block(_errors, prediction, truth, mask.unsqueeze(-3), columns=len(ERRORS))
    guards = by_block(_guards, prediction, truth, area.unsqueeze(-3), columns=len(GUARDS), dtype=torch.float32)
    return dict(zip(PARTS, torch.cat([errors, guards], -1).unbind(-1), strict=True))


def _errors(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """ERRORS of a block of frames, (n, c, h, w), with masks (n, 1, h, w): (n, 6)."""
    values, moving_values = x.shape[-3:].numel(), x.shape[-3] * mask.sum((-3, -2, -1))
    moves = torch.cat([mask, 1 - mask], 1)
    difference, each = x - y, []
    for error in (difference.square(), difference.abs_()):
        moving, still = _weighted(error, moves)
        each.append(((moving + still) / values, moving / moving_values, still / values))  # NaN of an empty mask: 0 / 0
    return torch.stack([part for pair in zip(*each, strict=True) for part in pair], -1)


def _guards(x: Tensor, y: Tensor, area: Tensor) -> Tensor:
    """GUARDS of a block of frames, as for `_errors`; float32 is enough for ratios and limits: (n, 6)."""
    values, mean = x.shape[-3:].numel(), x.mean((-3, -2, -1))
    if min(x.shape[-2:]) < 2:
        sharp = [torch.full_like(mean, torch.nan)] * 4
    else:
        inside = torch.cat([area, torch.ones_like(area)], 1)[..., :-1, :-1]
        count = inside[0, 0].numel() * x.shape[-3]
        (own, own_whole), (true, true_whole) = (_weighted(edges(frames, "crop"), inside) for frames in (x, y))
        sharp = [own, true, own_whole / count, true_whole / count]
    variance = torch.linalg.vector_norm(x, dim=(-3, -2, -1)).square() / values - mean.square()
    return torch.stack([*sharp, mean, variance.clamp_min(0)], -1)


def _weighted(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of (n, c, h, w) over all values, weighted by each of two maps (n, 2, h, w), in one pass."""
    return (x.flatten(2) @ weights.flatten(2).mT).sum(1).unbind(-1)  # type: ignore[return-value]
