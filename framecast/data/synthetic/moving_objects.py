"""Synthetic source `moving-objects`: pairs of frames, a triangle moving down and a square moving right, on black.

Source: the generator published beside the TensorFlow re-implementation of cross convolutional networks
(tensorflow/models, next_frame_prediction/cross_conv): 64x64, every start of both objects on a grid of 3 px, sides,
channels and shifts drawn independently, one in ten for testing.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framecast.core.errors import UserError
from framecast.data.synthetic.generator import Plan, SyntheticSource

SIZE = 64
_STARTS = range(0, 40, 3)  # of each of the four coordinates
_SIDES = (8, 10)
_SHIFTS = (6, 10)
#: Number of combinations of starts.
ALL_PAIRS = len(_STARTS) ** 4


@dataclass(frozen=True, kw_only=True)
class MovingObjectsConfig:
    """Settings of the pairs of moving objects."""

    pairs: int | None = None
    """Number of the 38,416 pairs, in shuffled order; all if not given."""
    seed: int = 0
    """Random seed of order, sides, channels and shifts."""

    def __post_init__(self) -> None:
        if self.pairs is not None and not 3 <= self.pairs <= ALL_PAIRS:
            raise UserError(f"moving-objects: pairs must be 3 to {ALL_PAIRS:,}, got {self.pairs}")
        if self.seed < 0:
            raise UserError(f"moving-objects: seed must be at least 0, got {self.seed}")


class MovingObjects(SyntheticSource):
    """Pairs of a triangle that moves down and a square that moves right, as a packed store.

    The meta of each pair holds, for triangle and square: start (row, column of the top-left corner), side, channel (0
    to 2, the only nonzero one) and shift (px, always positive). The first pair of every ten is test, the rest train.
    """

    Config: ClassVar[type] = MovingObjectsConfig
    name = "moving-objects"
    report_every = 100

    def plan(self, folder: Path) -> Plan:
        total = self.config.pairs or ALL_PAIRS
        return Plan(total=total, size=total * (6 * SIZE**2 + 400), fps=1.0, videos=self._videos(total))

    def _videos(self, total: int) -> Generator[dict[str, Any], None, None]:
        seed = self.config.seed
        order = np.random.default_rng([seed, 0]).permutation(ALL_PAIRS)[:total]
        for i, number in enumerate(order):
            found = scene(int(number), np.random.default_rng([seed, 1, int(number)]))
            yield {
                "frames": frames(found),
                "name": f"moving-objects-{i:05d}",
                "meta": found,
                "axes": "tchw",
                "split": "train" if i % 10 else "test",
            }


def scene(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """The scene with start combination `number` (0…38,415); sides, channels and shifts are drawn from `rng`."""
    starts = [_STARTS[k] for k in np.unravel_index(number, (len(_STARTS),) * 4)]
    return {
        kind: {
            "start": starts[2 * k : 2 * k + 2],
            "side": int(rng.integers(_SIDES[0], _SIDES[1] + 1)),
            "channel": int(rng.integers(3)),
            "shift": int(rng.integers(_SHIFTS[0], _SHIFTS[1] + 1)),
        }
        for k, kind in enumerate(("triangle", "square"))
    }


def frames(scene: dict[str, Any]) -> np.ndarray:
    """The pair, uint8 (2, 3, 64, 64). Each object uses one channel, so overlapping colours add."""
    out = np.zeros((2, 3, SIZE, SIZE), np.uint8)
    for kind, (down, right) in (("triangle", (1, 0)), ("square", (0, 1))):
        thing = scene[kind]
        side = thing["side"]
        shape = np.tri(side, dtype=bool) if kind == "triangle" else np.ones((side, side), bool)
        for t in (0, 1):
            top, left = thing["start"][0] + t * down * thing["shift"], thing["start"][1] + t * right * thing["shift"]
            out[t, thing["channel"], top : top + side, left : left + side][shape] = 255
    return out
