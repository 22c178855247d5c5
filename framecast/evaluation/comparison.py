"""Result of a comparison: curves, means over the common frames, paired differences, a ranking; as JSON and CSV.

`ComparisonRun` measures the clips; `Comparison` is the result.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.io import write_json, write_text
from framecast.evaluation.clips import Clips
from framecast.evaluation.score_table import ScoreTable
from framecast.evaluation.scorer import KeptClip, kept_clips, worst_first
from framecast.evaluation.summaries import clip_skills, errors, references, skill_curves
from framecast.metrics.clips import METRICS, POOLED, horizon_mean
from framecast.metrics.scores import BASELINES, Protocol, Scores
from framecast.metrics.skill import skill_difference
from framecast.training.device import Device

Interval = dict[str, float | int | None]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Result of a comparison.

    Attributes:
        scores: Curves of every row.
        rows: Row -> description (see `rows.py`).
        frames: Frames of the horizon that all rows forecast.
        rank_by: Metric that rows are ordered by.
        means: Row -> metric -> mean over `frames`, then clips.
        paired: Metric -> a -> b -> paired difference of the means, a minus b.
        rules: Alignment of the rows, in sentences.
        costs: Row -> frames per second, memory.
        extras: Further results by name, plain values.
    """

    scores: Scores
    rows: Mapping[str, Mapping[str, Any]]
    frames: tuple[int, ...]
    rank_by: str
    means: Mapping[str, Mapping[str, Interval]]
    paired: Mapping[str, Mapping[str, Mapping[str, Interval]]]
    rules: tuple[str, ...]
    costs: Mapping[str, Mapping[str, float | None]]
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def protocol(self) -> Protocol:
        """Conditions of the measurement."""
        return self.scores.protocol

    def ranking(self, metric: str | None = None) -> list[dict[str, Any]]:
        """Rows from best to worst by their mean over the common frames; rows without a number last.

        Each has its paired difference to the best row and to copy-last; `tied` marks a row whose difference to the row
        before it is not significant at 95 %.

        Args:
            metric: Orders the rows; None is `rank_by`.
        """
        metric = metric or self.rank_by

        def sort_key(name: str) -> float:
            mean = self.means[name][metric]["mean"]
            return math.inf if mean is None else float(METRICS[metric].sort_key(torch.tensor(float(mean))))

        order = sorted(self.means, key=sort_key)
        out = []
        for i, name in enumerate(order):
            before = self.difference(metric, name, order[i - 1]) if i else None
            out.append(
                {
                    "rank": i + 1,
                    "name": name,
                    **self.means[name][metric],
                    "to_best": self.difference(metric, name, order[0]) if i else None,
                    "to_copy_last": self.difference(metric, name, BASELINES[0]) if name != BASELINES[0] else None,
                    "tied": before is not None and contains_zero(before),
                }
            )
        return out

    def difference(self, metric: str, a: str, b: str) -> Interval:
        """Paired difference of the means, a minus b, with its interval."""
        return paired_difference(self.paired[metric], a, b)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; equal for any number of processes, apart from the measured `costs`."""
        return {
            **self.scores.to_json(),
            "kind": "comparison",
            "rules": list(self.rules),
            "rows": {name: dict(row) for name, row in self.rows.items()},
            "frames": list(self.frames),
            "rank_by": self.rank_by,
            "ranking": self.ranking(),
            "means": {name: {m: dict(v) for m, v in row.items()} for name, row in self.means.items()},
            "paired": {m: {a: dict(row) for a, row in table.items()} for m, table in self.paired.items()},
            **self.extras,
            "costs": {name: dict(row) for name, row in self.costs.items()},
        }

    def to_csv(self) -> str:
        """One line per row, metric and frame; frame "mean" is the mean over the common frames."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["predictor", "metric", "frame", "mean", "low", "high", "n", "skipped"])
        for name, metrics in self.scores.predictors.items():
            for metric, series in metrics.items():
                whole = self.means[name][metric]
                writer.writerow([name, metric, "mean", whole["mean"], whole["low"], whole["high"], whole["n"], ""])
                for k in range(len(series.mean)):
                    if series.n[k] or series.skipped[k]:
                        row = (series.mean[k], series.low[k], series.high[k], series.n[k], series.skipped[k])
                        writer.writerow([name, metric, k + 1, *row])
        return out.getvalue()

    def save(self, folder: str | Path) -> Path:
        """Write comparison.json and comparison.csv into `folder`; returns it."""
        folder = Path(folder)
        write_text(folder / "comparison.csv", self.to_csv())
        write_json(folder / "comparison.json", self.to_json(), lines=True)
        return folder


def paired_difference(table: Mapping[str, Mapping[str, Mapping[str, Any]]], a: str, b: str) -> Interval:
    """Paired difference a minus b, from a table that holds each pair once: a -> b -> difference."""
    if b in table.get(a, {}):
        return dict(table[a][b])
    other = table[b][a]

    def minus(value: float | None) -> float | None:
        return None if value is None else -value

    return {**other, "mean": minus(other["mean"]), "low": minus(other["high"]), "high": minus(other["low"])}


def contains_zero(found: Mapping[str, Any]) -> bool:
    """Whether a difference is not significant at 95 %: its interval contains 0, or there is none."""
    return found["low"] is None or found["high"] is None or bool(found["low"] <= 0 <= found["high"])


# --------------------------------------------------------------------------------------------------------- measuring


class ComparisonRun:
    """Measures all clips, in one process or several, and summarises them over the common frames.

    Args:
        table: Forecasters and protocol.
        frames: Frames of the horizon that all rows forecast.
        rank_by: Metric that rows are ordered by; None is skill over copy-last, or PSNR if nothing moves.

    Raises:
        UserError: For a metric that is not measured.
    """

    def __init__(self, table: ScoreTable, frames: Sequence[int], rank_by: str | None) -> None:
        self.table, self.frames, self.metrics = table, frames, (*POOLED, *table.settings.names)
        if rank_by is not None and rank_by not in self.metrics:
            raise UserError(f"--rank-by {rank_by!r} is not measured here; {suggest(rank_by, self.metrics)}")
        self.rank_by = rank_by

    def measure(self, clips: Clips, place: Device, progress: Callable[[int, int], None] | None) -> None:
        """Measure every batch: batches are distributed over the processes, results collected in order by each."""
        batches = clips.batches()
        for first in range(0, len(batches), place.world):
            mine = first + place.rank
            measured = None
            if mine < len(batches):
                numbers = batches[mine]
                measured = self.table.measure(clips.loader.gather([clips.pairs[i] for i in numbers]), numbers)
            for numbers, found in zip(batches[first:], place.gather(measured), strict=False):
                if found is not None:
                    self.table.take(found, numbers)
            if progress:
                progress(self.table.clips, len(clips.pairs))

    def _clip_means(self, metric: str) -> dict[str, Tensor]:
        """Row -> mean over the common frames of every clip, (clips, 1)."""
        found = {}
        for name, own in self.table.frames.items():
            at = [own.index(k) for k in self.frames]
            found[name] = horizon_mean(self.table.per_clip(name, metric)[:, at])[:, None]
        return found

    def _ranks(self, metric: str) -> list[float]:
        """Mean over the rows that are no baselines, per clip."""
        names = [name for name in self.table.frames if name not in BASELINES] or list(self.table.frames)
        if metric in POOLED:
            skills = [clip_skills(self.table, name, self.frames) for name in names]
            return [float(value) for value in np.mean(skills, 0)]
        found = self._clip_means(metric)
        return list(torch.stack([found[name] for name in names]).mean(0)[:, 0].tolist())

    def ranking_metric(self) -> str:
        """The requested metric, else skill over copy-last, else PSNR."""
        if self.rank_by:
            return self.rank_by
        wanted = [m for m in ("skill", "psnr", *self.metrics) if m in self.metrics]
        return next((m for m in wanted if not all(map(math.isnan, self._ranks(m)))), wanted[0])

    def means(self) -> dict[str, dict[str, Interval]]:
        """Row -> metric -> mean with its interval; of POOLED the skill over the common frames."""
        out: dict[str, dict[str, Interval]] = {}
        for name in self.table.frames:
            curves = skill_curves(self.table, name, self.frames)
            out[name] = {metric: curve.horizon.scalar() for metric, curve in curves.items()}
        for metric in self.table.settings.names:
            for name, values in self._clip_means(metric).items():
                out[name][metric] = self.table.summarize(values).scalar()
        return out

    def paired(self) -> dict[str, dict[str, dict[str, Interval]]]:
        """Metric -> a -> b -> paired difference, each pair once."""
        names = list(self.table.frames)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        out: dict[str, dict[str, dict[str, Interval]]] = {m: {a: {} for a in names[:-1]} for m in self.metrics}
        squared = {name: errors(self.table, name, self.frames) for name in names}
        for metric, base in references(self.table, self.frames)[0].items():
            for a, b in pairs:
                found = skill_difference(squared[a], squared[b], base, self.table.videos)
                out[metric][a][b] = found.scalar()
        for metric in self.table.settings.names:
            means = self._clip_means(metric)
            for a, b in pairs:
                out[metric][a][b] = self.table.summarize(means[a] - means[b]).scalar()
        return out

    def show(self, clips: Clips, count: int) -> list[KeptClip]:
        """Clips from the hardest to the easiest for all rows together, with every row's forecast of each."""
        metric = self.ranking_metric()
        values = self._ranks(metric)
        order = worst_first(metric, values)
        if not order or not count:
            return []
        at = [len(order) // 2] if count == 1 else [round(i * (len(order) - 1) / (count - 1)) for i in range(count)]
        picked = list(dict.fromkeys(order[i] for i in at))
        roles = {i: "between" for i in picked}
        roles |= {picked[len(picked) // 2]: "median"} if len(picked) % 2 else {}
        roles |= {picked[-1]: "easiest", picked[0]: "hardest"} if len(picked) > 1 else {}
        kept = []
        for number in picked:
            batch = clips.loader.gather([clips.pairs[number]])
            kept += kept_clips(self.table, batch, [number], roles, metric, values, clips.names)
        return kept
