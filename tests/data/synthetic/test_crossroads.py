"""The crossing: alike until the turn, one of two ways after it, each as often."""

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.data.store import Store
from framecast.data.synthetic.crossroads import LEFT, RIGHT, Crossroads, CrossroadsConfig, crossing


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crossroads") / "crossroads"
    Crossroads(CrossroadsConfig()).prepare(folder)
    return Store(folder)


def test_both_turns_are_equal_before_and_mirrored_after():
    left, right = (crossing(CrossroadsConfig(), turn) for turn in (LEFT, RIGHT))
    assert len(left) == len(right) == 37
    np.testing.assert_array_equal(left[:19], right[:19])
    np.testing.assert_array_equal(64 - left[:, 0], right[:, 0])
    assert left[0].tolist() == [32, 68]
    assert left[18].tolist() == [32, 32]
    assert left[19].tolist() == [30, 32]
    assert (np.abs(np.diff(left, axis=0)).sum(1) == 2).all()


def test_ball_is_visible_in_every_frame(source):
    frames = source.clip(0, 0, source.lengths[0]).frames
    assert (frames.any(1).sum((1, 2)) >= 8).all()


def test_turns_are_balanced_and_unpredictable(source):
    turns, before = [], []
    for video in range(len(source)):
        clip = source.clip(video, 0, source.lengths[video])
        for start in range(0, len(clip.frames), 37):
            turn = clip.arrays["turn"][start : start + 37]
            assert len(set(turn.tolist())) == 1
            turns.append(int(turn[0]))
            before.append(clip.frames[start : start + 19])
            np.testing.assert_array_equal(clip.arrays["turned"][start : start + 37], [0] * 19 + [1] * 18)
    assert len(turns) == 240
    assert 90 < turns.count(LEFT) < 150  # three standard deviations around 120 are 97 … 143
    assert set(turns) == {LEFT, RIGHT}
    assert all((frames == before[0]).all() for frames in before)


def test_position_is_where_the_disc_is(source):
    clip = source.clip(3, 0, 37)
    for i in (6, 18, 22):
        rows, columns = np.nonzero(clip.frames[i].any(0))
        assert clip.arrays["position"][i].tolist() == [columns.mean(), rows.mean()]


@pytest.mark.parametrize(
    "settings", [{"radius": 17}, {"step": 0}, {"crossings": 0}, {"colour": (0, 0, 300)}, {"fps": 0}, {"seed": -1}]
)
def test_settings_are_checked(settings):
    with pytest.raises(UserError, match="crossroads: "):
        CrossroadsConfig(**settings)


def test_outcome_distribution_of_a_future_turn(source):
    clip = source.clip(0, 0, 37)
    other = next(c for v in range(9) if (c := source.clip(v, 0, 37)).arrays["turn"][0] != clip.arrays["turn"][0])
    law = Crossroads.outcome_distribution(clip, 10)
    assert (law.outcomes, law.probabilities) == (("left", "right"), (0.5, 0.5))
    for shown in (clip, other):
        assert law.classify(shown.frames[10:]) == (shown.arrays["turn"][0] == RIGHT)
    both = np.maximum(clip.frames, other.frames)[10:]
    assert law.classify(both) is None  # a ball that goes both ways shows neither
    assert law.classify(0 * both) is None
    assert law.classify(clip.frames[10:] // 3) is None
    assert Crossroads.outcome_distribution(clip, 20) is None  # has turned already, and no further crossing comes
    twice = source.clip(0, 20, 54)
    second = source.clip(0, 37, 37).arrays["turn"][0]
    assert Crossroads.outcome_distribution(twice, 4).classify(twice.frames[4:]) == (second == RIGHT)
    short = source.clip(0, 10, 12)  # ends two frames after the turn
    assert Crossroads.outcome_distribution(short, 5).classify(short.frames[5:]) == (clip.arrays["turn"][0] == RIGHT)
