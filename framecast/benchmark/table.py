"""Table of a benchmark: every model over its seeds, from the comparisons of single runs.

The figure of a model is the mean of its seeds. Its interval combines two uncertainties in quadrature: selection of
clips (mean of the seeds' half-widths, an upper bound of the half-width of their mean) and variation between seeds
(Student's t over the seeds, for two seeds or more).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import framecast
from framecast.benchmark.job import finished
from framecast.benchmark.plan import Plan, Trial
from framecast.core.io import read_file, write_json, write_text
from framecast.core.types import FORMAT
from framecast.evaluation.comparison import contains_zero, paired_difference
from framecast.metrics.averages import Series, t_quantile
from framecast.metrics.clips import METRICS
from framecast.metrics.objects import ALL_THINGS
from framecast.metrics.scores import BASELINES, Protocol, Scores, require_equal_baselines

Interval = dict[str, Any]
#: Seed -> name of the row in a comparison; a baseline has one without a seed.
Rows = dict[int | None, str]
#: Metrics, beside the ranking one, of which the differences of all pairs of rows are listed.
_COMPARED = ("skill", "skill_best", "moving_psnr", "psnr", "ssim", "sharpness_ratio")
#: Keys copied from the result file of a run.
_OF_A_RUN = (
    *("command", "seed", "steps", "seconds", "sitting_seconds", "sitting_cpu_seconds"),
    *("hardware", "versions", "date"),
)


def make_table(plan: Plan, trials: Sequence[Trial], out: Path) -> dict[str, Any]:
    """Results of all finished runs and their comparisons, as plain values.

    Equal runs give equal tables, except for `costs` and `runs`, which hold measured times.

    Args:
        plan: Plan of the benchmark.
        trials: Its runs.
        out: Output folder with the comparison of each data set.

    Raises:
        UserError: For comparisons against different sets of baselines.
    """
    tables: dict[str, Any] = {}
    costs: dict[str, Any] = {}
    runs: dict[str, Any] = {}
    protocols: dict[str, Protocol] = {}
    for data in plan.data:
        own = [t for t in trials if t.data == data]
        done = [t for t in own if finished(t.result)]
        results = {t.row: read_file(t.result) for t in own}
        compared = read_file(out / data.label / "comparison.json")
        tables[data.label] = _of_data(plan, done, compared) | {
            "failed": {t.row: results[t.row].get("fault", "") for t in own if t not in done}
        }
        protocols[data.label] = Protocol.from_json(compared["protocol"])
        costs[data.label] = _costs(done, results, compared)
        runs[data.label] = {row: {k: r[k] for k in _OF_A_RUN if k in r} for row, r in results.items()}
    require_equal_baselines(protocols)
    return {
        "format": FORMAT,
        "kind": "benchmark",
        "version": framecast.__version__,
        "settings": plan.to_json()["settings"],
        "data": tables,
        "costs": costs,
        "runs": runs,
    }


def _of_data(plan: Plan, done: Sequence[Trial], compared: Mapping[str, Any]) -> dict[str, Any]:
    """Table of one data set: rows from best to worst, with figures and differences to copy-last."""
    metric, metrics = compared["rank_by"], list(compared["headline"])
    names: dict[str, Rows] = {e.label: {t.seed: t.row for t in done if t.entry.label == e.label} for e in plan.entries}
    names = {label: trained for label, trained in names.items() if trained}
    names |= {b: {None: b} for b in BASELINES if b in compared["means"]}
    scores = Scores.from_json(compared)
    figures = {
        label: {m: joined([compared["means"][r][m] for r in rows.values()]) for m in metrics}
        for label, rows in names.items()
    }
    curves = {
        label: {m: _curve([scores.predictors[r][m] for r in rows.values()]) for m in metrics}
        for label, rows in names.items()
    }

    def sort_key(label: str) -> float:
        mean = figures[label][metric]["mean"]
        return math.inf if mean is None else float(METRICS[metric].sort_key(torch.tensor(float(mean))))

    order = sorted(names, key=sort_key)
    rows = []
    for place, label in enumerate(order):
        entry = next((e for e in plan.entries if e.label == label), None)
        before = difference(compared, metric, names[label], names[order[place - 1]]) if place else None
        rows.append(
            {
                "rank": place + 1,
                "name": label,
                "model": entry.model if entry else label,
                "profile": entry.profile if entry else "default",
                "flags": list(entry.flags) if entry else [],
                "seeds": [t.seed for t in done if t.entry.label == label],
                "tied": before is not None and contains_zero(before),
                "figures": figures[label],
                "to_copy_last": None
                if label == BASELINES[0]
                else {m: difference(compared, m, names[label], names[BASELINES[0]]) for m in metrics},
                "to_copy_last_by_frame": {
                    m: _curve([scores.versus[r][m] for r in names[label].values()]).to_json()
                    for m in metrics
                    if all(r in scores.versus and m in scores.versus[r] for r in names[label].values())
                },
                "by_frame": {m: curves[label][m].to_json() for m in metrics},
                "guards": {
                    guard: [getattr(scores.summaries[r], guard) for r in names[label].values() if r in scores.summaries]
                    for guard in ("useful_horizon", "blurred_from", "unstable_from")
                },
            }
        )
    return {
        "protocol": compared["protocol"],
        "rank_by": metric,
        "frames": compared["frames"],
        "headline_frames": scores.headline_frames,
        "missing_baselines": dict(scores.missing),
        "rules": compared["rules"],
        "rows": rows,
        "differences": {
            m: {
                a: {b: difference(compared, m, names[a], names[b]) for b in order[i + 1 :]}
                for i, a in enumerate(order[:-1])
            }
            for m in dict.fromkeys((metric, *_COMPARED))
            if m in metrics
        },
        "objects": None if compared.get("objects") is None else _objects(compared["objects"], names),
    }


def _objects(found: Mapping[str, Any], names: Mapping[str, Rows]) -> dict[str, Any]:
    """Object metrics: label -> metric -> object -> mean over the common frames; by frame for all objects together."""
    things = [ALL_THINGS, *(thing["name"] for thing in found["things"]["things"])]
    seen = [n for n in things if any(row["present"][n]["n"] for row in found["means"].values())]
    return {
        "metrics": dict(found["metrics"]),
        "things": seen,
        "rows": {
            label: {
                m: {n: joined([found["means"][r][m][n] for r in rows.values()]) for n in seen} for m in found["metrics"]
            }
            for label, rows in names.items()
        },
        "by_frame": {
            label: {
                m: _curve([Series.from_json(found["rows"][r][m][ALL_THINGS]) for r in rows.values()]).to_json()
                for m in found["metrics"]
            }
            for label, rows in names.items()
        },
    }


def joined(intervals: Sequence[Mapping[str, Any]]) -> Interval:
    """Mean over seeds with its interval (see the module docstring), and the means of the seeds.

    Args:
        intervals: mean, low and high of each seed.
    """
    means = [i["mean"] for i in intervals]
    if any(m is None for m in means):
        return {"mean": None, "low": None, "high": None, "seeds": means}
    count, mean = len(means), sum(means) / len(means)
    halves = [None if i["low"] is None else (i["high"] - i["low"]) / 2 for i in intervals]
    if any(h is None for h in halves):
        return {"mean": mean, "low": None, "high": None, "seeds": means}
    clips = sum(h for h in halves if h is not None) / count
    between_seeds = 0.0
    if count > 1:
        std = math.sqrt(sum((m - mean) ** 2 for m in means) / (count - 1))
        between_seeds = t_quantile(count - 1) * std / math.sqrt(count)
    half = math.hypot(clips, between_seeds)
    return {"mean": mean, "low": mean - half, "high": mean + half, "seeds": means}


def difference(compared: Mapping[str, Any], metric: str, a: Rows, b: Rows) -> Interval:
    """Mean of a minus mean of b, paired by the seeds that finished in both.

    With fewer than two common seeds, every row of one is paired with every row of the other; so is copy-last, which
    has no seeds.

    Args:
        compared: Stored comparison (comparison.json).
        metric: Metric to compare.
        a: Rows by seed.
        b: Rows by seed.
    """
    pairs = [(row, b[seed]) for seed, row in a.items() if seed in b]
    if len(pairs) < 2:
        pairs = [(x, y) for x in a.values() for y in b.values()]
    return joined([paired_difference(compared["paired"][metric], x, y) for x, y in pairs])


def _curve(seeds: Sequence[Series]) -> Series:
    """`joined` for every frame."""
    columns = []
    for k in range(len(seeds[0].mean)):
        found = joined([{"mean": s.mean[k], "low": s.low[k], "high": s.high[k]} for s in seeds])
        columns.append((found["mean"], found["low"], found["high"], seeds[0].n[k], max(s.skipped[k] for s in seeds)))
    return Series(*zip(*columns, strict=True))


def _costs(done: Sequence[Trial], results: Mapping[str, Any], compared: Mapping[str, Any]) -> dict[str, Any]:
    """Label -> measured costs, means over seeds."""
    found: dict[str, Any] = {}
    for label in dict.fromkeys(t.entry.label for t in done):
        rows = [t.row for t in done if t.entry.label == label]
        own = [results[r] for r in rows]
        found[label] = {
            "parameters": own[0]["parameters"],
            "steps": sum(r["steps"] for r in own) / len(own),
            "training_seconds": sum(r["seconds"] or 0.0 for r in own) / len(own),
            "frames_per_second": _mean([compared["costs"][r]["frames_per_second"] for r in rows]),
            "memory_mb": _mean([compared["costs"][r]["memory_mb"] for r in rows]),
        }
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


# ------------------------------------------------------------------------------------------------------------- files


def to_csv(table: Mapping[str, Any]) -> str:
    """Table as CSV, one line per data set, model, metric and frame.

    Frame "mean" is the mean over the frames that all rows forecast.

    Args:
        table: Result of `make_table`.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["data", "model", "seeds", "metric", "frame", "mean", "low", "high", "to_copy_last"])
    for data, found in table["data"].items():
        for row in found["rows"]:
            seeds = " ".join(map(str, row["seeds"]))
            for metric, figure in row["figures"].items():
                gain = (row["to_copy_last"] or {}).get(metric, {}).get("mean")
                line = [data, row["name"], seeds, metric]
                writer.writerow([*line, "mean", figure["mean"], figure["low"], figure["high"], gain])
                series, versus = row["by_frame"][metric], row["to_copy_last_by_frame"].get(metric)
                for k, mean in enumerate(series["mean"]):
                    if mean is not None:
                        more = versus["mean"][k] if versus else None
                        writer.writerow([*line, k + 1, mean, series["low"][k], series["high"][k], more])
    return out.getvalue()


def write_table(out: Path, table: Mapping[str, Any]) -> None:
    """Write table.json and table.csv, each atomically.

    Args:
        out: Output folder.
        table: Result of `make_table`.
    """
    write_text(out / "table.csv", to_csv(table))
    write_json(out / "table.json", table)
