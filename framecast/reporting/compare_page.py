"""Page of a comparison: ranked table, example clips, curves, costs and protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from framecast.core.io import write_text
from framecast.evaluation.comparison import Comparison
from framecast.evaluation.headline import figure, row_sentence
from framecast.evaluation.scorer import KeptClip
from framecast.metrics.averages import Series
from framecast.metrics.clips import METRICS, POOLED
from framecast.metrics.objects import ALL_THINGS
from framecast.metrics.scores import BASELINES
from framecast.metrics.skill import interval_rule
from framecast.reporting.charts import hint, horizon_chart, lines, metric_label
from framecast.reporting.page import (
    clip_view,
    conventions,
    difference_cell,
    mean_cell,
    object_tables,
    plain_cell,
    protocol_card,
    render,
    signed,
)
from framecast.reporting.report import MINOR, figures_by_frame, left_out

#: Columns of the ranked table beside the metric that ranks.
_BESIDE = ("skill_best", "area_sharpness_ratio", "psnr", "ssim", "lpips")


def write_comparison(folder: str | Path, comparison: Comparison, kept: Sequence[KeptClip], title: str = "") -> Path:
    """Write `comparison.html` into `folder` and return its path.

    Args:
        folder: Created if missing.
        comparison: Result of `compare`.
        kept: Clips to display, from `compare`.
        title: Of the page; empty is "Comparison on" the data.

    Raises:
        UserError: If the page cannot be written; an older page then stays as it was.
    """
    from markupsafe import Markup

    scores, metric = comparison.scores, comparison.rank_by
    charts = [(m in MINOR, horizon_chart(scores, m)) for m in scores.metrics]
    beside = [m for m in _BESIDE if m != metric and m in scores.metrics]
    page = render(
        "compare_page.html.j2",
        title=title or f"Comparison on {scores.protocol.data}",
        sentence=sentence(comparison),
        protocol=scores.protocol,
        ranked=_ranked(comparison, beside),
        rank_label=metric_label(metric),
        rank_hint=hint(metric),
        beside=[
            "useful horizon",
            "false motion",
            *(metric_label(m) for m in beside),
            *(["object recall"] if comparison.extras.get("objects") else []),
        ],
        missing=[f"{name}: {reason}" for name, reason in scores.missing.items()],
        flags=_flags(comparison),
        count=len(comparison.frames),
        clips=[clip_view(clip, scores, all_rows=True) for clip in kept],
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
        drawn_label=_drawn_label(comparison),
        calibration=_calibration(comparison),
        not_available=[f"{_NAMES.get(k, k)}: {why}" for k, why in comparison.extras.get("not_available", {}).items()],
        rules=comparison.rules,
        card=protocol_card(scores),
        conventions=conventions(scores),
    )
    return write_text(Path(folder) / "comparison.html", page)


def sentence(comparison: Comparison) -> str:
    """Result of a comparison in one sentence."""
    metric, order = comparison.rank_by, comparison.ranking()
    best, about = order[0], METRICS[comparison.rank_by]
    p = comparison.protocol
    over = f"over {p.clips} {'clip' if p.clips == 1 else 'clips'} and {p.horizon} frames"
    if best["mean"] is None:
        return f"Nothing could be measured by {about.label}, {over}."
    interval = _range(best, metric) if metric in POOLED else ""
    text = f"{best['name']} is best by {about.label}, {figure(best['mean'], metric)} {about.unit}".rstrip() + interval
    gain = best["to_copy_last"]
    if gain is not None and gain["mean"] is not None and metric not in POOLED:
        text += f", {signed(gain['mean'], metric)} {about.unit}".rstrip() + " to persistence (copy-last)"
        text += _range(gain, metric)
    near = []
    for row in order[1:]:
        if row["to_best"] is None or row["to_best"]["low"] is None:
            break
        if not row["to_best"]["low"] <= 0 <= row["to_best"]["high"]:
            break
        near.append(row["name"])
    if near:
        text += f"; the difference to {', '.join(near)} is not significant at 95 %"
    return f"{text}, {over}."


def _range(found: Mapping[str, Any], metric: str) -> str:
    if found["low"] is None:
        return ""
    return f" (95 % interval {signed(found['low'], metric)} to {signed(found['high'], metric)})"


def describe(comparison: Comparison) -> str:
    """The ranked table as plain text, with the rules and the result in one sentence."""
    metric, order = comparison.rank_by, comparison.ranking()
    width = max(len("row"), *(len(row["name"]) for row in order))
    lines = [f"{metric_label(metric)}, {hint(metric)}, over {len(comparison.frames)} frames"]
    lines.append(f"  #   {'row':<{width}}{'mean':>10}   {'to copy-last (95 % interval)':<32}{'frames/s':>10}")
    for row in order:
        gain = row["to_copy_last"]
        difference = "{value} ({half})".format(**difference_cell(gain, metric)).removesuffix(" ()") or "–"
        speed = comparison.costs[row["name"]]["frames_per_second"]
        rate = "–" if speed is None else f"{speed:,.0f}"
        mark = "=" if row["tied"] else " "
        mean = figure(row["mean"], metric)
        lines.append(f" {mark}{row['rank']:<3} {row['name']:<{width}}{mean:>10}   {difference:<32}{rate:>10}")
    lines += [f"      {name:<{width}}  {reason}" for name, reason in comparison.scores.missing.items()]
    if any(row["tied"] for row in order):
        lines.append("  = difference to the row above not significant at 95 %")
    p = comparison.protocol
    rule = f"Baselines {', '.join(p.baselines)}; {interval_rule(p.clips, p.videos)}."
    return "\n".join([*lines, "", *_flags(comparison), *comparison.rules, rule, sentence(comparison)])


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
                "cells": [mean_cell(row, metric)],
                "differences": [difference_cell(row[key], metric) for key in ("to_copy_last", "to_best")],
                "beside": [
                    *_summary_cells(comparison, name),
                    *(mean_cell(comparison.means[name][m], m) for m in beside),
                    *_found(comparison, name),
                ],
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
    """Rows with several samples: best, mean and worst by the ranking metric, and the diversity of the samples."""
    scores = comparison.scores
    metric = "psnr" if comparison.rank_by in POOLED else comparison.rank_by
    out = []
    for name, row in scores.samples.items():
        curves = [scores.predictors[name][metric], row[metric]["mean"], row[metric]["worst"]]
        cells = [figure(_over(comparison, s), metric) for s in curves]
        out.append({"name": name, "cells": [*cells, figure(_over(comparison, scores.diversity[name]), "mae")]})
    return out


def _drawn_label(comparison: Comparison) -> str:
    metric = "psnr" if comparison.rank_by in POOLED else comparison.rank_by
    return f"{metric_label(metric)}, {hint(metric)}"


def _over(comparison: Comparison, series: Series) -> float | None:
    """Mean over the frames that all rows forecast, where there is a number."""
    values = [v for k in comparison.frames if (v := series.mean[k - 1]) is not None]
    return sum(values) / len(values) if values else None


_NAMES = {"rf-mmd": "rf-mmd", "fvd": "FVD", "lpips": "LPIPS"}


def _summary_cells(comparison: Comparison, name: str) -> list[dict[str, str]]:
    """Useful horizon in frames, and the share of false motion."""
    summary = comparison.scores.summaries[name]
    share = "–" if summary.false_motion is None else f"{summary.false_motion:.0%}"
    ranges = ", ".join(f"{a} to {b}" for a, b in summary.ranges)
    return [{"value": str(summary.useful_horizon), "half": ranges}, {"value": share, "half": ""}]


def _flags(comparison: Comparison) -> list[str]:
    """Result over the whole horizon of every row that is no baseline."""
    names = [row["name"] for row in comparison.ranking() if row["name"] not in BASELINES]
    return [f"{name}: {row_sentence(comparison.scores, name)}." for name in names]


def _found(comparison: Comparison, name: str) -> list[dict[str, str]]:
    found = comparison.extras.get("objects")
    return [] if found is None else [plain_cell(found["means"][name]["found"][ALL_THINGS], 2)]


def _objects(comparison: Comparison) -> dict[str, Any] | None:
    """Rows x objects, one table per metric."""
    found = comparison.extras.get("objects")
    if found is None:
        return None
    names = [ALL_THINGS, *(thing["name"] for thing in found["things"]["things"])]
    seen = [n for n in names if any(row["present"][n]["n"] for row in found["means"].values())]
    return object_tables(found["metrics"], found["means"], [row["name"] for row in comparison.ranking()], seen)


def _sets(comparison: Comparison) -> list[dict[str, Any]]:
    """One table per set distance: row, value, n, floor."""
    out = []
    for name, found in (comparison.extras.get("sets") or {}).items():
        if found is None:
            continue
        digits = 4 if name == "rf-mmd" else 1
        rows = [
            {
                "name": row["name"],
                "value": f"{found['rows'][row['name']]['value']:.{digits}f}",
                "n": found["rows"][row["name"]]["n"],
                "floor": f"{found['rows'][row['name']]['floor']:.{digits}f}",
                "most": "–"
                if found["rows"][row["name"]]["floor_95"] is None
                else f"{found['rows'][row['name']]['floor_95']:.{digits}f}",
            }
            for row in comparison.ranking()
        ]
        out.append({"name": _NAMES[name], "rows": rows})
    return out


def _calibration(comparison: Comparison) -> dict[str, Any] | None:
    found = comparison.extras.get("calibration")
    if not found:
        return None
    outcomes = list(next(iter(found.values()))["frequency"])
    rows = []
    for name, row in found.items():
        cells = [
            plain_cell(row["frequency"][o], 3) if o in row["frequency"] else {"value": "–", "half": ""}
            for o in outcomes
        ]
        rest = [plain_cell(row[key], 3) for key in ("distance", "floor", "unclear")]
        rows.append({"name": name, "cells": [*cells, *rest]})
    known = next(iter(found.values()))["probability"]
    return {"outcomes": outcomes, "known": [plain_cell(known[o], 3)["value"] for o in outcomes], "rows": rows}


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
    """Paired differences of all rows by the ranking metric: row minus column."""
    metric = comparison.rank_by
    order = [row["name"] for row in comparison.ranking()]
    rows = []
    for a in order:
        cells = []
        for b in order:
            if a == b:
                cells.append({"text": "", "significant": False})
                continue
            found = comparison.difference(metric, a, b)
            significant = found["low"] is not None and not found["low"] <= 0 <= (found["high"] or 0.0)
            text = "–" if found["mean"] is None else signed(float(found["mean"]), metric)
            cells.append({"text": text, "significant": significant})
        rows.append({"name": a, "cells": cells})
    return {"names": order, "rows": rows}
