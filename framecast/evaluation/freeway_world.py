"""Figures of Freeway at half the emulator's size: cars that keep their lanes and speeds, a chicken that crosses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from framecast.data.base import Source
from framecast.evaluation.atari_worlds import action_indices, colour_indices, object_figures
from framecast.evaluation.world_figures import Measured, WorldProtocol
from framecast.evaluation.worlds import Recording, centres, constant, play
from framecast.metrics.objects import GAMES
from framecast.models.base import Predictor


@dataclass(frozen=True, kw_only=True)
class Road:
    """Colours and places.

    Attributes:
        cars: palette index of each car.
        chicken: palette index of the chicken.
        columns: first and one past the last column of the chicken, px.
        line: first and one past the last row of the road's middle, which has the chicken's colour.
    """

    cars: tuple[int, ...]
    chicken: int
    columns: tuple[int, int] = (18, 22)
    line: tuple[int, int] = (43, 45)


def freeway_figures(
    model: Predictor, source: Source, protocol: WorldProtocol, keep: dict[str, Recording] | None = None
) -> dict[str, Any]:
    """Figures of Freeway: those of `object_figures`, lanes and speeds of cars, crossings of a chicken that goes up.

    The arguments are those of `paddle_figures`.
    """
    kept: dict[str, Recording] = {} if keep is None else keep
    found = object_figures(model, source, protocol, kept, player="chicken", moves=("UP", "DOWN"))
    colours = [thing.colours[0] for thing in GAMES["freeway"].things]
    chicken, *cars = colour_indices(source, model, colours)
    road = Road(cars=tuple(cars), chicken=chicken)
    true = kept["held_true"]
    for name in ("world", "true"):
        found["random_held_actions"][name] |= lanes(kept["held" if name == "world" else "held_true"], true, road.cars)
    measured = Measured(model, source, protocol)
    up = constant(len(measured.starts), *action_indices(source, ("UP",)))
    runs = {n: play(make(), up, protocol.played_frames) for n, make in measured.makers(measured.starts).items()}
    kept |= {"played": runs["world"], "played_true": runs["true"]}
    found["always_up"] = {name: crossings(recording, road) for name, recording in runs.items()}
    return found


def lanes(recording: Recording, true: Recording, cars: Sequence[int]) -> dict[str, Any]:
    """Cars shown, cars within the rows in which they drive in the true game, and cars of the true speed.

    The speed of a car is its mean movement per frame over pairs of frames in which it touches neither side; it counts
    as kept within a tenth of the true one, over all frames and over the last fifth.

    Args:
        recording: of some worlds.
        true: of the true game.
        cars: palette index of each.
    """
    shown, inside, speeds, late = [], [], [], []
    for car in cars:
        rows = (true.frames == car).any((0, 1, 3))
        mine = recording.frames == car
        there = mine.any((2, 3))[:, 1:]
        shown.append(there.mean())
        inside.append(~mine[:, 1:, ~rows].any((2, 3))[there] if there.any() else np.zeros(1))
        last = recording.frames.shape[1] * 4 // 5
        speeds.append((_speed(recording.frames, car), _speed(true.frames, car)))
        late.append((_speed(recording.frames[:, last:], car), _speed(true.frames[:, last:], car)))
    return {
        "cars": float(np.sum(shown)),
        "cars_in_lane": float(np.mean([row.mean() for row in inside])),
        "cars_of_true_speed": sum(_alike(*pair) for pair in speeds),
        "cars_of_true_speed_last_fifth": sum(_alike(*pair) for pair in late),
        "speeds": [None if np.isnan(made) else made for made, _ in speeds],
    }


def _speed(frames: np.ndarray, car: int) -> float:
    """Mean movement to the right of a car that touches neither side, px per frame; NaN where there is none."""
    columns = (frames == car).any(2)
    width = columns.shape[2]
    first, last = columns.argmax(2), width - 1 - columns[..., ::-1].argmax(2)
    whole = columns.any(2) & (first > 0) & (last < width - 1)
    moved = np.diff((first + last) / 2, axis=1)
    valid = whole[:, 1:] & whole[:, :-1] & (np.abs(moved) < width / 4)
    return float(moved[valid].mean()) if valid.any() else float("nan")


def _alike(made: float, true: float) -> bool:
    return abs(made - true) <= 0.1 * abs(true)


def crossings(recording: Recording, road: Road) -> dict[str, Any]:
    """Times that the chicken goes from the upper quarter of the frame to the lower one at once, per 1,000 frames."""
    left, right = road.columns
    mask = recording.frames[..., left:right] == road.chicken
    mask[:, :, slice(*road.line)] = False
    row, height = centres(mask)[..., 0], recording.frames.shape[2]
    count = 0
    for path in row:
        seen = path[np.isfinite(path)]
        count += int(((seen[:-1] < height / 4) & (seen[1:] > height * 3 / 4)).sum())
    return {"crossings_per_1000_frames": 1000 * count / (len(row) * (row.shape[1] - 1))}
