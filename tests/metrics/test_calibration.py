"""Calibration: a model that draws from the law is told from one that does not."""

import numpy as np
import pytest

from framecast.core.types import OutcomeDistribution
from framecast.metrics.calibration import CalibrationTally, tell


def law(*p):
    """Outcome i is a frame of brightness i; brightness 9 is none."""
    names = tuple(f"o{i}" for i in range(len(p)))

    def which(frames):
        value = int(frames.flat[0])
        return value if value < len(p) else None

    return OutcomeDistribution(outcomes=names, probabilities=p, classify=which)


def frame(value):
    return np.full((2, 3, 4, 4), value, np.uint8)


def test_counts_and_distance_of_one_clip():
    told = tell(law(0.5, 0.5), [frame(v) for v in (0, 0, 0, 1, 9)])
    assert (told.counts, told.unclear) == ((3, 1), 1)
    assert told.distance == pytest.approx(0.25)
    assert told.floor == pytest.approx(0.1875, abs=0.02)  # E|X/4 - 1/2| for X of Binomial(4, 1/2)
    nothing = tell(law(1.0), [frame(9)])
    assert (nothing.counts, nothing.distance) == ((0,), None)


def tallied(p, draw, clips=80, samples=8):
    tally, rng = CalibrationTally(), np.random.default_rng(0)
    for i in range(clips):
        tally.add(tell(law(*p), [frame(v) for v in draw(rng, samples)]), group=i)
    return tally.series()


def test_a_model_that_draws_from_the_law_is_at_the_floor_and_one_that_does_not_is_above():
    p = (0.7, 0.3)
    right = tallied(p, lambda rng, n: rng.choice(2, n, p=p))
    assert right["distance"].mean[0] == pytest.approx(right["floor"].mean[0], abs=0.03)
    assert right["frequency"]["o0"].low[0] < 0.7 < right["frequency"]["o0"].high[0]
    assert right["probability"]["o1"].mean[0] == pytest.approx(0.3)
    frozen = tallied(p, lambda rng, n: [0] * n)
    assert frozen["distance"].mean[0] == pytest.approx(0.3)
    assert frozen["distance"].low[0] > right["floor"].high[0]
    assert frozen["frequency"]["o1"].mean[0] == 0
    assert tallied(p, lambda rng, n: [9] * (n - 1) + [0])["unclear"].mean[0] == pytest.approx(7 / 8)


@pytest.mark.parametrize(("p", "sentence"), [((0.5, 0.6), "with sum 1"), ((-0.5, 1.5), "at least 0")])
def test_probabilities_that_are_none(p, sentence):
    with pytest.raises(ValueError, match=sentence):
        law(*p)
    with pytest.raises(ValueError, match="1 probabilities for 2 outcomes"):
        OutcomeDistribution(outcomes=("a", "b"), probabilities=(1.0,), classify=lambda frames: 0)
