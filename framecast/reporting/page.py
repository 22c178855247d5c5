"""What the offline pages share: the template's frame, pictures inside the page, the protocol card.

Pictures are data inside the file, there is no script, and a content policy forbids every request. Names from outside
are text wherever they stand.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import framecast
from framecast.evaluation.scorer import KeptClip, figure
from framecast.media.grid import GREEN, RED, as_rgb, border, enlarge, side_by_side
from framecast.media.resize import resize_frames
from framecast.media.write import write_video
from framecast.metrics.clips import METRICS
from framecast.metrics.scores import BASELINES, Scores

#: Longest side of a panel in px: smaller frames are enlarged to about the first, larger ones scaled to the second.
_PANEL, _LARGEST = 160, 320
_GREY = (140, 140, 140)  # border of what is neither context nor forecast: the truth to come
_HOLD = 0.7  # seconds the last frame stays before a film starts again
_STRIP = 160  # px, longest side of a frame in a strip


def render(template: str, **values: Any) -> str:
    """A page from one of the templates beside this file; every name in `values` is shown as text."""
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
    """Rows of the protocol card: what was compared on, and how."""
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


def conventions(scores: Scores) -> list[tuple[str, str]]:
    """How every metric of these scores is computed, name beside rule."""
    said, names = scores.protocol.metrics, scores.protocol.settings.names
    wanted = {
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
    there = {*names, "interval", *({"rf_mmd", "fvd"} & set(said))} | (
        {"moving"} if any(n.startswith("moving") for n in names) else set()
    )
    return [(label, str(said[key])) for key, label in wanted.items() if key in there]


def plain(config: Any) -> str:
    """A configuration as indented text; nothing for none."""
    if config is None:
        return ""
    values = asdict(config) if is_dataclass(config) and not isinstance(config, type) else config
    return json.dumps(values, indent=2, default=str, ensure_ascii=False)


# ------------------------------------------------------------------------------------------------------- pictures


def clip_view(clip: KeptClip, scores: Scores, everybody: bool = False) -> dict[str, Any]:
    """A kept clip as a page shows it: one film of all panels, and a strip at the headline frames.

    Args:
        everybody: Show every row, labelled panels in lines; else the one in question and copy-last, side by side.
    """
    order = list(clip.predictions)
    if not everybody:
        order = [scores.main, *(n for n in order if n not in (scores.main, BASELINES[1]))]
    shown = {name: clip.predictions[name] for name in order if name in clip.predictions}
    panels = {"truth": _panel(clip.context, clip.truth, _GREY)}
    panels |= {name: _panel(clip.context, frames, RED) for name, frames in shown.items()}
    together = (
        side_by_side(panels, columns=_columns(len(panels)), least=1) if everybody else _joined(list(panels.values()))
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
        "labels": [] if everybody else list(panels),
        "film": film_view(clip.name, together, scores.protocol.fps),
        "columns": ["last seen", *(f"frame {k}" for k in scores.headline_frames)],
        "rows": rows,
    }


def _columns(count: int) -> int:
    """Panels in a line, at most five, so that lines are about as long: seven are four and three."""
    return -(-count // -(-count // 5))


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


def film_view(name: str, frames: Any, fps: float) -> dict[str, Any]:
    """A film as animated WebP inside the page; its last frame is held a little."""
    rgb = as_rgb(frames)
    rgb = np.concatenate([rgb, rgb[-1:].repeat(max(1, round(_HOLD * fps)), axis=0)])
    with tempfile.TemporaryDirectory() as folder:
        data = write_video(rgb, Path(folder) / "film.webp", fps).read_bytes()
    height, width = rgb.shape[2:]
    panels = max(1, round(width / height))
    return {"name": name, "uri": uri("webp", data), "width": width, "height": height, "panels": panels}


def still(frame: np.ndarray) -> str:
    """A frame, uint8 (3, h, w), as a PNG that stands in the page itself."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0))).save(out, format="PNG", optimize=True)
    return uri("png", out.getvalue())


def uri(kind: str, data: bytes) -> str:
    """A picture of that kind as a data URI, so that the page asks for nothing."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
