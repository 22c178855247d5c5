"""Random-feature MMD (`rf-mmd`): distance between the set of forecasts and the set of real clips.

The features are those of a fixed random network: no training, no weights file, the same numbers on every machine.

1. The first `FRAMES` frames of a clip, RGB, resized to 64x64 by the triangle filter, on the scale -1…1.
2. Three 3-D convolutions with ReLU, zero padding of half the kernel: 32 filters of 3x5x5 (t x h x w) at stride 2x2x2,
   64 of 3x3x3 at 2x2x2, 128 of 3x3x3 at 1x2x2. Weights are N(0, 2 / fan-in) from NumPy's PCG64 with seed 20161, layer
   by layer in this order; the filters of the first layer have zero mean, so that they respond to edges and motion, not
   brightness. No biases.
3. Mean and standard deviation over time and space of every filter's output, and of the three colour channels: 454
numbers per clip.

The distance is the unbiased MMD^2 under a mixture of Gaussian kernels, on features scaled to the mean and standard
deviation that real clips have.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from framecast.core.errors import UserError

#: Frames used of a clip, side in px that they are resized to, features per clip.
FRAMES, SIDE, SIZE = 16, 64, 454
#: (inputs, filters, kernel, stride) of the convolutions.
LAYERS = ((3, 32, (3, 5, 5), (2, 2, 2)), (32, 64, (3, 3, 3), (2, 2, 2)), (64, 128, (3, 3, 3), (1, 2, 2)))
SEED = 20161
#: Widths of the kernels, times the median distance of real clips.
WIDTHS = (0.5, 1.0, 2.0)
_DRAWS = 500  # relabellings behind the floor's quantile


@lru_cache(maxsize=1)
def random_weights() -> tuple[Tensor, ...]:
    """The weights of the three convolutions, float32 (filters, inputs, t, h, w)."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    out = []
    for i, (inputs, filters, kernel, _) in enumerate(LAYERS):
        weight = rng.standard_normal((filters, inputs, *kernel)) * np.sqrt(2 / (inputs * np.prod(kernel)))
        if i == 0:
            weight -= weight.mean(axis=(1, 2, 3, 4), keepdims=True)
        out.append(torch.from_numpy(weight.astype(np.float32)))
    return tuple(out)


@torch.no_grad()
def random_features(frames: Tensor) -> Tensor:
    """Features of clips: (b, t, c, h, w) float 0…1 -> float64 (b, 454) on the CPU.

    Grey is repeated to three channels; of other counts the first three are taken.
    """
    x = as_three(frames[:, :FRAMES].float())
    b, t = x.shape[:2]
    if tuple(x.shape[-2:]) != (SIDE, SIDE):
        x = F.interpolate(x.flatten(0, 1), size=(SIDE, SIDE), mode="bilinear", antialias=True)
        x = x.reshape(b, t, 3, SIDE, SIDE)
    x = x.transpose(1, 2) * 2 - 1
    found = [*_moments(x)]
    for weight, (_, _, kernel, stride) in zip(random_weights(), LAYERS, strict=True):
        weight = weight.to(x.device)
        x = F.conv3d(x, weight, stride=stride, padding=tuple(k // 2 for k in kernel)).relu_()
        found += _moments(x)
    return torch.cat(found, 1).double().cpu()


def as_three(frames: Tensor) -> Tensor:
    """Frames (…, c, h, w) with three channels."""
    if frames.shape[-3] in (1, 2):
        return frames[..., :1, :, :].expand(*frames.shape[:-3], 3, *frames.shape[-2:])
    return frames[..., :3, :, :]


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over (t, h, w) of (b, c, t, h, w)."""
    return x.mean((2, 3, 4)), x.flatten(2).std(2, correction=0)


def mmd(made: Tensor, real: Tensor, groups: Sequence[Hashable] | None = None, scale: Tensor | None = None) -> float:
    """Unbiased MMD^2 between made and real clips: about 0 if they are alike, at most 2, a little below 0 by chance.

    Args:
        made: float64 (n, features) of forecasts.
        real: float64 (n, features) of as many real clips; row i of both may belong together (a forecast and its truth).
        groups: The video of every clip; with several videos, pairs of one video are left out, as they are dependent.
        scale: Features of real clips that set means, deviations and kernel width; None is `real`.

    Raises:
        UserError: With fewer than 2 clips.

    Source: Gretton et al. 2012, equation 4: the mean over pairs i ≠ j of h = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) -
    k(x_j, y_i).
    """
    h, pairs = _pairs(made, real, groups, real if scale is None else scale)
    return float((h * pairs).sum() / pairs.sum())


def mmd_floor(
    real: Tensor, other: Tensor, groups: Sequence[Hashable] | None = None, scale: Tensor | None = None
) -> tuple[float, float]:
    """Distance of real clips to other real clips: (MMD^2, 95 % quantile over relabellings).

    Args:
        real: float64 (n, features) of real clips. A forecast above the quantile differs significantly from them.
        other: float64 (n, features) of other real clips.
        groups: As for `mmd`.
        scale: As for `mmd`.
    """
    h, pairs = _pairs(other, real, groups, real if scale is None else scale)
    weighted = h * pairs / pairs.sum()
    signs = torch.from_numpy(np.random.default_rng(SEED).choice([-1.0, 1.0], size=(_DRAWS, len(h))))
    drawn = torch.einsum("di,ij,dj->d", signs, weighted, signs)
    return float(weighted.sum()), float(drawn.quantile(0.95))


def _pairs(made: Tensor, real: Tensor, groups: Sequence[Hashable] | None, scale: Tensor) -> tuple[Tensor, Tensor]:
    """h of every pair (n, n), and the weights of the pairs."""
    if made.shape != real.shape or len(real) < 2:
        raise UserError(f"rf-mmd needs as many made as real clips, at least 2, got {len(made)} and {len(real)}")
    mean, std = scale.mean(0), scale.std(0, correction=0)
    # A feature with almost no variance over real clips must not dominate.
    std = std.clamp_min(0.1 * float(std.mean()) + 1e-12)
    x, y, z = ((v - mean) / std for v in (made, real, scale))
    apart = torch.cdist(z, z)
    width = float(apart[~torch.eye(len(z), dtype=torch.bool)].median()) if len(z) > 1 else 1.0
    width = width or 1.0

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        squared = torch.cdist(a, b).square()
        return torch.stack([torch.exp(-squared / (2 * (w * width) ** 2)) for w in WIDTHS]).mean(0)

    cross = kernel(x, y)
    h = kernel(x, x) + kernel(y, y) - cross - cross.T
    pairs = ~torch.eye(len(x), dtype=torch.bool)
    if groups is not None and len(set(groups)) > 1:
        number = {g: i for i, g in enumerate(dict.fromkeys(groups))}
        ids = torch.tensor([number[g] for g in groups])
        pairs = ids[:, None] != ids[None]
    return h, pairs.double()
