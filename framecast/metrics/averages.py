"""Averages over clips with their 95 % confidence intervals, in float64.

Clips of one video are not independent: with clips of two videos or more the interval is cluster-robust over videos.
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

#: Definition of an interval, where the videos of the clips are unknown.
INTERVAL = "95 % confidence interval of the mean, Student's t over clips"


def interval_sentence(videos: int) -> str:
    """Definition of the confidence interval of a mean over clips, to be shown beside every interval.

    Args:
        videos: Number of videos that the clips come from.
    """
    if videos >= 2:
        return (
            f"95 % confidence interval of the mean, Student's t over {videos} videos: clips of one video are not "
            "independent, so the variance is that of the videos (cluster-robust)"
        )
    return f"{INTERVAL}; all are of one video and not independent, so the true interval is wider"


@dataclass(frozen=True)
class Series:
    """One curve over the horizon: means with their confidence intervals.

    Attributes:
        mean: One number per frame; None without a clip.
        low: Lower end of the 95 % interval; None with fewer than 2 clips.
        high: Upper end, likewise.
        n: Clips averaged, per frame.
        skipped: Clips left out because the metric is undefined or not finite, per frame.
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
        """The same curve on a longer horizon: its numbers at `frames` (counted from 1), None at all others."""
        if len(frames) == horizon:
            return self

        def placed(values: Sequence[Any], missing: Any) -> tuple[Any, ...]:
            out = [missing] * horizon
            for frame, value in zip(frames, values, strict=True):
                out[frame - 1] = value
            return tuple(out)

        return Series(
            *(placed(getattr(self, name), None) for name in ("mean", "low", "high")),
            *(placed(getattr(self, name), 0) for name in ("n", "skipped")),
        )

    def scalar(self) -> dict[str, float | int | None]:
        """A curve of one frame as plain values: mean, low, high, n."""
        return {"mean": self.mean[0], "low": self.low[0], "high": self.high[0], "n": self.n[0]}

    def to_json(self) -> dict[str, list[Any]]:
        """Lists by name."""
        return {name: list(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Series:
        """The inverse of `to_json`.

        Raises:
            UserError: For missing or wrong lists.
        """
        return cls(**{name: tuple(_numbers(data, name)) for name in cls.__dataclass_fields__})


def _numbers(data: Mapping[str, Any], name: str) -> Iterator[Any]:
    values = data.get(name) if isinstance(data, Mapping) else None
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise UserError(f'a series must have a list "{name}" with one number per frame of the horizon')
    for value in values:
        if isinstance(value, bool) or not (value is None or isinstance(value, int | float)):
            raise UserError(f'a series\' "{name}" must hold numbers, got {value!r}')
        yield value


def summarize(values: Tensor, groups: Sequence[Hashable] | None = None) -> Series:
    """Mean over clips per frame, with its 95 % confidence interval.

    With two or more groups the interval is cluster-robust: the variance of a mean of clusters with the factor
    G / (G - 1), and Student's t with G - 1 degrees of freedom. A frame with numbers of one group only, and clips
    without groups, get the interval over independent clips.

    Args:
        values: float (clips, horizon); values that are not finite are skipped and counted.
        groups: The video of each clip, or whatever makes clips dependent; None treats clips as independent.

    Raises:
        UserError: For another shape of `values`, or another number of groups than clips.

    Source: Cameron and Miller 2015, section II.
    """
    values = values.detach().double().cpu()
    if values.ndim != 2:
        raise UserError(f"expected values (clips, horizon), one per clip and frame, got {tuple(values.shape)}")
    if groups is not None and len(groups) != len(values):
        raise UserError(f"expected one group per clip, got {len(groups)} for {len(values)} clips")
    finite = values.isfinite()
    n = finite.sum(0)
    mean = values.where(finite, 0.0).sum(0) / n.clamp_min(1)
    deviations = (values - mean).where(finite, 0.0)
    number = {group: i for i, group in enumerate(dict.fromkeys(groups or ()))}
    at = torch.tensor([number[group] for group in groups or ()], dtype=torch.int64)
    by_group = torch.zeros(len(number), values.shape[1], dtype=torch.float64)
    present = by_group.index_add(0, at, finite[: len(at)].double()) > 0
    by_group = by_group.index_add(0, at, deviations[: len(at)])
    columns = zip(
        *(x.tolist() for x in (n, deviations.square().sum(0), present.sum(0), by_group.square().sum(0))), strict=True
    )
    half = []
    for count, squares, clusters, cluster_squares in columns:
        if clusters > 1:
            half.append(t_quantile(clusters - 1) * math.sqrt(cluster_squares * clusters / (clusters - 1)) / count)
        else:
            half.append(t_quantile(count - 1) * math.sqrt(squares / (count - 1) / count) if count > 1 else None)
    means = [m if count else None for m, count in zip(mean.tolist(), n.tolist(), strict=True)]
    ends = [None if m is None or h is None else (m - h, m + h) for m, h in zip(means, half, strict=True)]
    return Series(
        mean=tuple(means),
        low=tuple(e and e[0] for e in ends),
        high=tuple(e and e[1] for e in ends),
        n=tuple(n.tolist()),
        skipped=tuple((~finite).sum(0).tolist()),
    )


# --------------------------------------------------------------------------------------------- Student's t


@lru_cache(maxsize=4096)
def t_quantile(dof: int, probability: float = 0.975) -> float:
    """Quantile of Student's t: 12.706 for 1 degree of freedom, 1.96 for many.

    Up to 200 degrees of freedom the distribution's finite sum is inverted by bisection, beyond that the expansion
    about the normal quantile is exact to 1e-9.

    Args:
        dof: Degrees of freedom, at least 1.
        probability: Above 0.5.

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
