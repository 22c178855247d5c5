"""Scores of several forecasters on the same clips: each batch is forecast, measured and released.

Measuring and collecting are separate, so that several processes can measure and each collects in the order of the
clips: the scores then equal those of one process to the bit. Frames are streamed; one float64 per clip, frame, metric
and forecaster is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.types import Batch
from framecast.evaluation.summaries import references, skill_curves, summarise
from framecast.metrics.averages import Series, summarize
from framecast.metrics.clips import (
    POOLED,
    MetricSettings,
    diversity,
    measure,
    moving_masks,
    order_samples,
    parts_of,
    reduce_samples,
)
from framecast.metrics.ensemble import ensemble_parts
from framecast.metrics.parts import PARTS
from framecast.metrics.scores import BASELINES, REQUIRED, Scores
from framecast.metrics.scores import Protocol as Conditions

#: (clips on the device, their numbers) -> (s, b, frames, c, h, w) float 0…1.
Forecast = Callable[[Batch, Sequence[int]], Tensor]
#: (prediction, truth), both (b, frames, c, h, w) -> float (b, frames): a metric that needs more than the frames.
FrameMetric = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Forecaster:
    """One row of a score table: a name and a function that forecasts clips.

    Attributes:
        name: In the table.
        forecast: Futures of a batch.
        samples: Futures per clip.
        frames: Frames of the horizon that are forecast, counted from 1; None is all of them.
    """

    name: str
    forecast: Forecast
    samples: int = 1
    frames: tuple[int, ...] | None = None


class Extra(Protocol):
    """A measurement of every forecast beside the metrics of frames."""

    def measure(
        self, forecaster: Forecaster, prediction: Tensor, truth: Tensor, batch: Batch, numbers: Sequence[int]
    ) -> Any:
        """Measurement of one batch, on the CPU and small.

        Args:
            forecaster: Row that made the forecast.
            prediction: float (s, b, frames, c, h, w) in 0…1.
            truth: float (b, frames, c, h, w) in 0…1, at the forecaster's frames.
            batch: The clips.
            numbers: Of the clips, counted over all batches.
        """

    def take(self, forecaster: Forecaster, found: Any, groups: Sequence[Hashable] | None) -> None:
        """Collect a result of `measure`, called in the order of the clips.

        Args:
            forecaster: Row that made the forecast.
            found: Result of `measure`.
            groups: The video of each clip; None treats clips as independent.
        """


@dataclass(frozen=True)
class Measured:
    """Measurements of one forecaster's forecast of a batch.

    Attributes:
        values: Metric -> float64 (s, b, frames).
        parts: Name of PARTS, of several samples the mean, and of ENSEMBLE_PARTS -> float64 (b, frames).
        spread: Diversity of the samples, float64 (b, frames); None for a single sample.
        extras: One result per Extra.
    """

    values: dict[str, Tensor]
    parts: dict[str, Tensor]
    spread: Tensor | None
    extras: list[Any]


class ScoreTable:
    """Scores of every forecaster, and their differences to copy-last clip by clip.

    Args:
        forecasters: The evaluated one first; copy-last and temporal-mean among them.
        protocol: Conditions and metrics.
        groups: The video of every clip, for intervals; None treats clips as independent.
        device: Device that clips are moved to.
        more: Further metrics by name, which the protocol lists too.
        extras: Further measurements of every forecast.
        limits: Statistic of frames -> (lowest, highest) of the training data; None flags no forecast as unstable.
        missing: Baselines left out -> the reason.

    Raises:
        UserError: For a table without baselines.
    """

    def __init__(
        self,
        forecasters: Sequence[Forecaster],
        protocol: Conditions,
        *,
        groups: Sequence[Hashable] | None = None,
        device: torch.device | str = "cpu",
        more: Mapping[str, FrameMetric] | None = None,
        extras: Sequence[Extra] = (),
        limits: Mapping[str, tuple[float, float]] | None = None,
        missing: Mapping[str, str] | None = None,
    ) -> None:
        names = [f.name for f in forecasters]
        lacking = [name for name in REQUIRED if name not in names]
        if lacking:
            raise UserError(
                f"every table must contain {' and '.join(REQUIRED)}; add {' and '.join(lacking)} to the predictors"
            )
        self.forecasters, self.device = list(forecasters), device
        self.protocol = replace(protocol, baselines=tuple(name for name in BASELINES if name in names))
        self.groups, self.more, self.extras = groups, dict(more or {}), list(extras)
        self.limits, self.missing = limits, dict(missing or {})
        self.settings = protocol.settings
        self.frames = {f.name: f.frames or tuple(range(1, protocol.horizon + 1)) for f in forecasters}
        self.clips = 0
        # forecaster -> (best, mean or worst sample, metric) -> one (b, frames) for each batch
        self._values: dict[str, dict[tuple[str, str], list[Tensor]]] = {name: {} for name in names}
        self._parts: dict[str, dict[str, list[Tensor]]] = {name: {} for name in names}
        self._spread: dict[str, list[Tensor]] = {f.name: [] for f in forecasters if f.samples > 1}

    def measure(self, batch: Batch, numbers: Sequence[int]) -> dict[str, Measured]:
        """Forecast and measure one batch.

        Args:
            batch: The clips.
            numbers: Of the clips, counted over all batches.

        Returns:
            Forecaster -> measurements for `take`, on the CPU.

        Raises:
            UserError: For a batch that contradicts the protocol, or a forecast that is not finite.
        """
        batch, truth = self.checked(batch)
        mask, out = None, {}
        for forecaster in self.forecasters:
            prediction = self.predict(forecaster, batch, numbers)
            at = [k - 1 for k in self.frames[forecaster.name]]
            last, true = batch.context[:, -1].to(prediction.device), truth.to(prediction.device)
            if mask is None:
                mask = moving_masks(true, last, self.settings)
            mask = mask.to(prediction.device)
            own, own_mask = (true, mask) if len(at) == truth.shape[1] else (true[:, at].contiguous(), mask[:, at])
            parts = [parts_of(sample, own, last, self.settings, own_mask) for sample in prediction]
            each = [
                measure(sample, own, last, self.settings, own_mask, part)
                for sample, part in zip(prediction, parts, strict=True)
            ]
            pooled = {name: torch.stack([part[name] for part in parts]).mean(0).cpu() for name in PARTS}
            if len(prediction) > 1:
                pooled |= {name: part.cpu() for name, part in ensemble_parts(prediction, own).items()}
            for name, metric in self.more.items():
                for found, sample in zip(each, prediction, strict=True):
                    found[name] = metric(sample, own).double()
            out[forecaster.name] = Measured(
                {name: torch.stack([e[name] for e in each]).cpu() for name in self.settings.names},
                pooled,
                diversity(prediction).cpu() if len(prediction) > 1 else None,
                [extra.measure(forecaster, prediction, own, batch, numbers) for extra in self.extras],
            )
            del prediction  # at most one forecast in memory
        return out

    def take(self, measured: Mapping[str, Measured], numbers: Sequence[int]) -> None:
        """Collect what `measure` returned, in the order of the clips."""
        groups = None if self.groups is None else [self.groups[i] for i in numbers]
        for forecaster in self.forecasters:
            found, values = measured[forecaster.name], self._values[forecaster.name]
            for kind, metrics in reduce_samples(found.values).items():
                for metric, part in metrics.items():
                    values.setdefault((kind, metric), []).append(part)
            for name, numbers_of in found.parts.items():
                self._parts[forecaster.name].setdefault(name, []).append(numbers_of)
            if found.spread is not None:
                self._spread[forecaster.name].append(found.spread)
            for extra, value in zip(self.extras, found.extras, strict=True):
                extra.take(forecaster, value, groups)
        self.clips += len(numbers)

    def per_clip(self, name: str, metric: str, kind: str = "best") -> Tensor:
        """Values of all clips collected so far: float64 (clips, frames), in the order of the clips.

        Args:
            name: Forecaster.
            metric: Key of METRICS.
            kind: "best", "mean" or "worst" of the samples of each clip.
        """
        return torch.cat(self._values[name][kind, metric])

    def part(self, name: str, part: str) -> Tensor:
        """One of PARTS or ENSEMBLE_PARTS of all clips collected so far: float64 (clips, frames).

        Args:
            name: Forecaster.
            part: Name; of several samples their mean.
        """
        return torch.cat(self._parts[name][part])

    def at(self, name: str, frames: Sequence[int]) -> list[int]:
        """Columns of a forecaster's numbers at these frames of the horizon, counted from 1."""
        return [self.frames[name].index(k) for k in frames]

    @property
    def videos(self) -> Sequence[Hashable] | None:
        """The video of every clip collected so far; None treats clips as independent."""
        return None if self.groups is None else self.groups[: self.clips]

    def summarize(self, values: Tensor) -> Series:
        """Means over clips of (clips, frames), with intervals over the videos of this table."""
        return summarize(values, self.videos)

    def scores(self) -> Scores:
        """Scores of the clips collected so far, every curve on the protocol's horizon."""

        def series(name: str, values: Tensor) -> Series:
            return self.summarize(values).spread(self.frames[name], self.protocol.horizon)

        def row(name: str, kind: str = "best") -> dict[str, Series]:
            return {m: series(name, self.per_clip(name, m, kind)) for m in self.settings.names}

        def versus(name: str, metric: str) -> Series:
            base = self.per_clip(BASELINES[0], metric)[:, [k - 1 for k in self.frames[name]]]
            return series(name, self.per_clip(name, metric) - base)

        beside = {name: (row(name, "mean"), row(name, "worst")) for name in self._spread}
        curves = {name: skill_curves(self, name) for name in self.frames}
        pooled = {
            name: {m: c.by_frame.spread(self.frames[name], self.protocol.horizon) for m, c in found.items()}
            for name, found in curves.items()
        }
        return Scores(
            protocol=replace(self.protocol, clips=self.clips),
            predictors={name: {**pooled[name], **row(name)} for name in self.frames},
            versus={n: {m: versus(n, m) for m in self.settings.names} for n in self.frames if n != BASELINES[0]},
            samples={
                n: {m: {"mean": mean[m], "worst": worst[m]} for m in self.settings.names}
                for n, (mean, worst) in beside.items()
            },
            diversity={n: series(n, torch.cat(parts)) for n, parts in self._spread.items()},
            summaries={name: summarise(self, name, found) for name, found in curves.items()},
            best_baseline=references(self, range(1, self.protocol.horizon + 1))[1],
            missing=self.missing,
        )

    def checked(self, batch: Batch) -> tuple[Batch, Tensor]:
        """The batch on the device, and its truth over the horizon: (b, horizon, c, h, w).

        Raises:
            UserError: For frames of another size than the protocol's, or clips shorter than the horizon.
        """
        batch, p = batch.to(self.device), self.protocol
        want = (p.channels, p.height, p.width)
        if tuple(batch.future.shape[2:]) != want or tuple(batch.context.shape[2:]) != want:
            raise UserError(
                f"expected frames of (channels, height, width) {want} by the protocol, got "
                f"{tuple(batch.context.shape[2:])} in the context and {tuple(batch.future.shape[2:])} in the future"
            )
        if batch.future.shape[1] < p.horizon:
            raise UserError(f"the protocol's horizon is {p.horizon} frames but the clips hold {batch.future.shape[1]}")
        return batch, batch.future[:, : p.horizon].contiguous()

    def predict(self, forecaster: Forecaster, batch: Batch, numbers: Sequence[int]) -> Tensor:
        """Checked forecast of clips that are on the device: (s, b, frames, c, h, w).

        Raises:
            UserError: For a forecast of another shape, or one that is not finite.
        """
        prediction = forecaster.forecast(batch, numbers)
        want = (forecaster.samples, batch.size, len(self.frames[forecaster.name]), *batch.context.shape[2:])
        if tuple(prediction.shape) != want:
            raise UserError(
                f"{forecaster.name} must predict (s, b, horizon, c, h, w) = {want}, got {tuple(prediction.shape)}"
            )
        if not bool(prediction.isfinite().all()):
            raise UserError(
                f"{forecaster.name} predicted values that are not finite in clips {numbers[0]} to {numbers[-1]}"
            )
        return prediction.detach() if prediction.device.type in ("cpu", "cuda") else prediction.detach().cpu()

    def show(self, batch: Batch, numbers: Sequence[int], metric: str) -> tuple[Batch, Tensor, dict[str, Tensor]]:
        """Clips and forecasts for display, of K samples the best by `metric`; by skill the one of median squared error,
        since skill is that of all samples.

        Returns:
            The clips on the device, their truth, and forecaster -> float (b, frames, c, h, w) on the CPU.
        """
        batch, truth = self.checked(batch)
        pooled = metric in POOLED
        metric = "mse" if pooled else metric
        settings, shown = replace(self.settings, names=(metric,)), {}
        for forecaster in self.forecasters:
            prediction = self.predict(forecaster, batch, numbers)
            best = torch.zeros(batch.size, dtype=torch.int64, device=prediction.device)
            if len(prediction) > 1:
                at = [k - 1 for k in self.frames[forecaster.name]]
                true, last = truth[:, at].to(prediction.device), batch.context[:, -1].to(prediction.device)
                values = torch.stack([self._one(metric, sample, true, last, settings) for sample in prediction])
                best, _ = order_samples(metric, values)
                if pooled:
                    best = values.mean(-1).argsort(0)[len(values) // 2]
            shown[forecaster.name] = prediction[best, torch.arange(batch.size)].float().cpu()
        return batch, truth, shown

    def _one(self, metric: str, sample: Tensor, truth: Tensor, last: Tensor, settings: MetricSettings) -> Tensor:
        if metric in self.more:
            return self.more[metric](sample, truth).double()
        return measure(sample, truth, last, settings)[metric]
