"""Calibration of intervals: share of the true values between the bounds of a model, beside the nominal share."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from framecast.core.types import Batch
from framecast.evaluation.score_table import Forecaster
from framecast.metrics.averages import summarize
from framecast.metrics.ensemble import sample_interval
from framecast.metrics.frames import moving_mask
from framecast.models.base import Predictor
from framecast.models.rollout import evaluating

#: Share of the true values that the intervals should hold.
NOMINAL = 0.9


class IntervalCoverage:
    """Coverage of one row's intervals: the model's own (`intervals`), or those of its samples.

    Args:
        name: of the row.
        model: its predictor.
    """

    def __init__(self, name: str, model: Predictor) -> None:
        self.name, self.model = name, model
        self.own = getattr(model, "intervals", None)
        self.values: list[Tensor] = []  # (2, b, horizon): in the moving area, in the whole frame
        self.groups: list[Hashable] | None = []

    def measure(
        self, forecaster: Forecaster, prediction: Tensor, truth: Tensor, batch: Batch, numbers: Sequence[int]
    ) -> Tensor | None:
        """Coverage of every clip and frame, (2, b, horizon), NaN without a moving area; None for other rows."""
        if forecaster.name != self.name or (self.own is None and len(prediction) < 2):
            return None
        if self.own is None:
            lower, upper = sample_interval(prediction)
        else:
            actions = self.model.batch_actions(batch, truth.shape[1])
            with evaluating(self.model):
                lower, upper = self.own(batch.context, truth.shape[1], actions)
        inside = ((truth >= lower) & (truth <= upper)).float().mean(2)
        moved = moving_mask(truth, batch.context[:, -1:])
        share = (inside * moved).sum((2, 3)) / moved.sum((2, 3))  # 0 / 0 is NaN
        return torch.stack([share, inside.mean((2, 3))]).double().cpu()

    def take(self, forecaster: Forecaster, found: Tensor | None, groups: Sequence[Hashable] | None) -> None:
        """Collect one batch."""
        if found is not None:
            self.values.append(found)
            self.groups = None if groups is None or self.groups is None else [*self.groups, *groups]

    def to_json(self) -> dict[str, Any]:
        """Nominal share, curves by frame, and means over the horizon; empty without intervals."""
        if not self.values:
            return {}
        moving, whole = torch.cat(self.values, 1)
        curves = {"moving": moving, "frame": whole}
        return {
            "nominal": NOMINAL,
            "kind": "samples" if self.own is None else "model",
            "by_frame": {name: summarize(values, self.groups).to_json() for name, values in curves.items()},
            "mean": {
                name: summarize(values.nanmean(1, keepdim=True), self.groups).scalar()
                for name, values in curves.items()
            },
        }
