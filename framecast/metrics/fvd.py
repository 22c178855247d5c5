"""Fréchet video distance, from an I3D weights file that the user gives; not available without one.

Sources: Unterthiner et al. 2018, arXiv 1812.01717 (the distance, on the 400 logits of an I3D trained on Kinetics-400,
averaged over time); Carreira and Zisserman, CVPR 2017 (the network, inflated Inception-v1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.metrics.features import as_three
from framecast.metrics.weights import Weights, fill

#: Frames used of a clip, fewest that the network accepts, side in px that they are resized to, classes.
FRAMES, LEAST, SIDE, CLASSES = 16, 9, 224, 400
#: Inception blocks by name: outputs of their six convolutions.
BLOCKS: dict[str, tuple[int, ...]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
Triple = tuple[int, int, int]


def same_padding(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Zero padding of (…, t, h, w) to ceil(size / stride) outputs; an odd one goes behind."""
    pads: list[int] = []
    for size, k, s in reversed(list(zip(x.shape[-3:], kernel, stride, strict=True))):
        total = max(k - (size % s or s), 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class Unit(nn.Module):
    """3-D convolution with "same" padding, batch norm and ReLU; the last one of the network has a bias instead."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, last: bool = False) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=last)
        self.bn = None if last else nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        k, s = self.conv3d.kernel_size, self.conv3d.stride
        x = self.conv3d(same_padding(x, (k[0], k[1], k[2]), (s[0], s[1], s[2])))
        return x if self.bn is None else self.bn(x).relu_()


class Block(nn.Module):
    """Four branches: 1x1; 1x1 then 3x3; the same, thinner; pooling then 1x1."""

    def __init__(self, inputs: int, outputs: Sequence[int]) -> None:
        super().__init__()
        self.b0 = Unit(inputs, outputs[0])
        self.b1a, self.b1b = Unit(inputs, outputs[1]), Unit(outputs[1], outputs[2], 3)
        self.b2a, self.b2b = Unit(inputs, outputs[3]), Unit(outputs[3], outputs[4], 3)
        self.b3b = Unit(inputs, outputs[5])

    def forward(self, x: Tensor) -> Tensor:
        pooled = _pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], 1)


def _pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    return F.max_pool3d(same_padding(x, kernel, stride), kernel, stride)


class I3D(nn.Module):
    """Inflated Inception-v1 on RGB: clips (b, 3, t, 224, 224) in -1…1 -> logits (b, 400), averaged over time.

    Names of its tensors are those of the PyTorch port whose state dicts are in circulation
    (Conv3d_1a_7x7.conv3d.weight, Mixed_3b.b0.bn.running_mean, …, logits.conv3d.bias).

    Args:
        shrink: Divides all widths; for tests.
    """

    def __init__(self, shrink: int = 1) -> None:
        super().__init__()

        def width(n: int) -> int:
            return max(1, n // shrink)

        self.Conv3d_1a_7x7 = Unit(3, width(64), 7, 2)
        self.Conv3d_2b_1x1 = Unit(width(64), width(64))
        self.Conv3d_2c_3x3 = Unit(width(64), width(192), 3)
        inputs = width(192)
        for name, outputs in BLOCKS.items():
            widths = [width(n) for n in outputs]
            self.add_module(name, Block(inputs, widths))
            inputs = widths[0] + widths[2] + widths[4] + widths[5]
        self.logits = Unit(inputs, CLASSES, last=True)

    def forward(self, x: Tensor) -> Tensor:
        x = _pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in BLOCKS:
            if name == "Mixed_4b":
                x = _pool(x, (3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                x = _pool(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(name)(x)
        found: Tensor = self.logits(F.avg_pool3d(x, (2, 7, 7), (1, 1, 1)))
        return found.mean((2, 3, 4))


class FVD:
    """Features of clips: the network's logits. Sets of clips are compared by `frechet`.

    Args:
        weights: Tensors of the network.
        shrink: Divides all widths; for tests.
    """

    def __init__(self, weights: Weights, shrink: int = 1) -> None:
        self.weights, self.network = weights, I3D(shrink)
        fill(self.network, weights.tensors, weights.path, "I3D with 400 classes")

    @torch.no_grad()
    def features(self, frames: Tensor) -> Tensor:
        """(b, t, c, h, w) float 0…1, the first 16 frames of at least 9 -> float64 (b, 400) on the CPU.

        Raises:
            UserError: For fewer frames.
        """
        if frames.shape[1] < LEAST:
            raise UserError(
                f"FVD needs forecasts of at least {LEAST} frames, got {frames.shape[1]}; use a longer --horizon"
            )
        x = as_three(frames[:, :FRAMES].float())
        b, t = x.shape[:2]
        x = F.interpolate(x.flatten(0, 1), size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        x = x.reshape(b, t, 3, SIDE, SIDE)
        self.network.to(x.device)
        clips = x.transpose(1, 2) * 2 - 1
        return torch.cat([self.network(clips[i : i + 1]) for i in range(b)]).double().cpu()


def frechet(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of two sets of features as Gaussians: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    Args:
        a: float64 (n, features), n at least 2; covariances are divided by n - 1.
        b: Likewise.

    The trace of the root is the sum of the singular values of A B^T where C = A^T A, so it exists for few clips too.
    With few clips two sets of one distribution are far above 0: such numbers compare only at equal n.
    """
    if min(len(a), len(b)) < 2:
        raise UserError(f"FVD needs at least 2 clips, got {min(len(a), len(b))}")
    means, roots = [x.mean(0) for x in (a, b)], [(x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b)]
    cross = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    return float((means[0] - means[1]).square().sum() + sum(r.square().sum() for r in roots) - 2 * cross)
