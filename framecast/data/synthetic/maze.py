"""Synthetic source `maze`: a runner eats dots in corridors, four chasers of different temper hunt it, power dots turn
the hunt around.

Apart from the turns of the fourth chaser, everything follows from what the frames show.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from framecast.data.synthetic.game import SIDE, Game, GameConfig, GameSource

#: Frames without runner and chasers at the start and after each catch, and without a chaser that was eaten.
PAUSE = 30
#: Frames in which chasers are blue after a power dot; in the last of them they blink.
POWER, BLINK = 60, 20
#: Rewards of a dot, a power dot and an eaten chaser.
DOT_POINTS, POWER_POINTS, CHASER_POINTS = 1, 5, 20
LIVES = 3

# o power dot, C start of a chaser, P start of the runner; a dot lies in every other open cell.
_MAP = (
    "###############",
    "#o...........o#",
    "#.##.##.##.##.#",
    "#.............#",
    "#.##.#.#.#.##.#",
    "#....#...#....#",
    "#.##.##.##.##.#",
    "#....CC.CC....#",
    "#.##.##.##.##.#",
    "#.............#",
    "#.##.##.##.##.#",
    "#o.#...P...#.o#",
    "##.#.##.##.#.##",
    "##...........##",
    "###############",
)
#: Side of a cell and of a sprite, px.
CELL = 5
#: Column of the maze's left edge in the frame, px.
MARGIN = 2

_UP, _DOWN, _LEFT, _RIGHT = range(4)  # the opposite of d is d ^ 1
_STEPS = ((0, -1), (0, 1), (-1, 0), (1, 0))

#: Open cells as (column, row), and their index by row and column.
CELLS = [(c, r) for r, row in enumerate(_MAP) for c, sign in enumerate(row) if sign != "#"]
_AT = {cell: i for i, cell in enumerate(CELLS)}
_NEXT = [[_AT.get((c + dx, r + dy), -1) for dx, dy in _STEPS] for c, r in CELLS]
_STARTS = [cell for cell in CELLS if _MAP[cell[1]][cell[0]] == "C"]
_HOME = next(cell for cell in CELLS if _MAP[cell[1]][cell[0]] == "P")
#: Whether a cell holds a dot at the start, and whether that is a power dot.
DOTS = np.array([_MAP[r][c] in ".o" for c, r in CELLS])
POWER_DOTS = np.array([_MAP[r][c] == "o" for c, r in CELLS])


def _distances() -> np.ndarray:
    """Shortest paths between open cells, int16 (cells, cells)."""
    found = np.full((len(CELLS), len(CELLS)), -1, np.int16)
    for first in range(len(CELLS)):
        found[first, first], border = 0, [first]
        while border:
            reached = [n for cell in border for n in _NEXT[cell] if n >= 0 and found[first, n] < 0]
            for n in reached:
                found[first, n] = found[first, border[0]] + 1
            border = list(dict.fromkeys(reached))
    return found


_DISTANCE = _distances()

_BACKGROUND, _WALL, _DOT, _RUNNER, _CHASER, _BLUE, _WHITE, _LIFE = 0, 1, 2, 3, 4, 8, 9, 10


def _sprite(text: str) -> np.ndarray:
    return np.array([[sign != "." for sign in row] for row in text.split()])


_DISC = _sprite(".###. ##### ##### ##### .###.")
_OPEN = _sprite(".###. ####. ##... ####. .###.")  # mouth to the right
_MOUTHS = [np.rot90(_OPEN), np.rot90(_OPEN, 3), np.fliplr(_OPEN), _OPEN]
_BODY = _sprite(".###. ##### ##### ##### #.#.#")
_EYES = _sprite("..... .#.#. ..... ..... .....")


class MazeGame(Game):
    """The game of source `maze`, 80x80 px at 30 frames/s.

    Reward: 1 for a dot, 5 for a power dot, 20 for a blue chaser. A game ends with the third catch; squares below the
    maze show the lives. When all dots are eaten they return.
    """

    PALETTE = (
        (8, 8, 16),
        (40, 60, 150),
        (240, 200, 160),
        (255, 230, 40),
        (230, 50, 50),
        (250, 150, 200),
        (60, 210, 220),
        (240, 140, 40),
        (60, 80, 255),
        (255, 255, 255),
        (190, 160, 30),
    )
    ACTIONS = ("NOOP", "UP", "DOWN", "LEFT", "RIGHT")
    STATES = (
        *("runner_x", "runner_y", "runner_direction"),
        *(f"chaser{i}_{what}" for i in range(4) for what in ("x", "y", "direction", "wait", "blue", "away")),
        *("power_timer", "pause_timer", "lives", "score"),
        *(f"dot_{c}_{r}" for c, r in CELLS),
    )
    # A blue chaser keeps its colour in the eyes, two pixels.
    SPRITES: ClassVar[Any] = {
        "runner": (_RUNNER, 6, (0, 0, 75, 80)),
        **{f"chaser{i}": (_CHASER + i, 2, (0, 0, 75, 80)) for i in range(4)},
    }
    MARKS: ClassVar[Any] = {
        "dots": (
            _DOT,
            _BACKGROUND,
            [(CELL * r + 2, MARGIN + CELL * c + 2) for (c, r), dot in zip(CELLS, DOTS, strict=True) if dot],
        )
    }

    #: Centres of the open cells, (row, column) px, and the cell that each moving action leads to, -1 for none.
    CENTRES: ClassVar[Any] = [(CELL * r + 2, MARGIN + CELL * c + 2) for c, r in CELLS]
    WAYS: ClassVar[Any] = _NEXT

    def begin(self) -> None:
        self.dots = DOTS.copy()
        self.lives, self.score = LIVES, 0
        self._clear()
        # One less than after a catch: in a recording the last frame of the game before shows no runner either.
        self.pause = PAUSE - 1

    def _clear(self) -> None:
        """Take runner and chasers away until the pause is over."""
        self.runner = [-1, -1, _LEFT]
        self.chasers = [[-1, -1, _UP, 0, 0, 0] for _ in _STARTS]  # x, y, direction, wait, blue, away
        self.power, self.pause = 0, PAUSE

    def _place(self) -> None:
        self.runner = [CELL * _HOME[0], CELL * _HOME[1], _LEFT]
        self.chasers = [[CELL * c, CELL * r, _UP, 0, 0, 0] for c, r in _STARTS]

    def move(self, action: int) -> tuple[float, bool]:
        if self.pause:
            self.pause -= 1
            if not self.pause:
                self._place()
            return 0.0, False
        if self.power:
            self.power -= 1
            if not self.power:
                for chaser in self.chasers:
                    chaser[4] = 0
        self._move_runner(action - 1)
        reward = self._eat()
        for i in range(4):
            self._move_chaser(i)
        for i, chaser in enumerate(self.chasers):
            if chaser[0] < 0 or abs(chaser[0] - self.runner[0]) + abs(chaser[1] - self.runner[1]) > 3:
                continue
            if not chaser[4]:
                self.lives -= 1
                self._clear()
                self.score += reward
                return float(reward), self.lives == 0
            self.chasers[i] = [-1, -1, _UP, 0, 0, PAUSE]
            reward += CHASER_POINTS
        self.score += reward
        if not self.dots.any():
            self.dots = DOTS.copy()
            self._clear()
        return float(reward), False

    def _move_runner(self, wanted: int) -> None:
        x, y, direction = self.runner
        centred = x % CELL == 0 and y % CELL == 0
        if wanted >= 0 and (_NEXT[_cell(x, y)][wanted] >= 0 if centred else wanted == direction ^ 1):
            direction = wanted
        if not centred or _NEXT[_cell(x, y)][direction] >= 0:
            x, y = x + _STEPS[direction][0], y + _STEPS[direction][1]
        self.runner = [x, y, direction]

    def _eat(self) -> int:
        x, y, _ = self.runner
        if x % CELL or y % CELL or not self.dots[_cell(x, y)]:
            return 0
        cell = _cell(x, y)
        self.dots[cell] = False
        if not POWER_DOTS[cell]:
            return DOT_POINTS
        self.power = POWER
        for chaser in self.chasers:
            chaser[4] = int(chaser[0] >= 0)
        return POWER_POINTS

    def _move_chaser(self, i: int) -> None:
        chaser = self.chasers[i]
        x, y, direction, wait, blue, away = chaser
        if away:
            chaser[5] -= 1
            if away == 1:
                chaser[:2] = CELL * _STARTS[i][0], CELL * _STARTS[i][1]
            return
        if wait:
            chaser[3] -= 1
            return
        if x % CELL == 0 and y % CELL == 0:
            direction = self._turn(i, x, y, direction)
        x, y = x + _STEPS[direction][0], y + _STEPS[direction][1]
        # A chaser rests for a frame in every cell, so that the runner is a little faster; a blue one after every pixel.
        rests = blue or (x % CELL == 0 and y % CELL == 0)
        chaser[:4] = x, y, direction, int(bool(rests))

    def _turn(self, i: int, x: int, y: int, direction: int) -> int:
        """The way a chaser takes at the middle of a cell: never back, except where there is no other."""
        here = _NEXT[_cell(x, y)]
        ways = [d for d in range(4) if here[d] >= 0 and d != direction ^ 1] or [direction ^ 1]
        if len(ways) == 1:
            return ways[0]
        if self.chasers[i][4]:
            return max(ways, key=lambda d: _DISTANCE[here[d], _cell(*self.runner[:2])])
        if i == 3:
            return ways[int(self.rng.random() * len(ways))]
        column, row = self._target(i)
        return min(ways, key=lambda d: (CELLS[here[d]][0] - column) ** 2 + (CELLS[here[d]][1] - row) ** 2)

    def _target(self, i: int) -> tuple[int, int]:
        """Cell a chaser heads for: the first the runner, the second ahead of it, the third opposite to the first.

        The fourth wanders.
        """
        column, row = CELLS[_cell(*self.runner[:2])]
        if i == 1:
            dx, dy = _STEPS[self.runner[2]]
            return column + 4 * dx, row + 4 * dy
        if i == 2 and self.chasers[0][0] >= 0:
            first = CELLS[_cell(*self.chasers[0][:2])]
            return 2 * column - first[0], 2 * row - first[1]
        return column, row

    def indices(self) -> np.ndarray:
        image = _EMPTY.copy()
        image[_DOT_ROWS[self.dots], _DOT_COLUMNS[self.dots]] = _DOT
        for cell in _POWER_CELLS:
            if self.dots[cell]:
                y, x = _DOT_ROWS[cell], _DOT_COLUMNS[cell]
                image[y - 1 : y + 2, x - 1 : x + 2] = _DOT
        for k in range(self.lives):
            image[76:79, 3 + 5 * k : 6 + 5 * k] = _LIFE
        for i, (x, y, _, _, blue, _) in enumerate(self.chasers):
            if x >= 0:
                part = image[y : y + CELL, MARGIN + x : MARGIN + x + CELL]
                blink = self.power <= BLINK and self.power // 4 % 2 == 0
                part[_BODY] = (_WHITE if blink else _BLUE) if blue else _CHASER + i
                part[_EYES] = _CHASER + i if blue else _WHITE
        x, y, direction = self.runner
        if x >= 0:
            part = image[y : y + CELL, MARGIN + x : MARGIN + x + CELL]
            part[_MOUTHS[direction] if (x + y) % 4 < 2 else _DISC] = _RUNNER
        return image

    @staticmethod
    def walls() -> np.ndarray:
        """Pixels of the walls, bool (h, w)."""
        return np.asarray(_EMPTY == _WALL)

    def state(self) -> list[int]:
        timers = [self.power, self.pause, self.lives, self.score]
        return [*self.runner, *chain(*self.chasers), *timers, *self.dots.tolist()]

    def set_state(self, state: Sequence[int]) -> None:
        values = [int(v) for v in state]
        self.runner, self.chasers = values[:3], [values[3 + 6 * i : 9 + 6 * i] for i in range(4)]
        self.power, self.pause, self.lives, self.score = values[27:31]
        self.dots = np.array(values[31:], bool)

    def scripted(self, error: float) -> int:
        """Towards the nearest dot or blue chaser, away from chasers; at an error of ±1 without regard to them."""
        x, y, direction = self.runner
        if x < 0:
            return 0
        centred = x % CELL == 0 and y % CELL == 0
        # Between two cells, the one behind: the ways are on and back.
        cell = _AT[-(-x // CELL) if direction == _LEFT else x // CELL, -(-y // CELL) if direction == _UP else y // CELL]
        best, cost = direction, np.inf
        for way in range(4):
            back = way == direction ^ 1
            if _NEXT[cell][way] < 0 or not (centred or back or way == direction):
                continue
            there = cell if back and not centred else _NEXT[cell][way]
            found = self._cost(there, 1 - abs(error)) + 2 * back - (way == direction)
            if found < cost:
                best, cost = way, found
        return 1 + best

    def _cost(self, cell: int, caution: float) -> float:
        cost = float(_DISTANCE[cell][self.dots].min())
        for x, y, _, _, blue, _ in self.chasers:
            if x >= 0:
                far = int(_DISTANCE[cell, _cell(x, y)])
                if blue and far < self.power // 8:
                    cost = min(cost, far - 4.0)
                elif not blue and far <= 4:
                    cost += caution * 8 * (5 - far)
        return cost


def _cell(x: int, y: int) -> int:
    """Index of the nearest cell of a sprite at x, y."""
    return _AT[(x + 2) // CELL, (y + 2) // CELL]


def _empty() -> np.ndarray:
    image = np.full((SIDE, SIDE), _WALL, np.uint8)
    for c, r in CELLS:
        image[CELL * r : CELL * r + CELL, MARGIN + CELL * c : MARGIN + CELL * c + CELL] = _BACKGROUND
    image[CELL * len(_MAP) :] = _BACKGROUND
    return image


_EMPTY = _empty()
_DOT_ROWS = np.array([CELL * r + 2 for _, r in CELLS])
_DOT_COLUMNS = np.array([MARGIN + CELL * c + 2 for c, _ in CELLS])
_POWER_CELLS = [int(i) for i in np.flatnonzero(POWER_DOTS)]


class Maze(GameSource):
    """Recordings of a runner in a maze, played by a mixture of players, as a packed store.

    States: runner and chasers (upper left corner in px of the maze, which begins at column 2 of the frame; -1 when they
    are not shown; direction 0 up, 1 down, 2 left, 3 right), timers, lives, score, and 1 for every dot that is left.
    """

    Config: ClassVar[type] = GameConfig
    game = MazeGame
    name = "maze"
