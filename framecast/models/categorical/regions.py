"""Boxes in which a colour is a class of its own, which distinguishes a ball from bricks of the same colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from framecast.core.errors import UserError

#: Red, green and blue, 0…255; top, left, bottom and right of the box, px, the last two excluded.
Region = tuple[int, int, int, int, int, int, int]

#: Largest number of regions: each has a bit of a 64-bit number beside the 24 of a colour.
MOST_REGIONS = 32

#: Largest distance of a region's colour from that of the palette, in levels of 255 of any channel.
_NEAR = 24


def owners(palette: Sequence[tuple[int, int, int]], regions: Sequence[Region]) -> tuple[int, ...]:
    """Index into the palette of the colour of each region.

    Raises:
        UserError: the palette has no such colour.
    """
    found = []
    for region in regions:
        away = np.abs(np.array(palette, np.int64) - region[:3]).max(1)
        if away.min() > _NEAR:
            raise UserError(f"model.regions: the palette has no colour {region[:3]}; its colours are {tuple(palette)}")
        found.append(int(away.argmin()))
    return tuple(found)


def divide(indices: Tensor, regions: Sequence[Region], owned: Sequence[int], colours: int) -> Tensor:
    """Classes (..., h, w) of palette indices (..., h, w): region i has class `colours` + i; the first box counts.

    Args:
        indices: palette indices, int64; left as they are.
        regions: of the config.
        owned: of `owners`.
        colours: colours of the palette, without the regions.
    """
    found = indices.clone() if regions else indices
    for i, ((*_, top, left, bottom, right), colour) in enumerate(zip(regions, owned, strict=True)):
        box = found[..., top:bottom, left:right]
        box.copy_(torch.where(box == colour, colours + i, box))
    return found


def impossible(regions: Sequence[Region], owned: Sequence[int], colours: int, height: int, width: int) -> Tensor:
    """Whether a class cannot be at a pixel, bool (classes, h, w): a region outside its box, its colour inside."""
    never = torch.ones(colours + len(regions), height, width, dtype=torch.bool)
    for colour in range(colours):
        classes = divide(torch.full((height, width), colour), regions, owned, colours)
        never.scatter_(0, classes[None], False)
    return never


def marks(regions: Sequence[Region], height: int, width: int) -> np.ndarray:
    """Number (h, w), int64, of each pixel whose bit i is set where it lies in the box of region i."""
    found = np.zeros((height, width), np.int64)
    for i, (*_, top, left, bottom, right) in enumerate(regions):
        found[top:bottom, left:right] |= 1 << i
    return found


def class_of(colour: int, mark: int, owned: Sequence[int], colours: int) -> int:
    """Class of a palette index at a pixel of `marks`."""
    inside = (colours + i for i, own in enumerate(owned) if own == colour and mark >> i & 1)
    return next(inside, colour)
