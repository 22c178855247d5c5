"""Object presence and position in every forecast of a comparison."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from framecast.core.types import Batch
from framecast.data.base import Source
from framecast.evaluation.clips import Clips
from framecast.evaluation.score_table import Forecaster
from framecast.metrics.clips import horizon_mean
from framecast.metrics.objects import (
    OBJECT_METRICS,
    Found,
    Things,
    find,
    object_series,
    score_objects,
    things_of,
    true_places,
    write_things,
)


def object_finder(
    source: Source, clips: Clips, frames: Sequence[int], horizon: int, things: Things | None = None
) -> ObjectFinder | None:
    """Finder of the objects of some data, whose per-frame arrays the clips then load; None where none are known or the
    frames have another shape.

    Args:
        source: Data that the clips are from.
        clips: Clips to forecast.
        frames: Frames of the horizon that means are taken over.
        horizon: Of the table.
        things: Objects to find; None is those known for the data.
    """
    spec = source.spec
    things = things or things_of(source.meta())
    if things is None or spec.channels != 3 or not things.fits(spec.height, spec.width):
        return None
    there = tuple(name for name in things.arrays if name in spec.extras)
    clips.loader.request = replace(clips.loader.request, extras=there)
    return ObjectFinder(things, frames, horizon)


class ObjectFinder:
    """Object presence and position in every forecast (an `Extra` of a score table).

    Args:
        things: Objects to find.
        frames: Frames of the horizon that means are taken over.
        horizon: Of the table.
    """

    def __init__(self, things: Things, frames: Sequence[int], horizon: int) -> None:
        self.things, self.common, self.horizon = things, tuple(frames), horizon
        self.names = [thing.name for thing in things.things]
        # forecaster -> (its frames, metric -> one (b, frames, objects) for each batch)
        self.rows: dict[str, tuple[tuple[int, ...], dict[str, list[Tensor]]]] = {}
        self.groups: dict[str, list[Hashable] | None] = {}
        self._cache: tuple[Any, Found, Tensor] | None = None

    def measure(
        self, forecaster: Forecaster, prediction: Tensor, truth: Tensor, batch: Batch, numbers: Sequence[int]
    ) -> dict[str, Tensor]:
        """Metric -> float64 (b, frames, objects), of several samples the mean."""
        key = (tuple(numbers), forecaster.frames)
        if self._cache is None or self._cache[0] != key:
            found = find(truth, self.things)
            self._cache = (key, found, true_places(self.things, self._arrays(forecaster, batch), found))
        _, real, places = self._cache
        values = score_objects(find(prediction, self.things), real, places, self.things)
        return {name: value.nanmean(0).cpu() for name, value in values.items()}

    def _arrays(self, forecaster: Forecaster, batch: Batch) -> dict[str, Tensor]:
        """Per-frame arrays at the forecaster's frames."""
        first, frames = batch.context.shape[1] - 1, forecaster.frames or range(1, self.horizon + 1)
        at = [first + k for k in frames]
        return {name: batch.extras[name][:, at] for name in self.things.arrays if name in batch.extras}

    def take(self, forecaster: Forecaster, found: Mapping[str, Tensor], groups: Sequence[Hashable] | None) -> None:
        """Collect one batch of one row."""
        frames = forecaster.frames or tuple(range(1, self.horizon + 1))
        _, values = self.rows.setdefault(forecaster.name, (frames, {}))
        for metric, value in found.items():
            values.setdefault(metric, []).append(value)
        before = self.groups.setdefault(forecaster.name, [])
        self.groups[forecaster.name] = None if groups is None or before is None else [*before, *groups]

    def to_json(self) -> dict[str, Any]:
        """Objects to find; row -> metric -> object -> curve, and mean over the common frames."""
        curves, means = {}, {}
        for row, (frames, parts) in self.rows.items():
            values, groups = {m: torch.cat(part) for m, part in parts.items()}, self.groups[row]
            at = [frames.index(k) for k in self.common]
            # over the horizon first: a clip counts once, however often an object appears and disappears in it
            whole = {m: horizon_mean(v[:, at].transpose(1, 2))[:, None] for m, v in values.items()}
            curves[row] = {
                m: {n: s.spread(frames, self.horizon).to_json() for n, s in t.items()}
                for m, t in object_series(values, self.names, groups).items()
            }
            means[row] = {
                m: {n: s.scalar() for n, s in t.items()} for m, t in object_series(whole, self.names, groups).items()
            }
        return {"things": write_things(self.things), "metrics": OBJECT_METRICS, "rows": curves, "means": means}
