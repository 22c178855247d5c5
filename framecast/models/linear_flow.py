"""Baseline `linear-flow`: dense optical flow between the last two frames, extrapolated at constant velocity.

Source: Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse Search", ECCV 2016, as implemented in
OpenCV (preset "medium"). Nothing is learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, Loss, Phase
from framecast.models.base import Predictor, RolloutState
from framecast.nn.flow import backward_flow, opencv, warp


@dataclass(frozen=True, kw_only=True)
class LinearFlowConfig:
    """Settings of the baseline."""

    context: int = 2
    """Context frames, at least 2; the last two are used."""

    def __post_init__(self) -> None:
        if self.context < 2:
            raise UserError(f"LinearFlowConfig.context must be at least 2 frames, got {self.context}")


class LinearFlow(Predictor):
    """Constant-velocity extrapolation of the optical flow between the last two frames. Nothing to train.

    Frame k of the forecast is the last frame, sampled at x + k * flow(x), where flow leads from the last frame back to
    the one before (backward warping, bilinear, edges repeated).
    """

    Config = LinearFlowConfig
    config: LinearFlowConfig

    def __init__(self, config: LinearFlowConfig, spec: Any) -> None:
        super().__init__(config, spec)
        opencv()  # a missing extra is reported when the model is built

    @classmethod
    def request(cls, config: LinearFlowConfig) -> ClipRequest:
        """`context` frames and the one after them."""
        return ClipRequest(context=config.context, future=1)

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Mean absolute error (0…1) over all future frames. No gradient: there are no weights."""
        error = (self.predict(batch.context, batch.future.shape[1])[0] - batch.future).abs().mean()
        return Loss(error, {"l1": error.detach()})

    def phases(self) -> list[Phase]:
        """No phases: there is nothing to train."""
        return []

    def clip_state(self, frames: Tensor, actions: Tensor | None) -> RolloutState:
        """The last frame (b, c, h, w), its flow (b, 2, h, w) in px a step, and the step count (b,)."""
        steps = torch.zeros(len(frames), dtype=torch.int64, device=frames.device)
        return {"last": frames[:, -1], "flow": backward_flow(frames[:, -2], frames[:, -1]), "step": steps}

    def rollout_step(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The state one step on, and its frame; the forecast is always warped from the last real frame."""
        steps = state["step"] + 1
        return {**state, "step": steps}, warp(state["last"], steps.view(-1, 1, 1, 1) * state["flow"])
