"""Figures of Freeway at half the emulator's size: cars that keep their lanes and speeds, a chicken that crosses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from framecast.data.base import Source
from framecast.evaluation.atari_worlds import action_indices, colour_indices, object_figures
from framecast.evaluation.world_figures import Measured, WorldProtocol
from framecast.evaluation.worlds import Recording, centres
from framecast.metrics.objects import GAMES
from framecast.models.base import Predictor

#: Height and width of the field of play at half the emulator's size, px.
_SIZE = (88, 76)


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

    The arguments are those of `paddle_figures`. Of recordings that are not the field of play at half the emulator's
    size, those of `object_figures` alone.
    """
    kept: dict[str, Recording] = {} if keep is None else keep
    found = object_figures(model, source, protocol, kept, player="chicken", moves=("UP", "DOWN"))
    if (source.spec.height, source.spec.width) != _SIZE:
        return found
    colours = [thing.colours[0] for thing in GAMES["freeway"].things]
    chicken, *cars = colour_indices(source, model, colours)
    road = Road(cars=tuple(cars), chicken=chicken)
    for name, recording in (("world", kept["held"]), ("true", kept["held_true"])):
        found["random_held_actions"][name] |= lanes(recording, kept["held_true"], road.cars)
    (up,) = action_indices(source, ("UP",))
    runs = Measured(model, source, protocol, kept).played(lambda frames: np.full(len(frames), up))
    found["always_up"] = {name: crossings(recording, road) for name, recording in runs.items()}
    return found


def lanes(recording: Recording, true: Recording, cars: Sequence[int]) -> dict[str, Any]:
    """Cars shown, cars within the rows in which they drive in the true game, and cars of the true speed.

    A car is shown if its pixels are neither fewer nor more than in the true game, and not further apart; at the sides,
    where one comes and goes, any pixel of it will do. Its speed is its mean movement per frame in one world over pairs
    of frames that show it away from the sides; it is kept within a tenth of the true game's mean.

    Args:
        recording: of some worlds.
        true: of the true game.
        cars: palette index of each.

    Returns:
        Mean number of cars shown, share of shown cars that are in their rows, and mean number of cars of a world that
        keep their speed, over all frames and over the last fifth.
    """
    shown: list[float] = []
    inside: list[np.ndarray] = []
    kept: list[list[bool]] = []
    late: list[list[bool]] = []
    last = recording.frames.shape[1] * 4 // 5
    for car in cars:
        model = _Car.of(true.frames, car)
        there = model.shown(recording.frames)
        astray: np.ndarray = (recording.frames[:, :, ~model.rows] == car).any((2, 3))
        shown.append(float(there[:, 1:].mean()))
        inside.append(~astray[there])
        for speeds, part in ((kept, slice(None)), (late, slice(last, None))):
            true_speed = np.nanmean(model.speeds(true.frames[:, part]))
            speeds.append([_alike(made, true_speed) for made in model.speeds(recording.frames[:, part])])
    every = np.concatenate(inside)
    return {
        "cars": float(np.sum(shown)),
        "cars_in_lane": float(every.mean()) if len(every) else None,
        "cars_of_true_speed": float(np.mean(np.sum(kept, 0))),
        "cars_of_true_speed_last_fifth": float(np.mean(np.sum(late, 0))),
    }


@dataclass(frozen=True)
class _Car:
    """How the true game draws a car: rows, least and most pixels, and largest width away from the sides."""

    colour: int
    rows: np.ndarray
    least: int
    most: int
    widest: int

    @classmethod
    def of(cls, frames: np.ndarray, colour: int) -> _Car:
        """The car of a colour in frames (n, t, h, w) of the true game."""
        mask = frames == colour
        first, last, whole = _sides(mask)
        area = mask.sum((2, 3))[whole]
        if not len(area):
            return cls(colour, mask.any((0, 1, 3)), 1, 0, 0)
        return cls(colour, mask.any((0, 1, 3)), int(area.min()), int(area.max()), int((last - first)[whole].max()) + 1)

    def shown(self, frames: np.ndarray) -> np.ndarray:
        """Whether frames (n, t, h, w) show the car as the true game does, (n, t) bool."""
        mask = frames == self.colour
        first, last, whole = _sides(mask)
        area = mask.sum((2, 3))
        alike = (area >= self.least) & (area <= self.most) & (last - first < self.widest)
        found: np.ndarray = (area > 0) & np.where(whole, alike, area <= self.most)
        return found

    def speeds(self, frames: np.ndarray) -> np.ndarray:
        """Mean movement to the right in each world, px per frame, (n,); NaN where the car is not shown."""
        first, last, whole = _sides(frames == self.colour)
        moved = np.diff((first + last) / 2, axis=1)
        valid = whole & self.shown(frames)
        moved[~(valid[:, 1:] & valid[:, :-1]) | (np.abs(moved) > frames.shape[3] / 4)] = np.nan
        count = np.isfinite(moved).sum(1)
        found: np.ndarray = np.where(count, np.nansum(moved, 1) / np.maximum(count, 1), np.nan)
        return found


def _sides(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and last marked column of frames (n, t, h, w), and whether there are some and none touches a side."""
    columns = np.asarray(mask.any(2))
    width = columns.shape[2]
    first, last = columns.argmax(2), width - 1 - columns[..., ::-1].argmax(2)
    return first, last, columns.any(2) & (first > 0) & (last < width - 1)


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
