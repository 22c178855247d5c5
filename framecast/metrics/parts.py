"""What the scores of a forecast are made of, one number per clip and frame, from one pass over the frames.

The squared error splits exactly in two: the part where the truth moved (the moving area) and the part where it stood
still, which is false motion. Sharpness is compared within the moving area of truth or forecast, since over the whole
frame the still background hides a blurred object.
"""

from __future__ import annotations

import torch
from torch import Tensor

from framecast.metrics.frames import by_block, edges, moving_mask

#: Names of the numbers, in the order that `_block` returns them.
PARTS = (
    *("mse", "mae", "moving_mse", "moving_mae", "still_mse", "still_mae"),
    *("area_sharpness", "true_area_sharpness", "sharpness", "true_sharpness", "mean", "variance"),
)


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
    area = mask | moving_mask(prediction, last_context[:, None], threshold, dilate)
    found = by_block(_block, prediction, truth, mask.unsqueeze(-3), area.unsqueeze(-3), columns=len(PARTS))
    return dict(zip(PARTS, found.unbind(-1), strict=True))


def _block(x: Tensor, y: Tensor, mask: Tensor, area: Tensor) -> Tensor:
    """PARTS of a block of frames, (n, c, h, w), with masks (n, 1, h, w): (n, len(PARTS))."""
    moves, values = mask.flatten(1), x.shape[-3:].numel()
    moving_values = x.shape[-3] * moves.sum(1)
    difference, each = x - y, []
    for error in (difference.square(), difference.abs_()):
        total = error.sum(-3).flatten(1)
        moving, still = (total * moves).sum(1), (total * (1 - moves)).sum(1)
        each.append(((moving + still) / values, moving / moving_values, still / values))  # NaN of an empty mask: 0 / 0
    errors = [part for pair in zip(*each, strict=True) for part in pair]
    if min(x.shape[-2:]) < 2:
        nothing = torch.full_like(errors[0], torch.nan)
        sharp = [nothing] * 4
    else:
        both, inside = [edges(frames, "crop").sum(-3) for frames in (x, y)], area[:, 0, :-1, :-1]
        sharp = [(e * inside).sum((-2, -1)) for e in both]
        sharp += [e.mean((-2, -1)) / x.shape[-3] for e in both]
    variance, mean = torch.var_mean(x, (-3, -2, -1), correction=0)
    return torch.stack([*errors, *sharp, mean, variance], -1)
