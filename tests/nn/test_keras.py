"""Layers follow the rules of Keras, compared with plain loops."""

import numpy as np
import pytest
import torch
from torch import nn

from framecast.nn.keras import ConvLSTM, SameConvT2d, initialise


def spread(x, kernel, stride):
    """The whole transposed convolution: every input pixel puts its kernel down at stride times its place."""
    h, w = x.shape[2:]
    out = np.zeros((len(x), kernel.shape[1], (h - 1) * stride[0] + 3, (w - 1) * stride[1] + 3))
    for i in range(h):
        for j in range(w):
            top, left = i * stride[0], j * stride[1]
            out[:, :, top : top + 3, left : left + 3] += np.einsum("nc,cdkl->ndkl", x[:, :, i, j], kernel)
    return out


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 3), (3, 2), (1, 2)])
def test_transposed_convolution_keeps_the_grid_of_same_padding(stride):
    layer = SameConvT2d(2, 3, stride)
    x = torch.randn(2, 2, 4, 5)
    whole = spread(x.numpy(), layer.weight.detach().numpy(), stride)
    whole = whole + layer.bias.detach().numpy()[None, :, None, None]
    # Keras takes max(3 - stride, 0) rows off, the smaller half in front.
    top, left = (max(3 - s, 0) // 2 for s in stride)
    expected = whole[:, :, top : top + 4 * stride[0], left : left + 5 * stride[1]]
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-5)


def test_conv_lstm_has_the_published_counts():
    counts = [sum(p.numel() for p in ConvLSTM(*io, (2, 2)).parameters()) for io in ((3, 30), (30, 6))]
    assert counts == [35_760, 7_800]


def test_conv_lstm_against_its_equations():
    torch.manual_seed(0)
    cell = ConvLSTM(2, 3, (2, 3))
    initialise(cell)
    x = torch.randn(1, 3, 2, 9, 11)
    hidden = torch.zeros(1, 3, 4, 3)
    state = torch.zeros_like(hidden)
    expected = []
    for t in range(3):
        gates = nn.functional.conv2d(x[:, t], cell.input.weight, cell.input.bias, stride=(2, 3))
        gates = gates + nn.functional.conv2d(hidden, cell.recurrent.weight, padding=1)
        i, f, c, o = np.split(gates.detach().numpy(), 4, axis=1)
        gate = [np.clip(0.2 * v + 0.5, 0, 1) for v in (i, f, o)]
        state = torch.from_numpy(gate[1] * state.numpy() + gate[0] * np.maximum(c, 0))
        hidden = torch.from_numpy(gate[2] * np.maximum(state.numpy(), 0))
        expected.append(hidden)
    torch.testing.assert_close(cell(x), torch.stack(expected, 1), atol=1e-5, rtol=1e-5)


def test_starting_values():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(200, 100), ConvLSTM(2, 3, (1, 1)))
    initialise(net)
    bound = (6 / 300) ** 0.5
    weight = net[0].weight.detach()
    assert weight.abs().max() <= bound
    assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not net[0].bias.any()
    assert net[1].input.bias.tolist() == [0.0] * 3 + [1.0] * 3 + [0.0] * 6
    flat = net[1].recurrent.weight.detach().flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(12), atol=1e-5, rtol=0)
