"""Averages over clips with their intervals, streamed: no clip is kept.

Clips of one video are not independent. Where they come from two videos or more, the interval of a mean is that of the
videos (cluster-robust); what is kept for it is one sum per video and frame. All sums are float64; parts made by several
processes are merged.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from framecast.core.errors import UserError

#: What an interval is made of, where nothing is known of the clips' origin.
INTERVAL = "95 % confidence interval of the mean, Student's t over clips"


def interval_sentence(videos: int) -> str:
    """What the intervals of a mean over clips of so many videos are made of, to be said wherever one is shown."""
    if videos >= 2:
        return (
            f"95 % confidence interval of the mean, Student's t over {videos} videos: clips of one video are not "
            "independent, so the variance is that of the videos (cluster-robust)"
        )
    return f"{INTERVAL}; all are of one video and not independent, so the true interval is wider"


@dataclass(frozen=True)
class Series:
    """One curve over the horizon: means with their interval.

    mean, low, high: one number per frame, None where there is none (no clip, or a single one for low and high).
    n: clips averaged per frame.  skipped: clips left out per frame because the metric was not defined or not finite.
    """

    mean: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    n: tuple[int, ...]
    skipped: tuple[int, ...]

    def __post_init__(self) -> None:
        if len({len(getattr(self, name)) for name in self.__dataclass_fields__}) != 1:
            raise UserError("the lists mean, low, high, n and skipped of a series must be equally long, one per frame")

    def spread(self, frames: Sequence[int], horizon: int) -> Series:
        """The same curve on a longer horizon: its numbers at `frames` (from 1), nothing at all others."""
        if len(frames) == horizon:
            return self

        def placed(values: Sequence[Any], nothing: Any) -> tuple[Any, ...]:
            out = [nothing] * horizon
            for frame, value in zip(frames, values, strict=True):
                out[frame - 1] = value
            return tuple(out)

        return Series(
            *(placed(getattr(self, name), None) for name in ("mean", "low", "high")),
            *(placed(getattr(self, name), 0) for name in ("n", "skipped")),
        )

    def to_json(self) -> dict[str, list[Any]]:
        """Lists by name."""
        return {name: list(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Series:
        """The inverse of `to_json`; UserError for missing or wrong lists."""
        return cls(**{name: tuple(_numbers(data, name)) for name in cls.__dataclass_fields__})


def _numbers(data: Mapping[str, Any], name: str) -> Iterator[Any]:
    values = data.get(name) if isinstance(data, Mapping) else None
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise UserError(f'a series must have a list "{name}" with one number per frame of the horizon')
    for value in values:
        if isinstance(value, bool) or not (value is None or isinstance(value, int | float)):
            raise UserError(f'a series\' "{name}" must hold numbers, got {value!r}')
        yield value


class Running:
    """Mean and variance per frame of the horizon, one clip after another (Welford), mergeable.

    Sources: Chan, Golub, LeVeque 1983, equation 2.1 for merging; Cameron and Miller 2015, section II, for the variance
    of a mean of clusters, with their factor G / (G - 1) and Student's t with G - 1 degrees of freedom.
    """

    def __init__(self, horizon: int) -> None:
        self.n = torch.zeros(horizon, dtype=torch.int64)
        self.skipped = torch.zeros(horizon, dtype=torch.int64)
        self.mean = torch.zeros(horizon, dtype=torch.float64)
        self.squares = torch.zeros(horizon, dtype=torch.float64)  # of the deviations from the mean
        self.groups: dict[Hashable, tuple[Tensor, Tensor]] = {}  # video -> clips and mean per frame

    def add(self, values: Tensor, groups: Sequence[Hashable] | None = None) -> None:
        """Take clips in.

        values: float (b, horizon); what is not finite is skipped and counted.  groups: of each clip the video, or
        whatever makes clips depend on each other; None takes all as independent.
        """
        values = values.detach().double().cpu()
        if values.ndim != 2 or values.shape[1] != len(self.n):
            raise UserError(f"expected values (b, {len(self.n)}), one per clip and frame, got {tuple(values.shape)}")
        if groups is not None and len(groups) != len(values):
            raise UserError(f"expected one group per clip, got {len(groups)} for {len(values)} clips")
        part = Running(len(self.n))
        part.n, part.skipped, part.mean, part.squares = _moments(values)
        if groups is not None:
            rows: dict[Hashable, list[int]] = {}
            for i, group in enumerate(groups):
                rows.setdefault(group, []).append(i)
            for group, chosen in rows.items():
                n, _, mean, _ = _moments(values[chosen])
                part.groups[group] = (n, mean)
        self.merge(part)

    def merge(self, other: Running) -> None:
        """Take in what another one has seen."""
        total = (self.n + other.n).clamp_min(1)
        delta = other.mean - self.mean
        self.squares = self.squares + other.squares + delta.square() * self.n * other.n / total
        self.mean = self.mean + delta * other.n / total
        self.n, self.skipped = self.n + other.n, self.skipped + other.skipped
        for group, (n, mean) in other.groups.items():
            if group in self.groups:
                had, known = self.groups[group]
                mean = known + (mean - known) * n / (had + n).clamp_min(1)
                n = had + n
            self.groups[group] = (n, mean)

    def series(self) -> Series:
        """Means with their 95 % intervals: over videos where there are two or more, else over clips."""
        counts = [int(n) for n in self.n]
        means = [float(m) if n else None for m, n in zip(self.mean, counts, strict=True)]
        half = self._half(counts)
        ends = [None if m is None or h is None else (m - h, m + h) for m, h in zip(means, half, strict=True)]
        return Series(
            mean=tuple(means),
            low=tuple(e and e[0] for e in ends),
            high=tuple(e and e[1] for e in ends),
            n=tuple(counts),
            skipped=tuple(int(s) for s in self.skipped),
        )

    def _half(self, counts: Sequence[int]) -> list[float | None]:
        """Half the width of every interval; None where there is none."""
        over_clips = [
            t_quantile(n - 1) * math.sqrt(float(s) / (n - 1) / n) if n > 1 else None
            for s, n in zip(self.squares, counts, strict=True)
        ]
        if len(self.groups) < 2:
            return over_clips
        n = torch.stack([n for n, _ in self.groups.values()])
        mean = torch.stack([m for _, m in self.groups.values()])
        videos = [int(v) for v in (n > 0).sum(0)]  # that have a number at this frame
        squares = (n * (mean - self.mean)).square().sum(0)
        return [
            t_quantile(g - 1) * math.sqrt(float(s) * g / (g - 1)) / count if g > 1 else clips
            for g, s, count, clips in zip(videos, squares, counts, over_clips, strict=True)
        ]


def _moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """n, skipped, mean and sum of squared deviations of what is finite, per column."""
    finite = values.isfinite()
    n = finite.sum(0)
    mean = values.where(finite, 0.0).sum(0) / n.clamp_min(1)
    return n, (~finite).sum(0), mean, (values - mean).where(finite, 0.0).square().sum(0)


# --------------------------------------------------------------------------------------------- Student's t


@lru_cache(maxsize=4096)
def t_quantile(dof: int, probability: float = 0.975) -> float:
    """Quantile of Student's t: 12.706 for 1 degree of freedom, 1.96 for many; probability above one half.

    Up to 200 degrees of freedom the distribution's finite sum is inverted by bisection, beyond that the expansion
    about the normal quantile is exact to 1e-9.
    Source: Abramowitz and Stegun 1964, 26.7.3, 26.7.4 and 26.7.5.
    """
    if dof < 1:
        raise ValueError(f"Student's t needs at least 1 degree of freedom, got {dof}")
    if dof > 200:
        x = NormalDist().inv_cdf(probability)
        g1 = (x**3 + x) / 4
        g2 = (5 * x**5 + 16 * x**3 + 3 * x) / 96
        g3 = (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384
        g4 = (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160
        return x + g1 / dof + g2 / dof**2 + g3 / dof**3 + g4 / dof**4
    low, high = 0.0, 1.0
    while _t_within(high, dof) < 2 * probability - 1:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, dof) < 2 * probability - 1 else (low, middle)
    return (low + high) / 2


def _t_within(t: float, dof: int) -> float:
    """Probability that |T| < t."""
    angle = math.atan(t / math.sqrt(dof))
    cosine, term, total = math.cos(angle), 1.0, 1.0
    if dof % 2:
        if dof == 1:
            return 2 * angle / math.pi
        for k in range(3, dof - 1, 2):
            term *= (k - 1) / k * cosine**2
            total += term
        return 2 / math.pi * (angle + math.sin(angle) * cosine * total)
    for k in range(2, dof - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    return math.sin(angle) * total
