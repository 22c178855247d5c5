"""Random augmentation of training clips."""

from __future__ import annotations

import torch
from torch import Tensor


def augment(clips: Tensor) -> Tensor:
    """The clips with random mirroring, transposition, time reversal and exchange of colours.

    Args:
        clips: (b, t, c, h, w); only square ones are transposed. Every clip is augmented independently, by torch's
            global random state; all its frames alike.
    """
    b, _, c, h, w = clips.shape

    def half() -> Tensor:
        return (torch.rand(b, device=clips.device) < 0.5).view(b, 1, 1, 1, 1)

    for axis in (-1, -2, 1):  # right and left, up and down, forwards and backwards
        clips = torch.where(half(), clips.flip(axis), clips)
    if h == w:
        clips = torch.where(half(), clips.transpose(-1, -2), clips)
    order = torch.rand(b, c, device=clips.device).argsort(1)
    return clips.gather(2, order.view(b, 1, c, 1, 1).expand_as(clips))
