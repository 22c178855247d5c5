"""Metrics of generated scenes: colour of shapes, foreground against masks, probes of latents.

Generated scenes come with their ground truth, so no human rater and no detector is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framecast.media.draw import SHAPES

_CIRCLE, _SQUARE, _TRIANGLE = (SHAPES.index(kind) for kind in ("circle", "square", "triangle"))

# --------------------------------------------------------------------------------------------------- coloured shapes


@dataclass(frozen=True)
class Verdict:
    """State of the one shape of each frame (b, t); exactly one of correct, wrong and gone is true.

    Attributes:
        correct: bool, the shape has its colour.
        wrong: bool, it has another colour.
        gone: bool, it is absent.
        away: Distance of its centroid to the true one, px; NaN where it is gone.
    """

    correct: Tensor
    wrong: Tensor
    gone: Tensor
    away: Tensor


def _nearest(frames: Tensor, colours: Sequence[Sequence[int]]) -> Tensor:
    """Index of the nearest colour (RGB 0…255) of every pixel: (b, t, h, w) of frames (b, t, 3, h, w) in 0…1."""
    known = torch.tensor(colours, dtype=torch.float32, device=frames.device) / 255
    return (frames.float().unsqueeze(-4) - known[:, :, None, None]).square().sum(-3).argmin(-3)


def shape_colours(
    prediction: Tensor, truth: Tensor, palette: Sequence[Sequence[int]], ground: Sequence[int], least: float = 0.25
) -> Verdict:
    """Presence and colour of the one shape of each predicted frame.

    Every pixel belongs to the nearest of the ground and the palette's colours. Pixels that are not ground form the
    shape. With fewer than `least` of the true shape's pixels it is gone; it has its colour when more than half of its
    pixels do and they are at most 1 / `least` as many as the true ones, which excludes noise. The true colour is that
    of most
    pixels of the true shape.

    Args:
        prediction: (b, t, 3, h, w) in 0…1, one shape on a plain ground.
        truth: (b, t, 3, h, w) in 0…1, one shape on a plain ground.
        palette: Possible colours of shapes, RGB 0…255.
        ground: Colour of the ground, RGB 0…255.
        least: Least share of the true area of a present shape.

    Source: Wichers et al. 2018, table 1, with this rule instead of human raters.
    """
    colours = [ground, *palette]

    def votes(frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        there = F.one_hot(_nearest(frames, colours), len(colours))[..., 1:]  # (b, t, h, w, colours)
        counts = there.sum((-3, -2))
        shape = there.sum(-1).float()
        y = torch.arange(shape.shape[-2], device=shape.device, dtype=torch.float32)
        x = torch.arange(shape.shape[-1], device=shape.device, dtype=torch.float32)
        middle = torch.stack([(shape.sum(-1) * y).sum(-1), (shape.sum(-2) * x).sum(-1)], -1)
        return counts, counts.sum(-1), middle / shape.sum((-2, -1)).unsqueeze(-1)

    counts, area, middle = votes(prediction)
    true_counts, true_area, true_middle = votes(truth)
    gone = area < least * true_area
    alike = counts.gather(-1, true_counts.argmax(-1, keepdim=True))[..., 0]
    right = (2 * alike > area) & (least * area <= true_area)
    away = (middle - true_middle).norm(dim=-1)
    return Verdict(right & ~gone, ~right & ~gone, gone, torch.where(gone, away.new_tensor(float("nan")), away))


#: Area moments of upright shapes, whatever their size: skewness of the heights of the pixels of a triangle that is as
#: wide as high (0 of a circle and a square); mean of x^2 y^2 over the product of both variances of the two others.
TRIANGLE_SKEW, SQUARE_MOMENT, CIRCLE_MOMENT = 2 * 2**0.5 / 5, 1.0, 2 / 3


def shape_kinds(frames: Tensor, palette: Sequence[Sequence[int]], ground: Sequence[int]) -> Tensor:
    """Kind of the one shape of each frame by the area moments of its pixels: (b, t), indices of `media.draw.SHAPES`.

    Pixels of the shape are those nearer to a colour of the palette than to the ground. A shape whose heights are skewed
    by more than half of a triangle's, towards the top, is a triangle; others are a square or a circle, whichever has
    the nearer mixed moment. A blot of no kind gets the kind that it resembles most: three kinds have a chance level of
    1/3, and a round blot is a circle.

    Args:
        frames: (b, t, 3, h, w) in 0…1, one upright shape on a plain ground.
        palette: Possible colours of shapes, RGB 0…255.
        ground: Colour of the ground, RGB 0…255.

    Returns:
        -1 where there is no shape.
    """
    there = (_nearest(frames, [ground, *palette]) > 0).double()
    area = there.sum((-2, -1))
    y = torch.arange(there.shape[-2], device=there.device, dtype=torch.float64)[:, None]
    x = torch.arange(there.shape[-1], device=there.device, dtype=torch.float64)

    def mean(values: Tensor) -> Tensor:
        return ((there * values).sum((-2, -1)) / area.clamp_min(1))[..., None, None]

    down, right = y - mean(y), x - mean(x)
    high, wide = mean(down.square()).clamp_min(1e-6), mean(right.square()).clamp_min(1e-6)
    skew = (mean(down**3) / high**1.5)[..., 0, 0]
    mixed = (mean(down.square() * right.square()) / (high * wide))[..., 0, 0]
    round_or_square = torch.where(mixed > (SQUARE_MOMENT + CIRCLE_MOMENT) / 2, _SQUARE, _CIRCLE)
    # the tip of a triangle is up, at small heights: more of its pixels lie below their mean
    kinds = torch.where(skew < -TRIANGLE_SKEW / 2, _TRIANGLE, round_or_square)
    return torch.where(area > 0, kinds, -1)


# --------------------------------------------------------------------------------------------- foreground and masks


def foreground(frames: Tensor, ground: Tensor, threshold: float = 0.1) -> Tensor:
    """Pixels (b, t, h, w), bool, that differ from the empty scene by more than `threshold` in some channel.

    Args:
        frames: (b, t, c, h, w) in 0…1.
        ground: (b, c, h, w), the empty scene; for a static camera the median over time of true videos in which no
            position is occupied for half of the time.
        threshold: Largest channel difference of the background, 0…1.
    """
    return (frames - ground[:, None]).abs().amax(2) > threshold


def iou(found: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union of two sets of pixels (..., h, w), bool; NaN where both are empty."""
    both, either = (found & masks).sum((-2, -1)), (found | masks).sum((-2, -1))
    return torch.where(either > 0, both / either, torch.nan)


def presence(found: Tensor, masks: Tensor, share: float = 0.5, near: bool = True) -> Tensor:
    """Whether the found area is above `share` of the true one: bool, (..., h, w) without the last two axes.

    Args:
        found: bool (..., h, w).
        masks: bool (..., h, w), the true area.
        share: Least share of the true area.
        near: Count only pixels within the true masks dilated by a tenth of the frame, which excludes noise elsewhere;
            otherwise a person counts anywhere, also on another path than the true one.
    """
    inside = found
    if near:
        reach = max(1, masks.shape[-1] // 10)
        grown = F.max_pool2d(masks.flatten(0, -3).float()[:, None], 2 * reach + 1, 1, reach)[:, 0] > 0
        inside = found & grown.view_as(masks)
    return inside.sum((-2, -1)) > share * masks.sum((-2, -1))


# ------------------------------------------------------------------------------------------------------- joint probe


def probe(
    latents: Tensor,
    values: Tensor,
    held_latents: Tensor,
    held_values: Tensor,
    visible: Tensor | None = None,
    hidden: int = 256,
    steps: int = 1000,
    seed: int = 0,
) -> float:
    """Mean absolute error of a small network that regresses values from latents, on held-out ones.

    Two layers, Adam at 1e-3 on batches of 256; latents and values are standardised by the training statistics.

    Args:
        latents: (n, z), for training.
        values: (n, k), for training.
        held_latents: (m, z) held-out latents.
        held_values: (m, k) held-out values.
        visible: (m, k) bool, the held-out values that count; None is all.
        hidden: Width of the hidden layer.
        steps: Training steps.
        seed: Random seed of weights and batches.

    Source: Wichers et al. 2018, who regress poses by a network of two layers.
    """
    mean, std = latents.mean(0), latents.std(0).clamp_min(1e-8)
    middle, spread = values.mean(0), values.std(0).clamp_min(1e-8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(latents.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, values.shape[1]))
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
        seen, wanted = (latents - mean) / std, (values - middle) / spread
        for _ in range(steps):
            rows = torch.randint(len(seen), (256,))
            loss = F.mse_loss(net(seen[rows]), wanted[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    with torch.no_grad():
        error = (net((held_latents - mean) / std) * spread + middle - held_values).abs()
    return float(error.mean() if visible is None else error[visible].mean())
