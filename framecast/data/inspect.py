"""Summary of a source: counts, sizes, rates, actions and splits, with a contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.core.remote import is_address
from framecast.data.base import Source
from framecast.data.breaks import shot_cuts
from framecast.data.readers.folders import visible_files
from framecast.media.grid import as_rgb, grid
from framecast.media.images import write_image
from framecast.media.resize import resize_frames

_ROWS, _COLUMNS = 8, 8  # of the contact sheet
_PANEL = 160  # maximum longer side of a frame there, px


def inspect(source: Source, sheet: Path | None = None, window: int = 2, cuts: bool = False) -> dict[str, Any]:
    """Summary of a source as JSON values.

    Args:
        source: Source of the videos.
        sheet: File of a contact sheet (.png) to write.
        window: Source frames of one clip, for the splits.
        cuts: Find shot cuts of videos, for which every frame is decoded.

    Returns:
        videos, frames, shortest, longest (frames), sizes ("HxW" -> videos), channels, fps (rate -> videos), duration
        (seconds), bytes (decoded, uint8), disk_bytes (None if not on disk), actions, extras, breaks (places that clips
        do not cross), cuts (video -> frames that begin a shot; None if not searched for), splits (videos and frames
        of each) with split_rule, meta, and sheet; for named games also games (videos and frames, total and per split).

    Raises:
        UserError: A file cannot be read.
    """
    spec = source.spec
    breaks = getattr(source, "breaks", None) or {}
    sizes, rates = _sizes(source), _rates(source)
    lengths = list(source.lengths)
    pixels = sum(length * h * w for length, (h, w) in zip(lengths, sizes, strict=True))
    path = getattr(source, "path", None) or getattr(source, "folder", None)
    return {
        "videos": len(source),
        "frames": sum(lengths),
        "shortest": min(lengths),
        "longest": max(lengths),
        "channels": spec.channels,
        "sizes": {f"{h}x{w}": count for (h, w), count in Counter(sizes).most_common()},
        "fps": {f"{rate:g}": count for rate, count in Counter(rates).most_common()},
        "duration": round(sum(length / rate for length, rate in zip(lengths, rates, strict=True)), 3),
        "bytes": pixels * spec.channels,
        "disk_bytes": None if path is None or is_address(path) else _disk_bytes(Path(path)),
        "actions": _actions(source),
        "extras": {name: list(shape) for name, shape in spec.extras.items()},
        "breaks": sum(map(len, breaks.values())),
        "cuts": find_shots(source) if cuts and getattr(source, "may_have_cuts", False) else None,
        **_splits(source, window),
        **_games(source, window),
        "meta": source.meta(),
        "sheet": None if sheet is None else str(write_sheet(source, sheet)),
    }


def find_shots(source: Source) -> dict[str, list[int]]:
    """Video -> frames that begin a new shot, of the videos that have cuts."""
    found = {name: shot_cuts(source, video) for video, name in enumerate(source.names)}
    return {name: cuts for name, cuts in found.items() if cuts}


def write_sheet(source: Source, path: Path) -> Path:
    """Path of the contact sheet written: up to 8 videos, at least one per game, with 8 evenly spaced frames each."""
    chosen = _chosen(source)
    height, width = source.spec.height, source.spec.width
    shrink = max(1.0, max(height, width) / _PANEL)
    panel = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    rows: dict[str, np.ndarray] = {}
    for video in chosen:
        length = source.lengths[video]
        frames = [source.clip(video, start, 1).frames for start in _spread(length, _COLUMNS)]
        label = f"{_short(source.names[video])} · {length}"
        rows[label] = resize_frames(as_rgb(np.concatenate(frames)), panel, "pad")
    return write_image(grid(rows, least=_PANEL // 2), path)


def _chosen(source: Source) -> list[int]:
    """Videos of the sheet: the middle one of each game, and evenly spaced ones in the remaining rows."""
    games: dict[str, list[int]] = {}
    for video, name in enumerate(source.names):
        if (game := (getattr(source, "games", None) or {}).get(name)) is not None:
            games.setdefault(game, []).append(video)
    one_each = [videos[len(videos) // 2] for videos in games.values()] if len(games) > 1 else []
    others = [video for video in _spread(len(source), _ROWS) if video not in one_each]
    return sorted([*one_each, *others[: max(0, _ROWS - len(one_each))]])


def _spread(count: int, most: int) -> list[int]:
    """Up to `most` evenly spaced indices from 0 to count - 1, including both."""
    return sorted({round(i * (count - 1) / max(1, min(count, most) - 1)) for i in range(min(count, most))})


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:12]}…{name[-15:]}"


def _sizes(source: Source) -> list[tuple[int, int]]:
    known: Sequence[Sequence[int]] | None = getattr(source, "sizes", None)
    if known is None:
        return [(source.spec.height, source.spec.width)] * len(source)
    return [(int(size[-2]), int(size[-1])) for size in known]


def _rates(source: Source) -> list[float]:
    infos = getattr(source, "infos", None)
    known = getattr(source, "fps", None)
    if infos and not known:
        return [info.fps for info in infos]
    if isinstance(known, Sequence):
        return [float(rate) for rate in known]
    return [source.spec.fps] * len(source)


def _disk_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in visible_files(path)) if path.is_dir() else path.stat().st_size


def _actions(source: Source) -> dict[str, Any] | None:
    spec = source.spec.actions
    if spec is None:
        return None
    found: dict[str, Any] = {"kind": spec.kind, "size": spec.size, "names": list(spec.names)}
    if spec.kind == "continuous":
        found |= {"low": list(spec.low), "high": list(spec.high)}
    return found


def _splits(source: Source, window: int) -> dict[str, Any]:
    """Videos and frames of each split, or the reason why the source cannot be split."""
    rule = getattr(source, "split_rule", None)
    try:
        splits = source.splits(window)
        sentence = rule(window) if rule else None
    except UserError as error:
        return {"splits": None, "split_rule": str(error)}
    parts = {
        name: {"videos": len(segments), "frames": sum(s.stop - s.start for s in segments)}
        for name, segments in splits.items()
    }
    return {"splits": parts, "split_rule": sentence}


def _games(source: Source, window: int) -> dict[str, Any]:
    """Videos and frames of every game, total and per split."""
    games: dict[str, str] = getattr(source, "games", None) or {}
    if not games:
        return {}
    rows: dict[str, dict[str, Any]] = {}
    for name, length in zip(source.names, source.lengths, strict=True):
        row = rows.setdefault(games.get(name, "no game"), {"videos": 0, "frames": 0})
        row["videos"] += 1
        row["frames"] += length
    try:
        splits = source.splits(window)
    except UserError:  # reported in split_rule
        return {"games": rows}
    for split, segments in splits.items():
        for segment in segments:
            row = rows[games.get(source.names[segment.video], "no game")]
            part = row.setdefault(split, {"videos": 0, "frames": 0})
            part["videos"] += 1
            part["frames"] += segment.stop - segment.start
    return {"games": rows}
