"""`evaluate`: scores of a run on held-out clips, and its worst, median and best clip.

The clips are measured here or by the nodes of a Ray cluster (`distributed.py`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

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
from framecast.evaluation.distributed import Ready, class_name, measure_on_cluster, path_of
from framecast.evaluation.intervals import IntervalCoverage
from framecast.evaluation.limits import training_limits
from framecast.evaluation.motion import SAMPLES, knows_scenes, motions_of_model
from framecast.evaluation.objects import ObjectFinder, object_finder
from framecast.evaluation.scorer import KeptClip, make_table, measure_windows, roll_for, worst_median_best
from framecast.metrics.clips import MetricSettings
from framecast.metrics.scores import Protocol, Scores
from framecast.models.base import Predictor
from framecast.models.registry import find_model
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
    model_class: type[Predictor] | str | None = None,
    quiet: bool = True,
    cluster: str | None = None,
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
        model_class: The run's model, where it is not one of the registry, or path/to/mine.py:Mine.
        quiet: Unused; accepted for symmetry with `train`.
        cluster: "auto" or the address of a Ray cluster that measures the clips; run and data by path, on a disk that
            its nodes share. The motions of samples are measured here.

    Raises:
        UserError: When the data cannot provide such clips, or the model cannot take them.
    """
    if min(n for n in (samples, clips, batch_size, horizon, context) if n is not None) < 1:
        raise UserError("--context, --horizon, --samples and --clips must be at least 1")
    settings: dict[str, Any] = {"split": split, "context": context, "horizon": horizon, "samples": samples}
    settings |= {"clips": clips, "seed": seed, "batch_size": batch_size, "precision": precision}
    if cluster is not None:
        opened: dict[str, Any] = {"run": path_of(run, "a run"), "data": None if data is None else path_of(data, "data")}
        opened |= {"model_class": class_name(model_class)}
    ready = _prepare(run, data, device=device, model_class=model_class, **settings)
    table, chosen, place = ready.table, ready.clips, torch.device(ready.table.device)
    if cluster is None:
        measure_windows(table, chosen)
    else:
        settings |= {**opened, "device": place.type}
        measure_on_cluster(ready, "framecast.evaluation.evaluate:on_node", settings, cluster)
    scores, kept = table.scores(), worst_median_best(table, chosen, chosen.names)
    scores = dataclasses.replace(scores, intervals=ready.coverage.to_json())
    if ready.finder is not None:
        scores = dataclasses.replace(scores, objects=ready.finder.to_json())
    if ready.model.stochastic and knows_scenes(ready.source):
        pairs = [Segment(video, start, start + 1) for video, start in chosen.pairs]
        motions = motions_of_model(ready.model, ready.source, pairs, max(samples, SAMPLES), seed, place)
        scores = dataclasses.replace(scores, motions=motions)
    if save:
        _save(scores, Path(out) if out is not None else ready.run.results)
    return scores, kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Prepared(Ready):
    """An evaluation whose clips can be measured.

    Attributes:
        run: The run.
        model: Its predictor.
        source: Data.
        coverage: Of the model's intervals.
        finder: Of objects; None where none are known.
    """

    run: Run
    model: Predictor
    source: Source
    coverage: IntervalCoverage
    finder: ObjectFinder | None


def on_node(**settings: Any) -> Ready:
    """The evaluation of the same settings in a process of another machine, see `distributed.py`."""
    return _prepare(**settings)


def _prepare(
    run: str | Path | Run,
    data: str | Path | Source | None,
    *,
    split: str,
    context: int | None,
    horizon: int | None,
    samples: int,
    clips: int,
    seed: int,
    batch_size: int,
    device: str,
    precision: str,
    model_class: type[Predictor] | str | None,
) -> _Prepared:
    """The evaluation before its clips are measured; arguments as of `evaluate`."""
    if not isinstance(run, Run):
        run = open_run(run, find_model(model_class) if isinstance(model_class, str) else model_class)
    source = open_source(run, data)
    given = run.config.data.path if data is None else getattr(data, "folder", data)
    check_fit(run, source, str(given))
    place = pick_device(device)
    precision = resolve_precision(precision, place)
    model = run.model(str(place))
    request = run.model_class.request(run.config.model)
    refuse_trained(run, source, split)
    seen = _context(model, context)
    chosen = held_out_clips(source, request, split, seen, horizon, clips, seed, run.config.spec.actions)
    chosen.size = batch_size
    name = Path(given).name if isinstance(given, str | Path) else ""
    drawn = samples if model.stochastic else 1
    protocol = _protocol(name or "data", source, request, split, chosen, seen, drawn, seed, place, precision)
    frames = range(1, protocol.horizon + 1)
    finder = (
        object_finder(source, chosen, frames, protocol.horizon) if request.stride == 1 and not request.resize else None
    )
    coverage = IntervalCoverage(run.config.name, model)
    table = make_table(
        {run.config.name: model, **baselines(frame_spec(source, request), model.num_context, seen)},
        protocol,
        roll=roll_for(run, precision),
        groups=chosen.groups,
        device=place,
        limits=training_limits(source, split, [request.source_length], (protocol.height, protocol.width)),
        missing=missing_baselines(seen),
        extras=[coverage, *([] if finder is None else [finder])],
    )
    return _Prepared(
        table=table,
        clips=chosen,
        about={"protocol": table.protocol.to_json(), "training": list(run.trained)},
        run=run,
        model=model,
        source=source,
        coverage=coverage,
        finder=finder,
    )


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
            raise UserError(f"{run.label}: its training data ({trained.path!r}) do not exist here; use --data PATH")
        source, _ = open_data(trained)
        if trained.digest and not same_data(trained.digest, data_digest(source)):
            raise UserError(
                f"{trained.path}: has changed since {run.label} was trained on it, so the held-out clips may differ; "
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
