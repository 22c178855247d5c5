"""Transposed convolutions with stride 2 as plain convolutions, which are several times as fast on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DoubledConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution with stride 2 and without padding, on a CPU as `doubled`.

    Elsewhere, and in exported or compiled graphs, it is torch's own, which exports know. Weights and their names are
    those of `nn.ConvTranspose2d`.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: side of the kernel, at least 2.
        cropped: rows and columns that are left out at the end, 0 or 1.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, cropped: int = 0) -> None:
        super().__init__(inputs, outputs, kernel, stride=2)
        self.cropped = cropped

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(b, inputs, h, w) to (b, outputs, 2h + kernel - 2 - cropped, 2w + kernel - 2 - cropped)."""
        if x.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return super().forward(x)[..., : -self.cropped or None, : -self.cropped or None]
        assert self.bias is not None
        return doubled(x, self.weight, self.bias, self.cropped)


def doubled(x: Tensor, weight: Tensor, bias: Tensor, cropped: int = 0) -> Tensor:
    """`F.conv_transpose2d(x, weight, bias, stride=2)`, channels last, up to rounding.

    Args:
        x: (b, inputs, h, w).
        weight: (inputs, outputs, k, k), k at least 2.
        bias: (outputs,).
        cropped: rows and columns that are left out at the end, 0 or 1.

    Returns:
        (b, outputs, 2h + k - 2 - cropped, 2w + k - 2 - cropped), in the dtype of autocast where it is on.

    Source:
        Shi et al. 2016 (arXiv 1609.07009): each of the four pixels of a 2x2 square has a convolution of its own.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    height, width = (2 * side + weight.shape[-1] - 2 - cropped for side in x.shape[-2:])
    result: Tensor = _Doubled.apply(x, weight, bias, cropped)  # type: ignore[no-untyped-call]
    return result if result.shape[-2:] == (height, width) else result[..., :height, :width]


class _Doubled(torch.autograd.Function):
    """Forward as a convolution with four times the outputs, of an even size; backward by torch's own kernel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, cropped: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        inputs, outputs, k, _ = weight.shape
        taps = (k + 1) // 2
        edge = 2 * taps - k
        wide = F.pad(weight, (0, edge, 0, edge)) if edge else weight
        # (inputs, outputs, tap, i, tap, j) to (i, j, outputs), inputs, tap, tap; a convolution mirrors the taps
        phases = wide.reshape(inputs, outputs, taps, 2, taps, 2).flip(2, 4).permute(3, 5, 1, 0, 2, 4)
        kernel = phases.reshape(4 * outputs, inputs, taps, taps).contiguous(memory_format=torch.channels_last)
        before, after = taps - 1, (k - 1 - cropped) // 2
        x = x.contiguous(memory_format=torch.channels_last)
        if before == after:
            squares = F.conv2d(x, kernel, bias.repeat(4), padding=before)
        else:
            squares = F.conv2d(F.pad(x, (before, after, before, after)), kernel, bias.repeat(4))
        b, _, h, w = squares.shape
        shape, layout = (b, outputs, 2 * h, 2 * w), torch.channels_last
        pixels = torch.empty(shape, dtype=squares.dtype, device=squares.device, memory_format=layout)
        target = pixels.permute(0, 2, 3, 1).view(b, h, 2, w, 2 * outputs)
        target.copy_(squares.permute(0, 2, 3, 1).reshape(b, h, w, 2, 2 * outputs).transpose(2, 3))
        return pixels

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        missing = [2 * a + weight.shape[-1] - 2 - b for a, b in zip(x.shape[-2:], gradient.shape[-2:], strict=True)]
        gradients: list[Tensor | None] = [None, None]
        if of_x or of_weight:
            mask, one, zero = [of_x, of_weight, False], [1, 1], [0, 0]
            fitted = F.pad(gradient, (0, missing[1], 0, missing[0])) if any(missing) else gradient
            gradients = torch.ops.aten.convolution_backward(
                fitted, x, weight, None, [2, 2], zero, one, True, zero, 1, mask
            )[:2]
        # torch's own kernel takes most of its time for this sum
        return *gradients, gradient.sum((0, 2, 3)) if of_bias else None, None
