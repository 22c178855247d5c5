"""Figures of worlds of the emulator's games, the emulator's beside each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from framecast.data.base import Source
from framecast.evaluation.maze_world import Board, carried, dots
from framecast.evaluation.paddle_world import Court
from framecast.evaluation.world_figures import Measured, WorldProtocol, paddle_figures
from framecast.evaluation.worlds import Recording, game_palette
from framecast.metrics.objects import Things, find, things_of
from framecast.models.base import Predictor

#: Colours of Pong: ball, opponent, player.
_PONG = ((236, 236, 236), (213, 130, 74), (92, 186, 92))
#: Colours of Ms. Pac-Man: walls and dots, ground, Ms. Pac-Man.
_MS_PACMAN = ((228, 111, 111), (0, 28, 136), (210, 164, 74))
#: Least pixels of Ms. Pac-Man in a frame of half the emulator's size.
_LEAST = 8


def pong_figures(
    model: Predictor, source: Source, protocol: WorldProtocol, keep: dict[str, Recording] | None = None
) -> dict[str, Any]:
    """Figures of Pong; see `paddle_figures`.

    Of recordings that are not the field of play at half the emulator's size, those of `object_figures`.
    """
    if (source.spec.height, source.spec.width) != (80, 80):
        return object_figures(model, source, protocol, keep, player="paddle", moves=("RIGHT", "LEFT"))
    ball, opponent, player = colour_indices(source, model, _PONG)
    up, down = action_indices(source, ("RIGHT", "LEFT"))
    court = Court(
        ball=ball,
        opponent=opponent,
        player=player,
        ball_area=6,  # 2x4 px of the emulator, of which every block keeps the rarest colour
        rows=(0, source.spec.height),
        opponent_columns=(6, 12),
        player_columns=(68, 74),
        up=up,
        down=down,
    )
    return paddle_figures(model, source, protocol, keep, court)


def ms_pacman_figures(
    model: Predictor, source: Source, protocol: WorldProtocol, keep: dict[str, Recording] | None = None
) -> dict[str, Any]:
    """Figures of Ms. Pac-Man: those of `object_figures`, and dots that are eaten and stay so."""
    kept: dict[str, Recording] = {} if keep is None else keep
    moves = ("UP", "RIGHT", "LEFT", "DOWN")
    found = object_figures(model, source, protocol, kept, player="Ms. Pac-Man", moves=moves)
    wall, ground, runner = colour_indices(source, model, _MS_PACMAN)
    board = _board(kept["held_true"], wall, ground, runner)
    for name, recording in (("world", kept["held"]), ("true", kept["held_true"])):
        found["random_held_actions"][name] |= dots(recording, board)
    return found


def object_figures(
    model: Predictor,
    source: Source,
    protocol: WorldProtocol,
    keep: dict[str, Recording] | None = None,
    player: str | None = None,
    moves: Sequence[str] = (),
) -> dict[str, Any]:
    """Figures of any game: what stands still, presence of its known objects by fifths of a free run, obedience.

    Args:
        model: the world.
        source: store of recordings of the game.
        protocol: size of the evaluation.
        keep: filled with recordings by name, for videos.
        player: name of the object that the actions move; without it obedience is not measured.
        moves: names of the actions that move it.
    """
    measured = Measured(model, source, protocol, keep)
    held = measured.held()
    things, palette = things_of(source.meta()), measured.starts.palette
    still = (held["true"].frames == held["true"].frames[:1, :1]).all((0, 1))
    free = {name: still_intact(recording, still) for name, recording in held.items()}
    found: dict[str, Any] = {
        "random_held_actions": free,
        "true_actions": measured.under_true_actions()[2],
        "outcomes": measured.rewards(),
    }
    if things is not None:
        for name, recording in held.items():
            free[name] |= presence(recording, things, palette)
        if player is not None:
            which = [thing.name for thing in things.things].index(player)
            found["obedience"] = measured.obeyed(
                action_indices(source, moves), lambda frames: _places(frames, things, palette, which)
            )
    return found | {"frames_per_second": measured.frames_per_second()}


def still_intact(recording: Recording, still: np.ndarray) -> dict[str, Any]:
    """Share of the pixels that never change in the true game, and do not in the recording either.

    Args:
        recording: of some worlds.
        still: (h, w) bool, pixels that have one colour in all frames of all true games.
    """
    first = recording.frames[0, 0][still]
    same = np.stack([(frames[1:][:, still] == first).mean(1) for frames in recording.frames])
    return {
        "worlds": len(same),
        "frames": same.shape[1],
        "still_share": float(still.mean()),
        "still_intact": float(same.mean()),
        "still_intact_last": float(same[:, -1].mean()),
    }


def presence(recording: Recording, things: Things, palette: np.ndarray) -> dict[str, Any]:
    """Share of frames that show each object, in the first 64 frames, in all, and by fifths; mean number of objects.

    Frames after the end of a game, in which the emulator stands still, do not count.
    """
    n, t = recording.frames.shape[:2]
    there = np.full((n, t - 1, len(things.things)), np.nan)
    for row, frames in zip(there, recording.lasting(), strict=True):
        row[: len(frames) - 1] = _found(frames[1:], things, palette).there.numpy()
    names = [thing.name for thing in things.things]
    parts = [_means(part) for part in np.array_split(there, 5, axis=1)]
    return {
        "frames_of_games": float(np.isfinite(there[..., 0]).sum(1).mean()),
        "objects": float(np.nanmean(there.sum(2))),
        "shown_to_64": dict(zip(names, _means(there[:, :64]), strict=True)),
        "shown": dict(zip(names, _means(there), strict=True)),
        "shown_by_fifth": {name: [part[i] for part in parts] for i, name in enumerate(names)},
    }


def _means(there: np.ndarray) -> list[float | None]:
    """Mean over worlds and frames of each object; None where all games have ended before."""
    known = np.isfinite(there[..., 0])
    return [float(there[..., i][known].mean()) if known.any() else None for i in range(there.shape[2])]


def _found(frames: np.ndarray, things: Things, palette: np.ndarray) -> Any:
    rgb = torch.from_numpy(palette[frames].astype(np.float32) / 255).permute(0, 3, 1, 2)
    return find(rgb, things)


def _places(frames: np.ndarray, things: Things, palette: np.ndarray, which: int) -> np.ndarray:
    """Centre (row, column) of one object in px of the frames, (n, 2), NaN where it is not found."""
    x, y = _found(frames, things, palette).place[:, which].numpy().T
    return np.stack([y * frames.shape[1] / things.size[0], x * frames.shape[2] / things.size[1]], 1)


def _board(true: Recording, wall: int, ground: int, runner: int) -> Board:
    """The board of Ms. Pac-Man, whose dots have the colour of the walls: pixels that turn to ground in the true game.

    Pixels that do so more than twice in one game are those of power pills, which blink, and are left out.

    Args:
        true: of true games.
        wall, ground, runner: indices into the palette.
    """
    frames = true.frames
    turned = np.zeros((len(frames), *frames.shape[2:]), np.int64)
    for count, game in zip(turned, true.lasting(), strict=True):
        state = np.where(game == wall, 1, np.where(game == ground, 0, -1)).reshape(len(game), -1)
        known = carried(state)
        count += ((known[:-1] == 1) & (known[1:] == 0)).sum(0).reshape(count.shape)
    eaten = np.asarray((turned > 0).any(0) & (turned <= 2).all(0))
    corner = eaten.copy()  # one pixel of each dot: that without another above or to the left
    corner[1:] &= ~eaten[:-1]
    corner[:, 1:] &= ~eaten[:, :-1]
    return Board(
        walls=(frames == wall).all((0, 1)),
        dots=np.argwhere(corner),
        cells=np.empty((0, 2), np.int64),
        next=np.empty((0, 0), np.int64),
        moves=(),
        wall=wall,
        ground=ground,
        dot=wall,
        runner=runner,
        life=-1,
        chasers=(),
        least_runner=_LEAST,
        least_chaser=_LEAST,
        rows=frames.shape[2],
        life_area=1,
    )


def colour_indices(source: Source, model: Predictor, colours: Sequence[tuple[int, int, int]]) -> list[int]:
    """Indices of the nearest colours of the game's palette."""
    palette = game_palette(source, model)
    assert palette is not None  # `Starts` has refused it
    return [int(np.abs(palette.astype(np.int64) - colour).sum(1).argmin()) for colour in colours]


def action_indices(source: Source, names: Sequence[str]) -> tuple[int, ...]:
    """Indices of actions by their names."""
    spec = source.spec.actions
    known = list(spec.names or ()) if spec is not None else []
    return tuple(known.index(name) for name in names)
