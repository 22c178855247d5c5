"""Metrics of long forecasts without truth: motion, colours, and position of a single bright object.

Frames are float (…, t, c, h, w) in 0…1; figures are float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Least reverse motion in px that counts as a turn; less is jitter.
TURN = 8.0


def change(frames: Tensor) -> Tensor:
    """Mean absolute difference from frame to frame, (…); 0 for a still video."""
    frames = frames.double()
    return (frames[..., 1:, :, :, :] - frames[..., :-1, :, :, :]).abs().mean((-4, -3, -2, -1))


@dataclass(frozen=True)
class Spot:
    """The bright object of each frame.

    Attributes:
        area: Pixels, (…, t).
        centre: x, y of its centre of mass, px, 0 at the first pixel, (…, t, 2); NaN where nothing is bright.
        brightness: Mean of its pixels, (…, t).
    """

    area: Tensor
    centre: Tensor
    brightness: Tensor


def spot(frames: Tensor, threshold: float = 0.5) -> Spot:
    """The pixels of a frame whose brightest channel is above `threshold`, as one object."""
    light = frames.double().amax(-3)
    inside = light > threshold
    area = inside.sum((-2, -1))
    y = torch.arange(light.shape[-2], dtype=torch.float64, device=light.device)
    x = torch.arange(light.shape[-1], dtype=torch.float64, device=light.device)
    weight = light * inside
    mass = weight.sum((-2, -1))
    seen = mass.where(mass > 0, torch.nan)
    centre = torch.stack([(weight.sum(-2) * x).sum(-1) / seen, (weight.sum(-1) * y).sum(-1) / seen], -1)
    return Spot(area, centre, mass / area.where(area > 0, torch.nan))


def turns(positions: Tensor, least: float = TURN) -> int:
    """Number of reversals: motion of at least `least` px against the previous direction.

    Args:
        positions: (t,) px.
    """
    values = [float(p) for p in positions if torch.isfinite(p)]
    if not values:
        return 0
    count, direction, extreme = 0, 0, values[0]
    for p in values[1:]:
        if direction == 0:
            if abs(p - extreme) >= least:
                direction, extreme = (1 if p > extreme else -1), p
        elif (p - extreme) * direction > 0:
            extreme = p
        elif (extreme - p) * direction >= least:
            count, direction, extreme = count + 1, -direction, p
    return count


def colour_histogram(frames: Tensor, bins: int = 8) -> Tensor:
    """Share of pixels in each of bins^c colours over all frames, (bins^c,), sums to 1."""
    levels = (frames.clamp(0, 1) * bins).long().clamp(max=bins - 1)
    index = torch.zeros_like(levels.select(-3, 0))
    for channel in range(frames.shape[-3]):
        index = index * bins + levels.select(-3, channel)
    counts = torch.bincount(index.flatten().cpu(), minlength=bins ** frames.shape[-3]).double()
    return counts / counts.sum()


def histogram_distance(a: Tensor, b: Tensor, bins: int = 8) -> float:
    """Share of pixels whose colour would have to change to give both videos one histogram, 0 (alike) to 1."""
    return float((colour_histogram(a, bins) - colour_histogram(b, bins)).abs().sum() / 2)
