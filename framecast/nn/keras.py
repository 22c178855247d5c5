"""Layers by the conventions of Keras, for networks published in it: grids, gates and initial values."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from framecast.nn.precision import autocast_off

Pair = tuple[int, int]


class SameConvT2d(nn.ConvTranspose2d):
    """A transposed 3x3 convolution that returns exactly stride times the size, strides 1 to 3, its grid as in Keras'
    SAME padding: at stride 2 the last row and column of the whole result are dropped, at stride 1 one on every side.

    Where the stride is 2 the kernel gets a zero in front and the padding takes a row or column off both sides, which is
    the same and three times faster than cutting the result.
    """

    def __init__(self, inputs: int, outputs: int, stride: Pair) -> None:
        super().__init__(inputs, outputs, 3, stride)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h * stride, w * stride)."""
        down, across = (int(s) for s in self.stride)
        kernel = F.pad(self.weight, (int(across == 2), 0, int(down == 2), 0))
        return F.conv_transpose2d(x, kernel, self.bias, (down, across), padding=(int(down < 3), int(across < 3)))


class ConvLSTM(nn.Module):
    """A convolutional LSTM over a clip, every step returned: strided unpadded 3x3 input kernels, 3x3 recurrent ones.

    As in Keras with ReLU: hard-sigmoid gates clip(0.2 x + 0.5, 0, 1), ReLU for cell and output, no peepholes, forget
    bias 1. States are kept in full precision.
    """

    def __init__(self, inputs: int, outputs: int, stride: Pair) -> None:
        super().__init__()
        self.input = nn.Conv2d(inputs, 4 * outputs, 3, stride)
        self.recurrent = nn.Conv2d(outputs, 4 * outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, inputs, h, w) -> (n, t, outputs, h', w'), float32."""
        gates = rearrange(self.input(rearrange(x, "n t c h w -> (n t) c h w")), "(n t) c h w -> n t c h w", n=len(x))
        hidden: Tensor | None = None
        cell = gates.new_zeros((), dtype=torch.float32)
        outputs = []
        for step in gates.unbind(1):
            summed = step if hidden is None else step + self.recurrent(hidden)
            with autocast_off(summed):
                i, f, c, o = summed.float().chunk(4, 1)
                cell = _hard_sigmoid(f) * cell + _hard_sigmoid(i) * c.relu()
                hidden = _hard_sigmoid(o) * cell.relu()
            outputs.append(hidden)
        return torch.stack(outputs, 1)


def _hard_sigmoid(x: Tensor) -> Tensor:
    return (0.2 * x + 0.5).clamp(0, 1)


def initialise(model: nn.Module) -> None:
    """Fill with Keras' initial values: Glorot uniform, biases 0, recurrent kernels orthogonal, forget biases 1."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for cell in (m for m in model.modules() if isinstance(m, ConvLSTM)):
        nn.init.orthogonal_(cell.recurrent.weight)
        assert cell.input.bias is not None
        with torch.no_grad():
            cell.input.bias.chunk(4)[1].fill_(1.0)
