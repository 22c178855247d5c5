"""Losses that are inf or nan, recorded without reading them from the device."""

from __future__ import annotations

import torch
from torch import Tensor

from framecast.core.types import Loss
from framecast.training.state import TrainState

#: Step of a fault that has not occurred.
NEVER = torch.iinfo(torch.int64).max


def terms(loss: Loss) -> tuple[tuple[str, ...], Tensor]:
    """Names of a loss's parts and its total, which comes last, and their values as one vector (n,) float32."""
    terms, device = {**loss.parts, "total": loss.total}, loss.total.device
    values = [value.detach().to(device, torch.float32, non_blocking=True).reshape(()) for value in terms.values()]
    return tuple(terms), torch.stack(values)


def note_faults(state: TrainState, key: tuple[str, tuple[str, ...]], values: Tensor) -> None:
    """Record the step in those terms of a loss that are not finite, if the total is not, without reading them."""
    bad = ~values.isfinite()
    now = torch.where(bad & bad[-1], state.step, NEVER)
    before = state.faults.get(key)
    state.faults[key] = now if before is None else torch.minimum(before, now)


def fault(state: TrainState) -> Tensor:
    """Whether any loss of this process has not been finite since the last check: scalar bool on the device."""
    totals = [known[-1] for known in state.faults.values()]
    return (totals[0] if len(totals) == 1 else torch.stack(totals).amin()) < NEVER
