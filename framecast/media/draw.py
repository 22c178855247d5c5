"""Shapes drawn on uint8 canvases, byte-identical on every machine: all decisions are made on whole numbers.

Positions and sizes are rounded to 1/256 px once; a pixel's coverage is the number of its 4 x 4 sample points that lie
inside the shape. The origin is the top-left corner of the canvas, so pixel (row i, column j) spans [j, j+1) x [i, i+1).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

import numpy as np

SHAPES = ("circle", "square", "triangle")

#: The shapes of a scene in which each kind moves along an axis of its own (source `shapes`): kind -> (outline, the way
#: it moves in x and y, y down), in the order they are drawn: later ones hide earlier ones.
MOVERS: dict[str, tuple[str, tuple[int, int]]] = {
    "circle": ("circle", (0, 1)),
    "triangle": ("triangle-down", (1, -1)),
    "square": ("square", (1, 0)),
}
#: Reference side of such scenes, px; smaller renderings show the same scenes.
SCENE_SIDE = 128

_UNIT = 256  # fixed point: steps per pixel
_GRID = 4  # sample points per pixel and axis
FULL = _GRID * _GRID  # coverage of a pixel that lies wholly inside


def draw_shape(
    canvas: np.ndarray,
    kind: str,
    centre: tuple[float, float],
    size: float,
    colour: Sequence[int],
    antialias: bool = True,
) -> np.ndarray:
    """Draw one shape into `canvas` without copying, and return it. Parts outside the canvas are cropped.

    canvas: uint8 (c, h, w).  kind: "circle", "square" (upright), "triangle" (pointing up, as wide as high) or
    "triangle-down" (the same, upside down).
    centre: (x, y) of the bounding box's centre, px.  size: side of the bounding box, px.  colour: c numbers 0…255.
    antialias: False colours every pixel at least half covered and leaves the others.
    """
    channels, height, width = canvas.shape
    assert canvas.dtype == np.uint8, canvas.dtype
    assert len(colour) == channels, (canvas.shape, colour)
    rows, columns = _box(height, centre[1], size), _box(width, centre[0], size)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return canvas
    share = _count(kind, centre, size, rows, columns).astype(np.int32)
    if not antialias:
        share = np.where(2 * share >= FULL, FULL, 0)
    ink = np.asarray(colour, np.int32)[:, None, None]
    patch = canvas[:, rows.start : rows.stop, columns.start : columns.stop]
    patch[...] = (patch * (FULL - share) + ink * share + FULL // 2) // FULL
    return canvas


def disc(height: int, width: int, centre: tuple[int, int], radius: int) -> np.ndarray:
    """Pixels of a disc without soft edges, bool (h, w): those at most `radius` from the centre, counted from pixel to
    pixel. centre: (x, y), px, whole numbers, also outside the canvas. A whole disc of radius 10 has 317 pixels.
    """
    y = np.arange(height, dtype=np.int64)[:, None] - centre[1]
    x = np.arange(width, dtype=np.int64)[None, :] - centre[0]
    return y * y + x * x <= radius * radius


def coverage(height: int, width: int, kind: str, centre: tuple[float, float], size: float) -> np.ndarray:
    """How much of each pixel a shape covers, uint8 (h, w), 0…`FULL` sixteenths. Arguments as in `draw_shape`."""
    out = np.zeros((height, width), np.uint8)
    rows, columns = _box(height, centre[1], size), _box(width, centre[0], size)
    if rows.start < rows.stop and columns.start < columns.stop:
        out[rows.start : rows.stop, columns.start : columns.stop] = _count(kind, centre, size, rows, columns)
    return out


def _fixed(value: float) -> int:
    # Times a power of two is exact in binary floating point, so only the one rounding remains.
    return floor(value * _UNIT + 0.5)


def _box(limit: int, centre: float, size: float) -> range:
    """Rows or columns a shape may touch."""
    middle, half = _fixed(centre), (_fixed(size) + 1) // 2
    return range(max(0, (middle - half) // _UNIT), min(limit, -(-(middle + half) // _UNIT)))


def _count(kind: str, centre: tuple[float, float], size: float, rows: range, columns: range) -> np.ndarray:
    """Sample points inside the shape, uint8 (len(rows), len(columns))."""

    def samples(span: range, middle: float) -> np.ndarray:
        step = _UNIT // _GRID
        first = span.start * _UNIT + step // 2
        return first + step * np.arange(len(span) * _GRID, dtype=np.int64) - _fixed(middle)

    # Doubled, so that half of an odd size stays whole.
    y, x = 2 * samples(rows, centre[1])[:, None], 2 * samples(columns, centre[0])[None, :]
    side = _fixed(size)
    if kind == "circle":
        inside = x * x + y * y < side * side
    elif kind == "square":
        inside = (np.abs(x) < side) & (np.abs(y) < side)
    elif kind == "triangle":
        inside = (y < side) & (2 * np.abs(x) < y + side)
    elif kind == "triangle-down":
        inside = (y > -side) & (2 * np.abs(x) < side - y)
    else:
        raise ValueError(f"shape {kind!r} is unknown; use one of {', '.join(SHAPES)}")
    counted: np.ndarray = inside.reshape(len(rows), _GRID, len(columns), _GRID).sum(axis=(1, 3)).astype(np.uint8)
    return counted
