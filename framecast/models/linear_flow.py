"""Baseline `linear-flow`: dense optical flow between the last two frames, extrapolated at constant velocity.

Source: Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse Search", ECCV 2016, as implemented in
OpenCV (preset "medium"). Nothing is learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, Loss, Phase
from framecast.models.base import Predictor, RolloutState

#: DIS needs frames of at least this many pixels a side; smaller ones are repeated like copy-last.
LEAST_SIDE = 12


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


def opencv() -> Any:
    """The OpenCV module.

    Raises:
        UserError: where the extra `flow` is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            "linear-flow needs OpenCV, which is not installed: pip install 'framecast[flow]' (opencv 5 needs numpy 2)"
        ) from error
    return cv2


def backward_flow(previous: Tensor, last: Tensor) -> Tensor:
    """Optical flow from the last frames back to the ones before.

    Args:
        previous: frames before the last, (b, c, h, w) float 0…1.
        last: last frames, (b, c, h, w) float 0…1.

    Returns:
        (b, 2, h, w) float, displacement (x, y) in px with last(x) ≈ previous(x + flow); zeros for frames of fewer than
        12 px a side, which the method cannot take.
    """
    b, _, h, w = last.shape
    if min(h, w) < LEAST_SIDE:
        return last.new_zeros(b, 2, h, w)
    cv2 = opencv()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # one clip is too small to share, and other processes use the cores
    try:
        method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        found = [method.calc(a, b, None) for a, b in zip(_grey(last), _grey(previous), strict=True)]
    finally:
        cv2.setNumThreads(threads)
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).to(last)


def warp(frames: Tensor, flow: Tensor) -> Tensor:
    """Frames sampled at displaced positions, bilinear, edges repeated.

    Args:
        frames: (b, c, h, w).
        flow: (b, 2, h, w), displacement (x, y) in px.

    Returns:
        (b, c, h, w), frames(x + flow(x)).
    """
    _, _, h, w = frames.shape
    ys, xs = torch.meshgrid(torch.arange(h).to(flow), torch.arange(w).to(flow), indexing="ij")
    x = (xs + flow[:, 0]) * (2 / max(w - 1, 1)) - 1
    y = (ys + flow[:, 1]) * (2 / max(h - 1, 1)) - 1
    return grid_sample(frames, torch.stack([x, y], -1), padding_mode="border", align_corners=True)


def _grey(frames: Tensor) -> list[np.ndarray]:
    """Frames (b, c, h, w) in 0…1 as uint8 (h, w), the mean of their channels."""
    return list((frames.mean(1) * 255).round().clamp(0, 255).byte().cpu().numpy())
