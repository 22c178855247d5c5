"""Baselines without weights: persistence of the last frame, and the mean of the context."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, Loss
from framecast.models.base import Predictor, RolloutState


@dataclass(frozen=True, kw_only=True)
class CopyLastConfig:
    """Configuration of the persistence baseline."""

    context: int = 1
    """Frames requested from the data, at least 1; only the last is used."""

    def __post_init__(self) -> None:
        if self.context < 1:
            raise UserError(f"{type(self).__name__}.context must be at least 1 frame, got {self.context}")


@dataclass(frozen=True, kw_only=True)
class TemporalMeanConfig(CopyLastConfig):
    """Configuration of the mean baseline."""

    context: int = 4
    """Frames averaged, at least 1."""


def _request(config: CopyLastConfig) -> ClipRequest:
    return ClipRequest(context=config.context, future=1)


def _l1(prediction: Tensor, future: Tensor) -> Loss:
    error = (prediction - future).abs().mean()
    return Loss(error, {"l1": error.detach()})


class CopyLast(Predictor):
    """Predicts the last context frame, for ever. Has no weights and nothing to train."""

    Config = CopyLastConfig
    config: CopyLastConfig

    @classmethod
    def request(cls, config: CopyLastConfig) -> ClipRequest:
        """`context` frames and the next one."""
        return _request(config)

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Mean absolute error (0…1) of the copied frame over all future frames, without gradient."""
        return _l1(batch.context[:, -1:], batch.future)

    def clip_state(self, frames: Tensor, actions: Tensor | None) -> RolloutState:
        """The last context frame, (b, c, h, w)."""
        return {"last": frames[:, -1]}

    def rollout_step(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The same state, and the last context frame."""
        return state, state["last"]


class TemporalMean(Predictor):
    """Predicts the mean of the context frames, for ever. Has no weights and nothing to train."""

    Config = TemporalMeanConfig
    config: TemporalMeanConfig

    @classmethod
    def request(cls, config: TemporalMeanConfig) -> ClipRequest:
        """`context` frames and the next one."""
        return _request(config)

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Mean absolute error (0…1) of the mean over all future frames, without gradient."""
        return _l1(batch.context.mean(1, keepdim=True), batch.future)

    def clip_state(self, frames: Tensor, actions: Tensor | None) -> RolloutState:
        """The mean, (b, c, h, w): predictions are not added to the average."""
        return {"mean": frames.mean(1)}

    def rollout_step(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The same state, and the mean."""
        return state, state["mean"]
