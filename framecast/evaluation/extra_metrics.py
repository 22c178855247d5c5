"""Extra measurements of a comparison: perceptual and set metrics, object presence, calibration.

Each measures a forecast while it is in memory (see `score_table.Extra`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.io import read_file
from framecast.core.outcomes import OutcomeDistribution
from framecast.core.types import Batch
from framecast.data import SOURCES
from framecast.data.base import Source
from framecast.data.registry import find_source
from framecast.evaluation.clips import Clips
from framecast.evaluation.objects import object_finder
from framecast.evaluation.score_table import Extra, Forecaster, FrameMetric
from framecast.evaluation.set_metrics import MMD, SetFinder, fvd_metric, other_futures
from framecast.media.images import to_uint8
from framecast.metrics.calibration import OutcomeCounts, calibration_series, count_outcomes
from framecast.metrics.features import FRAMES as mmd_frames
from framecast.metrics.fvd import FRAMES as fvd_frames
from framecast.metrics.fvd import FVD
from framecast.metrics.fvd import LEAST as fvd_least
from framecast.metrics.fvd import SIDE as fvd_side
from framecast.metrics.lpips import LPIPS
from framecast.metrics.objects import Things, read_things
from framecast.metrics.weights import read_weights


@dataclass(frozen=True, kw_only=True)
class ExtraMetrics:
    """Metrics beside those of frames, from weights files and settings that the user gave.

    Attributes:
        lpips: Perceptual distance, with its weights.
        fvd: Fréchet video distance, with its weights.
        things: Objects to find; None is those known for the data.
        mmd: Whether to measure rf-mmd.
    """

    lpips: LPIPS | None = None
    fvd: FVD | None = None
    things: Things | None = None
    mmd: bool = True

    @classmethod
    def read(
        cls,
        lpips: str | Path | None = None,
        lpips_sha256: str | None = None,
        fvd: str | Path | None = None,
        fvd_sha256: str | None = None,
        objects: str | Path | None = None,
        mmd: bool = True,
    ) -> ExtraMetrics:
        """The metrics, read from files before any clip is measured.

        Raises:
            UserError: For a file that is missing, damaged or another one than expected.
        """
        for name, file, digest in (("lpips", lpips, lpips_sha256), ("fvd", fvd, fvd_sha256)):
            if digest is not None and file is None:
                raise UserError(f"--{name}-sha256 needs the file that it belongs to; give it with --{name} FILE")
        return cls(
            lpips=None if lpips is None else LPIPS(read_weights(lpips, lpips_sha256)),
            fvd=None if fvd is None else FVD(read_weights(fvd, fvd_sha256)),
            things=None if objects is None else read_things(read_file(objects), str(objects)),
            mmd=mmd,
        )

    @property
    def metrics(self) -> dict[str, FrameMetric]:
        """Metrics of frames by name."""
        return {} if self.lpips is None else {"lpips": self.lpips}

    def describe(self) -> dict[str, Any]:
        """Plain values for a protocol."""
        out: dict[str, Any] = {}
        if self.lpips is not None:
            out["lpips"] = (
                f"AlexNet, five layers, frames as they are on -1…1, weights SHA-256 {self.lpips.weights.sha256}"
            )
        if self.fvd is not None:
            out["fvd"] = (
                f"I3D logits of the first {fvd_frames} forecast frames without context, bilinear to "
                f"{fvd_side}x{fvd_side} on -1…1, weights SHA-256 {self.fvd.weights.sha256}"
            )
        if self.mmd:
            out["rf_mmd"] = (
                f"unbiased MMD^2 of random-network features of the first {mmd_frames} forecast frames without context, "
                "Gaussian kernels, pairs of one video left out where there are several"
            )
        return out


class ExtraResults:
    """Extra measurements of a comparison on some data, and their results.

    Args:
        wanted: Metrics requested by the user.
        source: Data that the clips are from.
        clips: Clips to forecast.
        forecasters: Rows of the table.
        frames: Frames of the horizon that all rows forecast.
        horizon: Of the table.
        seed: Of the further real clips that set distances are compared with.

    Raises:
        UserError: Where forecasts are too short for FVD, or the objects are for other frames.
    """

    def __init__(
        self,
        wanted: ExtraMetrics,
        source: Source,
        clips: Clips,
        forecasters: Sequence[Forecaster],
        frames: Sequence[int],
        horizon: int,
        seed: int,
    ) -> None:
        self.wanted = wanted
        spec = source.spec
        if wanted.things is not None and (spec.channels != 3 or not wanted.things.fits(spec.height, spec.width)):
            raise UserError(
                f"--objects: expected RGB frames shaped like {wanted.things.size[0]}x{wanted.things.size[1]}, got "
                f"{spec.channels} channels and {spec.height}x{spec.width}"
            )
        self.objects = object_finder(source, clips, frames, horizon, wanted.things)
        others = partial(other_futures, clips, seed)
        self.sets: dict[str, SetFinder] = {}
        if wanted.mmd:
            self.sets["rf-mmd"] = SetFinder(MMD, others)
        if wanted.fvd is not None:
            short = [e.name for e in forecasters if e.frames is not None and len(e.frames) < fvd_least]
            if short or horizon < fvd_least:
                row = short[0] if horizon >= fvd_least else "these"
                raise UserError(
                    f"FVD needs forecasts of at least {fvd_least} frames, {row} have fewer; use a longer --horizon"
                )
            self.sets["fvd"] = SetFinder(fvd_metric(wanted.fvd), others)
        law = _law_of(source)
        self.calibration = None if law is None else CalibrationFinder(partial(_law_at, law, source, clips))

    @property
    def extras(self) -> list[Extra]:
        """Measurements of every forecast, for a score table."""
        found: list[Extra] = [*self.sets.values()]
        return [*found, *(e for e in (self.objects, self.calibration) if e is not None)]

    def to_json(self) -> dict[str, Any]:
        """Results by name; an unavailable one is null, with the reason in `not_available`."""
        sets = {"rf-mmd": None, "fvd": None, **{name: finder.to_json() for name, finder in self.sets.items()}}
        missing = {}
        if self.wanted.lpips is None:
            missing["lpips"] = "no weights file was given (--lpips FILE)"
        if self.wanted.fvd is None:
            missing["fvd"] = "no weights file was given (--fvd FILE)"
        if not self.wanted.mmd:
            missing["rf-mmd"] = "not requested"
        missing |= {name: "needs at least 2 clips" for name in self.sets if sets[name] is None}
        return {
            "objects": None if self.objects is None else self.objects.to_json(),
            "sets": sets,
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "not_available": missing,
        }


def _law_of(source: Source) -> Any:
    """The generator's true outcome distribution: (clip, context) -> distribution or None; None without one."""
    name = source.meta().get("generator")
    return getattr(find_source(name), "outcome_distribution", None) if name in SOURCES else None


def _law_at(law: Any, source: Source, clips: Clips, number: int) -> OutcomeDistribution | None:
    video, start = clips.pairs[number]
    request = clips.loader.request
    found: OutcomeDistribution | None = law(source.clip(video, start, request.length), request.context)
    return found


class CalibrationFinder:
    """Frequencies of the outcomes that samples show, beside their true probabilities (an `Extra` of a score table).

    Args:
        laws: Number of a clip -> its outcome distribution, or None.
    """

    def __init__(self, laws: Callable[[int], OutcomeDistribution | None]) -> None:
        self.laws = laws
        self.rows: dict[str, tuple[list[OutcomeCounts], list[Hashable] | None]] = {}

    def measure(
        self, forecaster: Forecaster, prediction: Tensor, truth: Tensor, batch: Batch, numbers: Sequence[int]
    ) -> list[OutcomeCounts | None]:
        """Outcomes of every clip's samples; None without a distribution, or where some frames are not forecast."""
        if forecaster.frames is not None and forecaster.frames != tuple(range(1, len(forecaster.frames) + 1)):
            return [None] * len(numbers)
        laws = [self.laws(clip) for clip in numbers]
        return [
            None if law is None else count_outcomes(law, [to_uint8(sample) for sample in prediction[:, i]])
            for i, law in enumerate(laws)
        ]

    def take(
        self, forecaster: Forecaster, found: Sequence[OutcomeCounts | None], groups: Sequence[Hashable] | None
    ) -> None:
        """Collect one batch of one row."""
        for i, counts in enumerate(found):
            if counts is not None:
                clips, of_clips = self.rows.setdefault(forecaster.name, ([], None if groups is None else []))
                clips.append(counts)
                if groups is not None and of_clips is not None:
                    of_clips.append(groups[i])

    def to_json(self) -> dict[str, Any] | None:
        """Row -> frequencies beside probabilities, distance and its floor; None without any distribution."""
        out: dict[str, Any] = {}
        for name, (clips, groups) in self.rows.items():
            out[name] = {
                key: {k: s.scalar() for k, s in value.items()} if isinstance(value, dict) else value.scalar()
                for key, value in calibration_series(clips, groups).items()
            }
        return out or None
