"""The cell of a roll-out: the values and gradients of the plain cell."""

import pytest
import torch

from framecast.nn.peephole import PeepholeCell, RolledCell


def rolled_out(cell, inputs, state, step):
    outputs = []
    for x in inputs:
        out, state = step(x, state)
        outputs.append(out)
    return (torch.stack(outputs).square().sum() + (state * torch.arange(state.shape[1])).sum()), outputs


@pytest.mark.parametrize("trained", [True, False])
def test_rolled_cell_equals_plain_cell(trained):
    torch.manual_seed(0)
    cell = PeepholeCell(5, 3).double().requires_grad_(trained)
    with torch.no_grad():
        for p in cell.parameters():
            p.copy_(torch.randn_like(p))
    inputs = torch.randn(4, 2, 5, dtype=torch.float64, requires_grad=True)
    state = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    wanted = [inputs, state, *(cell.parameters() if trained else [])]
    found = [rolled_out(cell, inputs, state, step) for step in (cell, RolledCell(cell))]
    torch.testing.assert_close(found[0][1], found[1][1])
    plain, ours = (torch.autograd.grad(loss, wanted) for loss, _ in found)
    torch.testing.assert_close(ours, plain)


def test_two_roll_outs_of_one_cell_add_their_gradients():
    torch.manual_seed(0)
    cell, x = PeepholeCell(5, 3), torch.randn(2, 2, 5)
    state = torch.zeros(2, 6)
    for step in (cell, cell):
        rolled_out(cell, x, state, step)[0].backward()
    plain = [p.grad.clone() for p in cell.parameters()]
    cell.zero_grad()
    total = sum(rolled_out(cell, x, state, RolledCell(cell))[0] for _ in range(2))
    total.backward()
    torch.testing.assert_close([p.grad for p in cell.parameters()], plain)


def test_a_gradient_of_the_inputs_alone_does_not_count_in_the_next_backward_pass():
    torch.manual_seed(0)
    cell, x = PeepholeCell(5, 3), torch.randn(2, 2, 5, requires_grad=True)
    rolled_out(cell, x, torch.zeros(2, 6), cell)[0].backward()
    plain = [p.grad.clone() for p in cell.parameters()]
    cell.zero_grad()
    loss = rolled_out(cell, x, torch.zeros(2, 6), RolledCell(cell))[0]
    torch.autograd.grad(loss, x, retain_graph=True)
    loss.backward()
    torch.testing.assert_close([p.grad for p in cell.parameters()], plain)


def test_two_backward_passes_over_a_part_and_all_of_a_roll_out_add_their_gradients():
    torch.manual_seed(0)
    cell, x = PeepholeCell(5, 3), torch.randn(3, 2, 5)
    grown = []
    for step in (cell, RolledCell(cell)):
        cell.zero_grad()
        loss, outputs = rolled_out(cell, x, torch.zeros(2, 6), step)
        outputs[1].sum().backward(retain_graph=True)
        loss.backward()
        grown.append([p.grad.clone() for p in cell.parameters()])
    torch.testing.assert_close(grown[1], grown[0])


def test_second_derivatives_of_the_weights_are_refused():
    cell = PeepholeCell(5, 3)
    loss, _ = rolled_out(cell, torch.randn(2, 2, 5), torch.zeros(2, 6), RolledCell(cell))
    with pytest.raises(RuntimeError, match="cannot be differentiated again; use its PeepholeCell"):
        torch.autograd.grad(loss, list(cell.parameters()), create_graph=True)
