"""Mixtures: their likelihood against torch's own and against plain sums, and the law of their draws."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from framecast.nn.mixture import Mixture, gaussian_kl


def random_mixture(shape=(5,), components=4, size=3, joint=True, seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(*shape, components, 1 if joint else size, generator=g, dtype=torch.float64)
    mean = torch.randn(*shape, components, size, generator=g, dtype=torch.float64)
    sigma = torch.rand(*shape, components, size, generator=g, dtype=torch.float64) + 0.1
    return Mixture(logits, mean, sigma)


def one(sigma=1.0, size=32, rows=1):
    """A single Gaussian."""
    return Mixture(torch.zeros(rows, 1, 1), torch.zeros(rows, 1, size), torch.full((rows, 1, size), sigma))


def test_standard_normal_has_the_analytic_likelihood():
    assert float(-one().log_prob(torch.zeros(1, 32))) == pytest.approx(16 * math.log(2 * math.pi), abs=1e-4)
    assert 16 * math.log(2 * math.pi) == pytest.approx(29.406, abs=1e-3)
    # an untrained ideal code: 16 ln(2 pi e) on average over draws of N(0, I)
    y = torch.randn(20_000, 32, generator=torch.Generator().manual_seed(0))
    assert float(-one().log_prob(y).mean()) == pytest.approx(45.4, abs=0.2)


def test_joint_likelihood_is_that_of_torch():
    m, y = random_mixture(), torch.randn(5, 3, dtype=torch.float64)
    theirs = MixtureSameFamily(Categorical(logits=m.logits[..., 0]), Independent(Normal(m.mean, m.sigma), 1))
    torch.testing.assert_close(m.log_prob(y), theirs.log_prob(y), atol=1e-5, rtol=1e-5)


def test_likelihood_per_dimension_is_that_of_torch():
    m, y = random_mixture(joint=False), torch.randn(5, 3, dtype=torch.float64)
    each = [
        MixtureSameFamily(Categorical(logits=m.logits[..., d]), Normal(m.mean[..., d], m.sigma[..., d])).log_prob(
            y[:, d]
        )
        for d in range(3)
    ]
    torch.testing.assert_close(m.log_prob(y), torch.stack(each).sum(0), atol=1e-5, rtol=1e-5)


def test_joint_likelihood_by_a_plain_loop():
    m, y = random_mixture(shape=(1,), components=2, size=2), torch.tensor([[0.3, -0.7]], dtype=torch.float64)
    weights = np.exp(m.logits[0, :, 0].numpy())
    weights /= weights.sum()
    total = 0.0
    for k in range(2):
        density = 1.0
        for d in range(2):
            mu, s = float(m.mean[0, k, d]), float(m.sigma[0, k, d])
            density *= math.exp(-0.5 * ((float(y[0, d]) - mu) / s) ** 2) / (s * math.sqrt(2 * math.pi))
        total += weights[k] * density
    assert float(m.log_prob(y)) == pytest.approx(math.log(total))


@pytest.mark.parametrize("joint", [True, False])
def test_extreme_logits_stay_finite_with_finite_gradients(joint):
    m = random_mixture(joint=joint)
    logits = torch.where(m.logits > 0, 50.0, -50.0).requires_grad_()
    value = Mixture(logits, m.mean, m.sigma).log_prob(torch.full((5, 3), 30.0, dtype=torch.float64)).sum()
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(("joint", "count"), [(True, 650), (False, 960)])
def test_network_outputs_are_means_then_spreads_then_logits(joint, count):
    assert Mixture.outputs(10, 32, joint) == count
    x = torch.arange(count, dtype=torch.float32)[None] / count - 0.5
    m = Mixture.split(x, 10, 32, joint, "elu", 1e-3)
    assert m.joint is joint
    torch.testing.assert_close(m.mean, x[:, :320].reshape(1, 10, 32))
    raw = x[:, 320:640].reshape(1, 10, 32)
    torch.testing.assert_close(m.sigma, torch.where(raw > 0, raw + 1, raw.exp()) + 1e-3)
    torch.testing.assert_close(m.logits.flatten(), x[0, 640:])
    exp = Mixture.split(x, 10, 32, joint, "exp", 1e-3)
    torch.testing.assert_close(exp.sigma, raw.exp() + 1e-3)


def test_sigma_has_a_minimum():
    for spread in ("elu", "exp"):
        m = Mixture.split(torch.full((1, 2 * 2 * 3 + 2), -1e4), 2, 3, True, spread, 1e-3)
        assert float(m.sigma.min()) >= 1e-3


def draws(m, weights=1.0, sigma=1.0, seed=0, **settings):
    torch.manual_seed(seed)
    return m.sample(weights, sigma, **settings)


def test_sigma_is_a_standard_deviation_and_temperature_scales_the_variance():
    m = one(sigma=0.5, size=10, rows=20_000)
    assert float(draws(m, 1.0, 1.0).std()) == pytest.approx(0.5, rel=0.01)
    assert float(draws(m, 1.0, 0.25).std()) == pytest.approx(0.25, rel=0.01)
    # the published mistake, on request: sigma as a variance
    assert float(draws(m, 1.0, 1.0, variance=True).std()) == pytest.approx(math.sqrt(0.5), rel=0.01)


@pytest.mark.parametrize("joint", [True, False])
def test_at_temperature_zero_it_is_the_mean_of_the_likeliest_component(joint):
    m = random_mixture(joint=joint)
    likeliest = m.logits.argmax(-2, keepdim=True).expand(5, 1, 3)
    expected = m.mean.gather(-2, likeliest)[:, 0]
    assert torch.equal(draws(m, 0.0, 0.0), expected)
    # and nearly so just above
    torch.testing.assert_close(draws(m, 1e-6, 1e-12), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_components_are_drawn_by_the_softmax_of_logits_over_temperature(tau):
    logits = torch.tensor([0.0, 1.0, -0.5, 0.7])
    n = 10_000
    mean = torch.arange(4.0)[None, :, None].expand(n, -1, -1)
    m = Mixture(logits[None, :, None].expand(n, -1, -1), mean, torch.full((n, 4, 1), 1e-6))
    counts = np.bincount(draws(m, tau, 1.0).round().long().flatten().numpy(), minlength=4)
    expected = n * (logits / tau).softmax(0).numpy()
    chi = ((counts - expected) ** 2 / expected).sum()
    assert chi < 11.34  # p > 0.01 at three degrees of freedom


def test_joint_draws_take_all_numbers_from_one_component():
    n = 2000
    mean = torch.tensor([-1.0, 1.0])[None, :, None].expand(n, -1, 8)
    whole = draws(Mixture(torch.zeros(n, 2, 1), mean, torch.full((n, 2, 8), 1e-6))).sign()
    assert (whole == whole[:, :1]).all()
    mixed = draws(Mixture(torch.zeros(n, 2, 8), mean, torch.full((n, 2, 8), 1e-6))).sign()
    assert 0 < (mixed == mixed[:, :1]).all(1).float().mean() < 0.05  # 1 in 128


def test_each_row_has_its_own_temperature():
    m = one(sigma=1.0, size=4000, rows=3)
    found = draws(m, torch.ones(3), torch.tensor([0.0, 0.25, 4.0])).std(-1)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.5, 2.0]), rtol=0.05, atol=0)


def test_noise_grows_with_the_temperature():
    m = random_mixture(shape=(20_000,), components=1)
    deviations = [float(((draws(m, tau, tau) - m.mean[:, 0]) / m.sigma[:, 0]).std()) for tau in (0.1, 0.5, 1.0, 1.5)]
    assert deviations == sorted(deviations)
    np.testing.assert_allclose(deviations, np.sqrt([0.1, 0.5, 1.0, 1.5]), rtol=0.02)


def test_kl_of_gaussians():
    assert not gaussian_kl(torch.zeros(1, 32), torch.zeros(1, 32)).any()
    mean, logvar = torch.tensor([[0.5, -2.0]]), torch.tensor([[0.1, -1.0]])
    theirs = torch.distributions.kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(gaussian_kl(mean, logvar).sum(-1), theirs)
