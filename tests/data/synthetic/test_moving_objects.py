"""The published generator of moving objects: every start once, one in ten for testing, frames as described."""

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.data.store import Store
from framecast.data.synthetic.moving_objects import ALL_PAIRS, MovingObjects, MovingObjectsConfig, frames, scene


def test_published_numbers():
    assert ALL_PAIRS == 38_416
    assert -(-ALL_PAIRS // 10) == 3842
    assert ALL_PAIRS - 3842 == 34_574


def test_every_combination_of_starts_occurs_once():
    rng = np.random.default_rng(0)
    found = (scene(i, rng) for i in range(ALL_PAIRS))
    starts = {(*each["triangle"]["start"], *each["square"]["start"]) for each in found}
    assert len(starts) == ALL_PAIRS
    assert {v for four in starts for v in four} == set(range(0, 40, 3))


def test_sides_shifts_and_channels_are_drawn_independently():
    found = [scene(0, np.random.default_rng([0, i])) for i in range(3000)]
    for kind in ("triangle", "square"):
        assert {f[kind]["side"] for f in found} == {8, 9, 10}
        assert {f[kind]["shift"] for f in found} == {6, 7, 8, 9, 10}
        assert {f[kind]["channel"] for f in found} == {0, 1, 2}
    values = np.array([[f[k][n] for k in ("triangle", "square") for n in ("side", "shift", "channel")] for f in found])
    off = np.corrcoef(values.T) - np.eye(6)
    assert np.abs(off).max() < 0.07


def test_frames_equal_manual_drawing():
    found = {
        "triangle": {"start": [3, 6], "side": 8, "channel": 0, "shift": 7},
        "square": {"start": [30, 33], "side": 9, "channel": 2, "shift": 10},
    }
    expected = np.zeros((2, 3, 64, 64), np.uint8)
    for t in (0, 1):
        for i in range(8):
            for j in range(i + 1):
                expected[t, 0, 3 + 7 * t + i, 6 + j] = 255
        expected[t, 2, 30:39, 33 + 10 * t : 42 + 10 * t] = 255
    np.testing.assert_array_equal(frames(found), expected)


def test_one_in_ten_is_test(tmp_path):
    MovingObjects(MovingObjectsConfig(pairs=40)).prepare(tmp_path / "m")
    store = Store(tmp_path / "m")
    assert [store.fixed[n] for n in store.names].count("test") == 4
    assert store.lengths == [2] * 40
    np.testing.assert_array_equal(store.clip(3, 0, 2).frames, frames(store.clip(3, 0, 1).meta))
    splits = store.splits(2)
    assert len(splits["test"]) == 4
    assert splits["val"]


@pytest.mark.parametrize("settings", [{"pairs": 2}, {"pairs": ALL_PAIRS + 1}, {"seed": -1}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match="moving-objects: "):
        MovingObjectsConfig(**settings)
