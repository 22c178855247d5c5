"""Protocols of models with a latent space, for `framecast latents` and `framecast play`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from framecast.models.base import RolloutState


@runtime_checkable
class LatentModel(Protocol):
    """A model with a latent space, for `latents` and `play`."""

    def encode(self, frames: Tensor) -> Tensor:
        """Latents (b, t, z) of frames (b, t, c, h, w) 0…1."""

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Frames (b, t, c, h, w) of latents (b, t, z); context where the decoder starts from a frame."""


@runtime_checkable
class EditableLatent(LatentModel, Protocol):
    """A model that predicts in latent space: the latent of the last frame can be read from the state and replaced.

    `decode` of that latent is the frame that `rollout_step` returned, so a rollout can continue from an edited latent.
    """

    def get_latent(self, state: RolloutState) -> Tensor:
        """Latent of the last frame, (b, z)."""

    def with_latent(self, state: RolloutState, z: Tensor) -> RolloutState:
        """A copy of the state in which the last frame has the latent z (b, z)."""


@runtime_checkable
class MotionLatentModel(LatentModel, Protocol):
    """A model whose latents are motions between two frames, for `latents sample`, `transfer` and `dims`.

    `encode` returns (b, t - 1, z), one latent per step; `decode` moves the last context frame.
    """

    def draw(self, count: int, prior: str | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Random latents, (count, z).

        Args:
            count: number of latents.
            prior: "normal" or "posterior"; None takes the configured one.
            generator: source of randomness.
        """

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent of every motion in frames (b, t, c, h, w) 0…1, (b, t - 1, z) each."""

    def features(self, frame: Tensor) -> list[Tensor]:
        """Feature maps (b, maps, h_k, w_k) of frames (b, c, h, w) 0…1, which latents move."""

    def kernels(self, z: Tensor) -> list[Tensor]:
        """Kernels (b, maps, k, k) of latents (b, z), which move the feature maps."""
