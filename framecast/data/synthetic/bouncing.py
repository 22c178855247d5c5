"""Synthetic source `bouncing`: coloured shapes that bounce on grey, with ground truth per frame.

Motion is computed in integers (sixteenths of a pixel), so the same settings give the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.data.synthetic.generator import Plan, SyntheticSource
from framecast.media.draw import SHAPES, draw_shape

#: Colours of shapes by name; far apart and far from the grey background.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 220),
    "yellow": (240, 220, 60),
    "purple": (160, 50, 180),
    "white": (250, 250, 250),
}

#: Eight colours at full saturation, for the scenes of Table 1 of Wichers et al. (2018).
SATURATED: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "orange": (255, 128, 0),
    "yellow": (255, 255, 0),
    "green": (0, 255, 0),
    "cyan": (0, 255, 255),
    "blue": (0, 0, 255),
    "violet": (128, 0, 255),
    "magenta": (255, 0, 255),
}
PALETTES = {"six": COLOURS, "saturated": SATURATED}

_STEP = 16  # positions and velocities are whole sixteenths of a pixel


@dataclass(frozen=True, kw_only=True)
class BouncingConfig:
    """Settings of the bouncing shapes."""

    videos: int = 100
    """Number of videos."""
    frames: int = 64
    """Frames per video."""
    size: int = 64
    """Height and width, px."""
    shapes: int = 2
    """Shapes per video."""
    size_min: int = 10
    """Minimum side of a shape's bounding box, px."""
    size_max: int = 18
    """Maximum side of a shape's bounding box, px."""
    palette: Literal["six", "saturated"] = "six"
    """Colours of the shapes: six, or eight saturated ones."""
    speed_min: float = 0.5
    """Minimum speed along each axis, px per frame."""
    speed_max: float = 3.0
    """Maximum speed along each axis, px per frame."""
    grey: int = 128
    """Grey level of the background, 0…255."""
    test_videos: int = 0
    """Additional videos of the test split; without any, a tenth of the others is used for testing."""
    test_frames: int = 1024
    """Frames per test video."""
    fps: float = 30.0
    """Frames per second."""
    seed: int = 0
    """Random seed of shapes, colours and motion."""

    def __post_init__(self) -> None:
        require_least(self, "bouncing: ", videos=1, frames=1, size=1, shapes=1, size_min=1, test_frames=1)
        if not self.size_min <= self.size_max < self.size:
            raise UserError(
                f"bouncing: shapes of {self.size_min}…{self.size_max} px do not fit frames of {self.size} px; "
                "need size_min ≤ size_max < size"
            )
        if not 0 <= self.speed_min <= self.speed_max <= self.size - self.size_max:
            raise UserError(
                f"bouncing: speeds {self.speed_min}…{self.speed_max} px per frame must be ordered, at least 0 and at "
                f"most the {self.size - self.size_max} px a shape can travel"
            )
        if self.palette not in PALETTES or self.test_videos < 0:
            raise UserError(
                f"bouncing: need palette {' or '.join(PALETTES)} and test_videos at least 0, got {self.palette!r} and "
                f"{self.test_videos}"
            )
        if not 0 <= self.grey <= 255 or not self.fps > 0 or self.seed < 0:
            raise UserError("bouncing: need grey in 0…255, fps above 0 and seed at least 0")


class Bouncing(SyntheticSource):
    """Bouncing shapes as a packed store.

    Per frame and shape: `kind` (index into media.draw.SHAPES), `colour` (RGB), `position` (x, y of the centre, px,
    origin at the top-left corner), `velocity` (x, y, px per frame, at the time of the frame), `extent` (side of the
    bounding box, px). Shapes pass through each other, later ones in front.
    """

    Config: ClassVar[type] = BouncingConfig
    name = "bouncing"

    def plan(self, folder: Path) -> Plan:
        config: BouncingConfig = self.config
        lengths = [config.frames] * config.videos + [config.test_frames] * config.test_videos
        return Plan(
            total=len(lengths),
            size=sum(lengths) * (3 * config.size**2 + 24 * config.shapes),
            fps=config.fps,
            videos=self._videos(lengths),
            meta={
                "kinds": list(SHAPES),
                "colours": {name: list(colour) for name, colour in PALETTES[config.palette].items()},
            },
        )

    def _videos(self, lengths: list[int]) -> Generator[dict[str, Any], None, None]:
        config: BouncingConfig = self.config
        for video, frames in enumerate(lengths):
            scene = _Scene(config, frames, np.random.default_rng([config.seed, video]))
            test = video >= config.videos
            yield {
                "frames": scene.frames(),
                "name": f"bouncing-test-{video - config.videos:05d}" if test else f"bouncing-{video:05d}",
                "meta": scene.meta(),
                "axes": "tchw",
                "split": ("test" if test else "train") if config.test_videos else None,
                **scene.truth(),
            }


class _Scene:
    """Shapes of one video and their positions in every frame."""

    def __init__(self, config: BouncingConfig, frames: int, rng: np.random.Generator) -> None:
        self.config, self.length, n = config, frames, config.shapes
        self.palette = PALETTES[config.palette]
        self.kind = rng.integers(len(SHAPES), size=n)
        # Colours within a video differ as long as the palette suffices.
        self.colour = np.concatenate([rng.permutation(len(self.palette)) for _ in range(-(-n // len(self.palette)))])[
            :n
        ]
        self.extent = rng.integers(config.size_min, config.size_max + 1, size=n)
        low = (self.extent * _STEP + 1) // 2  # the centre keeps half a shape away from the walls
        high = config.size * _STEP - low
        start = rng.integers(low[:, None], high[:, None] + 1, size=(n, 2))
        slowest, fastest = ceil(config.speed_min * _STEP), int(config.speed_max * _STEP)
        speed = rng.integers(min(slowest, fastest), fastest + 1, size=(n, 2)) * rng.choice([-1, 1], size=(n, 2))
        self.position, self.velocity = _bounce(start, speed, low[:, None], high[:, None], frames)

    def truth(self) -> dict[str, Any]:
        """Per-frame arrays (t, shapes, …); positions are exact in float32."""
        palette = np.array(list(self.palette.values()), np.uint8)
        frames = self.length
        return {
            "kind": np.tile(self.kind.astype(np.uint8), (frames, 1)),
            "colour": np.tile(palette[self.colour], (frames, 1, 1)),
            "position": (self.position / _STEP).astype(np.float32),
            "velocity": (self.velocity / _STEP).astype(np.float32),
            "extent": np.tile(self.extent.astype(np.float32), (frames, 1)),
        }

    def meta(self) -> dict[str, Any]:
        names = list(self.palette)
        return {
            "shapes": [
                {"kind": SHAPES[k], "colour": names[c], "extent": int(e)}
                for k, c, e in zip(self.kind, self.colour, self.extent, strict=True)
            ]
        }

    def frames(self) -> Iterator[np.ndarray]:
        palette = list(self.palette.values())
        for places in self.position / _STEP:
            canvas = np.full((3, self.config.size, self.config.size), self.config.grey, np.uint8)
            for kind, colour, extent, (x, y) in zip(self.kind, self.colour, self.extent, places, strict=True):
                draw_shape(canvas, SHAPES[kind], (float(x), float(y)), float(extent), palette[colour])
            yield canvas


def _bounce(
    start: np.ndarray, velocity: np.ndarray, low: np.ndarray, high: np.ndarray, frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities (frames, n, 2) with mirror reflection at the walls."""
    positions, velocities = [start], [velocity]
    for _ in range(frames - 1):
        place = positions[-1] + velocities[-1]
        under, over = place < low, place > high
        place = np.where(under, 2 * low - place, np.where(over, 2 * high - place, place))
        positions.append(place)
        velocities.append(np.where(under | over, -velocities[-1], velocities[-1]))
    return np.stack(positions), np.stack(velocities)
