"""Pairs of frames in which every kind of shape moves along an axis of its own, with the truth of every scene.

A circle, a triangle and a square on a flat ground: circles go up and down, squares left and right, triangles along the
diagonal from bottom left to top right. A square's motion is independent; a circle and a triangle move together. Which
way and how far cannot be seen in the first frame, only its law can be learnt.

Source: the data set of Xue, Wu, Bouman, Freeman, "Visual Dynamics", NIPS 2016, as far as the published pictures show
it: geometry, colours, order and axes are measured on them, the law of motion (`law`, `largest`, `jitter`) is a choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.data.store import DatasetWriter, require_space
from framecast.media.draw import MOVERS, SCENE_SIDE, draw_shape

_RADIUS = (13, 19)  # half a shape's height and width, px of SCENE_SIDE
_CENTRE = (32, 96)
_GROUND = (180, 255)  # each channel of the ground, and the strong one of a shape
_WEAK = (0, 75)  # the other two channels of a shape


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """train, val, test, visualise: pairs in each part; those to visualise count as val.  size: height and width, px;
    scenes are those of 128 px, drawn smaller.  law: of the motions: uniform over the whole numbers -largest…largest, or
    normal with standard deviation sd, rounded, redrawn beyond largest.  largest: motion, px of 128.  sd: of the normal
    law, px of 128.  jitter: how far, px, a triangle's motion differs from its circle's at most.  seed: of everything
    drawn.
    """

    train: int = 20_000
    val: int = 500
    test: int = 500
    visualise: int = 8
    size: int = 128
    law: Literal["uniform", "normal"] = "uniform"
    largest: int = 10
    sd: float = 5.0
    jitter: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        require_least(self, "shapes: ", train=1, val=1, test=1, visualise=0, jitter=0, seed=0)
        if not 16 <= self.size <= 1024:
            raise UserError(f"shapes: size must be 16 to 1024 px, got {self.size}")
        if not 1 <= self.largest <= _CENTRE[0]:
            raise UserError(f"shapes: largest must be 1 to {_CENTRE[0]} px, got {self.largest}")
        if self.law == "normal" and not self.sd > 0:
            raise UserError(f"shapes: sd must be above 0, got {self.sd}")


class Shapes:
    """Writes pairs of a circle, a triangle and a square, each moving along an axis of its own, as a packed store.

    Per frame and shape, in the order of drawing (`media.draw.MOVERS`): `position` (x, y of the centre, px of the frame,
    origin at the top-left corner), `extent` (height and width, px of the frame), `colour` (RGB); and `ground` (RGB).
    Of every pair, meta holds motion: {"circle": c, "triangle": t, "square": s} in whole px of a 128 px frame; the
    circle moves (0, c), the triangle (t, -t), the square (s, 0), y down.
    """

    Config: ClassVar[type] = ShapesConfig

    def __init__(self, config: ShapesConfig | None = None) -> None:
        self.config = config or ShapesConfig()

    def prepare(
        self,
        folder: Path | str,
        overwrite: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Draw and write. progress: called with pairs done and in all.

        Raises: UserError when the folder is taken or there is too little disk space.
        """
        config = self.config
        parts = {"test": config.test, "train": config.train, "val": config.val, "visualise": config.visualise}
        total = sum(parts.values())
        require_space(folder, total * (6 * config.size**2 + 400))
        meta = {"generator": "shapes", "version": 1, "parameters": asdict(config), "kinds": list(MOVERS)}
        done = 0
        with DatasetWriter(folder, 1.0, meta=meta, overwrite=overwrite) as writer:
            for number, (part, count) in enumerate(parts.items()):
                for i in range(count):
                    scene = Scene.draw(config, np.random.default_rng([config.seed, number, i]))
                    writer.add(
                        np.stack([scene.frame(config.size, t) for t in (0, 1)]),
                        name=f"shapes-{part}-{i:05d}",
                        meta={"motion": scene.motion},
                        axes="tchw",
                        split="val" if part == "visualise" else part,
                        **scene.truth(config.size),
                    )
                    done += 1
                    if progress is not None and (done % 100 == 0 or done == total):
                        progress(done, total)


@dataclass(frozen=True)
class Scene:
    """What is to be seen in one pair. By kind: centre (x, y), radius (half the extent), colour, motion; px of 128."""

    ground: tuple[int, ...]
    centre: dict[str, tuple[int, int]]
    radius: dict[str, int]
    colour: dict[str, tuple[int, ...]]
    motion: dict[str, int]

    @classmethod
    def draw(cls, config: ShapesConfig, rng: np.random.Generator) -> Scene:
        """A scene by the law of `config`."""

        def between(low: int, high: int, size: int) -> tuple[int, ...]:
            return tuple(int(v) for v in rng.integers(low, high + 1, size))

        strong = rng.permutation(3)  # the shapes have red, green and blue as strong channel, one each
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
        """Centre of a shape in frame t, px of 128."""
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
        """Per-frame arrays (2, shapes, …), px of frames of `size`."""
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
    """A motion, whole px."""
    if config.law == "uniform":
        return int(rng.integers(-config.largest, config.largest + 1))
    while True:
        found = round(float(rng.normal(0, config.sd)))
        if abs(found) <= config.largest:
            return found
