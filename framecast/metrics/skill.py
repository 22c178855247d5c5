"""Skill over a reference forecast, its bootstrap intervals, and the frames at which a forecast is skilful.

S_k = 1 - MSE_k(forecast) / MSE_k(reference), the standard score of forecast verification: 1 is perfect, 0 no better
than the reference, below 0 worse. Squared errors are pooled over clips before the ratio, so that a clip where little
moves has little weight. All functions take one squared error per clip and frame and are plain NumPy.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framecast.core.errors import UserError
from framecast.metrics.averages import Series, t_quantile

Array = npt.NDArray[np.float64]
#: Resamples of a bootstrap interval.
RESAMPLES = 2000
#: Fewer units than this repeat themselves in resamples: their interval is Student's and only indicative.
LEAST_UNITS = 5
#: Shown instead of a skill whose reference has no error.
UNDEFINED = "undefined: nothing moves"


def skill(errors: Any, reference: Any) -> Array:
    """Skill at every frame: 1 - MSE(forecast) / MSE(reference), pooled over clips before the ratio.

    Args:
        errors: Squared errors of the forecast, (clips, frames), array or tensor on the CPU.
        reference: Squared errors of the reference on the same clips, (clips, frames).

    Returns:
        float64 (frames,); NaN where the reference has no error ("undefined: nothing moves").

    Raises:
        UserError: For shapes that differ, no clips, or errors that are negative or not finite.
    """
    model, base = _checked(errors, reference)
    return 1 - _ratio(model.sum(0), base.sum(0))


def horizon_skill(errors: Any, reference: Any) -> float:
    """Skill over the horizon: 1 - ΣMSE_k(forecast) / ΣMSE_k(reference); arguments as for `skill`."""
    model, base = _checked(errors, reference)
    return float(skill(model.sum(1, keepdims=True), base.sum(1, keepdims=True))[0])


def best_reference(references: Mapping[str, Any]) -> tuple[tuple[str, ...], Array]:
    """The best of several references at every frame, by the squared error pooled over clips.

    Args:
        references: Name -> squared errors (clips, frames); of equal ones the first wins.

    Returns:
        Name at every frame, and its squared errors, (clips, frames).
    """
    names, stacked = list(references), np.stack([np.asarray(r, np.float64) for r in references.values()])
    which = stacked.sum(1).argmin(0)
    return tuple(names[i] for i in which), stacked[which, :, np.arange(stacked.shape[2])].T


@dataclass(frozen=True)
class SkillCurve:
    """Skill over one reference.

    Attributes:
        by_frame: One number per frame, None where it is undefined.
        horizon: The same for the errors summed over the horizon, one number.
    """

    by_frame: Series
    horizon: Series


def skill_curve(errors: Any, reference: Any, groups: Sequence[Hashable] | None = None) -> SkillCurve:
    """Skill at every frame and over the horizon, with 95 % bootstrap intervals over videos.

    Args:
        errors: Squared errors of the forecast, (clips, frames).
        reference: Squared errors of the reference on the same clips, (clips, frames).
        groups: The video of each clip; with fewer than two videos, or None, clips are resampled.

    Raises:
        UserError: As for `skill`.
    """
    model, base = _checked(errors, reference)
    with_sum = [np.concatenate([x, x.sum(1, keepdims=True)], 1) for x in (model, base)]
    values = 1 - _ratio(with_sum[0].sum(0), with_sum[1].sum(0))
    ends = ratio_interval(by_unit(with_sum[0], groups), by_unit(with_sum[1], groups), log=True)
    high, low = (1 - end for end in ends)
    return SkillCurve(
        _series(values[:-1], low[:-1], high[:-1], len(model)), _series(values[-1:], low[-1:], high[-1:], len(model))
    )


def skill_difference(a: Any, b: Any, reference: Any, groups: Sequence[Hashable] | None = None) -> Series:
    """Skill of a minus skill of b over the horizon, paired by clip, with its interval: one number.

    Args:
        a: Squared errors, (clips, frames).
        b: Squared errors on the same clips, (clips, frames).
        reference: Squared errors of the reference, (clips, frames).
        groups: As for `skill_curve`.
    """
    first, base = _checked(a, reference)
    second, _ = _checked(b, reference)
    above, below = (second - first).sum(1, keepdims=True), base.sum(1, keepdims=True)
    low, high = ratio_interval(by_unit(above, groups), by_unit(below, groups))
    return _series(_ratio(above.sum(0), below.sum(0)), low, high, len(first))


def skilful_ranges(lower: Sequence[float | None]) -> tuple[tuple[int, int], ...]:
    """Ranges of frames whose lower bound of skill is above 0, as (first, last), counted from 1.

    Args:
        lower: Lower ends of the intervals against the best reference, one per frame; None ends a range.
    """
    ranges: list[tuple[int, int]] = []
    for frame, value in enumerate(lower, 1):
        if value is not None and value > 0:
            first = ranges.pop()[0] if ranges and ranges[-1][1] == frame - 1 else frame
            ranges.append((first, frame))
    return tuple(ranges)


def useful_horizon(ranges: Sequence[tuple[int, int]]) -> int:
    """Last frame of the skilful range that begins at frame 1; 0 without one."""
    return ranges[0][1] if ranges and ranges[0][0] == 1 else 0


# --------------------------------------------------------------------------------------------------------- intervals


def by_unit(values: Array, groups: Sequence[Hashable] | None) -> Array:
    """Sums over the clips of each video: (clips, n) -> (units, n); the clips themselves with fewer than two videos."""
    if groups is None or len(set(groups)) < 2:
        return values
    if len(groups) != len(values):
        raise UserError(f"expected one group per clip, got {len(groups)} for {len(values)} clips")
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    out = np.zeros((len(number), values.shape[1]))
    np.add.at(out, [number[group] for group in groups], values)
    return out


def interval_rule(clips: int, videos: int) -> str:
    """Definition of the interval of a skill, to be shown beside it.

    Args:
        clips: Number of clips.
        videos: Number of videos they come from; 0 where unknown.
    """
    over, units = (f"{videos} videos", videos) if videos > 1 else (f"{clips} clips of one video", clips)
    if units < 2:
        return "no interval: one clip"
    if units < LEAST_UNITS:
        return f"95 % interval over {over}, Student's t of the log ratio: indicative only, too few for a bootstrap"
    return f"95 % interval, studentised bootstrap of the log ratio over {over}, {RESAMPLES} resamples"


def ratio_interval(above: Array, below: Array, log: bool = False, seed: int = 0) -> tuple[Array, Array]:
    """95 % interval of Σabove / Σbelow over units, a studentised bootstrap of units, column by column.

    The standard error of every resample is that of the linearised ratio. With fewer than five units the quantiles
    are those of Student's t.

    Args:
        above: (units, n), with `log` not negative.
        below: (units, n), not negative.
        log: Studentise the logarithm of the ratio, which is nearer to symmetric for a ratio of squared errors.
        seed: Random seed of the resamples.

    Returns:
        Lower and upper ends, float64 (n,); NaN where the ratio is undefined or there is one unit.

    Source: Davison and Hinkley 1997, sections 2.4 and 5.2.
    """
    units = len(above)
    nothing = np.full(above.shape[1], np.nan)
    if units < 2:
        return nothing, nothing
    parts = [above, below, above * above, above * below, below * below]
    value, error = _studentised([x.sum(0) for x in parts], units, log)
    if units < LEAST_UNITS:
        t = t_quantile(units - 1)
        low_t, high_t = np.full_like(nothing, -t), np.full_like(nothing, t)
    else:
        counts = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), RESAMPLES).astype(float)
        values, errors = _studentised([counts @ x for x in parts], units, log)
        with np.errstate(all="ignore"):
            t_values = np.where(errors > 0, (values - value) / errors, np.nan)
        low_t, high_t = _quantiles(t_values)
    with np.errstate(all="ignore"):
        exact = error == 0
        low = np.where(exact, value, value - high_t * error)
        high = np.where(exact, value, value - low_t * error)
        return (np.exp(low), np.exp(high)) if log else (low, high)


def _studentised(sums: Sequence[Array], units: int, log: bool) -> tuple[Array, Array]:
    """Ratio (or its logarithm) and its standard error.

    Args:
        sums: Over units, of above, below, above², above * below and below².
        units: Number of units.
        log: Of the logarithm.
    """
    above, below, squares, products, below_squares = sums
    ratio = _ratio(above, below)
    with np.errstate(all="ignore"):
        residual = squares - 2 * ratio * products + ratio**2 * below_squares
        # what remains of equal columns after rounding is no variance
        residual = np.where(residual > 1e-12 * (squares + ratio**2 * below_squares), residual, 0.0)
        spread = np.sqrt(residual * units / (units - 1))
        if log:
            return np.log(ratio), np.where(above > 0, spread / above, 0.0)
        return ratio, spread / below


def _quantiles(values: Array) -> tuple[Array, Array]:
    """2.5 % and 97.5 % quantiles over the rows, without undefined values; NaN for a column without any."""
    finite = np.isfinite(values)
    ordered = np.sort(np.where(finite, values, np.inf), 0)
    count, column = finite.sum(0), np.arange(values.shape[1])

    def at(share: float) -> Array:
        place = np.clip(np.rint(share * (count + 1)).astype(int) - 1, 0, np.maximum(count - 1, 0))
        return np.where(count > 0, ordered[place, column], np.nan)

    return at(0.025), at(0.975)


def _ratio(above: Array, below: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.where(below > 0, above / below, np.nan)


def _series(values: Array, low: Array, high: Array, clips: int) -> Series:
    def plain(x: Array) -> tuple[float | None, ...]:
        return tuple(None if not np.isfinite(v) else float(v) for v in x)

    known = [v is not None for v in plain(values)]
    ends = [
        (a, b) if a is not None and b is not None else (None, None)
        for a, b in zip(plain(low), plain(high), strict=True)
    ]
    return Series(
        plain(values),
        tuple(e[0] for e in ends),
        tuple(e[1] for e in ends),
        tuple(clips * k for k in known),
        tuple(clips * (not k) for k in known),
    )


def _checked(errors: Any, reference: Any) -> tuple[Array, Array]:
    model, base = (np.asarray(x, np.float64) for x in (errors, reference))
    if model.ndim != 2 or model.shape != base.shape or not len(model):
        raise UserError(
            f"expected squared errors (clips, frames) of forecast and reference, got {model.shape} and {base.shape}"
        )
    if not all(np.isfinite(x).all() and (x >= 0).all() for x in (model, base)):
        raise UserError("squared errors must be finite and not negative")
    return model, base
