"""Image pyramids: their sizes, and the resizer shared by inputs, targets and predictions.

One resizer everywhere, because a discriminator could tell real from predicted images by different resizers.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from framecast.core.errors import UserError

Size = tuple[int, int]


def pyramid_sizes(height: int, width: int, num_scales: int) -> list[Size]:
    """Image sizes from coarse to fine: floor(dim / 2^k), k = num_scales - 1 … 0, always of the original dims.

    Args:
        height: pixels of the finest image.
        width: pixels of the finest image.
        num_scales: at least 1; 4 gives /8, /4, /2, /1.

    Raises:
        UserError: if the coarsest image would have no pixel.
    """
    least = 2 ** (num_scales - 1)
    if min(height, width) < least:
        raise UserError(
            f"frames of {height}x{width} are too small for {num_scales} scales, which need at least {least}x{least} "
            "pixels; use larger frames or fewer scales"
        )
    return [(height // 2**k, width // 2**k) for k in reversed(range(num_scales))]


def shrink(x: Tensor, size: Size) -> Tensor:
    """The images at a smaller size, every pixel the average of the area it covers.

    Args:
        x: float (b, c, h, w).
        size: (h, w), at most that of `x`.

    Returns:
        (b, c, *size); `x` itself at its own size.
    """
    h, w = x.shape[-2:]
    if (h, w) == tuple(size):
        return x
    if size[0] > h or size[1] > w:
        raise ValueError(f"shrink cannot enlarge {h}x{w} to {size[0]}x{size[1]}; use enlarge")
    if h % size[0] == 0 and w % size[1] == 0:  # integer ratios: the same averages, by the faster kernel
        return F.avg_pool2d(x, (h // size[0], w // size[1]))
    return F.adaptive_avg_pool2d(x, size)


def enlarge(x: Tensor, size: Size) -> Tensor:
    """The images at a larger size, bilinear with half-pixel centres.

    Args:
        x: float (b, c, h, w).
        size: (h, w), at least that of `x`.

    Returns:
        (b, c, *size); `x` itself at its own size.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def pyramid(x: Tensor, num_scales: int) -> list[Tensor]:
    """The images at every scale, coarse to fine; the last is `x` itself.

    Args:
        x: float (b, c, h, w).

    Returns:
        `num_scales` tensors (b, c, *size), each shrunk straight from `x`.
    """
    return [shrink(x, size) for size in pyramid_sizes(x.shape[-2], x.shape[-1], num_scales)]
