"""Common parts of the offline pages: rendering, embedded images, table cells, the protocol card.

Images are data in the file, there is no script, and a content policy forbids every request. External names are
escaped everywhere.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import framecast
from framecast.evaluation.headline import figure
from framecast.evaluation.scorer import KeptClip
from framecast.media.grid import GREEN, RED, as_rgb, border, enlarge, side_by_side
from framecast.media.resize import resize_frames
from framecast.media.write import write_video
from framecast.metrics.clips import METRICS
from framecast.metrics.scores import BASELINES, Scores

#: Longest side of a panel in px: smaller frames are enlarged to about the first, larger ones scaled to the second.
_PANEL, _LARGEST = 160, 320
_GREY = (140, 140, 140)  # border of the true future
_HOLD = 0.7  # seconds that the last frame of a looping video is held
_STRIP = 160  # px, longest side of a frame in a strip


def render(template: str, **values: Any) -> str:
    """A page from one of the templates beside this file; all `values` are escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(version=framecast.__version__, **values)


# -------------------------------------------------------------------------------------------------------- protocol


def protocol_card(scores: Scores) -> list[tuple[str, str]]:
    """Rows of the protocol card: name and value."""
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
        ("Baselines", ", ".join([*p.baselines, *(f"{name} {reason}" for name, reason in scores.missing.items())])),
        ("Seed", str(p.seed)),
        ("Computed on", f"{p.device}, {p.precision}"),
        ("framecast", p.code_version),
    ]


def conventions(scores: Scores) -> list[tuple[str, str]]:
    """Definition of every metric of these scores: name and rule."""
    rules, names = scores.protocol.metrics, scores.protocol.settings.names
    wanted = {
        "skill": "Skill",
        "still": "False motion",
        "area_sharpness": "Sharpness ratio, moving area",
        "psnr": "PSNR",
        "ssim": "SSIM",
        "ms_ssim": "MS-SSIM",
        "sharp_diff": "Sharp Diff",
        "lpips": "LPIPS",
        "moving": "Moving area",
        "rf_mmd": "rf-mmd",
        "fvd": "FVD",
        "interval": "Intervals",
    }
    there = {
        *names,
        "interval",
        *({"skill", "still", "area_sharpness"} & set(rules)),
        *({"rf_mmd", "fvd"} & set(rules)),
    } | ({"moving"} if any(n.startswith("moving") for n in names) else set())
    return [(label, str(rules[key])) for key, label in wanted.items() if key in there]


def plain(config: Any) -> str:
    """A configuration as indented text; empty for None."""
    if config is None:
        return ""
    values = asdict(config) if is_dataclass(config) and not isinstance(config, type) else config
    return json.dumps(values, indent=2, default=str, ensure_ascii=False)


# --------------------------------------------------------------------------------------------------------- figures


def signed(value: float, metric: str) -> str:
    """A difference with its sign and the decimal places of its metric."""
    return f"{value:+.{METRICS[metric].digits}f}".replace("-", "−")


def mean_cell(found: Mapping[str, Any], metric: str) -> dict[str, str]:
    """Table cell of a mean: value, and ± half the interval."""
    half = "" if found["low"] is None else f"± {figure((found['high'] - found['low']) / 2, metric)}"
    return {"value": figure(found["mean"], metric), "half": half}


def difference_cell(found: Mapping[str, Any] | None, metric: str) -> dict[str, str]:
    """Table cell of a paired difference: value, and its interval; empty for None."""
    if found is None or found["mean"] is None:
        return {"value": "", "half": ""}
    half = "" if found["low"] is None else f"{signed(found['low'], metric)} to {signed(found['high'], metric)}"
    return {"value": signed(found["mean"], metric), "half": half}


def plain_cell(found: Mapping[str, Any], digits: int) -> dict[str, str]:
    """Table cell of a mean with a number of decimal places, for numbers that are no metric of frames."""
    if found["mean"] is None:
        return {"value": "–", "half": ""}
    half = "" if found["low"] is None else f"± {(found['high'] - found['low']) / 2:.{digits}f}"
    return {"value": f"{found['mean']:.{digits}f}", "half": half}


def object_tables(
    about: Mapping[str, str], means: Mapping[str, Any], names: Sequence[str], things: Sequence[str]
) -> dict[str, Any]:
    """Tables of rows x objects, one per metric.

    Args:
        about: Metric -> its definition.
        means: Row -> metric -> object -> mean with its interval.
        names: Rows, in their order.
        things: Objects, in their order.
    """
    tables = []
    for metric, definition in about.items():
        digits = 1 if metric == "error" else 2
        rows = [{"name": n, "cells": [plain_cell(means[n][metric][t], digits) for t in things]} for n in names]
        tables.append({"metric": metric, "about": definition, "rows": rows})
    return {"names": list(things), "tables": tables}


# ------------------------------------------------------------------------------------------------------- images


def clip_view(clip: KeptClip, scores: Scores, all_rows: bool = False) -> dict[str, Any]:
    """View of a kept clip: one video of all panels, and a strip at the headline frames.

    Args:
        clip: To display.
        scores: Its scores.
        all_rows: Show every row, in lines of labelled panels; else the evaluated one and copy-last, side by side.
    """
    order = list(clip.predictions)
    if not all_rows:
        order = [scores.main, *(n for n in order if n not in (scores.main, *BASELINES[1:]))]
    shown = {name: clip.predictions[name] for name in order if name in clip.predictions}
    panels = {"truth": _panel(clip.context, clip.truth, _GREY)}
    panels |= {name: _panel(clip.context, frames, RED) for name, frames in shown.items()}
    together = (
        side_by_side(panels, columns=_columns(len(panels)), least=1) if all_rows else _joined(list(panels.values()))
    )
    context = _sized(clip.context[-1:], _STRIP)
    rows = [
        {"label": label, "frames": [still(context[0]), *(still(f) for f in _at(frames, scores.headline_frames))]}
        for label, frames in {"truth": clip.truth, **shown}.items()
    ]
    about = METRICS[clip.metric]
    return {
        "role": clip.role.capitalize(),
        "name": clip.name,
        "figure": f"{about.label} {figure(clip.value, clip.metric)} {about.unit}".strip(),
        "labels": [] if all_rows else list(panels),
        "film": film_view(clip.name, together, scores.protocol.fps),
        "columns": ["last context", *(f"frame {k}" for k in scores.headline_frames)],
        "rows": rows,
    }


def _columns(count: int) -> int:
    """Panels per line, at most five, in lines of similar length: seven are four and three."""
    return -(-count // -(-count // 5))


def _panel(context: Any, future: Any, colour: tuple[int, int, int]) -> np.ndarray:
    """Context in a green border, then the future in another: uint8 (t, 3, h, w)."""
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


def film_view(name: str, frames: Any, fps: float) -> dict[str, Any]:
    """A video as animated WebP data; its last frame is held."""
    rgb = as_rgb(frames)
    rgb = np.concatenate([rgb, rgb[-1:].repeat(max(1, round(_HOLD * fps)), axis=0)])
    with tempfile.TemporaryDirectory() as folder:
        data = write_video(rgb, Path(folder) / "film.webp", fps).read_bytes()
    height, width = rgb.shape[2:]
    panels = max(1, round(width / height))
    return {"name": name, "uri": uri("webp", data), "width": width, "height": height, "panels": panels}


def still(frame: np.ndarray) -> str:
    """A frame, uint8 (3, h, w), as a PNG data URI."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0))).save(out, format="PNG", optimize=True)
    return uri("png", out.getvalue())


def uri(kind: str, data: bytes) -> str:
    """Image data as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
