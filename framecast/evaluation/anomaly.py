"""Anomaly detection: frames that differ from their forecast by more than frames of normal material do.

Every frame is compared with its forecast from the frames before it, region by region. The squared error of a region is
divided by that of persistence on normal material (its mean in the region plus the mean of each frame's largest region),
so that noise and regular motion count little; the score of a frame is its largest region. Frames that follow each other
are not exchangeable, so the threshold is a conformal quantile over the largest scores of whole blocks of normal frames.

A forecast across a shot cut or a pause of the recording is wrong whatever the video shows, so no block of normal
material contains one. In the video to score, such frames have no score if the normal material has breaks too: then they
are normal. If it has none, as with a fixed camera, a sudden change of the whole picture is itself an anomaly, and they
have.

Source: Liu, Luo, Lian, Gao, "Future frame prediction for anomaly detection", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

import framecast
from framecast.core.errors import UserError
from framecast.core.types import ClipRequest
from framecast.data import SOURCES
from framecast.data.base import Segment, Source
from framecast.data.breaks import breaks_of
from framecast.data.digest import data_digest, same_content
from framecast.data.loader import Loader
from framecast.data.windows import split_at_breaks
from framecast.data.writer import is_store
from framecast.evaluation.clips import ALL, check_fit, split_segments
from framecast.evaluation.evaluate import open_source
from framecast.evaluation.scorer import Roll, forecast, roll_for
from framecast.inference.backtest import baseline_run
from framecast.inference.predict import find_video
from framecast.metrics.detection import conformal_threshold
from framecast.models import DEFAULT_RUN, UNTRAINED
from framecast.models.base import Predictor
from framecast.nn.precision import resolve_precision
from framecast.training.device import pick_device
from framecast.training.run_folder import Run, open_run

#: Frames of normal material that are used at most, spread evenly over it.
CALIBRATION_FRAMES = 4000
_BATCH = 16
#: Smallest error that persistence is taken to have: one grey level.
_FLOOR = (1 / 255) ** 2
_SETTINGS = ("lead", "cells", "smooth", "samples", "at_cuts", "seed", "stride")
_SAME_RATE = 0.02  # relative difference of two frame rates that count as one


@dataclass(frozen=True)
class Anomalies:
    """Scores of all frames of a video, and the threshold of an alarm.

    Attributes:
        name: of the video.
        run: name of the model.
        scores: float64 (t,), each the mean of the last `smooth` frames; NaN of the first frames, which have no
            forecast, and, if breaks are skipped, of frames whose forecast crosses one.
        regions: float32 (t, rows, columns), scores of the regions.
        threshold: a frame with a larger score is an alarm.
        rate: stated share of normal blocks with an alarm.
        block: frames of a block.
        blocks: number of blocks of normal material.
        calibration: name of the normal material.
        fps: frames per second of the scores.
        first: first frame that has a forecast.
        breaks: frames that begin a new shot or follow a pause of the recording.
        calibration_breaks: number of such places in the normal material.
        settings: further settings, as plain values.
        frames: uint8 (t, c, h, w) of given frame numbers.
    """

    name: str
    run: str
    scores: np.ndarray
    regions: np.ndarray
    threshold: float
    rate: float
    block: int
    blocks: int
    calibration: str
    fps: float
    first: int
    breaks: tuple[int, ...]
    calibration_breaks: int
    settings: dict[str, Any]
    frames: Callable[[int, int], np.ndarray]

    @property
    def alarms(self) -> np.ndarray:
        """Whether each frame is an alarm, bool (t,)."""
        found: np.ndarray = np.nan_to_num(self.scores, nan=-np.inf) > self.threshold
        return found

    @property
    def intervals(self) -> list[tuple[int, int]]:
        """Alarms that follow each other, as (first frame, one past the last)."""
        return _stretches(self.alarms)

    @property
    def crossing(self) -> np.ndarray:
        """Whether the forecast of each frame crosses a break, bool (t,)."""
        found = np.zeros(len(self.scores), np.bool_)
        for frame in self.breaks:
            found[frame : frame + self.first] = True
        return found

    @property
    def not_scored(self) -> list[tuple[int, int]]:
        """Frames without a score that follow each other, as (first frame, one past the last)."""
        return _stretches(np.isnan(self.scores))

    def worst_region(self, frame: int) -> tuple[int, int]:
        """Row and column of the region with the largest score in a frame."""
        row, column = np.unravel_index(int(self.regions[frame].argmax()), self.regions.shape[1:])
        return int(row), int(column)

    def summary(self) -> dict[str, Any]:
        """Result without the scores of single frames, as plain values."""
        intervals = [
            {
                "start": a,
                "stop": b,
                "seconds": [a / self.fps, b / self.fps],
                "score": float(self.scores[a:b].max()),
                "at_break": bool(self.crossing[a:b].any()),
            }
            for a, b in self.intervals
        ]
        return {
            "format": 1,
            "video": self.name,
            "run": self.run,
            "frames": len(self.scores),
            "fps": self.fps,
            "first_scored": self.first,
            "breaks": list(self.breaks),
            "not_scored": [list(span) for span in self.not_scored],
            "threshold": self.threshold,
            "false_alarm_rate": self.rate,
            "block": self.block,
            "calibration": {"data": self.calibration, "blocks": self.blocks, "breaks": self.calibration_breaks},
            "alarms": int(self.alarms.sum()),
            "intervals": intervals,
            "settings": self.settings,
            "code_version": framecast.__version__,
        }


def anomaly(
    run: str | Path | Run,
    source: str | Path | Source,
    calibrate: str | Path | Source | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Anomalies:
    """Scores of a video's frames by their difference from the forecast, and alarms at a stated false-alarm rate.

    Args:
        run: folder, packaged weights, hf:// name, or a baseline such as linear-flow.
        source: video, folder of frames, STORE/NAME for a video of a packed store, or a Source of one video.
        calibrate: normal material at the same frame rate, see `AnomalyDetector`.
        progress: called with frames done and the total, of the normal material and of the video in turn.
        settings: further arguments of `AnomalyDetector`.

    Raises:
        UserError: see `AnomalyDetector` and `AnomalyDetector.detect`.
    """
    if isinstance(calibrate, str | Path) and isinstance(source, str | Path) and Path(calibrate) == Path(source):
        raise UserError(f"{calibrate}: is the video to be scored; give --calibrate other, normal material")
    return AnomalyDetector(run, calibrate, video=source, progress=progress, **settings).detect(source, progress)


class AnomalyDetector:
    """Detector of frames that a model does not predict, calibrated on normal material.

    Args:
        run: folder, packaged weights, hf:// name, or a baseline such as linear-flow.
        calibrate: normal material, a path or a Source; None is the val split of the run's own data. Of data that the
            run was trained on, the val split is used: forecasts of frames that were trained on are too good.
        rate: share of blocks of normal frames that may have an alarm, above 0 and below 1.
        block: frames of a block.
        lead: frames between the last context frame and the compared frame, at least 1.
        cells: regions along the shorter side of a frame.
        smooth: number of last frames whose scores are averaged, at least 1; more finds what lasts, 1 what flashes.
        samples: futures of a stochastic model; the error of a region is that of the nearest.
        at_cuts: what becomes of frames whose forecast crosses a shot cut or a pause: "skip" gives them no score,
            "score" a score that is an alarm as a rule, "auto" skips them if the normal material has cuts or pauses
            itself. Calibration never uses such frames.
        seed: random seed for sampling.
        device: device to compute on.
        precision: autocast precision.
        model_class: the run's model, where it is not one of the registry.
        video: a video that will be scored; whether it can be is checked before the calibration, which takes longer.
        progress: called with frames done and the total.

    Attributes:
        threshold: score above which a frame is an alarm.
        maxima: largest score of every block of normal material, float64 (n,).

    Raises:
        UserError: without normal material, with too little of it for the rate, or for a `video` that `detect` refuses.
    """

    def __init__(
        self,
        run: str | Path | Run,
        calibrate: str | Path | Source | None = None,
        *,
        rate: float = 0.05,
        block: int = 16,
        lead: int = 1,
        cells: int = 8,
        smooth: int = 1,
        samples: int = 1,
        at_cuts: Literal["auto", "skip", "score"] = "auto",
        seed: int = 0,
        device: str = "auto",
        precision: str = "auto",
        model_class: type[Predictor] | None = None,
        video: str | Path | Source | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        counts = {"block": block, "lead": lead, "cells": cells, "smooth": smooth, "samples": samples}
        for flag, value in counts.items():
            if value < 1:
                raise UserError(f"--{flag} must be at least 1, got {value}")
        self.run = run if isinstance(run, Run) else _opened(run, model_class)
        self.rate, self.block, self.lead, self.cells, self.smooth, self.seed = rate, block, lead, cells, smooth, seed
        if at_cuts not in ("auto", "skip", "score"):
            raise UserError(f"--at-cuts must be auto, skip or score, got {at_cuts!r}")
        normal, segments, self.calibration = _normal(self.run, calibrate)
        self.spec, self.place = normal.spec, pick_device(device)
        self.model = self.run.model(str(self.place))
        self.samples = samples if self.model.stochastic else 1
        self._roll: Roll = roll_for(self.run, resolve_precision(precision, self.place))
        own = self.run.model_class.request(self.run.config.model)
        self.stride = own.stride
        context = self.model.num_context
        self._request = ClipRequest(context=context, future=lead, stride=own.stride, resize=own.resize)
        self._window = (context + lead - 1) * own.stride + 1  # from the first context frame to the compared frame
        parts = _continuous(normal, segments)
        self.breaks = len(parts) - len(segments)
        self.at_cuts = at_cuts if at_cuts != "auto" else "skip" if self.breaks else "score"
        blocks = self._blocks(parts)
        self._check_blocks(len(blocks))
        if video is not None:
            self._video(video)
        errors, persistence = self._errors(normal, [pair for pairs in blocks for pair in pairs], progress)
        self.reference = persistence.mean(0) + persistence.max((1, 2)).mean() + _FLOOR
        scores = (errors / self.reference).max((1, 2)).reshape(len(blocks), block)
        self.maxima = trailing_mean(scores, smooth).max(1)
        self.threshold = conformal_threshold(self.maxima, rate)

    def detect(self, source: str | Path | Source, progress: Callable[[int, int], None] | None = None) -> Anomalies:
        """Scores and alarms of one video.

        Args:
            source: video, folder of frames, STORE/NAME for a video of a packed store, or a Source of one video.
            progress: called with frames done and the total.

        Raises:
            UserError: for another frame rate than that of the normal material, and for a video that is too short or
                does not fit the model.
        """
        video, index, name = self._video(source)
        length, stride = int(video.lengths[index]), self.stride
        whole = [Segment(index, 0, length)]
        parts = _continuous(video, whole)
        groups = [self._starts(part) for part in (parts if self.at_cuts == "skip" else whole)]
        errors = self._errors(video, [(index, start) for starts in groups for start in starts], progress)[0]
        first = (self._window - 1) // stride
        regions = np.zeros(((length - 1) // stride + 1, *errors.shape[1:]), np.float32)
        scores = np.full(len(regions), np.nan)
        done = 0
        for starts in groups:  # the mean of the last scores begins again after a break
            frames = np.asarray(starts, np.int64) // stride + first
            regions[frames] = errors[done : done + len(frames)] / self.reference
            scores[frames] = trailing_mean(regions[frames].max((1, 2)).astype(np.float64), self.smooth)
            done += len(frames)
        return Anomalies(
            name=name,
            run=self.run.name or self.run.config.name,
            scores=scores,
            regions=regions,
            threshold=self.threshold,
            rate=self.rate,
            block=self.block,
            blocks=len(self.maxima),
            calibration=self.calibration,
            fps=video.spec.fps / stride,
            first=first,
            breaks=tuple(-(-part.start // stride) for part in parts[1:] if part.start <= (len(regions) - 1) * stride),
            calibration_breaks=self.breaks,
            settings={name: getattr(self, name) for name in _SETTINGS},
            frames=lambda start, count: video.clip(index, start * stride, count, stride).frames,
        )

    def _video(self, source: str | Path | Source) -> tuple[Source, int, str]:
        """The source of a video to score, its number in it and its name; an error if it cannot be scored."""
        video, index, name = _judged(self.run, source)
        fps, size = self.spec.fps, (self.spec.height, self.spec.width)
        if abs(video.spec.fps - fps) > _SAME_RATE * fps:
            raise UserError(
                f"{name}: has {video.spec.fps:g} frames per second but the normal material {self.calibration} has "
                f"{fps:g}; bring one to the rate of the other with framecast data import --fps"
            )
        if self._request.resize is None and (video.spec.height, video.spec.width) != size:
            raise UserError(
                f"{name}: has frames of {video.spec.height}x{video.spec.width} but the normal material "
                f"{self.calibration} of {size[0]}x{size[1]}; bring both to one size with framecast data import --size"
            )
        length = int(video.lengths[index])
        if length < self._window:
            raise UserError(f"{name}: has {length} frames, {self.run.config.name} needs at least {self._window}")
        if not any(self._starts(part) for part in _continuous(video, [Segment(index, 0, length)])):
            raise UserError(
                f"{name}: has no {self._window} frames in a row between its shot cuts and pauses, which "
                f"{self.run.config.name} needs; give an unedited recording"
            )
        return video, index, name

    def _starts(self, part: Segment) -> range:
        """First frames of the windows in a part of a video to score, all multiples of the stride."""
        return range(-(-part.start // self.stride) * self.stride, part.stop - self._window + 1, self.stride)

    def _check_blocks(self, count: int) -> None:
        """Require enough blocks of normal material for the rate, before the work."""
        between = " between its shot cuts and pauses" if self.breaks else ""
        if not count:
            raise UserError(
                f"{self.calibration}: has no {self._window + (self.block - 1) * self.stride} frames in a row{between}, "
                "the context and a block; give longer normal material or a smaller --block"
            )
        try:
            conformal_threshold(np.zeros(count), self.rate)
        except UserError as error:
            if not between or not 0 < self.rate < 1:
                raise
            raise UserError(f"{error}; no block crosses a shot cut or a pause ({self.breaks} in it)") from error

    def _blocks(self, segments: Sequence[Segment]) -> list[list[tuple[int, int]]]:
        """Whole blocks of windows (video, first frame), at most CALIBRATION_FRAMES in all, spread evenly."""
        found: list[list[tuple[int, int]]] = []
        block = self.block
        for s in segments:
            starts = range(s.start, s.stop - self._window + 1, self.stride)
            for k in range(0, len(starts) - block + 1, block):
                found.append([(s.video, start) for start in starts[k : k + block]])
        most = max(1, CALIBRATION_FRAMES // block)
        if len(found) <= most:
            return found
        return [found[round(k)] for k in np.linspace(0, len(found) - 1, most)]

    @torch.no_grad()
    def _errors(
        self, source: Source, pairs: Sequence[tuple[int, int]], progress: Callable[[int, int], None] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean squared errors of the forecast and of persistence, float64 (n, rows, columns) each.

        Args:
            source: of the frames.
            pairs: video and first frame of every window.
            progress: called with windows done and the total.
        """
        actions = self.run.config.spec.actions if source.spec.actions else None
        segments = [Segment(i, 0, int(n)) for i, n in enumerate(source.lengths)]
        loader = Loader(source, segments, self._request, 1, self.seed, actions=actions)
        ours, theirs = [], []
        for at in range(0, len(pairs), _BATCH):
            rows = pairs[at : at + _BATCH]
            batch = loader.gather(rows).to(self.place)
            numbers = [start for _, start in rows]
            future = forecast(self.model, self.lead, self.samples, self.seed, self._roll, batch, numbers)
            truth = batch.future[:, -1]
            ours.append(torch.stack([self._pooled(sample[:, -1] - truth) for sample in future]).amin(0))
            theirs.append(self._pooled(batch.context[:, -1] - truth))
            if progress is not None:
                progress(at + len(rows), len(pairs))
        return torch.cat(ours).double().cpu().numpy(), torch.cat(theirs).double().cpu().numpy()

    def _pooled(self, difference: torch.Tensor) -> torch.Tensor:
        """Mean square of (b, c, h, w) in every region, (b, rows, columns)."""
        height, width = difference.shape[2:]
        cell = max(1.0, min(height, width) / self.cells)
        grid = (max(1, round(height / cell)), max(1, round(width / cell)))
        return adaptive_avg_pool2d(difference.float().square().mean(1, keepdim=True), grid)[:, 0]


def trailing_mean(values: np.ndarray, count: int) -> np.ndarray:
    """Mean of every value and the count - 1 before it along the last axis, of fewer at the beginning.

    Args:
        values: float64 (…, n).
        count: at least 1.
    """
    sums = np.cumsum(values, -1)
    sums[..., count:] -= np.cumsum(values, -1)[..., :-count]
    found: np.ndarray = sums / np.minimum(np.arange(values.shape[-1]) + 1, count)
    return found


def _stretches(marked: np.ndarray) -> list[tuple[int, int]]:
    """Marked frames that follow each other, as (first frame, one past the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _continuous(source: Source, segments: Sequence[Segment]) -> list[Segment]:
    """The parts of segments between pauses and shot cuts, which also a video file that is not packed may have."""
    breaks = {source.names[video]: breaks_of(source, video) for video in {s.video for s in segments}}
    return split_at_breaks(segments, source, breaks)


def _opened(name: str | Path, model_class: type[Predictor] | None) -> Run:
    """The run of a name; a baseline's name stands for the baseline."""
    if str(name) in UNTRAINED and not Path(name).exists():
        return baseline_run(str(name), open_run(DEFAULT_RUN))
    return open_run(name, model_class)


def _judged(run: Run, source: str | Path | Source) -> tuple[Source, int, str]:
    """The source of the video to score, the video's number in it, and its name."""
    if not isinstance(source, str | Path):
        if len(source) != 1:
            raise UserError(f"the source holds {len(source)} videos; give one of one video")
        check_fit(run, source, str(source.names[0]))
        return source, 0, str(source.names[0])
    path = Path(source).expanduser()
    store = next((parent for parent in path.parents if is_store(parent)), None) if not path.exists() else None
    if store is None and not path.exists():
        raise UserError(f"{source}: no such file; give --input a video, a folder of frames or STORE/NAME")
    found = open_source(run, store or path)
    check_fit(run, found, str(source))
    return found, find_video(found, path, store), path.name


def _normal(run: Run, calibrate: str | Path | Source | None) -> tuple[Source, list[Segment], str]:
    """The source of the normal material, its segments, and its name."""
    given = run.config.data.path if calibrate is None else calibrate
    if calibrate is None and not (run.own and given and Path(str(given)).expanduser().exists()):
        raise UserError("no calibration data: give --calibrate with a video or store of normal material")
    if isinstance(calibrate, str | Path) and not Path(calibrate).expanduser().exists() and calibrate not in SOURCES:
        raise UserError(f"{calibrate}: no such file or folder; give --calibrate a video or store of normal material")
    found = open_source(run, calibrate)
    name = Path(given if isinstance(given, str | Path) else getattr(given, "folder", found.names[0])).name
    check_fit(run, found, name)
    own = run.config.data.digest
    trained = calibrate is None or (own and same_content(own, data_digest(found)))
    window = run.model_class.request(run.config.model).source_length
    return found, split_segments(found, "val" if trained else ALL, [window]), name
