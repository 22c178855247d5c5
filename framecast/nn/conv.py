"""Convolutions with a kernel for every map and sample, and layers that pad as TensorFlow does."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def cross_convolve(features: Tensor, kernels: Tensor) -> Tensor:
    """Every feature map convolved with its own kernel: no sum over channels, no bias, the size kept.

    Args:
        features: (b, c, h, w).
        kernels: (s, b, c, k, k), k odd; s sets of kernels for the same maps.

    Returns:
        (s b, c, h, w), out[s, b, c] = features[b, c] cross-correlated with kernels[s, b, c], zeros outside.

    Source:
        Xue et al. 2016 (arXiv 1607.02586), cross convolution; here one grouped convolution, maps as groups, the s
        kernels of a map as its outputs.
    """
    (b, c, h, w), k = features.shape, kernels.shape[-1]
    weight = rearrange(kernels, "s b c i j -> (b c s) 1 i j").to(features.dtype)
    maps = F.conv2d(features.reshape(1, b * c, h, w), weight, padding=k // 2, groups=b * c)
    return rearrange(maps, "1 (b c s) h w -> (s b) c h w", b=b, c=c)


class SameConv(nn.Conv2d):
    """A convolution that pads as TensorFlow's SAME does: of an odd total one more below and to the right.

    With symmetric padding sizes would agree, but a strided layer would be shifted by one pixel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        symmetric = stride == 1 and kernel % 2 == 1
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2 if symmetric else 0)
        self.symmetric = symmetric

    def forward(self, x: Tensor) -> Tensor:
        """(b, outputs, ceil(h / stride), ceil(w / stride))."""
        if not self.symmetric:
            (k, _), (stride, _) = self.kernel_size, self.stride
            down, across = (max((-(-n // stride) - 1) * stride + k - n, 0) for n in x.shape[-2:])
            x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        return super().forward(x)


class SameTransposed(nn.ConvTranspose2d):
    """A transposed convolution to `stride` times the size, as TensorFlow's SAME: cells no kernel reaches hold the
    bias."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(b, outputs, stride h, stride w)."""
        (k, _), (stride, _) = self.kernel_size, self.stride
        wide = F.conv_transpose2d(x, self.weight, stride=stride)
        before = max(k - stride, 0) // 2
        h, w = x.shape[-2] * stride, x.shape[-1] * stride
        wide = F.pad(wide, (0, max(stride - k, 0), 0, max(stride - k, 0)))[
            ..., before : before + h, before : before + w
        ]
        assert self.bias is not None
        return wide + self.bias[:, None, None].to(wide.dtype)
