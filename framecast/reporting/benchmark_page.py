"""Page of a benchmark: per data set a ranked table, all models on one clip, curves, costs and the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.config import length_in_words
from framecast.core.io import write_text
from framecast.evaluation.comparison import contains_zero
from framecast.evaluation.headline import figure
from framecast.evaluation.scorer import KeptClip
from framecast.media.grid import GREEN, RED, border, enlarge, grid, side_by_side
from framecast.media.images import write_image
from framecast.media.write import write_video
from framecast.metrics.averages import Series
from framecast.metrics.clips import METRICS
from framecast.metrics.objects import ALL_THINGS
from framecast.metrics.scores import BASELINES, HEADLINE_FRAMES, Protocol, Scores
from framecast.reporting.charts import hint, horizon_chart, lines, metric_label
from framecast.reporting.page import (
    conventions,
    difference_cell,
    mean_cell,
    object_tables,
    plain_cell,
    protocol_card,
    render,
    uri,
)

#: Columns beside the metric that ranks, over the horizon and at the last headline frame.
_BESIDE = ("skill_best", "psnr", "ssim")
_LATE = "area_sharpness_ratio"
#: Curves drawn.
_CURVES = ("skill", "skill_best", "psnr", "area_sharpness_ratio")
#: Least side of a panel of the video, and of a frame of the strip, px.
_PANEL, _STILL = 112, 72


def picture(kept: Sequence[KeptClip], names: Sequence[str], folder: Path, fps: float) -> None:
    """Write film.webp and strip.png: truth of the median clip and its forecast by each of `names`."""
    clip = next((c for c in kept if c.role == "median"), kept[0])
    chosen = {n: clip.predictions[n] for n in (*names, *BASELINES) if n in clip.predictions}
    panels = {"truth": clip.truth, **chosen}
    coloured = {
        name: border(enlarge(frames, _PANEL), GREEN if name == "truth" else RED, width=2)
        for name, frames in panels.items()
    }
    write_video(side_by_side(coloured, columns=min(7, len(coloured)), least=1), folder / "film.webp", fps)
    at = [k - 1 for k in HEADLINE_FRAMES if k <= len(clip.truth)]
    rows = {name: np.asarray(frames)[at] for name, frames in panels.items()}
    write_image(grid(rows, [f"frame {k + 1}" for k in at], least=_STILL), folder / "strip.png")


def write_benchmark(out: Path, table: Mapping[str, Any]) -> Path:
    """Write benchmark.html into `out` and return its path."""
    from markupsafe import Markup

    sections = []
    for data, result in table["data"].items():
        scores, metric = averaged(result), result["rank_by"]
        drawn = [horizon_chart(scores, m) for m in _CURVES if m in scores.metrics]
        strip = out / data / "strip.png"
        beside = [m for m in _BESIDE if m != metric and m in scores.metrics]
        late = result["headline_frames"][-1]
        sections.append(
            {
                "name": data,
                "sentence": sentence(result),
                "rank_label": metric_label(metric),
                "rank_hint": hint(metric),
                "count": len(result["frames"]),
                "beside": [
                    *(metric_label(m) for m in beside),
                    f"{METRICS[_LATE].label} at {late}",
                    *(["object recall"] if result["objects"] else []),
                ],
                "rows": [_row(row, metric, beside, late, result["objects"]) for row in result["rows"]],
                "objects": _objects(result),
                "failed": result["failed"],
                "missing": result.get("missing_baselines", {}),
                "strip": uri("png", strip.read_bytes()) if strip.is_file() else None,
                "legend": lines(scores),
                "curves": [{**asdict(c), "svg": Markup(c.svg)} for c in drawn if c],
                "costs": [_cost(name, cost) for name, cost in table["costs"][data].items()],
                "runs": [{"name": name, **_run(run)} for name, run in table["runs"][data].items()],
                "rules": result["rules"],
                "card": protocol_card(scores),
                "conventions": conventions(scores),
            }
        )
    page = render("benchmark_page.html.j2", title="Benchmark", lead=lead(table), how=how(table), sections=sections)
    return write_text(out / "benchmark.html", page)


def lead(table: Mapping[str, Any]) -> str:
    """Best model on each data set, in one sentence."""
    count = len(table["settings"]["models"])
    models = "One model" if count == 1 else f"{count} models"
    firsts = [f"{result['rows'][0]['name']} is best on {data}" for data, result in table["data"].items()]
    return f"{models} trained from scratch for {_length(table['settings'])} each: {', '.join(firsts)}."


def sentence(result: Mapping[str, Any]) -> str:
    """Number of models significantly better than persistence (copy-last), by the ranking metric."""
    metric = result["rank_by"]
    ours = [row for row in result["rows"] if row["name"] not in BASELINES]
    sign = -1 if METRICS[metric].better == "lower" else 1
    gains = {r["name"]: r["to_copy_last"][metric] for r in ours}
    better = [n for n, g in gains.items() if g["mean"] is not None and not contains_zero(g) and sign * g["mean"] > 0]
    undecided = [n for n, g in gains.items() if g["mean"] is None or contains_zero(g)]
    p = result["protocol"]
    over = f"over {p['clips']} {'clip' if p['clips'] == 1 else 'clips'} and {p['horizon']} frames"
    if METRICS[metric].better == "one":
        return f"Ordered by {METRICS[metric].label}, {over}."
    label = METRICS[metric].label
    text = f"{len(better)} of {len(ours)} are significantly better than persistence (copy-last)"
    text += "" if metric == "skill" else f" by {label}"
    more = f"; for {len(undecided)} the difference is not significant at 95 %" if undecided else ""
    return f"{text}, {over}{more}."


def how(table: Mapping[str, Any]) -> str:
    """Training conditions of the runs, in words."""
    s = table["settings"]
    runs = [run for rows in table["runs"].values() for run in rows.values() if "hardware" in run]
    machines = sorted(
        {f"{r['hardware']['cpu']}, {r['hardware']['cores']} core(s), {r['hardware']['device']}" for r in runs}
    )
    seeds = f"seed {s['seeds'][0]}" if len(s["seeds"]) == 1 else f"seeds {', '.join(map(str, s['seeds']))}"
    alone = len(s["seeds"]) == 1
    spread = "one seed: intervals do not include the variance of training" if alone else "intervals include both"
    return (
        f"Every model was trained from scratch for {_length(s)}, one after another, {seeds} ({spread}). "
        f"On {'; '.join(machines)}."
    )


def describe(table: Mapping[str, Any]) -> str:
    """The ranked tables as plain text."""
    out = []
    for data, result in table["data"].items():
        metric = result["rank_by"]
        width = max(len("model"), *(len(r["name"]) for r in result["rows"]))
        out.append(f"{data}: {metric_label(metric)}, {hint(metric)}, over {len(result['frames'])} frames")
        out.append(f"  #   {'model':<{width}}{'mean':>10}   to copy-last (95 % interval)")
        for row in result["rows"]:
            gain = difference_cell((row["to_copy_last"] or {}).get(metric), metric)
            more = "{value} ({half})".format(**gain).removesuffix(" ()") or "–"
            mark = "=" if row["tied"] else " "
            mean = figure(row["figures"][metric]["mean"], metric)
            out.append(f" {mark}{row['rank']:<3} {row['name']:<{width}}{mean:>10}   {more}")
        out += [f"      {name:<{width}}  {reason}" for name, reason in result.get("missing_baselines", {}).items()]
        out += [f"  {name} failed: {fault}" for name, fault in result["failed"].items()]
        if any(row["tied"] for row in result["rows"]):
            out.append("  = difference to the row above not significant at 95 %")
        out += [sentence(result), ""]
    return "\n".join(out).rstrip()


def _length(settings: Mapping[str, Any]) -> str:
    return length_in_words(settings["steps"], settings["budget"], settings.get("clock", "wall"))


def _row(
    row: Mapping[str, Any], metric: str, beside: Sequence[str], late: int, objects: Mapping[str, Any] | None
) -> dict[str, Any]:
    spread = [v for v in row["figures"][metric]["seeds"] if v is not None]
    seeds = f"{figure(min(spread), metric)} to {figure(max(spread), metric)}" if len(spread) > 1 else ""
    first = {k: row["by_frame"][metric][k][0] for k in ("mean", "low", "high")}
    ratio = (
        {k: row["by_frame"][_LATE][k][late - 1] for k in ("mean", "low", "high")} if _LATE in row["by_frame"] else None
    )
    return {
        "rank": row["rank"],
        "tied": row["tied"],
        "name": row["name"],
        "kind": "baseline" if row["name"] in BASELINES else f"{row['model']} ({row['profile']})",
        "baseline": row["name"] in BASELINES,
        "seeds": seeds,
        "cells": [mean_cell(row["figures"][metric], metric)],
        "first": mean_cell(first, metric),
        "gain": difference_cell((row["to_copy_last"] or {}).get(metric), metric),
        "beside": [
            *(mean_cell(row["figures"][m], m) for m in beside),
            mean_cell(ratio, _LATE) if ratio else {"value": "–", "half": ""},
            *([plain_cell(objects["rows"][row["name"]]["found"][ALL_THINGS], 2)] if objects else []),
        ],
    }


def _objects(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Rows x objects, one table per metric, in the order of the ranking."""
    found = result["objects"]
    if found is None:
        return None
    return object_tables(found["metrics"], found["rows"], [row["name"] for row in result["rows"]], found["things"])


def _cost(name: str, cost: Mapping[str, Any]) -> dict[str, str]:
    speed, memory = cost["frames_per_second"], cost["memory_mb"]
    return {
        "name": name,
        "parameters": f"{cost['parameters']:,}",
        "steps": f"{cost['steps']:,.0f}",
        "time": f"{cost['training_seconds']:,.0f} s",
        "speed": "–" if speed is None else f"{speed:,.0f}",
        "memory": "–" if memory is None else f"{memory:,.0f} MB",
    }


def _run(run: Mapping[str, Any]) -> dict[str, str]:
    steps, seconds = run.get("steps"), run.get("seconds")
    done = "failed" if steps is None else f"{steps:,} steps" + ("" if seconds is None else f" in {seconds:,.0f} s")
    return {"command": str(run.get("command", "")), "done": done}


def averaged(result: Mapping[str, Any]) -> Scores:
    """The curves of one table as scores, for charts."""
    return Scores(
        protocol=Protocol.from_json(result["protocol"]),
        predictors={r["name"]: {m: Series.from_json(s) for m, s in r["by_frame"].items()} for r in result["rows"]},
    )
