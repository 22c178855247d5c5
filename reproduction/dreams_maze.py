"""Dreams of the maze: are runner and chasers in decoded frames and in dreams, and does the runner obey?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.data.base import Source
from framecast.data.store import Store
from framecast.data.synthetic.maze import CELL, MazeGame
from framecast.evaluation.maze_world import Board, maze_board, runner_places
from framecast.evaluation.worlds import Recording, Starts, centres, held_actions, obedience, play, to_indices
from reproduction.dreams_training import Trained
from reproduction.results import RESULTS, WORK, made, relative, write_film

#: Largest distance from the true place at which a sprite counts as found, px, and side of the square that holds it.
NEAR, LARGEST = 2.0, 7
#: Least pixels of runner and chasers, of which a whole one has 16 to 21 and 19.
LEAST = (10, 8, 8, 8, 8)
#: Held-out frames that are decoded, worlds that are dreamt, and frames of each.
DECODED, WORLDS, LENGTH = 1000, 16, 200


def maze() -> dict[str, Any]:
    """The maze with actions: sprites in decoded frames, in dreams of 200 frames, obedience to held left and right."""
    data = made(WORK / "data" / "maze", "maze", "--episodes", "60", "--frames", "1000")
    trained = Trained("maze", relative(data), "maze")
    source, model, board = Store(data), trained.model, maze_board()
    starts = Starts(source, model.num_context, WORLDS)
    dreamt, true = (
        play(world, held_actions(len(starts), starts.size, 0), LENGTH)
        for world in (starts.model_world(model), starts.true_game())
    )
    moves = [MazeGame.ACTIONS.index(name) for name in ("LEFT", "RIGHT")]
    makers = {"world": lambda: starts.model_world(model), "true": starts.true_game}
    found = {
        **trained.facts,
        "detector": detector(source, board),
        "decoded": decoded(trained, board),
        "dream": {"mean": shown(dreamt, board), "mean_true": shown(true, board), **by_part(dreamt, true, board)},
        "moved": {"dream": moved(dreamt, board), "game": moved(true, board)},
        "steering": obedience(makers, moves, lambda frames: runner_places(frames, board)),
        "film": film(dreamt, true, starts.palette),
    }
    dream, steering = found["dream"], found["steering"]
    sentence = (
        f"runner and chasers are found in {found['decoded']['sprites']:.0%} of decoded frames that have them; "
        f"a dream of {LENGTH} frames shows {dream['mean']:.0%} of them (the game {dream['mean_true']:.0%}); "
        f"held left or right is obeyed in {steering['obeyed']:.0%} of {steering['moving_starts']} starts "
        "where the game obeys"
    )
    return {**found, "sentence": sentence}


def sprites(frames: np.ndarray, board: Board) -> np.ndarray:
    """Centres (row, column) of runner and chasers, (..., 5, 2), NaN where one is not shown, in frames (..., h, w).

    Each is looked for where most pixels of its colour lie within 7x7 px: its centre is theirs. It is shown if they are
    at least `LEAST`, and at least 60 % of those of its colour in the 21x21 px around: a smear is no sprite. A chaser
    that is blue, of which only the eyes have its own colour, is not shown.
    """
    field = frames[..., : board.rows, :].reshape(-1, board.rows, frames.shape[-1])
    found = []
    for colour, least in zip((board.runner, *board.chasers), LEAST, strict=True):
        mask = np.pad(field == colour, ((0, 0), (LARGEST, LARGEST), (LARGEST, LARGEST)))
        sums = _sums(mask[:, LARGEST:-LARGEST, LARGEST:-LARGEST], LARGEST)
        top, left = np.unravel_index(sums.reshape(len(sums), -1).argmax(1), sums.shape[1:])
        frame, count = np.arange(len(mask)), sums.max((1, 2))
        windows = np.lib.stride_tricks.sliding_window_view(mask, (LARGEST, LARGEST), (1, 2))
        place = centres(windows[frame, top + LARGEST, left + LARGEST]) + np.stack([top, left], 1)
        around = _sums(mask, 3 * LARGEST)[frame, top, left]
        place[(count < least) | (count < 0.6 * around)] = np.nan
        found.append(place)
    return np.stack(found, -2).reshape(*frames.shape[:-2], len(found), 2)


def _sums(mask: np.ndarray, side: int) -> np.ndarray:
    """Numbers of marked pixels in all squares of a side, (n, h - side + 1, w - side + 1)."""
    total = np.pad(mask.astype(np.int32), ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)
    bands = total[:, side:] - total[:, :-side]
    found: np.ndarray = bands[:, :, side:] - bands[:, :, :-side]
    return found


def near(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Whether each sprite is found where it truly is."""
    with np.errstate(invalid="ignore"):
        near_truth: np.ndarray = np.abs(found - truth).max(-1) <= NEAR
    return near_truth


def detector(source: Source, board: Board) -> dict[str, float]:
    """Shares of true sprites found at their place, by the recorded states, and of sprites found where there are none.

    Sprites that overlap are left out, as one of them is covered, and blue chasers.
    """
    clip = source.clip(0, 0, int(source.lengths[0]))
    names = source.meta()["states"]
    columns = [
        [names.index(f"{name}_{axis}") for axis in "yx"] for name in ("runner", *(f"chaser{i}" for i in range(4)))
    ]
    corner = clip.arrays["states"][:, np.array(columns)]
    places = sprites(to_indices(clip.frames, np.array(source.meta()["palette"])), board)
    blue = clip.arrays["states"][:, [names.index(f"chaser{i}_blue") for i in range(4)]] > 0
    there = (corner[..., 0] >= 0) & ~np.pad(blue, ((0, 0), (1, 0)))
    apart = np.abs(corner[:, :, None] - corner[:, None]).max(-1) >= CELL
    alone = (apart | np.eye(corner.shape[1], dtype=bool)).all(-1)
    # the centre of a sprite of 5x5 px, in a maze that begins at column 2 of the frame
    hit = near(places, corner + np.array([2, 4]))
    empty = MazeGame().indices()
    return {
        "truth": float(hit[there & alone].mean()),
        "false": float(np.isfinite(places[..., 0])[~there].mean()),
        "blank": float(np.isfinite(sprites(empty[None], board)[..., 0]).mean()),
    }


def decoded(trained: Trained, board: Board) -> dict[str, float]:
    """Shares of sprites of held-out frames that are found in the frames decoded from their latents."""
    frames, _ = trained.frames("test", DECODED)
    palette = np.array(trained.source.meta()["palette"])
    again = trained.model.decode(trained.model.encode(frames[None]))[0]
    truth, found = (sprites(to_indices(_bytes(x), palette), board) for x in (frames, again))
    there = np.isfinite(truth[..., 0])
    hit = near(found, truth) & there
    return {
        "sprites": float(hit.sum() / there.sum()),
        "runner": float(hit[:, 0].sum() / there[:, 0].sum()),
        "chasers": float(hit[:, 1:].sum() / there[:, 1:].sum()),
        "false": float(np.isfinite(found[..., 0])[~there].mean()),
        "psnr": float(-10 * torch.log10((again - frames).square().mean())),
    }


def shown(recording: Recording, board: Board) -> float:
    """Mean share of runner and chasers that are shown, over worlds and frames after the start."""
    return float(np.isfinite(sprites(recording.frames[:, 1:], board)[..., 0]).mean())


def by_part(dreamt: Recording, true: Recording, board: Board) -> dict[str, float]:
    """Shares of frames with a runner and of chasers shown, in all and in the last 50 frames; the true game's beside."""
    found = {}
    for name, recording in (("", dreamt), ("_true", true)):
        there = np.isfinite(sprites(recording.frames[:, 1:], board)[..., 0])
        found |= {
            f"runner{name}": float(there[..., 0].mean()),
            f"chasers{name}": float(there[..., 1:].mean()),
            f"runner_last_50{name}": float(there[:, -50:, 0].mean()),
            f"chasers_last_50{name}": float(there[:, -50:, 1:].mean()),
        }
    return found


def moved(recording: Recording, board: Board, frames: int = 10, least: float = 2.0) -> float:
    """Share of the sprites shown at two frames, `frames` apart, that are then at another place, `least` px away."""
    places = sprites(recording.frames[:, 1:], board)
    step = np.abs(places[:, frames:] - places[:, :-frames]).max(-1)
    return float((step[np.isfinite(step)] >= least).mean())


def film(dreamt: Recording, true: Recording, palette: np.ndarray) -> str:
    """A film of one dream beside the true game under the same actions, to the last frame."""
    rows = {
        name: palette.astype(np.uint8)[recording.frames[0]].transpose(0, 3, 1, 2)
        for name, recording in (("truth", true), ("dream", dreamt))
    }
    return write_film(rows, RESULTS / "dreams-maze.webp", 30)


def _bytes(frames: Tensor) -> np.ndarray:
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
