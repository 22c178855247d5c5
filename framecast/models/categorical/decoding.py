"""From probabilities of colours to one frame: expected area, argmax, or samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def expected_area(logits: Tensor, areas: Tensor, least: Tensor, rare: int, floor: float = 0.1) -> Tensor:
    """The frame in which every rare colour has the area that is expected of it.

    Where the place of a small object is uncertain by a pixel, no pixel reaches a probability of one half, and argmax
    would lose the object for good. Each rare colour gets n pixels, n the rounded sum of its probabilities above
    `floor`, at most its largest area in the data: those highest by p + the 3x3 mean of p. An area below the smallest in
    the data becomes that, or nothing if it is below half of it: there is no half ball. All other pixels take the most
    probable of the other colours.

    Args:
        logits: (b, k, h, w).
        areas: largest area of each colour in the training data, (k,), px.
        least: smallest area of each colour where it is present, (k,), px.
        rare: largest area that makes a colour rare, px.
        floor: probability below which a pixel does not count; small ones over thousands of pixels add up.

    Returns:
        Palette indices (b, h, w), int64.
    """
    small = [k for k, area in enumerate(areas.tolist()) if 0 < area <= rare]
    if not small or len(small) == logits.shape[1]:
        return most_likely(logits)
    b, _, h, w = logits.shape
    p = logits.float().softmax(1)
    others = p.clone()
    others[:, small] = -1.0
    frame = most_likely(others)
    chosen = p[:, small]
    limits = areas[small].to(chosen)
    expected, smallest = torch.where(chosen > floor, chosen, 0.0).sum((2, 3)), least[small].to(chosen)
    counts = torch.where(expected < smallest / 2, 0.0, expected.round().maximum(smallest)).minimum(limits)
    most = int(counts.max())
    if most == 0:
        return frame
    score = (chosen + _neighbourhood(chosen)).flatten(2)
    best, places = score.topk(min(most, h * w), dim=2)
    kept = torch.arange(best.shape[2], device=best.device) < counts[:, :, None]
    # where two rare colours choose one pixel, the higher score wins
    ranked = torch.zeros(b, len(small), h * w, device=p.device).scatter_(2, places, torch.where(kept, best, 0.0))
    value, which = ranked.max(1)
    names = torch.tensor(small, device=p.device)[which]
    return torch.where(value > 0, names, frame.flatten(1)).view(b, h, w)


def sample(logits: Tensor, temperature: Tensor, generator: torch.Generator | None) -> Tensor:
    """Every pixel's colour drawn from its probabilities at a temperature.

    Args:
        logits: (b, k, h, w).
        temperature: (b,), above 0; below 1 likely colours become likelier.
        generator: source of randomness.

    Returns:
        Palette indices (b, h, w), int64.
    """
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device).clamp_(1e-9, 1 - 1e-7)
    return (logits.float() / temperature.view(-1, 1, 1, 1) - (-uniform.log()).log()).max(1).indices


def most_likely(scores: Tensor) -> Tensor:
    """Index (b, h, w) of the highest of scores (b, k, h, w); argmax over this axis takes five times as long."""
    return scores.max(1).indices


def _neighbourhood(p: Tensor) -> Tensor:
    """Mean over 3x3 pixels, zeros outside; avg_pool2d takes eight times as long on a CPU."""
    wide = functional.pad(p, (1, 1, 1, 1))
    rows = wide[..., :-2] + wide[..., 1:-1] + wide[..., 2:]
    return (rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]) / 9
