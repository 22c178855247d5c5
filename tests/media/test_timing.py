"""Constant rates are found behind rounded clocks, left-out frames and jitter; only true variation is resampled."""

from fractions import Fraction

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.media.timing import close_pauses, constant_rate, exact_rate, resampled, without_skips


@pytest.mark.parametrize(("fps", "tick"), [(30, 1e-3), (24, 1e-3), (30, 0.01), (25, 1 / 12800), (12.5, 1e-3)])
def test_rounded_clock(fps, tick):
    times = np.round(np.arange(50) / fps / tick) * tick
    timing = constant_rate(times, round(50 / fps / tick) * tick, tick)
    assert float(timing.fps) == pytest.approx(fps, abs=1e-9)
    assert timing.constant
    assert timing.pick.tolist() == list(range(50))


def test_stated_rate_is_kept_exactly():
    times = np.round(np.arange(120) * 1001 / 30000, 3)
    assert constant_rate(times, 4.004, 1e-3, [Fraction(30000, 1001)]).fps == Fraction(30000, 1001)


def test_wrong_stated_rate_is_ignored():
    assert constant_rate(np.arange(20) / 15, 20 / 15, 1e-4, [Fraction(1000), None, Fraction(30)]).fps == 15


def test_left_out_frames_are_shown_again():
    timing = constant_rate(np.array([0, 1, 2, 5, 6]) / 10, 0.7, 1e-3)
    assert timing.fps == 10
    assert timing.pick.tolist() == [0, 1, 2, 2, 2, 3, 4]


def test_a_long_last_frame_counts():
    timing = constant_rate(np.array([0, 0.1, 0.2]), 0.6, 0.01)
    assert timing.fps == 10
    assert timing.pick.tolist() == [0, 1, 2, 2, 2, 2]


def test_jitter_keeps_every_frame():
    times = np.arange(60) / 30 + np.random.default_rng(0).uniform(-0.008, 0.008, 60)
    times[0] = 0
    timing = constant_rate(times, 2.0, 1e-5, [Fraction(30)])
    assert timing.fps == 30
    assert timing.pick.tolist() == list(range(60))


def test_variable_rate_takes_the_nearest_earlier_frame_at_the_most_common_spacing():
    times = np.cumsum([0, 0.031, 0.029, 0.052, 0.017, 0.213, 0.033, 0.091, 0.02, 0.014])
    timing = constant_rate(times, 0.531, 1e-5)
    assert not timing.constant
    assert float(timing.fps) == pytest.approx(1 / 0.03, rel=0.01)  # 29 and 31 ms
    expected = [max(i for i, t in enumerate(times) if t <= k / float(timing.fps) + 1e-5) for k in range(18)]
    assert timing.pick.tolist() == expected
    assert timing.unused(10) == 10 - len(set(expected)) > 0


def test_pauses_are_closed_and_break_the_video():
    times = np.concatenate([np.arange(20) / 10, 65 + np.arange(20) / 10])
    closed, after = close_pauses(times)
    assert after.tolist() == [20]
    assert closed == pytest.approx(np.arange(40) / 10)
    timing = constant_rate(closed, 4.0, 1e-3)
    assert (timing.fps, timing.breaks(after)) == (10, (20,))
    assert resampled(closed, 4.0, 5).breaks(after) == (10,)
    assert close_pauses(np.array([0, 0.1, 1.9]))[1].tolist() == []


def test_clock_of_whole_frames_shows_left_out_ones_again():
    timing = constant_rate(np.array([0, 1, 2, 5, 6]) / 25, 7 / 25, 1 / 25, [Fraction(25)])
    assert timing.fps == 25
    assert timing.pick.tolist() == [0, 1, 2, 2, 2, 3, 4]
    timing = constant_rate(np.array([0, 1, 2, 4]) / 25, 5 / 25, 1 / 25, [Fraction(25)])
    assert (timing.fps, timing.pick.tolist()) == (25, [0, 1, 2, 2, 3])


def test_one_frame():
    assert constant_rate(np.zeros(1), 0.04, 1e-3, [Fraction(25)]).pick.tolist() == [0]
    assert constant_rate(np.zeros(1), 0.0, 1e-3).fps == 25


def test_resampled_up_and_down():
    times = np.round(np.arange(9) / 30, 3)
    assert resampled(times, 0.3, 10).pick.tolist() == [0, 3, 6]
    assert resampled(times, 0.3, 60).pick.tolist() == [i // 2 for i in range(18)]
    with pytest.raises(UserError, match="fps must be above 0"):
        resampled(times, 0.3, 0)


def test_exact_rate():
    assert exact_rate(29.97) == Fraction(30000, 1001)
    assert exact_rate(23.976) == Fraction(24000, 1001)
    assert exact_rate(30) == 30
    assert exact_rate(12.5) == Fraction(25, 2)


def test_skips_of_one_frame_are_left_out_where_all_other_steps_are_one_frame():
    times = np.array([0, 1, 2, 4, 5, 7]) / 25
    np.testing.assert_allclose(without_skips(times, [None, Fraction(25)], 1e-5), np.arange(6) / 25)
    for other in (np.array([0, 1, 2, 5, 6]) / 25, np.array([0, 1, 2.5, 3.5, 5]) / 25, np.zeros(1)):
        assert without_skips(other, [Fraction(25)], 1e-5) is other  # a longer pause, fields that repeat, one frame
    assert without_skips(times, [None], 1e-5) is times
