"""A red ball that goes to and fro on black: the published toy clip of the dreams model, frame for frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.data.store import DatasetWriter, require_space
from framecast.media.draw import disc

SIDE, RADIUS, STEP, COLOUR = 64, 10, 2, (255, 0, 0)


@dataclass(frozen=True, kw_only=True)
class BallConfig:
    """videos: how many; each goes on where the one before ended.  frames: of each. The published clip is one video of
    500.  fps: frames per second.
    """

    videos: int = 1
    frames: int = 500
    fps: float = 24.0

    def __post_init__(self) -> None:
        require_least(self, "ball: ", videos=1, frames=1)
        if not self.fps > 0:
            raise UserError(f"ball: fps must be above 0, got {self.fps}")


def places() -> Iterator[int]:
    """The ball's x for ever: 34, 36, …, 64, 66, 64, …, 0, -2, 0, …; 2 px a frame, period 68.

    Source: the published notebook: from 32 upwards, turning once 64 or 0 is reached, which takes one step more.
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


class Ball:
    """Writes a red ball of radius 10 that goes to and fro, 2 px a frame, as a packed store.

    Per frame: `position` (x, y of the centre, px, counted from pixel to pixel).
    """

    Config: ClassVar[type] = BallConfig

    def __init__(self, config: BallConfig) -> None:
        self.config = config

    def prepare(
        self, folder: Path, overwrite: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Draw and write. progress: called with videos done and in all.

        Raises: UserError when the folder is taken or there is too little disk space.
        """
        config = self.config
        require_space(folder, config.videos * config.frames * (3 * SIDE**2 + 8))
        meta = {"generator": "ball", "version": 1, "parameters": asdict(config)}
        place = places()
        with DatasetWriter(folder, config.fps, meta=meta, overwrite=overwrite) as writer:
            for video in range(config.videos):
                xs = [next(place) for _ in range(config.frames)]
                position = np.array([(x, SIDE // 2) for x in xs], np.float32)
                writer.add(
                    (painted((x, SIDE // 2), RADIUS, COLOUR) for x in xs),
                    name=f"ball-{video:05d}",
                    axes="tchw",
                    position=position,
                )
                if progress is not None:
                    progress(video + 1, config.videos)


def painted(centre: tuple[int, int], radius: int, colour: tuple[int, int, int]) -> np.ndarray:
    """A disc on black, uint8 (3, 64, 64)."""
    inside = disc(SIDE, SIDE, centre, radius)
    return inside * np.array(colour, np.uint8)[:, None, None]
