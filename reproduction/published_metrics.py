"""Metrics as published code computes them, for comparison with its numbers. Frames in -1…1; see also `frames.py`.

Two systems of multi-scale adversarial prediction are in circulation and disagree: the authors' own Torch scripts
("official": Mathieu, Couprie, LeCun 2016) and the TensorFlow one for Ms. Pac-Man ("dyelax", named after its author).
Neither is comparable with the other, nor with PSNR on 0…1, without the offsets given here.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from framecast.core.errors import UserError
from framecast.metrics import frames

#: Standard PSNR of the same images (peak 2, the range) minus `dyelax_psnr` (peak 1): 20 log10(2) dB.
DYELAX_PSNR_OFFSET_DB = 20 * math.log10(2)
#: `frames.sharp_diff` on 0…1 minus `dyelax_sharp_diff` of the same images: 10 log10(2) dB, the error being linear.
DYELAX_SHARP_DIFF_OFFSET_DB = 10 * math.log10(2)
#: Error below which the official script stops, in squared (or plain) grey levels.
OFFICIAL_FLOOR = 1e-4
#: The official script leaves clips at or above this PSNR out of all its averages.
OFFICIAL_DROP_DB = 50.0


def dyelax_psnr(prediction: Tensor, truth: Tensor) -> Tensor:
    """10 log10(1 / mean squared error) of frames in -1…1: peak 1 although the range is 2; at most 100 here.

    Args:
        prediction: float (…, c, h, w) in -1…1.
        truth: float (…, c, h, w) in -1…1.

    Returns:
        float64 (…), dB.
    """
    return frames.psnr(prediction, truth)


def dyelax_sharp_diff(prediction: Tensor, truth: Tensor) -> Tensor:
    """Sharpness difference of frames in -1…1, zeros beyond the right and bottom border; at most 100 here.

    Args:
        prediction: float (…, c, h, w) in -1…1.
        truth: float (…, c, h, w) in -1…1.

    Returns:
        float64 (…), dB.
    """
    return frames.sharp_diff(prediction, truth, border="zero")


def official_psnr(prediction: Tensor, truth: Tensor) -> Tensor:
    """10 log10(255^2 / max(128^2 mse, 1e-4)): 88.13 dB for identical images.

    Half the range is taken as 128 grey levels but the peak as 255, so it is 0.034 dB below the standard value.

    Args:
        prediction: float (…, c, h, w) in -1…1.
        truth: float (…, c, h, w) in -1…1.

    Returns:
        float64 (…), dB.
    """
    return _official_decibels(128**2 * frames.mse(prediction, truth))


def official_sharpness(prediction: Tensor, truth: Tensor) -> Tensor:
    """Sharpness difference with differences per direction: ||dx G| - |dx Y|| + ||dy G| - |dy Y||, then as for PSNR.

    dx[x] = v[x] - v[x - 1], likewise dy; the mean is a sum over the interior (a border of one pixel dropped) divided by
    the pixels of the whole image. The paper's formula takes the difference of the sums instead.

    Args:
        prediction: float (…, c, h, w) in -1…1, at least 3x3.
        truth: float (…, c, h, w) in -1…1, at least 3x3.

    Returns:
        float64 (…), dB, at most 88.13.
    """
    if min(prediction.shape[-2:]) < 3:
        raise UserError(f"official_sharpness needs frames of at least 3x3, got {tuple(prediction.shape[-2:])}")
    x, y = prediction.double(), truth.double()
    error = torch.zeros(x.shape[:-3], dtype=torch.float64, device=x.device)
    for axis in (-1, -2):
        edges = [(v - v.roll(1, axis)).abs()[..., 1:-1, 1:-1] for v in (x, y)]
        error += (edges[0] - edges[1]).abs().sum((-3, -2, -1))
    return _official_decibels(128**2 * error / x.shape[-3:].numel())


def official_ssim(prediction: Tensor, truth: Tensor) -> Tensor:
    """SSIM on luminance over the *full* convolution: zeros beyond the border count, so values run high.

    Args:
        prediction: float (…, c, h, w) in -1…1; three channels become 0.299 R + 0.587 G + 0.114 B, else the first.
        truth: Likewise.

    Returns:
        float64 (…).
    """
    x, y = (_luminance((v.double() + 1) / 2) for v in (prediction, truth))
    side = frames.WINDOW - 1
    return frames.ssim(*(F.pad(v, (side, side, side, side)) for v in (x, y)))


def official_moving(image: Tensor, moving: Tensor) -> Tensor:
    """The image with every pixel that does not move set to -1: still pixels of both images then count as no error.

    To be applied to prediction and truth alike before any of the `official_*` measures.

    Args:
        image: float (…, c, h, w) in -1…1.
        moving: bool (…, h, w); the script derives it from a colour-coded flow image.

    Returns:
        As `image`.
    """
    return torch.where(moving.unsqueeze(-3), image, -1.0)


def official_average(values: Tensor, psnr: Tensor) -> tuple[float, int]:
    """Mean of `values` over the clips whose official PSNR is below 50 dB, and how many clips were dropped.

    Args:
        values: (clips,), a metric.
        psnr: (clips,), official PSNR in dB.

    Returns:
        (mean, dropped); the mean is NaN if every clip was dropped.
    """
    kept = values.double()[psnr < OFFICIAL_DROP_DB]
    return float(kept.mean()), len(values) - len(kept)


def _official_decibels(error: Tensor) -> Tensor:
    return 10 * torch.log10(255**2 / error.clamp_min(OFFICIAL_FLOOR))


def _luminance(x: Tensor) -> Tensor:
    if x.shape[-3] != 3:
        return x[..., :1, :, :]
    weights = x.new_tensor([0.299, 0.587, 0.114])
    return (x * weights[:, None, None]).sum(-3, keepdim=True)
