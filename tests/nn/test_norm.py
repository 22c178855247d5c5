"""Layer norm over all axes, against plain NumPy."""

import numpy as np
import torch

from framecast.nn.norm import LayerNorm


def plain(x, gain, bias, eps=1e-12):
    axes = tuple(range(1, x.ndim))
    shape = (1, -1) + (1,) * (x.ndim - 2)
    z = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    return z * gain.reshape(shape) + bias.reshape(shape)


def test_statistics_span_everything_but_the_batch_and_gains_are_per_channel():
    rng = np.random.default_rng(0)
    norm = LayerNorm(5).double()
    gain, bias = rng.normal(size=(2, 5))
    with torch.no_grad():
        norm.weight.copy_(torch.from_numpy(gain))
        norm.bias.copy_(torch.from_numpy(bias))
    for shape in ((3, 5, 4, 6), (3, 5)):
        x = rng.normal(2, 3, size=shape)
        np.testing.assert_allclose(norm(torch.from_numpy(x)).detach().numpy(), plain(x, gain, bias), atol=1e-9)
    assert sum(p.numel() for p in norm.parameters()) == 10


def test_a_signal_of_1e_4_comes_out_with_variance_one():
    x = torch.randn(4, 64) * 3e-5
    assert 0.9 < float(LayerNorm(64)(x).std()) < 1.1
    assert float(LayerNorm(64, eps=1e-5)(x).std()) < 0.05


def test_layer_norm_computes_in_float32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert LayerNorm(8)(torch.randn(2, 8, 3, 3).bfloat16()).dtype == torch.float32
