"""A recurrent cell that torch's own LSTM cannot express: peepholes on all gates and a projected output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class PeepholeCell(nn.Module):
    """LSTM cell with peepholes and a projection of its output to as many units.

        i = sigmoid(x_i + w_i * c)     f = sigmoid(x_f + w_f * c + 1)     c' = f * c + i * tanh(x_j)
        o = sigmoid(x_o + w_o * c')    m = (o * tanh(c')) W_P

    with (x_i, x_j, x_f, x_o) = [input, m before] W + b. Input and forget gate use the old cell, the output gate the new
    one. All four gates come from one matrix product. Made of plain operations, so that it can be differentiated twice,
    which the fused kernels of GPUs cannot.

    Args:
        inputs: width of the input.
        units: of cell and output, n. Holds (inputs + n) 4n + 4n + n^2 + 3n parameters.

    Source:
        Sak, Senior, Beaufays 2014 (arXiv 1402.1128), equations 1 to 7, with projection and cell of one size.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.gates = nn.Linear(inputs + units, 4 * units)
        self.projection = nn.Linear(units, units, bias=False)
        self.peep_input = nn.Parameter(torch.zeros(units))
        self.peep_forget = nn.Parameter(torch.zeros(units))
        self.peep_output = nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            x: (b, inputs).
            state: (b, 2n), cell and output of the step before; zeros at first.

        Returns:
            The output (b, n) and the new state (b, 2n).
        """
        cell, before = state.chunk(2, dim=-1)
        i, j, f, o = self.gates(torch.cat([x, before], -1)).chunk(4, dim=-1)
        i = torch.sigmoid(torch.addcmul(i, self.peep_input, cell))
        f = torch.sigmoid(torch.addcmul(f, self.peep_forget, cell) + 1)
        cell = f * cell + i * torch.tanh(j)
        o = torch.sigmoid(torch.addcmul(o, self.peep_output, cell))
        out: Tensor = self.projection(o * torch.tanh(cell))
        return out, torch.cat([cell, out], -1)


class RolledCell:
    """A cell for the steps of one roll-out with gradients: its values and gradients, by a third of the operations.

    Autograd follows a step as a whole, and the gradients of the weights are computed once for all steps. They cannot be
    differentiated again.

    Args:
        cell: the cell.
    """

    def __init__(self, cell: PeepholeCell) -> None:
        weights = (cell.gates.weight, cell.gates.bias, cell.projection.weight)
        peepholes = (cell.peep_input, cell.peep_forget, cell.peep_output)
        self.units = cell.units
        self.wanted = any(p.requires_grad for p in (*weights, *peepholes))
        #: of the backward pass with a number: joined inputs, gradients of the gates, output before its projection and
        #: its gradient, old cell, new cell
        self.steps: list[tuple[Tensor, ...]] = []
        self.backward_pass = -1
        self.token = _Collect.apply(self, *weights, *peepholes)  # type: ignore[no-untyped-call]
        self.weight, bias, self.projection = (w.detach() for w in weights)
        self.peepholes = tuple(p.detach() for p in peepholes)
        self.bias = bias.clone()
        self.bias[2 * self.units : 3 * self.units] += 1  # of the forget gate

    def __call__(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step, as `PeepholeCell.forward`."""
        found: tuple[Tensor, Tensor] = _Step.apply(x, state, self.token, self)  # type: ignore[no-untyped-call]
        return found

    def keep(self, step: tuple[Tensor, ...]) -> None:
        """Keep what a step adds to the gradients of the weights, of the present backward pass only.

        A pass for the inputs alone does not collect its steps, which must not count in the next one.

        Args:
            step: one element of `steps`.
        """
        number = torch._C._current_graph_task_id()
        if number != self.backward_pass:
            self.backward_pass, self.steps = number, []
        self.steps.append(step)


class _Collect(torch.autograd.Function):
    """The weights as something that every step depends on, so that their gradient comes after all of them."""

    @staticmethod
    def forward(ctx: Any, rolled: RolledCell, *weights: Tensor) -> Tensor:
        ctx.rolled = rolled
        return weights[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # of create_graph: a second derivative would lack most of its terms
            raise RuntimeError("gradients of a RolledCell cannot be differentiated again; use its PeepholeCell")
        steps, ctx.rolled.steps = ctx.rolled.steps, []
        if not steps:
            return (None,) * 7
        joined, of_gates, shown, of_out, before, after = (torch.cat(each) for each in zip(*steps, strict=True))
        i, _, f, o = of_gates.chunk(4, -1)
        peepholes = ((i * before).sum(0), (f * before).sum(0), (o * after).sum(0))
        return None, of_gates.t() @ joined, of_gates.sum(0), of_out.t() @ shown, *peepholes


class _Step(torch.autograd.Function):
    """A step of a `RolledCell`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, state: Tensor, token: Tensor, rolled: RolledCell) -> tuple[Tensor, Tensor]:
        before, output = state.chunk(2, -1)
        of_input, of_forget, of_output = rolled.peepholes
        joined = torch.cat([x, output], -1)
        gates = torch.addmm(rolled.bias, joined, rolled.weight.t())
        i, j, f, o = gates.chunk(4, -1)
        i.addcmul_(of_input, before).sigmoid_()
        f.addcmul_(of_forget, before).sigmoid_()
        cell = torch.addcmul(f * before, i, j.tanh_())
        o.addcmul_(of_output, cell).sigmoid_()
        squashed = torch.tanh(cell)
        shown = o * squashed
        out = shown @ rolled.projection.t()
        ctx.rolled, ctx.kept = rolled, (joined, gates, before, cell, squashed, shown)
        return out, torch.cat([cell, out], -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_out: Tensor, of_state: Tensor) -> tuple[Tensor | None, ...]:
        rolled, (joined, gates, before, cell, squashed, shown) = ctx.rolled, ctx.kept
        tanh, sigmoid = torch.ops.aten.tanh_backward, torch.ops.aten.sigmoid_backward
        of_input, of_forget, of_output = rolled.peepholes
        i, j, f, o = gates.chunk(4, -1)
        of_cell, of_joined = of_state.chunk(2, -1)
        of_out = of_out + of_joined
        of_shown = of_out @ rolled.projection
        of_o = sigmoid(of_shown * squashed, o)
        of_cell = torch.addcmul(of_cell + tanh(of_shown * o, squashed), of_o, of_output)
        of_i, of_f = sigmoid(of_cell * j, i), sigmoid(of_cell * before, f)
        of_gates = torch.cat([of_i, tanh(of_cell * i, j), of_f, of_o], -1)
        of_before = torch.addcmul(of_cell * f, of_i, of_input).addcmul_(of_f, of_forget)
        if rolled.wanted:
            rolled.keep((joined, of_gates, shown, of_out, before, cell))
        of_joined = of_gates @ rolled.weight
        inputs = joined.shape[-1] - rolled.units
        return of_joined[:, :inputs], torch.cat([of_before, of_joined[:, inputs:]], -1), None, None
