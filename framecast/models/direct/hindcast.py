"""Velocities of a context, and how well its own last frame was forecast from earlier ones by simple means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from framecast.nn.flow import LEAST_SIDE, backward_flow, block_matching, warp

#: Lead times of the hindcasts in frames; short contexts have shorter ones.
LEADS = (1, 4)

FlowMethod = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Hindcast:
    """What a context shows about the forecasters that a mixture is made of.

    Attributes:
        velocities: (b, 4, h, w) backward displacements per frame in px, of the last step and as the mean of several;
            None without flow.
        errors: (b, maps, h, w) absolute errors on the last frame, mean of the channels, 0…1: for each of `LEADS` those
            of copying, then of extrapolating each velocity.
        logs: (b, maps + 1) mean squared errors of the same and of the context's mean, as (log10(mse + 1e-6) + 3) / 2.
    """

    velocities: Tensor | None
    errors: Tensor
    logs: Tensor


def map_counts(flow: bool) -> tuple[int, int]:
    """Number of maps and of logarithms that `hindcast` gives, with flow or without."""
    maps = len(LEADS) * (3 if flow else 1)
    return maps, maps + 1


@torch.no_grad()
def hindcast(frames: Tensor, kind: str, steps: int) -> Hindcast:
    """Velocities at the end of a context, and the errors that earlier forecasts of its last frame would have had.

    Args:
        frames: (b, t, c, h, w), t at least 2, in 0…1.
        kind: "dis", "blocks" or "none".
        steps: over which the second velocity is averaged, at least 1.
    """
    last = frames[:, -1]
    method: FlowMethod | None = {"dis": backward_flow, "blocks": block_matching}.get(kind)
    forecasts = []
    for lead in LEADS:
        past = frames[:, : max(frames.shape[1] - lead, 1)]
        lead = frames.shape[1] - past.shape[1]
        forecasts.append(past[:, -1])
        if method is not None:
            forecasts += [warp(past[:, -1], lead * v) for v in velocities(past, method, steps).chunk(2, 1)]
    differences = torch.stack(forecasts, 1) - last[:, None]
    squared = torch.cat([differences, (frames.mean(1) - last)[:, None]], 1).square().mean((2, 3, 4))
    found = None if method is None else velocities(frames, method, steps)
    return Hindcast(found, differences.abs().mean(2), ((squared + 1e-6).log10() + 3) / 2)


def velocities(frames: Tensor, method: FlowMethod, steps: int) -> Tensor:
    """Backward displacement per frame at the end of a clip, of the last step and as the mean of `steps` steps.

    Args:
        frames: (b, t, c, h, w).
        method: optical flow of two frames.
        steps: as for `hindcast`; fewer where the clip is shorter.

    Returns:
        (b, 4, h, w) in px a frame; zeros for one frame, and for frames too small for flow.
    """
    last, steps = frames[:, -1], min(steps, frames.shape[1] - 1)
    if steps < 1 or min(last.shape[-2:]) < LEAST_SIDE:
        return last.new_zeros(len(last), 4, *last.shape[-2:])
    newest = method(frames[:, -2], last)
    return torch.cat([newest, newest if steps == 1 else method(frames[:, -1 - steps], last) / steps], 1)


def flow_kind(wanted: str) -> str:
    """The flow that "auto" stands for: "dis" where OpenCV is installed, else "blocks"; others as they are."""
    if wanted != "auto":
        return wanted
    try:
        import cv2  # noqa: F401
    except ImportError:
        return "blocks"
    return "dis"
