"""Figures of Breakout at half the emulator's size: ball, paddle, returns, and bricks that are hit and stay away."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from framecast.data.base import Source
from framecast.evaluation.atari_worlds import action_indices, colour_indices, object_figures
from framecast.evaluation.maze_world import carried
from framecast.evaluation.paddle_world import DEAD, clean
from framecast.evaluation.world_figures import Measured, WorldProtocol
from framecast.evaluation.worlds import Player, Recording, centres
from framecast.models.base import Predictor

#: Colours of the ground, and of the ball, which the paddle and the uppermost bricks share.
_GROUND, _BALL = (0, 0, 0), (200, 72, 72)
#: Height and width of the field of play at half the emulator's size, px.
_SIZE = (81, 72)
#: Frames for which a ball may be out of sight, and least movement that counts as a turn, px.
_GAP, _TURN = 6, 3.0


@dataclass(frozen=True, kw_only=True)
class Wall:
    """Colours and places of the objects, px.

    Attributes:
        ground, ball: indices into the game's palette.
        bricks: top, left, bottom and right of the bricks.
        brick: height and width of one; in the last of its rows its neighbour below may show.
        paddle: first and one past the last row of the paddle.
        least_paddle: least pixels of a paddle; at the side half of one is hidden.
        ball_area: most pixels of a ball, of 2x4 px of the emulator.
        fire, left, right: actions.
    """

    ground: int
    ball: int
    fire: int
    left: int
    right: int
    bricks: tuple[int, int, int, int] = (13, 0, 31, 72)
    brick: tuple[int, int] = (3, 4)
    paddle: tuple[int, int] = (78, 81)
    least_paddle: int = 9
    ball_area: int = 6


def breakout_figures(
    model: Predictor, source: Source, protocol: WorldProtocol, keep: dict[str, Recording] | None = None
) -> dict[str, Any]:
    """Figures of a world of Breakout, the emulator's beside each; see `paddle_figures` for the arguments.

    Of recordings that are not the field of play at half the emulator's size, those of `object_figures`.

    The emulator's game ends with its last life, which the field of play does not show, and stands still then; its
    figures are of the frames before. The world continues.
    """
    if (source.spec.height, source.spec.width) != _SIZE:
        return object_figures(model, source, protocol, keep, player="paddle", moves=("LEFT", "RIGHT"))
    ground, ball = colour_indices(source, model, (_GROUND, _BALL))
    fire, left, right = action_indices(source, ("FIRE", "LEFT", "RIGHT"))
    wall = Wall(ground=ground, ball=ball, fire=fire, left=left, right=right)
    measured = Measured(model, source, protocol, keep)
    held, followed = measured.held(), measured.played(ball_follower(wall), "followed")
    return {
        "random_held_actions": {n: presence(r, wall) | bricks(r, wall) for n, r in held.items()},
        "ball_follower": {n: returns(r, wall) | bricks(r, wall) for n, r in followed.items()},
        "obedience": measured.obeyed((left, right), lambda frames: paddle_places(frames, wall)),
        "true_actions": measured.under_true_actions()[2],
        "outcomes": measured.rewards(),
        "frames_per_second": measured.frames_per_second(),
    }


def ball_places(frames: np.ndarray, wall: Wall) -> np.ndarray:
    """Centre (row, column) of the ball, (..., 2), NaN without one, in frames (..., h, w)."""
    return _below(frames, wall, wall.bricks[2], wall.paddle[0])


def paddle_places(frames: np.ndarray, wall: Wall) -> np.ndarray:
    """Centre (row, column) of the paddle, (..., 2), NaN without a whole one."""
    found = _below(frames, wall, *wall.paddle)
    found[(frames[..., slice(*wall.paddle), :] == wall.ball).sum((-2, -1)) < wall.least_paddle] = np.nan
    return found


def _below(frames: np.ndarray, wall: Wall, top: int, bottom: int) -> np.ndarray:
    found: np.ndarray = centres(frames[..., top:bottom, :] == wall.ball) + np.array([top, 0])
    return found


def ball_follower(wall: Wall, slack: float = 1.5) -> Player:
    """A player that serves, and follows the ball's column, from the frames alone."""

    def player(frames: np.ndarray) -> np.ndarray:
        gap = ball_places(frames, wall)[:, 1] - paddle_places(frames, wall)[:, 1]
        actions = np.full(len(frames), wall.fire)
        actions[np.isfinite(gap)] = 0
        actions[gap < -slack] = wall.left
        actions[gap > slack] = wall.right
        return actions

    return player


def presence(recording: Recording, wall: Wall) -> dict[str, Any]:
    """Presence of ball and paddle after the start, while a game lasts, and worlds that end without a ball."""
    parts = [frames[1:] for frames in recording.lasting()]
    balls = [np.isfinite(ball_places(part, wall)[:, 0]) for part in parts]
    shown = np.concatenate(balls)
    whole = np.concatenate(
        [clean(part[:, wall.bricks[2] : wall.paddle[0]], wall.ball, wall.ball_area) for part in parts]
    )
    return {
        "worlds": len(parts),
        "frames": recording.frames.shape[1] - 1,
        "frames_of_games": float(np.mean([len(part) for part in parts])),
        "dead": int(sum(len(row) >= DEAD and not row[-DEAD:].any() for row in balls)),
        "ball_share": float(shown.mean()),
        "clean_ball": float(whole[shown].mean()) if shown.any() else None,
        "paddle": float(np.concatenate([np.isfinite(paddle_places(p, wall)[:, 0]) for p in parts]).mean()),
    }


def turns(row: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    """Frames at which a ball is highest before it falls, lowest before it rises, and last seen while it falls.

    A ball that is out of sight for some frames continues; movements of less than 3 px are no turns.

    Args:
        row: of the ball, (t,), NaN where it is not seen.
    """
    tops: list[int] = []
    bottoms: list[int] = []
    lost: list[int] = []
    extreme, falls = -1, None  # the frame of the extreme since the last turn; None before the first movement
    seen = np.flatnonzero(np.isfinite(row)).tolist()
    for b, following in pairwise([*seen, len(row)]):
        extreme = b if extreme < 0 else extreme
        moved = row[b] - row[extreme]
        if falls is None and abs(moved) >= _TURN:
            falls, extreme = bool(moved > 0), b
        elif falls is not None and (moved if falls else -moved) >= 0:
            extreme = b
        elif falls is not None and abs(moved) >= _TURN:
            (bottoms if falls else tops).append(extreme)
            falls, extreme = not falls, b
        if following - b > _GAP:
            lost += [b] if falls else []
            extreme, falls = -1, None
    return tops, bottoms, lost


def returns(recording: Recording, wall: Wall) -> dict[str, Any]:
    """Balls that turn upwards near the paddle, and balls that are lost there."""
    returned = missed = 0
    near = wall.paddle[0] - 12
    for frames in recording.lasting():
        row = ball_places(frames, wall)[:, 0]
        _, bottoms, lost = turns(row)
        returned += sum(row[t] >= near for t in bottoms)
        missed += sum(row[t] >= near for t in lost)
    total = returned + missed
    return {"returned": int(returned), "missed": int(missed), "return_rate": returned / total if total else None}


def bricks(recording: Recording, wall: Wall, near: int = 10, within: int = 6) -> dict[str, Any]:
    """Bricks that are hit vanish, one for each hit, and stay away; no other brick vanishes.

    A brick is there while at most a quarter of its pixels are ground, gone while at least three quarters are. A ball
    that turns downwards at a brick hits it: a brick near it must vanish, from two frames before the turn on. A brick
    that vanishes without a ball near it in the frames before vanishes unhit. A brick that comes back has not stayed
    away, unless the whole wall comes back.

    Args:
        recording: of some worlds.
        wall: colours and places.
        near: largest distance between ball and brick, px.
        within: largest number of frames between hit and loss.
    """
    counts = Counter[str]()
    for frames in recording.lasting():
        counts += _brick_counts(frames, wall, near, within)
    vanished, hits, seen = counts["vanished"], counts["hits"], counts["frames"]
    return {
        "bricks_vanished": vanished,
        "hits": hits,
        "hit_vanish": counts["answered"] / hits if hits else None,
        "bricks_per_hit": vanished / hits if hits else None,
        "stay_away": 1 - counts["returned"] / vanished if vanished else None,
        "unhit": counts["unhit"] / vanished if vanished else None,
        "frames_without_unhit": 1 - counts["unhit_frames"] / seen if seen else None,
        "half_bricks_per_frame": counts["halves"] / seen if seen else None,
    }


def _brick_counts(frames: np.ndarray, wall: Wall, near: int, within: int) -> Counter[str]:
    """Counts of one world; `halves` are bricks that are neither there nor gone."""
    state = brick_states(frames, wall)
    known = carried(state.reshape(len(state), -1)).reshape(state.shape)
    place = ball_places(frames, wall)
    gone = (known[1:] == 0) & (known[:-1] == 1)
    lost = np.argwhere(gone) + np.array([1, 0, 0])
    turned = _hits(place, known, wall)
    found = Counter[str](frames=len(frames), vanished=len(lost), hits=len(turned), halves=int((state < 0).sum()))
    for t in turned:
        some = lost[(lost[:, 0] >= t - 2) & (lost[:, 0] <= t + within), 1:]
        found["answered"] += bool((_distance(some, place[t : t + 1], wall) <= near).any())
    for t in np.unique(lost[:, 0]).tolist():
        there = lost[lost[:, 0] == t, 1:]
        unhit = int((_distance(there, place[max(0, t - within) : t + 1], wall) > near).sum())
        found["unhit"] += unhit
        found["unhit_frames"] += unhit > 0
        later = known[t : _new_wall(known, t)]
        found["returned"] += sum(bool((later[:, r, c] == 1).any()) for r, c in there)
    return found


def brick_states(frames: np.ndarray, wall: Wall) -> np.ndarray:
    """1 for a brick that is there, 0 for one that is gone, -1 between, (t, rows, columns), in frames (t, h, w)."""
    top, left, bottom, right = wall.bricks
    height, width = wall.brick
    field = frames[:, top:bottom, left:right] == wall.ground
    parts = field.reshape(len(frames), (bottom - top) // height, height, (right - left) // width, width)
    share = parts[:, :, :-1].mean((2, 4))
    return np.where(share <= 0.25, 1, np.where(share >= 0.75, 0, -1))


def _new_wall(known: np.ndarray, t: int) -> int:
    """The next frame at which the wall is complete, or the number of frames."""
    whole = (known[t + 1 :] == 1).all((1, 2))
    return t + 1 + int(whole.argmax()) if whole.any() else len(known)


def _distance(there: np.ndarray, place: np.ndarray, wall: Wall) -> np.ndarray:
    """Smallest distance of each brick (n, 2) from the ball's places (t, 2), px in the larger of both directions."""
    height, width = wall.brick
    corner = there * np.array([height, width]) + np.array(wall.bricks[:2])
    beyond = np.maximum(corner[:, None] - place[None], place[None] - (corner + np.array([height, width]))[:, None])
    apart = np.where(np.isfinite(beyond), beyond, np.inf).max(2)
    found: np.ndarray = apart.min(1) if len(place) else np.full(len(there), np.inf)
    return found


def _hits(place: np.ndarray, known: np.ndarray, wall: Wall, reach: int = 6) -> list[int]:
    """Frames at which the ball turns downwards under a brick that is there.

    Args:
        place: of the ball, (t, 2).
        known: states of the bricks, (t, rows, columns).
        wall: colours and places.
        reach: largest distance of the ball from the lowest brick above it, px.
    """
    height, width = wall.brick
    found = []
    for t in turns(place[:, 0])[0]:
        here = min(max(int(place[t, 1] - wall.bricks[1]) // width, 0), known.shape[2] - 1)
        above = np.flatnonzero((known[max(0, t - 2), :, max(0, here - 1) : here + 2] == 1).any(1))
        if len(above) and place[t, 0] - (wall.bricks[0] + (above[-1] + 1) * height) <= reach:
            found.append(t)
    return found
