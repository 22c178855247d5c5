"""Conformal threshold against simulation."""

import math

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.metrics.detection import conformal_threshold


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
