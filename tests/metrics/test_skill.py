"""Skill over a reference: values by hand, exact cases, coverage of the bootstrap intervals, skilful ranges."""

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.metrics import skill as s
from framecast.metrics.skill import (
    best_reference,
    horizon_skill,
    interval_rule,
    ratio_interval,
    skilful_ranges,
    skill,
    skill_curve,
    skill_difference,
    useful_horizon,
)

RNG = np.random.default_rng(3)
REFERENCE = RNG.gamma(2.0, 0.01, (6, 4))
VIDEOS = ["a", "a", "b", "c", "d", "e"]


def test_forecast_equal_to_the_reference_has_exactly_zero_skill():
    assert (skill(REFERENCE, REFERENCE) == 0).all()
    assert horizon_skill(REFERENCE, REFERENCE) == 0
    curve = skill_curve(REFERENCE, REFERENCE, VIDEOS)
    for series in (curve.by_frame, curve.horizon):
        assert set(series.mean) == set(series.low) == set(series.high) == {0.0}


def test_truth_has_skill_one():
    curve = skill_curve(np.zeros((6, 4)), REFERENCE, VIDEOS)
    assert set(curve.by_frame.mean) == set(curve.by_frame.low) == set(curve.by_frame.high) == {1.0}
    assert curve.horizon.mean == (1.0,)


def test_skill_of_a_mixture_is_that_computed_by_hand():
    # two clips, two frames; errors are pooled before the ratio, so the clip of large errors has the larger weight
    model, reference = torch.tensor([[1.0, 2.0], [6.0, 2.0]]), torch.tensor([[2.0, 4.0], [8.0, 1.0]])
    assert skill(model, reference) == pytest.approx([1 - 7 / 10, 1 - 4 / 5])
    assert horizon_skill(model, reference) == pytest.approx(1 - 11 / 15)
    # half truth, half reference, on the same pixels: an error half as large, squared
    assert horizon_skill(0.25 * reference.numpy(), reference) == 0.75


def test_skill_is_undefined_where_the_reference_has_no_error():
    reference = REFERENCE.copy()
    reference[:, 1] = 0
    assert np.isnan(skill(REFERENCE, reference)).tolist() == [False, True, False, False]
    curve = skill_curve(REFERENCE, reference, VIDEOS)
    assert curve.by_frame.mean[1] is curve.by_frame.low[1] is None
    assert curve.by_frame.n == (6, 0, 6, 6)
    still = skill_curve(REFERENCE, 0 * REFERENCE, VIDEOS)
    assert still.horizon.mean == (None,)
    assert set(still.by_frame.high) == {None}


def test_best_reference_is_the_best_at_every_frame():
    names, errors = best_reference({"one": [[1.0, 5.0], [1.0, 5.0]], "two": [[2.0, 1.0], [1.0, 8.0]]})
    assert names == ("one", "two")
    assert errors.tolist() == [[1, 1], [1, 8]]
    assert best_reference({"one": [[2.0]], "two": [[2.0]]})[0] == ("one",)


def videos(units: int, sets: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Squared errors of forecast and reference of `sets` sets of `units` videos, and the true ratio."""
    rng = np.random.default_rng(18)
    reference = rng.gamma(2.0, size=(units, sets))
    return 0.7 * reference * rng.lognormal(0, 0.4, (units, sets)), reference, 0.7 * float(np.exp(0.08))


@pytest.mark.parametrize(("units", "least", "most"), [(40, 0.92, 0.98), (9, 0.88, 0.98)])
def test_bootstrap_interval_covers_the_true_skill(units, least, most, record_property):
    model, reference, true = videos(units, 1000)
    low, high = ratio_interval(model, reference, log=True)
    coverage = float(np.mean((low <= true) & (true <= high)))
    record_property("coverage", coverage)
    assert least <= coverage <= most


def test_interval_of_a_ratio_is_the_resampling_written_out():
    model, reference, _ = videos(7, 1)
    low, high = ratio_interval(model, reference)
    ratio = model.sum() / reference.sum()

    def error(m, r):
        return np.sqrt(((m - m.sum() / r.sum() * r) ** 2).sum() * 7 / 6) / r.sum()

    t_values = []
    for counts in np.random.default_rng(0).multinomial(7, [1 / 7] * 7, s.RESAMPLES):
        m, r = np.repeat(model[:, 0], counts), np.repeat(reference[:, 0], counts)
        if error(m, r) > 1e-6:  # the same video seven times has no variance
            t_values.append((m.sum() / r.sum() - ratio) / error(m, r))
    t_values.sort()
    n = len(t_values) + 1
    ends = [ratio - t_values[round(p * n) - 1] * error(model[:, 0], reference[:, 0]) for p in (0.975, 0.025)]
    assert [float(low[0]), float(high[0])] == pytest.approx(ends)


def test_interval_is_over_videos_not_clips():
    model, reference, _ = videos(8, 1)
    once = skill_curve(model, reference, list(range(8)))
    copies = skill_curve(model.repeat(3, 0), reference.repeat(3, 0), [i for i in range(8) for _ in range(3)])
    assert copies.horizon.low[0] == pytest.approx(once.horizon.low[0])
    assert copies.horizon.n == (24,)
    apart = skill_curve(model.repeat(3, 0), reference.repeat(3, 0), None)
    assert apart.horizon.high[0] - apart.horizon.low[0] < once.horizon.high[0] - once.horizon.low[0]


def test_few_videos_give_an_indicative_interval_and_one_clip_none():
    curve = skill_curve(0.5 * REFERENCE[:3] + 0.001, REFERENCE[:3], ["a", "b", "c"])
    assert curve.horizon.low[0] < curve.horizon.mean[0] < curve.horizon.high[0] < 1
    assert skill_curve(REFERENCE[:1], REFERENCE[:1], ["a"]).horizon.low == (None,)
    assert "3 videos" in interval_rule(9, 3)
    assert "indicative" in interval_rule(9, 3)
    assert "9 clips of one video" in interval_rule(9, 1)
    assert "bootstrap" in interval_rule(9, 1)
    assert interval_rule(1, 1) == "no interval: one clip"
    assert interval_rule(32, 5).startswith("95 % interval, studentised bootstrap of the log ratio over 5 videos")


def test_difference_of_skills_is_that_of_the_errors():
    a, b = 0.4 * REFERENCE, 0.9 * REFERENCE + 0.002
    found = skill_difference(a, b, REFERENCE, VIDEOS)
    assert found.mean[0] == pytest.approx(horizon_skill(a, REFERENCE) - horizon_skill(b, REFERENCE))
    assert found.low[0] < found.mean[0] < found.high[0]
    assert skill_difference(a, a, REFERENCE, VIDEOS).low == (0.0,)


def test_skilful_ranges_and_the_useful_horizon():
    ranges = skilful_ranges([0.2, 0.1, 0.0, -0.1, None, 0.3, 0.2])
    assert ranges == ((1, 2), (6, 7))
    assert useful_horizon(ranges) == 2
    assert useful_horizon(skilful_ranges([-0.1, 0.2])) == 0
    assert useful_horizon(()) == 0
    assert useful_horizon(skilful_ranges([0.1] * 5)) == 5


@pytest.mark.parametrize("wrong", [np.ones(3), np.ones((2, 4)), np.ones((6, 4)) * np.nan, -np.ones((6, 4))])
def test_wrong_errors_are_refused(wrong):
    with pytest.raises(UserError, match="squared errors"):
        skill(wrong, REFERENCE)
