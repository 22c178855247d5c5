"""Mixtures of Gaussians as a network's output: their likelihood, and draws at a temperature.

Source: Bishop 1994, "Mixture Density Networks", NCRG/94/004.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import elu

from framecast.nn.precision import full_precision

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

#: Parametrisation of a standard deviation by a network's output: ELU(x) + 1, or exp(x); the floor is added to both.
Spread = Literal["elu", "exp"]


@dataclass(frozen=True)
class Mixture:
    """m Gaussians over z numbers, with independent dimensions within each.

    Attributes:
        logits: (…, m, 1) where a component is chosen for all dimensions together, (…, m, z) where each dimension has a
            mixture of its own.
        mean: (…, m, z); sigma is a standard deviation, above 0.
        sigma: (…, m, z); sigma is a standard deviation, above 0.
    """

    logits: Tensor
    mean: Tensor
    sigma: Tensor

    @staticmethod
    def outputs(components: int, size: int, joint: bool) -> int:
        """Number of network outputs of such a mixture."""
        return components * (2 * size + (1 if joint else size))

    @classmethod
    def split(cls, x: Tensor, components: int, size: int, joint: bool, spread: Spread, floor: float) -> Mixture:
        """The mixture of a network's outputs (…, outputs): means, then spreads, then logits."""
        block = components * size
        mean, raw, logits = x[..., :block], x[..., block : 2 * block], x[..., 2 * block :]
        sigma = (elu(raw) + 1 if spread == "elu" else raw.exp()) + floor
        shape = (*x.shape[:-1], components, size)
        return cls(logits.reshape(*shape[:-1], 1 if joint else size), mean.reshape(shape), sigma.reshape(shape))

    @property
    def joint(self) -> bool:
        """Whether one component is chosen for all dimensions together."""
        return self.logits.shape[-1] == 1

    def log_prob(self, y: Tensor) -> Tensor:
        """ln p(y) in nats, (…); y: (…, z). A density, so it may be positive. Computed with log-sum-exp throughout."""
        deviation = (y[..., None, :] - self.mean) / self.sigma
        each = -0.5 * deviation.square() - self.sigma.log() - _HALF_LOG_2PI
        weights = self.logits.log_softmax(-2)
        if self.joint:
            return (weights[..., 0] + each.sum(-1)).logsumexp(-1)
        return (weights + each).logsumexp(-2).sum(-1)

    def sample(
        self,
        weight_temperature: Tensor | float = 1.0,
        sigma_temperature: Tensor | float = 1.0,
        variance: bool = False,
        uniform: Tensor | None = None,
        normal: Tensor | None = None,
    ) -> Tensor:
        """One draw, (…, z): a component by softmax(logits / weight temperature), then
        mean + sigma * sqrt(sigma temperature) * normal noise.

        Temperatures are at least 0, numbers or tensors that broadcast to (…); a weight temperature of 0 takes the
        most likely component, a sigma temperature of 0 its mean.

        Args:
            variance: use sigma as a variance, as the published code does by mistake; with sigma below 1 that inflates
                the noise to sqrt(sigma).
            uniform: noise that chooses, as `logits` in shape, in 0…1; None draws it by torch's global generator.
            normal: noise of N(0, 1), (…, z); None likewise.
        """
        tau = _as(weight_temperature, self.logits)
        # Gumbel: the largest of logits / tau + g is a draw of softmax(logits / tau); times tau, so that 0 works too.
        uniform = torch.rand_like(self.logits) if uniform is None else uniform.to(self.logits)
        uniform = uniform.clamp(1e-20, 1 - 1e-7)
        scores = self.logits + tau[..., None, None] * -(-uniform.log()).log()
        choice = scores.argmax(-2, keepdim=True).expand(*self.mean.shape[:-2], 1, self.mean.shape[-1])
        mean, sigma = (x.gather(-2, choice).squeeze(-2) for x in (self.mean, self.sigma))
        noise = torch.randn_like(mean) if normal is None else normal.to(mean)
        spread = sigma.sqrt() if variance else sigma
        return mean + spread * _as(sigma_temperature, mean)[..., None].sqrt() * noise


@full_precision
def gaussian_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(logvar)) from N(0, 1), in nats, for every element.

    Args:
        mean: float, any shape.
        logvar: logarithm of the variance, of the same shape.

    Returns:
        Float of that shape, at least 0; 0 for mean 0 and logvar 0.

    Source:
        Kingma, Welling 2014 (arXiv 1312.6114), appendix B.
    """
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


def _as(value: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)
