"""Synthetic source `paddle`: two paddles and a ball, with serves after a pause and a score.

The player has the right paddle. Everything but the row of a serve follows from what the frames show: the opponent moves
towards an approaching ball at limited speed, and the place at which a ball meets a paddle decides its direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from framecast.data.synthetic.game import SIDE, Game, GameConfig, GameSource

#: Frames without a ball before each serve.
PAUSE = 30
#: Points that win a game.
POINTS = 5

# Positions and speeds are integers in half pixels; y is that of an object's upper edge.
_TOP, _BOTTOM = 2 * 4, 2 * 78  # the field, between the walls
_BALL, _LONG = 2 * 2, 2 * 12  # side of the ball, length of a paddle
_LEFT_FACE, _RIGHT_FACE = 2 * 6, 2 * 74  # where a ball bounces: inner sides of the paddles
_MIDDLE = (_TOP + _BOTTOM - _LONG) // 2
_PLAYER_SPEED, _OPPONENT_SPEED, _RETURN_SPEED = 6, 3, 2
_AIM = 6  # distance from the middle of its paddle at which the opponent hits the ball
_SLOW, _FAST = 4, 6  # horizontal speed of the ball after a hit near the middle of a paddle, and near its ends
_SERVES = ((2 * 24, 2), (2 * 40, 0), (2 * 56, -2))  # row and vertical speed; 0: away from the player's paddle

_BACKGROUND, _WALL, _BALL_COLOUR, _OPPONENT, _PLAYER, _OPPONENT_SCORE, _PLAYER_SCORE = range(7)


class PaddleGame(Game):
    """The game of source `paddle`, 80x80 px at 30 frames/s.

    Reward: 1 for a point, -1 for one of the opponent. A game ends at 5 points, shown by squares in the upper wall.
    """

    PALETTE = (
        (20, 24, 40),
        (110, 118, 140),
        (250, 250, 250),
        (230, 90, 70),
        (90, 210, 120),
        (170, 50, 40),
        (40, 150, 70),
    )
    ACTIONS = ("NOOP", "UP", "DOWN")
    STATES = (
        "ball_x",
        "ball_y",
        "velocity_x",
        "velocity_y",
        "opponent_y",
        "player_y",
        "opponent_score",
        "player_score",
        "serve_timer",
        "serve_direction",
    )
    SPRITES: ClassVar[Any] = {
        "ball": (_BALL_COLOUR, 2, (4, 0, 78, 80)),
        "opponent": (_OPPONENT, 12, (4, 0, 78, 40)),
        "player": (_PLAYER, 12, (4, 40, 78, 80)),
    }

    def begin(self) -> None:
        self.ball = [-1, -1, 0, 0]  # x, y, velocity; x and y are -1 without a ball
        self.opponent = self.player = _MIDDLE
        self.score = [0, 0]  # of opponent and player
        # One less than after a point: in a recording the last frame of the game before has no ball either.
        self.timer, self.direction = PAUSE - 1, 1

    def move(self, action: int) -> tuple[float, bool]:
        shift = (0, -_PLAYER_SPEED, _PLAYER_SPEED)[action]
        self.player = _inside(self.player + shift)
        self._move_opponent()
        if self.timer:
            self.timer -= 1
            if not self.timer:
                self._serve()
            return 0.0, False
        return self._move_ball()

    def _move_opponent(self) -> None:
        coming = not self.timer and self.ball[2] < 0
        aim = _AIM if self.player > _MIDDLE else -_AIM  # hits the ball away from the player
        goal = self.ball[1] + (_BALL - _LONG) // 2 + aim if coming else _MIDDLE
        speed, gap = _OPPONENT_SPEED if coming else _RETURN_SPEED, goal - self.opponent
        self.opponent = _inside(self.opponent + max(-speed, min(speed, gap)))

    def _serve(self) -> None:
        row, speed = _SERVES[int(self.rng.random() * len(_SERVES))]
        speed = speed or (2 if self.player < _MIDDLE else -2)
        self.ball = [SIDE - _BALL // 2, row, _SLOW * self.direction, speed]

    def _move_ball(self) -> tuple[float, bool]:
        x, y, right, down = self.ball
        before, x, y = x, x + right, y + down
        if y < _TOP or y > _BOTTOM - _BALL:
            y = 2 * _TOP - y if y < _TOP else 2 * (_BOTTOM - _BALL) - y
            down = -down
        if right > 0 and before < _RIGHT_FACE - _BALL <= x and _meets(y, self.player):
            x, (right, down) = _RIGHT_FACE - _BALL, _bounced(y, self.player, down)
            right = -right
        elif right < 0 and before > _LEFT_FACE >= x and _meets(y, self.opponent):
            x, (right, down) = _LEFT_FACE, _bounced(y, self.opponent, down)
        self.ball = [x, y, right, down]
        if 0 <= x <= 2 * SIDE - _BALL:
            return 0.0, False
        won = x < 0
        self.score[won] += 1
        self.ball, self.timer = [-1, -1, 0, 0], PAUSE
        self.direction = -1 if won else 1  # towards the side that lost the point
        return (1.0 if won else -1.0), self.score[won] == POINTS

    def indices(self) -> np.ndarray:
        image = _EMPTY.copy()
        for points, column, colour in ((self.score[0], 4, _OPPONENT_SCORE), (self.score[1], 58, _PLAYER_SCORE)):
            for k in range(points):
                image[1:3, column + 4 * k : column + 4 * k + 2] = colour
        top = self.opponent // 2
        image[top : top + 12, 4:6] = _OPPONENT
        top = self.player // 2
        image[top : top + 12, 74:76] = _PLAYER
        if self.ball[0] >= 0:
            x, y = self.ball[0] // 2, self.ball[1] // 2
            image[y : y + 2, x : x + 2] = _BALL_COLOUR
        return image

    def state(self) -> list[int]:
        return [*self.ball, self.opponent, self.player, *self.score, self.timer, self.direction]

    def set_state(self, state: Sequence[int]) -> None:
        values = [int(v) for v in state]
        self.ball, (self.opponent, self.player) = values[:4], values[4:6]
        self.score, (self.timer, self.direction) = values[6:8], values[8:]

    def scripted(self, error: float) -> int:
        """Up or down with the ball; at an error of ±1, 5 px off its centre."""
        if self.ball[0] < 0:
            return 0
        gap = self.ball[1] + (_BALL - _LONG) // 2 + round(10 * error) - self.player
        return 0 if abs(gap) <= _PLAYER_SPEED // 2 else 1 if gap < 0 else 2


def _inside(y: int) -> int:
    return max(_TOP, min(_BOTTOM - _LONG, y))


def _meets(ball: int, paddle: int) -> bool:
    return paddle - _BALL < ball < paddle + _LONG


def _bounced(ball: int, paddle: int, down: int) -> tuple[int, int]:
    """Horizontal speed and vertical velocity, by the place of the hit: steeper and faster towards the ends."""
    off = ball + _BALL // 2 - (paddle + _LONG // 2)  # -13…13
    steep = min(5, 1 + abs(off) * 5 // 14)
    if abs(off) <= 2:  # the middle keeps the direction
        return _SLOW, 1 if down > 0 else -1
    return (_FAST if steep >= 4 else _SLOW), steep if off > 0 else -steep


def _empty() -> np.ndarray:
    image = np.full((SIDE, SIDE), _BACKGROUND, np.uint8)
    image[: _TOP // 2] = image[_BOTTOM // 2 :] = _WALL
    return image


_EMPTY = _empty()


class Paddle(GameSource):
    """Recordings of two paddles and a ball, the right paddle played by a mixture of players, as a packed store.

    States (half pixels from the upper left): `ball_x`, `ball_y` (-1 without a ball), its velocity per frame, upper
    edges of the paddles, score, frames until the serve, direction of the next serve.
    """

    Config: ClassVar[type] = GameConfig
    game = PaddleGame
    name = "paddle"
