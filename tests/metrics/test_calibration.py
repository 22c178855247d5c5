"""Calibration: outcome frequencies of samples against their true probabilities."""

import numpy as np
import pytest

from framecast.core.outcomes import OutcomeDistribution
from framecast.metrics.calibration import calibration_series, count_outcomes


def law(*p):
    """Outcome i is a frame of brightness i; brightness 9 is none."""
    names = tuple(f"o{i}" for i in range(len(p)))

    def which(frames):
        value = int(frames.flat[0])
        return value if value < len(p) else None

    return OutcomeDistribution(outcomes=names, probabilities=p, classify=which)


def frame(value):
    return np.full((2, 3, 4, 4), value, np.uint8)


def test_counts_distance_and_floor_of_one_clip():
    counted = count_outcomes(law(0.5, 0.5), [frame(v) for v in (0, 0, 0, 1, 9)])
    assert (counted.counts, counted.unclear) == ((3, 1), 1)
    assert counted.distance == pytest.approx(0.25)
    assert counted.floor == pytest.approx(0.1875, abs=0.02)  # E|X/4 - 1/2| for X of Binomial(4, 1/2)
    nothing = count_outcomes(law(1.0), [frame(9)])
    assert (nothing.counts, nothing.distance) == ((0,), None)


def averaged(p, draw, clips=80, samples=8):
    rng = np.random.default_rng(0)
    counts = [count_outcomes(law(*p), [frame(v) for v in draw(rng, samples)]) for _ in range(clips)]
    return calibration_series(counts, range(clips))


def test_distance_is_at_the_floor_only_for_samples_from_the_true_distribution():
    p = (0.7, 0.3)
    right = averaged(p, lambda rng, n: rng.choice(2, n, p=p))
    assert right["distance"].mean[0] == pytest.approx(right["floor"].mean[0], abs=0.03)
    assert right["frequency"]["o0"].low[0] < 0.7 < right["frequency"]["o0"].high[0]
    assert right["probability"]["o1"].mean[0] == pytest.approx(0.3)
    frozen = averaged(p, lambda rng, n: [0] * n)
    assert frozen["distance"].mean[0] == pytest.approx(0.3)
    assert frozen["distance"].low[0] > right["floor"].high[0]
    assert frozen["frequency"]["o1"].mean[0] == 0
    assert averaged(p, lambda rng, n: [9] * (n - 1) + [0])["unclear"].mean[0] == pytest.approx(7 / 8)


@pytest.mark.parametrize(("p", "sentence"), [((0.5, 0.6), "with sum 1"), ((-0.5, 1.5), "with sum 1, got")])
def test_invalid_probabilities_are_refused(p, sentence):
    with pytest.raises(ValueError, match=sentence):
        law(*p)
    with pytest.raises(ValueError, match="expected 2 probabilities, got 1"):
        OutcomeDistribution(outcomes=("a", "b"), probabilities=(1.0,), classify=lambda frames: 0)
