"""Charts of a report as inline SVG, in the colours of the page's light and dark theme."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from framecast.metrics.clips import METRICS
from framecast.metrics.scores import BASELINES, Scores

#: Colours drawn by matplotlib, and the variable of the page that replaces each; none is used otherwise.
_PAGE = {
    "#010a01": "var(--ink)",
    "#010a02": "var(--soft)",
    "#010a03": "var(--line)",
    "#010a04": "var(--grid)",
    "#010a05": "var(--accent)",
    "#010a06": "var(--base)",
    "#010a07": "var(--base2)",
    "#010a08": "var(--other1)",
    "#010a09": "var(--other2)",
    "#010a0a": "var(--other3)",
    "#010a0b": "var(--other4)",
    "#010a0c": "var(--other5)",
    "#010a0d": "var(--other6)",
    "#010a0e": "var(--other7)",
    "#010a0f": "var(--other8)",
}
_DRAWN = {page: drawn for drawn, page in _PAGE.items()}
_OTHERS = tuple(f"var(--other{i})" for i in range(1, 9))
#: Line styles of copy-last, temporal-mean and linear-flow.
_BASELINES = (("var(--base)", "dashed"), ("var(--base2)", "dotted"), ("var(--base)", "dotted"))
_POINTS = 300  # points that a training curve is averaged down to


@dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Attributes:
        label: Quantity.
        hint: How to read it.
        svg: Markup, inserted unescaped.
    """

    label: str
    hint: str
    svg: str


@dataclass(frozen=True)
class Line:
    """Line style of one predictor.

    Attributes:
        name: Of the predictor.
        colour: CSS.
        style: "solid", "dashed" or "dotted".
    """

    name: str
    colour: str
    style: str


def lines(scores: Scores) -> list[Line]:
    """Line style of every predictor: the evaluated one in the accent colour, baselines grey and broken."""
    out, others = [], 0
    for name in scores.predictors:
        if name == scores.main:
            out.append(Line(name, "var(--accent)", "solid"))
        elif name in BASELINES:
            colour, style = _BASELINES[BASELINES.index(name)]
            out.append(Line(name, colour, style))
        else:
            style = ("solid", "dashed", "dotted")[others // len(_OTHERS) % 3]
            out.append(Line(name, _OTHERS[others % len(_OTHERS)], style))
            others += 1
    return out


def horizon_chart(scores: Scores, metric: str) -> Chart | None:
    """Every predictor's curve of one metric with its interval; None without any number."""
    shown = [(line, scores.predictors[line.name].get(metric)) for line in reversed(lines(scores))]
    shown = [(line, s) for line, s in shown if s is not None and any(m is not None for m in s.mean)]
    if not shown:
        return None
    frames = list(range(1, scores.protocol.horizon + 1))

    def draw(axes: Any) -> None:
        for line, series in shown:
            assert series is not None
            # a forecaster of every second frame has a line through those
            at = [k for k in frames if series.n[k - 1] or series.skipped[k - 1] or series.mean[k - 1] is not None]
            mean, low, high = (
                [float("nan") if s[k - 1] is None else s[k - 1] for k in at]
                for s in (series.mean, series.low, series.high)
            )
            colour, ours = _DRAWN[line.colour], line.name == scores.main
            axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
            axes.plot(
                at,
                mean,
                color=colour,
                linestyle=line.style,
                linewidth=2.1 if ours else 1.4,
                marker="o" if len(at) < 9 else None,
                markersize=4,
            )
        curves = [s for _, s in shown if s is not None]
        means = [m for s in curves for m in s.mean if m is not None]
        bands = [b for s in curves for b in (*s.low, *s.high) if b is not None]
        axes.set_ylim(*_limits(means, [*bands, *means]))
        if METRICS[metric].better == "one":
            axes.axhline(1, color=_DRAWN["var(--line)"], linewidth=1, zorder=0)
        axes.set_xlim(0.5 if len(frames) < 9 else 1, len(frames) + (0.5 if len(frames) < 9 else 0))
        axes.set_xlabel("frame of the horizon")

    return Chart(metric_label(metric), hint(metric), _svg(draw))


def _limits(means: Sequence[float], reached: Sequence[float]) -> tuple[float, float]:
    """Limits of the vertical axis: all means, and bands as far as the curves stay readable."""
    low, high = min(means), max(means)
    more = max((high - low) / 2, 0.1 * abs(high), 1e-9)
    low, high = max(min(reached), low - more), min(max(reached), high + more)
    pad = 0.04 * max(high - low, 1e-9)
    return low - pad, high + pad


def metric_label(metric: str) -> str:
    """Label of a metric with its unit."""
    about = METRICS[metric]
    return about.label + (f" [{about.unit}]" if about.unit else "")


def hint(metric: str) -> str:
    """Better direction of a metric, in words."""
    words = {"higher": "higher is better", "lower": "lower is better", "one": "1 is as sharp as the truth"}
    return words.get(METRICS[metric].better, "no better direction")


def training_charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Curves of metrics.jsonl: per phase its losses; loss, PSNR and Sharp Diff of training and validation together.

    Args:
        rows: {"step": n, "phase/part": number, …, "val/loss": number, …}; other values are left out.
    """
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        step = row.get("step")
        if not isinstance(step, int | float):
            continue
        for key, value in row.items():
            prefix, _, part = key.partition("/")
            if not part or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if prefix in ("train", "val") and part in ("psnr", "sharp_diff", "loss"):
                names = {"psnr": "PSNR [dB]", "sharp_diff": "Sharp Diff [dB]", "loss": "Validation loss"}
                group, line = names[part], {"train": "training", "val": "validation"}[prefix]
            elif prefix in ("train", "val"):
                continue
            else:
                group, line = f"Losses of {prefix}", part
            groups.setdefault(group, {}).setdefault(line, []).append((step, value))
    ordered = sorted(groups.items(), key=lambda item: (not item[0].startswith("Losses"), item[0]))
    return [_training_chart(label, curves) for label, curves in ordered if any(len(c) > 1 for c in curves.values())]


def motion_charts(motions: Mapping[str, Any]) -> list[Chart]:
    """Histograms of displacements, true as bars and sampled as a line, for every way of sampling and kind of shape.

    Args:
        motions: As `Scores.motions`.
    """
    return [
        _motion_chart(f"{kind}, {name}", row, summary["bins"])
        for name, summary in motions.items()
        for kind, row in summary["shapes"].items()
    ]


def _motion_chart(label: str, row: Mapping[str, Any], bins: Sequence[int]) -> Chart:
    at = list(range(bins[0], bins[1] + 1))

    def draw(axes: Any) -> None:
        axes.bar(at, row["true"], width=0.9, color=_DRAWN["var(--base)"], alpha=0.35, label="true")
        axes.step(at, row["sampled"], where="mid", color=_DRAWN["var(--accent)"], linewidth=1.8, label="sampled")
        axes.set_xlabel("displacement along its axis, px of 128")
        axes.legend(frameon=False, fontsize=9.5, labelcolor=_DRAWN["var(--ink)"], handlelength=1.4)

    divergence = "none detected" if row["kl"] is None else f"KL {row['kl']:.2f} nats"
    return Chart(label, f"{divergence}; {row['rejected']:.0%} rejected", _svg(draw))


def _training_chart(label: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Chart:
    curves = dict(sorted(curves.items(), key=lambda item: item[0] not in ("total", "validation"))[:5])
    losses = "oss" in label
    positive = losses and all(v > 0 for curve in curves.values() for _, v in curve)
    colours = ["var(--accent)", "var(--base)", *_OTHERS]

    def draw(axes: Any) -> None:
        for i, (name, curve) in enumerate(curves.items()):
            x, y = _thinned(curve)
            axes.plot(x, y, color=_DRAWN[colours[i]], linewidth=1.7 if i == 0 else 1.2, label=name, zorder=5 - i)
        if positive:
            axes.set_yscale("log")
            _number_log_axis(axes)
        axes.set_xlabel("step")
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=9.5, labelcolor=_DRAWN["var(--ink)"], handlelength=1.4)

    return Chart(label, "log scale" if positive else "", _svg(draw))


def _number_log_axis(axes: Any, steps: Sequence[int] = (1, 2, 5)) -> None:
    """Plain numbers at 1, 2, 5, 10, …; a scale of one decade would otherwise show a single one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _thinned(curve: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Steps and values, adjacent ones averaged where there are too many for the chart."""
    size = -(-len(curve) // _POINTS)
    blocks = [curve[i : i + size] for i in range(0, len(curve), size)]
    return [b[-1][0] for b in blocks], [sum(v for _, v in b) / len(b) for b in blocks]


def timeline_chart(
    scores: Sequence[float], threshold: float, intervals: Sequence[tuple[int, int]], breaks: Sequence[int] = ()
) -> Chart:
    """Scores of a video's frames over time on a log scale, the threshold, alarms as bands, and shot cuts as lines.

    Args:
        scores: One per frame, NaN for none.
        threshold: Above which a frame is an alarm.
        intervals: First frame and one past the last of consecutive alarms.
        breaks: Frames that begin a new shot or follow a pause.
    """
    least = threshold / 1000 if threshold > 0 else 1e-9

    def draw(axes: Any) -> None:
        for start, stop in intervals:
            axes.axvspan(start - 0.5, stop - 0.5, color=_DRAWN["var(--other6)"], alpha=0.16, linewidth=0)
        for frame in breaks:
            axes.axvline(frame - 0.5, color=_DRAWN["var(--soft)"], linewidth=1.0, linestyle="dotted")
        shown = [max(value, least) for value in scores]  # a NaN stays one
        axes.plot(range(len(shown)), shown, color=_DRAWN["var(--accent)"], linewidth=1.4)
        axes.axhline(max(threshold, least), color=_DRAWN["var(--other6)"], linewidth=1.2, linestyle="dashed")
        axes.set_yscale("log")
        _number_log_axis(axes, (1,))
        axes.set_xlim(0, max(len(shown) - 1, 1))
        axes.set_xlabel("frame")

    legend = "log scale; dashed: threshold; bands: alarms" + ("; dotted: shot cuts and pauses" if breaks else "")
    return Chart("Score", legend, _svg(draw, (9.4, 2.9)))


def _svg(draw: Callable[[Any], None], size: tuple[float, float] = (4.4, 2.75)) -> str:
    """An SVG element of a size in inches without prologue, namespaces or addresses, in the colours of the page."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    soft, line, grid = (_DRAWN[f"var(--{name})"] for name in ("soft", "line", "grid"))
    look: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "framecast",
        "text.parse_math": False,
        "font.size": 10.5,
        "axes.edgecolor": line,
        "axes.labelcolor": soft,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": grid,
        "grid.linewidth": 0.9,
        "xtick.color": line,
        "ytick.color": line,
        "xtick.labelcolor": soft,
        "ytick.labelcolor": soft,
        "ytick.major.size": 0,
        "ytick.minor.size": 0,
        "axes.formatter.useoffset": False,
        "axes.formatter.limits": (-4, 6),
    }
    with rc_context(look):
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.locator_params(axis="x", integer=True)
        draw(axes)
        _arrange(figure)
        out = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img" aria-hidden="true">', text, count=1
    )
    return re.sub("#010a0[0-9a-f]", lambda found: _PAGE[found.group()], text)


def _arrange(figure: Any) -> None:
    """Leave room for labels: once, where an engine of the figure's own would draw everything twice."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    ConstrainedLayoutEngine().execute(figure)
