"""Forecast of a video without a run: packaged weights, tested on the video's own past and, on request, adapted to it.

The test is a rolling-origin evaluation: forecasts are made from earlier moments of the same video and compared with
what the video shows next. The forecaster with the smallest squared error makes the forecast.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from framecast.core.config import parse_duration
from framecast.core.errors import UserError
from framecast.core.types import Clip, ClipSpec
from framecast.data.base import Segment, clip_stop
from framecast.inference.predict import Written, predict_file, read_past
from framecast.media.cuts import find_cuts
from framecast.models import DEFAULT_RUN, UNTRAINED
from framecast.models.base import Predictor
from framecast.models.registry import find_model
from framecast.models.rollout import rollout
from framecast.nn.shrinkage import change_sums, shrinkage, shrunk_errors
from framecast.training.config import RunConfig, short_run
from framecast.training.run_folder import Run, open_run

#: Earlier moments from which forecasts are made for the test.
ORIGINS = 8
#: Frames of the past that are used at most, and their shorter side in px: enough for a test, and small.
PAST, SIDE = 2000, 128


@dataclass(frozen=True)
class Backtest:
    """Result of a test on a video's own past.

    Attributes:
        skill: skill over copy-last of every forecaster, whole frames, pooled over origins and lead times.
        origins: number of forecasts.
        horizon: frames of each.
        chosen: name of the forecaster with the smallest error; the model where nothing could be tested.
        shares: share of its change from the last frame that is to be kept at each lead time, of every forecaster whose
            skill is that with them; each forecast of the test was scaled by the shares of the others.
    """

    skill: Mapping[str, float]
    origins: int
    horizon: int
    chosen: str
    shares: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def sentence(self, model: str) -> str:
        """The result in one sentence."""
        if not self.origins:
            return f"{model} could not be tested on this video: too few frames come before the forecast"
        shown = ", ".join(f"{name} {value:+.2f}" for name, value in self.skill.items() if name != "copy-last")
        tested = f"tested on {self.origins} earlier moments, {self.horizon} frames each: skill over copy-last {shown}"
        return tested if self.chosen == model else f"{tested}; {self.chosen} was best and makes the forecast"


class Past:
    """The frames of one video before the forecast, as a source for training.

    Args:
        frames: uint8 (t, c, h, w).
        fps: frames per second.
        train: number of first frames for training; the others are never trained on.
    """

    def __init__(self, frames: np.ndarray, fps: float, train: int) -> None:
        self.frames, self.train = frames, train
        _, c, h, w = frames.shape
        self.spec = ClipSpec(channels=c, height=h, width=w, fps=fps)
        self.names, self.lengths = ["past"], [len(frames)]

    def __len__(self) -> int:
        return 1

    def clip(self, index: int, start: int, length: int, stride: int = 1) -> Clip:
        """Frames start, start + stride, … of the past."""
        stop = clip_stop("past", len(self.frames), start, length, stride)
        return Clip(frames=self.frames[start:stop:stride], name="past", fps=self.spec.fps / stride)

    def splits(self, window: int) -> dict[str, list[Segment]]:
        """The first `train` frames train, their end also watches the training; the others are the test."""
        return {
            "train": [Segment(0, 0, self.train)],
            "val": [Segment(0, max(self.train - window, 0), self.train)],
            "test": [Segment(0, self.train, len(self.frames))],
        }

    def meta(self) -> dict[str, Any]:
        """Nothing more is known."""
        return {}


def forecast_file(
    source: str | Path,
    out: str | Path,
    horizon: int,
    *,
    at: str = "end",
    adapt: str | None = None,
    axes: str | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    say: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> tuple[Written, Backtest]:
    """Forecast of a video by the packaged weights, or by a baseline where that was better on the video's past.

    Args:
        source: as for `predict_file`.
        out: as for `predict_file`.
        horizon: number of predicted frames.
        at: as for `predict_file`.
        adapt: training time on the video's past first, such as "60s"; frames of the test are not trained on.
        axes: as for `predict_file`.
        device: torch device.
        precision: autocast precision.
        say: receives one line per step of the work.
        options: further arguments of `predict_file`.

    Raises:
        UserError: the file cannot be read, or is too short to adapt to.
    """
    run = open_run(DEFAULT_RUN)
    past, fps = read_past(Path(source), at, SIDE, PAST, run.config.spec.channels, axes)
    if cut := max(find_cuts(past), default=0):
        past = past[cut:]
        say(f"a cut lies {len(past)} frames before the forecast: only these are used")
    with tempfile.TemporaryDirectory(prefix="framecast-") as folder:
        runs: dict[str, Run] = {DEFAULT_RUN: run}
        first = 0
        if adapt is not None:
            budget, first = parse_duration(adapt), _first_tested(len(past), run.config.model.context, horizon)
            say(f"training on the first {first} frames for {adapt} …")
            runs = {"adapted": adapted(run, past[:first], fps, budget, horizon, Path(folder) / "run", device), **runs}
        models = {name: one.model(device) for name, one in runs.items()}
        test = backtest(models, past, horizon, first, precision)
        main = next(iter(runs))
        say(test.sentence(main))
        chosen = runs.get(test.chosen) or baseline_run(test.chosen, run)
        options |= {"at": at, "axes": axes, "device": device, "precision": precision}
        options["shares"] = test.shares.get(test.chosen)
        written = predict_file(chosen, source, out, horizon, **options)
    return written, test


def _first_tested(frames: int, context: int, horizon: int) -> int:
    """Number of frames to train on: four fifths of the past, less where the test would be shorter than one forecast."""
    first = min(frames * 4 // 5, max(frames - 1 - min(horizon, 8), 0))
    if first < context + 8:
        raise UserError(
            f"the video has {frames} frames before the forecast, too few to adapt to; expected at least "
            f"{(context + 8) * 5 // 4 + 2}, or leave out --adapt"
        )
    return first


def adapted(
    run: Run,
    past: np.ndarray,
    fps: float,
    budget: float,
    horizon: int,
    folder: Path,
    device: str,
    clock: Literal["wall", "cpu"] = "wall",
) -> Run:
    """The run trained further on a video's past.

    Args:
        run: initial weights.
        past: uint8 (t, c, h, w).
        fps: frames per second.
        budget: seconds of training.
        horizon: frames that will be predicted; longer lead times are not trained.
        folder: for the new run.
        device: torch device.
        clock: what `budget` counts: "wall", or "cpu" for processor time.
    """
    from framecast.training.train import train

    model = run.config.model.fine_tuning(horizon)
    settings = short_run(run.config.train, f"{budget:g}s")
    settings = dataclasses.replace(settings, clock=clock, tensorboard=False, batch_size=8)
    whole = RunConfig(name=run.config.name, profile=run.config.profile, model=model, train=settings)
    source = Past(past, fps, len(past))
    made = train(run.model_class, source, out=folder, config=whole, init_from=run.folder, device=device, quiet=True)
    return open_run(made, run.model_class)


def baseline_run(name: str, like: Run) -> Run:
    """A baseline as a run: it has no weights."""
    model_class = find_model(name)
    config = RunConfig(name=name, model=model_class.Config(), train=like.config.train, spec=like.config.spec)
    return Run(like.folder, config, model_class, name=name, own=False)


@torch.no_grad()
def backtest(
    models: Mapping[str, Predictor], past: np.ndarray, horizon: int, first: int = 0, precision: str = "fp32"
) -> Backtest:
    """Test of models and baselines on the past of a video.

    Args:
        models: by name; the first is used where nothing can be tested.
        past: uint8 (t, c, h, w).
        horizon: frames of the forecast that is wanted; the test has at most half the past.
        first: first frame that forecasts of the test may show.
        precision: autocast precision.
    """
    main = next(iter(models.values()))
    everyone = {**models, **{name: made for name in UNTRAINED if (made := _baseline(name, main.spec)) is not None}}
    least = max(first, min(main.num_context, len(past) // 2), *(model.min_context for model in everyone.values()))
    length = min(horizon, max(len(past) - least, 0), max(len(past) // 2, 1))
    if length < 1 or len(past) - least < length:
        return Backtest({}, 0, 0, next(iter(models)))
    places = np.unique(np.linspace(least, len(past) - length, ORIGINS).round().astype(int)).tolist()
    errors, shares = {}, {}
    for name, model in everyone.items():
        sums = _sums(model, past, places, length, precision)
        both, own, true = sums
        errors[name] = float((own - 2 * both + true).sum())
        if getattr(model, "shares", None) is not None and float(shrunk_errors(sums).sum()) < errors[name]:
            errors[name], shares[name] = float(shrunk_errors(sums).sum()), shrinkage(sums).tolist()
    reference = errors["copy-last"]
    skill = {name: 1 - value / reference if reference else float(value == 0) for name, value in errors.items()}
    return Backtest(skill, len(places), length, min(errors, key=lambda name: errors[name]), shares)


def _sums(model: Predictor, past: np.ndarray, places: Sequence[int], length: int, precision: str) -> torch.Tensor:
    """`change_sums` of the forecasts from several places, (3, places, length)."""
    found = []
    for place in places:
        context = torch.from_numpy(past[max(place - model.num_context, 0) : place])[None]
        forecast = rollout(model, context, length, precision=precision)[0].cpu()
        truth = torch.from_numpy(past[place : place + length]).float()[None] / 255
        found.append(change_sums(forecast, truth, context[:, -1:].float() / 255))
    return torch.cat(found, 1)


def _baseline(name: str, spec: ClipSpec) -> Predictor | None:
    """A baseline; None where its extra is not installed."""
    model_class = find_model(name)
    try:
        return model_class(model_class.Config(), spec).eval()
    except UserError:
        return None
