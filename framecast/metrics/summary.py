"""What the scores of one predictor come to over the horizon: skill, skilful ranges, and the guards beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from framecast.core.errors import UserError

Interval = Mapping[str, float | int | None]
Curve = tuple[float | None, ...]
#: Sharpness ratio in the moving area below which a forecast is called blurred.
BLURRED = 0.7
#: Share of the clips outside the statistics of the training data above which a forecast is called unstable.
UNSTABLE = 0.5


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Results of one predictor over its frames of the horizon, all clips together.

    Attributes:
        skill: Skill over copy-last over the horizon: mean, low, high, n; of several samples by their mean error.
        skill_best: The same over the best baseline at every frame.
        frames: Frames of the horizon that it forecasts, counted from 1.
        ranges: Skilful ranges, (first, last) frame: the lower bound of skill_best is above 0.
        useful_horizon: Last frame of the range that begins with its first frame; 0 without one.
        false_motion: Share of the squared error where the truth stood still, over the horizon.
        false_motion_mae: Mean absolute error of that part, divided by all pixels.
        false_motion_by_frame: Share of each frame.
        sharpness_by_frame: Sharpness ratio within the moving area of truth or forecast, pooled over clips.
        outside_by_frame: Share of clips with a mean, variance or sharpness outside those of the training data.
        blurred_from: First frame with a ratio below 0.7.
        unstable_from: First frame with more than half of the clips outside.
        samples: For several samples: skill of the best sample and of the samples' mean, and curves of CRPS, energy
            score and spread-skill ratio.
    """

    skill: Interval
    skill_best: Interval
    frames: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...] = ()
    useful_horizon: int = 0
    false_motion: float | None = None
    false_motion_mae: float | None = None
    false_motion_by_frame: Curve = ()
    sharpness_by_frame: Curve = ()
    outside_by_frame: Curve = ()
    blurred_from: int | None = None
    unstable_from: int | None = None
    samples: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Any) -> Summary:
        """The inverse of `to_json`.

        Raises:
            UserError: For missing or unknown keys.
        """
        names = {f.name for f in fields(cls)}
        if not isinstance(data, Mapping) or not {"skill", "skill_best", "frames"} <= set(data) <= names:
            raise UserError("a summary of scores must have skill, skill_best and frames; run framecast evaluate again")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**{**values, "ranges": tuple((int(a), int(b)) for a, b in data.get("ranges", []))})


def first_frame(values: Sequence[float | None], frames: Sequence[int], below: float | None = None) -> int | None:
    """First frame with a value below a limit (above UNSTABLE if none is given); None without one.

    Args:
        values: One per frame; None is undefined.
        frames: Their numbers.
        below: The limit.
    """
    for value, frame in zip(values, frames, strict=True):
        if value is not None and (value > UNSTABLE if below is None else value < below):
            return frame
    return None


def pooled_ratio(above: npt.NDArray[np.float64], below: npt.NDArray[np.float64]) -> Curve:
    """Σabove / Σbelow over clips, per frame, without undefined clips; None where Σbelow is 0.

    Args:
        above: (clips, frames).
        below: (clips, frames).
    """
    known = np.isfinite(above) & np.isfinite(below)
    sums = [np.where(known, x, 0.0).sum(0) for x in (above, below)]
    return tuple(float(a / b) if b > 0 else None for a, b in zip(*sums, strict=True))
