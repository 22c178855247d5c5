"""Conformal threshold, AUC and binomial interval against simulation, pairs and SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from framecast.core.errors import UserError
from framecast.metrics.detection import auc, binomial_interval, conformal_threshold


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_share_of_new_scores_above_the_threshold_is_at_most_the_rate(rate):
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=(4000, 40))
    above = np.mean([row[-1] > conformal_threshold(row[:-1], rate) for row in scores])
    assert rate - 0.03 < above <= rate + 3 * math.sqrt(rate * (1 - rate) / len(scores))


def test_threshold_is_the_rank_of_the_conformal_quantile():
    scores = np.arange(1.0, 20)
    assert conformal_threshold(scores, 0.05) == 19
    assert conformal_threshold(scores[::-1], 0.5) == 10


def test_too_few_blocks_or_an_impossible_rate_are_refused():
    with pytest.raises(UserError, match=r"0\.05 needs at least 19 blocks of normal material, got 18"):
        conformal_threshold(np.zeros(18), 0.05)
    for rate in (0, 1, math.nan):
        with pytest.raises(UserError, match="must be above 0 and below 1"):
            conformal_threshold(np.zeros(100), rate)


def test_auc_is_the_share_of_ordered_pairs():
    rng = np.random.default_rng(1)
    scores, labels = rng.integers(6, size=40).astype(float), rng.random(40) < 0.3
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels] for b in scores[~labels]]
    assert auc(scores, labels) == pytest.approx(np.mean(pairs))
    assert math.isnan(auc(scores, np.zeros(40, bool)))


@pytest.mark.parametrize(("hits", "count"), [(0, 20), (20, 20), (3, 36), (50, 1000)])
def test_binomial_interval_equals_the_quantiles_of_the_beta_distribution(hits, count):
    low, high = binomial_interval(hits, count)
    assert low == pytest.approx(stats.beta.ppf(0.025, hits, count - hits + 1) if hits else 0, abs=1e-9)
    assert high == pytest.approx(stats.beta.ppf(0.975, hits + 1, count - hits) if hits < count else 1, abs=1e-9)
