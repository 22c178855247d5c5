"""Synthetic source `ball`: a red ball that moves left and right on black, the toy clip of the dreams model.

Source: frame for frame the clip of the published notebook.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.data.synthetic.generator import Plan, SyntheticSource
from framecast.media.draw import disc

SIDE, RADIUS, STEP, COLOUR = 64, 10, 2, (255, 0, 0)


@dataclass(frozen=True, kw_only=True)
class BallConfig:
    """Settings of the ball videos; the published clip is one video of 500 frames."""

    videos: int = 1
    """Number of videos; each continues where the previous one ended."""
    frames: int = 500
    """Frames per video."""
    fps: float = 24.0
    """Frames per second."""

    def __post_init__(self) -> None:
        require_least(self, "ball: ", videos=1, frames=1)
        if not self.fps > 0:
            raise UserError(f"ball: fps must be above 0, got {self.fps}")


def places() -> Iterator[int]:
    """The ball's x without end: 34, 36, …, 64, 66, 64, …, 0, -2, 0, …; 2 px per frame, period 68.

    Source: the published notebook: upwards from 32, reversed one step after 64 or 0 is reached.
    """
    x, up = SIDE // 2, True
    while True:
        if up:
            up = x < SIDE
            x += STEP
        else:
            up = x <= 0
            x -= STEP
        yield x


class Ball(SyntheticSource):
    """A red ball of radius 10 that moves left and right at 2 px per frame, as a packed store.

    Per frame: `position` (x, y of the centre, px, integer pixel coordinates).
    """

    Config: ClassVar[type] = BallConfig
    name = "ball"

    def plan(self, folder: Path) -> Plan:
        config: BallConfig = self.config
        size = config.videos * config.frames * (3 * SIDE**2 + 8)
        return Plan(total=config.videos, size=size, fps=config.fps, videos=self._videos())

    def _videos(self) -> Generator[dict[str, Any], None, None]:
        place = places()
        for video in range(self.config.videos):
            xs = [next(place) for _ in range(self.config.frames)]
            yield {
                "frames": (painted((x, SIDE // 2), RADIUS, COLOUR) for x in xs),
                "name": f"ball-{video:05d}",
                "axes": "tchw",
                "position": np.array([(x, SIDE // 2) for x in xs], np.float32),
            }


def painted(centre: tuple[int, int], radius: int, colour: tuple[int, int, int]) -> np.ndarray:
    """A disc on black, uint8 (3, 64, 64).

    Args:
        centre: x and y, px.
        radius: Radius, px.
        colour: RGB, 0…255.
    """
    inside = disc(SIDE, SIDE, centre, radius)
    return inside * np.array(colour, np.uint8)[:, None, None]
