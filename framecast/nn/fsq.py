"""Finite scalar quantisation: discrete codes as a grid of rounded numbers, and a distribution over them.

Source: Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple", 2023, arXiv 2309.15505.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from framecast.nn.precision import full_precision

#: Narrowing of the range before rounding, so that the outermost levels are reached.
_EPS = 1e-3


@full_precision
def bounded(z: Tensor, levels: Sequence[int]) -> Tensor:
    """Numbers z (…, d) before their rounding, each in the range of its levels, which are 1 apart.

    That is h tanh(z + s) - o with h = (L - 1) (1 - 0.001) / 2, o = 0.5 for even L, else 0, and s = atanh(o / h), so
    that z = 0 is the level 0.

    Source:
        Mentzer et al. 2023, section 3 and appendix A.1.
    """
    number = torch.tensor(levels, dtype=z.dtype, device=z.device)
    half = (number - 1) * (1 - _EPS) / 2
    offset = (1 - number % 2) / 2
    return torch.tanh(z + (offset / half).atanh()) * half - offset


def quantise(z: Tensor, levels: Sequence[int]) -> Tensor:
    """z (…, d) with number i rounded to one of levels[i] numbers in -1…1; the gradient is that before the rounding."""
    before = bounded(z, levels)
    return (before + (before.round() - before).detach()) / unit(levels, before)


def unit(levels: Sequence[int], like: Tensor) -> Tensor:
    """Factor (d,) from the numbers of a code to their levels, which are 1 apart."""
    return torch.tensor([level // 2 for level in levels], dtype=like.dtype, device=like.device)


def codebook(levels: Sequence[int]) -> Tensor:
    """All codes, (n, d), n the product of the levels; the first number changes fastest."""
    index = torch.arange(math.prod(levels))
    columns = []
    for level in levels:
        columns.append((index % level - level // 2) / (level // 2))
        index = index // level
    return torch.stack(columns, 1)


def indices(z: Tensor, levels: Sequence[int]) -> Tensor:
    """Places (…) int64 in the codebook of the codes nearest to z (…, d)."""
    number = torch.tensor(levels, device=z.device)
    place = ((z.float() * (number // 2)).round().long() + number // 2).clamp(min=0).minimum(number - 1)
    steps = [math.prod(levels[:i]) for i in range(len(levels))]
    found: Tensor = (place * torch.tensor(steps, device=z.device)).sum(-1)
    return found


@dataclass(frozen=True)
class Choice:
    """A distribution over the codes of a codebook.

    Attributes:
        logits: (…, n).
        levels: of the numbers of a code.
    """

    logits: Tensor
    levels: tuple[int, ...]

    def log_prob(self, z: Tensor) -> Tensor:
        """ln p in nats, (…), of codes z (…, d)."""
        shape = self.logits.shape[:-1]
        rows = self.logits.flatten(0, -2), indices(z, self.levels).flatten()
        return -functional.cross_entropy(*rows, reduction="none").view(shape)

    def sample(self, temperature: Tensor | float = 1.0, uniform: Tensor | None = None) -> Tensor:
        """One draw, (…, d), by softmax(logits / temperature).

        Args:
            temperature: at least 0, a number or a tensor that broadcasts to (…); 0 takes the most likely code.
            uniform: noise in 0…1, of the shape of the logits; None draws it by torch's global generator.
        """
        book = codebook(self.levels).to(self.logits)
        if not isinstance(temperature, Tensor) and temperature == 0:
            return book[self.logits.max(-1).indices]
        tau = torch.as_tensor(temperature, dtype=self.logits.dtype, device=self.logits.device)
        uniform = torch.rand_like(self.logits) if uniform is None else uniform.to(self.logits)
        uniform = uniform.clamp(1e-20, 1 - 1e-7)
        # Gumbel: the largest of logits / tau + g is a draw; times tau, so that 0 works too.
        return book[(self.logits + tau[..., None] * -(-uniform.log()).log()).argmax(-1)]
