"""The page that says how far to trust a run: one HTML file that opens anywhere and asks nobody for anything.

Pictures are data inside the file, there is no script, and a content policy forbids every request. Names from outside
are text wherever they stand.
"""

from __future__ import annotations

import base64
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from framecast.engine.log import read_metrics
from framecast.evaluate import KeptClip, figure, headline_sentence
from framecast.media.grid import GREEN, RED, as_rgb, border, enlarge
from framecast.media.resize import resize_frames
from framecast.media.write import write_video
from framecast.metrics.averages import Series
from framecast.metrics.clips import METRICS
from framecast.metrics.scores import BASELINES, Scores
from framecast.report_charts import hint, horizon_chart, lines, training_charts
from framecast.types import UserError

if TYPE_CHECKING:
    from framecast.run import Run

#: Longest side of a panel in px: smaller frames are enlarged to about the first, larger ones scaled to the second.
_PANEL, _LARGEST = 160, 320
_GREY = (140, 140, 140)  # border of what is neither context nor forecast: the truth to come
_HOLD = 0.7  # seconds the last frame stays before a film starts again
#: Metrics that another one already tells; they are there for whoever opens them.
_MINOR = ("mse", "mae", "moving_mse", "moving_mae")
_STRIP = 160  # px, longest side of a frame in a strip


def write_report(
    folder: str | Path,
    scores: Scores,
    kept: Sequence[KeptClip],
    *,
    title: str,
    loss_history: Sequence[Mapping[str, Any]] | None = None,
    config: Any = None,
    films: Mapping[str, Any] | None = None,
) -> Path:
    """Write `report.html` into `folder` and return its path.

    kept: the clips to show, from `score`.  title: of the page.  loss_history: rows of metrics.jsonl.
    config: of the run, a dataclass or plain values.  films: caption -> further films, uint8 or float 0…1
    (t, c, h, w), for example of `media.grid.side_by_side`.
    Raises: UserError if the page cannot be written; an older page then stays as it was.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    names = scores.protocol.settings.names
    charts = [(metric in _MINOR, horizon_chart(scores, metric)) for metric in names]
    page = environment.get_template("report_page.html.j2").render(
        title=title,
        sentence=headline_sentence(scores),
        main=scores.main,
        tiles=_tiles(scores),
        protocol=scores.protocol,
        rank_label=METRICS[kept[0].metric].label if kept else "",
        clips=[_clip(clip, scores) for clip in kept],
        films=[_film(name, frames, scores.protocol.fps) for name, frames in (films or {}).items()],
        frames=scores.headline_frames,
        table=_table(scores),
        skipped=_skipped(scores),
        curves=[{**asdict(chart), "svg": Markup(chart.svg), "minor": minor} for minor, chart in charts if chart],
        legend=lines(scores),
        losses=[{**asdict(chart), "svg": Markup(chart.svg)} for chart in training_charts(loss_history or [])],
        card=_card(scores),
        conventions=_conventions(scores),
        config=_plain(config),
    )
    return _write(Path(folder) / "report.html", page)


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
    )


def _write(path: Path, text: str) -> Path:
    beside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as fault:
        if path.parent.is_dir():
            beside.unlink(missing_ok=True)
        raise UserError(
            f"{path}: the report could not be written ({fault.strerror}); free space or choose another folder"
        ) from fault
    return path


# ------------------------------------------------------------------------------------------------------- figures


def _tiles(scores: Scores) -> list[dict[str, str]]:
    """Three or four figures for somebody with five seconds."""
    tiles, p = [], scores.protocol
    for metric, area in (("moving_psnr", "where something moves"), ("psnr", "whole frame")):
        gain = scores.versus.get(scores.main, {}).get(metric)
        if scores.main not in BASELINES and gain is not None and gain.mean[0] is not None:
            label = f"PSNR over repeating the last frame, frame 1, {area}"
            tiles.append({"value": f"{gain.mean[0]:+.1f}".replace("-", "−"), "unit": "dB", "label": label})
    ours = scores.predictors[scores.main]
    for metric in ("ssim", "sharpness_ratio"):
        at = 1 if metric == "ssim" else scores.headline_frames[-1]
        if metric in ours and (value := ours[metric].mean[at - 1]) is not None:
            tiles.append({"value": f"{value:.3f}", "unit": "", "label": f"{METRICS[metric].label}, frame {at}"})
    label = f"clips of {p.videos} {'video' if p.videos == 1 else 'videos'}, {p.split} split"
    return [*tiles[:3], {"value": f"{p.clips:,}", "unit": "", "label": label}]


def _table(scores: Scores) -> list[dict[str, Any]]:
    """Rows of the headline table by metric, the best value of each column marked; samples as rows of their own."""
    out = []
    for metric in scores.protocol.settings.names:
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
                        "half": _half(s, k - 1, metric),
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
        out.append({**rows_of, "minor": metric in _MINOR})
    if scores.diversity:
        told = "mean root-mean-square difference between two samples of a clip"
        cells = [
            {
                "name": name,
                "cells": [
                    {"value": figure(s.mean[k - 1], "mae"), "half": _half(s, k - 1, "mae"), "best": False}
                    for k in scores.headline_frames
                ],
            }
            for name, s in scores.diversity.items()
        ]
        out.append({"label": "Diversity of samples", "hint": told, "rows": cells, "minor": False})
    return out


def _best(metric: str, values: Sequence[float | None]) -> float | None:
    """The best of a column; None where there is nothing to choose."""
    known = [v for v in values if v is not None]
    better = {"higher": lambda v: -v, "lower": lambda v: v, "one": lambda v: abs(v - 1)}[METRICS[metric].better]
    return min(known, key=better) if len(known) > 1 else None


def _half(series: Series, k: int, metric: str) -> str:
    low, high = series.low[k], series.high[k]
    return "" if low is None or high is None else f"± {figure((high - low) / 2, metric)}"


def _skipped(scores: Scores) -> str:
    """What was left out of the averages, in a sentence; empty if nothing was."""
    parts = []
    for metric, series in scores.predictors[scores.main].items():
        if any(series.skipped):
            parts.append(f"{METRICS[metric].label} up to {max(series.skipped)} of {scores.protocol.clips}")
    if not parts:
        return ""
    listed = "; ".join(parts)
    return f"Clips left out of a frame’s average because a figure is not defined there (nothing moves): {listed}."


def _card(scores: Scores) -> list[tuple[str, str]]:
    p = scores.protocol
    return [
        ("Data", p.data),
        ("Digest of the data", p.data_digest or "–"),
        ("Split", f"{p.split}, {p.split_rule}"),
        ("Clips", f"{p.clips:,} of {p.videos:,} {'video' if p.videos == 1 else 'videos'}"),
        ("Context and horizon", f"{p.context} and {p.horizon} frames, stride {p.stride}"),
        (
            "Frames",
            f"{p.height} × {p.width}, {p.channels} channel{'s' if p.channels > 1 else ''}, {p.fps:g} per second",
        ),
        ("Samples per clip", str(p.samples)),
        ("Value range", f"{p.value_range[0]:g} … {p.value_range[1]:g}"),
        ("Seed", str(p.seed)),
        ("Computed on", f"{p.device}, {p.precision}"),
        ("framecast", p.code_version),
    ]


def _conventions(scores: Scores) -> list[tuple[str, str]]:
    settings, names = scores.protocol.settings.describe(), scores.protocol.settings.names
    wanted = {
        "psnr": "PSNR",
        "ssim": "SSIM",
        "ms_ssim": "MS-SSIM",
        "sharp_diff": "Sharp Diff",
        "moving": "Moving area",
        "interval": "Intervals",
    }
    there = {*names, "interval"} | ({"moving"} if any(n.startswith("moving") for n in names) else set())
    return [(label, str(settings[key])) for key, label in wanted.items() if key in there]


def _plain(config: Any) -> str:
    if config is None:
        return ""
    values = asdict(config) if is_dataclass(config) and not isinstance(config, type) else config
    return json.dumps(values, indent=2, default=str, ensure_ascii=False)


# ------------------------------------------------------------------------------------------------------- pictures


def _clip(clip: KeptClip, scores: Scores) -> dict[str, Any]:
    """A kept clip as the page shows it: one film of all panels, and a strip at the headline frames."""
    order = [scores.main, *(n for n in clip.predictions if n not in (scores.main, BASELINES[1]))]
    shown = {name: clip.predictions[name] for name in order if name in clip.predictions}
    panels = [_panel(clip.context, clip.truth, _GREY), *(_panel(clip.context, x, RED) for x in shown.values())]
    context = _sized(clip.context[-1:], _STRIP)
    rows = [
        {"label": label, "frames": [_still(context[0]), *(_still(f) for f in _at(frames, scores.headline_frames))]}
        for label, frames in {"truth": clip.truth, **shown}.items()
    ]
    about = METRICS[clip.metric]
    return {
        "role": clip.role.capitalize(),
        "name": clip.name,
        "figure": f"{about.label} {figure(clip.value, clip.metric)} {about.unit}".strip(),
        "labels": ["truth", *shown],
        "film": _film(clip.name, _joined(panels), scores.protocol.fps),
        "columns": ["last seen", *(f"frame {k}" for k in scores.headline_frames)],
        "rows": rows,
    }


def _panel(context: Any, future: Any, colour: tuple[int, int, int]) -> np.ndarray:
    """Context in a green border, then what follows in another: uint8 (t, 3, h, w)."""
    parts = [_sized(context, _LARGEST), _sized(future, _LARGEST)]
    return np.concatenate(
        [border(enlarge(part, _PANEL), c, width=3) for part, c in zip(parts, (GREEN, colour), strict=True)]
    )


def _joined(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Panels next to each other."""
    return np.concatenate(panels, axis=3)


def _sized(frames: Any, longest: int) -> np.ndarray:
    """uint8 RGB (t, 3, h, w), scaled down if a side exceeds `longest`."""
    rgb = as_rgb(frames)
    height, width = rgb.shape[2:]
    if max(height, width) <= longest:
        return rgb
    scale = longest / max(height, width)
    return resize_frames(rgb, (max(1, round(height * scale)), max(1, round(width * scale))))


def _at(frames: Any, numbers: Sequence[int]) -> np.ndarray:
    return _sized(frames[[k - 1 for k in numbers]], _STRIP)


def _film(name: str, frames: Any, fps: float) -> dict[str, Any]:
    """A film as animated WebP inside the page; its last frame is held a little."""
    rgb = as_rgb(frames)
    rgb = np.concatenate([rgb, rgb[-1:].repeat(max(1, round(_HOLD * fps)), axis=0)])
    with tempfile.TemporaryDirectory() as folder:
        data = write_video(rgb, Path(folder) / "film.webp", fps).read_bytes()
    height, width = rgb.shape[2:]
    panels = max(1, round(width / height))
    return {"name": name, "uri": _uri("webp", data), "width": width, "height": height, "panels": panels}


def _still(frame: np.ndarray) -> str:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0))).save(out, format="PNG", optimize=True)
    return _uri("png", out.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
