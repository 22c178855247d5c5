"""Figures of two paddles and a ball: presence, serves, returns, obedience, the ball's place.

Made for `paddle` of this package; a `Court` describes other games of the kind, such as Pong.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from framecast.evaluation.worlds import Player, Recording, centres

#: Frames without a ball after which a world counts as dead.
DEAD = 200


@dataclass(frozen=True, kw_only=True)
class Court:
    """Colours and places of the objects.

    Attributes:
        ball, opponent, player: indices into the game's palette.
        ball_area: largest number of pixels of a clean ball.
        rows: first and one past the last row of the field.
        opponent_columns, player_columns: first and one past the last column of each paddle.
        up, down: actions of the player.
    """

    ball: int
    opponent: int
    player: int
    ball_area: int
    rows: tuple[int, int]
    opponent_columns: tuple[int, int]
    player_columns: tuple[int, int]
    up: int
    down: int


PADDLE = Court(
    ball=2,
    opponent=3,
    player=4,
    ball_area=4,
    rows=(4, 78),
    opponent_columns=(4, 6),
    player_columns=(74, 76),
    up=1,
    down=2,
)


def ball_places(frames: np.ndarray, court: Court) -> np.ndarray:
    """Centre (row, column) of the ball, (..., 2), NaN without a ball, in frames (..., h, w)."""
    return centres(frames == court.ball)


def paddle_places(frames: np.ndarray, court: Court, which: str) -> np.ndarray:
    """Centre (row, column) of a paddle, "player" or "opponent", (..., 2), NaN without it."""
    (top, bottom), (left, right) = court.rows, getattr(court, f"{which}_columns")
    found: np.ndarray = centres(frames[..., top:bottom, left:right] == getattr(court, which)) + np.array([top, left])
    return found


def follower(court: Court, slack: float = 1.5) -> Player:
    """A player that follows the ball's row, from the frames alone."""

    def player(frames: np.ndarray) -> np.ndarray:
        gap = ball_places(frames, court)[:, 0] - paddle_places(frames, court, "player")[:, 0]
        actions = np.zeros(len(frames), np.int64)
        actions[gap < -slack] = court.up
        actions[gap > slack] = court.down
        return actions

    return player


def presence(recording: Recording, court: Court) -> dict[str, Any]:
    """Presence of ball and paddles, and worlds that end without a ball, over the frames after the start.

    Frames after the end of a game, in which the emulator stands still, do not count.
    """
    n, t = recording.frames.shape[:2]
    shown, whole, opponent, player = (np.full((n, t - 1), np.nan) for _ in range(4))
    for i, frames in enumerate(part[1:] for part in recording.lasting()):
        found = slice(0, len(frames))
        shown[i, found] = (frames == court.ball).any((1, 2))
        whole[i, found] = clean(frames, court.ball, court.ball_area)
        opponent[i, found] = np.isfinite(paddle_places(frames, court, "opponent")[:, 0])
        player[i, found] = np.isfinite(paddle_places(frames, court, "player")[:, 0])
    last = [row[np.isfinite(row)][-DEAD:] for row in shown]
    return {
        "worlds": n,
        "frames": t - 1,
        "frames_of_games": float(np.isfinite(shown).sum(1).mean()),
        "dead": sum(len(row) == DEAD and not row.any() for row in last),
        "ball_share": _mean(shown),
        "ball_share_by_fifth": [_mean(part) for part in np.array_split(shown, 5, axis=1)],
        "clean_ball": _mean(whole[shown == 1]),
        "both_paddles": _mean(opponent * player),
        "opponent_present": _mean(opponent),
        "player_present": _mean(player),
    }


def _mean(values: np.ndarray) -> float | None:
    """Mean of the known values; None without any."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def clean(frames: np.ndarray, ball: int, most: int) -> np.ndarray:
    """Whether the ball of each frame (t, h, w) is in one place and has at most `most` pixels, (t,) bool."""
    mask = frames == ball
    area = mask.sum((1, 2))
    rows, columns = mask.any(2), mask.any(1)
    side = max(1, int(np.ceil(np.sqrt(most))))
    together = (_extent(rows) <= side) & (_extent(columns) <= side)
    found: np.ndarray = (area > 0) & (area <= most) & together
    return found


def _extent(marked: np.ndarray) -> np.ndarray:
    """Distance from the first to one past the last mark of each row (t, n)."""
    length: np.ndarray = marked.shape[1] - marked[:, ::-1].argmax(1) - marked.argmax(1)
    return length


def rallies(recording: Recording, court: Court) -> dict[str, Any]:
    """Returned and missed balls of both sides, balls lost in the field, and pauses before serves."""
    width = recording.frames.shape[3]
    near = 0.25 * width
    counts = dict.fromkeys(("player_returned", "player_missed", "opponent_returned", "opponent_missed", "lost"), 0)
    pauses: list[int] = []
    for frames in recording.lasting():
        x = ball_places(frames, court)[:, 1]
        shown = np.isfinite(x)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], shown, [False]]).astype(int)))
        begins, ends = edges[::2], edges[1::2]
        for begin, end in zip(begins, ends, strict=True):
            _count_turns(x[begin:end], near, width, counts)
            if end < len(x):
                last = x[end - 1]
                side = "player_missed" if last > width - near else "opponent_missed" if last < near else "lost"
                counts[side] += 1
        pauses += [int(b - e) for e, b in zip(ends[:-1], begins[1:], strict=True)]
    return {
        **counts,
        "player_return_rate": _rate(counts["player_returned"], counts["player_missed"]),
        "opponent_return_rate": _rate(counts["opponent_returned"], counts["opponent_missed"]),
        "pauses": pauses,
    }


def _count_turns(x: np.ndarray, near: float, width: int, counts: dict[str, int]) -> None:
    """Count changes of the ball's horizontal direction near either side; x: columns of one rally."""
    moves = np.diff(x)
    moving = np.flatnonzero(moves)
    for a, b in pairwise(moving.tolist()):
        if np.sign(moves[a]) != np.sign(moves[b]):
            place = x[b]
            if place > width - near and moves[a] > 0:
                counts["player_returned"] += 1
            elif place < near and moves[a] < 0:
                counts["opponent_returned"] += 1


def _rate(good: int, bad: int) -> float | None:
    return good / (good + bad) if good + bad else None


def serves_in_time(pauses: list[int], true_pauses: list[int], within: int = 1) -> float | None:
    """Fraction of pauses of the true length, the median in the true game, give or take a frame."""
    if not pauses or not true_pauses:
        return None
    length = float(np.median(true_pauses))
    return float(np.mean([abs(p - length) <= within for p in pauses]))


def ball_within(
    predicted: np.ndarray, truth: np.ndarray, court: Court, at: tuple[int, ...], distance: float = 4.0
) -> dict[str, Any]:
    """Fraction of starts with the ball within some px of the true one, under the recorded actions.

    Args:
        predicted: frames after the start (n, t, h, w).
        truth: recorded frames (n, t, h, w).
        court: of the game.
        at: frames of the horizon, 1 the first.
        distance: px.

    Returns:
        By frame: the fraction among starts whose ball is in play from the first frame to this one in the recording.
    """
    found = {}
    true, made = ball_places(truth, court), ball_places(predicted, court)
    for k in (k for k in at if k <= true.shape[1]):
        valid = np.isfinite(true[:, :k]).all((1, 2))
        away = np.linalg.norm(made[:, k - 1] - true[:, k - 1], axis=1)
        near = np.nan_to_num(away, nan=np.inf) <= distance
        found[str(k)] = {"starts": int(valid.sum()), "share": float(near[valid].mean()) if valid.any() else None}
    return found
