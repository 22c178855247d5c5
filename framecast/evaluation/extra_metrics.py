"""What a comparison learns beside the metrics of frames: things lost, sets of clips, calibration.

Each looks at a forecast while it is in memory and keeps figures (see `table.Extra`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.io import read_file
from framecast.core.types import Batch, OutcomeDistribution
from framecast.data import SOURCES
from framecast.data.base import Source
from framecast.data.registry import find_source
from framecast.evaluation.clips import Clips
from framecast.evaluation.table import Extra, Forecaster, FrameMetric
from framecast.media.images import to_uint8
from framecast.metrics.averages import Series
from framecast.metrics.calibration import CalibrationTally, Told, tell
from framecast.metrics.clips import horizon_mean
from framecast.metrics.features import FRAMES as mmd_frames
from framecast.metrics.features import mmd, mmd_floor, random_features
from framecast.metrics.fvd import FRAMES as fvd_frames
from framecast.metrics.fvd import FVD, frechet
from framecast.metrics.fvd import LEAST as fvd_least
from framecast.metrics.fvd import SIDE as fvd_side
from framecast.metrics.lpips import LPIPS
from framecast.metrics.objects import (
    OBJECT_METRICS,
    Found,
    ObjectTally,
    Things,
    find,
    judge,
    read_things,
    things_of,
    true_places,
    write_things,
)
from framecast.metrics.weights import read_weights

Value = dict[str, float | int | None]


def number(series: Series) -> Value:
    """A curve of one frame as plain values."""
    return {"mean": series.mean[0], "low": series.low[0], "high": series.high[0], "n": series.n[0]}


@dataclass(frozen=True, kw_only=True)
class ExtraMetrics:
    """What is measured beside the metrics of frames: from weights files and settings that the user named."""

    lpips: LPIPS | None = None
    fvd: FVD | None = None
    things: Things | None = None
    mmd: bool = True

    @classmethod
    def read(
        cls,
        lpips: str | Path | None = None,
        lpips_sha256: str | None = None,
        fvd: str | Path | None = None,
        fvd_sha256: str | None = None,
        objects: str | Path | None = None,
        mmd: bool = True,
    ) -> ExtraMetrics:
        """Everything that is in files, before a clip is looked at.

        Raises: UserError naming the file that is missing, damaged or another one than expected.
        """
        for name, file, digest in (("lpips", lpips, lpips_sha256), ("fvd", fvd, fvd_sha256)):
            if digest is not None and file is None:
                raise UserError(f"--{name}-sha256 says what a file must have; name it with --{name} FILE")
        return cls(
            lpips=None if lpips is None else LPIPS(read_weights(lpips, lpips_sha256)),
            fvd=None if fvd is None else FVD(read_weights(fvd, fvd_sha256)),
            things=None if objects is None else read_things(read_file(objects), str(objects)),
            mmd=mmd,
        )

    @property
    def metrics(self) -> dict[str, FrameMetric]:
        """Metrics of frames by name."""
        return {} if self.lpips is None else {"lpips": self.lpips}

    def describe(self) -> dict[str, Any]:
        """Plain values for a protocol."""
        out: dict[str, Any] = {}
        if self.lpips is not None:
            out["lpips"] = (
                f"AlexNet, five layers, frames as they are on -1…1, weights SHA-256 {self.lpips.weights.sha256}"
            )
        if self.fvd is not None:
            out["fvd"] = (
                f"I3D logits of the first {fvd_frames} forecast frames without context, bilinear to "
                f"{fvd_side}x{fvd_side} on -1…1, weights SHA-256 {self.fvd.weights.sha256}"
            )
        if self.mmd:
            out["rf_mmd"] = (
                f"unbiased MMD^2 of random-network features of the first {mmd_frames} forecast frames without context, "
                "Gaussian kernels, pairs of one video left out where there are several"
            )
        return out


class Findings:
    """Everything that a comparison looks for in these data, and what it found.

    source, clips: what is forecast.  entrants: who forecasts.  frames: that all of them forecast.
    Raises: UserError where forecasts are too short for FVD.
    """

    def __init__(
        self,
        wanted: ExtraMetrics,
        source: Source,
        clips: Clips,
        entrants: Sequence[Forecaster],
        frames: Sequence[int],
        horizon: int,
        seed: int,
    ) -> None:
        self.wanted = wanted
        spec = source.spec
        things = wanted.things or things_of(source.meta())
        if wanted.things is not None and (spec.channels != 3 or not wanted.things.fits(spec.height, spec.width)):
            raise UserError(
                f"--objects: is for RGB frames shaped like {wanted.things.size[0]}x{wanted.things.size[1]}, these have "
                f"{spec.channels} channels and {spec.height}x{spec.width}"
            )
        fits = things is not None and spec.channels == 3 and things.fits(spec.height, spec.width)
        self.objects = ObjectFinder(things, frames, horizon) if things is not None and fits else None
        if self.objects is not None:
            there = tuple(name for name in self.objects.things.arrays if name in spec.extras)
            clips.loader.request = replace(clips.loader.request, extras=there)
        others = partial(_others, clips, seed)
        self.sets: dict[str, SetFinder] = {}
        if wanted.mmd:
            self.sets["rf-mmd"] = SetFinder(_MMD, others)
        if wanted.fvd is not None:
            short = [e.name for e in entrants if e.frames is not None and len(e.frames) < fvd_least]
            if short or horizon < fvd_least:
                who = short[0] if horizon >= fvd_least else "these"
                raise UserError(
                    f"FVD needs forecasts of at least {fvd_least} frames, {who} have fewer; give a longer --horizon"
                )
            self.sets["fvd"] = SetFinder(_fvd_metric(wanted.fvd), others)
        law = _law_of(source)
        self.calibration = None if law is None else CalibrationFinder(partial(_law_at, law, source, clips))

    @property
    def extras(self) -> list[Extra]:
        """What looks at every forecast."""
        found: list[Extra] = [*self.sets.values()]
        return [*found, *(e for e in (self.objects, self.calibration) if e is not None)]

    def to_json(self) -> dict[str, Any]:
        """Findings by name; what could not be had is null, and `not_available` says why."""
        sets = {"rf-mmd": None, "fvd": None, **{name: finder.to_json() for name, finder in self.sets.items()}}
        missing = {}
        if self.wanted.lpips is None:
            missing["lpips"] = "no weights file was named (--lpips FILE)"
        if self.wanted.fvd is None:
            missing["fvd"] = "no weights file was named (--fvd FILE)"
        if not self.wanted.mmd:
            missing["rf-mmd"] = "was not asked for"
        missing |= {name: "needs at least 2 clips" for name in self.sets if sets[name] is None}
        return {
            "objects": None if self.objects is None else self.objects.to_json(),
            "sets": sets,
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "not_available": missing,
        }


def _others(clips: Clips, seed: int, numbers: Sequence[int]) -> Tensor:
    """For every clip the future of another stretch of its video, at random: (b, horizon, c, h, w) in 0…1."""
    windows, pairs = clips.loader.windows, []
    for number in numbers:
        video = clips.pairs[number][0]
        draw = np.random.default_rng([seed, number, 1]).random(2)
        segments = [s for s in windows.segments if s.video == video]
        segment = segments[int(draw[0] * len(segments))]
        room = segment.stop - segment.start - windows.request.source_length + 1
        pairs.append((video, segment.start + int(draw[1] * room)))
    return clips.loader.gather(pairs).to("cpu").future


def _law_of(source: Source) -> Any:
    """What the generator of these data knows of their futures, if anything: (clip, context) -> Law or None."""
    name = source.meta().get("generator")
    return getattr(find_source(name), "outcome_distribution", None) if name in SOURCES else None


def _law_at(law: Any, source: Source, clips: Clips, number: int) -> OutcomeDistribution | None:
    video, start = clips.pairs[number]
    request = clips.loader.request
    found: OutcomeDistribution | None = law(source.clip(video, start, request.length), request.context)
    return found


class ObjectFinder:
    """Which things a forecast still shows, and how far from their true place.

    things: what is looked for.  frames: of the horizon, over which means are taken.  horizon: of the table.
    """

    def __init__(self, things: Things, frames: Sequence[int], horizon: int) -> None:
        self.things, self.common, self.horizon = things, tuple(frames), horizon
        self.names = [thing.name for thing in things.things]
        self.rows: dict[str, tuple[tuple[int, ...], ObjectTally]] = {}
        self.means: dict[str, ObjectTally] = {}
        self._seen: tuple[Any, Found, Tensor] | None = None

    def measure(
        self, entrant: Forecaster, prediction: Tensor, truth: Tensor, batch: Batch, numbers: Sequence[int]
    ) -> dict[str, Tensor]:
        """metric -> float64 (b, frames, things), of several samples the mean."""
        key = (tuple(numbers), entrant.frames)
        if self._seen is None or self._seen[0] != key:
            found = find(truth, self.things)
            self._seen = (key, found, true_places(self.things, self._arrays(entrant, batch), found))
        _, real, places = self._seen
        judged = judge(find(prediction, self.things), real, places, self.things)
        return {name: values.nanmean(0).cpu() for name, values in judged.items()}

    def _arrays(self, entrant: Forecaster, batch: Batch) -> dict[str, Tensor]:
        """Per-frame arrays at the entrant's frames."""
        first, frames = batch.context.shape[1] - 1, entrant.frames or range(1, self.horizon + 1)
        at = [first + k for k in frames]
        return {name: batch.extras[name][:, at] for name in self.things.arrays if name in batch.extras}

    def take(self, entrant: Forecaster, found: Mapping[str, Tensor], groups: Sequence[Hashable] | None) -> None:
        """Tally one batch of one row."""
        frames = entrant.frames or tuple(range(1, self.horizon + 1))
        if entrant.name not in self.rows:
            self.rows[entrant.name] = (frames, ObjectTally(self.names, len(frames)))
            self.means[entrant.name] = ObjectTally(self.names, 1)
        self.rows[entrant.name][1].add(found, groups)
        at = [frames.index(k) for k in self.common]
        # over the horizon first: a clip counts once, however often a thing comes and goes in it
        whole = {m: horizon_mean(v[:, at].transpose(1, 2))[:, None] for m, v in found.items()}
        self.means[entrant.name].add(whole, groups)

    def to_json(self) -> dict[str, Any]:
        """What is looked for; row -> metric -> thing -> curve, and mean over the common frames."""
        curves = {
            row: {
                m: {n: s.spread(frames, self.horizon).to_json() for n, s in t.items()}
                for m, t in tally.series().items()
            }
            for row, (frames, tally) in self.rows.items()
        }
        means = {
            row: {m: {n: number(s) for n, s in t.items()} for m, t in tally.series().items()}
            for row, tally in self.means.items()
        }
        return {"things": write_things(self.things), "metrics": OBJECT_METRICS, "rows": curves, "means": means}


@dataclass(frozen=True, kw_only=True)
class SetMetric:
    """A distance of sets of clips. features: (b, t, c, h, w) -> (b, n).  distance: (made, real, groups, scale) ->
    number.  floor: (real, other, groups, scale) -> (number, what 95 % stay below, or None).  about: settings."""

    name: str
    features: Callable[[Tensor], Tensor]
    distance: Callable[[Tensor, Tensor, Sequence[Hashable] | None, Tensor], float]
    floor: Callable[[Tensor, Tensor, Sequence[Hashable] | None, Tensor], tuple[float, float | None]]
    about: Mapping[str, Any]


_MMD = SetMetric(
    name="rf-mmd",
    features=random_features,
    distance=mmd,
    floor=mmd_floor,
    about={"frames": mmd_frames, "context": False, "features": "see framecast/metrics/features.py"},
)


def _fvd_metric(fvd: FVD) -> SetMetric:
    return SetMetric(
        name="fvd",
        features=fvd.features,
        distance=lambda made, real, groups, scale: frechet(made, real),
        floor=lambda real, other, groups, scale: (frechet(other, real), None),
        about={"frames": fvd_frames, "context": False, "sha256": fvd.weights.sha256},
    )


class SetFinder:
    """How far the clips of a row, taken together, are from real ones; of several samples the first.

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
        self._seen: tuple[Sequence[int], dict[Any, tuple[Tensor, Tensor]]] = ((), {})

    def measure(
        self, entrant: Forecaster, prediction: Tensor, truth: Tensor, batch: Batch, numbers: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features of forecasts, truths and further real clips."""
        if tuple(self._seen[0]) != tuple(numbers):
            self._seen = (tuple(numbers), {})
        known = self._seen[1]
        if entrant.frames not in known:
            other = self.others(numbers)
            other = other if entrant.frames is None else other[:, [k - 1 for k in entrant.frames]]
            known[entrant.frames] = (self.metric.features(truth), self.metric.features(other.to(truth.device)))
        return (self.metric.features(prediction[0]), *known[entrant.frames])

    def take(
        self, entrant: Forecaster, found: tuple[Tensor, Tensor, Tensor], groups: Sequence[Hashable] | None
    ) -> None:
        """Keep the features: a few hundred numbers a clip."""
        made, real, other = found
        self._first = self._first or entrant.name
        if entrant.name == self._first:
            self.groups = None if groups is None or self.groups is None else [*self.groups, *groups]
        self.made.setdefault(entrant.name, []).append(made)
        self.frames[entrant.name] = entrant.frames
        kept = sum(map(len, self.made[entrant.name]))
        if sum(map(len, self.real.get(entrant.frames, []))) < kept:
            self.real.setdefault(entrant.frames, []).append(real)
            self.further.setdefault(entrant.frames, []).append(other)

    def to_json(self) -> dict[str, Any] | None:
        """Row -> distance, with n and what real clips score against real ones; None with fewer than 2 clips."""
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


class CalibrationFinder:
    """Whether samples show what can happen as often as it does. laws: (number of a clip) -> its law, or None."""

    def __init__(self, laws: Callable[[int], OutcomeDistribution | None]) -> None:
        self.laws = laws
        self.rows: dict[str, CalibrationTally] = {}

    def measure(
        self, entrant: Forecaster, prediction: Tensor, truth: Tensor, batch: Batch, numbers: Sequence[int]
    ) -> list[Told | None]:
        """What every clip's samples show; None without a law, or where not every frame is forecast."""
        if entrant.frames is not None and entrant.frames != tuple(range(1, len(entrant.frames) + 1)):
            return [None] * len(numbers)
        out: list[Told | None] = []
        for i, clip in enumerate(numbers):
            law = self.laws(clip)
            out.append(None if law is None else tell(law, [to_uint8(sample) for sample in prediction[:, i]]))
        return out

    def take(self, entrant: Forecaster, found: Sequence[Told | None], groups: Sequence[Hashable] | None) -> None:
        """Tally one batch of one row."""
        for i, told in enumerate(found):
            if told is not None:
                row = self.rows.setdefault(entrant.name, CalibrationTally())
                row.add(told, None if groups is None else groups[i])

    def to_json(self) -> dict[str, Any] | None:
        """Row -> frequencies beside probabilities, distance and its floor; None where no clip has a law."""
        out: dict[str, Any] = {}
        for name, tally in self.rows.items():
            out[name] = {
                key: {k: number(s) for k, s in value.items()} if isinstance(value, dict) else number(value)
                for key, value in tally.series().items()
            }
        return out or None
