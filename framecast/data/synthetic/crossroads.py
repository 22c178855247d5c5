"""A ball that comes to a crossing and turns left or right, each as often: the smallest video with two futures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.core.types import Clip, OutcomeDistribution
from framecast.data.store import DatasetWriter, require_space
from framecast.media.draw import disc

SIDE = 64
LEFT, RIGHT = -1, 1
_CLEAR = 12  # px off the middle at which a turn is told from the picture


@dataclass(frozen=True, kw_only=True)
class CrossroadsConfig:
    """videos: how many.  crossings: one after another in each.  radius: of the ball, px.  step: px per frame.
    colour: of the ball, RGB.  fps: frames per second.  seed: of the turns.
    """

    videos: int = 60
    crossings: int = 4
    radius: int = 6
    step: int = 2
    colour: tuple[int, int, int] = (90, 190, 255)
    fps: float = 24.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_least(self, "crossroads: ", videos=1, crossings=1, radius=1, step=1)
        if max(self.radius, self.step) > SIDE // 4:
            raise UserError(
                f"crossroads: radius {self.radius} and step {self.step} must be at most {SIDE // 4} px, a quarter of "
                "the scene"
            )
        if not all(0 <= value <= 255 for value in self.colour):
            raise UserError(f"crossroads: colour must be three numbers in 0…255, got {self.colour}")
        if not self.fps > 0 or self.seed < 0:
            raise UserError("crossroads: need fps above 0 and seed at least 0")


def crossing(config: CrossroadsConfig, turn: int) -> np.ndarray:
    """Centres of the ball in one crossing, int64 (t, 2) as x, y: from below up to the middle, then to one side, in
    sight in every frame. turn: -1 left, 1 right.
    """
    middle = SIDE // 2
    way = np.arange(0, middle + config.radius, config.step)
    up = np.stack([np.full(len(way), middle), middle + way[::-1]], 1)
    side = np.stack([middle + turn * way[1:], np.full(len(way) - 1, middle)], 1)
    return np.concatenate([up, side])


class Crossroads:
    """Writes a ball that turns left or right at a crossing, half the time each, as a packed store.

    A video is `crossings` of them one after another; every turn is drawn anew. Per frame: `position` (x, y of the
    centre, px), `turn` (-1 left, 1 right: what this crossing's turn is or will be, which no picture before it tells),
    `turned` (1 from the first frame off the middle on).
    """

    Config: ClassVar[type] = CrossroadsConfig

    def __init__(self, config: CrossroadsConfig) -> None:
        self.config = config

    def prepare(
        self, folder: Path, overwrite: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Draw and write. progress: called with videos done and in all.

        Raises: UserError when the folder is taken or there is too little disk space.
        """
        config = self.config
        frames = config.crossings * len(crossing(config, LEFT))
        require_space(folder, config.videos * frames * (3 * SIDE**2 + 10))
        meta = {"generator": "crossroads", "version": 1, "parameters": asdict(config)}
        colour = np.array(config.colour, np.uint8)[:, None, None]
        with DatasetWriter(folder, config.fps, meta=meta, overwrite=overwrite) as writer:
            for video in range(config.videos):
                turns = np.random.default_rng([config.seed, video]).choice([LEFT, RIGHT], config.crossings)
                at = np.concatenate([crossing(config, int(turn)) for turn in turns])
                writer.add(
                    (disc(SIDE, SIDE, (int(x), int(y)), config.radius) * colour for x, y in at),
                    name=f"crossroads-{video:05d}",
                    axes="tchw",
                    position=at.astype(np.float32),
                    turn=np.repeat(turns, frames // config.crossings).astype(np.int8),
                    turned=(at[:, 0] != SIDE // 2).astype(np.uint8),
                )
                if progress is not None:
                    progress(video + 1, config.videos)

    @staticmethod
    def law(clip: Clip, context: int) -> OutcomeDistribution | None:
        """Left or right, each with probability one half, at the first turn after the context; None without one.

        What frames show is told a little after that turn: by the side of the middle that holds the centre of what is
        bright, which must be at least half as far out as the ball is.
        """
        turned, position = clip.arrays["turned"].astype(int), clip.arrays["position"]
        turns = [k for k in range(context, len(turned)) if turned[k] and not turned[k - 1]]
        if not turns:
            return None
        width = clip.frames.shape[3]
        at = turns[0]
        while at + 1 < len(turned) and turned[at + 1] and abs(position[at, 0] - SIDE / 2) < _CLEAR:
            at += 1
        out = abs(float(position[at, 0]) - SIDE / 2)

        def tell(frames: np.ndarray) -> int | None:
            bright = frames[at - context].max(0) > 127
            if not bright.any():
                return None
            off = np.nonzero(bright)[1].mean() * SIDE / width - SIDE / 2
            return None if abs(off) < out / 2 else int(off > 0)

        return OutcomeDistribution(outcomes=("left", "right"), probabilities=(0.5, 0.5), classify=tell)
