"""What `direct` computes once per clip."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Context:
    """The encoded context of clips.

    Attributes:
        sources: (b, s, c, h, w) float32 at the frame's size: last frames, newest first, then the mean.
        maps: three maps of the encoder.
        flow: (b, 4, h', w') velocities of `Hindcast` at the working size, or None.
        logs: logarithms of `Hindcast`, (b, n).
        size: working size (h', w').
    """

    sources: Tensor
    maps: tuple[Tensor, Tensor, Tensor]
    flow: Tensor | None
    logs: Tensor
    size: tuple[int, int]


def concatenated(parts: list[Tensor], axis: int) -> Tensor:
    """The parts as one tensor, a single one as it is: forecasts of large frames are not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)
