"""Colours of frames: rotation of the hue, and grey in three equal channels."""

from __future__ import annotations

import torch
from torch import Tensor

from framecast.nn.constants import constant
from framecast.nn.precision import full_precision

#: Weights of red, green and blue in the luminance (ITU-R BT.601).
LUMINANCE = (0.299, 0.587, 0.114)


@full_precision
def shift_hue(frames: Tensor, turns: Tensor) -> Tensor:
    """The frames with rotated hue; brightness (HSV value) and saturation are kept.

    Args:
        frames: float (b, ..., 3, h, w) in 0…1.
        turns: (b,), one per clip; 1 is once around the colour circle, so red becomes green at 1/3.

    Returns:
        The same shape.
    """
    red, green, blue = frames.unbind(-3)
    high, low = frames.amax(-3), frames.amin(-3)
    chroma = high - low
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    hue = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue + 6 * turns.to(frames.dtype).reshape(-1, *[1] * (hue.ndim - 1))
    # Each channel is the highest value less chroma times a trapezoid of the hue.
    channels = []
    for offset in (5, 3, 1):
        k = torch.remainder(hue + offset, 6)
        channels.append(high - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, -3)


def to_grey(frames: Tensor) -> Tensor:
    """The luminance of (..., 3, h, w), in all three channels."""
    weights = constant(LUMINANCE, frames)[:, None, None]
    return (frames * weights).sum(-3, keepdim=True).expand_as(frames)
