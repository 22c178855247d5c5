"""Schedules of learning rates and phases."""

import pytest

from framecast.core.schedules import Cosine, Decay, always, between, every


def test_schedules_select_their_steps():
    assert [s for s in range(8) if every(3)(s)] == [0, 3, 6]
    assert [s for s in range(8) if every(3, offset=2)(s)] == [2, 5]
    assert [s for s in range(8) if between(3)(s)] == [1, 2, 4, 5, 7]
    assert all(always(s) for s in range(3))


def test_cosine_falls_from_one_to_its_end():
    factors = [Cosine()(share / 10) for share in range(11)]
    assert (factors[0], factors[-1]) == (1.0, pytest.approx(0.01))
    assert factors == sorted(factors, reverse=True)
    assert (Cosine(0.2)(-1), Cosine(0.2)(2)) == (1.0, pytest.approx(0.2))


def test_decay_is_linear_and_then_constant():
    assert [Decay(1.0, 0.5, 2)(step) for step in range(4)] == [1.0, 0.75, 0.5, 0.5]
