"""LPIPS with an AlexNet trunk, from a weights file that the user gives; not available without one.

Source: Zhang, Isola, Efros, Shechtman, Wang, "The unreasonable effectiveness of deep features as a perceptual metric",
CVPR 2018, equation 1: features of five layers, each position scaled to unit length, squared differences weighted per
channel by learned non-negative numbers, averaged over space, summed over layers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.metrics.features import as_three
from framecast.metrics.weights import Weights, fill

#: Outputs of the five convolutions.
WIDTHS = (64, 192, 384, 256, 256)
#: Mean and standard deviation that inputs on -1…1 are normalised by, per channel.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
#: Smallest side whose third pooled map is not empty.
LEAST = 31
#: Their numbers in AlexNet's list of layers, as torch's hub and the published LPIPS name them.
_LAYERS = (0, 3, 6, 8, 10)
_BATCH = 64  # frames at once


class LPIPS(nn.Module):
    """Perceptual distance of frames by AlexNet features: 0 for equal ones.

    Args:
        weights: Tensors of the network and the heads.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.weights = weights
        kernels, strides, pads = (11, 5, 3, 3, 3), (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
        inputs = (3, *WIDTHS[:-1])
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, k, stride=s, padding=p)
            for i, o, k, s, p in zip(inputs, WIDTHS, kernels, strides, pads, strict=True)
        )
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(1, width, 1, 1)) for width in WIDTHS)
        fill(self, _renamed(weights.tensors), weights.path, "AlexNet with LPIPS heads")
        if any(bool((head < 0).any()) for head in self.heads):
            raise UserError(
                f"{weights.path}: has negative LPIPS weights; expected non-negative ones, as in every published version"
            )

    @torch.no_grad()
    def forward(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """(b, t, c, h, w) float 0…1 twice -> float64 (b, t).

        Raises:
            UserError: For frames with a side below 31 px.
        """
        if min(prediction.shape[-2:]) < LEAST:
            raise UserError(f"LPIPS needs frames of at least {LEAST}x{LEAST}, got {tuple(prediction.shape[-2:])}")
        lead = prediction.shape[:-3]
        flat = [as_three(x.float()).reshape(-1, 3, *x.shape[-2:]) for x in (prediction, truth)]
        starts = range(0, len(flat[0]), _BATCH)
        parts = [self._distance(*(x[i : i + _BATCH] for x in flat)) for i in starts]
        return torch.cat(parts).reshape(lead)

    def _distance(self, x: Tensor, y: Tensor) -> Tensor:
        self.to(x.device)
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for a, b, head in zip(self._features(x), self._features(y), self.heads, strict=True):
            a, b = (v / (v.square().sum(1, keepdim=True).sqrt() + 1e-10) for v in (a, b))
            total += (head * (a - b).square()).sum(1).mean((-2, -1)).double()
        return total

    def _features(self, x: Tensor) -> list[Tensor]:
        shift, scale = (x.new_tensor(v).reshape(1, 3, 1, 1) for v in (SHIFT, SCALE))
        x = (x * 2 - 1 - shift) / scale
        found = []
        for i, convolution in enumerate(self.convolutions):
            if i in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = convolution(x).relu()
            found.append(x)
        return found


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names of this class: from the state dict of the published LPIPS class, or AlexNet's and the
    heads' together."""
    out = {}
    for i, layer in enumerate(_LAYERS):
        for kind in ("weight", "bias"):
            for name in (f"net.slice{i + 1}.{layer}.{kind}", f"features.{layer}.{kind}"):
                if name in tensors:
                    out[f"convolutions.{i}.{kind}"] = tensors[name]
        for name in (f"lin{i}.model.1.weight", f"lins.{i}.model.1.weight", f"lin{i}.weight"):
            if name in tensors:
                out[f"heads.{i}"] = tensors[name]
    return out
