"""Palettes: the colours of a scene, found in its frames, and the nearest one of each pixel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from framecast.models.categorical.regions import Region, class_of, marks, owners
from framecast.nn.precision import autocast_off

#: Distance, in levels of 255, up to which a colour counts as smeared rather than as one of its own.
_SMEAR = 24.0

#: Largest number of pixels of a colour whose box is measured; others count as spread over the frame.
_SMALL = 256

#: Least share of the frames with a colour that show it in an area, for that area to be usual.
_RARE_AREA = 0.005

#: Bits of a packed colour.
_RGB = (1 << 24) - 1

#: Levels of a channel in the lookup table of colours.
_LEVELS = 64


@dataclass(frozen=True)
class Palette:
    """Colours of a scene.

    Attributes:
        colours: RGB, 0…255 each, the most frequent first.
        areas: 99.9th percentile of the number of pixels of each colour in the frames that have it; those of the regions
            follow the colours here and below, and their pixels do not count for the colour.
        least: 1st percentile of that number.
        usual: numbers of pixels that at least one in 200 of the frames with the colour show, ascending; none for
            colours of more than 256 px.
        extents: 99.9th percentile of height and width of the box around each colour, px.
        presence: share of the frames that show each colour, 0…1.
        error: mean distance of a pixel from its colour, in levels of 255 (mean over channels of |difference|).
        distinct: number of different colours in the frames.
    """

    colours: tuple[tuple[int, int, int], ...]
    areas: tuple[int, ...]
    least: tuple[int, ...]
    usual: tuple[tuple[int, ...], ...]
    extents: tuple[tuple[int, int], ...]
    presence: tuple[float, ...]
    error: float
    distinct: int


def find_palette(
    frames: Iterable[np.ndarray],
    most: int,
    given: tuple[tuple[int, int, int], ...] = (),
    regions: tuple[Region, ...] = (),
) -> Palette:
    """The palette of frames: their colours where there are few enough, else the best of k-means.

    Args:
        frames: uint8 (c, h, w) each, read once.
        most: largest number of colours.
        given: colours to be used instead; areas and error are then those of them.
        regions: boxes in which a colour is a class of its own.

    Raises:
        UserError: a region's colour is not in the palette.
    """
    counts: dict[int, int] = {}
    held: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for frame in frames:
        packed_frame = _packed(frame)
        if regions:
            packed_frame |= marks(regions, *packed_frame.shape) << 24
        values, numbers = np.unique(packed_frame, return_counts=True)
        held.append((values, numbers, _boxes(packed_frame, values, numbers)))
        for value, number in zip((values & _RGB).tolist(), numbers.tolist(), strict=True):
            counts[value] = counts.get(value, 0) + number
    packed = np.array(sorted(counts, key=lambda c: (-counts[c], c)), np.int64)
    colours = _unpacked(packed)
    weights = np.array([counts[int(c)] for c in packed], np.float64)
    if given:
        centres = np.array(given, np.float64)
    elif len(packed) <= most:
        centres = colours
    else:
        centres = _clusters(colours, weights, most)
    centres = np.unique(centres.round(), axis=0) if not given and len(packed) > most else centres
    which = _nearest(colours, centres)
    error = float((np.abs(colours - centres[which]).mean(1) * weights).sum() / weights.sum())
    names = dict(zip(packed.tolist(), which.tolist(), strict=True))
    palette = tuple((int(r), int(g), int(b)) for r, g, b in centres)
    owned = owners(palette, regions)
    areas: list[list[int]] = [[] for _ in range(len(palette) + len(regions))]
    sides: list[list[tuple[int, int]]] = [[] for _ in areas]
    for values, numbers, boxes in held:
        rows = np.array([class_of(names[v & _RGB], v >> 24, owned, len(palette)) for v in values.tolist()])
        for k in np.unique(rows).tolist():
            own = rows == k
            areas[k].append(int(numbers[own].sum()))
            first, last = boxes[own, :2].min(0), boxes[own, 2:].max(0)
            sides[k].append((int(last[0] - first[0]) + 1, int(last[1] - first[1]) + 1))
    return Palette(
        palette,
        tuple(int(np.percentile(a, 99.9, method="higher")) if a else 0 for a in areas),
        tuple(int(np.percentile(a, 1, method="lower")) if a else 0 for a in areas),
        tuple(_usual(a) for a in areas),
        tuple(_largest(found) for found in sides),
        tuple(round(len(a) / len(held), 4) for a in areas),
        error,
        len(packed),
    )


def _boxes(frame: np.ndarray, values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """First and last row and column of each value in a frame (h, w): rows of top, left, bottom, right."""
    found = np.empty((len(values), 4), np.int64)
    found[:] = 0, 0, frame.shape[0] - 1, frame.shape[1] - 1
    for i in np.flatnonzero(numbers <= _SMALL):
        ys, xs = np.nonzero(frame == values[i])
        found[i] = ys.min(), xs.min(), ys.max(), xs.max()
    return found


def _usual(areas: list[int]) -> tuple[int, ...]:
    values, counts = np.unique(np.array(areas, np.int64), return_counts=True)
    kept = values[counts >= _RARE_AREA * len(areas)].tolist()
    return tuple(kept) if kept and max(areas) <= _SMALL else ()


def _largest(sides: list[tuple[int, int]]) -> tuple[int, int]:
    if not sides:
        return 0, 0
    height, width = np.percentile(np.array(sides), 99.9, axis=0, method="higher").astype(int).tolist()
    return height, width


def nearest(frames: Tensor, palette: Tensor, table: Tensor) -> Tensor:
    """Index of the nearest colour of each pixel, (..., h, w) int64.

    Args:
        frames: (..., c, h, w) 0…1.
        palette: (k, c) 0…1.
        table: of `lookup_table`; empty where it cannot tell the colours apart.
    """
    with autocast_off(frames), torch.no_grad():
        flat = frames.flatten(0, -4).float()
        if len(table):
            level = (flat * (_LEVELS - 1)).add_(0.5).to(torch.int32)
            cell = level[:, 0]
            for channel in level.unbind(1)[1:]:
                cell = cell * _LEVELS + channel
            index = table.index_select(0, cell.flatten()).view(cell.shape).long()
        else:  # |x - p|^2 less |x|^2, as a 1x1 convolution
            scores = functional.conv2d(flat, 2 * palette[:, :, None, None], -palette.square().sum(1))
            index = scores.max(1).indices  # argmax over this axis takes five times as long
    return index.view(*frames.shape[:-3], *frames.shape[-2:])


def lookup_table(palette: Tensor) -> Tensor:
    """Nearest colour of each cell of a cube of 64 levels a channel, uint8; empty if two colours share a cell.

    Args:
        palette: (k, c) 0…1.
    """
    level = torch.linspace(0, 1, _LEVELS, device=palette.device)
    cells = torch.cartesian_prod(*[level] * palette.shape[1]).view(-1, palette.shape[1])
    table = torch.cat([torch.cdist(part, palette).argmin(1).to(torch.uint8) for part in torch.split(cells, 1 << 16)])
    own = nearest(palette[:, :, None, None], palette, table).flatten()
    return table if own.equal(torch.arange(len(palette), device=own.device)) else table[:0]


def default_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """`count` different colours spread over the RGB cube, for a model that is built without data."""
    side = next(n for n in range(2, 256) if n**3 >= count)
    levels = np.linspace(0, 255, side).round().astype(int).tolist()
    cube = [(r, g, b) for r in levels for g in levels for b in levels]
    return tuple(cube[i * len(cube) // count] for i in range(count))


def _packed(frame: np.ndarray) -> np.ndarray:
    """Colours as integers r·65536 + g·256 + b, (h, w); grey counts as RGB."""
    r, g, b = (frame[i if len(frame) == 3 else 0].astype(np.int64) for i in range(3))
    packed: np.ndarray = (r << 16) | (g << 8) | b
    return packed


def _unpacked(packed: np.ndarray) -> np.ndarray:
    return np.stack([packed >> 16, (packed >> 8) & 255, packed & 255], 1).astype(np.float64)


def _nearest(colours: np.ndarray, centres: np.ndarray) -> np.ndarray:
    distance = ((colours[:, None] - centres[None]) ** 2).sum(2)
    found: np.ndarray = distance.argmin(1)
    return found


def _clusters(colours: np.ndarray, weights: np.ndarray, most: int) -> np.ndarray:
    """Centres of weighted k-means. Starts are the most frequent colours that are not smears of an earlier one."""
    centres = colours[:1]
    away = np.abs(colours - centres[0]).max(1)
    while len(centres) < most and (away > _SMEAR).any():
        new = int(np.where(away > _SMEAR, weights, -1.0).argmax())
        centres = np.concatenate([centres, colours[new : new + 1]])
        away = np.minimum(away, np.abs(colours - colours[new]).max(1))
    for _ in range(20):
        which = _nearest(colours, centres)
        total = np.bincount(which, weights, len(centres))
        sums = np.stack([np.bincount(which, weights * colours[:, i], len(centres)) for i in range(3)], 1)
        moved = np.where(total[:, None] > 0, sums / np.maximum(total, 1e-9)[:, None], centres)
        if np.allclose(moved, centres):
            break
        centres = moved
    return centres
