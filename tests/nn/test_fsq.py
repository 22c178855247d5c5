"""Finite scalar quantisation: levels, gradient, codebook, and draws at a temperature."""

import math

import numpy as np
import pytest
import torch

from framecast.nn.fsq import Choice, codebook, indices, quantise

LEVELS = (8, 6, 5)


def test_levels_by_a_plain_loop():
    z = 3 * np.random.default_rng(0).standard_normal((50, 3))
    found = quantise(torch.from_numpy(z), LEVELS).numpy()
    for n, (i, level) in ((n, pair) for n in range(50) for pair in enumerate(LEVELS)):
        half, offset = (level - 1) * 0.999 / 2, 0.0 if level % 2 else 0.5
        bounded = math.tanh(z[n, i] + math.atanh(offset / half)) * half - offset
        assert found[n, i] == pytest.approx(round(bounded) / (level // 2))


def test_every_level_is_reached_and_zero_is_one_of_them():
    z = torch.linspace(-9, 9, 2001)[:, None].expand(-1, 3)
    assert [len(column.unique()) for column in quantise(z, LEVELS).T] == list(LEVELS)
    assert not quantise(torch.zeros(1, 3), LEVELS).any()


def test_gradient_is_that_before_the_rounding():
    z = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    quantise(z, LEVELS).sum().backward()
    for i, level in enumerate(LEVELS):
        half, offset = (level - 1) * 0.999 / 2, 0.0 if level % 2 else 0.5
        slope = half * (1 - torch.tanh(z[:, i] + math.atanh(offset / half)) ** 2) / (level // 2)
        torch.testing.assert_close(z.grad[:, i], slope.detach())


def test_codebook_has_all_codes_and_indices_find_them():
    book = codebook(LEVELS)
    assert book.shape == (240, 3)
    assert len(book.unique(dim=0)) == 240
    torch.testing.assert_close(indices(book + 0.05, LEVELS), torch.arange(240))
    z = quantise(torch.randn(100, 3), LEVELS)
    torch.testing.assert_close(book[indices(z, LEVELS)], z)
    assert indices(torch.tensor([[9.0, 9.0, 9.0], [-9.0, -9.0, -9.0]]), LEVELS).tolist() == [239, 0]


def test_likelihood_is_the_logarithm_of_the_softmax():
    logits, book = torch.randn(4, 7, 240), codebook(LEVELS)
    chosen = torch.randint(240, (4, 7))
    expected = logits.softmax(-1).gather(-1, chosen[..., None])[..., 0].log()
    torch.testing.assert_close(Choice(logits, LEVELS).log_prob(book[chosen]), expected)


@pytest.mark.parametrize("tau", [1.0, 0.4])
def test_draws_follow_the_softmax_at_their_temperature(tau):
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    uniform = torch.rand(40_000, 4, generator=torch.Generator().manual_seed(0))
    drawn = Choice(logits.expand(40_000, -1), (2, 2)).sample(tau, uniform)
    shares = indices(drawn, (2, 2)).bincount(minlength=4) / 40_000
    torch.testing.assert_close(shares, (logits / tau).softmax(0), rtol=0, atol=0.01)


def test_temperature_towards_zero_takes_the_most_likely_code_in_each_row():
    logits = torch.randn(2, 500, 240)
    uniform = torch.rand(logits.shape)
    likeliest = codebook(LEVELS)[logits.argmax(-1)]
    for tau in (0.0, 1e-7):
        torch.testing.assert_close(Choice(logits, LEVELS).sample(tau, uniform), likeliest)
    mixed = Choice(logits, LEVELS).sample(torch.tensor([[0.0], [1.0]]), uniform)
    torch.testing.assert_close(mixed[0], likeliest[0])
    assert not torch.equal(mixed[1], likeliest[1])
