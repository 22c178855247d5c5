"""Scores of a run on clips it never saw: `evaluate`, and the films of its worst, median and best clip."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import framecast
from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, Batch, ClipRequest, ClipSpec
from framecast.data import SOURCES
from framecast.data.base import Segment, Source, rank_by_hash
from framecast.data.cache import data_digest, open_data
from framecast.data.loader import Loader
from framecast.data.options import DataConfig
from framecast.data.splits import choose, split_rule
from framecast.evaluation.motion import SAMPLES, knows_scenes, motions_of_model
from framecast.evaluation.scorer import KeptClip, score
from framecast.metrics.clips import MetricSettings
from framecast.metrics.scores import BASELINES, Protocol, Scores
from framecast.models.base import Frames, Predictor
from framecast.models.registry import find_model
from framecast.models.rollout import rollout
from framecast.nn.precision import resolve_precision
from framecast.training.config import check_actions
from framecast.training.device import pick_device
from framecast.training.run_folder import Run, open_run

#: Frames predicted where nobody says otherwise.
HORIZON = 64
#: The split that is every video, for data that no training saw.
ALL = "all"


@dataclasses.dataclass
class Clips:
    """The evaluation clips, in batches; can be gone through again."""

    loader: Loader
    pairs: list[tuple[int, int]]
    size: int = 8

    def __iter__(self) -> Iterator[Batch]:
        for i in range(0, len(self.pairs), self.size):
            yield self.loader.gather(self.pairs[i : i + self.size])

    @property
    def names(self) -> list[str]:
        """Video and first frame of every clip."""
        return [f"{self.loader.source.names[v]} @ {s}" for v, s in self.pairs]

    @property
    def groups(self) -> list[str]:
        """Of every clip the video it comes from; the episode, where several cameras filmed one."""
        source = self.loader.source
        episodes = getattr(source, "groups", None) or {}
        return [episodes.get(source.names[v], source.names[v]) for v, _ in self.pairs]


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
    """Scores of a run beside copy-last and temporal-mean, and the clips worth looking at.

    run: folder, packaged weights or hf:// name.  data: a path, a source's name or a Source; None is what it was
    trained on; where it knows its scenes, the motions a stochastic model samples are measured too, with at least 20
    samples of each clip.  split: train, val, test, a part of one such as test/novel, or all for data it never saw.
    context: frames before the forecast, at least the model's; more moves the forecast later in the clip.  horizon:
    frames to predict; None is 64, or half of what the longest held-out video leaves.  clips: at most so many, spread
    over the split.  save: write scores.json into the folder `out`; None is the run's own, for packaged and
    downloaded weights ./NAME-results.  batch_size: clips predicted at once; the figures do not depend on it.
    Raises: UserError when the data cannot give such clips, or the model cannot take them.
    """
    run = run if isinstance(run, Run) else open_run(run, model_class)
    if min(n for n in (samples, clips, batch_size, horizon, context) if n is not None) < 1:
        raise UserError("--context, --horizon, --samples and --clips must be at least 1")
    source = _source(run, data)
    check_fit(run, source, str(run.config.data.path if data is None else getattr(data, "folder", data)))
    place = pick_device(device)
    precision = resolve_precision(precision, place)
    model = run.model(str(place))
    request = run.model_class.request(run.config.model)
    refuse_trained(run, source, split)
    seen = context or model.num_context
    if seen < model.num_context:
        raise UserError(f"--context {seen}: the model looks at {model.num_context} frames; give at least that many")
    chosen = held_out_clips(source, request, split, seen, horizon, clips, seed, run.config.spec.actions)
    chosen.size = batch_size
    spec = frame_spec(source, request)
    protocol = Protocol(
        data=Path(run.config.data.path if data is None or not isinstance(data, str | Path) else data).name or "data",
        data_digest=data_digest(source),
        split=split,
        split_rule=rule_of(source, request, split),
        clips=len(chosen.pairs),
        videos=len(set(chosen.groups)),
        context=seen,
        horizon=chosen.loader.request.future,
        stride=request.stride,
        samples=samples if model.stochastic else 1,
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
    roll = roll_for(run, precision)
    predictors = {run.config.name: model, **baselines(spec, model.num_context)}
    scores, kept = score(
        predictors, chosen, protocol, roll=roll, names=chosen.names, groups=chosen.groups, device=place
    )
    if model.stochastic and knows_scenes(source):
        pairs = [Segment(video, start, start + 1) for video, start in chosen.pairs]
        motions = motions_of_model(model, source, pairs, max(samples, SAMPLES), seed, place)
        scores = dataclasses.replace(scores, motions=motions)
    if save:
        folder = Path(out) if out is not None else run.results
        if folder.is_file():
            raise UserError(f"{folder}: is a file; --out names a folder")
        scores.save(folder / "scores.json")
    return scores, kept


def check_fit(run: Run, source: Source, where: str) -> None:
    """Refuse data whose frames or actions the run's model cannot take.

    Raises: UserError naming the data.
    """
    check_actions(run.model_class, source, where)
    spec = run.config.spec
    if source.spec.channels != spec.channels:
        raise UserError(
            f"{where}: its frames have {source.spec.channels} channels but {run.folder} was trained on "
            f"{spec.channels}; give data of the same kind"
        )
    if run.model_class.actions != "none" and source.spec.action_size != spec.action_size:
        raise UserError(
            f"{where}: has {source.spec.action_size} actions but {run.folder} was trained on {spec.action_size}; "
            "give data of the same kind"
        )


def roll_for(run: Run, precision: str) -> Callable[..., Tensor]:
    """`rollout` at a precision; what the run's model cannot take is the user's to mend, and names the run."""
    return functools.partial(_roll, where=str(run.folder), precision=precision)


def _roll(model: Predictor, context: Frames, horizon: int, *, where: str, **settings: Any) -> Tensor:
    """`rollout`, its complaint about frames a model cannot take as the user's."""
    try:
        return rollout(model, context, horizon, **settings)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def baselines(spec: ClipSpec, context: int) -> Mapping[str, Predictor]:
    """What every table must show beside a model, looking at as many frames."""
    return {
        name: model_class(model_class.Config(context=context), spec)
        for name, model_class in ((name, find_model(name)) for name in BASELINES)
    }


def frame_spec(source: Source, request: ClipRequest) -> ClipSpec:
    """The frames that are compared: the source's, at the model's size if it has one."""
    if request.resize is None:
        return source.spec
    return dataclasses.replace(source.spec, height=request.resize[0], width=request.resize[1])


def rule_of(source: Source, request: ClipRequest, split: str = "test") -> str:
    """How the videos were divided, in a sentence."""
    if split == ALL:
        return "every video: no run was trained on these data"
    said = getattr(source, "split_rule", None)
    return str(said(request.source_length)) if said else split_rule(source.names, source.lengths, request.source_length)


def held_out_clips(
    source: Source,
    request: ClipRequest,
    split: str,
    context: int,
    horizon: int | None,
    clips: int,
    seed: int,
    actions: ActionSpec | None = None,
) -> Clips:
    """Clips of a split, spread over it: whole frames, `context` + `horizon` long.

    The split is the one training used: it depends on the model's own window, not on the horizon asked for here.
    """
    segments = split_segments(source, split, [request.source_length])
    longest = _longest(segments, request.stride)
    wanted = _ahead(horizon, longest - context)
    if wanted < 1 or context + wanted > longest:
        raise UserError(
            f"the {split} split's longest video has {longest} frames at stride {request.stride}, too few for {context} "
            f"of context and a horizon of {max(wanted, 1)}; give --horizon {max(longest - context, 1)} or less"
        )
    whole = dataclasses.replace(
        request, context=context, future=wanted, target_offset=1, crop=None, motion_filter=None, extras=()
    )
    loader = Loader(source, segments, whole, 1, seed, actions=actions if source.spec.actions else None)
    return Clips(loader, loader.windows.fixed(clips, seed))


def split_segments(source: Source, split: str, windows: Sequence[int]) -> list[Segment]:
    """What belongs to a split for every one of several models, whose windows decide where a video is cut in time.

    split: train, val, test, a named part of one (see `splits.choose`), or all.
    Raises: UserError for another name.
    """
    if split == ALL:
        return [Segment(i, 0, int(n)) for i, n in enumerate(source.lengths)]
    common: dict[int, Segment] = {}
    for i, window in enumerate(dict.fromkeys(windows)):
        found = {s.video: s for s in choose(source, split, window)}
        if i == 0:
            common = found
            continue
        common = {
            v: Segment(v, max(s.start, found[v].start), min(s.stop, found[v].stop))
            for v, s in common.items()
            if v in found
        }
    return [s for s in common.values() if s.stop > s.start]


def take_part(source: Source, segments: Sequence[Segment], part: str | None) -> list[Segment]:
    """A share of the held-out videos: "1/2" and "2/2" have none in common. A single video is cut in time.

    Raises: UserError for anything else.
    """
    if part is None:
        return list(segments)
    first, _, second = part.partition("/")
    number, parts = (int(first), int(second)) if first.isdigit() and second.isdigit() else (0, 0)
    if not 1 <= number <= parts:
        raise UserError(f"--part {part!r} is not understood; write for example 1/2 for the first half")
    episodes = getattr(source, "groups", None) or {}
    names = list(dict.fromkeys(episodes.get(source.names[s.video], source.names[s.video]) for s in segments))
    if len(names) >= parts:
        kept = {names[i] for i in rank_by_hash(names)[number - 1 :: parts]}
        return [s for s in segments if episodes.get(source.names[s.video], source.names[s.video]) in kept]

    def cut(s: Segment, at: int) -> int:
        return s.start + (s.stop - s.start) * at // parts

    return [Segment(s.video, cut(s, number - 1), cut(s, number)) for s in segments]


def spread_clips(
    source: Source, segments: Sequence[Segment], split: str, context: int, horizon: int | None, clips: int, seed: int
) -> tuple[Clips, int]:
    """At most `clips` clips of context + horizon source frames, spread over `segments`, and the horizon.

    horizon: None is 64, or half of what the longest segment leaves.
    Raises: UserError when no segment is long enough.
    """
    longest = _longest(segments, 1)
    ahead = _ahead(horizon, longest - context)
    if ahead < 1 or ahead > longest - context:
        raise UserError(
            f"the {split} split's longest video has {longest} frames, too few for {context} of context and a "
            f"horizon of {max(ahead, 1)}; give --horizon {max(longest - context, 1)} or less"
        )
    loader = Loader(source, segments, ClipRequest(context=context, future=ahead), 1, seed)
    return Clips(loader, loader.windows.fixed(clips, seed)), ahead


def _ahead(horizon: int | None, room: int) -> int:
    """The horizon asked for; else half of what is there, so that clips can begin at several places: one clip alone
    would have no interval."""
    return min(HORIZON, max(room // 2, min(room, 1))) if horizon is None else horizon


def refuse_trained(run: Run, source: Source, split: str) -> None:
    """Refuse to call all of the data held out that a run was trained on.

    Raises: UserError.
    """
    if split == ALL and run.config.data.digest == data_digest(source):
        raise UserError(f"--split all: {run.folder} was trained on these data; give other data, or --split test")


def _longest(segments: Sequence[Segment], stride: int) -> int:
    return max(((s.stop - s.start - 1) // stride + 1 for s in segments), default=0)


def _source(run: Run, data: str | Path | Source | None) -> Source:
    trained = run.config.data
    if data is None:
        if not trained.path or not (Path(trained.path).expanduser().exists() or trained.path in SOURCES):
            raise UserError(f"{run.folder}: what it was trained on ({trained.path!r}) is not here; give --data PATH")
        source, _ = open_data(trained)
        if trained.digest and data_digest(source) != trained.digest:
            raise UserError(
                f"{trained.path}: has changed since {run.folder} was trained on it, so what was held out may not be "
                f"now; give --data {trained.path} to score on it as it is"
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
