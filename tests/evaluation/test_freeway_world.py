"""Figures of Freeway on drawn roads: lanes, speeds, crossings."""

import numpy as np
import pytest

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
    found = lanes(true, true, (1, 2))
    assert found["cars"] == 2.0
    assert found["cars_in_lane"] == 1.0
    assert found["cars_of_true_speed"] == found["cars_of_true_speed_last_fifth"] == 2
    assert found["speeds"] == pytest.approx([1, -0.5], abs=0.02)


def test_another_speed_another_lane_and_a_missing_car_are_told():
    true = road((1, -0.5))
    found = lanes(road((1, -0.7)), true, (1, 2))
    assert found["cars_of_true_speed"] == 1
    made = road((1, -0.5), rows=(4, 11))
    assert lanes(made, true, (1, 2))["cars_in_lane"] == 0.5
    made.frames[made.frames == 2] = 0
    found = lanes(made, true, (1, 2))
    assert found["cars"] == 1.0
    assert found["speeds"][1] is None
    assert found["cars_of_true_speed"] == 1


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
