"""Scores of several forecasters on the same clips: every batch is forecast, measured and let go.

Measuring and tallying are apart, so that several processes can measure and one of them tallies in the order of the
clips: the figures are then those of one process, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.types import Batch
from framecast.metrics.averages import Running
from framecast.metrics.clips import Tally, diversity, measure, moving_masks, order_samples
from framecast.metrics.scores import BASELINES, Scores
from framecast.metrics.scores import Protocol as Conditions

#: (clips on the device, their numbers) -> (s, b, frames, c, h, w) float 0…1.
Forecast = Callable[[Batch, Sequence[int]], Tensor]
#: (prediction, truth), both (b, frames, c, h, w) -> float (b, frames): a metric that needs more than the frames.
FrameMetric = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Forecaster:
    """Whoever forecasts the clips.

    name: in the table.  forecast: the futures of a batch.  samples: futures per clip.  frames: of the horizon that it
    forecasts, counted from 1; None is all of them.
    """

    name: str
    forecast: Forecast
    samples: int = 1
    frames: tuple[int, ...] | None = None


class Extra(Protocol):
    """Something else to be learnt of every forecast while it is in memory."""

    def measure(
        self, entrant: Forecaster, prediction: Tensor, truth: Tensor, batch: Batch, numbers: Sequence[int]
    ) -> Any:
        """What is to be kept of one batch, on the CPU and small.

        prediction: (s, b, frames, c, h, w).  truth: (b, frames, c, h, w), at the entrant's frames.
        """

    def take(self, entrant: Forecaster, found: Any, groups: Sequence[Hashable] | None) -> None:
        """Take in what `measure` gave, in the order of the clips. groups: of each clip the video."""


@dataclass(frozen=True)
class Measured:
    """What is known of one entrant's forecast of a batch. values: metric -> float64 (s, b, frames).  spread: diversity
    of the samples (b, frames), None of a single one.  extras: one per Extra."""

    values: dict[str, Tensor]
    spread: Tensor | None
    extras: list[Any]


class Table:
    """Tallies of every entrant, and of its differences to copy-last, clip by clip.

    entrants: the one in question first; copy-last and temporal-mean among them.  protocol: what is measured.  groups:
    of every clip the video it comes from, for intervals; None takes clips as independent.  keep_clips: keep every
    clip's numbers (see `Tally`).  device: where clips are sent.  more: further metrics by name, which the protocol
    lists too.
    Raises: UserError for a table without baselines.
    """

    def __init__(
        self,
        entrants: Sequence[Forecaster],
        protocol: Conditions,
        *,
        groups: Sequence[Hashable] | None = None,
        keep_clips: bool = False,
        device: torch.device | str = "cpu",
        more: Mapping[str, FrameMetric] | None = None,
        extras: Sequence[Extra] = (),
    ) -> None:
        names = [e.name for e in entrants]
        missing = [name for name in BASELINES if name not in names]
        if missing:
            raise UserError(
                f"every table shows {' and '.join(BASELINES)}; add {' and '.join(missing)} to the predictors"
            )
        self.entrants, self.protocol, self.device = list(entrants), protocol, device
        self.groups, self.more, self.extras = groups, dict(more or {}), list(extras)
        self.settings = protocol.settings
        self.frames = {e.name: e.frames or tuple(range(1, protocol.horizon + 1)) for e in entrants}
        self.tallies = {
            e.name: Tally(self.settings.names, len(self.frames[e.name]), e.samples, keep_clips) for e in entrants
        }
        self.versus = {
            name: {metric: Running(len(self.frames[name])) for metric in self.settings.names}
            for name in names
            if name != BASELINES[0]
        }
        self.clips = 0

    def measure(self, batch: Batch, numbers: Sequence[int]) -> dict[str, Measured]:
        """Forecast and measure one batch: entrant -> what is to be tallied, on the CPU.

        numbers: of the clips, counted over all batches.
        Raises: UserError for a batch that contradicts the protocol, or a forecast that is not finite.
        """
        batch, truth = self.checked(batch)
        mask, out = None, {}
        for entrant in self.entrants:
            prediction = self.predict(entrant, batch, numbers)
            at = [k - 1 for k in self.frames[entrant.name]]
            last, true = batch.context[:, -1].to(prediction.device), truth.to(prediction.device)
            if mask is None:
                mask = moving_masks(true, last, self.settings)
            mask = mask.to(prediction.device)
            own, own_mask = (true, mask) if len(at) == truth.shape[1] else (true[:, at].contiguous(), mask[:, at])
            each = [measure(sample, own, last, self.settings, own_mask) for sample in prediction]
            for name, metric in self.more.items():
                for found, sample in zip(each, prediction, strict=True):
                    found[name] = metric(sample, own).double()
            out[entrant.name] = Measured(
                {name: torch.stack([e[name] for e in each]).cpu() for name in self.settings.names},
                diversity(prediction).cpu() if len(prediction) > 1 else None,
                [extra.measure(entrant, prediction, own, batch, numbers) for extra in self.extras],
            )
            del prediction  # never two forecasts at once
        return out

    def take(self, measured: Mapping[str, Measured], numbers: Sequence[int]) -> dict[str, dict[str, Tensor]]:
        """Tally what `measure` gave. Returns: entrant -> metric -> (b, frames) of the best sample of each clip."""
        groups = None if self.groups is None else [self.groups[i] for i in numbers]
        chosen: dict[str, dict[str, Tensor]] = {}
        for entrant in self.entrants:
            found = measured[entrant.name]
            chosen[entrant.name] = self.tallies[entrant.name].add(found.values, found.spread, groups)
            for extra, value in zip(self.extras, found.extras, strict=True):
                extra.take(entrant, value, groups)
        base = chosen[BASELINES[0]]
        for name, metrics in self.versus.items():
            at = [k - 1 for k in self.frames[name]]
            for metric, running in metrics.items():
                running.add(chosen[name][metric] - base[metric][:, at], groups)
        self.clips += len(numbers)
        return chosen

    def checked(self, batch: Batch) -> tuple[Batch, Tensor]:
        """The batch on the device, and the truth as far as the horizon goes: (b, horizon, c, h, w)."""
        batch, p = batch.to(self.device), self.protocol
        want = (p.channels, p.height, p.width)
        if tuple(batch.future.shape[2:]) != want or tuple(batch.context.shape[2:]) != want:
            raise UserError(
                f"the protocol says frames of (channels, height, width) {want}, got {tuple(batch.context.shape[2:])} "
                f"in the context and {tuple(batch.future.shape[2:])} in the future"
            )
        if batch.future.shape[1] < p.horizon:
            raise UserError(f"the protocol's horizon is {p.horizon} frames but the clips hold {batch.future.shape[1]}")
        return batch, batch.future[:, : p.horizon].contiguous()

    def predict(self, entrant: Forecaster, batch: Batch, numbers: Sequence[int]) -> Tensor:
        """One entrant's forecast of clips that are on the device, checked: (s, b, frames, c, h, w)."""
        prediction = entrant.forecast(batch, numbers)
        want = (entrant.samples, batch.size, len(self.frames[entrant.name]), *batch.context.shape[2:])
        if tuple(prediction.shape) != want:
            raise UserError(
                f"{entrant.name} must predict (s, b, horizon, c, h, w) = {want}, got {tuple(prediction.shape)}"
            )
        if not bool(prediction.isfinite().all()):
            raise UserError(
                f"{entrant.name} predicted values that are not finite in clips {numbers[0]} to {numbers[-1]}"
            )
        return prediction.detach() if prediction.device.type in ("cpu", "cuda") else prediction.detach().cpu()

    def show(self, batch: Batch, numbers: Sequence[int], metric: str) -> tuple[Batch, Tensor, dict[str, Tensor]]:
        """Clips and forecasts to look at, of K samples the best by `metric`.

        Returns: the clips on the device, their truth, and entrant -> (b, frames, c, h, w) on the CPU.
        """
        batch, truth = self.checked(batch)
        settings, shown = replace(self.settings, names=(metric,)), {}
        for entrant in self.entrants:
            prediction = self.predict(entrant, batch, numbers)
            best = torch.zeros(batch.size, dtype=torch.int64, device=prediction.device)
            if len(prediction) > 1:
                at = [k - 1 for k in self.frames[entrant.name]]
                true, last = truth[:, at].to(prediction.device), batch.context[:, -1].to(prediction.device)
                values = torch.stack([self._one(metric, sample, true, last, settings) for sample in prediction])
                best, _ = order_samples(metric, values)
            shown[entrant.name] = prediction[best, torch.arange(batch.size)].float().cpu()
        return batch, truth, shown

    def _one(self, metric: str, sample: Tensor, truth: Tensor, last: Tensor, settings: Any) -> Tensor:
        if metric in self.more:
            return self.more[metric](sample, truth).double()
        return measure(sample, truth, last, settings)[metric]

    def scores(self) -> Scores:
        """What has been tallied so far, every curve on the protocol's horizon."""
        many = {name: tally for name, tally in self.tallies.items() if tally.samples > 1}

        def series(name: str, running: Running) -> Any:
            return running.series().spread(self.frames[name], self.protocol.horizon)

        return Scores(
            protocol=replace(self.protocol, clips=self.clips),
            predictors={n: {m: series(n, r) for m, r in tally.best.items()} for n, tally in self.tallies.items()},
            versus={n: {m: series(n, r) for m, r in row.items()} for n, row in self.versus.items()},
            samples={
                n: {m: {"mean": series(n, t.mean[m]), "worst": series(n, t.worst[m])} for m in t.names}
                for n, t in many.items()
            },
            diversity={n: series(n, t.diversity) for n, t in many.items()},
        )
