"""Screen of the emulator at palette level: exact colours, cropped to the field, reduced by whole numbers."""

from __future__ import annotations

from collections import deque
from functools import reduce
from typing import Any

import numpy as np

#: Field of play: (top, left, bottom, right), px of the emulator's frame.
FIELDS = {
    "pong": (34, 0, 194, 160),
    "breakout": (32, 8, 194, 152),
    "freeway": (16, 8, 192, 160),
    "ms_pacman": (0, 0, 172, 160),
}
#: Number of emulator frames within which a colour that vanishes is painted from its newest frame.
FLICKER = 3

_PILOT = 600  # emulator frames in which colours are counted


class Screen:
    """The image of a console as it is recorded.

    Args:
        field: Crop (top, left, bottom, right), px; None for the whole screen.
        factor: Side of the blocks that become one pixel; of the colours in a block the rarest in the game is taken, so
            that nothing thin vanishes.
        deflicker: Paint a colour that the newest frame lacks as in the newest of the last three that has it.
        ranks: Rank of each palette index by rarity, uint8 (256,), highest for the rarest.
    """

    def __init__(
        self, field: tuple[int, int, int, int] | None, factor: int, deflicker: bool, ranks: np.ndarray
    ) -> None:
        self.field, self.factor, self.ranks = field, factor, ranks
        self.colours, self.known = np.zeros((256, 3), np.uint8), np.zeros(256, np.bool_)
        self.memory = FLICKER if deflicker else 1  # newest emulator frames that count
        self.recent: deque[np.ndarray] = deque(maxlen=self.memory)

    def push(self, console: Any) -> None:
        """Take over the console's image after an emulator frame."""
        image = console.getScreen()
        if not self.known.take(image).all():
            rgb, flat = console.getScreenRGB().reshape(-1, 3), image.ravel()
            indices, first = np.unique(flat, return_index=True)
            self.colours[indices], self.known[indices] = rgb[first], True
        if self.field is not None:
            top, left, bottom, right = self.field
            image = image[top:bottom, left:right]
        self.recent.append(image.copy())

    def image(self) -> np.ndarray:
        """The image, uint8 (h, w, 3)."""
        found = self.recent[-1]
        if len(self.recent) > 1:
            found, seen = found.copy(), np.bincount(found.ravel(), minlength=256) > 0
            for older in reversed(list(self.recent)[:-1]):
                here = np.bincount(older.ravel(), minlength=256) > 0
                if (here & ~seen).any():
                    missing = (here & ~seen)[older]
                    found[missing] = older[missing]
                seen |= here
        return self.colours.take(shrink(found, self.factor, self.ranks), 0)


def shrink(image: np.ndarray, factor: int, ranks: np.ndarray) -> np.ndarray:
    """Palette indices reduced by a whole factor; of each block the colour of highest rank remains.

    Args:
        image: uint8 (h, w); rows and columns beyond a multiple of the factor are left out.
        factor: Side of a block, px.
        ranks: Rank of each index, uint8 (256,), distinct.
    """
    if factor == 1:
        return image
    height, width = image.shape[0] // factor * factor, image.shape[1] // factor * factor
    ranked = ranks.take(image[:height, :width])
    parts = (ranked[i::factor, j::factor] for i in range(factor) for j in range(factor))
    found: np.ndarray = np.argsort(ranks).astype(np.uint8).take(reduce(np.maximum, parts))
    return found


def rank_colours(console: Any, field: tuple[int, int, int, int] | None) -> np.ndarray:
    """Rank of each palette index by rarity in a random game, uint8 (256,): 255 for the rarest or never seen.

    Args:
        console: At the first frame to record; it is played on.
        field: Crop in which colours are counted.
    """
    top, left, bottom, right = field or (0, 0, *console.getScreen().shape)
    counts, legal = np.zeros(256, np.int64), console.getMinimalActionSet()
    rng = np.random.default_rng(0)
    action = legal[0]
    for i in range(_PILOT):
        if console.game_over():
            break
        action = legal[int(rng.integers(len(legal)))] if i % 8 == 0 else action
        console.act(action)
        counts += np.bincount(console.getScreen()[top:bottom, left:right].ravel(), minlength=256)
    order = np.argsort(-counts, kind="stable")
    ranks = np.empty(256, np.uint8)
    ranks[order] = np.arange(256)
    return ranks


#: Ranks for screens that are not reduced.
UNRANKED = np.arange(256, dtype=np.uint8)
