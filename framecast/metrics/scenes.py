"""What became of the things in a scene: colours of shapes, foreground beside masks, what a code knows of joints.

Scenes that were generated come with their truth, so these need no judge: not a person, not a detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# --------------------------------------------------------------------------------------------------- coloured shapes


@dataclass(frozen=True)
class Verdict:
    """Per frame (b, t), bool: the shape has its colour, has another one, is gone; exactly one of them is true.

    Attributes:
        away: How far the middle of what is there lies from the true middle, px; not-a-number where it is gone.
    """

    correct: Tensor
    wrong: Tensor
    gone: Tensor
    away: Tensor


def shape_colours(
    prediction: Tensor, truth: Tensor, palette: Sequence[Sequence[int]], ground: Sequence[int], least: float = 0.25
) -> Verdict:
    """Whether the one shape of each predicted frame is there, and in its colour.

    Every pixel belongs to the nearest of the ground and the palette's colours. The shape is what is not ground. With
    fewer than `least` of the true shape's pixels it is gone; it has its colour when more than half of its pixels do and
    they are at most 1 / `least` as many as the true ones, so that noise is no shape. The true colour is that of most
    pixels of the true shape.

    Args:
        prediction: (b, t, 3, h, w) in 0…1, one shape on a plain ground.
        truth: (b, t, 3, h, w) in 0…1, one shape on a plain ground.
        palette: Colours shapes may have.
        ground: Its colour; all as three numbers 0…255.

    Source: Wichers et al. 2018, table 1, with this rule in place of people who look.
    """
    colours = torch.tensor([ground, *palette], dtype=torch.float32, device=truth.device) / 255

    def votes(frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        distance = (frames.float().unsqueeze(-4) - colours[:, :, None, None]).square().sum(-3)
        there = F.one_hot(distance.argmin(-3), len(colours))[..., 1:]  # (b, t, h, w, colours)
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


# --------------------------------------------------------------------------------------------- foreground and masks


def foreground(frames: Tensor, ground: Tensor, threshold: float = 0.1) -> Tensor:
    """Pixels (b, t, h, w), bool, that differ from the empty scene by more than `threshold` in some channel.

    Args:
        frames: (b, t, c, h, w) in 0…1.
        ground: (b, c, h, w), the scene without what moves; for a still camera the median over time of true films, long
            enough that nobody stands anywhere for half of it.
    """
    return (frames - ground[:, None]).abs().amax(2) > threshold


def iou(found: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union of two sets of pixels (..., h, w), bool; not-a-number where both are empty."""
    both, either = (found & masks).sum((-2, -1)), (found | masks).sum((-2, -1))
    return torch.where(either > 0, both / either, torch.nan)


def presence(found: Tensor, masks: Tensor, share: float = 0.5, near: bool = True) -> Tensor:
    """Whether enough is there: an area above `share` of the true one. Bool, as (..., h, w) without its last axes.

    Args:
        near: Count inside the true masks grown by a tenth of the frame only, so that noise elsewhere is no person;
            without it a person counts wherever it is, also where a forecast has it go another way than the truth.
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
    held_codes: Tensor,
    held_values: Tensor,
    visible: Tensor | None = None,
    hidden: int = 256,
    steps: int = 1000,
    seed: int = 0,
) -> float:
    """How well a small network reads values off codes: mean absolute error on held-out ones.

    codes (n, z), values (n, k): to learn from.

    Args:
        held_codes: To be judged on.
        held_values: To be judged on.
        visible: (m, k) bool, which held-out values count; all without. Two layers, `hidden` wide, Adam at 1e-3 on
            batches of 256; codes and values standardised by those learnt from.

    Source: Wichers et al. 2018, who regress poses by a network of two layers.
    """
    mean, sd = latents.mean(0), latents.std(0).clamp_min(1e-8)
    middle, spread = values.mean(0), values.std(0).clamp_min(1e-8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(latents.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, values.shape[1]))
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
        seen, wanted = (latents - mean) / sd, (values - middle) / spread
        for _ in range(steps):
            rows = torch.randint(len(seen), (256,))
            loss = F.mse_loss(net(seen[rows]), wanted[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    with torch.no_grad():
        error = (net((held_codes - mean) / sd) * spread + middle - held_values).abs()
    return float(error.mean() if visible is None else error[visible].mean())
