"""Averages over clips: exact, with intervals that are cluster-robust over videos."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from framecast.core.errors import UserError
from framecast.metrics import averages


def test_t_quantile_equals_scipy():
    for dof in [*range(1, 260), 1000, 10**6]:
        assert averages.t_quantile(dof) == pytest.approx(stats.t.ppf(0.975, dof), abs=1e-9)
    assert averages.t_quantile(7, 0.995) == pytest.approx(stats.t.ppf(0.995, 7), abs=1e-9)
    with pytest.raises(ValueError, match="at least 1 degree"):
        averages.t_quantile(0)


def values(n: int = 37, horizon: int = 5) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return 20 + 3 * torch.randn(n, horizon, generator=g, dtype=torch.float64)


def test_series_equals_numpy_mean_and_scipy_interval():
    x = values()
    x[3, 1], x[4, 1], x[:, 4] = math.nan, math.inf, math.nan
    x[0, 4] = 7
    x[:, 3] = -math.inf
    series = averages.summarize(x)
    for k in range(3):
        column = x[:, k].numpy()
        column = column[np.isfinite(column)]
        low, high = stats.t.interval(0.95, len(column) - 1, column.mean(), stats.sem(column))
        assert series.mean[k] == pytest.approx(column.mean(), rel=1e-13)
        assert (series.low[k], series.high[k]) == pytest.approx((low, high), rel=1e-12)
    assert series.n == (37, 35, 37, 0, 1)
    assert series.skipped == (0, 2, 0, 37, 36)
    assert (series.mean[3], series.low[3], series.high[3]) == (None, None, None)
    assert (series.mean[4], series.low[4], series.high[4]) == (7, None, None)


def test_variance_survives_a_large_mean():
    x = values() + 1e9
    series = averages.summarize(x)
    want = averages.t_quantile(36) * stats.sem(x[:, 0].numpy())
    assert (series.high[0] - series.low[0]) / 2 == pytest.approx(want, rel=1e-5)


def test_another_shape_or_number_of_groups_is_refused():
    with pytest.raises(UserError, match=r"expected values \(clips, horizon\), one per clip and frame, got \(5,\)"):
        averages.summarize(values()[0])
    with pytest.raises(UserError, match="one group per clip, got 2 for 37 clips"):
        averages.summarize(values(), ["a", "b"])


def test_no_clips_have_no_mean():
    series = averages.summarize(torch.zeros(0, 2), [])
    assert (series.mean, series.low, series.n) == ((None, None), (None, None), (0, 0))


def clustered_by_loop(x: np.ndarray, groups: list) -> float:
    """Half the 95 % interval of the mean of one column, videos as clusters, written out."""
    found = np.isfinite(x)
    x, groups = x[found], [g for g, f in zip(groups, found, strict=True) if f]
    mean, total = x.mean(), 0.0
    for group in set(groups):
        total += sum(v - mean for v, g in zip(x, groups, strict=True) if g == group) ** 2
    count = len(set(groups))
    return stats.t.ppf(0.975, count - 1) * math.sqrt(total * count / (count - 1)) / len(x)


def test_interval_of_clustered_clips_equals_plain_loop():
    x, groups = values(), [f"v{i * i % 5}" for i in range(37)]
    x[4, 2] = math.nan
    series = averages.summarize(x, groups)
    for k in range(5):
        half = clustered_by_loop(x[:, k].numpy(), groups)
        assert (series.high[k] - series.low[k]) / 2 == pytest.approx(half, rel=1e-12)
    assert series.mean == pytest.approx([np.nanmean(x[:, k].numpy()) for k in range(5)], rel=1e-13)
    assert series.skipped == (0, 0, 1, 0, 0)


def test_one_clip_per_video_or_a_single_video_gives_the_plain_interval():
    x = values()
    plain = averages.summarize(x)
    for groups in ([f"v{i}" for i in range(37)], ["v"] * 37):
        assert averages.summarize(x, groups).low == pytest.approx(plain.low, rel=1e-12)


def test_frame_with_numbers_of_one_video_uses_the_interval_over_clips():
    x = values(6, 2)
    x[3:, 1] = math.nan
    series = averages.summarize(x, ["a", "a", "a", "b", "b", "b"])
    half = stats.t.ppf(0.975, 2) * stats.sem(x[:3, 1].numpy())
    assert series.high[1] - series.mean[1] == pytest.approx(half, rel=1e-12)


def test_clustered_intervals_have_95_percent_coverage_for_correlated_clips():
    """Mean of 8 videos of 6 clips each, 400 times: the clustered interval has nominal coverage, the plain one not."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(400, 8, 1))
    x = torch.from_numpy((shared + 0.3 * rng.normal(size=(400, 8, 6))).reshape(400, 48).T.copy())
    plain, clustered = averages.summarize(x), averages.summarize(x, [i // 6 for i in range(48)])

    def coverage(s: averages.Series) -> float:
        return float(np.mean([low <= 0 <= high for low, high in zip(s.low, s.high, strict=True)]))

    assert 0.92 < coverage(clustered) < 0.98
    assert coverage(plain) < 0.7


def test_interval_sentence_names_the_kind_of_interval():
    assert "over 3 videos" in averages.interval_sentence(3)
    assert "cluster-robust" in averages.interval_sentence(2)
    assert "the true interval is wider" in averages.interval_sentence(1)


def test_spread_places_a_series_on_a_longer_horizon():
    series = averages.Series((1.0, 2.0), (0.5, None), (1.5, None), (4, 3), (0, 1))
    spread = series.spread((2, 4), 5)
    assert spread.mean == (None, 1.0, None, 2.0, None)
    assert spread.n == (0, 4, 0, 3, 0)
    assert spread.skipped == (0, 0, 0, 1, 0)
    assert series.spread((1, 2), 2) is series
