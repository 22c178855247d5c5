"""The peephole cell against its equations written out in NumPy."""

import numpy as np
import torch

from framecast.nn.peephole import PeepholeCell


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_one_step_is_that_of_the_equations():
    torch.manual_seed(0)
    cell = PeepholeCell(3, 4).double()
    for p in cell.parameters():
        torch.nn.init.normal_(p)
    x, state = torch.randn(2, 3).double(), torch.randn(2, 8).double()
    out, new = cell(x, state)
    w, b = cell.gates.weight.detach().numpy(), cell.gates.bias.detach().numpy()
    c, m = state.numpy()[:, :4], state.numpy()[:, 4:]
    i, j, f, o = np.split(np.concatenate([x.numpy(), m], 1) @ w.T + b, 4, axis=1)
    w_i, w_f, w_o = (getattr(cell, f"peep_{n}").detach().numpy() for n in ("input", "forget", "output"))
    c_new = sigmoid(f + w_f * c + 1) * c + sigmoid(i + w_i * c) * np.tanh(j)
    m_new = (sigmoid(o + w_o * c_new) * np.tanh(c_new)) @ cell.projection.weight.detach().numpy().T
    np.testing.assert_allclose(out.detach().numpy(), m_new, atol=1e-12)
    np.testing.assert_allclose(new.detach().numpy(), np.concatenate([c_new, m_new], 1), atol=1e-12)


def test_parameter_counts():
    n = 7
    for inputs, expected in ((3 * n, 17), (n, 9), (2 * n, 13)):
        assert sum(p.numel() for p in PeepholeCell(inputs, n).parameters()) == expected * n**2 + 7 * n


def test_it_can_be_differentiated_twice():
    torch.manual_seed(0)
    cell = PeepholeCell(2, 3).double()
    for p in cell.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: cell(x, torch.ones(2, 6, dtype=torch.float64))[0], (x,))
