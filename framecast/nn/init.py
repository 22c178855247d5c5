"""Initial weights of every convolution and fully connected layer below a module."""

from __future__ import annotations

from typing import Literal

from torch import nn

Init = Literal["truncated", "scaled"]


def initialise(module: nn.Module, kind: Init, slope: float = 0.0) -> None:
    """Fill the weights and biases of all `Conv2d` and `Linear` layers of `module`.

    Args:
        kind: "truncated" draws weights from a normal of std 0.01, truncated at 2 std, and sets biases to 0.1; "scaled"
            draws them from a normal of std sqrt(2 / ((1 + slope^2) fan_in)) and sets biases to 0, so that the signal
            keeps its size whatever the width.
        slope: of the (leaky) ReLU that follows.

    Source:
        The published TensorFlow code of the multi-scale network (truncated); He et al. 2015, equation 14 (scaled).
    """
    for layer in module.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if kind == "truncated":
            nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.02, b=0.02)
        else:
            nn.init.kaiming_normal_(layer.weight, a=slope)
        if layer.bias is not None:
            nn.init.constant_(layer.bias, 0.1 if kind == "truncated" else 0.0)


def zero(layer: nn.Linear | nn.Conv2d) -> None:
    """Set weights and biases of a layer to 0."""
    for p in layer.parameters():
        nn.init.zeros_(p)
