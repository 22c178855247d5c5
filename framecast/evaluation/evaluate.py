"""`evaluate`: scores of a run on held-out clips, and its worst, median and best clip."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

import framecast
from framecast.core.errors import UserError
from framecast.core.remote import is_address
from framecast.core.types import ClipRequest, ClipSpec
from framecast.data import SOURCES
from framecast.data.base import Segment, Source
from framecast.data.cache import open_data
from framecast.data.digest import data_digest, same_data
from framecast.data.options import DataConfig
from framecast.evaluation.baselines import baselines, missing_baselines
from framecast.evaluation.clips import Clips, check_fit, held_out_clips, refuse_trained, rule_of
from framecast.evaluation.intervals import IntervalCoverage
from framecast.evaluation.limits import training_limits
from framecast.evaluation.motion import SAMPLES, knows_scenes, motions_of_model
from framecast.evaluation.objects import object_finder
from framecast.evaluation.scorer import KeptClip, roll_for, score
from framecast.metrics.clips import MetricSettings
from framecast.metrics.scores import Protocol, Scores
from framecast.models.base import Predictor
from framecast.nn.precision import resolve_precision
from framecast.training.device import pick_device
from framecast.training.run_folder import Run, open_run


def evaluate(
    run: str | Path | Run,
    data: str | Path | Source | None = None,
    *,
    split: str = "test",
    context: int | None = None,
    horizon: int | None = None,
    samples: int = 1,
    clips: int = 32,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    save: bool = True,
    out: str | Path | None = None,
    batch_size: int = 8,
    model_class: type[Predictor] | None = None,
    quiet: bool = True,
) -> tuple[Scores, list[KeptClip]]:
    """Scores of a run beside the baselines, and the clips to display.

    Args:
        run: Folder, packaged weights or hf:// name.
        data: A path, a source's name or a Source; None is the training data. Where the source provides its scenes, the
            motions that a stochastic model samples are measured too, with at least 20 samples of each clip.
        split: train, val, test, a part of one such as test/novel, or all for data that the run was not trained on.
        context: Frames before the forecast, at least the model's; more moves the forecast later in the clip.
        horizon: Frames to predict; None is 64, or half of what the longest held-out video leaves.
        samples: Futures per clip of a stochastic model.
        clips: Maximum number of clips, spread over the split.
        seed: Random seed for clip selection and sampling.
        device: Device to compute on.
        precision: Autocast precision.
        save: Write scores.json.
        out: Folder of scores.json; None is the run's own, for packaged and downloaded weights ./NAME-results.
        batch_size: Clips predicted at once; the scores do not depend on it.
        model_class: The run's model, where it is not one of the registry.
        quiet: Unused; accepted for symmetry with `train`.

    Raises:
        UserError: When the data cannot provide such clips, or the model cannot take them.
    """
    run = run if isinstance(run, Run) else open_run(run, model_class)
    if min(n for n in (samples, clips, batch_size, horizon, context) if n is not None) < 1:
        raise UserError("--context, --horizon, --samples and --clips must be at least 1")
    source = open_source(run, data)
    check_fit(run, source, str(run.config.data.path if data is None else getattr(data, "folder", data)))
    place = pick_device(device)
    precision = resolve_precision(precision, place)
    model = run.model(str(place))
    request = run.model_class.request(run.config.model)
    refuse_trained(run, source, split)
    seen = _context(model, context)
    chosen = held_out_clips(source, request, split, seen, horizon, clips, seed, run.config.spec.actions)
    chosen.size = batch_size
    given = run.config.data.path if data is None else getattr(data, "folder", data)
    name = Path(given).name if isinstance(given, str | Path) else ""
    name = name or "data"
    drawn = samples if model.stochastic else 1
    protocol = _protocol(name, source, request, split, chosen, seen, drawn, seed, place, precision)
    predictors = {run.config.name: model, **baselines(frame_spec(source, request), model.num_context, seen)}
    roll = roll_for(run, precision)
    frames = range(1, protocol.horizon + 1)
    finder = (
        object_finder(source, chosen, frames, protocol.horizon) if request.stride == 1 and not request.resize else None
    )
    coverage = IntervalCoverage(run.config.name, model)
    scores, kept = score(
        predictors,
        chosen,
        protocol,
        roll=roll,
        names=chosen.names,
        groups=chosen.groups,
        device=place,
        limits=training_limits(source, split, [request.source_length], (protocol.height, protocol.width)),
        missing=missing_baselines(seen),
        extras=[coverage, *([] if finder is None else [finder])],
    )
    scores = dataclasses.replace(scores, intervals=coverage.to_json())
    if finder is not None:
        scores = dataclasses.replace(scores, objects=finder.to_json())
    if model.stochastic and knows_scenes(source):
        pairs = [Segment(video, start, start + 1) for video, start in chosen.pairs]
        motions = motions_of_model(model, source, pairs, max(samples, SAMPLES), seed, place)
        scores = dataclasses.replace(scores, motions=motions)
    if save:
        _save(scores, Path(out) if out is not None else run.results)
    return scores, kept


def _context(model: Predictor, context: int | None) -> int:
    """Number of context frames, at least the model's."""
    if context is not None and context < model.num_context:
        raise UserError(f"--context {context}: the model needs {model.num_context} frames; use at least that many")
    return context or model.num_context


def _save(scores: Scores, folder: Path) -> None:
    """Write scores.json."""
    if folder.is_file():
        raise UserError(f"{folder}: is a file; --out must be a folder")
    scores.save(folder / "scores.json")


def _protocol(
    name: str,
    source: Source,
    request: ClipRequest,
    split: str,
    chosen: Clips,
    context: int,
    samples: int,
    seed: int,
    place: torch.device,
    precision: str,
) -> Protocol:
    """Conditions of an evaluation."""
    spec = frame_spec(source, request)
    return Protocol(
        data=name,
        data_digest=data_digest(source),
        split=split,
        split_rule=rule_of(source, request, split),
        clips=len(chosen.pairs),
        videos=len(set(chosen.groups)),
        context=context,
        horizon=chosen.loader.request.future,
        stride=request.stride,
        samples=samples,
        height=spec.height,
        width=spec.width,
        channels=spec.channels,
        fps=spec.fps / request.stride,
        metrics=MetricSettings().describe(),
        seed=seed,
        code_version=framecast.__version__,
        device=place.type,
        precision=precision,
    )


def frame_spec(source: Source, request: ClipRequest) -> ClipSpec:
    """Specification of the compared frames: the source's, at the model's size if it has one."""
    if request.resize is None:
        return source.spec
    return dataclasses.replace(source.spec, height=request.resize[0], width=request.resize[1])


def open_source(run: Run, data: str | Path | Source | None) -> Source:
    """The data to score a run on, at the frame size of its training.

    Args:
        run: The run.
        data: A path, a source's name or a Source; None is the training data.

    Raises:
        UserError: The data do not exist, cannot be read, or are the run's own and have changed.
    """
    trained = run.config.data
    if data is None:
        here = is_address(trained.path) or Path(trained.path).expanduser().exists()
        if not trained.path or not (here or trained.path in SOURCES):
            raise UserError(f"{run.folder}: its training data ({trained.path!r}) do not exist here; use --data PATH")
        source, _ = open_data(trained)
        if trained.digest and not same_data(trained.digest, data_digest(source)):
            raise UserError(
                f"{trained.path}: has changed since {run.folder} was trained on it, so the held-out clips may differ; "
                f"use --data {trained.path} to score on it as it is"
            )
        return source
    if isinstance(data, str | Path):
        config = DataConfig(
            path=str(data),
            size=trained.size or trained.trained_size,
            fit=trained.fit,
            axes=trained.axes,
            records=trained.records,
        )
        source, _ = open_data(config)
        own = None if run.model_class.request(run.config.model).resize else run.frame_size
        if own is not None and (source.spec.height, source.spec.width) != own:
            source, _ = open_data(dataclasses.replace(config, size=f"{own[0]}x{own[1]}"))
        return source
    return data
