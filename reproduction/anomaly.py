"""Anomaly detection on generated videos whose anomalies are known.

    python -m reproduction.anomaly          writes docs/results/anomaly.json and .md

Normal videos calibrate the detector, further normal videos measure its false alarms, and videos with an anomaly in a
stretch of frames its detection. The frames of the stretch are the positives of the frame AUC, all others the negatives.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from framecast.core.types import Clip
from framecast.data.registry import make_source
from framecast.data.store import DatasetWriter, Store
from framecast.evaluation.anomaly import Anomalies, AnomalyDetector
from framecast.media.draw import draw_shape
from framecast.reporting.anomaly_page import write_anomalies
from reproduction.results import WORK, Results, arguments

DATA = WORK / "anomaly"
RATE, BLOCK = 0.05, 16
#: Standard deviation of the sensor noise, grey levels.
NOISE = 2.0

Change = Callable[[np.ndarray, int, int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Case:
    """One kind of anomaly.

    Attributes:
        what: the anomaly, in words.
        source: name of the generator.
        settings: of the generator.
        videos: number of videos to calibrate with, to count false alarms in, and to change.
        runs: packaged weights and baselines; the first is the one recommended for this case.
        change: frames (t, c, h, w), start and stop of the stretch, random numbers -> changed frames.
        length: frames of the stretch.
        detector: settings of the detector.
        noise: whether the videos get sensor noise.
        only: part of the names of the videos that are used.
    """

    what: str
    source: str
    settings: dict[str, Any]
    videos: tuple[int, int, int]
    runs: tuple[str, ...]
    change: Change
    length: int
    detector: dict[str, Any] = field(default_factory=dict)
    noise: bool = True
    only: str = ""


def jump(frames: np.ndarray, start: int, stop: int, rng: np.random.Generator) -> np.ndarray:
    """Within the stretch every frame shows the ball at the place of a random other frame."""
    order = np.arange(len(frames))
    order[start:stop] = rng.permutation(len(frames))[: stop - start]
    return frames[order]


def run_fast(frames: np.ndarray, start: int, stop: int, rng: np.random.Generator) -> np.ndarray:
    """Within the stretch the walker moves at three times the speed; the video is shorter by that."""
    speed = np.ones(len(frames), int)
    speed[start:stop] = FASTER
    order = np.cumsum(speed) - 1
    return frames[order[order < len(frames)]]


def new_object(frames: np.ndarray, start: int, stop: int, rng: np.random.Generator) -> np.ndarray:
    """Within the stretch an orange triangle crosses the frame."""
    out, side = frames.copy(), frames.shape[3]
    row = rng.uniform(0.15, 0.85) * side
    for i in range(start, stop):
        x = side * (i - start + 1) / (stop - start + 1)
        draw_shape(out[i], "triangle", (float(x), float(row)), side / 5, (255, 128, 0))
    return out


def inverted(frames: np.ndarray, start: int, stop: int, rng: np.random.Generator) -> np.ndarray:
    """Within the stretch all colours are inverted."""
    out = frames.copy()
    out[start:stop] = 255 - out[start:stop]
    return out


#: Speed of the running walker over that of the walking one.
FASTER = 3
_BASELINES = ("linear-flow", "copy-last")
CASES = {
    "ball": Case(
        *("a ball that jumps", "bouncing", {"videos": 56, "frames": 50, "shapes": 1, "seed": 31}, (24, 24, 8)),
        *(_BASELINES, jump, 12),
    ),
    "walker": Case(
        *("a walker who runs", "walking"),
        {"subjects": 1, "takes": 100, "cameras": 1, "frames": 140, "masks": False, "seed": 31},
        *((6, 6, 8), _BASELINES, run_fast, 24, {"smooth": 4}),
        only="walking",
    ),
    "object": Case(
        *(
            "a new object",
            "ball",
            {"videos": 56, "frames": 60},
            (24, 24, 8),
            ("dreams-ball", *_BASELINES),
            new_object,
            16,
        )
    ),
    "palette": Case(
        *("a game with an inverted palette", "atari"),
        {"game": "ms_pacman", "frame_skip": 4, "episodes": 26, "max_frames": 60, "seed": 31},
        *((10, 10, 6), ("multiscale-gan-pacman", *_BASELINES), inverted, 16),
        noise=False,
    ),
}


def main() -> None:
    """Measure what is not yet in the file."""
    options = arguments(__doc__, list(CASES)).parse_args()
    results = Results("anomaly", page)
    results.parts({name: lambda name=name: measured(name, CASES[name]) for name in CASES}, options)


def parts(name: str, case: Case) -> list[Store]:
    """Packed stores of a case: normal videos, unseen normal ones, and changed ones with the array `anomaly`."""
    plain = DATA / f"{name}-plain"
    if not (plain / "index.json").is_file():
        make_source(case.source, plain, case.settings)
    store, rng = Store(plain), np.random.default_rng(7)
    chosen = [i for i, video in enumerate(store.names) if case.only in video]
    found = []
    for purpose, count in zip(("normal", "unseen", "anomalous"), case.videos, strict=True):
        folder, mine, chosen = DATA / f"{name}-{purpose}", chosen[:count], chosen[count:]
        if not (folder / "index.json").is_file():
            with DatasetWriter(folder, store.spec.fps) as writer:
                for index in mine:
                    writer.add(**_video(store, index, case, purpose == "anomalous", rng))
        found.append(Store(folder))
    return found


def _video(store: Store, index: int, case: Case, anomalous: bool, rng: np.random.Generator) -> dict[str, Any]:
    clip = store.clip(index, 0, int(store.lengths[index]))
    frames, labels = np.array(clip.frames), np.zeros(len(clip.frames), np.uint8)
    if anomalous:
        start = _start(clip, case, rng)
        frames = case.change(frames, start, start + case.length, rng)
        labels = labels[: len(frames)]
        labels[start : start + case.length] = 1
    if case.noise:
        frames = np.clip(np.round(frames + rng.normal(0, NOISE, frames.shape)), 0, 255).astype(np.uint8)
    return {"frames": frames, "name": clip.name, "anomaly": labels}


def _start(clip: Clip, case: Case, rng: np.random.Generator) -> int:
    """First frame of the stretch: in the second half; of a walker, where it walks fastest by its true positions."""
    if case.change is not run_fast:
        return int(rng.integers(len(clip.frames) // 2, len(clip.frames) - case.length))
    speed = np.linalg.norm(np.diff(clip.arrays["states"][:, :2], axis=0), axis=1)
    starts = range(30, len(speed) - FASTER * case.length - 10)
    return max(starts, key=lambda start: float(speed[start : start + FASTER * case.length].mean()))


def measured(name: str, case: Case) -> dict[str, Any]:
    """AUC, share of anomalous frames with an alarm, and false alarms, of every run."""
    began = time.process_time()
    normal, unseen, wrong = parts(name, case)
    rows = {}
    for run in case.runs:
        detector = AnomalyDetector(run, normal, rate=RATE, block=BLOCK, **case.detector)
        found = [detector.detect(f"{wrong.folder}/{video}") for video in wrong.names]
        if run == case.runs[0]:
            write_anomalies(DATA / "pages" / name, found[0])
        labels = [wrong.clip(i, 0, int(n)).arrays["anomaly"].astype(bool) for i, n in enumerate(wrong.lengths)]
        false, blocks = _false_alarms(detector, unseen)
        low, high = binomtest(false, blocks).proportion_ci()  # Clopper and Pearson, 95 %
        rows[run] = {
            **_detection(found, labels),
            "calibration_blocks": len(detector.maxima),
            "false_alarm_blocks": false,
            "blocks": blocks,
            "interval": [low, high],
            "held": low <= RATE,
        }
    best = rows[case.runs[0]]
    sentence = (
        f"{case.what}: {case.runs[0]} frame AUC {best['auc']:.3f}; {best['false_alarm_blocks']} of {best['blocks']} "
        f"normal blocks with an alarm, stated {RATE:g}"
    )
    about = {"what": case.what, "data": f"{case.source} {case.settings}", "rate": RATE, "block": BLOCK}
    about |= {"noise": NOISE if case.noise else 0.0, "stretch": case.length, "videos": case.videos}
    about |= {"detector": case.detector}
    return {"sentence": sentence, **about, "rows": rows, "cpu_seconds": round(time.process_time() - began)}


def _detection(found: list[Anomalies], labels: list[np.ndarray]) -> dict[str, float]:
    scores = np.concatenate([f.scores[f.first :] for f in found])
    known = np.concatenate([label[f.first :] for f, label in zip(found, labels, strict=True)])
    alarms = np.concatenate([f.alarms[f.first :] for f in found])
    each = [bool((f.alarms & label).any()) for f, label in zip(found, labels, strict=True)]
    return {
        "auc": float(roc_auc_score(known, scores)),
        "recall": float(alarms[known].mean()),
        "false_frames": float(alarms[~known].mean()),
        "stretches_found": float(np.mean(each)),
    }


def _false_alarms(detector: AnomalyDetector, unseen: Store) -> tuple[int, int]:
    """Blocks with an alarm, and all whole blocks, of unseen normal videos."""
    false, count = 0, 0
    for video in unseen.names:
        found = detector.detect(f"{unseen.folder}/{video}")
        alarms = found.alarms[found.first :]
        whole = alarms[: len(alarms) // BLOCK * BLOCK].reshape(-1, BLOCK)
        false, count = false + int(whole.any(1).sum()), count + len(whole)
    return false, count


# --------------------------------------------------------------------------------------------------------------- page


def page(found: dict[str, Any]) -> str:
    """The page's text."""
    results = found["results"]
    lines = [
        "# Results: anomaly detection",
        "",
        "Written by `reproduction/anomaly.py` from [anomaly.json](anomaly.json). Every case has normal videos for the",
        f"calibration (stated rate {RATE:g} per block of {BLOCK} frames), unseen normal videos of the same scene, and",
        "videos whose anomaly fills a known stretch of frames; the other frames of these videos are the negatives of",
        "the AUC, also those right after the stretch, whose context still holds it. Nothing is trained here.",
        "",
        "| anomaly | model | frame AUC | stretches found | frames found | normal blocks with alarm | 95 % interval |",
        "|---|---|---|---|---|---|---|",
    ]
    for part in results.values():
        for i, (run, row) in enumerate(part["rows"].items()):
            low, high = row["interval"]
            cells = (
                part["what"] if i == 0 else "",
                f"`{run}`",
                f"{row['auc']:.3f}",
                f"{row['stretches_found']:.0%}",
                f"{row['recall']:.0%}",
                f"{row['false_alarm_blocks']} of {row['blocks']}",
                f"{low:.3f} to {high:.3f}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
