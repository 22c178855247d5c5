"""Figures of a maze with dots, a runner and chasers: what stands still, presence, obedience, eaten dots.

Made for `maze` of this package; a `Board` describes other games of the kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from framecast.data.registry import find_source
from framecast.evaluation.worlds import Player, Recording, centres


@dataclass(frozen=True)
class Board:
    """Colours and places of the objects.

    Attributes:
        walls: (h, w) bool, pixels of walls.
        dots: (d, 2) row and column of the centres of dots.
        cells: open cells as (row, column) of their centres, (n, 2).
        next: (n, actions) index of the cell that each moving action leads to, -1 for none.
        moves: the moving actions, in the order of `next`.
        wall, ground, dot, runner, life: indices into the game's palette.
        chasers: colour of each chaser.
        least_runner, least_chaser: smallest number of pixels that counts as present.
        rows: one past the last row of the maze; below are lives.
        life_area: pixels of each life.
    """

    walls: np.ndarray
    dots: np.ndarray
    cells: np.ndarray
    next: np.ndarray
    moves: tuple[int, ...]
    wall: int
    ground: int
    dot: int
    runner: int
    life: int
    chasers: tuple[int, ...]
    least_runner: int
    least_chaser: int
    rows: int
    life_area: int


def maze_board() -> Board:
    """The board of source `maze`."""
    game = find_source("maze").game
    dot, ground, dots = game.MARKS["dots"]
    return Board(
        walls=game.walls(),
        dots=np.array(dots),
        cells=np.array(game.CENTRES),
        next=np.array(game.WAYS),
        moves=tuple(range(1, len(game.ACTIONS))),
        wall=int(game().indices()[0, 5]),
        ground=ground,
        dot=dot,
        runner=game.SPRITES["runner"][0],
        life=int(game().indices()[77, 4]),
        chasers=tuple(game.SPRITES[f"chaser{i}"][0] for i in range(4)),
        least_runner=10,
        least_chaser=game.SPRITES["chaser0"][1],
        rows=game.SPRITES["runner"][2][2],
        life_area=9,
    )


def runner_places(frames: np.ndarray, board: Board) -> np.ndarray:
    """Centre (row, column) of the runner, (..., 2), NaN without one, in frames (..., h, w)."""
    mask = frames[..., : board.rows, :] == board.runner
    found = centres(mask)
    found[mask.sum((-2, -1)) < board.least_runner] = np.nan
    return found


def chasers_present(frames: np.ndarray, board: Board) -> np.ndarray:
    """Number of chasers in each frame, by their own colours; a blue one shows its eyes in it."""
    field = frames[..., : board.rows, :]
    shown = [(field == colour).sum((-2, -1)) >= board.least_chaser for colour in board.chasers]
    return np.asarray(np.sum(shown, axis=0))


def presence(recording: Recording, board: Board) -> dict[str, Any]:
    """What stands still, and presence of runner and chasers, over the frames after the start."""
    frames = recording.frames[:, 1:]
    walls = np.stack([(row[:, board.walls] == board.wall).mean(1) for row in frames])
    runner = np.stack([np.isfinite(runner_places(row, board)[:, 0]) for row in frames])
    chasers = np.stack([chasers_present(row, board) for row in frames])
    return {
        "worlds": len(frames),
        "frames": frames.shape[1],
        "walls_intact": float(walls.mean()),
        "walls_intact_last": float(walls[:, -1].mean()),
        "runner_to_64": float(runner[:, :64].mean()),
        "runner": float(runner.mean()),
        "runner_by_fifth": [float(part.mean()) for part in np.array_split(runner, 5, axis=1)],
        "chasers": float(chasers.mean()),
        "chasers_by_fifth": [float(part.mean()) for part in np.array_split(chasers, 5, axis=1)],
        "no_runner_longest": int(max(_longest(~row) for row in runner)),
    }


def _longest(marked: np.ndarray) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(int)))
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0


def dots(recording: Recording, board: Board, later: int = 100, reset: int = 10) -> dict[str, Any]:
    """Eaten dots, dots that vanish away from the runner, and eaten dots that stay eaten.

    A dot is eaten when its pixel turns to ground. It stays eaten if it has not come back `later` frames on; a return of
    at least `reset` dots at once is a new game. Pixels under a sprite are not judged.
    """
    eaten = stayed = judged = far = 0
    parts = recording.lasting()
    for frames in parts:
        pixels = frames[:, board.dots[:, 0], board.dots[:, 1]]
        state = np.where(pixels == board.dot, 1, np.where(pixels == board.ground, 0, -1))
        known = carried(state)
        back = (known[1:] == 1) & (known[:-1] == 0)
        resets = np.flatnonzero(back.sum(1) >= reset) + 1
        runner = runner_places(frames, board)
        for t, d in np.argwhere((known[1:] == 0) & (known[:-1] == 1)) + np.array([1, 0]):
            eaten += 1
            near = runner[max(0, t - 12) : t + 1]
            distance = np.abs(near - board.dots[d]).sum(1)
            far += not (np.isfinite(distance).any() and np.nanmin(distance) <= 8)
            new = resets[resets > t]
            stop = min(t + later, int(new[0]) if len(new) else len(frames))
            if stop - t >= later // 2:
                judged += 1
                stayed += not (known[t:stop, d] == 1).any()
    return {
        "eaten": eaten,
        "eaten_per_1000_frames": 1000 * eaten / max(1, sum(len(frames) - 1 for frames in parts)),
        "stay_eaten": stayed / judged if judged else None,
        "vanished_without_runner": far / eaten if eaten else None,
    }


def carried(state: np.ndarray) -> np.ndarray:
    """State (t, d) with -1, covered, replaced by the last known value."""
    index = np.where(state >= 0, np.arange(len(state))[:, None], -1)
    np.maximum.accumulate(index, axis=0, out=index)
    found: np.ndarray = np.where(index >= 0, np.take_along_axis(state, np.maximum(index, 0), 0), -1)
    return found


def lives(frames: np.ndarray, board: Board) -> np.ndarray:
    """Number of lives shown below the maze, in frames (..., h, w)."""
    area = (frames[..., board.rows :, :] == board.life).sum((-2, -1))
    found: np.ndarray = np.round(area / board.life_area).astype(int)
    return found


def deaths(recording: Recording, board: Board) -> dict[str, Any]:
    """Lives lost, per 1,000 frames."""
    shown = np.stack([lives(row, board) for row in recording.frames])
    lost = int((np.diff(shown, axis=1) < 0).sum())
    return {"deaths_per_1000_frames": 1000 * lost / (len(shown) * (shown.shape[1] - 1))}


def dot_eater(board: Board) -> Player:
    """A player that takes the shortest way to the nearest dot, away from chasers, from the frames alone."""
    distance = _distances(board.next)
    at = {tuple(cell): i for i, cell in enumerate(board.cells.tolist())}
    of_dot = np.array([at[tuple(dot)] for dot in board.dots.tolist()])

    def player(frames: np.ndarray) -> np.ndarray:
        places = runner_places(frames, board)
        actions = np.zeros(len(frames), np.int64)
        for i in np.flatnonzero(np.isfinite(places[:, 0])):
            here = int(np.abs(board.cells - places[i]).sum(1).argmin())
            left = of_dot[frames[i][board.dots[:, 0], board.dots[:, 1]] == board.dot]
            left = left[left != here]
            danger = [
                int(np.abs(board.cells - centre).sum(1).argmin())
                for colour in board.chasers
                if np.isfinite(centre := centres(frames[i][: board.rows] == colour)).all()
                and (frames[i][: board.rows] == colour).sum() > 8
            ]
            actions[i] = _way(board, distance, here, left, danger)
        return actions

    return player


def _way(board: Board, distance: np.ndarray, here: int, left: np.ndarray, danger: list[int]) -> int:
    """The moving action with the lowest cost from a cell."""
    costs = []
    for there in board.next[here]:
        if there < 0:
            costs.append(np.inf)
            continue
        cost = float(distance[there, left].min()) if len(left) else 0.0
        costs.append(cost + sum(8.0 * (5 - distance[there, d]) for d in danger if distance[there, d] <= 4))
    return board.moves[int(np.argmin(costs))]


def _distances(following: np.ndarray) -> np.ndarray:
    """Shortest paths between cells (n, n) of a graph (n, ways)."""
    count = len(following)
    found = np.full((count, count), count, np.int64)
    for first in range(count):
        found[first, first], border = 0, [first]
        while border:
            reached = {int(n) for cell in border for n in following[cell] if n >= 0 and found[first, n] == count}
            for n in reached:
                found[first, n] = found[first, border[0]] + 1
            border = sorted(reached)
    return found
