"""From probabilities of colours to one frame: expected area, argmax, or samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

#: Largest side, px, of the box around a single object.
_BOX = 16


@dataclass(frozen=True)
class RareColours:
    """Colours of small area in the training data. Tensors are on the device of the logits, numbers on the host.

    Attributes:
        names: palette indices, (r,) int64.
        others: those of all other colours, (k - r,) int64, ascending.
        sizes: areas in which each is drawn, (r, n) px: 0, and those of the data; padded with infinity.
        boxes: palette index, and height and width of the largest box around it, px; 0 if unknown.
        most: the largest of the areas, px.
    """

    names: Tensor
    others: Tensor
    sizes: Tensor
    boxes: tuple[tuple[int, int, int], ...]
    most: int

    @classmethod
    def of(
        cls,
        areas: Sequence[int],
        least: Sequence[int],
        extents: Sequence[tuple[int, int]],
        most: int,
        usual: Sequence[Sequence[int]] = (),
    ) -> RareColours:
        """Those of areas in 1…`most` px, from the figures of every colour of the palette.

        Args:
            areas, least: largest and smallest area of each colour, px.
            extents: height and width of the largest box around it, px.
            most: largest area of a rare colour, px.
            usual: areas in which it is drawn; without them every area from the smallest to the largest.
        """
        names = [k for k, area in enumerate(areas) if 0 < area <= most]
        sizes = [[0, *((usual and usual[k]) or range(max(1, least[k]), areas[k] + 1))] for k in names]
        longest = max(map(len, sizes), default=1)
        return cls(
            torch.tensor(names, dtype=torch.int64),
            torch.tensor([k for k in range(len(areas)) if k not in names], dtype=torch.int64),
            torch.tensor([[*row, *[math.inf] * (longest - len(row))] for row in sizes]).view(len(names), longest),
            tuple((k, *extents[k]) for k in names),
            max((areas[k] for k in names), default=0),
        )


def expected_area(logits: Tensor, rare: RareColours, floor: float = 0.1) -> Tensor:
    """The frame in which every rare colour has the area that is expected of it.

    Where the place of a small object is uncertain by a pixel, no pixel reaches a probability of one half, and argmax
    would lose the object for good. Each rare colour gets n pixels, n the rounded sum of its probabilities above
    `floor`, taken to the nearest area that the data show, or to none: there is no half ball. They are those highest by
    p + the 3x3 mean of p. A colour whose pixels fit into a small box in all data is drawn within one box, that of the
    largest sum of probabilities: an object that may be at several places is shown at one of them. All other pixels take
    the most probable of the other colours.

    Args:
        logits: (b, k, h, w).
        rare: the rare ones of the k colours.
        floor: probability below which a pixel does not count; small ones over thousands of pixels add up.

    Returns:
        Palette indices (b, h, w), int64.
    """
    count = len(rare.boxes)
    if count in (0, logits.shape[1]):
        return most_likely(logits)
    b, _, h, w = logits.shape
    p = logits.float().softmax(1)
    frame = rare.others[most_likely(p.index_select(1, rare.others))]
    chosen = torch.stack([_in_one_box(p[:, k], height, width) for k, height, width in rare.boxes], 1)
    whole = p.index_select(1, rare.names)
    expected = torch.where(whole > floor, whole, 0.0).sum((2, 3))
    nearest_size = (expected[:, :, None] - rare.sizes).abs().min(2).indices
    counts = rare.sizes.expand(b, -1, -1).gather(2, nearest_size[:, :, None])[:, :, 0]
    score = (chosen + _neighbourhood(chosen)).flatten(2)
    best, places = score.topk(min(rare.most, h * w), dim=2)
    kept = torch.arange(best.shape[2], device=best.device) < counts[:, :, None]
    # where two rare colours choose one pixel, the higher score wins
    ranked = torch.zeros(b, count, h * w, device=p.device).scatter_(2, places, torch.where(kept, best, 0.0))
    value, which = ranked.max(1)
    return torch.where(value > 0, rare.names[which], frame.flatten(1)).view(b, h, w)


def sample(logits: Tensor, temperature: Tensor, uniform: Tensor) -> Tensor:
    """Every pixel's colour drawn from its probabilities at a temperature.

    Args:
        logits: (b, k, h, w).
        temperature: (b,), above 0; below 1 likely colours become likelier.
        uniform: random numbers in 0…1, of the shape of the logits.

    Returns:
        Palette indices (b, h, w), int64.
    """
    gumbel = -(-uniform.clamp(1e-9, 1 - 1e-7).log()).log()
    return (logits.float() / temperature.view(-1, 1, 1, 1) + gumbel).max(1).indices


def most_likely(scores: Tensor) -> Tensor:
    """Index (b, h, w) of the highest of scores (b, k, h, w); argmax over this axis takes five times as long."""
    return scores.max(1).indices


def _in_one_box(p: Tensor, height: int, width: int) -> Tensor:
    """Probabilities (b, h, w) within the box of the largest sum, 0 elsewhere; unchanged for large boxes."""
    _, h, w = p.shape
    if not 0 < height <= _BOX or not 0 < width <= _BOX:
        return p
    height, width = min(height, h), min(width, w)
    total = functional.pad(p, (1, 0, 1, 0)).cumsum(1).cumsum(2)  # avg_pool2d takes several times as long on a CPU
    bands = total[:, height:] - total[:, :-height]
    sums = bands[:, :, width:] - bands[:, :, :-width]
    best = sums.flatten(1).argmax(1)
    top, left = best // sums.shape[2], best % sums.shape[2]
    rows, columns = torch.arange(h, device=p.device), torch.arange(w, device=p.device)
    inside_rows = (rows >= top[:, None]) & (rows < top[:, None] + height)
    inside_columns = (columns >= left[:, None]) & (columns < left[:, None] + width)
    return p * (inside_rows[:, :, None] & inside_columns[:, None, :])


def _neighbourhood(p: Tensor) -> Tensor:
    """Mean over 3x3 pixels, zeros outside; avg_pool2d takes eight times as long on a CPU."""
    wide = functional.pad(p, (1, 1, 1, 1))
    rows = wide[..., :-2] + wide[..., 1:-1] + wide[..., 2:]
    return (rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]) / 9
