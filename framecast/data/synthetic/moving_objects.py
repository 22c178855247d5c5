"""Pairs of frames in which a triangle moves down and a square moves right, on black.

Source: the generator published beside the TensorFlow re-implementation of cross convolutional networks
(tensorflow/models, next_frame_prediction/cross_conv): 64x64, every start of both objects on a grid of 3 px, sides,
channels and shifts drawn independently, one in ten for testing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framecast.core.errors import UserError
from framecast.data.store import DatasetWriter, require_space

SIZE = 64
_STARTS = range(0, 40, 3)  # of each of the four coordinates
_SIDES = (8, 10)
_SHIFTS = (6, 10)
#: All combinations of starts.
ALL_PAIRS = len(_STARTS) ** 4


@dataclass(frozen=True, kw_only=True)
class MovingObjectsConfig:
    """pairs: how many of the 38,416 there are, the first in shuffled order; none is all.  seed: of order, sides,
    channels and shifts."""

    pairs: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pairs is not None and not 3 <= self.pairs <= ALL_PAIRS:
            raise UserError(f"moving-objects: pairs must be 3 to {ALL_PAIRS:,}, got {self.pairs}")
        if self.seed < 0:
            raise UserError(f"moving-objects: seed must be at least 0, got {self.seed}")


class MovingObjects:
    """Writes pairs of a triangle that moves down and a square that moves right, as a packed store.

    Of every pair, meta holds, for triangle and square: start (row, column of the top-left corner), side, channel (0 to
    2, the only one that is lit) and shift (px, always positive). The first pair of every ten is test, the rest train.
    """

    Config: ClassVar[type] = MovingObjectsConfig

    def __init__(self, config: MovingObjectsConfig | None = None) -> None:
        self.config = config or MovingObjectsConfig()

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
        total = config.pairs or ALL_PAIRS
        require_space(folder, total * (6 * SIZE**2 + 400))
        meta = {"generator": "moving-objects", "version": 1, "parameters": asdict(config)}
        order = np.random.default_rng([config.seed, 0]).permutation(ALL_PAIRS)[:total]
        with DatasetWriter(folder, 1.0, meta=meta, overwrite=overwrite) as writer:
            for i, number in enumerate(order):
                found = scene(int(number), np.random.default_rng([config.seed, 1, int(number)]))
                writer.add(
                    frames(found),
                    name=f"moving-objects-{i:05d}",
                    meta=found,
                    axes="tchw",
                    split="train" if i % 10 else "test",
                )
                if progress is not None and ((i + 1) % 100 == 0 or i + 1 == total):
                    progress(i + 1, total)


def scene(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """The scene with start combination `number` (0…38,415); the rest drawn from `rng`."""
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
    """The pair, uint8 (2, 3, 64, 64). Objects light one channel each, so where they cross their colours add."""
    out = np.zeros((2, 3, SIZE, SIZE), np.uint8)
    for kind, (down, right) in (("triangle", (1, 0)), ("square", (0, 1))):
        thing = scene[kind]
        side = thing["side"]
        shape = np.tri(side, dtype=bool) if kind == "triangle" else np.ones((side, side), bool)
        for t in (0, 1):
            top, left = thing["start"][0] + t * down * thing["shift"], thing["start"][1] + t * right * thing["shift"]
            out[t, thing["channel"], top : top + side, left : left + side][shape] = 255
    return out
