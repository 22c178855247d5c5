"""Starting values."""

import pytest
import torch
from torch import nn

from framecast.nn.init import initialise


def test_truncated_normal_and_its_biases():
    net = nn.Sequential(nn.Conv2d(16, 64, 5), nn.Linear(100, 200))
    initialise(net, "truncated")
    for layer in net:
        assert layer.weight.abs().max() <= 0.02
        assert layer.weight.std().item() == pytest.approx(0.0088, rel=0.05)  # 0.01, cut at two sd
        assert (layer.bias == 0.1).all()


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_scaled_keeps_the_size_of_the_signal(slope):
    torch.manual_seed(0)
    net = nn.Sequential(*(layer for _ in range(6) for layer in (nn.Linear(256, 256), nn.LeakyReLU(slope))))
    initialise(net, "scaled", slope)
    x = torch.randn(512, 256)
    assert 0.5 < (net(x).square().mean() / x.square().mean()).item() < 2
    assert all((layer.bias == 0).all() for layer in net if isinstance(layer, nn.Linear))
