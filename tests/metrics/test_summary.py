"""Summaries of a row: limits, pooled ratios, JSON."""

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.metrics.summary import BLURRED, Summary, first_frame, pooled_ratio

FOUND = {"mean": 0.2, "low": 0.1, "high": 0.3, "n": 4}


def test_first_frame_beyond_a_limit():
    assert first_frame([0.9, None, 0.69, 0.8], [2, 4, 6, 8], BLURRED) == 6
    assert first_frame([0.7, 0.8], [1, 2], BLURRED) is None
    assert first_frame([0.5, 0.6], [1, 2]) == 2


def test_ratio_is_pooled_before_the_division():
    above, below = np.array([[1.0, 0.0], [2.0, np.nan]]), np.array([[4.0, 0.0], [1.0, 1.0]])
    assert pooled_ratio(above, below) == (0.6, None)


def test_summary_is_read_as_it_was_written():
    made = Summary(skill=FOUND, skill_best=FOUND, frames=(1, 2), ranges=((1, 2),), useful_horizon=2, blurred_from=2)
    assert Summary.from_json(made.to_json()) == made
    with pytest.raises(UserError, match="must have skill"):
        Summary.from_json({"skill": FOUND})
