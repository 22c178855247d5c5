"""The GRU of training on a CPU: the values and gradients of torch's own."""

import pytest
import torch
from torch import nn

from framecast.nn.gru import rolled_gru


def layer_of(inputs, units):
    torch.manual_seed(0)
    return nn.GRU(inputs, units, batch_first=True).double()


@pytest.mark.parametrize(("b", "t", "inputs", "units"), [(3, 4, 5, 6), (2, 1, 3, 3), (1, 5, 2, 4)])
@pytest.mark.parametrize("of_input", [True, False])
def test_rolled_gru_equals_that_of_torch(b, t, inputs, units, of_input):
    layer = layer_of(inputs, units)
    x = torch.randn(b, t, inputs, dtype=torch.float64, requires_grad=of_input)
    weights = [*layer.parameters(), *([x] if of_input else [])]
    found = []
    for out, last in (rolled_gru(layer, x), (lambda out, h: (out, h[0]))(*layer(x))):
        loss = (out * torch.arange(out.numel()).view(out.shape)).sum() + last.square().sum()
        found.append((out, last, *torch.autograd.grad(loss, weights)))
    torch.testing.assert_close(found[0], found[1])


def test_gradients_of_a_rolled_gru_cannot_be_differentiated_again():
    layer, x = layer_of(3, 4), torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(rolled_gru(layer, x)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        slope.square().sum().backward()
