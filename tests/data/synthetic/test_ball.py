"""The ball is the published clip, frame for frame."""

from itertools import islice, pairwise

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.data.store import Store
from framecast.data.synthetic.ball import Ball, BallConfig, places


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ball") / "ball"
    Ball(BallConfig()).prepare(folder)
    source = Store(folder)
    return source.clip(0, 0, source.lengths[0])


def test_ball_moves_left_and_right():
    xs = list(islice(places(), 500))
    assert xs[:18] == [*range(34, 67, 2), 64]
    assert (min(xs), max(xs)) == (-2, 66)
    assert xs[68:] == xs[:-68]
    assert min(p for p in range(1, 69) if xs[p:] == xs[:-p]) == 68
    assert {abs(b - a) for a, b in pairwise(xs)} == {2}


def test_frames_are_a_red_disc_on_black(clip):
    assert clip.frames.shape == (500, 3, 64, 64)
    assert clip.fps == 24
    assert not clip.frames[:, 1:].any()
    assert set(np.unique(clip.frames[:, 0])) == {0, 255}
    areas = (clip.frames[:, 0] == 255).sum((1, 2))
    assert (areas.min(), areas.max()) == (110, 317)
    # The published run left 254^2 of every disc pixel, as its frames were not divided by 255: its floors on record.
    assert 254**2 * areas[:400].mean() == pytest.approx(18_431_899, abs=1)
    assert 254**2 * areas[400:].mean() == pytest.approx(18_367_705, abs=1)
    # error of a black image, in 0…1
    squared = np.square(clip.frames / 255).sum((1, 2, 3))
    assert squared.mean() == areas.mean() == pytest.approx(285.5, abs=0.01)


def test_position_is_where_the_disc_is(clip):
    for i in (3, 8, 20, 40):
        x, y = clip.arrays["position"][i]
        rows, columns = np.nonzero(clip.frames[i, 0])
        assert y == rows.mean() == 32
        if 10 <= x <= 53:
            assert x == columns.mean()


def test_videos_continue_the_previous_one(tmp_path):
    Ball(BallConfig(videos=3, frames=20)).prepare(tmp_path / "ball")
    found = [Store(tmp_path / "ball").clip(v, 0, 20).arrays["position"][:, 0] for v in range(3)]
    assert np.concatenate(found).tolist() == list(islice(places(), 60))


@pytest.mark.parametrize("settings", [{"frames": 0}, {"videos": 0}, {"fps": 0}])
def test_settings_are_checked(settings):
    with pytest.raises(UserError, match="ball: "):
        BallConfig(**settings)
