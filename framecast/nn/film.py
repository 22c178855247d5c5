"""Feature maps conditioned by a vector: FiLM, and a residual block with it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from framecast.nn.init import zero


class Film(nn.Module):
    """Scale and shift of feature maps as a linear function of a vector; the identity at the start.

    Source: Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", 2018, arXiv 1709.07871.
    """

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, 2 * channels)
        zero(self.linear)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (b, c, h, w) scaled and shifted by condition (b, d)."""
        scale, shift = self.linear(condition)[:, :, None, None].chunk(2, 1)
        turned: Tensor = x * (1 + scale) + shift
        return turned


class FilmBlock(nn.Module):
    """Residual block: convolution, ReLU, FiLM, ReLU, convolution that starts at zero."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = Film(condition, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        zero(self.second)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (b, c, h, w) and its correction."""
        hidden = functional.relu(self.film(functional.relu(self.first(x)), condition))
        corrected: Tensor = x + self.second(hidden)
        return corrected
