"""A recurrent cell that torch's own LSTM cannot express: peepholes on all gates and a projected output."""

from __future__ import annotations

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
