"""Report of a run: one self-contained HTML file.

Images are data in the file, there is no script, and a content policy forbids every request. External names are
escaped everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framecast.core.config import duration_in_words
from framecast.core.io import write_text
from framecast.evaluation.headline import best_baselines, coverage_sentence, figure, guards, headline_sentence
from framecast.evaluation.scorer import KeptClip
from framecast.metrics.averages import Series
from framecast.metrics.clips import METRICS
from framecast.metrics.objects import ALL_THINGS
from framecast.metrics.scores import Scores
from framecast.metrics.skill import UNDEFINED, interval_rule
from framecast.reporting.charts import hint, horizon_chart, lines, motion_charts, training_charts
from framecast.reporting.page import clip_view, conventions, film_view, plain, protocol_card, render
from framecast.training.log import read_metrics
from framecast.training.run_folder import earlier_links, read_chain, trained

if TYPE_CHECKING:
    from framecast.training.run_folder import Run

#: Metrics that are redundant with another one; collapsed in the page.
MINOR = ("mse", "mae", "moving_mse", "moving_mae", "still_mse", "still_mae")


def write_report(
    folder: str | Path,
    scores: Scores,
    kept: Sequence[KeptClip],
    *,
    title: str,
    loss_history: Sequence[Mapping[str, Any]] | None = None,
    config: Any = None,
    films: Mapping[str, Any] | None = None,
    links: Sequence[Mapping[str, str]] = (),
) -> Path:
    """Write `report.html` into `folder` and return its path.

    Args:
        folder: Created if missing.
        scores: Of the run.
        kept: Clips to display, from `score`.
        title: Of the page.
        loss_history: Rows of metrics.jsonl.
        config: Of the run, a dataclass or plain values.
        links: Rows of `links_of`, for the run of a chain.
        films: Caption -> further videos, uint8 or float 0…1 (t, c, h, w), for example of `media.grid.side_by_side`.

    Raises:
        UserError: If the page cannot be written; an older page then stays as it was.
    """
    from markupsafe import Markup

    charts = [(metric in MINOR, horizon_chart(scores, metric)) for metric in scores.metrics]
    page = render(
        "report_page.html.j2",
        title=title,
        sentence=headline_sentence(scores),
        main=scores.main,
        guards=[f"{name}: {text}." for name in scores.summaries if (text := guards(scores, name))],
        missing=[f"{name}: {reason}" for name, reason in scores.missing.items()],
        best_baseline=best_baselines(scores.best_baseline),
        recall=" ".join(text for text in (_recall(scores), coverage_sentence(scores)) if text),
        intervals=interval_rule(scores.protocol.clips, scores.protocol.videos),
        tiles=_tiles(scores),
        protocol=scores.protocol,
        rank_label=METRICS[kept[0].metric].label if kept else "",
        clips=[clip_view(clip, scores) for clip in kept],
        films=[film_view(name, frames, scores.protocol.fps) for name, frames in (films or {}).items()],
        frames=scores.headline_frames,
        table=figures_by_frame(scores),
        skipped=left_out(scores),
        curves=[{**asdict(chart), "svg": Markup(chart.svg), "minor": minor} for minor, chart in charts if chart],
        legend=lines(scores),
        motions=[{**asdict(chart), "svg": Markup(chart.svg)} for chart in motion_charts(scores.motions)],
        motion_rows=motion_rows(scores.motions),
        links=links,
        losses=[{**asdict(chart), "svg": Markup(chart.svg)} for chart in training_charts(loss_history or [])],
        card=protocol_card(scores),
        conventions=conventions(scores),
        config=plain(config),
    )
    return write_text(Path(folder) / "report.html", page)


def report_run(run: Run, scores: Scores, kept: Sequence[KeptClip], folder: str | Path | None = None) -> Path:
    """Write the report of a run, its training curves and configuration included, into its folder or another one."""
    config = run.config
    return write_report(
        run.folder if folder is None else folder,
        scores,
        kept,
        title=f"{config.name} ({config.profile}) on {scores.protocol.data}",
        loss_history=read_metrics(run.folder),
        config=config.to_json(local=False),
        links=links_of(run.folder),
    )


def links_of(folder: Path) -> list[dict[str, str]]:
    """Name, steps, time and last validation loss of every link of a chain, as text; [] for other runs."""
    chain = read_chain(folder)
    out = []
    for place in [] if chain is None else [*earlier_links(folder), folder]:
        steps, seconds = trained(place)
        losses = [row["val/loss"] for row in read_metrics(place) if row.get("val/loss") is not None]
        out.append(
            {
                "name": chain.links[-1] if chain and place == folder else place.name,
                "steps": "–" if steps is None else f"{steps:,}",
                "time": "–" if seconds is None else duration_in_words(seconds),
                "loss": f"{losses[-1]:.4g}" if losses else "–",
            }
        )
    return out


# ------------------------------------------------------------------------------------------------------- figures


def motion_rows(motions: Mapping[str, Any]) -> list[dict[str, str]]:
    """Statistics of sampled motions as text: a row per sampler and kind of shape, one per sampler for correlations."""
    out = []
    for name, summary in motions.items():
        for kind, row in summary["shapes"].items():
            cells = {"off axis ≤ 1 px": _percent(row["off_axis"]), "std ratio": _number(row["sd_ratio"])}
            cells |= {"std within an image": _number(row["within_image_sd"]), "KL": _number(row["kl"])}
            cells |= {"rejected": _percent(row["rejected"]), "second contour": _percent(row.get("doubled"))}
            out.append({"name": f"{kind}, {name}", **cells})
        correlation = f"circle and triangle {_number(summary['corr_circle_triangle'])}"
        correlation += f" (true {_number(summary['true_corr_circle_triangle'])}), circle and square "
        out.append(
            {
                "name": f"together, {name}",
                "note": f"correlation of {correlation}{_number(summary['corr_circle_square'])}; "
                f"KL of circle and triangle {_number(summary['kl_circle_triangle'])}",
            }
        )
    return out


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _tiles(scores: Scores) -> list[dict[str, str]]:
    """Useful horizon, skill, false motion and the number of clips."""
    tiles, p, summary = [], scores.protocol, scores.summaries.get(scores.main)
    if summary is not None:
        seconds = f"frames, {summary.useful_horizon / p.fps:.2g} s"
        tiles.append({"value": str(summary.useful_horizon), "unit": seconds, "label": "useful horizon"})
        for metric, value in (("skill", summary.skill["mean"]), ("skill_best", summary.skill_best["mean"])):
            text = "–" if value is None else f"{value:+.2f}".replace("-", "−")
            label = f"{METRICS[metric].label}, {len(summary.frames)} frames"
            tiles.append({"value": text, "unit": "", "label": label if value is not None else f"{label}: {UNDEFINED}"})
        if summary.false_motion is not None:
            label = "of the squared error where the truth stood still"
            tiles.append({"value": f"{summary.false_motion:.0%}", "unit": "", "label": label})
    label = f"clips of {p.videos} {'video' if p.videos == 1 else 'videos'}, {p.split} split"
    return [*tiles, {"value": f"{p.clips:,}", "unit": "", "label": label}]


def _recall(scores: Scores) -> str:
    """Object recall of every row over the horizon, in a sentence; empty for data without known objects."""
    means = scores.objects.get("means", {})
    found = {name: row["found"][ALL_THINGS]["mean"] for name, row in means.items()}
    parts = [f"{name} {value:.2f}" for name, value in found.items() if value is not None]
    return f"Object recall over the horizon: {', '.join(parts)}." if parts else ""


def figures_by_frame(scores: Scores) -> list[dict[str, Any]]:
    """Rows of the headline table by metric, the best value of each column marked; samples as separate rows."""
    out = []
    for metric in scores.metrics:
        about = METRICS[metric]
        rows = []
        for name, row in scores.predictors.items():
            if metric in row:
                rows.append((name, row[metric]))
                rows += [
                    (f"{name}, {kind} sample", s) for kind, s in scores.samples.get(name, {}).get(metric, {}).items()
                ]
        best = [
            _best(metric, [s.mean[k - 1] for n, s in rows if n in scores.predictors]) for k in scores.headline_frames
        ]
        cells = [
            {
                "name": name,
                "cells": [
                    {
                        "value": figure(s.mean[k - 1], metric),
                        "half": half(s, k - 1, metric),
                        "best": name in scores.predictors and best[i] is not None and s.mean[k - 1] == best[i],
                    }
                    for i, k in enumerate(scores.headline_frames)
                ],
            }
            for name, s in rows
        ]
        many = f", best of {scores.protocol.samples} samples per clip" if scores.samples else ""
        unit = f"{about.unit}, " if about.unit else ""
        rows_of = {"label": about.label, "hint": f"{unit}{hint(metric)}{many}", "rows": cells}
        out.append({**rows_of, "minor": metric in MINOR})
    if scores.diversity:
        about_diversity = "mean root-mean-square difference between two samples of a clip"
        cells = [
            {
                "name": name,
                "cells": [
                    {"value": figure(s.mean[k - 1], "mae"), "half": half(s, k - 1, "mae"), "best": False}
                    for k in scores.headline_frames
                ],
            }
            for name, s in scores.diversity.items()
        ]
        out.append({"label": "Diversity of samples", "hint": about_diversity, "rows": cells, "minor": False})
    return out


def _best(metric: str, values: Sequence[float | None]) -> float | None:
    """The best value of a column; None with fewer than 2 values."""
    known = [v for v in values if v is not None]
    way = METRICS[metric].better
    if way == "neither":
        return None
    better = {"higher": lambda v: -v, "lower": lambda v: v, "one": lambda v: abs(v - 1)}[way]
    return min(known, key=better) if len(known) > 1 else None


def half(series: Series, k: int, metric: str) -> str:
    """Half the width of the interval at frame k + 1, as text; empty without one."""
    low, high = series.low[k], series.high[k]
    return "" if low is None or high is None else f"± {figure((high - low) / 2, metric)}"


def left_out(scores: Scores) -> str:
    """Clips left out of the averages, in a sentence; empty without any."""
    parts = []
    for metric, series in scores.predictors[scores.main].items():
        if any(series.skipped):
            parts.append(f"{METRICS[metric].label} up to {max(series.skipped)} of {scores.protocol.clips}")
    if not parts:
        return ""
    listed = "; ".join(parts)
    return f"Clips left out of a frame’s average because the metric is undefined there (no moving area): {listed}."
