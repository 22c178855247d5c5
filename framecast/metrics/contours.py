"""Second contours of shapes: edges of a shape that a sampled frame has away from the place where the shape is.

A forecast that does not decide how far a shape moves shows it at two places, fainter. For the scenes of
`metrics/displacement.py`; displacements are in px of a 128 px frame.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from framecast.media.draw import FULL, MOVERS, SCENE_SIDE, coverage
from framecast.metrics.displacement import KINDS, REACH, SceneTruth, find_displacements

#: Least distance between a shape and its second contour along its axis, in px of 128.
APART = 6
#: Least step across an edge, as a share of the difference between the shape's colour and the ground's.
STEP = 0.2
#: Least share of the visible outline on which there must be such an edge.
OUTLINE = 0.5
#: Least share of an outline that must be visible to be judged.
_VISIBLE = 0.1
#: Pixels from every edge of the scene in which no second edge can be told from it.
_MARGIN = 1


def second_contours(frames: Tensor, scene: SceneTruth) -> tuple[np.ndarray, np.ndarray]:
    """Whether each shape has a second contour in frames that may follow a scene.

    The scene is drawn with every shape where `find_displacements` finds it, and subtracted. Of what is left, the part
    along a shape's own colour is searched for the shape's outline at all other displacements along its axis, outside
    the edges of the drawn scene.

    Args:
        frames: float (n, 3, h, w) 0…1, h = w.
        scene: of the frame before.

    Returns:
        doubled, found: bool (n, k) each; a shape that is not found is not judged.
    """
    moved, found = find_displacements(frames, scene)
    side = frames.shape[-1]
    pixels = frames.detach().double().cpu().numpy()
    doubled = np.zeros(found.shape, bool)
    for n, picture in enumerate(pixels):
        covers = [_covered(side, kind, scene, moved[n, k]) for k, kind in enumerate(KINDS)]
        drawn, edges = (
            np.repeat(scene.ground[:, None, None] / 255, side, 1).repeat(side, 2),
            np.zeros((side, side), bool),
        )
        for k, cover in enumerate(covers):
            if found[n, k]:
                drawn = drawn + cover * (scene.colour[k][:, None, None] / 255 - drawn)
                edges |= _steps(cover) >= STEP
        hidden = _widened(edges, _MARGIN)
        for k, kind in enumerate(KINDS):
            if found[n, k]:
                ink = (scene.colour[k] - scene.ground.astype(float)) / 255
                left = ((picture - drawn) * ink[:, None, None]).sum(0) / (ink**2).sum()
                doubled[n, k] = _has_contour(left, kind, k, scene, moved[n, k], hidden)
    return doubled, found


def _has_contour(left: np.ndarray, kind: str, k: int, scene: SceneTruth, moved: np.ndarray, hidden: np.ndarray) -> bool:
    """Whether an image (h, w), in units of a shape's own contrast, has its outline away from where it was found."""
    direction, side = np.array(MOVERS[kind][1]), len(left)
    strong = _steps(left) >= STEP
    for step in range(-REACH, REACH + 1):
        at = step * direction
        if np.abs(at - moved).max() < APART:
            continue
        outline = _steps(_covered(side, kind, scene, at)) >= 0.5
        visible = outline & ~hidden
        if visible.sum() >= _VISIBLE * outline.sum() > 0 and strong[visible].mean() >= OUTLINE:
            return True
    return False


def _covered(side: int, kind: str, scene: SceneTruth, moved: np.ndarray) -> np.ndarray:
    """Share of every pixel (h, w) that a shape covers when it is displaced by (x, y) px of 128."""
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
