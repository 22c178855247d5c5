"""Figures of Freeway on drawn roads: lanes, speeds, crossings."""

import numpy as np

from framecast.evaluation.freeway_world import Road, crossings, lanes
from framecast.evaluation.worlds import Recording


def road(speeds, frames=101, rows=(4, 12)):
    """Two cars of 4x3 px in lanes of their own, at whole steps per frame; colours 1 and 2."""
    found = np.zeros((1, frames, 20, 40), np.uint8)
    for car, (speed, row) in enumerate(zip(speeds, rows, strict=True), 1):
        for t in range(frames):
            left = int(np.floor(speed * t)) % 40
            found[0, t, row : row + 3, left : left + 4] = car
    return Recording(found, np.zeros((1, frames - 1), np.int64), np.zeros((1, frames - 1)))


def test_cars_that_keep_lane_and_speed():
    true = road((1, -0.5))
    assert lanes(true, true, (1, 2)) == {
        "cars": 2.0,
        "cars_in_lane": 1.0,
        "cars_of_true_speed": 2.0,
        "cars_of_true_speed_last_fifth": 2.0,
    }


def test_another_speed_another_lane_and_a_missing_car_are_seen():
    true = road((1, -0.5))
    assert lanes(road((1, -0.7)), true, (1, 2))["cars_of_true_speed"] == 1
    made = road((1, -0.5), rows=(4, 11))
    assert lanes(made, true, (1, 2))["cars_in_lane"] == 0.5
    made.frames[made.frames == 2] = 0
    found = lanes(made, true, (1, 2))
    assert (found["cars"], found["cars_of_true_speed"]) == (1.0, 1.0)
    made.frames[:] = 0
    assert lanes(made, true, (1, 2))["cars_in_lane"] is None


def test_rests_of_cars_and_cars_shown_twice_are_not_cars():
    true = road((1, -0.5))
    rest = road((1, -0.5))
    rest.frames[:, :, 5:7] = 0  # a row of three of the first car
    found = lanes(rest, true, (1, 2))
    assert found["cars"] < 1.3  # at the sides a part of it is one
    assert found["cars_of_true_speed"] == 1
    twice = road((1, -0.5))
    twice.frames[:] = np.maximum(twice.frames, np.roll(twice.frames, 18, axis=3))
    assert lanes(twice, true, (1, 2))["cars"] < 0.7


def test_speeds_are_of_each_world():
    true, still, fast = road((1, -0.5)), road((0, -0.5)), road((2, -0.5))
    still.frames[:] = np.roll(still.frames, 10, axis=3)
    both = Recording(np.concatenate([still.frames, fast.frames]), np.zeros((2, 100)), np.zeros((2, 100)))
    assert lanes(both, true, (1, 2))["cars_of_true_speed"] == 1  # in the mean the first car has its speed


def test_a_car_that_stops_late_shows_in_the_last_fifth_alone():
    true, made = road((1, -0.5), frames=1001), road((1, -0.5), frames=1001)
    made.frames[:, 950:] = made.frames[:, 949:950]
    found = lanes(made, true, (1, 2))
    assert found["cars_of_true_speed"] == 2
    assert found["cars_of_true_speed_last_fifth"] == 0


def test_crossings_are_leaps_from_top_to_bottom():
    frames = np.zeros((1, 101, 88, 76), np.uint8)
    frames[:, :, 43:45, 18:22] = 5  # the middle of the road has the chicken's colour
    for t in range(101):
        row = 84 - 2 * (t % 42)
        frames[0, t, row : row + 3, 19] = 5
    recording = Recording(frames, np.zeros((1, 100), np.int64), np.zeros((1, 100)))
    assert crossings(recording, Road(cars=(), chicken=5)) == {"crossings_per_1000_frames": 20.0}
