"""Averages over clips: exact, streamed, mergeable, blind to how clips were batched, aware of which belong together."""

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


def tallied(x: torch.Tensor, size: int) -> averages.Running:
    running = averages.Running(x.shape[1])
    for part in x.split(size):
        running.add(part)
    return running


def test_series_is_numpys_mean_and_scipys_interval():
    x = values()
    x[3, 1], x[4, 1], x[:, 4] = math.nan, math.inf, math.nan
    x[0, 4] = 7
    x[:, 3] = -math.inf
    series = tallied(x, 8).series()
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


@pytest.mark.parametrize("size", [1, 2, 5, 36])
def test_batch_size_does_not_matter(size):
    x = values()
    x[5, 2] = math.nan
    a, b = tallied(x, 37).series(), tallied(x, size).series()
    for name in ("mean", "low", "high"):
        assert getattr(b, name) == pytest.approx(getattr(a, name), rel=1e-12)
    assert (a.n, a.skipped) == (b.n, b.skipped)


def test_variance_survives_a_large_mean():
    x = values() + 1e9
    series = tallied(x, 4).series()
    want = averages.t_quantile(36) * stats.sem(x[:, 0].numpy())
    assert (series.high[0] - series.low[0]) / 2 == pytest.approx(want, rel=1e-5)


def test_merging_processes_equals_one():
    x = values()
    one, two = tallied(x[:20], 3), tallied(x[20:], 7)
    one.merge(two)
    assert one.series().high == pytest.approx(tallied(x, 37).series().high, rel=1e-12)
    with pytest.raises(UserError, match=r"expected values \(b, 5\)"):
        one.add(x[:, :3])


def test_memory_does_not_grow_with_clips():
    running = averages.Running(4)
    for part in values(400, 4).split(10):
        running.add(part, ["a", "b"] * 5)
    kept = [running.n, running.skipped, running.mean, running.squares, *(t for g in running.groups.values() for t in g)]
    assert sum(v.numel() for v in kept) == 4 * 4 + 2 * 2 * 4


def clustered_by_loop(x: np.ndarray, groups: list) -> float:
    """Half the 95 % interval of the mean of one column, videos as clusters, written out."""
    found = np.isfinite(x)
    x, groups = x[found], [g for g, f in zip(groups, found, strict=True) if f]
    mean, total = x.mean(), 0.0
    for group in set(groups):
        total += sum(v - mean for v, g in zip(x, groups, strict=True) if g == group) ** 2
    count = len(set(groups))
    return stats.t.ppf(0.975, count - 1) * math.sqrt(total * count / (count - 1)) / len(x)


def test_clips_of_one_video_are_not_taken_as_independent():
    x, groups = values(), [f"v{i * i % 5}" for i in range(37)]
    x[4, 2] = math.nan
    running = averages.Running(5)
    for i in range(0, 37, 6):
        running.add(x[i : i + 6], groups[i : i + 6])
    series = running.series()
    for k in range(5):
        half = clustered_by_loop(x[:, k].numpy(), groups)
        assert (series.high[k] - series.low[k]) / 2 == pytest.approx(half, rel=1e-12)
    assert series.mean == pytest.approx([np.nanmean(x[:, k].numpy()) for k in range(5)], rel=1e-13)
    assert series.skipped == (0, 0, 1, 0, 0)


def test_with_one_clip_per_video_it_is_the_plain_interval_and_with_one_video_too():
    x = values()
    plain = tallied(x, 37).series()
    for groups in ([f"v{i}" for i in range(37)], ["v"] * 37):
        running = averages.Running(5)
        running.add(x, groups)
        assert running.series().low == pytest.approx(plain.low, rel=1e-12)


def test_a_frame_that_only_one_video_has_falls_back_to_clips():
    x = values(6, 2)
    x[3:, 1] = math.nan
    running = averages.Running(2)
    running.add(x, ["a", "a", "a", "b", "b", "b"])
    half = stats.t.ppf(0.975, 2) * stats.sem(x[:3, 1].numpy())
    assert running.series().high[1] - running.series().mean[1] == pytest.approx(half, rel=1e-12)


def test_clustered_parts_merge_and_keep_one_sum_per_video():
    x, groups = values(40, 3), [f"v{i % 4}" for i in range(40)]
    whole, one, two = (averages.Running(3) for _ in range(3))
    whole.add(x, groups)
    one.add(x[:13], groups[:13])
    two.add(x[13:], groups[13:])
    one.merge(two)
    assert one.series().low == pytest.approx(whole.series().low, rel=1e-12)
    assert len(one.groups) == 4
    with pytest.raises(UserError, match="one group per clip, got 2 for 40 clips"):
        one.add(x, groups[:2])


def test_intervals_hold_what_they_promise_where_clips_of_a_video_are_alike():
    """Mean of 8 videos of 6 clips each, 400 times: the clustered interval holds the truth, the plain one does not."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(400, 8, 1))
    x = torch.from_numpy((shared + 0.3 * rng.normal(size=(400, 8, 6))).reshape(400, 48).T.copy())
    plain, clustered = averages.Running(400), averages.Running(400)
    plain.add(x)
    clustered.add(x, [i // 6 for i in range(48)])

    def held(running: averages.Running) -> float:
        s = running.series()
        return float(np.mean([low <= 0 <= high for low, high in zip(s.low, s.high, strict=True)]))

    assert 0.92 < held(clustered) < 0.98
    assert held(plain) < 0.7


def test_the_sentence_says_what_an_interval_is_made_of():
    assert "over 3 videos" in averages.interval_sentence(3)
    assert "cluster-robust" in averages.interval_sentence(2)
    assert "the true interval is wider" in averages.interval_sentence(1)


def test_a_series_of_some_frames_on_the_whole_horizon():
    series = averages.Series((1.0, 2.0), (0.5, None), (1.5, None), (4, 3), (0, 1))
    spread = series.spread((2, 4), 5)
    assert spread.mean == (None, 1.0, None, 2.0, None)
    assert spread.n == (0, 4, 0, 3, 0)
    assert spread.skipped == (0, 0, 0, 1, 0)
    assert series.spread((1, 2), 2) is series
