"""Distances between the set of forecasts and the set of real clips: random-feature MMD and FVD."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.core.types import Batch
from framecast.evaluation.clips import Clips
from framecast.evaluation.score_table import Forecaster
from framecast.metrics.features import FRAMES as mmd_frames
from framecast.metrics.features import mmd, mmd_floor, random_features
from framecast.metrics.fvd import FRAMES as fvd_frames
from framecast.metrics.fvd import FVD, frechet


@dataclass(frozen=True, kw_only=True)
class SetMetric:
    """A distance between two sets of clips.

    Attributes:
        name: Of the distance.
        features: (b, t, c, h, w) -> (b, n).
        distance: (made, real, groups, scale) -> number.
        floor: (real, other, groups, scale) -> (number, its 95 % quantile or None).
        about: Settings, plain values.
    """

    name: str
    features: Callable[[Tensor], Tensor]
    distance: Callable[[Tensor, Tensor, Sequence[Hashable] | None, Tensor], float]
    floor: Callable[[Tensor, Tensor, Sequence[Hashable] | None, Tensor], tuple[float, float | None]]
    about: Mapping[str, Any]


MMD = SetMetric(
    name="rf-mmd",
    features=random_features,
    distance=mmd,
    floor=mmd_floor,
    about={"frames": mmd_frames, "context": False, "features": "see framecast/metrics/features.py"},
)


def fvd_metric(fvd: FVD) -> SetMetric:
    """Fréchet video distance of all forecasts of a row to real clips.

    Args:
        fvd: network with the weights that the user named.

    Returns:
        The measure, with the distance between two halves of the real clips as its floor.
    """
    return SetMetric(
        name="fvd",
        features=fvd.features,
        distance=lambda made, real, groups, scale: frechet(made, real),
        floor=lambda real, other, groups, scale: (frechet(other, real), None),
        about={"frames": fvd_frames, "context": False, "sha256": fvd.weights.sha256},
    )


class SetFinder:
    """Distance between the forecasts of a row and real clips, as sets; of several samples the first counts.

    Args:
        metric: Distance.
        others: (numbers of clips) -> as many further real futures (b, horizon, c, h, w), for the floor.
    """

    def __init__(self, metric: SetMetric, others: Callable[[Sequence[int]], Tensor]) -> None:
        self.metric, self.others = metric, others
        self.made: dict[str, list[Tensor]] = {}
        self.real: dict[tuple[int, ...] | None, list[Tensor]] = {}
        self.further: dict[tuple[int, ...] | None, list[Tensor]] = {}
        self.frames: dict[str, tuple[int, ...] | None] = {}
        self.groups: list[Hashable] | None = []
        self._first = ""
        self._cache: tuple[Sequence[int], dict[Any, tuple[Tensor, Tensor]]] = ((), {})

    def measure(
        self, forecaster: Forecaster, prediction: Tensor, truth: Tensor, batch: Batch, numbers: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features of forecasts, truths and further real clips."""
        if tuple(self._cache[0]) != tuple(numbers):
            self._cache = (tuple(numbers), {})
        known = self._cache[1]
        if forecaster.frames not in known:
            other = self.others(numbers)
            other = other if forecaster.frames is None else other[:, [k - 1 for k in forecaster.frames]]
            known[forecaster.frames] = (self.metric.features(truth), self.metric.features(other.to(truth.device)))
        return (self.metric.features(prediction[0]), *known[forecaster.frames])

    def take(
        self, forecaster: Forecaster, found: tuple[Tensor, Tensor, Tensor], groups: Sequence[Hashable] | None
    ) -> None:
        """Collect the features: a few hundred numbers per clip."""
        made, real, other = found
        self._first = self._first or forecaster.name
        if forecaster.name == self._first:
            self.groups = None if groups is None or self.groups is None else [*self.groups, *groups]
        self.made.setdefault(forecaster.name, []).append(made)
        self.frames[forecaster.name] = forecaster.frames
        kept = sum(map(len, self.made[forecaster.name]))
        if sum(map(len, self.real.get(forecaster.frames, []))) < kept:
            self.real.setdefault(forecaster.frames, []).append(real)
            self.further.setdefault(forecaster.frames, []).append(other)

    def to_json(self) -> dict[str, Any] | None:
        """Row -> distance, n, and the distance of real clips to other real ones; None with fewer than 2 clips."""
        rows: dict[str, Any] = {}
        floors: dict[Any, tuple[float, float | None]] = {}
        for name, parts in self.made.items():
            made, real = torch.cat(parts), torch.cat(self.real[self.frames[name]])
            if len(made) < 2:
                return None
            if self.frames[name] not in floors:
                other = torch.cat(self.further[self.frames[name]])
                floors[self.frames[name]] = self.metric.floor(real, other, self.groups, real)
            floor, most = floors[self.frames[name]]
            value = self.metric.distance(made, real, self.groups, real)
            rows[name] = {"value": value, "n": len(made), "floor": floor, "floor_95": most}
        return {**self.metric.about, "rows": rows}


def other_futures(clips: Clips, seed: int, numbers: Sequence[int]) -> Tensor:
    """For every clip the future of a random other part of its video: (b, horizon, c, h, w) in 0…1."""
    windows, pairs = clips.loader.windows, []
    for number in numbers:
        video = clips.pairs[number][0]
        draw = np.random.default_rng([seed, number, 1]).random(2)
        segments = [s for s in windows.segments if s.video == video]
        segment = segments[int(draw[0] * len(segments))]
        free = segment.stop - segment.start - windows.request.source_length + 1
        pairs.append((video, segment.start + int(draw[1] * free)))
    return clips.loader.gather(pairs).to("cpu").future
