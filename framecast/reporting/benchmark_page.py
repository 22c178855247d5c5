"""The page of a benchmark: a ranked table per set of data, all models on one clip, curves, costs, how it was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.io import write_text
from framecast.evaluation.comparison import contains_zero
from framecast.evaluation.scorer import KeptClip, figure
from framecast.media.grid import GREEN, RED, border, enlarge, grid, side_by_side
from framecast.media.images import write_image
from framecast.media.write import write_video
from framecast.metrics.averages import Series
from framecast.metrics.clips import METRICS
from framecast.metrics.objects import ALL_THINGS
from framecast.metrics.scores import BASELINES, HEADLINE_FRAMES, Protocol, Scores
from framecast.reporting.charts import hint, horizon_chart, lines
from framecast.reporting.page import conventions, protocol_card, render, uri

#: Columns beside the metric that ranks, over the horizon and at the last headline frame.
_BESIDE = ("psnr", "ssim")
_LATE = "sharpness_ratio"
#: Curves drawn.
_CURVES = ("moving_psnr", "psnr", "sharpness_ratio")
#: Least side of a panel of the film, px; frames of a strip.
_PANEL, _STILL = 112, 72


def picture(kept: Sequence[KeptClip], names: Sequence[str], folder: Path, fps: float) -> None:
    """film.webp and strip.png: the median clip, what really happened above what each of `names` forecast of it."""
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
    for data, told in table["data"].items():
        scores, metric = averaged(told), told["rank_by"]
        drawn = [horizon_chart(scores, m) for m in _CURVES if m in scores.protocol.settings.names]
        strip = out / data / "strip.png"
        beside = [m for m in _BESIDE if m != metric and m in scores.protocol.settings.names]
        late = told["headline_frames"][-1]
        sections.append(
            {
                "name": data,
                "sentence": sentence(told),
                "rank_label": _label(metric),
                "rank_hint": hint(metric),
                "count": len(told["frames"]),
                "beside": [
                    *(_label(m) for m in beside),
                    f"{METRICS[_LATE].label} at {late}",
                    *(["things found"] if told["objects"] else []),
                ],
                "rows": [_row(row, metric, beside, late, told["objects"]) for row in told["rows"]],
                "objects": _objects(told),
                "failed": told["failed"],
                "strip": uri("png", strip.read_bytes()) if strip.is_file() else None,
                "legend": lines(scores),
                "curves": [{**asdict(c), "svg": Markup(c.svg)} for c in drawn if c],
                "costs": [_cost(name, cost) for name, cost in table["costs"][data].items()],
                "runs": [{"name": name, **_run(run)} for name, run in table["runs"][data].items()],
                "rules": told["rules"],
                "card": protocol_card(scores),
                "conventions": conventions(scores),
            }
        )
    page = render("benchmark_page.html.j2", title="Benchmark", lead=lead(table), how=how(table), sections=sections)
    return write_text(out / "benchmark.html", page)


def lead(table: Mapping[str, Any]) -> str:
    """What came first on each set of data, in one sentence."""
    count = len(table["settings"]["models"])
    models = "One model" if count == 1 else f"{count} models"
    firsts = [f"{told['rows'][0]['name']} comes first on {data}" for data, told in table["data"].items()]
    return f"{models} trained from scratch for {_length(table['settings'])} each: {', '.join(firsts)}."


def sentence(told: Mapping[str, Any]) -> str:
    """Which models come closer to what happened than repeating the last frame, by the metric that ranks."""
    metric = told["rank_by"]
    ours = [row for row in told["rows"] if row["name"] not in BASELINES]
    sign = -1 if METRICS[metric].better == "lower" else 1
    gains = {r["name"]: r["to_copy_last"][metric] for r in ours}
    sure = [n for n, g in gains.items() if g["mean"] is not None and not contains_zero(g) and sign * g["mean"] > 0]
    open_ = [n for n, g in gains.items() if g["mean"] is None or contains_zero(g)]
    p = told["protocol"]
    over = f"over {p['clips']} {'clip' if p['clips'] == 1 else 'clips'} and {p['horizon']} frames"
    if METRICS[metric].better == "one":
        return f"Ordered by {METRICS[metric].label}, {over}."
    text = f"{len(sure)} of {len(ours)} come measurably closer than repeating the last frame by {METRICS[metric].label}"
    return f"{text}, {over}" + (f"; {len(open_)} cannot be told from it." if open_ else ".")


def how(table: Mapping[str, Any]) -> str:
    """Under which conditions the runs were made."""
    s = table["settings"]
    runs = [run for rows in table["runs"].values() for run in rows.values() if "hardware" in run]
    machines = sorted(
        {f"{r['hardware']['cpu']}, {r['hardware']['cores']} core(s), {r['hardware']['device']}" for r in runs}
    )
    seeds = f"seed {s['seeds'][0]}" if len(s["seeds"]) == 1 else f"seeds {', '.join(map(str, s['seeds']))}"
    luck = "one seed: intervals know nothing of the luck of training" if len(s["seeds"]) == 1 else "intervals join both"
    return (
        f"Every model was trained from scratch for {_length(s)}, one after another, {seeds} ({luck}). "
        f"On {'; '.join(machines)}."
    )


def describe(table: Mapping[str, Any]) -> str:
    """The tables as plain text."""
    out = []
    for data, told in table["data"].items():
        metric = told["rank_by"]
        width = max(len("model"), *(len(r["name"]) for r in told["rows"]))
        out.append(f"{data}: {_label(metric)}, {hint(metric)}, mean over {len(told['frames'])} frames")
        out.append(f"  #   {'model':<{width}}{'mean':>10}   to copy-last (95 % interval)")
        for row in told["rows"]:
            gain = _gap(row["to_copy_last"], metric)
            more = (gain["value"] or "–") + (f" ({gain['half']})" if gain["half"] else "")
            mark = "=" if row["tied"] else " "
            mean = figure(row["figures"][metric]["mean"], metric)
            out.append(f" {mark}{row['rank']:<3} {row['name']:<{width}}{mean:>10}   {more}")
        out += [f"  {name} failed: {fault}" for name, fault in told["failed"].items()]
        out += ["  = cannot be told from the row above it"] if any(r["tied"] for r in told["rows"]) else []
        out += [sentence(told), ""]
    return "\n".join(out).rstrip()


def _length(settings: Mapping[str, Any]) -> str:
    return f"{settings['steps']:,} steps" if settings["steps"] else str(settings["budget"])


def _label(metric: str) -> str:
    about = METRICS[metric]
    return about.label + (f" [{about.unit}]" if about.unit else "")


def _signed(value: float, metric: str) -> str:
    return f"{value:+.{METRICS[metric].digits}f}".replace("-", "−")


def _cell(found: Mapping[str, Any], metric: str) -> dict[str, str]:
    half = "" if found["low"] is None else f"± {figure((found['high'] - found['low']) / 2, metric)}"
    return {"value": figure(found["mean"], metric), "half": half}


def _gap(gains: Mapping[str, Any] | None, metric: str) -> dict[str, str]:
    found = (gains or {}).get(metric)
    if found is None or found["mean"] is None:
        return {"value": "", "half": ""}
    half = "" if found["low"] is None else f"{_signed(found['low'], metric)} to {_signed(found['high'], metric)}"
    return {"value": _signed(found["mean"], metric), "half": half}


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
        "cells": [_cell(row["figures"][metric], metric)],
        "first": _cell(first, metric),
        "gain": _gap(row["to_copy_last"], metric),
        "beside": [
            *(_cell(row["figures"][m], m) for m in beside),
            _cell(ratio, _LATE) if ratio else {"value": "–", "half": ""},
            *([_share(objects["rows"][row["name"]]["found"][ALL_THINGS], 2)] if objects else []),
        ],
    }


def _objects(told: Mapping[str, Any]) -> dict[str, Any] | None:
    """Rows x things, one table a metric, in the order of the ranking."""
    found = told["objects"]
    if found is None:
        return None
    tables = []
    for metric, about in found["metrics"].items():
        digits = 1 if metric == "error" else 2
        rows = [
            {"name": r["name"], "cells": [_share(found["rows"][r["name"]][metric][n], digits) for n in found["things"]]}
            for r in told["rows"]
        ]
        tables.append({"metric": metric, "about": about, "rows": rows})
    return {"names": found["things"], "tables": tables}


def _share(found: Mapping[str, Any], digits: int) -> dict[str, str]:
    if found["mean"] is None:
        return {"value": "–", "half": ""}
    half = "" if found["low"] is None else f"± {(found['high'] - found['low']) / 2:.{digits}f}"
    return {"value": f"{found['mean']:.{digits}f}", "half": half}


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


def averaged(told: Mapping[str, Any]) -> Scores:
    """The curves of one table as scores, to be drawn."""
    return Scores(
        protocol=Protocol.from_json(told["protocol"]),
        predictors={
            row["name"]: {m: Series.from_json(series) for m, series in row["by_frame"].items()} for row in told["rows"]
        },
    )
