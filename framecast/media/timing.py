"""Conversion of timestamps to a constant frame rate.

Models expect frames at equal intervals. The rules, in this order:
1. Every timestamp lies on i / rate, up to the container's clock: that rate, every frame once.
2. The timestamps lie on such a grid with ticks left out (dropped frames, or equal frames stored as one that lasts
   longer): the grid's rate; at an empty tick the frame before it is shown again.
3. No timestamp deviates by half a frame from i / average rate (jitter only): the average rate, every frame once.
4. Otherwise the rate varies: at the rate of the most common spacing, each tick shows the nearest earlier frame.
A rate asked for by the user replaces all four: each tick of it shows the nearest earlier frame.

Before that, pauses are closed (`close_pauses`): a recording that stood still for a minute is not a minute of one frame.
The first tick after a pause is a break, which no clip of a training set crosses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from framecast.core.errors import UserError

_SLOWEST = 1e-3  # frames per second; a gap that lowers the average below this is a damaged timestamp
#: A longer gap than these many seconds and these many times the most common spacing is a pause.
_PAUSE_SECONDS, _PAUSE_SPACINGS = 2.0, 10
_MOST_REPEATS = 4  # a grid of more ticks per stored frame than this is taken for coincidence, or for a still
_MOST_TICKS, _FEW_TICKS = 256, 4096  # ticks of a rate asked for, at most: per stored frame, and in addition


@dataclass(frozen=True)
class Timing:
    """fps: the constant rate.  pick: source frame shown at each tick, ascending.  constant: False only by rule 4."""

    fps: Fraction
    pick: np.ndarray
    constant: bool

    def breaks(self, frames: np.ndarray) -> tuple[int, ...]:
        """First tick of each part, if parts begin at these source frames; the beginning of the video is not one."""
        ticks = np.unique(np.searchsorted(self.pick, frames, side="left"))
        return tuple(int(tick) for tick in ticks if 0 < tick < len(self.pick))

    def unused(self, count: int) -> int:
        """How many of `count` source frames are shown at no tick."""
        return count - len(np.unique(self.pick))


def close_pauses(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Timestamps with every pause shortened to the most common spacing, and the frames after the pauses.

    A pause is a gap of more than 2 s and more than 10 times the most common spacing.

    Args:
        times: float (n,), seconds, ascending.
    """
    times = np.asarray(times, np.float64)
    if len(times) < 3:
        return times, np.zeros(0, np.int64)
    steps, usual = np.diff(times), common_spacing(times)
    pauses = np.flatnonzero((steps > _PAUSE_SECONDS) & (steps > _PAUSE_SPACINGS * usual))
    steps[pauses] = usual
    return (times if len(pauses) == 0 else np.concatenate([times[:1], times[0] + np.cumsum(steps)])), pauses + 1


def without_skips(times: np.ndarray, stated: Iterable[Fraction | None], tick: float) -> np.ndarray:
    """Times without skips of one frame, where all other steps are exactly one frame; others as they are.

    For MPEG-1 and MPEG-2 pictures in a program stream, whose rate is constant: a packet has a stamp for its first
    picture alone, and those made up for the others may skip one.

    Args:
        times: float (n,), seconds, ascending.
        stated: rates that the file names; the first counts.
        tick: the container's clock step, seconds.
    """
    rate = next((float(found) for found in stated if found), 0.0)
    steps = np.diff(times) * rate
    whole = np.rint(steps)
    if not len(steps) or not np.isin(whole, (1, 2)).all() or np.abs(steps - whole).max() > 0.51 * tick * rate + 1e-3:
        return times
    even: np.ndarray = times[0] + np.arange(len(times)) / rate
    return even


def common_spacing(times: np.ndarray) -> float:
    """The most common spacing of timestamps, seconds: the mean of the steps within 10 % of the most common one.

    Args:
        times: float (n,), seconds, ascending, n at least 2.
    """
    steps = np.sort(np.diff(times))
    within = np.searchsorted(steps, steps * 1.1, side="right") - np.arange(len(steps))
    first = int(np.argmax(within))
    return float(steps[first : first + within[first]].mean())


def constant_rate(times: np.ndarray, duration: float, tick: float, stated: Iterable[Fraction | None] = ()) -> Timing:
    """The constant rate of a video and the source frame at each of its ticks.

    times: float (n,), seconds, ascending.  duration: seconds from the first frame's start to the last one's end.
    tick: the container's clock step, seconds.  stated: rates the container names, tried first.
    """
    times = np.asarray(times, np.float64) - (times[0] if len(times) else 0.0)
    count = len(times)
    if count < 2 or not duration > 0 or times[-1] <= 0 or count / duration < _SLOWEST:
        rate = next((Fraction(r) for r in stated if r), None) or _simple(count / duration if duration > 0 else 25.0)
        return Timing(rate, np.arange(count), True)
    named = [exact_rate(float(rate)) for rate in stated if rate and 0 < rate < 100_000]
    average = _simple(count / duration)
    slack = max(0.51 * tick, 1e-4 * duration / count)
    everyone = np.arange(count)
    if any(abs(float(rate) * tick - 1) < 1e-6 for rate in named) and times[-1] > (count - 0.5) * tick:
        # The clock counts frames, so that times are exact; a lower rate would fit to half a step of it.
        exact = _grid_with_gaps(times, duration, 0.01 * tick, named)
        if exact is not None:
            return exact
    spacing = _simple((count - 1) / times[-1])
    even = [
        rate
        for rate in (*named, _whole(spacing), _whole(average), spacing, average)
        if rate > 0 and np.abs(times - everyone / float(rate)).max() <= slack
    ]
    lingers = bool(even) and duration * float(even[0]) > count + 0.75  # the last frame stands for several ticks
    if even and not lingers:
        return Timing(even[0], everyone, True)
    grid = _grid_with_gaps(times, duration, slack, named)
    if grid is not None:
        return grid
    if even:
        return Timing(even[0], everyone, True)
    for rate in (*named, average):
        if np.abs(times * float(rate) - everyone).max() < 0.5:
            return Timing(rate, everyone, True)
    common = common_spacing(times)
    usual = _simple(1 / common) if common > 0 else average
    ticks = max(1, round(duration * float(usual)))
    if ticks > _MOST_REPEATS * count:  # many frames in bursts: ticks at their spacing would mostly be repeats
        usual, ticks = average, count
    return Timing(usual, earlier_frames(times, usual, ticks, tolerance=min(tick, 0.25 / float(usual))), False)


def resampled(times: np.ndarray, duration: float, fps: float | Fraction, tick: float = 1e-3) -> Timing:
    """Which source frame each tick of `fps` shows: the nearest earlier one. Arguments as in `constant_rate`."""
    if not 0 < fps <= 1000:
        raise UserError(f"fps must be above 0 and at most 1000, got {fps}")
    rate = exact_rate(fps)
    times = np.asarray(times, np.float64) - times[0]
    ticks = max(1, int(np.ceil(duration * float(rate) - 1e-3)))
    if ticks > _FEW_TICKS + _MOST_TICKS * len(times):
        raise UserError(
            f"timestamps span {duration:.4g} s for {len(times)} frames, so that {fps:g} fps would repeat each of them "
            f"more than {_MOST_TICKS} times; use a lower --fps, or export the video again"
        )
    return Timing(rate, earlier_frames(times, rate, ticks, tolerance=max(tick, 1e-3)), True)


def earlier_frames(times: np.ndarray, fps: Fraction, ticks: int, tolerance: float) -> np.ndarray:
    """Index of the latest frame not after each of k / fps, k < ticks; `tolerance` seconds after still counts."""
    instants = np.arange(ticks) * float(1 / fps) + tolerance
    return np.maximum(np.searchsorted(times, instants, side="right") - 1, 0)


def exact_rate(fps: float | Fraction) -> Fraction:
    """A rate as a fraction with the usual denominators: 29.97 and 29.970030 are 30000/1001."""
    if isinstance(fps, Fraction):
        return fps
    for nominal in (24, 30, 48, 60, 120):
        if abs(fps - nominal * 1000 / 1001) < 1e-3:
            return Fraction(nominal * 1000, 1001)
    return Fraction(fps).limit_denominator(1001)


def _grid_with_gaps(times: np.ndarray, duration: float, slack: float, named: list[Fraction]) -> Timing | None:
    steps = np.diff(times)
    shortest = float(steps.min())
    clock = [rate for rate in named if np.abs(times * float(rate) - np.rint(times * float(rate))).max() < 1e-6]
    if shortest <= 2.5 * slack and not clock:  # the clock is too coarse to distinguish a grid from chance
        return None
    periods = times[-1] / max(1, round(times[-1] / shortest))
    for rate in (*clock, *named, _whole(_simple(1 / shortest)), _whole(_simple(1 / periods)), _simple(1 / periods)):
        if rate <= 0:
            continue
        slots = np.rint(times * float(rate)).astype(np.int64)
        ticks = max(int(slots[-1]) + 1, round(duration * float(rate)))
        if ticks > _MOST_REPEATS * len(times) or (np.diff(slots) < 1).any():
            continue
        if np.abs(times - slots / float(rate)).max() <= slack:
            return Timing(rate, np.searchsorted(slots, np.arange(ticks), side="right") - 1, True)
    return None


def _simple(rate: float) -> Fraction:
    return max(Fraction(rate).limit_denominator(1001), Fraction(1, 1001)) if rate < 100_000 else Fraction(round(rate))


def _whole(rate: Fraction) -> Fraction:
    return Fraction(round(rate))
