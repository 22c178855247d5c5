"""The baseline every table must beat: nothing moves any more."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, Loss, Phase
from framecast.models.base import Frames, Predictor


@dataclass(frozen=True, kw_only=True)
class CopyLastConfig:
    """context: frames asked of the data, at least 1; only the last is used."""

    context: int = 1

    def __post_init__(self) -> None:
        if self.context < 1:
            raise UserError(f"CopyLastConfig.context must be at least 1 frame, got {self.context}")


class CopyLast(Predictor):
    """Predicts the last context frame, for ever. Has no weights and nothing to train."""

    Config = CopyLastConfig
    config: CopyLastConfig

    @classmethod
    def request(cls, config: CopyLastConfig) -> ClipRequest:
        """`context` frames and the one after them."""
        return ClipRequest(context=config.context, future=1)

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Mean absolute error (0…1) of the copied frame over all future frames. No gradient: there are no weights."""
        error = (batch.context[:, -1:] - batch.future).abs().mean()
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
        """The last context frame, `horizon` times: (s, b, horizon, c, h, w) float 0…1."""
        frames = torch.as_tensor(context)
        return frames[None, :, -1:].repeat(samples, 1, horizon, 1, 1, 1)
