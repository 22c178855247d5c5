"""The page of a comparison: the ranked table first, then what it looks like, curves, costs, and how it was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from framecast.core.io import write_text
from framecast.evaluation.comparison import Comparison
from framecast.evaluation.scorer import KeptClip, figure
from framecast.metrics.averages import Series
from framecast.metrics.clips import METRICS
from framecast.metrics.objects import ALL_THINGS
from framecast.metrics.scores import BASELINES
from framecast.reporting.charts import hint, horizon_chart, lines
from framecast.reporting.page import clip_view, conventions, protocol_card, render
from framecast.reporting.report import MINOR, figures_by_frame, left_out

#: Columns of the ranked table beside the metric that ranks.
_BESIDE = ("psnr", "ssim", "sharpness_ratio", "lpips")


def write_comparison(folder: str | Path, comparison: Comparison, kept: Sequence[KeptClip], title: str = "") -> Path:
    """Write `comparison.html` into `folder` and return its path.

    Args:
        kept: The clips to show, from `compare`.

    Raises:
        UserError: If the page cannot be written; an older page then stays as it was.
    """
    from markupsafe import Markup

    scores, metric = comparison.scores, comparison.rank_by
    charts = [(m in MINOR, horizon_chart(scores, m)) for m in scores.protocol.settings.names]
    beside = [m for m in _BESIDE if m != metric and m in scores.protocol.settings.names]
    page = render(
        "compare_page.html.j2",
        title=title or f"Comparison on {scores.protocol.data}",
        sentence=sentence(comparison),
        protocol=scores.protocol,
        ranked=_ranked(comparison, beside),
        rank_label=_label(metric),
        rank_hint=hint(metric),
        beside=[*(_label(m) for m in beside), *(["things found"] if comparison.extras.get("objects") else [])],
        count=len(comparison.frames),
        clips=[clip_view(clip, scores, everybody=True) for clip in kept],
        shown_by=METRICS[kept[0].metric].label if kept else "",
        legend=lines(scores),
        curves=[{**asdict(chart), "svg": Markup(chart.svg), "minor": minor} for minor, chart in charts if chart],
        frames=scores.headline_frames,
        table=figures_by_frame(scores),
        skipped=left_out(scores),
        costs=_costs(comparison),
        pairs=_pairs(comparison),
        objects=_objects(comparison),
        sets=_sets(comparison),
        drawn=_drawn(comparison),
        calibration=_calibration(comparison),
        not_available=[f"{_NAMES.get(k, k)}: {why}" for k, why in comparison.extras.get("not_available", {}).items()],
        rules=comparison.rules,
        card=protocol_card(scores),
        conventions=conventions(scores),
    )
    return write_text(Path(folder) / "comparison.html", page)


def sentence(comparison: Comparison) -> str:
    """What was found, in one plain sentence."""
    metric, order = comparison.rank_by, comparison.ranking()
    best, about = order[0], METRICS[comparison.rank_by]
    p = comparison.protocol
    over = f"over {p.clips} {'clip' if p.clips == 1 else 'clips'} and {p.horizon} frames"
    if best["mean"] is None:
        return f"Nothing could be measured by {about.label}, {over}."
    told = f"{best['name']} comes first by {about.label}, {figure(best['mean'], metric)} {about.unit}".rstrip()
    gain = best["to_copy_last"]
    if gain is not None and gain["mean"] is not None:
        told += f", {_signed(gain['mean'], metric)} {about.unit}".rstrip() + " to repeating the last frame"
        if gain["low"] is not None:
            told += f" (95 % interval {_signed(gain['low'], metric)} to {_signed(gain['high'], metric)})"
    near = []
    for row in order[1:]:
        if row["to_best"] is None or row["to_best"]["low"] is None:
            break
        if not row["to_best"]["low"] <= 0 <= row["to_best"]["high"]:
            break
        near.append(row["name"])
    if near:
        told += f"; these clips do not tell it from {', '.join(near)}"
    return f"{told}, {over}."


def describe(comparison: Comparison) -> str:
    """The ranked table as plain text, under it what it means."""
    metric, order = comparison.rank_by, comparison.ranking()
    width = max(len("row"), *(len(row["name"]) for row in order))
    about = METRICS[metric]
    unit = f" [{about.unit}]" if about.unit else ""
    lines = [f"{about.label}{unit}, {hint(metric)}, mean over {len(comparison.frames)} frames"]
    lines.append(f"  #   {'row':<{width}}{'mean':>10}   {'to copy-last (95 % interval)':<32}{'frames/s':>10}")
    for row in order:
        gain = row["to_copy_last"]
        told = "–" if gain is None or gain["mean"] is None else _difference(gain, metric)
        speed = comparison.costs[row["name"]]["frames_per_second"]
        rate = "–" if speed is None else f"{speed:,.0f}"
        mark = "=" if row["tied"] else " "
        lines.append(
            f" {mark}{row['rank']:<3} {row['name']:<{width}}{figure(row['mean'], metric):>10}   {told:<32}{rate:>10}"
        )
    if any(row["tied"] for row in order):
        lines.append("  = cannot be told from the row above it by these clips")
    return "\n".join([*lines, "", *comparison.rules, sentence(comparison)])


def _label(metric: str) -> str:
    about = METRICS[metric]
    return about.label + (f" [{about.unit}]" if about.unit else "")


def _signed(value: float, metric: str) -> str:
    return f"{value:+.{METRICS[metric].digits}f}".replace("-", "−")


def _difference(found: Mapping[str, Any], metric: str) -> str:
    if found["mean"] is None:
        return "–"
    if found["low"] is None:
        return _signed(found["mean"], metric)
    low, high = _signed(found["low"], metric), _signed(found["high"], metric)
    return f"{_signed(found['mean'], metric)} ({low} to {high})"


def _gap(found: Mapping[str, Any] | None, metric: str) -> dict[str, str]:
    if found is None or found["mean"] is None:
        return {"value": "", "half": ""}
    known = found["low"] is not None
    half = f"{_signed(found['low'], metric)} to {_signed(found['high'], metric)}" if known else ""
    return {"value": _signed(found["mean"], metric), "half": half}


def _cell(found: Mapping[str, Any], metric: str) -> dict[str, str]:
    half = "" if found["low"] is None else f"± {figure((found['high'] - found['low']) / 2, metric)}"
    return {"value": figure(found["mean"], metric), "half": half}


def _ranked(comparison: Comparison, beside: Sequence[str]) -> list[dict[str, Any]]:
    metric, out = comparison.rank_by, []
    for row in comparison.ranking():
        card, name = comparison.rows[row["name"]], row["name"]
        kind = {"baseline": "baseline", "folder": card["model"] or "forecasts of another program"}.get(card["kind"])
        out.append(
            {
                "rank": row["rank"],
                "tied": row["tied"],
                "name": name,
                "kind": kind or f"{card['model']} ({card['profile']})",
                "baseline": name in BASELINES,
                "cells": [_cell(row, metric)],
                "differences": [_gap(row[key], metric) for key in ("to_copy_last", "to_best")],
                "beside": [*(_cell(comparison.means[name][m], m) for m in beside), *_found(comparison, name)],
            }
        )
    return out


def _costs(comparison: Comparison) -> list[dict[str, Any]]:
    out = []
    for name, card in comparison.rows.items():
        cost = comparison.costs[name]
        context = f"{card['context']}, one in {card['stride']}" if card["stride"] > 1 else str(card["context"])
        data = f"trained on {card['trained_on']}" if card["trained_on"] else ""
        if data and card["trained_on_these_data"] is False:
            data += ", other data"
        out.append(
            {
                "name": name,
                "parameters": _number(card["parameters"]),
                "steps": _number(card["training_steps"]),
                "time": _duration(card["training_seconds"]),
                "speed": _number(cost["frames_per_second"]),
                "memory": "–" if cost["memory_mb"] is None else f"{cost['memory_mb']:,.0f} MB",
                "context": context,
                "input": "{} × {}".format(*card["input"]),
                "samples": card["samples"],
                "data": data,
            }
        )
    return out


def _drawn(comparison: Comparison) -> list[dict[str, Any]]:
    """Rows that drew several futures: best, mean and worst by the metric that ranks, and how unlike they are."""
    scores, metric = comparison.scores, comparison.rank_by
    out = []
    for name, row in scores.samples.items():
        curves = [scores.predictors[name][metric], row[metric]["mean"], row[metric]["worst"]]
        cells = [figure(_over(comparison, s), metric) for s in curves]
        out.append({"name": name, "cells": [*cells, figure(_over(comparison, scores.diversity[name]), "mae")]})
    return out


def _over(comparison: Comparison, series: Series) -> float | None:
    """Mean over the frames that all rows forecast, as far as there is a number."""
    values = [v for k in comparison.frames if (v := series.mean[k - 1]) is not None]
    return sum(values) / len(values) if values else None


_NAMES = {"rf-mmd": "rf-mmd", "fvd": "FVD", "lpips": "LPIPS"}


def _found(comparison: Comparison, name: str) -> list[dict[str, str]]:
    told = comparison.extras.get("objects")
    return [] if told is None else [_plain_cell(told["means"][name]["found"][ALL_THINGS], 2)]


def _objects(comparison: Comparison) -> dict[str, Any] | None:
    """Rows x things: the share found, and where it is not obvious the rest."""
    told = comparison.extras.get("objects")
    if told is None:
        return None
    names = [ALL_THINGS, *(thing["name"] for thing in told["things"]["things"])]
    seen = [n for n in names if any(row["present"][n]["n"] for row in told["means"].values())]
    tables = []
    for metric, about in told["metrics"].items():
        digits = 1 if metric == "error" else 2
        rows = []
        for row in (r["name"] for r in comparison.ranking()):
            cells = [_plain_cell(told["means"][row][metric][name], digits) for name in seen]
            rows.append({"name": row, "cells": cells})
        tables.append({"metric": metric, "about": about, "rows": rows})
    return {"names": seen, "tables": tables}


def _plain_cell(found: Mapping[str, Any], digits: int) -> dict[str, str]:
    if found["mean"] is None:
        return {"value": "–", "half": ""}
    half = "" if found["low"] is None else f"± {(found['high'] - found['low']) / 2:.{digits}f}"
    return {"value": f"{found['mean']:.{digits}f}", "half": half}


def _sets(comparison: Comparison) -> list[dict[str, Any]]:
    """One table per distance of sets: row, value, n, floor."""
    out = []
    for name, told in (comparison.extras.get("sets") or {}).items():
        if told is None:
            continue
        digits = 4 if name == "rf-mmd" else 1
        rows = [
            {
                "name": row["name"],
                "value": f"{told['rows'][row['name']]['value']:.{digits}f}",
                "n": told["rows"][row["name"]]["n"],
                "floor": f"{told['rows'][row['name']]['floor']:.{digits}f}",
                "most": "–"
                if told["rows"][row["name"]]["floor_95"] is None
                else f"{told['rows'][row['name']]['floor_95']:.{digits}f}",
            }
            for row in comparison.ranking()
        ]
        out.append({"name": _NAMES[name], "rows": rows})
    return out


def _calibration(comparison: Comparison) -> dict[str, Any] | None:
    told = comparison.extras.get("calibration")
    if not told:
        return None
    outcomes = list(next(iter(told.values()))["frequency"])
    rows = []
    for name, row in told.items():
        cells = [
            _plain_cell(row["frequency"][o], 3) if o in row["frequency"] else {"value": "–", "half": ""}
            for o in outcomes
        ]
        rest = [_plain_cell(row[key], 3) for key in ("distance", "floor", "unclear")]
        rows.append({"name": name, "cells": [*cells, *rest]})
    known = next(iter(told.values()))["probability"]
    return {"outcomes": outcomes, "known": [_plain_cell(known[o], 3)["value"] for o in outcomes], "rows": rows}


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _pairs(comparison: Comparison) -> dict[str, Any]:
    """Every row against every other, by the metric that ranks: row minus column."""
    metric = comparison.rank_by
    order = [row["name"] for row in comparison.ranking()]
    rows = []
    for a in order:
        cells = []
        for b in order:
            if a == b:
                cells.append({"text": "", "sure": False})
                continue
            found = comparison.difference(metric, a, b)
            sure = found["low"] is not None and not found["low"] <= 0 <= (found["high"] or 0.0)
            text = "–" if found["mean"] is None else _signed(float(found["mean"]), metric)
            cells.append({"text": text, "sure": sure})
        rows.append({"name": a, "cells": cells})
    return {"names": order, "rows": rows}
