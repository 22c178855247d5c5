"""Scores of predictors on the same clips under one protocol, and the clips to display.

Frames are streamed: only those of the displayed clips (worst, median, best) are kept.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.types import Batch
from framecast.evaluation.score_table import Extra, Forecaster, ScoreTable
from framecast.evaluation.summaries import clip_skills
from framecast.metrics.clips import METRICS, horizon_mean
from framecast.metrics.scores import Protocol, Scores
from framecast.models.base import Predictor
from framecast.models.inputs import Frames
from framecast.models.rollout import rollout
from framecast.training.run_folder import Run

Roll = Callable[..., Tensor]
#: Largest number of futures that a stochastic model predicts at once, if one clip has fewer; it bounds the memory.
ROWS = 64
#: Roles of the displayed clips, in their order.
ROLES = ("worst", "median", "best")


# -------------------------------------------------------------------------------------------------------- scoring


@dataclass(frozen=True, kw_only=True)
class KeptClip:
    """A clip to be displayed.

    Attributes:
        role: worst, median or best.
        index: Among the clips scored.
        name: Of the clip.
        metric: The clips are ranked by.
        value: Of `metric`, mean over the horizon.
        context: float 0…1 (t, c, h, w) on the CPU.
        truth: float 0…1 (horizon, c, h, w) on the CPU.
        predictions: Predictor -> (horizon, c, h, w), of K samples the best by `metric`.
    """

    role: str
    index: int
    name: str
    metric: str
    value: float
    context: Tensor
    truth: Tensor
    predictions: Mapping[str, Tensor]


def score(
    predictors: Mapping[str, Predictor],
    windows: Iterable[Batch],
    protocol: Protocol,
    *,
    samples: int | None = None,
    seed: int | None = None,
    roll: Roll | None = None,
    keep: bool = True,
    names: Sequence[str] = (),
    groups: Sequence[Hashable] | None = None,
    device: torch.device | str = "cpu",
    per_clip: dict[str, dict[str, Tensor]] | None = None,
    progress: Callable[[int], None] | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
    missing: Mapping[str, str] | None = None,
    extras: Sequence[Extra] = (),
) -> tuple[Scores, list[KeptClip]]:
    """Scores of all predictors on the same clips, and the clips to display.

    Args:
        predictors: By their names in the table, the evaluated one first; copy-last and temporal-mean among them.
        windows: Batches with context (b, t, c, h, w) and future (b, at least horizon, c, h, w); with `keep` they are
            iterated twice: a list or a loader, not an iterator.
        protocol: Conditions; clips, samples, seed and the metrics that fit the frames are filled in.
        samples: Futures per clip of stochastic predictors; None is the protocol's.
        seed: With the clip's number the seed of a clip's samples; None is the protocol's.
        roll: Replaces `framecast.models.rollout.rollout`.
        keep: Return the worst, median and best clip, ranked by the first predictor's skill over copy-last (PSNR if
            nothing moves in any clip).
        names: One per clip.
        groups: The video of each clip, for intervals over videos; None treats clips as independent.
        device: Device that frames are moved to.
        per_clip: Filled, if given, with predictor -> metric -> (clips, horizon), for paired comparisons.
        progress: Called with the number of finished clips after each batch.
        limits: Statistics of the training data, see `ScoreTable`.
        missing: Baselines left out -> the reason.
        extras: Further measurements of every forecast.

    Returns:
        The scores, and the kept clips: worst, median, best; fewer where there are fewer clips.

    Raises:
        UserError: For a table without baselines, no clips, batches that contradict the protocol, or predictions that
            are not finite.
    """
    if keep and iter(windows) is windows:
        raise UserError("windows are iterated twice to show clips: pass a list or a loader, or keep=False")
    protocol = replace(
        protocol,
        samples=protocol.samples if samples is None else samples,
        seed=protocol.seed if seed is None else seed,
    )
    table = make_table(
        predictors, protocol, roll=roll, groups=groups, device=device, limits=limits, missing=missing, extras=extras
    )
    measure_windows(table, windows, progress)
    if per_clip is not None:
        per_clip.update({n: {m: table.per_clip(n, m) for m in table.settings.names} for n in table.frames})
    return table.scores(), worst_median_best(table, windows, names) if keep else []


def make_table(
    predictors: Mapping[str, Predictor],
    protocol: Protocol,
    *,
    roll: Roll | None = None,
    groups: Sequence[Hashable] | None = None,
    device: torch.device | str = "cpu",
    limits: Mapping[str, tuple[float, float]] | None = None,
    missing: Mapping[str, str] | None = None,
    extras: Sequence[Extra] = (),
) -> ScoreTable:
    """The table that `score` fills; arguments as there.

    Raises:
        UserError: For a table without baselines.
    """
    videos = None if groups is None else len(set(groups))
    metrics = protocol.settings.fitted(protocol.height, protocol.width).describe(videos)
    protocol = replace(protocol, metrics=metrics)
    return ScoreTable(
        forecasters_of(predictors, protocol, roll),
        protocol,
        groups=groups,
        device=device,
        limits=limits,
        missing=missing,
        extras=extras,
    )


def measure_windows(table: ScoreTable, windows: Iterable[Batch], progress: Callable[[int], None] | None = None) -> None:
    """Measure all clips in this process.

    Args:
        table: Collects the measurements.
        windows: Batches.
        progress: Called with the number of finished clips after each batch.

    Raises:
        UserError: For no clips, or as `ScoreTable.measure`.
    """
    for batch in windows:
        numbers = range(table.clips, table.clips + batch.size)
        table.take(table.measure(batch, numbers), numbers)
        if progress:
            progress(table.clips)
    if not table.clips:
        raise UserError(f"no clips to score in the {table.protocol.split} split; use a shorter horizon or more video")


def forecasters_of(
    predictors: Mapping[str, Predictor], protocol: Protocol, roll: Roll | None = None
) -> list[Forecaster]:
    """Predictors as rows of a table; each uses the whole context of the clips.

    A stochastic predictor draws the samples of every clip from a generator seeded by the protocol's seed and the
    clip's number: they do not depend on the batch that a clip is in.
    """
    found = []
    for name, model in predictors.items():
        samples = protocol.samples if model.stochastic else 1
        futures = functools.partial(forecast, model, protocol.horizon, samples, protocol.seed, roll or rollout)
        found.append(Forecaster(name=name, forecast=futures, samples=samples))
    return found


def forecast(
    model: Predictor, horizon: int, samples: int, seed: int, roll: Roll, batch: Batch, numbers: Sequence[int]
) -> Tensor:
    """A model's futures of the clips of a batch, (s, b, horizon, c, h, w), the same on every call.

    Args:
        model: Predictor.
        horizon: Frames to forecast.
        samples: Futures per clip.
        seed: With the clip's number the seed of a clip's samples.
        roll: Rollout function.
        batch: The clips.
        numbers: Of the clips, counted over all batches.
    """
    context, actions = batch.context, None
    if model.actions != "none" and batch.actions is not None:
        actions = batch.actions[:, : context.shape[1] + horizon - 1].to(context.device)
    if not model.stochastic:
        return roll(model, context, horizon, actions=actions, samples=1, generator=None)
    at, parts = next((x.device for x in model.parameters()), torch.device("cpu")), []
    step = max(1, ROWS // samples)
    for first in range(0, len(numbers), step):
        rows = slice(first, first + step)
        own = [torch.Generator(at).manual_seed((seed * 1_000_003 + number) % 2**63) for number in numbers[rows]]
        led = None if actions is None else actions[rows]
        parts.append(roll(model, context[rows], horizon, actions=led, samples=samples, generator=own))
    return torch.cat(parts, 1)


def roll_for(run: Run, precision: str) -> Callable[..., Tensor]:
    """`rollout` at a precision; input that the model cannot take raises a UserError naming the run."""
    return functools.partial(_roll, where=str(run.folder), precision=precision)


def _roll(model: Predictor, context: Frames, horizon: int, *, where: str, **settings: Any) -> Tensor:
    """`rollout`, with ValueError turned into UserError."""
    try:
        return rollout(model, context, horizon, **settings)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def worst_median_best(table: ScoreTable, windows: Iterable[Batch], names: Sequence[str]) -> list[KeptClip]:
    """Worst, median and best clip of the first forecaster, forecast a second time.

    Args:
        table: With the measurements of all clips.
        windows: The same batches again.
        names: One per clip.
    """
    first = table.forecasters[0].name
    ranks = {"skill": clip_skills(table, first, table.frames[first])}
    ranks |= {m: horizon_mean(table.per_clip(first, m)).tolist() for m in table.settings.names if m != "moving_psnr"}
    metric = next((m for m, values in ranks.items() if not all(map(math.isnan, values))), None)
    if metric is None:
        return []
    values = ranks[metric]
    order = worst_first(metric, values)
    roles = {order[0]: "worst", order[len(order) // 2]: "median", order[-1]: "best"}
    kept, before = list[KeptClip](), 0
    for batch in windows:
        inside = [i for i in sorted(roles) if before <= i < before + batch.size]
        if inside:
            rows = batch.rows([i - before for i in inside])
            kept += kept_clips(table, rows, inside, roles, metric, values, names)
        before += batch.size
    return sorted(kept, key=lambda clip: ROLES.index(clip.role))


def worst_first(metric: str, values: Sequence[float]) -> list[int]:
    """Numbers of the clips from the worst to the best value of a metric, without undefined values."""
    sort_key = METRICS[metric].sort_key(torch.tensor(values, dtype=torch.float64)).tolist()
    return sorted((i for i, value in enumerate(values) if not math.isnan(value)), key=lambda i: -sort_key[i])


def kept_clips(
    table: ScoreTable,
    batch: Batch,
    numbers: Sequence[int],
    roles: Mapping[int, str],
    metric: str,
    values: Sequence[float],
    names: Sequence[str],
) -> list[KeptClip]:
    """The clips of a batch with every forecaster's forecast, to be displayed.

    A forecaster of some frames only is shown with its latest frame (the last context frame before its first).

    Args:
        table: Forecasters and protocol.
        batch: The clips.
        numbers: Of the batch's clips.
        roles: Number -> role.
        metric: The clips are ranked by.
        values: One per clip of the whole table.
        names: One per clip of the whole table.
    """
    batch, truth, shown = table.show(batch, numbers, metric)
    filled = {
        name: _held(frames, table.frames[name], batch.context[:, -1].cpu(), table.protocol.horizon)
        for name, frames in shown.items()
    }
    return [
        KeptClip(
            role=roles[number],
            index=number,
            name=names[number] if number < len(names) else f"clip {number}",
            metric=metric,
            value=values[number],
            context=batch.context[i].float().cpu(),
            truth=truth[i].float().cpu(),
            predictions={name: frames[i] for name, frames in filled.items()},
        )
        for i, number in enumerate(numbers)
    ]


def _held(frames: Tensor, at: Sequence[int], last: Tensor, horizon: int) -> Tensor:
    """(b, frames, c, h, w) on every frame of the horizon, each held until the next."""
    if len(at) == horizon:
        return frames
    known = torch.cat([last[:, None].float(), frames], 1)
    return known[:, [sum(k <= frame for k in at) for frame in range(1, horizon + 1)]]
