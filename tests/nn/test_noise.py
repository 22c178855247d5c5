"""Noise by row: its distribution, and that a row's noise depends on its own seed, step and draw only."""

import pytest
import torch

from framecast.nn.noise import row_normal, row_uniform


def rows(n, tick=0):
    return torch.arange(n) * 1_000_003, torch.full((n,), tick)


def test_integers_are_those_of_splitmix64():
    # key 0 is a fixed point of the finaliser, so the numbers are the published sequence of seed 0
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    found = row_uniform(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), (3,))[0]
    assert found.tolist() == [((value >> 41) + 0.5) / 2**23 for value in expected]


def test_uniform_noise_fills_the_open_interval_evenly():
    values = row_uniform(*rows(100), (1000,)).flatten()
    assert 0 < values.min() < 1e-4
    assert 1 - 1e-4 < values.max() < 1
    counts = torch.histc(values, 10, 0, 1)
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 21.7  # chi squared, p above 0.01 at nine degrees of freedom


def test_normal_noise_has_the_moments_and_tails_of_the_normal_distribution():
    values = row_normal(*rows(200), (1000,)).flatten().double()
    assert abs(float(values.mean())) < 0.01
    assert float(values.std()) == pytest.approx(1, abs=0.01)
    assert float(values.pow(4).mean()) == pytest.approx(3, abs=0.1)
    for z, share in ((1.0, 0.8413), (2.0, 0.9772), (-1.5, 0.0668)):
        assert float((values < z).double().mean()) == pytest.approx(share, abs=0.003)


def test_rows_steps_and_draws_are_uncorrelated():
    seed, tick = rows(50)
    first = row_normal(seed, tick, (2000,))
    for other in (row_normal(seed, tick + 1, (2000,)), row_normal(seed, tick, (2000,), draw=1), first.roll(1, 0)):
        assert (first * other).mean(1).abs().max() < 0.1
        assert abs(float((first * other).mean())) < 0.01
    assert (first[:, 1:] * first[:, :-1]).mean().abs() < 0.01


def test_a_row_has_the_same_noise_in_every_batch():
    seed, tick = rows(6)[0], torch.arange(6)
    whole = row_normal(seed, tick, (3, 4))
    for i in range(6):
        assert torch.equal(row_normal(seed[i : i + 1], tick[i : i + 1], (3, 4))[0], whole[i])
    assert torch.equal(row_normal(seed.flip(0), tick.flip(0), (3, 4)), whole.flip(0))
