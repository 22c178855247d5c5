"""Probabilistic scores of samples against their closed forms in NumPy."""

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.metrics.ensemble import ENSEMBLE_PARTS, ensemble_parts, sample_interval, spread_skill

RNG = np.random.default_rng(2)
SAMPLES, TRUTH = RNG.random((5, 2, 3, 1, 4, 6)), RNG.random((2, 3, 1, 4, 6))


def test_scores_equal_their_definitions():
    found = ensemble_parts(torch.from_numpy(SAMPLES), torch.from_numpy(TRUTH))
    assert tuple(found) == ENSEMBLE_PARTS
    x, y, count = SAMPLES.reshape(5, 2, 3, -1), TRUTH.reshape(2, 3, -1), 5
    pairs = np.abs(x[:, None] - x[None]).sum((0, 1)) / (2 * count * (count - 1))
    assert found["crps"].numpy() == pytest.approx((np.abs(x - y).mean(0) - pairs).mean(-1))
    rms = np.sqrt(((x - y) ** 2).mean(-1)).mean(0)
    between = np.sqrt(((x[:, None] - x[None]) ** 2).mean(-1)).sum((0, 1)) / (2 * count * (count - 1))
    assert found["energy"].numpy() == pytest.approx(rms - between)
    assert found["ensemble_variance"].numpy() == pytest.approx(x.var(0, ddof=1).mean(-1))
    assert found["ensemble_mse"].numpy() == pytest.approx(((x.mean(0) - y) ** 2).mean(-1))


def test_crps_of_equal_samples_is_the_absolute_error():
    same = torch.from_numpy(SAMPLES[:1]).repeat(3, 1, 1, 1, 1, 1)
    found = ensemble_parts(same, torch.from_numpy(TRUTH))
    assert found["crps"].numpy() == pytest.approx(np.abs(SAMPLES[0] - TRUTH).mean((-3, -2, -1)))
    assert found["ensemble_variance"].abs().max() < 1e-30


def test_crps_of_normal_samples_is_the_closed_form():
    """For a standard normal forecast and the truth 0, CRPS is (sqrt(2) - 1) / sqrt(pi)."""
    samples = torch.from_numpy(RNG.standard_normal((100, 1, 1, 1, 60, 60)))
    found = ensemble_parts(samples, torch.zeros(1, 1, 1, 60, 60))
    assert found["crps"].item() == pytest.approx((np.sqrt(2) - 1) / np.sqrt(np.pi), abs=0.005)


def test_spread_equals_error_where_truth_is_one_more_sample():
    drawn = torch.from_numpy(RNG.standard_normal((5, 60, 1, 1, 12, 12)))
    found = ensemble_parts(drawn[:4], drawn[4])
    assert spread_skill(found["ensemble_variance"], found["ensemble_mse"], 4).item() == pytest.approx(1, abs=0.02)
    certain = ensemble_parts(0.5 * drawn[:4], drawn[4])
    assert spread_skill(certain["ensemble_variance"], certain["ensemble_mse"], 4).item() < 0.6
    assert spread_skill(torch.zeros(2, 1), torch.zeros(2, 1), 4).isnan().all()


def test_one_sample_is_refused():
    with pytest.raises(UserError, match="at least 2 samples"):
        ensemble_parts(torch.from_numpy(SAMPLES[:1]), torch.from_numpy(TRUTH))


def test_interval_of_samples_holds_nine_tenths_of_normal_values():
    drawn = torch.from_numpy(0.5 + 0.1 * RNG.standard_normal((201, 4000)))
    lower, upper = sample_interval(drawn[:200])
    assert ((drawn[200] >= lower) & (drawn[200] <= upper)).double().mean().item() == pytest.approx(0.9, abs=0.02)
    with pytest.raises(UserError, match="at least 2 samples"):
        sample_interval(drawn[:1])
