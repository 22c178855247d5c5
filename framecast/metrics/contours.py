"""Second contours of shapes: edges of a shape that a sampled frame has away from the place where the shape is.

A forecast that does not decide how far a shape moves shows it at two places, fainter. For the scenes of
`metrics/displacement.py`; displacements are in px of a 128 px frame.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from framecast.media.draw import FULL, MOVERS, SCENE_SIDE, coverage
from framecast.metrics.displacement import KINDS, REACH, SceneTruth

#: Least distance between a shape and its second contour along its axis, in px of 128.
APART = 6
#: Least step across an edge, as a share of the difference between the shape's colour and the ground's.
STEP = 0.2
#: Least share of the visible outline on which there must be such an edge.
OUTLINE = 0.5
#: Least share of an outline that must be visible to be judged.
_VISIBLE = 0.1
#: Pixels from every edge of the scene in which a second edge is not distinguished from it.
_MARGIN = 1


def second_contours(frames: Tensor, scene: SceneTruth, moved: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Whether each shape has a second contour in frames that may follow a scene, bool (n, k); False where not found.

    The scene is drawn with every shape where it was found, and subtracted. Of what is left, the part along a shape's
    own colour is searched for the shape's outline at all other displacements along its axis, outside the edges of the
    drawn scene.

    Args:
        frames: float (n, 3, h, w) 0…1, h = w.
        scene: of the frame before.
        moved: displacements (n, k, 2) of `find_displacements`.
        found: bool (n, k) of the same.
    """
    side, doubled = frames.shape[-1], np.zeros(found.shape, bool)
    outlines = [_outlines(side, kind, scene) for kind in KINDS]
    ground = scene.ground.astype(float) / 255
    for n, picture in enumerate(frames.detach().double().cpu().numpy()):
        drawn, edges = np.broadcast_to(ground[:, None, None], picture.shape), np.zeros((side, side), bool)
        for k in np.flatnonzero(found[n]):
            cover = covered(side, KINDS[k], scene, moved[n, k])
            drawn = drawn + cover * (scene.colour[k][:, None, None] / 255 - drawn)
            edges |= _steps(cover) >= STEP
        visible = ~_widened(edges, _MARGIN)
        for k in np.flatnonzero(found[n]):
            ink = scene.colour[k] / 255 - ground
            left = ((picture - drawn) * ink[:, None, None]).sum(0) / (ink**2).sum()
            strong = _steps(left) >= STEP
            places, drawn_there = outlines[k]
            apart = np.abs(places - moved[n, k]).max(1) >= APART
            doubled[n, k] = bool((apart & _drawn_along(drawn_there, visible, strong)).any())
    return doubled


def _drawn_along(outlines: np.ndarray, visible: np.ndarray, strong: np.ndarray) -> np.ndarray:
    """Whether enough of each outline is visible and enough of that has a strong edge, bool (p,).

    Args:
        outlines: 0 or 1, float32 (p, h w): counts of pixels are then products of matrices, exact below 2^24.
        visible: bool (h, w).
        strong: bool (h, w).
    """
    masks = np.stack([np.ones_like(visible), visible, visible & strong]).reshape(3, -1)
    whole, seen, edges = (outlines @ masks.T.astype(np.float32)).T.astype(float)
    drawn: np.ndarray = (whole > 0) & (seen >= _VISIBLE * whole) & (edges >= OUTLINE * seen)
    return drawn


def _outlines(side: int, kind: str, scene: SceneTruth) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (p, 2) along a kind's axis in px of 128, and the shape's outline under each, float32 (p, h w)."""
    steps = np.arange(-REACH, REACH + 1)[:, None] * np.array(MOVERS[kind][1])
    edges = [(_steps(covered(side, kind, scene, at)) >= 0.5).ravel() for at in steps]
    return steps, np.stack(edges).astype(np.float32)


def covered(side: int, kind: str, scene: SceneTruth, moved: np.ndarray) -> np.ndarray:
    """Share of every pixel (h, w) that a shape covers when it is displaced by (x, y) px of 128; h = w = side."""
    centre = scene.position[KINDS.index(kind)] + np.asarray(moved) * side / SCENE_SIDE
    place = (float(centre[0]), float(centre[1]))
    return coverage(side, side, MOVERS[kind][0], place, float(scene.extent[KINDS.index(kind)])) / FULL


def _steps(image: np.ndarray) -> np.ndarray:
    """Largest difference between the two neighbours of every pixel (h, w), down or across; frame edges have none."""
    out = np.zeros(image.shape)
    out[1:-1] = np.abs(image[2:] - image[:-2])
    out[:, 1:-1] = np.maximum(out[:, 1:-1], np.abs(image[:, 2:] - image[:, :-2]))
    return out


def _widened(mask: np.ndarray, by: int) -> np.ndarray:
    """Pixels (h, w) at most `by` rows and columns from one of the mask."""
    x = torch.from_numpy(mask.astype(np.float32))[None, None]
    widened: np.ndarray = torch.nn.functional.max_pool2d(x, 2 * by + 1, 1, by)[0, 0].numpy() > 0
    return widened
