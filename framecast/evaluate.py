"""Clips in, scores out: every predictor rolled out on the same clips under one protocol.

Scores stream; frames of only the three clips to be shown (worst, median, best) are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from framecast.metrics.clips import (
    METRICS,
    Running,
    Tally,
    diversity,
    horizon_mean,
    measure,
    moving_masks,
    order_samples,
)
from framecast.metrics.scores import BASELINES, Protocol, Scores
from framecast.types import Batch, UserError

if TYPE_CHECKING:
    from framecast.models.base import Predictor

__all__ = ["BASELINES", "KeptClip", "Protocol", "Scores", "describe", "figure", "headline_sentence", "score"]

Roll = Callable[..., Tensor]


# -------------------------------------------------------------------------------------------------------- scoring


@dataclass(frozen=True, kw_only=True)
class KeptClip:
    """A clip to be shown.

    role: worst, median or best.  index: among the clips scored.  name: of the clip.  metric, value: what it was
    ranked by, mean over the horizon.  context (t, c, h, w), truth (horizon, c, h, w): float 0…1 on the CPU.
    predictions: predictor -> (horizon, c, h, w), of K samples the best by `metric`.
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
    device: torch.device | str = "cpu",
    per_clip: dict[str, dict[str, Tensor]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Scores, list[KeptClip]]:
    """Scores of all predictors on the same clips, and the clips worth looking at.

    predictors: by the name they get in the table, the one in question first; copy-last and temporal-mean among them.
    windows: batches with context (b, t, c, h, w) and future (b, at least horizon, c, h, w); with `keep` they are gone
    through twice, so a list or a loader, not an iterator.  protocol: clips, samples, seed and the metrics that fit the
    frames are filled in from what was done.  samples: futures per clip of stochastic predictors, default the
    protocol's.  seed: the samples of a batch are drawn from a generator seeded by it and by the number of clips before
    the batch.
    roll: stands in for `framecast.rollout.rollout`.  keep: return worst, median and best clip, ranked by the first
    predictor's moving-area PSNR averaged over the horizon (PSNR if nothing moves in any clip).  names: one per clip.
    device: where frames are sent.  per_clip: filled, if given, with predictor -> metric -> (clips, horizon) for
    paired comparisons.  progress: called with the number of clips done after each batch.
    Returns: (scores, kept clips: worst, median, best; fewer where there are fewer clips).
    Raises: UserError for a table without baselines, no clips, batches that contradict the protocol, or predictions
    that are not finite.
    """
    missing = [name for name in BASELINES if name not in predictors]
    if missing:
        raise UserError(f"every table shows {' and '.join(BASELINES)}; add {' and '.join(missing)} to the predictors")
    if keep and iter(windows) is windows:
        raise UserError("windows are gone through twice to show clips: pass a list or a loader, or keep=False")
    protocol = replace(
        protocol,
        samples=protocol.samples if samples is None else samples,
        seed=protocol.seed if seed is None else seed,
        metrics=protocol.settings.fitted(protocol.height, protocol.width).describe(),
    )
    scorer = _Scorer(predictors, protocol, roll or _rollout(), device, keep_clips=per_clip is not None)
    for batch in windows:
        scorer.add(batch)
        if progress:
            progress(scorer.clips)
    if not scorer.clips:
        raise UserError(f"no clips to score in the {protocol.split} split; take a shorter horizon or more video")
    if per_clip is not None:
        per_clip.update({name: tally.per_clip() for name, tally in scorer.tallies.items()})
    return scorer.scores(), scorer.show(windows, names) if keep else []


def _rollout() -> Roll:
    from framecast.rollout import rollout

    return rollout


class _Scorer:
    """State of `score`: tallies of every predictor, paired differences, one ranking value per clip."""

    def __init__(
        self,
        predictors: Mapping[str, Predictor],
        protocol: Protocol,
        roll: Roll,
        device: torch.device | str,
        keep_clips: bool,
    ) -> None:
        self.predictors, self.protocol, self.roll, self.device = predictors, protocol, roll, device
        self.settings, horizon = protocol.settings, protocol.horizon
        self.tallies = {
            name: Tally(self.settings.names, horizon, self._samples(name), keep_clips) for name in predictors
        }
        self.versus = {
            name: {metric: Running(horizon) for metric in self.settings.names}
            for name in predictors
            if name != BASELINES[0]
        }
        wanted = ("moving_psnr", "psnr", *self.settings.names)
        self.rank_by = list(dict.fromkeys(m for m in wanted if m in self.settings.names))[:2]
        self.ranks: dict[str, list[float]] = {metric: [] for metric in self.rank_by}
        self.clips = 0

    def _samples(self, name: str) -> int:
        return self.protocol.samples if self.predictors[name].stochastic else 1

    def add(self, batch: Batch) -> None:
        """Score one batch."""
        context, truth = self._frames(batch)
        mask, chosen = None, dict[str, dict[str, Tensor]]()
        for name in self.predictors:
            prediction = self._predict(name, batch, context, self.clips)
            last, true = (x.to(prediction.device) for x in (context[:, -1], truth))
            if mask is None:
                mask = moving_masks(true, last, self.settings)
            mask = mask.to(prediction.device)
            each = [measure(sample, true, last, self.settings, mask) for sample in prediction]
            values = {metric: torch.stack([e[metric] for e in each]).cpu() for metric in self.settings.names}
            spread = diversity(prediction).cpu() if len(prediction) > 1 else None
            chosen[name] = self.tallies[name].add(values, spread)
        for name, metrics in self.versus.items():
            for metric, running in metrics.items():
                running.add(chosen[name][metric] - chosen[BASELINES[0]][metric])
        first = next(iter(self.predictors))
        for metric in self.rank_by:
            self.ranks[metric] += horizon_mean(chosen[first][metric]).tolist()
        self.clips += batch.size

    def _frames(self, batch: Batch) -> tuple[Tensor, Tensor]:
        batch, p = batch.to(self.device), self.protocol
        want = (p.channels, p.height, p.width)
        if tuple(batch.future.shape[2:]) != want or tuple(batch.context.shape[2:]) != want:
            raise UserError(
                f"the protocol says frames of (channels, height, width) {want}, got {tuple(batch.context.shape[2:])} "
                f"in the context and {tuple(batch.future.shape[2:])} in the future"
            )
        if batch.future.shape[1] < p.horizon:
            raise UserError(f"the protocol's horizon is {p.horizon} frames but the clips hold {batch.future.shape[1]}")
        return batch.context, batch.future[:, : p.horizon].contiguous()

    def _predict(self, name: str, batch: Batch, context: Tensor, before: int) -> Tensor:
        """Roll one predictor out: (s, b, horizon, c, h, w), the same whenever it is asked for."""
        model, generator, actions = self.predictors[name], None, None
        if model.stochastic:
            at = next((x.device for x in model.parameters()), torch.device("cpu"))
            generator = torch.Generator(at).manual_seed((self.protocol.seed * 1_000_003 + before) % 2**63)
        if model.actions != "none" and batch.actions is not None:
            actions = batch.actions[:, : context.shape[1] + self.protocol.horizon - 1].to(context.device)
        prediction = self.roll(
            model, context, self.protocol.horizon, actions=actions, samples=self._samples(name), generator=generator
        )
        want = (self._samples(name), context.shape[0], self.protocol.horizon, *context.shape[2:])
        if tuple(prediction.shape) != want:
            raise UserError(f"{name} must predict (s, b, horizon, c, h, w) = {want}, got {tuple(prediction.shape)}")
        if not bool(prediction.isfinite().all()):
            raise UserError(
                f"{name} predicted values that are not finite in clips {before} to {before + len(context) - 1}"
            )
        return prediction.detach() if prediction.device.type in ("cpu", "cuda") else prediction.detach().cpu()

    def scores(self) -> Scores:
        """What has been tallied so far."""
        many = {name: tally for name, tally in self.tallies.items() if tally.samples > 1}
        return Scores(
            protocol=replace(self.protocol, clips=self.clips),
            predictors={n: {m: r.series() for m, r in tally.best.items()} for n, tally in self.tallies.items()},
            versus={n: {m: r.series() for m, r in row.items()} for n, row in self.versus.items()},
            samples={
                n: {m: {"mean": t.mean[m].series(), "worst": t.worst[m].series()} for m in t.names}
                for n, t in many.items()
            },
            diversity={n: t.diversity.series() for n, t in many.items()},
        )

    def show(self, windows: Iterable[Batch], names: Sequence[str]) -> list[KeptClip]:
        """Worst, median and best clip: found by rank, rolled out once more with the batch they came in."""
        metric = next((m for m in self.rank_by if not all(map(math.isnan, self.ranks[m]))), None)
        if metric is None:
            return []
        values = self.ranks[metric]
        badness = METRICS[metric].badness(torch.tensor(values, dtype=torch.float64)).tolist()
        order = sorted((i for i, value in enumerate(values) if not math.isnan(value)), key=lambda i: -badness[i])
        roles = {order[0]: "worst", order[len(order) // 2]: "median", order[-1]: "best"}
        kept, before = list[KeptClip](), 0
        for batch in windows:
            inside = [i for i in roles if before <= i < before + batch.size]
            if inside:
                kept += self._show_batch(batch, before, {i: roles[i] for i in inside}, metric, names)
            before += batch.size
        return sorted(kept, key=lambda clip: ("worst", "median", "best").index(clip.role))

    def _show_batch(
        self, batch: Batch, before: int, roles: Mapping[int, str], metric: str, names: Sequence[str]
    ) -> list[KeptClip]:
        context, truth = self._frames(batch)
        settings = replace(self.settings, names=(metric,))
        shown: dict[str, Tensor] = {}
        rows = [i - before for i in roles]
        for name, model in self.predictors.items():
            if not model.stochastic:  # samples depend on the batch they are drawn in; certain futures do not
                shown[name] = self._predict(name, batch.rows(rows), context[rows], before)[0].float().cpu()
                continue
            prediction = self._predict(name, batch, context, before)
            true, last = truth.to(prediction.device), context[:, -1].to(prediction.device)
            values = torch.stack([measure(sample, true, last, settings)[metric] for sample in prediction])
            best, _ = order_samples(metric, values)
            shown[name] = prediction[best[rows], rows].float().cpu()
        return [
            KeptClip(
                role=role,
                index=i,
                name=names[i] if i < len(names) else f"clip {i}",
                metric=metric,
                value=self.ranks[metric][i],
                context=context[i - before].float().cpu(),
                truth=truth[i - before].float().cpu(),
                predictions={name: frames[k] for name, frames in shown.items()},
            )
            for k, (i, role) in enumerate(roles.items())
        ]


# -------------------------------------------------------------------------------------------------------- in words


def headline_sentence(scores: Scores) -> str:
    """What the scores mean, in one plain sentence: the model against repeating the last frame, at frame 1."""
    protocol, main = scores.protocol, scores.main
    clips = {"test": "held-out clip", "val": "validation clip", "train": "clip it was trained on"}
    kind = clips.get(protocol.split, f"clip of the {protocol.split} split")
    over = f"over {protocol.clips} {kind if protocol.clips == 1 else kind.replace('clip', 'clips', 1)}"
    for metric, where in (("moving_psnr", "where something moves"), ("psnr", "over the whole frame")):
        series = scores.versus.get(main, {}).get(metric)
        if main in BASELINES or series is None or series.mean[0] is None:
            continue
        gain, low, high = series.mean[0], series.low[0], series.high[0]
        interval = "" if low is None or high is None else f"; 95 % interval {low:.1f} to {high:.1f} dB"
        if low is not None and high is not None and low <= 0 <= high:
            return (
                f"At frame 1 the forecast is not measurably closer to the truth than repeating the last frame, {over} "
                f"({where}, difference {gain:+.1f} dB{interval})."
            )
        side = "closer to" if gain > 0 else "further from"
        return (
            f"At frame 1 the forecast is {abs(gain):.1f} dB {side} the truth than repeating the last frame, {over} "
            f"({where}{interval})."
        )
    if main in BASELINES:
        return f"Only baselines were scored, {over}; there is no model to compare them with."
    return f"Nothing moved and PSNR was not measured, so there is no comparison with repeating the last frame, {over}."


def describe(scores: Scores) -> str:
    """The table of headline figures as plain text, under it the protocol in a line and what the scores mean."""
    p = scores.protocol
    frames = scores.headline_frames
    width = max(len(name) for name in scores.predictors)
    lines = []
    for metric in p.settings.names:
        about = METRICS[metric]
        if metric.endswith(("mse", "mae")):  # PSNR says the same; they are in the file
            continue
        better = {"higher": "higher is better", "lower": "lower is better", "one": "1 is best"}[about.better]
        unit = f" [{about.unit}]" if about.unit else ""
        lines.append(f"{about.label}{unit}, {better}")
        lines.append(f"  {'frame':<{width}}" + "".join(f"{k:>10}" for k in frames))
        for name, row in scores.headline(metric).items():
            lines.append(f"  {name:<{width}}" + "".join(f"{figure(row[k], metric):>10}" for k in frames))
        lines.append("")
    best = f", best of {p.samples} samples" if scores.samples else ""
    videos = "1 video" if p.videos == 1 else f"{p.videos} videos"
    lines.append(
        f"{p.data}, {p.split} split: {p.clips} clips of {videos}, {p.context} context frames, horizon {p.horizon}, "
        f"stride {p.stride}, {p.height}x{p.width}x{p.channels}{best}, seed {p.seed}"
    )
    lines.append(headline_sentence(scores))
    return "\n".join(lines)


def figure(value: float | None, metric: str) -> str:
    """A number with the digits its metric deserves; a dash where there is none."""
    return "–" if value is None else f"{value:.{METRICS[metric].digits}f}"
