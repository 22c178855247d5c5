"""Losses that several papers share, each with its equation. All of them compute in full precision."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from framecast.nn.precision import full_precision

Reduction = Literal["mean", "sum"]
Border = Literal["crop", "zero"]
LogBase = Literal["e", "10"]


@full_precision
def lp(
    prediction: Tensor,
    target: Tensor,
    exponent: float = 1.0,
    reduction: Reduction = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Pixel loss |prediction - target|^exponent.

    Args:
        prediction: float, equal shapes.
        target: float, equal shapes.
        exponent: above 0; 1 and 2 are the published ones.
        reduction: "mean" over all elements, or their "sum" as the paper writes it.
        weight: of every element, of a shape that broadcasts to the images'; None is 1 for all.

    Returns:
        Scalar; 0 for equal images.

    Raises:
        ValueError: if the shapes differ.

    Source:
        Mathieu et al. 2016 (arXiv 1511.05440), section 3.1.
    """
    _same_shape(prediction, target)
    error = _power(prediction - target, exponent)
    return _reduce(error if weight is None else weight * error, reduction)


@full_precision
def change_error(prediction: Tensor, truth: Tensor, first: Tensor, weight: float) -> Tensor:
    """Squared error in which a pixel counts 1 + weight * |truth - first frame|, the largest of the channels; scalar.

    Args:
        prediction: (b, t, c, h, w).
        truth: (b, t, c, h, w) in 0…1.
        first: (b, 1, c, h, w) in 0…1.
        weight: at least 0.
    """
    counts = 1 + weight * (truth - first).abs().amax(2, keepdim=True)
    return (counts * (prediction - truth).square()).mean()


@full_precision
def gdl(
    prediction: Tensor,
    target: Tensor,
    exponent: float = 1.0,
    border: Border = "crop",
    reduction: Reduction = "mean",
) -> Tensor:
    """Gradient-difference loss: difference of edge strength between two sets of images.

    Per direction | |dY| - |dG| |^exponent, dY and dG the differences of adjacent pixels of target and prediction.

    Args:
        prediction: float (..., h, w), equal shapes.
        target: float (..., h, w), equal shapes.
        exponent: above 0; 1 and 2 are the published ones.
        border: "crop" compares pairs inside the image only; "zero" also the last row and column with zeros beyond the
            edge, as the published code does, which penalises the absolute brightness of the edge.
        reduction: "sum" of both directions, or the sum of their "mean"s.

    Returns:
        Scalar; 0 for equal images. A direction one pixel wide has no pairs and adds nothing.

    Raises:
        ValueError: if the shapes differ.

    Source:
        Mathieu et al. 2016 (arXiv 1511.05440), section 3.3.
    """
    _same_shape(prediction, target)
    if border == "zero":
        prediction, target = F.pad(prediction, (0, 1, 0, 1)), F.pad(target, (0, 1, 0, 1))
    total = prediction.new_zeros(())
    for axis in (-2, -1):
        other = slice(None) if border == "crop" else slice(-1)  # the padded row and column pair with nothing else
        steps = [x.diff(dim=axis).abs() for x in (prediction, target)]
        y_hat, y = (x[..., other] if axis == -2 else x[..., other, :] for x in steps)
        if y.numel():
            total = total + _reduce(_power(y - y_hat, exponent), reduction)
    return total


@full_precision
def bce(
    logits: Tensor,
    label: float,
    log_base: LogBase = "e",
    clip: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Binary cross-entropy -(t log d + (1 - t) log(1 - d)) of the probability d = sigmoid(logits).

    Args:
        logits: float, any shape.
        label: t, the same for all, 0…1.
        log_base: "e", or "10" as the published code has it.
        clip: 0 for the stable form on logits; above it, below 0.5, d is clipped to [clip, 1 - clip], which also stops
            the gradient wherever the discriminator is confident.
        reduction: "mean" or "sum" over all elements.

    Returns:
        Scalar; log 2 at d = 0.5.

    Source:
        Mathieu et al. 2016 (arXiv 1511.05440), equation 3; Goodfellow et al. 2014.
    """
    if clip:
        d = logits.sigmoid().clamp(clip, 1 - clip)
        loss = -(label * d.log() + (1 - label) * (1 - d).log())
    else:
        loss = F.softplus(logits) - label * logits
    loss = _reduce(loss, reduction)
    return loss / math.log(10) if log_base == "10" else loss


def _power(x: Tensor, exponent: float) -> Tensor:
    if exponent == 1:
        return x.abs()
    if exponent == 2:
        return x.square()
    return x.abs().pow(exponent)


def _reduce(x: Tensor, reduction: Reduction) -> Tensor:
    return torch.mean(x) if reduction == "mean" else torch.sum(x)


def _same_shape(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must have one shape, got {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
