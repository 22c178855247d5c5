"""What a comparison finds: curves, means over the frames all rows share, differences clip by clip, an order.

`Judge` goes through the clips; `Comparison` is what it found, as JSON and CSV.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.io import write_json, write_text
from framecast.evaluation.clips import Clips
from framecast.evaluation.scorer import KeptClip, kept_clips
from framecast.evaluation.table import Table
from framecast.metrics.averages import Running
from framecast.metrics.clips import METRICS, horizon_mean
from framecast.metrics.scores import BASELINES, Protocol, Scores
from framecast.training.device import Device

Interval = dict[str, float | int | None]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison found.

    scores: curves of every row.  rows: row -> what it is (see `contenders.py`).  frames: of the horizon that all rows
    forecast.  rank_by: the metric rows are ordered by.  means: row -> metric -> mean over `frames`, then clips.
    paired: metric -> a -> b -> a's mean minus b's, clip by clip.  rules: how rows were aligned, in sentences.
    costs: row -> frames per second, memory.  extras: further findings by name, plain values.
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
        """Under which conditions."""
        return self.scores.protocol

    def ranking(self, metric: str | None = None) -> list[dict[str, Any]]:
        """Rows from best to worst by their mean over the common frames; those without a number last.

        Each says its difference to the best row and to copy-last, and whether it can be told from the row before it:
        `tied` where the interval of that difference contains 0.
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
        """a's mean minus b's, clip by clip, with its interval."""
        return paired_difference(self.paired[metric], a, b)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values. Two processes give the same as one, apart from `costs`, which are measured."""
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
    """a's mean minus b's from a table that holds each pair once: a -> b -> difference."""
    if b in table.get(a, {}):
        return dict(table[a][b])
    other = table[b][a]

    def minus(value: float | None) -> float | None:
        return None if value is None else -value

    return {**other, "mean": minus(other["mean"]), "low": minus(other["high"]), "high": minus(other["low"])}


def contains_zero(found: Mapping[str, Any]) -> bool:
    """Whether an interval cannot tell a difference from none."""
    return found["low"] is None or found["high"] is None or bool(found["low"] <= 0 <= found["high"])


# ----------------------------------------------------------------------------------------------------------- judging


class ComparisonRun:
    """Goes through the clips, alone or with other processes, and keeps each clip's means over the common frames."""

    def __init__(self, table: Table, frames: Sequence[int], groups: Sequence[Hashable], rank_by: str | None) -> None:
        self.table, self.frames, self.groups = table, frames, groups
        self.metrics = table.settings.names
        if rank_by is not None and rank_by not in self.metrics:
            raise UserError(f"--rank-by {rank_by!r} is not measured here; {suggest(rank_by, self.metrics)}")
        self.rank_by = rank_by
        names = [e.name for e in table.entrants]
        self._means = {n: {m: Running(1) for m in self.metrics} for n in names}
        self._pairs = {
            m: {a: {b: Running(1) for b in names[i + 1 :]} for i, a in enumerate(names[:-1])} for m in self.metrics
        }
        #: Per metric and clip the mean over rows that are no baselines, to find clips to look at.
        self.ranks: dict[str, list[float]] = {m: [] for m in self.metrics}

    def run(self, clips: Clips, place: Device, progress: Callable[[int, int], None] | None) -> None:
        """Measure every batch and tally it, batches dealt out to the processes in turn, tallied in order by all."""
        batches = [range(i, min(i + clips.size, len(clips.pairs))) for i in range(0, len(clips.pairs), clips.size)]
        for first in range(0, len(batches), place.world):
            mine = first + place.rank
            measured = None
            if mine < len(batches):
                numbers = batches[mine]
                measured = self.table.measure(clips.loader.gather([clips.pairs[i] for i in numbers]), numbers)
            for numbers, found in zip(batches[first:], place.gather(measured), strict=False):
                if found is not None:
                    self._take(self.table.take(found, numbers), numbers)
            if progress:
                progress(self.table.clips, len(clips.pairs))

    def _take(self, chosen: Mapping[str, Mapping[str, Tensor]], numbers: Sequence[int]) -> None:
        groups = [self.groups[i] for i in numbers]
        for metric in self.metrics:
            flat = {}
            for name, values in chosen.items():
                own = self.table.frames[name]
                at = [own.index(k) for k in self.frames]
                flat[name] = horizon_mean(values[metric][:, at])[:, None]
                self._means[name][metric].add(flat[name], groups)
            for a, row in self._pairs[metric].items():
                for b, running in row.items():
                    running.add(flat[a] - flat[b], groups)
            judged = [v for n, v in flat.items() if n not in BASELINES] or list(flat.values())
            self.ranks[metric] += torch.stack(judged).mean(0)[:, 0].tolist()

    def settled(self) -> str:
        """The metric to rank by: the one asked for, else PSNR where something moves, else plain PSNR."""
        if self.rank_by:
            return self.rank_by
        wanted = [m for m in ("moving_psnr", "psnr", *self.metrics) if m in self.metrics]
        return next((m for m in wanted if not all(map(math.isnan, self.ranks[m]))), wanted[0])

    def means(self) -> dict[str, dict[str, Interval]]:
        """Row -> metric -> mean with its interval."""
        return {n: {m: _interval(r) for m, r in row.items()} for n, row in self._means.items()}

    def paired(self) -> dict[str, dict[str, dict[str, Interval]]]:
        """Metric -> a -> b -> difference, each pair once."""
        return {
            m: {a: {b: _interval(r) for b, r in row.items()} for a, row in table.items()}
            for m, table in self._pairs.items()
        }

    def show(self, clips: Clips, count: int) -> list[KeptClip]:
        """Clips from the hardest to the easiest for the rows together, every row's forecast of each."""
        metric = self.settled()
        values = self.ranks[metric]
        sort_key = METRICS[metric].sort_key(torch.tensor(values, dtype=torch.float64)).tolist()
        order = sorted((i for i, v in enumerate(values) if not math.isnan(v)), key=lambda i: -sort_key[i])
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


def _interval(running: Running) -> Interval:
    series = running.series()
    return {"mean": series.mean[0], "low": series.low[0], "high": series.high[0], "n": series.n[0]}
