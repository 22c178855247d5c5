"""Results of anomaly detection: the page is that of the file, and changed videos differ in their stretch only."""

import json
from pathlib import Path

import numpy as np
import pytest

from reproduction import anomaly

RESULTS = Path(__file__).parents[2] / "docs" / "results"
FOUND = json.loads((RESULTS / "anomaly.json").read_text(encoding="utf-8"))


def test_page_is_that_of_the_file():
    assert (RESULTS / "anomaly.md").read_text(encoding="utf-8") == anomaly.page(FOUND)


@pytest.mark.parametrize("name", list(FOUND["results"]))
def test_measured_case_is_detected_at_the_stated_rate(name):
    part = FOUND["results"][name]
    best = part["rows"][anomaly.CASES[name].runs[0]]
    assert best["auc"] >= 0.9
    assert best["held"] == (best["interval"][0] <= part["rate"])
    assert best["held"]


@pytest.mark.parametrize("name", list(anomaly.CASES))
def test_change_is_within_the_stretch(name):
    frames = np.arange(60, dtype=np.uint8)[:, None, None, None].repeat(3, 1).repeat(24, 2).repeat(24, 3)
    changed = anomaly.CASES[name].change(frames, 20, 28, np.random.default_rng(0))
    skipped = (anomaly.FASTER - 1) * 8 if name == "walker" else 0  # the walker is farther from then on
    assert changed.shape == (60 - skipped, *frames.shape[1:])
    np.testing.assert_array_equal(changed[:20], frames[:20])
    assert (changed[20:28] != frames[20:28]).any(axis=(1, 2, 3)).sum() >= 7
    np.testing.assert_array_equal(changed[28:], frames[28 + skipped :])
