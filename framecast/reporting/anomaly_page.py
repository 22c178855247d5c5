"""Files of a detection of anomalies: page with a timeline, film with a heat map, scores as CSV and JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.commit import replaced_file
from framecast.core.io import write_json, write_text
from framecast.evaluation.anomaly import Anomalies
from framecast.media.grid import RED, as_rgb, border, heat_map, side_by_side
from framecast.media.write import write_video
from framecast.reporting.charts import timeline_chart
from framecast.reporting.page import film_view, render, still

_CHUNK = 64  # frames drawn at once
_EMBEDDED = 400  # most frames of a film within the page
_MOMENTS = 6  # alarms shown with a picture
_QUIET = (140, 140, 140)  # border of frames without an alarm
_FAINT = 0.25  # share of the threshold at which the heat map begins


def write_anomalies(folder: str | Path, found: Anomalies, film: bool = True) -> dict[str, Path]:
    """Write page, JSON, CSV, scores of regions and film of a detection.

    Args:
        folder: created if missing.
        found: the detection.
        film: write the film, for which all frames are read again.

    Returns:
        Path by "page", "json", "csv", "regions" and "film".

    Raises:
        UserError: a file cannot be written.
    """
    folder = Path(folder)
    scores = [None if math.isnan(value) else float(f"{value:.6g}") for value in found.scores]
    paths = {"json": write_json(folder / "anomaly.json", {**found.summary(), "scores": scores})}
    paths["csv"] = write_text(folder / "scores.csv", _table(found))
    paths["regions"] = folder / "regions.npy"
    with replaced_file(paths["regions"], ".npy") as part:
        np.save(part, found.regions)
    if film:
        paths["film"] = write_video(film_frames(found), folder / "film.mp4", found.fps)
    paths["page"] = write_text(folder / "anomaly.html", _page(found, film))
    return paths


def sentence(found: Anomalies) -> str:
    """The result in one sentence, and in a second one what became of frames whose forecast crosses a break."""
    count = int(found.alarms.sum())
    over = f"{len(found.scores)} frames ({len(found.scores) / found.fps:.1f} s)"
    result = f"{count} of {over} are alarms: {_named(found.intervals)}." if count else f"No alarm in {over}."
    if skipped := [span for span in found.not_scored if span[0] > 0]:
        return f"{result} Not scored, since their forecast crosses a shot cut or a pause: {_named(skipped)}."
    if crossing := [span for span in found.intervals if found.crossing[slice(*span)].any()]:
        return f"{result} The forecast crosses a shot cut or a pause at {_named(crossing)}."
    return result


def _named(stretches: Sequence[tuple[int, int]]) -> str:
    """The first stretches of frames, (first, one past the last) each, in words."""
    first = ", ".join(f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in stretches[:4])
    rest = len(stretches) - 4
    more = "" if rest < 1 else f" and {rest} more {'stretch' if rest == 1 else 'stretches'}"
    return f"{'frame' if sum(b - a for a, b in stretches) == 1 else 'frames'} {first}{more}"


def film_frames(found: Anomalies) -> Iterator[np.ndarray]:
    """Frames of the film, uint8 (3, h, w): the video, bordered red at alarms, beside it the heat map."""
    for start in range(0, len(found.scores), _CHUNK):
        count = min(_CHUNK, len(found.scores) - start)
        frames = as_rgb(found.frames(start, count))
        alarms = found.alarms[start : start + count, None, None, None]
        heated = heat_map(frames, _strength(found, start, count))
        rows = {
            label: np.where(alarms, border(shown, RED), border(shown, _QUIET))
            for label, shown in (("video", frames), ("score of regions", heated))
        }
        yield from side_by_side(rows)


def _strength(found: Anomalies, start: int, count: int) -> np.ndarray:
    """Strength of the heat map, (t, rows, columns) in 0…1: from a quarter of the threshold up to the threshold."""
    share = found.regions[start : start + count] / max(found.threshold, 1e-12)
    strength: np.ndarray = ((share - _FAINT) / (1 - _FAINT)).clip(0, 1)
    return strength


def _table(found: Anomalies) -> str:
    """CSV: frame, seconds, score, alarm, row and column of the region with the largest score, and whether the frame
    begins a new shot or follows a pause; a frame without a forecast has no score, row and column."""
    lines, breaks = ["frame,seconds,score,alarm,row,column,break"], set(found.breaks)
    for k, (score, alarm) in enumerate(zip(found.scores, found.alarms, strict=True)):
        known = not math.isnan(score)
        row, column = found.worst_region(k) if known else ("", "")
        lines.append(
            f"{k},{k / found.fps:.4f},{f'{score:.6g}' if known else ''},{int(alarm)},{row},{column},{int(k in breaks)}"
        )
    return "\n".join(lines) + "\n"


def _count(frames: int) -> str:
    return f"{frames} frame" if frames == 1 else f"{frames} frames"


def _page(found: Anomalies, film: bool) -> str:
    from markupsafe import Markup

    chart = timeline_chart(found.scores.tolist(), found.threshold, found.intervals, found.breaks)
    whole = len(found.scores) <= _EMBEDDED
    shown = np.stack(list(film_frames(found))) if film and whole else None
    alarms = int(found.alarms.sum())
    largest = np.nanmax(found.scores) / max(found.threshold, 1e-12)
    tiles = [
        {"value": str(alarms), "unit": "frame" if alarms == 1 else "frames", "label": "alarms"},
        {"value": str(len(found.intervals)), "unit": "", "label": "stretches of alarms"},
        {"value": f"{largest:.2g}", "unit": "× threshold", "label": "largest score"},
        {
            "value": f"{found.rate:g}",
            "unit": "",
            "label": f"stated false-alarm rate, per block of {found.block} frames",
        },
    ]
    return render(
        "anomaly_page.html.j2",
        title=f"Anomalies in {found.name}",
        sentence=sentence(found),
        tiles=tiles,
        smoothing=f", averaged over {found.settings['smooth']} frames" if found.settings["smooth"] > 1 else "",
        charts=[{**asdict(chart), "svg": Markup(chart.svg)}],
        film=None if shown is None else film_view(found.name, shown, found.fps),
        film_beside=film and shown is None,
        moments=_moments(found),
        card=_card(found),
    )


def _moments(found: Anomalies) -> list[dict[str, Any]]:
    """The stretches with the largest scores, each with a picture of its largest frame."""
    ranked = sorted(found.intervals, key=lambda span: -found.scores[span[0] : span[1]].max())[:_MOMENTS]
    out = []
    for start, stop in sorted(ranked):
        peak = start + int(found.scores[start:stop].argmax())
        frame = as_rgb(found.frames(peak, 1))
        heated = heat_map(frame, _strength(found, peak, 1))
        row, column = found.worst_region(peak)
        out.append(
            {
                "frames": _named([(start, stop)]),
                "seconds": f"{start / found.fps:.2f} to {stop / found.fps:.2f} s",
                "score": f"{found.scores[peak] / max(found.threshold, 1e-12):.2g} × threshold",
                "region": f"row {row + 1}, column {column + 1}"
                + (", at a shot cut or a pause" if found.crossing[start:stop].any() else ""),
                "picture": still(side_by_side({f"frame {peak}": frame, "score of regions": heated})[0]),
            }
        )
    return out


def _card(found: Anomalies) -> list[tuple[str, str]]:
    """Rows of the protocol: name and value."""
    rows, columns = found.regions.shape[1:]
    return [
        ("Model", found.run),
        ("Normal material", f"{found.calibration}, {found.blocks} blocks of {found.block} frames{_crossing(found)}"),
        ("Threshold", f"{found.threshold:.4g}, conformal quantile of the blocks’ largest scores"),
        ("Stated false-alarm rate", f"{found.rate:g} of normal blocks have an alarm, or fewer"),
        ("Frames", f"{len(found.scores)} at {found.fps:g} per second; the first {found.first} have no forecast"),
        ("Regions", f"{rows} × {columns}"),
        ("Shot cuts and pauses", _treatment(found)),
        ("Lead time", _count(found.settings["lead"])),
        ("Averaged over", _count(found.settings["smooth"])),
        ("Samples", str(found.settings["samples"])),
        ("Seed", str(found.settings["seed"])),
    ]


def _crossing(found: Anomalies) -> str:
    """What became of breaks in the normal material; empty where there are none."""
    count = found.calibration_breaks
    return f", none across a shot cut or a pause ({count} in it)" if count else ""


def _treatment(found: Anomalies) -> str:
    """What became of frames whose forecast crosses a break."""
    if not found.breaks:
        return "none in this video"
    where = _named([(frame, frame + 1) for frame in found.breaks])
    return f"{where}; forecasts across one are {'not scored' if found.settings['at_cuts'] == 'skip' else 'scored'}"
