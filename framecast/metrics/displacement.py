"""Displacements of shapes in sampled frames, and their distribution compared with the true one.

For scenes of `media.draw.MOVERS` (source `shapes`), in which each kind of shape moves along its own axis. All
displacements are in px of a 128 px frame, whatever the size of the frames; x to the right, y down.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.media.draw import FULL, MOVERS, SCENE_SIDE, coverage

KINDS = tuple(MOVERS)
#: Largest displacement searched, in px of 128, along each axis.
REACH = 14
#: Histograms have a bin for each whole displacement from -LARGEST to LARGEST; larger ones count in the last bins.
LARGEST = 10
#: Pseudo-count added to every bin before two histograms are compared.
SMOOTHING = 1e-3
#: The motion along the shape's own axis, and across it, from (dx, dy); the true motion has 0 across.
_ALONG = {"circle": (0, 1), "triangle": (1, 0), "square": (1, 0)}
_ACROSS = {"circle": (1, 0), "triangle": (1, 1), "square": (0, 1)}


@dataclass(frozen=True)
class SceneTruth:
    """Shapes of the first frame of a pair, in the order of `KINDS`.

    Attributes:
        position: (k, 2) centres, x and y, px of the frame.
        extent: (k,) heights, px of the frame.
        colour: (k, 3) RGB, 0…255.
        ground: (3,) RGB, 0…255.
    """

    position: np.ndarray
    extent: np.ndarray
    colour: np.ndarray
    ground: np.ndarray

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], frame: int = 0) -> SceneTruth:
        """The scene at a frame of a clip with the per-frame arrays of source `shapes`."""
        return cls(*(np.asarray(arrays[name][frame]) for name in ("position", "extent", "colour", "ground")))


def find_displacements(frames: Tensor, scene: SceneTruth) -> tuple[np.ndarray, np.ndarray]:
    """Displacement of each shape of a scene in frames that may follow it.

    All whole displacements up to `REACH` along both axes are searched. For each, the shape is drawn on the ground and
    compared with the frame, squared error over the pixels that any of the displacements reaches. A pixel belongs to the
    shape or ground whose colour is nearest: shapes drawn later hide this one, so their pixels are left out; those
    drawn earlier count as ground. A shape is found if the best error is below half of the error without the shape;
    otherwise it is a ghost, or hidden.

    Args:
        frames: float (n, 3, h, w) 0…1, h = w.

    Returns:
        Displacements (n, k, 2), x and y, whole px of 128; found (n, k).
    """
    n, _, height, width = frames.shape
    if height != width:
        raise ValueError(f"scenes are square, got frames of {height}x{width}")
    colours = torch.from_numpy(np.concatenate([scene.ground[None], scene.colour]).astype(np.float32) / 255)
    pixels = frames.detach().float().cpu()
    distances = (pixels[:, None] - colours[None, :, :, None, None]).square().sum(2)
    nearest = distances.argmin(1)  # 0 ground, then the shapes
    moved = np.zeros((n, len(KINDS), 2), np.int64)
    found = np.zeros((n, len(KINDS)), bool)
    for k, kind in enumerate(KINDS):
        x, y = (float(v) for v in scene.position[k])
        left, top = floor(x), floor(y)
        side, patterns = _patterns(MOVERS[kind][0], float(scene.extent[k]), x - left, y - top, SCENE_SIDE / height)
        seen = nearest <= k + 1  # what is drawn later may hide it
        below = (nearest > 0) & (nearest <= k)  # what is drawn earlier shows that it is not here, as the ground does
        shift = (pixels - colours[0][:, None, None]) * ~below[:, None]
        ink = colours[k + 1] - colours[0]
        agree = (shift * ink[:, None, None]).sum(1) * seen
        window = _window(torch.stack([agree, seen.float(), shift.square().sum(1) * seen], 1), left, top, side)
        agree, visible, absent = window.flatten(2).unbind(1)
        cover = torch.from_numpy(patterns).float() / FULL  # (displacements, pixels)
        error = absent.sum(1, keepdim=True) - 2 * agree @ cover.T + ink.square().sum() * (visible @ cover.square().T)
        best, at = error.min(1)
        moved[:, k, 0] = (at % (2 * REACH + 1) - REACH).numpy()
        moved[:, k, 1] = (at // (2 * REACH + 1) - REACH).numpy()
        found[:, k] = (best < 0.5 * absent.sum(1)).numpy()
    return moved, found


@functools.lru_cache(maxsize=256)
def _patterns(outline: str, extent: float, x: float, y: float, scale: float) -> tuple[int, np.ndarray]:
    """(side, patterns): coverage of a shape under every displacement, uint8 (displacements, side * side), 0…FULL.

    Args:
        x: Position within the central pixel of the window.
        y: Likewise.
        scale: px of 128 in a px of the frame.
    """
    half = ceil(extent / 2 + REACH / scale) + 1
    side = 2 * half + 1
    drawn: dict[tuple[float, float], np.ndarray] = {}  # whole pixels apart, shapes look the same
    shown = np.zeros(((2 * REACH + 1) ** 2, side, side), np.uint8)
    steps = [divmod(step / scale, 1) for step in range(-REACH, REACH + 1)]
    for i, (down, low) in enumerate(steps):
        for j, (across, right) in enumerate(steps):
            if (low, right) not in drawn:
                drawn[low, right] = coverage(side, side, outline, (half + x + right, half + y + low), extent)
            pattern = drawn[low, right]
            rows, columns = _overlap(int(down), side), _overlap(int(across), side)
            shown[i * len(steps) + j, rows[0], columns[0]] = pattern[rows[1], columns[1]]
    return side, shown.reshape(len(shown), -1)


def _overlap(shift: int, side: int) -> tuple[slice, slice]:
    """Rows to fill and rows to copy when an image is shifted by whole pixels."""
    return slice(max(shift, 0), side + min(shift, 0)), slice(max(-shift, 0), side + min(-shift, 0))


def _window(maps: Tensor, left: int, top: int, side: int) -> Tensor:
    """Maps (n, c, h, w) cut to a window around a pixel, zeros where it leaves the frame."""
    half = side // 2
    padded = torch.nn.functional.pad(maps, (half, half, half, half))
    height, width = maps.shape[-2:]
    top, left = min(max(top, 0), height - 1), min(max(left, 0), width - 1)
    return padded[..., top : top + side, left : left + side]


# ------------------------------------------------------------------------------------------------------ distributions


@dataclass
class Displacements:
    """Displacements of many samples of many images, collected image by image with `add`.

    Attributes:
        images: One (samples, k, 2) array of displacements and one (samples, k) bool array of detections per image.
    """

    images: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, frames: Tensor, scene: SceneTruth) -> None:
        """Add samples (n, 3, h, w) 0…1 of the frame after a scene."""
        self.images.append(find_displacements(frames, scene))

    def along(self, kind: str) -> list[np.ndarray]:
        """Motion along a shape's own axis, image by image, for the detected shapes."""
        return [_project(moved, _ALONG, kind)[found[:, KINDS.index(kind)]] for moved, found in self.images]

    def summary(self, motions: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """All statistics as plain JSON.

        Of each kind: rejected (share of samples in which it was not detected), off_axis (share of the detected ones at
        most 1 px off their axis), sd_ratio (standard deviation of sampled over true motion), within_image_sd (mean over
        images of the standard deviation of the samples, px), kl (of the true from the sampled histogram, nats), and
        both histograms. Of pairs of kinds: kl_circle_triangle on the joint histogram, correlations of circle with
        triangle and square. None marks a statistic with too few detections.

        Args:
            motions: True motion along the own axis by kind, of many scenes.
        """
        shapes = {kind: self._shape(kind, np.asarray(motions[kind])) for kind in KINDS}
        both = self._pair("circle", "triangle")
        true = (np.asarray(motions["circle"]), np.asarray(motions["triangle"]))
        return {
            "images": len(self.images),
            "samples": sum(len(moved) for moved, _ in self.images),
            "bins": [-LARGEST, LARGEST],
            "shapes": shapes,
            "kl_circle_triangle": kl_divergence(table(*true), table(*both)) if len(both[0]) else None,
            "corr_circle_triangle": _correlation(*both),
            "corr_circle_square": _correlation(*self._pair("circle", "square")),
            "true_corr_circle_triangle": _correlation(*true),
        }

    def _shape(self, kind: str, true: np.ndarray) -> dict[str, Any]:
        at = KINDS.index(kind)
        found = np.concatenate([f[:, at] for _, f in self.images])
        across = np.concatenate([_project(moved, _ACROSS, kind)[f[:, at]] for moved, f in self.images])
        per_image = self.along(kind)
        along = np.concatenate(per_image)
        spreads = [float(np.std(values)) for values in per_image if len(values) > 1]
        return {
            "rejected": float(1 - found.mean()),
            "off_axis": float((np.abs(across) <= 1).mean()) if len(across) else None,
            "sd_ratio": float(np.std(along) / np.std(true)) if len(along) and np.std(true) else None,
            "within_image_sd": float(np.mean(spreads)) if spreads else None,
            "kl": kl_divergence(histogram(true), histogram(along)) if len(along) else None,
            "true": _shares(histogram(true)),
            "sampled": _shares(histogram(along)),
        }

    def _pair(self, one: str, other: str) -> tuple[np.ndarray, np.ndarray]:
        """Motions of two kinds in the samples in which both were detected."""
        values: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for moved, found in self.images:
            rows = found[:, KINDS.index(one)] & found[:, KINDS.index(other)]
            for kind, into in ((one, values[0]), (other, values[1])):
                into.append(_project(moved, _ALONG, kind)[rows])
        return np.concatenate(values[0]), np.concatenate(values[1])


def _project(moved: np.ndarray, onto: Mapping[str, tuple[int, int]], kind: str) -> np.ndarray:
    """Projection of the displacements (n, k, 2) of a kind onto a direction: (n,)."""
    out: np.ndarray = moved[:, KINDS.index(kind)] @ np.asarray(onto[kind])
    return out


def histogram(values: np.ndarray) -> np.ndarray:
    """Counts of whole displacements -LARGEST…LARGEST, float64; larger ones count in the last bins."""
    at = np.clip(np.asarray(values, np.int64), -LARGEST, LARGEST) + LARGEST
    return np.bincount(at, minlength=2 * LARGEST + 1).astype(np.float64)


def table(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Counts of pairs of displacements, (21, 21) as `histogram`."""
    bins = 2 * LARGEST + 1
    rows, columns = (np.clip(np.asarray(v, np.int64), -LARGEST, LARGEST) + LARGEST for v in (one, other))
    return np.bincount(rows * bins + columns, minlength=bins * bins).reshape(bins, bins).astype(np.float64)


def kl_divergence(true: np.ndarray, predicted: np.ndarray) -> float:
    """D(true || predicted) in nats between two histograms of counts of one shape, `SMOOTHING` added to every bin.

    Of n counts of the true law in b bins it is about (b - 1) / 2n too large.

    Source: the measure of section 5.1 of the Visual Dynamics paper; bins and smoothing are ours.
    """
    p, q = (h.ravel() + SMOOTHING for h in (true, predicted))
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def _shares(counts: np.ndarray) -> list[float]:
    total = counts.sum()
    return [float(c / total) if total else 0.0 for c in counts]


def _correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    if len(one) < 2 or np.std(one) == 0 or np.std(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


# ------------------------------------------------------------------------------------------------------- baselines
