"""The page of agents trained in a learned world: intervals over seeds, and rows that are not complete."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def agent(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("reproduction.agent")


def test_intervals_are_those_of_students_t_distribution(agent):
    mean, low, high = agent.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3
    assert (low, high) == pytest.approx((3 - 1.9632, 3 + 1.9632), abs=1e-4)


def test_page_shows_each_seed_and_an_interval_when_all_are_done(agent):
    row = {"games": 20, "decisions": 3000}
    results = {f"world-{seed}": {**row, "points": float(seed)} for seed in range(5)}
    results |= {"game-0": {**row, "points": 2.5}, "random-0": {"games": 20, "points": -4.0}}
    text = agent.page({"results": results})
    assert "| the learned world | 2.00 (0.04 to 3.96) | 0.00, 1.00, 2.00, 3.00, 4.00 |" in text
    assert "| the real game | 1 of 5 seeds are done | 2.50 |" in text
    assert "| random actions | 1 of 5 seeds are done | -4.00 |" in text
    assert "3,000 decisions in training, scores over 20 games." in text
