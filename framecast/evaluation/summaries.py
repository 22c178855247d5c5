"""Skill and summaries of the rows of a score table: all clips together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from framecast.metrics.clips import POOLED
from framecast.metrics.ensemble import spread_skill
from framecast.metrics.scores import BASELINES
from framecast.metrics.skill import (
    Array,
    SkillCurve,
    best_reference,
    horizon_skill,
    skilful_ranges,
    skill_curve,
    useful_horizon,
)
from framecast.metrics.summary import BLURRED, Summary, first_frame, pooled_ratio

if TYPE_CHECKING:
    from framecast.evaluation.score_table import ScoreTable

#: Statistics of forecast frames that are compared with those of the training data.
STATISTICS = ("mean", "variance", "sharpness")


def errors(table: ScoreTable, name: str, frames: Sequence[int], part: str = "mse") -> Array:
    """Squared errors of a forecaster, of several samples their mean: (clips, len(frames)).

    Args:
        table: With all clips collected.
        name: Forecaster.
        frames: Frames of the horizon, counted from 1.
        part: Another part than the squared error.
    """
    return np.asarray(table.part(name, part)[:, table.at(name, frames)].numpy())


def references(table: ScoreTable, frames: Sequence[int]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Squared errors that skill is measured against, by metric of POOLED, and the best baseline at every frame."""
    baselines = {name: errors(table, name, frames) for name in BASELINES if name in table.frames}
    names, best = best_reference(baselines)
    return dict(zip(POOLED, (baselines[BASELINES[0]], best), strict=True)), names


def skill_curves(table: ScoreTable, name: str, frames: Sequence[int] | None = None) -> dict[str, SkillCurve]:
    """Metric of POOLED -> skill of a forecaster at its frames, or at those given."""
    frames = table.frames[name] if frames is None else frames
    own = errors(table, name, frames)
    return {metric: skill_curve(own, base, table.videos) for metric, base in references(table, frames)[0].items()}


def clip_skills(table: ScoreTable, name: str, frames: Sequence[int]) -> list[float]:
    """Skill over copy-last of every clip alone, over these frames; NaN where nothing moves."""
    own, base = (errors(table, n, frames).sum(1) for n in (name, BASELINES[0]))
    return [1 - a / b if b > 0 else float("nan") for a, b in zip(own.tolist(), base.tolist(), strict=True)]


def summarise(table: ScoreTable, name: str, curves: dict[str, SkillCurve]) -> Summary:
    """Results of a forecaster over its frames.

    Args:
        table: With all clips collected.
        name: Forecaster.
        curves: Result of `skill_curves`.
    """
    frames = table.frames[name]
    part = {p: errors(table, name, frames, p) for p in ("mse", "still_mse", "still_mae")}
    best = curves["skill_best"].by_frame
    # one clip has no interval: its own values decide, and the headline states so
    lower = best.mean if table.clips < 2 else best.low
    ranges = skilful_ranges(lower)
    sharpness = pooled_ratio(*(errors(table, name, frames, p) for p in ("area_sharpness", "true_area_sharpness")))
    outside = _outside(table, name)
    whole = pooled_ratio(part["still_mse"].sum(1, keepdims=True), part["mse"].sum(1, keepdims=True))[0]
    return Summary(
        skill=curves["skill"].horizon.scalar(),
        skill_best=curves["skill_best"].horizon.scalar(),
        frames=frames,
        ranges=tuple((frames[a - 1], frames[b - 1]) for a, b in ranges),
        useful_horizon=frames[useful_horizon(ranges) - 1] if useful_horizon(ranges) else 0,
        false_motion=whole,
        false_motion_mae=float(part["still_mae"].mean()),
        false_motion_by_frame=pooled_ratio(part["still_mse"], part["mse"]),
        sharpness_by_frame=sharpness,
        outside_by_frame=outside,
        blurred_from=first_frame(sharpness, frames, BLURRED),
        unstable_from=first_frame(outside, frames) if outside else None,
        samples=_of_samples(table, name),
    )


def _outside(table: ScoreTable, name: str) -> tuple[float | None, ...]:
    """Share of clips at every frame whose statistics leave those of the training data; empty without these."""
    if table.limits is None:
        return ()
    found = np.zeros((table.clips, len(table.frames[name])), bool)
    for statistic, (low, high) in table.limits.items():
        values = table.part(name, statistic).numpy()
        found |= (values < low) | (values > high)
    return tuple(found.mean(0).tolist())


def _of_samples(table: ScoreTable, name: str) -> dict[str, Any]:
    """Probabilistic scores of a forecaster with several samples; empty for others."""
    forecaster = next(f for f in table.forecasters if f.name == name)
    if forecaster.samples < 2:
        return {}
    frames = table.frames[name]
    base = references(table, frames)[0]["skill"]
    out: dict[str, Any] = {"skill_of_mean": _plain(horizon_skill(errors(table, name, frames, "ensemble_mse"), base))}
    if "mse" in table.settings.names:
        out["skill_of_best"] = _plain(horizon_skill(table.per_clip(name, "mse").numpy(), base))
    for score in ("crps", "energy"):
        out[score] = table.summarize(table.part(name, score)).to_json()
    ratio = spread_skill(table.part(name, "ensemble_variance"), table.part(name, "ensemble_mse"), forecaster.samples)
    return out | {"spread_skill": [_plain(value) for value in ratio.tolist()]}


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None
