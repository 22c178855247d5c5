"""A baseline for still scenes with small moving things: the mean of the frames seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, Loss, Phase
from framecast.models.base import Frames, Predictor, RolloutState, as_frames


@dataclass(frozen=True, kw_only=True)
class TemporalMeanConfig:
    """context: frames averaged, at least 1."""

    context: int = 4

    def __post_init__(self) -> None:
        if self.context < 1:
            raise UserError(f"TemporalMeanConfig.context must be at least 1 frame, got {self.context}")


class TemporalMean(Predictor):
    """Predicts the mean of the context frames, for ever. Has no weights and nothing to train."""

    Config = TemporalMeanConfig
    config: TemporalMeanConfig

    @classmethod
    def request(cls, config: TemporalMeanConfig) -> ClipRequest:
        """`context` frames and the one after them."""
        return ClipRequest(context=config.context, future=1)

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Mean absolute error (0…1) of the mean over all future frames. No gradient: there are no weights."""
        error = (batch.context.mean(1, keepdim=True) - batch.future).abs().mean()
        return Loss(error, {"l1": error.detach()})

    def phases(self) -> list[Phase]:
        """None: there is nothing to train."""
        return []

    def predict(
        self,
        context: Frames,
        horizon: int,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The mean of the last `context` frames, `horizon` times: (s, b, horizon, c, h, w) float 0…1."""
        mean = torch.as_tensor(context).mean(1, keepdim=True)
        return mean[None].repeat(samples, 1, horizon, 1, 1, 1)

    @torch.no_grad()
    def rollout_init(
        self,
        context: Frames,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> RolloutState:
        """The mean itself, ((s b), c, h, w): predictions do not join the average, so `advance` gives what `predict`
        gives."""
        frames = as_frames(context, self)[:, -self.num_context :]
        return {"mean": frames.mean(1).repeat(samples, 1, 1, 1)}

    @torch.no_grad()
    def rollout_step(self, carry: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The same carry and the mean once more."""
        return carry, carry["mean"]
