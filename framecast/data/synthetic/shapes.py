"""Synthetic source `shapes`: pairs of frames in which each kind of shape moves along its own axis, with ground truth.

A circle, a triangle and a square on a uniform background: circles move vertically, squares horizontally, triangles
along the diagonal from bottom left to top right. The square's motion is independent; circle and triangle move
together. The first frame does not determine the motion, only its distribution.

Source: the data set of Xue, Wu, Bouman, Freeman, "Visual Dynamics", NIPS 2016, as far as the published images show it:
geometry, colours, order and axes are measured on them; the distribution of motion (`law`, `largest`, `jitter`) is a
choice.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.data.synthetic.generator import Plan, SyntheticSource
from framecast.media.draw import MOVERS, SCENE_SIDE, draw_shape

_RADIUS = (13, 19)  # half a shape's height and width, px of SCENE_SIDE
_CENTRE = (32, 96)
_GROUND = (180, 255)  # each channel of the background, and the strong one of a shape
_WEAK = (0, 75)  # the other two channels of a shape


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """Settings of the pairs of shapes; scenes are defined at 128 px and scaled to `size`."""

    train: int = 20_000
    """Pairs of the train split."""
    val: int = 500
    """Pairs of the val split."""
    test: int = 500
    """Pairs of the test split."""
    visualise: int = 8
    """Pairs for visualisation, part of the val split."""
    size: int = 128
    """Height and width, px."""
    law: Literal["uniform", "normal"] = "uniform"
    """Distribution of the motions: uniform over -largest…largest, or normal, rounded and redrawn beyond largest."""
    largest: int = 10
    """Maximum motion, px at 128 px."""
    sd: float = 5.0
    """Standard deviation of the normal distribution, px at 128 px."""
    jitter: int = 1
    """Maximum difference between the motions of triangle and circle, px at 128 px."""
    seed: int = 0
    """Random seed of the scenes."""

    def __post_init__(self) -> None:
        require_least(self, "shapes: ", train=1, val=1, test=1, visualise=0, jitter=0, seed=0)
        if not 16 <= self.size <= 1024:
            raise UserError(f"shapes: size must be 16 to 1024 px, got {self.size}")
        if not 1 <= self.largest <= _CENTRE[0]:
            raise UserError(f"shapes: largest must be 1 to {_CENTRE[0]} px, got {self.largest}")
        if self.law == "normal" and not self.sd > 0:
            raise UserError(f"shapes: sd must be above 0, got {self.sd}")


class Shapes(SyntheticSource):
    """Pairs of a circle, a triangle and a square, each moving along its own axis, as a packed store.

    Per frame and shape, in the order of drawing (`media.draw.MOVERS`): `position` (x, y of the centre, px of the frame,
    origin at the top-left corner), `extent` (height and width, px of the frame), `colour` (RGB); and `ground` (RGB of
    the background). The meta of each pair holds motion: {"circle": c, "triangle": t, "square": s} in integer px at
    128 px; the circle moves (0, c), the triangle (t, -t), the square (s, 0), y down.
    """

    Config: ClassVar[type] = ShapesConfig
    name = "shapes"
    report_every = 100

    def plan(self, folder: Path) -> Plan:
        config: ShapesConfig = self.config
        parts = {"test": config.test, "train": config.train, "val": config.val, "visualise": config.visualise}
        total = sum(parts.values())
        size = total * (6 * config.size**2 + 400)
        return Plan(total=total, size=size, fps=1.0, videos=self._videos(parts), meta={"kinds": list(MOVERS)})

    def _videos(self, parts: dict[str, int]) -> Generator[dict[str, Any], None, None]:
        config: ShapesConfig = self.config
        for number, (part, count) in enumerate(parts.items()):
            for i in range(count):
                scene = Scene.draw(config, np.random.default_rng([config.seed, number, i]))
                yield {
                    "frames": np.stack([scene.frame(config.size, t) for t in (0, 1)]),
                    "name": f"shapes-{part}-{i:05d}",
                    "meta": {"motion": scene.motion},
                    "axes": "tchw",
                    "split": "val" if part == "visualise" else part,
                    **scene.truth(config.size),
                }


@dataclass(frozen=True)
class Scene:
    """One pair of frames. By kind: centre (x, y), radius (half the extent), colour, motion; px at 128 px."""

    ground: tuple[int, ...]
    centre: dict[str, tuple[int, int]]
    radius: dict[str, int]
    colour: dict[str, tuple[int, ...]]
    motion: dict[str, int]

    @classmethod
    def draw(cls, config: ShapesConfig, rng: np.random.Generator) -> Scene:
        """A random scene under the distribution of `config`."""

        def between(low: int, high: int, size: int) -> tuple[int, ...]:
            return tuple(int(v) for v in rng.integers(low, high + 1, size))

        strong = rng.permutation(3)  # red, green and blue are the strong channel of one shape each
        ground = between(*_GROUND, 3)
        centre, radius, colour = {}, {}, {}
        for kind, channel in zip(MOVERS, strong, strict=True):
            x, y = between(*_CENTRE, 2)
            centre[kind], radius[kind] = (x, y), between(*_RADIUS, 1)[0]
            shade = list(between(*_WEAK, 3))
            shade[channel] = between(*_GROUND, 1)[0]
            colour[kind] = tuple(shade)
        circle, square = _length(config, rng), _length(config, rng)
        apart = int(rng.integers(-config.jitter, config.jitter + 1))
        triangle = int(np.clip(circle + apart, -config.largest, config.largest))
        return cls(ground, centre, radius, colour, {"circle": circle, "triangle": triangle, "square": square})

    def place(self, kind: str, t: int) -> tuple[int, int]:
        """Centre of a shape in frame t, px at 128 px."""
        (x, y), (along_x, along_y), step = self.centre[kind], MOVERS[kind][1], t * self.motion[kind]
        return x + along_x * step, y + along_y * step

    def frame(self, size: int, t: int) -> np.ndarray:
        """Frame t (0 or 1), uint8 (3, size, size)."""
        canvas = np.empty((3, size, size), np.uint8)
        canvas[...] = np.asarray(self.ground, np.uint8)[:, None, None]
        scale = size / SCENE_SIDE
        for kind, (outline, _) in MOVERS.items():
            x, y = self.place(kind, t)
            draw_shape(canvas, outline, (x * scale, y * scale), 2 * self.radius[kind] * scale, self.colour[kind])
        return canvas

    def truth(self, size: int) -> dict[str, Any]:
        """Per-frame arrays (2, shapes, …), px at `size`."""
        scale = size / SCENE_SIDE
        places = np.array([[self.place(kind, t) for kind in MOVERS] for t in (0, 1)])
        extents = np.array([2 * self.radius[kind] for kind in MOVERS])
        return {
            "position": (places * scale).astype(np.float32),
            "extent": np.tile((extents * scale).astype(np.float32), (2, 1)),
            "colour": np.tile(np.array([self.colour[kind] for kind in MOVERS], np.uint8), (2, 1, 1)),
            "ground": np.tile(np.array(self.ground, np.uint8), (2, 1)),
        }


def _length(config: ShapesConfig, rng: np.random.Generator) -> int:
    """A random motion, integer px at 128 px."""
    if config.law == "uniform":
        return int(rng.integers(-config.largest, config.largest + 1))
    while True:
        found = round(float(rng.normal(0, config.sd)))
        if abs(found) <= config.largest:
            return found
