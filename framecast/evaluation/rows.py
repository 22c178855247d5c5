"""Rows of a comparison, aligned to the same clips: runs, baselines, and folders of forecasts from other programs.

Rules of the alignment (docs/compare.md):

- Size. A model of a fixed frame size gets frames resized to it (triangle filter, aspect not kept), and its forecast
  is resized back before scoring. All others get the compared frames.
- Context. Every context ends at the same frame of the video, whatever its length and stride.
- Horizon. It counts frames of the video. A model of stride k forecasts, and is scored at, frames k, 2k, ….
- Samples. A stochastic model draws a clip's futures from a generator of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from framecast.core.errors import UserError
from framecast.core.memory import release_memory
from framecast.core.types import ActionSpec, Batch, ClipRequest
from framecast.data.base import Segment, Source
from framecast.data.digest import data_digest, same_content
from framecast.data.loader import Loader
from framecast.evaluation.baselines import baselines
from framecast.evaluation.clips import split_segments
from framecast.evaluation.external import Forecasts
from framecast.evaluation.score_table import Forecast, Forecaster
from framecast.evaluation.scorer import forecast, roll_for
from framecast.metrics.scores import BASELINES
from framecast.models.base import Predictor, count_parameters
from framecast.training.run_folder import Run

#: Clips as (video, last frame of the context).
Places = Sequence[tuple[int, int]]


@dataclass
class Cost:
    """Time and memory of forecasting; the first call is left out of the speed if there are more.

    Attributes:
        calls: Number of calls.
        seconds: Of all calls but the first.
        frames: Of all samples, of all calls but the first.
        first: Seconds and frames of the first call.
        memory_mb: Peak memory of the first call, MB.
    """

    calls: int = 0
    seconds: float = 0.0
    frames: int = 0
    first: tuple[float, int] = (0.0, 0)
    memory_mb: float | None = None

    def add(self, seconds: float, frames: int) -> None:
        """Count one call."""
        if self.calls == 0:
            self.first = (seconds, frames)
        else:
            self.seconds, self.frames = self.seconds + seconds, self.frames + frames
        self.calls += 1

    @classmethod
    def together(cls, parts: Sequence[Cost]) -> Cost:
        """Cost of several processes: all calls, and the largest memory; the speed is that of one process."""
        memory = [p.memory_mb for p in parts if p.memory_mb is not None]
        return cls(
            calls=sum(p.calls for p in parts),
            seconds=sum(p.seconds for p in parts),
            frames=sum(p.frames for p in parts),
            first=(sum(p.first[0] for p in parts), sum(p.first[1] for p in parts)),
            memory_mb=max(memory, default=None),
        )

    @property
    def frames_per_second(self) -> float | None:
        """Forecast frames per second; None without computation."""
        seconds, frames = (self.seconds, self.frames) if self.frames else self.first
        return frames / seconds if seconds > 0 else None


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One row of a comparison.

    Attributes:
        name: In the table.
        stride: Source frames per frame.
        reach: Source frames that its context spans.
        window: Source frames of a training clip, which decide where splits cut a video; None without training.
        enter: (places of all clips, horizon) -> the row of a table.
        card: Description, plain values.
        cost: Measured while it forecasts.
    """

    name: str
    stride: int
    reach: int
    window: int | None
    enter: Callable[[Places, int], Forecaster]
    card: Mapping[str, Any]
    cost: Cost = field(default_factory=Cost)


def of_run(
    name: str,
    run: Run,
    source: Source,
    size: tuple[int, int],
    samples: int,
    seed: int,
    place: torch.device,
    precision: str,
) -> ComparisonRow:
    """A run as a row.

    Args:
        name: In the table.
        run: The run.
        source: Data.
        size: (h, w) of the compared frames.
        samples: Futures per clip, if the model is stochastic.
        seed: Random seed of the samples.
        place: Device.
        precision: Autocast precision.
    """
    model = run.model(str(place))
    request = run.model_class.request(run.config.model)
    cost = Cost()
    own = run.frame_size or size
    request = dataclasses.replace(request, resize=run.frame_size)
    drawn = samples if model.stochastic else 1
    roll = roll_for(run, precision)

    def enter(places: Places, horizon: int) -> Forecaster:
        frames = tuple(range(request.stride, horizon + 1, request.stride))
        clips = _own_clips(source, request, model, len(frames), places, run.config.spec.actions)

        def forecasts(_: Batch, numbers: Sequence[int]) -> Tensor:
            batch = clips(numbers).to(place)
            made = measured(lambda: forecast(model, len(frames), drawn, seed, roll, batch, numbers), cost, place)
            return _sized(made, size)

        return Forecaster(name=name, forecast=forecasts, samples=drawn, frames=frames)

    steps, seconds = run.trained
    counts = count_parameters(model)
    card = {
        "kind": "run",
        "model": run.config.name,
        "profile": run.config.profile,
        "context": model.num_context,
        "stride": request.stride,
        "input": list(own),
        "samples": drawn,
        "stochastic": model.stochastic,
        "actions": model.actions != "none" and source.spec.actions is not None,
        "trained_on": Path(run.config.data.path).name or None,
        "trained_on_these_data": same_content(run.config.data.digest, data_digest(source)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "parameters_by_part": counts,
        "training_steps": steps,
        "training_seconds": seconds,
    }
    return ComparisonRow(
        name=name,
        stride=request.stride,
        reach=(model.num_context - 1) * request.stride + 1,
        window=request.source_length,
        enter=enter,
        card=card,
        cost=cost,
    )


def of_folder(name: str, forecasts: Forecasts, samples: int) -> ComparisonRow:
    """A folder of forecasts as a row."""
    about = forecasts.predictor
    drawn = min(samples, forecasts.samples)
    card: dict[str, Any] = {
        "kind": "folder",
        "model": about.name,
        "profile": None,
        "context": forecasts.manifest.context,
        "stride": forecasts.stride,
        "input": [forecasts.manifest.height, forecasts.manifest.width],
        "samples": drawn,
        "stochastic": forecasts.samples > 1,
        "actions": None,
        "trained_on": None,
        "trained_on_these_data": None,
        "parameters": about.parameters,
        "parameters_by_part": {},
        "training_steps": about.training_steps,
        "training_seconds": about.training_seconds,
    }
    return ComparisonRow(
        name=name,
        stride=forecasts.stride,
        reach=forecasts.manifest.context,
        window=None,
        enter=lambda _, horizon: forecasts.forecaster(name, horizon, samples),
        card=card,
    )


def of_baselines(source: Source, context: int, place: torch.device) -> list[ComparisonRow]:
    """The baselines that can be computed, which use the whole context of the clips."""
    found = []
    for name, model in baselines(source.spec, context).items():
        cost = Cost()
        found.append(
            ComparisonRow(
                name=name,
                stride=1,
                reach=context,
                window=None,
                enter=functools.partial(_baseline, name, model, cost, place),
                card={
                    "kind": "baseline",
                    "model": name,
                    "profile": "default",
                    "context": context,
                    "stride": 1,
                    "input": [source.spec.height, source.spec.width],
                    "samples": 1,
                    "stochastic": False,
                    "actions": False,
                    "trained_on": None,
                    "trained_on_these_data": None,
                    "parameters": 0,
                    "parameters_by_part": {},
                    "training_steps": 0,
                    "training_seconds": 0.0,
                },
                cost=cost,
            )
        )
    return found


def _baseline(name: str, model: Predictor, cost: Cost, place: torch.device, _: Places, horizon: int) -> Forecaster:
    def forecasts(batch: Batch, numbers: Sequence[int]) -> Tensor:
        return measured(lambda: model.predict(batch.context, horizon), cost, place)

    return Forecaster(name=name, forecast=forecasts)


def _own_clips(
    source: Source,
    request: ClipRequest,
    model: Predictor,
    frames: int,
    places: Places,
    actions: ActionSpec | None,
) -> Callable[[Sequence[int]], Batch]:
    """Loader of the model's contexts, which end at the common frame, and of the actions of its forecast."""
    led = model.actions != "none" and source.spec.actions is not None
    # Without actions no future is read: the truth is the table's, at its size.
    own = request.consecutive(model.num_context, frames if led else 0)
    whole = [Segment(i, 0, int(n)) for i, n in enumerate(source.lengths)]
    loader = Loader(source, whole, own, 1, actions=actions if led else None)
    before = (model.num_context - 1) * request.stride

    def clips(numbers: Sequence[int]) -> Batch:
        return loader.gather([(places[i][0], places[i][1] - before) for i in numbers])

    return clips


def _sized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """(s, b, t, c, h, w) resized to `size` by the same triangle filter as the data."""
    if tuple(frames.shape[-2:]) == size:
        return frames
    lead = frames.shape[:-3]
    flat = frames.reshape(-1, *frames.shape[-3:]).float()
    return interpolate(flat, size=size, mode="bilinear", antialias=True).clamp_(0, 1).reshape(*lead, -1, *size)


# ------------------------------------------------------------------------------------------------------------ costs


def measured(work: Forecast | Callable[[], Tensor], cost: Cost, place: torch.device) -> Tensor:
    """Result of `work`; its time, and of the first call its memory, are added to `cost`."""
    if cost.calls:
        return _timed(work, cost, place)
    if place.type == "cuda":
        before = torch.cuda.memory_allocated(place)
        torch.cuda.reset_peak_memory_stats(place)
        made = _timed(work, cost, place)
        cost.memory_mb = (torch.cuda.max_memory_allocated(place) - before) / 1e6
        return made
    with _Growth() as growth:
        made = _timed(work, cost, place)
    cost.memory_mb = growth.mb
    return made


def _timed(work: Any, cost: Cost, place: torch.device) -> Tensor:
    if place.type == "cuda":
        torch.cuda.synchronize(place)
    began = time.perf_counter()
    made: Tensor = work()
    if place.type == "cuda":
        torch.cuda.synchronize(place)
    cost.add(time.perf_counter() - began, made.shape[0] * made.shape[1] * made.shape[2])
    return made


class _Growth:
    """Context manager that measures the growth of the process's resident memory every 2 ms: `mb`."""

    def __enter__(self) -> _Growth:
        release_memory()
        self._process, self._done = psutil.Process(), threading.Event()
        self._before = self._highest = self._process.memory_info().rss
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self._highest = max(self._highest, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()
        self.mb = (max(self._highest, self._process.memory_info().rss) - self._before) / 1e6


def common_frames(forecasters: Sequence[Forecaster], horizon: int) -> tuple[int, ...]:
    """Frames of the horizon that every row forecasts.

    Raises:
        UserError: There is none.
    """
    frames = set(range(1, horizon + 1))
    for forecaster in forecasters:
        frames &= set(forecaster.frames if forecaster.frames is not None else frames)
    if not frames:
        strides = sorted({e.frames[0] if e.frames else horizon + 1 for e in forecasters if e.frames is not None})
        raise UserError(
            f"the rows share no frame of a horizon of {horizon}: their strides are {', '.join(map(str, strides))}; "
            f"use --horizon {math.lcm(*strides)} or more"
        )
    return tuple(sorted(frames))


def alignment_rules(
    rows: Sequence[ComparisonRow], frames: Sequence[int], horizon: int, shape: tuple[int, int]
) -> tuple[str, ...]:
    """Alignment of the rows to the same clips, as far as it applies here."""
    rules = ["Every context ends at the same frame of the video."]
    resized = [c.name for c in rows if tuple(c.card["input"]) != shape]
    if resized:
        rules.append(
            f"{', '.join(resized)}: input frames resized, forecasts resized back to {shape[0]}x{shape[1]} before "
            "scoring."
        )
    strided = [f"{c.name} forecasts one in {c.stride}" for c in rows if c.stride > 1]
    if strided:
        rules.append(
            f"The horizon counts frames of the video; {', '.join(strided)}. Means and differences are over the "
            f"{len(frames)} of {horizon} frames that all rows forecast."
        )
    drawn = [c.name for c in rows if c.card["samples"] > 1]
    if drawn:
        rules.append(
            f"{', '.join(drawn)}: the best of their samples per clip and metric; mean and worst are listed too."
        )
    return tuple(rules)


def labels(names: Sequence[str]) -> list[str]:
    """Unique row names from the user's arguments: NAME of NAME=RUN, or the last part of a path.

    Raises:
        UserError: When a name is given twice.
    """
    given = [split_label(name) for name in names]
    taken, out = set(BASELINES), []
    explicit = [label for label, _ in given if label]
    if doubled := [label for label in explicit if explicit.count(label) > 1 or label in taken]:
        raise UserError(f"{doubled[0]}: is the name of two rows; use unique names, e.g. first=RUN second=RUN")
    taken |= set(explicit)
    for label, path in given:
        if label is None:
            plain = path.rstrip("/").rsplit("/", 1)[-1] or path
            label, count = plain, 2
            while label in taken:
                label, count = f"{plain}-{count}", count + 1
        taken.add(label)
        out.append(label)
    return out


def split_label(name: str) -> tuple[str | None, str]:
    """(label or None, path) of an argument: "plain=runs/a" is a label and a path, an existing path has no label."""
    label, sign, path = name.partition("=")
    if not sign or not label or not path or Path(name).expanduser().exists():
        return None, name
    return label, path


def split_windows(source: Source, rows: Sequence[ComparisonRow], split: str) -> list[int]:
    """Source frames of training clips that decide where a split cuts the videos; [] if none does.

    They are those of all trained rows. Where the videos are too short for that, runs that were trained on other data
    are left out, since none of these frames were used to train them.

    Raises:
        UserError: the videos are too short even so.
    """
    trained = [(row.window, row.card["trained_on_these_data"]) for row in rows if row.window is not None]
    windows = [window for window, _ in trained]
    own = [window for window, here in trained if here]
    if windows and len(own) < len(windows):
        try:
            split_segments(source, split, windows)
        except UserError:
            return own
    return windows
