"""Players of Atari games that follow the ball by the console's memory, so that recordings hold rallies and hits.

Addresses of the memory are those of Anand et al. 2019 (AtariARI), with offsets measured on the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

_PONG_OFFSET, _BREAKOUT_OFFSET = -7, -9  # of the ball's centre from the paddle's, px, when both bytes are equal

#: Games with a scripted player.
PLAYERS: dict[str, Callable[[np.ndarray, float], str]] = {}


def follow(game: str, ram: np.ndarray, error: float, names: Sequence[str]) -> int:
    """Index of the scripted player's action.

    Args:
        game: One of `PLAYERS`.
        ram: Memory of the console, uint8 (128,).
        error: In -1…1, share of half a paddle by which the player misses the ball's centre.
        names: Names of the game's actions.
    """
    return names.index(PLAYERS[game](ram, error))


def _pong(ram: np.ndarray, error: float) -> str:
    ball_x, ball_y, paddle_y = int(ram[49]), int(ram[54]), int(ram[51])
    if ball_x == 0 or ball_y == 0:
        return "NOOP"
    gap = ball_y - paddle_y + _PONG_OFFSET + 7 * error
    return "NOOP" if abs(gap) < 3 else "RIGHT" if gap < 0 else "LEFT"


def _breakout(ram: np.ndarray, error: float) -> str:
    ball_x, ball_y, paddle_x = int(ram[99]), int(ram[101]), int(ram[72])
    if ball_y == 0:
        return "FIRE"
    gap = ball_x - paddle_x + _BREAKOUT_OFFSET + 6 * error
    return "NOOP" if abs(gap) < 3 else "LEFT" if gap < 0 else "RIGHT"


def _freeway(ram: np.ndarray, error: float) -> str:
    return "DOWN" if error > 0.9 else "NOOP" if error > 0.7 else "UP"


PLAYERS |= {"pong": _pong, "breakout": _breakout, "freeway": _freeway}
