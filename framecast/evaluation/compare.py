"""`compare`: any predictors on the same clips, under one protocol.

Forecasts are streamed: each batch is forecast by one row after another, measured and released; only scores are kept.
Batches are measured here, by several processes, or by the nodes of a Ray cluster (`distributed.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import framecast
from framecast.core.errors import UserError
from framecast.core.types import ClipRequest
from framecast.data.base import Segment, Source
from framecast.data.cache import open_data
from framecast.data.digest import data_digest, same_data
from framecast.data.options import DataConfig
from framecast.evaluation.baselines import missing_baselines
from framecast.evaluation.clips import (
    Clips,
    check_fit,
    refuse_trained,
    rule_of,
    split_segments,
    spread_clips,
    take_part,
)
from framecast.evaluation.comparison import Comparison, ComparisonRun
from framecast.evaluation.distributed import Ready, class_name, measure_on_cluster, path_of
from framecast.evaluation.external import Forecasts, is_exchange
from framecast.evaluation.extra_metrics import ExtraMetrics, ExtraResults
from framecast.evaluation.limits import training_limits
from framecast.evaluation.rows import (
    ComparisonRow,
    Cost,
    alignment_rules,
    common_frames,
    labels,
    of_baselines,
    of_folder,
    of_run,
    split_label,
    split_windows,
)
from framecast.evaluation.score_table import Forecaster, ScoreTable
from framecast.evaluation.scorer import KeptClip
from framecast.media.resize import Fit
from framecast.metrics.clips import MetricSettings
from framecast.metrics.scores import Protocol
from framecast.models.base import Predictor
from framecast.models.registry import find_model
from framecast.training.config import CONFIG
from framecast.training.device import Device, make_device
from framecast.training.run_folder import Run, open_run

#: Largest size in bytes of one batch's forecasts, all samples.
_HELD = 1 << 29
#: Default number of scored clips.
CLIPS = 32

# --------------------------------------------------------------------------------------------------------- comparing


def compare(
    runs: Sequence[str | Path | Run],
    data: str | Path | Source,
    *,
    split: str | None = None,
    context: int | None = None,
    horizon: int | None = None,
    samples: int = 1,
    clips: int | None = None,
    seed: int | None = None,
    part: str | None = None,
    size: str | None = None,
    fit: Fit | None = None,
    axes: str | None = None,
    rank_by: str | None = None,
    show: int = 3,
    device: str | Device = "auto",
    precision: str = "auto",
    devices: int = 1,
    batch_size: int | None = None,
    out: str | Path | None = None,
    lpips: str | Path | None = None,
    lpips_sha256: str | None = None,
    fvd: str | Path | None = None,
    fvd_sha256: str | None = None,
    objects: str | Path | None = None,
    mmd: bool = True,
    model_class: type[Predictor] | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    cluster: str | None = None,
) -> tuple[Comparison, list[KeptClip]]:
    """Every run and folder of forecasts, beside the baselines, on the same clips of `data`.

    With folders of forecasts split, seed, part, size, fit, axes and the clips are those of their manifest.

    Args:
        runs: Run folders, packaged weights, hf:// names, folders of forecasts (`external.py`); "label=RUN" names one.
        data: A path, a source's name or a Source.
        split, part: None is test, or all for data that no run was trained on; "1/2" is the first half of its videos.
        context: Source frames of every clip before its forecast, at least those of the rows.
        horizon: Source frames to forecast; None is 64, or half of what the longest held-out video leaves.
        samples, clips: Futures per clip of stochastic rows; maximum number of clips, None is 32.
        seed: Random seed for clip selection and sampling; None is 0.
        size, fit, axes: Frame size, resizing and order of axes of the opened data; None are those of training.
        rank_by, show: Metric of the ranking, None is skill over copy-last; number of clips to display.
        device, precision, devices: Device, autocast precision and number of processes.
        batch_size: Clips forecast at once; the scores do not depend on it.
        out: Folder for comparison.json and .csv; None writes nothing.
        lpips, lpips_sha256, fvd, fvd_sha256: Weights files, without which the metric is omitted, and their digests.
        objects, mmd: File of the objects to find, instead of those known for the data; whether to measure rf-mmd.
        model_class, progress: Class outside the registry, or path/to/mine.py:Mine; called with the numbers of finished
            and of all clips.
        cluster: "auto" or the address of a Ray cluster that measures the clips; runs, data and weights files by path,
            on a disk that its nodes share.

    Raises:
        UserError: When rows cannot share clips, a frame size or a frame of the horizon.
    """
    _check((samples, clips, batch_size, horizon, context, devices), show, out)
    if cluster is not None and devices > 1:
        raise UserError("--devices shares the clips among processes of this machine; use it or --cluster, not both")
    place = device if isinstance(device, Device) else make_device(device, devices, 1, precision)
    settings: dict[str, Any] = {"split": split, "context": context, "horizon": horizon, "samples": samples}
    settings |= {"clips": clips, "seed": seed, "part": part, "size": size, "fit": fit, "axes": axes, "mmd": mmd}
    settings |= {"rank_by": rank_by, "batch_size": batch_size, "lpips_sha256": lpips_sha256, "fvd_sha256": fvd_sha256}
    files: dict[str, str | Path | None] = {"lpips": lpips, "fvd": fvd, "objects": objects}
    settings |= {name: None if path is None else str(path) for name, path in files.items()}
    if cluster is not None:
        opened: dict[str, Any] = {"runs": [path_of(run, "runs") for run in runs], "data": path_of(data, "data")}
        opened |= {"device": place.device.type, "precision": place.precision, "model_class": class_name(model_class)}
    ready = _prepare(runs, data, place, model_class=model_class, **settings)
    if cluster is None:
        ready.run.measure(ready.clips, place, progress)
        costs = ready.costs
    else:
        settings |= opened
        costs = measure_on_cluster(ready, "framecast.evaluation.compare:on_node", settings, cluster, progress)
    comparison = _comparison(ready, costs)
    kept = ready.run.show(ready.clips, show) if place.is_main else []
    if out is not None and place.is_main:
        comparison.save(out)
    place.barrier(long=True)
    return comparison, kept


def _check(counts: Sequence[int | None], show: int, out: str | Path | None) -> None:
    """Raise UserError for invalid numbers or an output path that is a file."""
    if min(n for n in counts if n is not None) < 1 or show < 0:
        raise UserError("--context, --horizon, --samples, --clips and --batch-size must be at least 1")
    if out is not None and Path(out).is_file():
        raise UserError(f"{out}: is a file; --out must be a folder")


@dataclass(frozen=True, kw_only=True)
class _Prepared(Ready):
    """A comparison whose clips can be measured.

    Attributes:
        run: Measures and ranks.
        rows: Rows with the baselines.
        extra: Measurements beside the metrics of frames.
    """

    run: ComparisonRun
    rows: Sequence[ComparisonRow]
    extra: ExtraResults


def on_node(device: str, precision: str, **settings: Any) -> Ready:
    """The comparison of the same settings in a process of another machine, see `distributed.py`."""
    return _prepare(place=make_device(device, precision=precision), **settings)


def _prepare(
    runs: Sequence[str | Path | Run],
    data: str | Path | Source,
    place: Device,
    *,
    samples: int,
    fit: Fit | None,
    axes: str | None,
    rank_by: str | None,
    batch_size: int | None,
    lpips: str | None,
    lpips_sha256: str | None,
    fvd: str | None,
    fvd_sha256: str | None,
    objects: str | None,
    mmd: bool,
    model_class: type[Predictor] | str | None,
    **chosen: Any,
) -> _Prepared:
    """The comparison before its clips are measured; arguments as of `compare`."""
    wanted = ExtraMetrics.read(lpips, lpips_sha256, fvd, fvd_sha256, objects, mmd)
    opened = _open(runs, find_model(model_class) if isinstance(model_class, str) else model_class)
    folders = {name: f for name, f in opened.items() if isinstance(f, Forecasts)}
    options = _ClipOptions(**chosen).resolved(folders)
    source, where = _data(data, opened, options.size, fit, axes, place)
    rows = _comparison_rows(opened, source, where, options, samples, place)
    return _tabled(source, where, rows, folders, options, wanted, rank_by, place, batch_size)


def _tabled(
    source: Source,
    where: str,
    rows: list[ComparisonRow],
    folders: Mapping[str, Forecasts],
    options: _ClipOptions,
    wanted: ExtraMetrics,
    rank_by: str | None,
    place: Device,
    batch_size: int | None,
) -> _Prepared:
    """The table of these rows beside the baselines, and its clips."""
    chosen, horizon = _clips(source, rows, folders, options)
    reach = chosen.loader.request.context
    rows = [*rows, *of_baselines(source, reach, place.device)]
    places = [(video, start + reach - 1) for video, start in chosen.pairs]
    forecasters = [row.enter(places, horizon) for row in rows]
    frames = common_frames(forecasters, horizon)
    protocol = _protocol(source, where, rows, forecasters, chosen, horizon, options, wanted, place)
    extra = ExtraResults(wanted, source, chosen, forecasters, frames, horizon, options.seed)
    table = ScoreTable(
        forecasters,
        protocol,
        groups=chosen.groups,
        device=place.device,
        more=wanted.metrics,
        extras=extra.extras,
        limits=training_limits(
            source,
            options.split,
            split_windows(source, rows, options.split) or [reach + 1],
            (protocol.height, protocol.width),
        ),
        missing=missing_baselines(reach),
    )
    held = max(f.samples for f in forecasters) * horizon * source.spec.channels * protocol.height * protocol.width * 4
    chosen.size = batch_size or max(1, min(8, _HELD // held))
    return _Prepared(
        table=table,
        clips=chosen,
        about={"protocol": table.protocol.to_json(), "rows": {row.name: dict(row.card) for row in rows}},
        costs={row.name: row.cost for row in rows},
        run=ComparisonRun(table, frames, rank_by),
        rows=rows,
        extra=extra,
    )


def _comparison(ready: _Prepared, costs: Mapping[str, Cost]) -> Comparison:
    """The result once all clips are measured."""
    run, protocol = ready.run, ready.table.protocol
    shape = (protocol.height, protocol.width)
    return Comparison(
        scores=ready.table.scores(),
        rows={row.name: row.card for row in ready.rows},
        frames=tuple(run.frames),
        rank_by=run.ranking_metric(),
        means=run.means(),
        paired=run.paired(),
        rules=alignment_rules(ready.rows, run.frames, protocol.horizon, shape),
        costs={
            name: {"frames_per_second": cost.frames_per_second, "memory_mb": cost.memory_mb}
            for name, cost in costs.items()
        },
        extras=ready.extra.to_json(),
    )


def _comparison_rows(
    opened: Mapping[str, Run | Forecasts],
    source: Source,
    where: str,
    options: _ClipOptions,
    samples: int,
    place: Device,
) -> list[ComparisonRow]:
    """Rows of the runs and folders, checked to fit the data."""
    shape, out = (source.spec.height, source.spec.width), []
    for name, entry in opened.items():
        if isinstance(entry, Forecasts):
            out.append(of_folder(name, entry, samples))
            continue
        check_fit(entry, source, where)
        refuse_trained(entry, source, options.split)
        out.append(of_run(name, entry, source, shape, samples, options.seed, place.device, place.precision))
    return out


def _protocol(
    source: Source,
    where: str,
    rows: Sequence[ComparisonRow],
    forecasters: Sequence[Forecaster],
    chosen: Clips,
    horizon: int,
    options: _ClipOptions,
    wanted: ExtraMetrics,
    place: Device,
) -> Protocol:
    """Conditions of the measurement."""
    spec, videos = source.spec, len(set(chosen.groups))
    settings = MetricSettings.fitting(spec.height, spec.width)
    settings = dataclasses.replace(settings, names=(*settings.names, *wanted.metrics))
    return Protocol(
        data=Path(where).name or "data",
        data_digest=data_digest(source),
        split=options.split,
        split_rule=_rule(source, rows, options),
        clips=len(chosen.pairs),
        videos=videos,
        context=chosen.loader.request.context,
        horizon=horizon,
        stride=1,
        samples=max(e.samples for e in forecasters),
        height=spec.height,
        width=spec.width,
        channels=spec.channels,
        fps=spec.fps,
        metrics={**settings.describe(videos), **wanted.describe()},
        seed=options.seed,
        code_version=framecast.__version__,
        device=place.device.type,
        precision=place.precision,
    )


@dataclass(frozen=True, kw_only=True)
class _ClipOptions:
    """Options of the clips as the user gave them; None where not given."""

    split: Any = None
    context: int | None = None
    horizon: int | None = None
    clips: int | None = None
    seed: Any = None
    part: str | None = None
    size: str | None = None

    def resolved(self, folders: Mapping[str, Forecasts]) -> _ClipOptions:
        """Options completed by the manifests, else the defaults.

        Raises:
            UserError: Where a manifest contradicts the user or another manifest.
        """
        values = dataclasses.asdict(self)
        for folder in folders.values():
            m = folder.manifest
            known = {"split": m.split, "seed": m.seed, "part": m.part, "size": m.size, "clips": len(m.clips)}
            for key, value in known.items():
                if values[key] is not None and values[key] != value:
                    raise UserError(
                        f"{folder.folder}: its forecasts are for --{key} {value}, got {values[key]}; leave the flag "
                        "out, or write clips for it with framecast data clips"
                    )
            values |= {k: v for k, v in known.items() if v is not None}
            if self.horizon is not None and self.horizon > m.horizon:
                raise UserError(
                    f"{folder.folder}: holds {m.horizon} frames per clip; give --horizon {m.horizon} or less"
                )
        if values["horizon"] is None and folders:
            values["horizon"] = min(f.manifest.horizon for f in folders.values())
        values["split"] = values["split"] or "test"
        values["seed"] = values["seed"] or 0
        return _ClipOptions(**values)


def _open(runs: Sequence[str | Path | Run], model_class: type[Predictor] | None) -> dict[str, Run | Forecasts]:
    """Every row by its name, in the order given."""
    names = labels([r.label if isinstance(r, Run) else str(r) for r in runs])
    found: dict[str, Run | Forecasts] = {}
    for name, entry in zip(names, runs, strict=True):
        if isinstance(entry, Run):
            found[name] = entry
            continue
        path = split_label(str(entry))[1]
        folder = Path(path).expanduser()
        if is_exchange(folder) and not (folder / CONFIG).is_file():
            found[name] = Forecasts(folder)
        else:
            found[name] = open_run(path, model_class)
    if not found:
        raise UserError("nothing to compare: give at least one run or folder of forecasts")
    return found


def _data(
    data: str | Path | Source,
    opened: Mapping[str, Run | Forecasts],
    size: str | None,
    fit: Fit | None,
    axes: str | None,
    place: Device,
) -> tuple[Source, str]:
    """The source, at the requested size, else at the training size of the runs; and its name.

    Models of a fixed frame size always get theirs, so the other models decide if there are any.
    """
    if not isinstance(data, str | Path):
        return data, str(getattr(data, "folder", "data"))
    manifests = [f.manifest for f in opened.values() if isinstance(f, Forecasts)]
    fit = fit or next((m.fit for m in manifests if m.size), None)
    axes = axes or next((m.axes for m in manifests if m.axes), None)
    runs = [r for r in opened.values() if isinstance(r, Run)]
    trained = [run.config.data for run in [r for r in runs if r.frame_size is None] or runs]
    sizes = sorted({t.size or t.trained_size for t in trained} - {None}, key=str)
    if size is None and len(sizes) > 1:
        raise UserError(
            f"the runs were trained at sizes {' and '.join(map(str, sizes))}; choose the compared frames with --size"
        )
    fits: list[Fit] = [t.fit for t in trained if t.size or t.trained_size]
    config = DataConfig(
        path=str(data),
        size=size or (sizes[0] if sizes else None),
        fit=fit or (fits[0] if fits else "crop"),
        axes=axes or next((t.axes for t in trained if t.axes), None),
        records=next((t.records for t in trained if t.records), None),
    )
    with place.local_first():
        source, _ = open_data(config)
    return source, str(data)


def _clips(
    source: Source, rows: Sequence[ComparisonRow], folders: Mapping[str, Forecasts], options: _ClipOptions
) -> tuple[Clips, int]:
    """The clips that all rows forecast: those of the manifests, else spread over the videos that every run held out."""
    reach = max(c.reach for c in rows)
    if options.context is not None and options.context < reach:
        raise UserError(f"--context {options.context}: the rows need up to {reach} frames; use at least that many")
    reach = options.context or reach
    segments = split_segments(source, options.split, split_windows(source, rows, options.split) or [reach + 1])
    segments = take_part(source, segments, options.part)
    chosen, horizon = spread_clips(
        source, segments, options.split, reach, options.horizon, options.clips or CLIPS, options.seed
    )
    if folders:
        chosen.pairs = _listed(source, segments, folders, reach, horizon)
    return chosen, horizon


def _listed(
    source: Source, segments: Sequence[Segment], folders: Mapping[str, Forecasts], reach: int, horizon: int
) -> list[tuple[int, int]]:
    """The clips of the manifests, which must be equal, as (video, first frame of the context)."""
    first, *others = folders.values()
    manifest = first.manifest
    want = (source.spec.channels, source.spec.height, source.spec.width)
    for folder in (first, *others):
        m = folder.manifest
        if (m.channels, m.height, m.width) != want:
            raise UserError(
                f"{folder.folder}: its forecasts are of frames (channels, height, width) "
                f"{(m.channels, m.height, m.width)} but these data have {want}; use the --data and --size of "
                "the forecasts"
            )
    if not same_data(manifest.data_digest, data_digest(source)):
        raise UserError(
            f"{first.folder}: its forecasts are for other data ({manifest.data}), or these have changed since; write "
            "the clips again with framecast data clips"
        )
    for other in others:
        if other.manifest.clips != manifest.clips:
            raise UserError(
                f"{first.folder} and {other.folder} hold forecasts of different clips; compare them separately"
            )
    numbers = {n: i for i, n in enumerate(source.names)}
    held = {s.video: s for s in segments}
    pairs = []
    for clip in manifest.clips:
        video, start = numbers.get(clip.video), clip.frame - reach + 1
        segment = held.get(video) if video is not None else None
        if segment is None or start < segment.start or clip.frame + horizon >= segment.stop:
            raise UserError(
                f"{first.folder}: clip {clip.id} ({clip.video} @ {clip.frame}) with {reach} frames of context is not "
                f"within what all runs held out; write clips with framecast data clips --context {reach}"
            )
        assert video is not None
        pairs.append((video, start))
    return pairs


def _rule(source: Source, rows: Sequence[ComparisonRow], options: _ClipOptions) -> str:
    window = max(split_windows(source, rows, options.split), default=1)
    rule = rule_of(source, ClipRequest(context=window, future=0), options.split)
    return f"{rule}; part {options.part} of the videos" if options.part else rule
