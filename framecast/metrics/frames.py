"""Metrics of frames: one value per image, in float64.

Every function takes tensors (…, c, h, w) in 0…1 and keeps the leading axes. Nothing returned is infinite: decibels
stop at 100. NaN means "undefined" (no moving area, flat truth) and nothing else; averages must skip and count it, as
`metrics/averages.py` does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from framecast.core.errors import UserError

#: Decibels of an error of zero, and of any error below 1e-10.
CAP_DB = 100.0
#: SSIM's window: side and standard deviation in pixels, and the constants (K1 L)^2, (K2 L)^2 for frames in 0…1.
WINDOW, SIGMA, C1, C2 = 11, 1.5, 0.01**2, 0.03**2
#: MS-SSIM's exponents from the finest scale to the coarsest (Wang et al. 2003, section 3.2).
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: Pixels per block: the float64 maps of a block fit the cache of one core. A GPU needs larger blocks.
_BLOCK, _BLOCK_CUDA = 2**17, 2**24
#: Longest side in pixels for which a window is applied as a product with a banded matrix.
_DENSE = 256


# --------------------------------------------------------------------------------------------- pointwise errors


def mse(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error over channels and pixels.

    Args:
        prediction: float (…, c, h, w) in 0…1.
        truth: float (…, c, h, w) in 0…1.

    Returns:
        float64 (…).

    Raises:
        UserError: If the shapes differ.
    """
    return by_block(lambda x, y: (x - y).square_().mean((-3, -2, -1)), prediction, truth)


def mae(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error over channels and pixels.

    Args:
        prediction: float (…, c, h, w) in 0…1.
        truth: float (…, c, h, w) in 0…1.

    Returns:
        float64 (…).

    Raises:
        UserError: If the shapes differ.
    """
    return by_block(lambda x, y: (x - y).abs_().mean((-3, -2, -1)), prediction, truth)


def psnr(prediction: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, peak 1: 10 log10(1 / mse) of each image, at most 100.

    Args:
        prediction: float (…, c, h, w) in 0…1.
        truth: float (…, c, h, w) in 0…1.

    Returns:
        float64 (…).

    Raises:
        UserError: If the shapes differ.
    """
    return decibels(mse(prediction, truth))


def decibels(error: Tensor) -> Tensor:
    """10 log10(1 / error), at most 100 dB; NaN stays NaN."""
    return -10 * torch.log10(error.clamp_min(10 ** (-CAP_DB / 10)))


# --------------------------------------------------------------------------------------------------- structure


def ssim(prediction: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity, 1 for identical images: mean over the valid region, then over channels.

    An 11x11 Gaussian window of sigma 1.5, population covariances, data range 1, K1 0.01, K2 0.03; only where the whole
    window lies inside the image. This is scikit-image's structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1).

    Args:
        prediction: float (…, c, h, w) in 0…1, h and w at least 11.
        truth: float (…, c, h, w) in 0…1, h and w at least 11.

    Returns:
        float64 (…).

    Raises:
        UserError: If the shapes differ or a side is shorter than the window.

    Source: Wang et al. 2004, section III-B and III-C.
    """
    _at_least(prediction, WINDOW, f"SSIM needs frames of at least {WINDOW}x{WINDOW}, its window")
    return by_block(_ssim, prediction, truth)


def ms_ssim_scales(height: int, width: int) -> int:
    """How many of MS-SSIM's five scales fit frames of this size; 0 where plain SSIM does not fit either."""
    return sum(min(height, width) >> k >= WINDOW for k in range(len(MS_WEIGHTS)))


def ms_ssim(prediction: Tensor, truth: Tensor, scales: int = len(MS_WEIGHTS)) -> Tensor:
    """Multi-scale structural similarity, 1 for identical images.

    Contrast and structure at every scale, luminance at the coarsest, each mean over the valid region clipped at 0 and
    raised to its weight; the product per channel, then the mean over channels. From scale to scale 2x2 means, odd last
    rows and columns dropped. Weights 0.0448, 0.2856, 0.3001, 0.2363, 0.1333; with fewer scales the first ones, divided
    by their sum: such values compare only with those of as many scales.

    Args:
        prediction: float (…, c, h, w) in 0…1.
        truth: float (…, c, h, w) in 0…1.
        scales: 1 to 5; the side must be 11 at the coarsest (176 for 5).

    Returns:
        float64 (…).

    Raises:
        UserError: If the shapes differ, or the frames are too small for the number of scales.

    Source: Wang et al. 2003, equation 7 and section 3.2.
    """
    if not 1 <= scales <= len(MS_WEIGHTS):
        raise UserError(f"ms_ssim: scales must be 1 to {len(MS_WEIGHTS)}, got {scales}")
    fit = ms_ssim_scales(*prediction.shape[-2:])
    least = WINDOW << (scales - 1)
    remedy = f"use scales={fit}" if fit else "use larger frames"
    _at_least(prediction, least, f"MS-SSIM of {scales} scales needs frames of at least {least}x{least} ({remedy})")
    total = sum(MS_WEIGHTS[:scales])
    weights = [w / total for w in MS_WEIGHTS[:scales]]

    def block(x: Tensor, y: Tensor) -> Tensor:
        product = x.new_ones(x.shape[:2])
        for scale, weight in enumerate(weights):
            if scale:
                x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
            whole, contrast = _structure(x, y)
            product *= (whole if scale == scales - 1 else contrast).clamp_min(0) ** weight
        return product.mean(-1)

    return by_block(block, prediction, truth)


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    """SSIM of (n, c, h, w), with one division and in place: (n,)."""
    product, both, cross, squares = _moments(x, y)
    above = product.add_(C1 / 2).mul_(cross.add_(C2 / 2))  # both factors of 2 are taken out
    return above.div_(both.add_(C1).mul_(squares.add_(C2))).mean((-3, -2, -1)).mul_(4)


def _moments(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of blurred maps: product of means, sum of squared means, covariance, sum of variances; (n, c, h - 10, w - 10)."""
    # Both variances enter only as their sum, so four blurred maps do instead of five.
    mx, my, squares, cross = (_blur(z) for z in (x, y, (x * x).addcmul_(y, y), x * y))
    product, both = mx * my, mx.square_().addcmul_(my, my)
    return product, both, cross.sub_(product), squares.sub_(both)


def _structure(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the valid region of SSIM and of its contrast-structure factor.

    Args:
        x: (n, c, h, w).
        y: (n, c, h, w).

    Returns:
        Two (n, c).
    """
    product, both, cross, squares = _moments(x, y)
    contrast = (2 * cross + C2) / (squares + C2)
    luminance = (2 * product + C1) / (both + C1)
    return (luminance * contrast).mean((-2, -1)), contrast.mean((-2, -1))


def gaussian_window() -> list[float]:
    """The 11 taps of SSIM's window along one axis, symmetric, with sum 1."""
    x = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    taps = torch.exp(-x.square() / (2 * SIGMA**2))
    return list((taps / taps.sum()).tolist())


def _blur(x: Tensor) -> Tensor:
    """The Gaussian window over the last two axes, valid region: (…, h, w) -> (…, h - 10, w - 10).

    Up to a side of 256 px as two products with banded matrices: no convolution kernel takes float64 on a CPU at this
    speed, and the zeros cost less than eleven passes over memory. Beyond, eleven shifted multiply-adds an axis.
    """
    taps, half = gaussian_window(), WINDOW // 2
    if max(x.shape[-2:]) <= _DENSE:
        across, down = (_band(side, tuple(taps), x.dtype, x.device) for side in (x.shape[-1], x.shape[-2]))
        return ((x @ across).mT @ down).mT  # a product from the right is the faster one
    for axis in (-1, -2):
        size = x.shape[axis] - 2 * half
        out = x.narrow(axis, half, size) * taps[half]
        for i in range(half):
            out.add_(x.narrow(axis, i, size), alpha=taps[i])
            out.add_(x.narrow(axis, 2 * half - i, size), alpha=taps[i])
        x = out
    return x


@functools.lru_cache(maxsize=16)  # built once for all blocks of frames of a size
def _band(side: int, taps: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Banded matrix (side, side - len(taps) + 1): rows times it are their correlation with the taps."""
    found = torch.zeros(side, side - len(taps) + 1, dtype=torch.float64)
    for i, tap in enumerate(taps):
        found.diagonal(-i).fill_(tap)
    return found.to(device, dtype)


# --------------------------------------------------------------------------------------------------- sharpness


def sharp_diff(prediction: Tensor, truth: Tensor, border: Literal["crop", "zero"] = "crop") -> Tensor:
    """Sharpness difference in dB: 10 log10(1 / s), s the mean of |(|dx Y| + |dy Y|) - (|dx G| + |dy G|)|; at most 100.

    dx[x] = v[x + 1] - v[x] and dy[y] = v[y + 1] - v[y] (the sign is lost), Y truth and G prediction.

    Args:
        border: "crop" leaves out the last row and column, which have no next pixel; "zero" pads them with zeros as the
            published code does, so that a difference in brightness counts as an edge there. s is linear: the same
            images scaled to -1…1 score 3.0103 dB less.
        prediction: float (…, c, h, w) in 0…1, at least 2x2 with "crop".
        truth: float (…, c, h, w) in 0…1, at least 2x2 with "crop".

    Returns:
        float64 (…).

    Raises:
        UserError: If the shapes differ or the frames are too small.

    Source: Mathieu et al. 2016, section 4.1.
    """
    _check_border(prediction, border)

    def block(x: Tensor, y: Tensor) -> Tensor:
        return edges(y, border).sub_(edges(x, border)).abs_().mean((-3, -2, -1))

    return decibels(by_block(block, prediction, truth))


def sharpness(frames: Tensor, border: Literal["crop", "zero"] = "crop") -> Tensor:
    """Mean of |dx| + |dy| of an image (see `sharp_diff`).

    Args:
        frames: float (…, c, h, w) in 0…1.

    Returns:
        float64 (…), 0 for a flat image.
    """
    _check_border(frames, border)
    return by_block(lambda x, _: edges(x, border).mean((-3, -2, -1)), frames, frames)


def sharpness_ratio(prediction: Tensor, truth: Tensor) -> Tensor:
    """Sharpness of the prediction over that of the truth: 1 as sharp, below 1 blurred, above 1 noisy.

    Args:
        prediction: float (…, c, h, w) in 0…1.
        truth: float (…, c, h, w) in 0…1.

    Returns:
        float64 (…); NaN where the truth is flat.

    Raises:
        UserError: If the shapes differ.
    """
    _same_shape(prediction, truth)
    below = sharpness(truth)
    return torch.where(below > 0, sharpness(prediction) / below, torch.nan)


def total_variation(frames: Tensor) -> Tensor:
    """Total variation: sum of |dx| + |dy| over pixels and channels.

    A property of the image alone: 0 for a flat image, high for a noisy as for a sharp one; compare with the truth's.

    Args:
        frames: float (…, c, h, w) in 0…1.

    Returns:
        float64 (…).

    Source: Rudin, Osher, Fatemi 1992, in the anisotropic form of common toolkits.
    """

    def block(x: Tensor, _: Tensor) -> Tensor:
        across, down = x.diff(dim=-1).abs_(), x.diff(dim=-2).abs_()
        return across.sum((-3, -2, -1)) + down.sum((-3, -2, -1))

    return by_block(block, frames, frames)


def edges(x: Tensor, border: str) -> Tensor:
    """|dx| + |dy| of (…, h, w): one row and column less with "crop", the same size with "zero"."""
    if border == "zero":
        x = F.pad(x, (0, 1, 0, 1))
    corner = x[..., :-1, :-1]
    return (x[..., :-1, 1:] - corner).abs_().add_((x[..., 1:, :-1] - corner).abs_())


def _check_border(frames: Tensor, border: str) -> None:
    if border not in ("crop", "zero"):
        raise UserError(f'border must be "crop" or "zero", got "{border}"')
    _at_least(frames, 2 if border == "crop" else 1, "sharpness needs frames of at least 2x2 pixels")


# --------------------------------------------------------------------------------------------------- moving area


def moving_mask(truth: Tensor, last_context: Tensor, threshold: float = 0.02, dilate: int = 3) -> Tensor:
    """Moving area: pixels that changed since the last context frame.

    A pixel moves when its largest channel difference is strictly above `threshold`; so do all pixels within a square of
    `dilate` to each side of it.

    Args:
        truth: float (…, c, h, w) in 0…1.
        last_context: The same shape, or one that broadcasts to it.

    Returns:
        bool (…, h, w).

    Raises:
        UserError: If channels or frame sizes differ.
    """
    if truth.shape[-3:] != last_context.shape[-3:]:
        raise UserError(
            f"moving_mask: truth and last_context must be frames of one shape (c, h, w), got {tuple(truth.shape[-3:])} "
            f"and {tuple(last_context.shape[-3:])}"
        )
    truth, last_context = torch.broadcast_tensors(truth, last_context)  # type: ignore[no-untyped-call]
    step = max(1, (_BLOCK_CUDA if truth.is_cuda else _BLOCK) // max(truth.shape[-3:].numel(), 1))
    if truth.shape[:-3].numel() <= step:
        return _moved(truth, last_context, threshold, dilate)
    shape = (*truth.shape[:-3], *truth.shape[-2:])
    truth, last_context = (x.reshape(-1, *x.shape[-4:]) for x in (truth, last_context))
    masks = torch.empty(*truth.shape[:2], *shape[-2:], dtype=torch.bool, device=truth.device)
    for clip, frames, last in zip(masks, truth, last_context, strict=True):
        for i in range(0, len(frames), step):
            clip[i : i + step] = _moved(frames[i : i + step], last[i : i + step], threshold, dilate)
    return masks.reshape(shape)


def _moved(truth: Tensor, last_context: Tensor, threshold: float, dilate: int) -> Tensor:
    """`moving_mask` of frames of one shape."""
    moved = (truth - last_context).abs_().amax(-3) > threshold
    side = 2 * dilate + 1
    if dilate and max(moved.shape[-2:]) <= _DENSE:  # counts within the square, as two products with banded matrices
        down, across = (
            _band(n + 2 * dilate, (1.0,) * side, torch.float32, moved.device)[dilate:-dilate] for n in moved.shape[-2:]
        )
        moved = down.mT @ (moved.float() @ across) > 0.5
    elif dilate:
        flat = moved.reshape(-1, 1, *moved.shape[-2:]).float()
        flat = F.max_pool2d(flat, (1, side), 1, (0, dilate))
        moved = F.max_pool2d(flat, (side, 1), 1, (dilate, 0)).reshape(moved.shape) > 0
    return moved


def masked_mse(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the channels of the mask's pixels.

    Args:
        prediction: float (…, c, h, w) in 0…1.
        truth: float (…, c, h, w) in 0…1.
        mask: bool (…, h, w).

    Returns:
        float64 (…); NaN where the mask is empty.

    Raises:
        UserError: If the shapes differ.
    """
    return _masked(prediction, truth, mask, torch.square)


def masked_mae(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over the channels of the mask's pixels; arguments and result as for `masked_mse`."""
    return _masked(prediction, truth, mask, torch.abs)


def masked_psnr(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """PSNR in dB of `masked_mse`, peak 1, at most 100; NaN where the mask is empty."""
    return decibels(masked_mse(prediction, truth, mask))


def _masked(prediction: Tensor, truth: Tensor, mask: Tensor, error: Callable[[Tensor], Tensor]) -> Tensor:
    if mask.shape != (*truth.shape[:-3], *truth.shape[-2:]):
        raise UserError(
            f"the mask must have the frames' shape without channels, {(*truth.shape[:-3], *truth.shape[-2:])}, "
            f"got {tuple(mask.shape)}"
        )
    channels = truth.shape[-3]

    def block(x: Tensor, y: Tensor, m: Tensor) -> Tensor:  # 0 / 0 of an empty mask is NaN, as documented
        return (error(x - y) * m).sum((-3, -2, -1)) / (m.sum((-3, -2, -1)) * channels)

    return by_block(block, prediction, truth, mask.unsqueeze(-3))


# --------------------------------------------------------------------------------------------------------- parts


def by_block(
    measure: Callable[..., Tensor],
    prediction: Tensor,
    truth: Tensor,
    *more: Tensor,
    columns: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """`measure` of (n, c, h, w) tensors of one type, in blocks of images that fit the cache: memory is constant.

    Args:
        measure: (n, c, h, w) tensors -> (n,), or (n, columns).
        prediction: float (…, c, h, w).
        truth: The same shape.
        more: Further tensors with the same leading axes, such as masks (…, 1, h, w).
        columns: Numbers per image; None is one without an axis.
        dtype: Of the blocks.

    Returns:
        float64 (…) or (…, columns).
    """
    _same_shape(prediction, truth)
    lead, pixels = prediction.shape[:-3], prediction.shape[-3:].numel()
    step = max(1, (_BLOCK_CUDA if prediction.is_cuda else _BLOCK) // max(pixels, 1))
    _keep_freed_pages()
    images = [x.reshape(-1, *x.shape[-3:]) for x in (prediction, truth, *more)]
    more_axes = () if columns is None else (columns,)
    out = torch.empty(images[0].shape[0], *more_axes, dtype=torch.float64, device=prediction.device)
    for i in range(0, len(out), step):
        out[i : i + step] = measure(*(x[i : i + step].to(dtype) for x in images))
    return out.reshape((*lead, *more_axes))


@functools.cache
def _keep_freed_pages() -> None:
    """Let the allocator keep the blocks that `by_block` frees and takes again.

    glibc gives the top of its heap back to the system beyond twice the size of the largest block freed so far, at most
    64 MB. Blocks of 1 MB each would be given back and mapped again all the time, which doubled the time of SSIM.
    """
    torch.empty(2**24, dtype=torch.uint8)


def _same_shape(prediction: Tensor, truth: Tensor) -> None:
    if prediction.shape != truth.shape or prediction.ndim < 3:
        raise UserError(
            f"prediction and truth must be frames (…, c, h, w) of one shape, got {tuple(prediction.shape)} and "
            f"{tuple(truth.shape)}"
        )
    if not (prediction.is_floating_point() and truth.is_floating_point()):
        raise UserError(f"frames must be floats in 0…1, got {prediction.dtype} and {truth.dtype}; divide uint8 by 255")


def _at_least(frames: Tensor, side: int, sentence: str) -> None:
    if frames.ndim < 3 or min(frames.shape[-2:]) < side:
        size = "x".join(str(s) for s in frames.shape[-2:])
        raise UserError(f"{sentence}, got {size}")
