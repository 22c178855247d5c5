"""Synthetic source `crossroads`: a ball that turns left or right at a crossing with probability one half each."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.core.outcomes import OutcomeDistribution
from framecast.core.types import Clip
from framecast.data.synthetic.generator import Plan, SyntheticSource
from framecast.media.draw import disc

SIDE = 64
LEFT, RIGHT = -1, 1
_CLEAR = 12  # px from the middle at which the outcome is classified


@dataclass(frozen=True, kw_only=True)
class CrossroadsConfig:
    """Settings of the crossroads videos."""

    videos: int = 60
    """Number of videos."""
    crossings: int = 4
    """Crossings per video, one after another."""
    radius: int = 6
    """Radius of the ball, px."""
    step: int = 2
    """Speed of the ball, px per frame."""
    colour: tuple[int, int, int] = (90, 190, 255)
    """Colour of the ball, RGB in 0…255."""
    fps: float = 24.0
    """Frames per second."""
    seed: int = 0
    """Random seed of the turns."""

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
    """Centres of the ball in one crossing, int64 (t, 2) as x, y: up to the middle, then to one side.

    Args:
        config: Radius and step of the ball.
        turn: -1 for left, 1 for right.
    """
    middle = SIDE // 2
    way = np.arange(0, middle + config.radius, config.step)
    up = np.stack([np.full(len(way), middle), middle + way[::-1]], 1)
    side = np.stack([middle + turn * way[1:], np.full(len(way) - 1, middle)], 1)
    return np.concatenate([up, side])


class Crossroads(SyntheticSource):
    """A ball that turns left or right at crossings with probability one half each, as a packed store.

    A video consists of `crossings` crossings with independent turns. Per frame: `position` (x, y of the centre, px),
    `turn` (-1 left, 1 right: the turn of this crossing, which no frame before it shows), `turned` (1 from the first
    frame off the middle on).
    """

    Config: ClassVar[type] = CrossroadsConfig
    name = "crossroads"

    def plan(self, folder: Path) -> Plan:
        config: CrossroadsConfig = self.config
        frames = config.crossings * len(crossing(config, LEFT))
        size = config.videos * frames * (3 * SIDE**2 + 10)
        return Plan(total=config.videos, size=size, fps=config.fps, videos=self._videos())

    def _videos(self) -> Generator[dict[str, Any], None, None]:
        config: CrossroadsConfig = self.config
        colour = np.array(config.colour, np.uint8)[:, None, None]
        for video in range(config.videos):
            turns = np.random.default_rng([config.seed, video]).choice([LEFT, RIGHT], config.crossings)
            at = np.concatenate([crossing(config, int(turn)) for turn in turns])
            yield {
                "frames": (disc(SIDE, SIDE, (int(x), int(y)), config.radius) * colour for x, y in at),
                "name": f"crossroads-{video:05d}",
                "axes": "tchw",
                "position": at.astype(np.float32),
                "turn": np.repeat(turns, len(at) // config.crossings).astype(np.int8),
                "turned": (at[:, 0] != SIDE // 2).astype(np.uint8),
            }

    @staticmethod
    def outcome_distribution(clip: Clip, context: int) -> OutcomeDistribution | None:
        """Left or right with probability one half each, at the first turn after the context; None without a turn.

        Frames are classified shortly after that turn by the mean x of the bright pixels, which must be at least half
        as far from the middle as the true ball.

        Args:
            clip: Context and true future with the per-frame arrays of this source.
            context: Number of context frames.
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

        def classify(frames: np.ndarray) -> int | None:
            bright = frames[at - context].max(0) > 127
            if not bright.any():
                return None
            off = np.nonzero(bright)[1].mean() * SIDE / width - SIDE / 2
            return None if abs(off) < out / 2 else int(off > 0)

        return OutcomeDistribution(outcomes=("left", "right"), probabilities=(0.5, 0.5), classify=classify)
