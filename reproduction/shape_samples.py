"""Samples of `shapes` on fresh scenes: second contours, triangles on their axis, whole and half-hidden, and roll-outs.

The scenes are of seeds that no training and no split of the stored pairs has. Of each scene one sample is drawn for
each kind of code, so that samples are independent and a share has a binomial interval (Clopper and Pearson, 95 %).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from framecast.data.base import Source
from framecast.data.synthetic.shapes import Scene, ShapesConfig
from framecast.evaluation.limits import training_limits
from framecast.evaluation.motion import samplers
from framecast.evaluation.summaries import STATISTICS
from framecast.media.grid import grid
from framecast.media.images import write_image
from framecast.metrics.contours import covered, second_contours
from framecast.metrics.displacement import KINDS, SceneTruth, find_displacements
from framecast.metrics.frames import sharpness
from framecast.metrics.summary import first_frame
from framecast.models.base import Predictor
from framecast.models.rollout import evaluating

#: Seeds of the scenes: of choices between trainings, and of what is reported.
SEEDS = {"val": 20261129, "test": 20261130}
#: A triangle is whole if at most this share of it is under the square in neither frame, half-hidden from `HIDDEN` on.
WHOLE, HIDDEN = 0.01, 1 / 3
#: Samples of each first frame that are rolled out.
ROLLED = 4
#: Scenes that are sampled at once.
_AT_ONCE = 50


@dataclass(frozen=True)
class Fresh:
    """Scenes at the size of a model.

    Attributes:
        scenes: as they were drawn.
        frames: both frames of each, (n, 2, 3, h, w) 0…1.
        truths: of the first frames.
    """

    scenes: list[Scene]
    frames: Tensor
    truths: list[SceneTruth]


def fresh(count: int, size: int, split: str = "test") -> Fresh:
    """Scenes of the default law of `shapes`; `split` names the seed."""
    drawn = [Scene.draw(ShapesConfig(), np.random.default_rng([SEEDS[split], i])) for i in range(count)]
    frames = np.stack([[scene.frame(size, t) for t in (0, 1)] for scene in drawn])
    truths = [SceneTruth.from_arrays(scene.truth(size)) for scene in drawn]
    return Fresh(drawn, torch.from_numpy(frames).float() / 255, truths)


def share(of: np.ndarray) -> dict[str, Any]:
    """Share of true values with its binomial interval, and their number; None without any."""
    n = len(of)
    if not n:
        return {"n": 0, "share": None, "low": None, "high": None}
    low, high = binomtest(int(of.sum()), n).proportion_ci()
    return {"n": n, "share": float(of.mean()), "low": float(low), "high": float(high)}


@torch.no_grad()
def contours(model: Predictor, count: int, split: str = "test") -> dict[str, Any]:
    """Second contours and positions of shapes, by the codes that samples are made with (`sources`)."""
    data = fresh(count, model.config.size, split)
    with evaluating(model):
        return {name: measured(torch.cat(list(parts)), data.truths) for name, parts in sources(model, data).items()}


def sources(model: Predictor, data: Fresh) -> dict[str, Iterator[Tensor]]:
    """Frames (n, 3, h, w) after the first ones, in parts: the true ones, those decoded from the mean code of the true
    pair, and one sample of each prior."""

    def parts(make: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        return (make(pairs) for pairs in data.frames.split(_AT_ONCE))

    def own(pairs: Tensor) -> Tensor:
        decoded: Tensor = model.decode(model.encode(pairs), pairs[:, :1])[:, 0]  # type: ignore[operator]
        return decoded

    found = {"true frames": parts(lambda pairs: pairs[:, 1]), "own code": parts(own)}
    for name, sampler in samplers(model).items():
        generator = torch.Generator().manual_seed(0)
        found[name] = parts(lambda pairs, s=sampler, g=generator: s(pairs[:, :1], 1, g)[0])  # type: ignore[misc]
    return found


def measured(frames: Tensor, truths: list[SceneTruth]) -> dict[str, Any]:
    """Shares, see `share`, of frames (n, 3, h, w), one after each scene.

    Returns:
        doubled: samples with a second contour of any shape. shapes: of each kind lost (not found: hidden or blurred),
        doubled (of those found) and on_axis (of those found, at most 1 px of 128 off). triangles: on_axis and lost of
        whole and half-hidden ones, by the frame, of both, in which the square covers more of them.
    """
    moved, found, twice, hidden = [], [], [], []
    for frame, truth in zip(frames, truths, strict=True):
        places, seen = find_displacements(frame[None], truth)
        moved.append(places[0])
        found.append(seen[0])
        twice.append(second_contours(frame[None], truth, places, seen)[0])
        hidden.append(max(_hidden(truth, frame.shape[-1], at) for at in (0 * places[0], places[0] * seen[0][:, None])))
    across = np.stack([_off_axis(KINDS[k], np.stack(moved)[:, k]) for k in range(len(KINDS))], 1)
    seen, doubled, on = np.stack(found), np.stack(twice), across <= 1
    t, under = KINDS.index("triangle"), np.array(hidden)
    classes = {"whole": under <= WHOLE, "half-hidden": under >= HIDDEN}
    return {
        "doubled": share(doubled.any(1)),
        "shapes": {
            kind: {
                "lost": share(~seen[:, k]),
                "doubled": share(doubled[seen[:, k], k]),
                "on_axis": share(on[seen[:, k], k]),
            }
            for k, kind in enumerate(KINDS)
        },
        "triangles": {
            name: {"lost": share(~seen[rows, t]), "on_axis": share(on[rows & seen[:, t], t])}
            for name, rows in classes.items()
        },
    }


def _off_axis(kind: str, moved: np.ndarray) -> np.ndarray:
    """Distance (n,) from a kind's axis of displacements (n, 2), px of 128; of the diagonal the sum of both."""
    x, y = moved.T
    return np.abs({"circle": x, "triangle": x + y, "square": y}[kind])


def _hidden(truth: SceneTruth, side: int, moved: np.ndarray) -> float:
    """Share of the triangle under the square, which is drawn last, when the shapes are displaced by (k, 2)."""
    triangle, square = (covered(side, kind, truth, moved[KINDS.index(kind)]) for kind in ("triangle", "square"))
    return float((triangle * square).sum() / triangle.sum())


# ---------------------------------------------------------------------------------------------------------- roll-outs


@torch.no_grad()
def rollouts(model: Predictor, source: Source, count: int, horizon: int, picture: Path) -> dict[str, Any]:
    """Roll-outs of `horizon` frames with a fresh code at every frame, beside scenes that move on by fresh motions.

    Args:
        model: trained on shapes; its own prior is used.
        source: of the training, for the range of its statistics.
        count: scenes.
        horizon: frames.
        picture: of five scenes, true and sampled, is written there.

    Returns:
        By frame: skill (S over copy-last, error of the samples), skill_of_mean (of the mean of `ROLLED` samples),
        outside (share of samples with mean, variance or sharpness beyond those of training frames), area (visible
        pixels of each shape over those in the true scenes). unstable_from: first frame with more than half outside.
    """
    size = model.config.size
    data = fresh(count, size)
    truth = torch.stack([_moved_on(scene, size, horizon, i) for i, scene in enumerate(data.scenes)])
    with evaluating(model):
        parts = [
            model.predict(part[:, :1], horizon, samples=ROLLED, generator=torch.Generator().manual_seed(i))
            for i, part in enumerate(data.frames.split(_AT_ONCE))
        ]
    drawn = torch.cat(parts, 1)
    first = data.frames[:, :1]
    copied = (truth - first).square().mean((0, 2, 3, 4))
    limits = training_limits(source, "test", (2,), (size, size))
    assert limits is not None
    outside = _outside(drawn.flatten(0, 1), limits)
    areas = [_areas(frames, data.truths) for frames in (drawn[0], truth)]
    named = (("true", truth), ("sample", drawn[0]))
    rows = {f"{what} {i + 1}": torch.cat([first[i], x[i]]) for i in range(5) for what, x in named}
    write_image(grid(rows, captions=[str(t) for t in range(horizon + 1)]), picture)
    unstable = first_frame(outside, range(1, horizon + 1))
    return {
        "scenes": count,
        "samples": ROLLED,
        "skill": (1 - (drawn - truth).square().mean((0, 1, 3, 4, 5)) / copied).tolist(),
        "skill_of_mean": (1 - (drawn.mean(0) - truth).square().mean((0, 2, 3, 4)) / copied).tolist(),
        "outside": outside,
        "outside_true": _outside(truth, limits),
        "unstable_from": unstable,
        "area": {kind: (areas[0][:, k] / areas[1][:, k]).tolist() for k, kind in enumerate(KINDS)},
    }


def _moved_on(scene: Scene, size: int, horizon: int, number: int) -> Tensor:
    """Frames (horizon, 3, h, w) 0…1 after the first one of a scene, with a fresh motion for each."""
    rng, frames = np.random.default_rng([SEEDS["test"], 1, number]), []
    for _ in range(horizon):
        scene = replace(scene, motion=Scene.draw(ShapesConfig(), rng).motion)
        frames.append(scene.frame(size, 1))
        scene = replace(scene, centre={kind: scene.place(kind, 1) for kind in KINDS})
    return torch.from_numpy(np.stack(frames)).float() / 255


def _outside(frames: Tensor, limits: dict[str, tuple[float, float]]) -> list[float]:
    """Share of frames (n, t, 3, h, w) at each t with a statistic outside of its limits."""
    found = np.zeros(frames.shape[:2], bool)
    for n, t in np.ndindex(*found.shape):
        image = frames[n, t].double()
        values = (image.mean(), image.var(correction=0), sharpness(image))
        for name, value in zip(STATISTICS, values, strict=True):
            found[n, t] |= not limits[name][0] <= float(value) <= limits[name][1]
    return [float(v) for v in found.mean(0)]


def _areas(frames: Tensor, truths: list[SceneTruth]) -> np.ndarray:
    """Pixels (t, k) nearest to each shape's colour of all colours of its scene, over frames (n, t, 3, h, w)."""
    total = np.zeros((frames.shape[1], len(KINDS)))
    for clip, truth in zip(frames, truths, strict=True):
        colours = torch.from_numpy(np.concatenate([truth.ground[None], truth.colour]).astype(np.float32) / 255)
        nearest = (clip[:, None] - colours[None, :, :, None, None]).square().sum(2).argmin(1)
        total += np.stack([(nearest == k + 1).sum((1, 2)).numpy() for k in range(len(KINDS))], 1)
    return total
