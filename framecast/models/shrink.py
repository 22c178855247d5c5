"""Shrinkage of forecasts towards the last true frame, by shares that validation clips decide.

A model that shrinks has `shares`, one number in 0…1 for each lead time, sets `calibration_horizon` to their number,
calls `fit_shares` in `calibrate`, and `shrunk` on the frames that it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from framecast.core.types import Batch
from framecast.models.base import Predictor
from framecast.nn.shrinkage import change_sums, shrinkage


def shrunk(frames: Tensor, last: Tensor, shares: Tensor, lead: Tensor) -> Tensor:
    """last + share * (frames - last), the share being that of each frame's lead time.

    Args:
        frames: forecasts of consecutive lead times, (b, t, c, h, w) in 0…1.
        last: the last true frame, (b, c, h, w) in 0…1.
        shares: (n,) in 0…1, of lead times 1 to n; later frames have the last one.
        lead: int64 (b,), lead time of the last of the frames, at least t.

    Returns:
        (b, t, c, h, w) in 0…1.
    """
    steps = torch.arange(1 - frames.shape[1], 1, device=lead.device)
    index = (lead[:, None] + steps - 1).clamp(0, len(shares) - 1)
    return torch.lerp(last[:, None], frames, shares[index].to(frames)[:, :, None, None, None])


@torch.no_grad()
def fit_shares(model: Predictor, shares: Tensor, batches: Iterable[Batch]) -> None:
    """Set the shares of a model, without copying, to those of least squared error on held-out clips.

    Args:
        model: its `predict` reads `shares`; actions of the clips are passed on where it takes them.
        shares: (n,), the model's buffer; all 1 where there are no clips.
        batches: clips of n frames after the context, or fewer.
    """
    shares.fill_(1)
    sums = []
    for batch in batches:
        horizon = batch.future.shape[1]
        generator = torch.Generator(batch.context.device).manual_seed(0) if model.stochastic else None
        actions = model.batch_actions(batch, horizon)
        forecast = model.predict(batch.context, horizon, actions=actions, generator=generator)[0]
        sums.append(change_sums(forecast, batch.future, batch.context[:, -1:]))
    set_shares(shares, sums)


def set_shares(shares: Tensor, sums: Sequence[Tensor]) -> None:
    """Set shares, without copying, to those of least squared error; all 1 without clips.

    Args:
        shares: (n,).
        sums: of `change_sums`, (3, b, k) each, k at most n; later lead times have the last share found.
    """
    shares.fill_(1)
    if sums:
        found = shrinkage(torch.cat(list(sums), 1))
        shares.copy_(torch.cat([found, found[-1:].expand(len(shares) - len(found))]))
