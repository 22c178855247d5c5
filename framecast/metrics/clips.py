"""Scores of many clips, frame by frame of the horizon, without keeping the clips.

`measure` turns a batch into one number per clip and frame for every metric of `METRICS`; `Running` averages such
numbers with confidence intervals; `Tally` does so for all metrics of one predictor, samples included. All sums are
float64 and independent of how clips were batched; parts made by several processes are merged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations
from statistics import NormalDist
from typing import Any, Literal

import torch
from torch import Tensor

from framecast.metrics import frames
from framecast.types import UserError

#: What an interval is made of, said wherever one is shown.
INTERVAL = "95 % confidence interval of the mean, Student's t over clips"


@dataclass(frozen=True)
class Metric:
    """How to read a number. label: for tables.  unit: "dB" or "".  better: "higher", "lower" or "one" (nearest to 1).
    area: "frame" or "moving".  digits: after the point."""

    label: str
    unit: str
    better: Literal["higher", "lower", "one"]
    area: Literal["frame", "moving"]
    digits: int

    def badness(self, values: Tensor) -> Tensor:
        """Numbers that are smaller for better values."""
        return {"higher": -values, "lower": values, "one": (values - 1).abs()}[self.better]


#: Every metric a table may show, in its order.
METRICS: dict[str, Metric] = {
    "moving_psnr": Metric("PSNR, moving area", "dB", "higher", "moving", 2),
    "psnr": Metric("PSNR", "dB", "higher", "frame", 2),
    "ssim": Metric("SSIM", "", "higher", "frame", 4),
    "ms_ssim": Metric("MS-SSIM", "", "higher", "frame", 4),
    "sharp_diff": Metric("Sharp Diff", "dB", "higher", "frame", 2),
    "sharpness_ratio": Metric("Sharpness ratio", "", "one", "frame", 3),
    "mse": Metric("MSE", "", "lower", "frame", 6),
    "mae": Metric("MAE", "", "lower", "frame", 5),
    "moving_mse": Metric("MSE, moving area", "", "lower", "moving", 6),
    "moving_mae": Metric("MAE, moving area", "", "lower", "moving", 5),
}


@dataclass(frozen=True, kw_only=True)
class MetricSettings:
    """What can be chosen about the metrics; part of every protocol.

    names: keys of METRICS.  moving_threshold, moving_dilate: see frames.moving_mask.  ms_ssim_scales: 1 to 5.
    sharp_border: "crop" or "zero", see frames.sharp_diff.
    """

    names: tuple[str, ...] = tuple(METRICS)
    moving_threshold: float = 0.02
    moving_dilate: int = 3
    ms_ssim_scales: int = len(frames.MS_WEIGHTS)
    sharp_border: Literal["crop", "zero"] = "crop"

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in METRICS]
        if unknown or not self.names:
            raise UserError(f"metrics must be among {', '.join(METRICS)}, got {', '.join(unknown) or 'none'}")

    @classmethod
    def fitting(cls, height: int, width: int, **changes: Any) -> MetricSettings:
        """The settings for frames of this size; see `fitted`."""
        return cls(**changes).fitted(height, width)

    def fitted(self, height: int, width: int) -> MetricSettings:
        """These settings for frames of this size: MS-SSIM with as many scales as fit, without metrics whose window is
        larger than the frame. The protocol then says so."""
        scales = min(frames.ms_ssim_scales(height, width), self.ms_ssim_scales)
        left_out = set() if scales > 1 else ({"ms_ssim"} if scales else {"ssim", "ms_ssim"})
        if min(height, width) < 2:
            left_out |= {"sharp_diff", "sharpness_ratio"}
        names = tuple(name for name in self.names if name not in left_out)
        return replace(self, names=names, ms_ssim_scales=max(scales, 1))

    def describe(self) -> dict[str, Any]:
        """Plain values for a protocol, defaults and conventions spelled out."""
        weights = frames.MS_WEIGHTS[: self.ms_ssim_scales]
        return {
            "names": list(self.names),
            "psnr": f"per image, peak 1, at most {frames.CAP_DB:g} dB",
            "ssim": "11x11 Gaussian, sigma 1.5, valid region, K1 0.01, K2 0.03, mean over channels",
            "ms_ssim": f"{self.ms_ssim_scales} scales, weights {', '.join(map(str, weights))} divided by their sum"
            if "ms_ssim" in self.names
            else "left out",
            "ms_ssim_scales": self.ms_ssim_scales,
            "sharp_diff": f"paper form on 0…1, border {self.sharp_border}",
            "sharp_border": self.sharp_border,
            "moving": f"largest channel change since the last context frame above {self.moving_threshold:g}, "
            f"dilated by {self.moving_dilate} px; error averaged over these pixels",
            "moving_threshold": self.moving_threshold,
            "moving_dilate": self.moving_dilate,
            "interval": INTERVAL,
        }

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> MetricSettings:
        """The settings that `describe` was made from."""
        keys = ("moving_threshold", "moving_dilate", "ms_ssim_scales", "sharp_border")
        return cls(names=tuple(described["names"]), **{k: described[k] for k in keys})


def measure(
    prediction: Tensor, truth: Tensor, last_context: Tensor, settings: MetricSettings, mask: Tensor | None = None
) -> dict[str, Tensor]:
    """Every metric of `settings`, one number per clip and frame.

    prediction, truth: float (b, horizon, c, h, w) in 0…1.  last_context: (b, c, h, w).  mask: bool (b, horizon, h, w)
    if the caller has it already.
    Returns: name -> float64 (b, horizon); not-a-number where a metric is not defined (nothing moves, flat truth).
    """
    names, out = set(settings.names), dict[str, Tensor]()
    if names & {"mse", "psnr"}:
        out["mse"] = frames.mse(prediction, truth)
        out["psnr"] = frames.decibels(out["mse"])
    if "mae" in names:
        out["mae"] = frames.mae(prediction, truth)
    if "ssim" in names:
        out["ssim"] = frames.ssim(prediction, truth)
    if "ms_ssim" in names:
        out["ms_ssim"] = frames.ms_ssim(prediction, truth, settings.ms_ssim_scales)
    if "sharp_diff" in names:
        out["sharp_diff"] = frames.sharp_diff(prediction, truth, settings.sharp_border)
    if "sharpness_ratio" in names:
        out["sharpness_ratio"] = frames.sharpness_ratio(prediction, truth)
    if names & {"moving_mse", "moving_psnr", "moving_mae"}:
        if mask is None:
            mask = moving_masks(truth, last_context, settings)
        out["moving_mse"] = frames.masked_mse(prediction, truth, mask)
        out["moving_psnr"] = frames.decibels(out["moving_mse"])
        if "moving_mae" in names:
            out["moving_mae"] = frames.masked_mae(prediction, truth, mask)
    return {name: out[name] for name in settings.names}


def moving_masks(truth: Tensor, last_context: Tensor, settings: MetricSettings) -> Tensor:
    """Moving area of each frame of the horizon: (b, horizon, c, h, w) and (b, c, h, w) -> bool (b, horizon, h, w)."""
    return frames.moving_mask(truth, last_context[:, None], settings.moving_threshold, settings.moving_dilate)


def diversity(samples: Tensor) -> Tensor:
    """How far the samples of one clip lie apart: the mean, over all pairs, of their root-mean-square difference.

    samples: float (s, b, horizon, c, h, w) in 0…1, s at least 2.  Returns: float64 (b, horizon), 0 for equal samples.
    """
    pairs = list(combinations(range(len(samples)), 2))
    if not pairs:
        raise UserError("diversity needs at least 2 samples, got 1")
    total = torch.zeros(samples.shape[1:3], dtype=torch.float64, device=samples.device)
    for i, j in pairs:
        total += frames.mse(samples[i], samples[j]).sqrt()
    return total / len(pairs)


# ------------------------------------------------------------------------------------------------------ averages


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

    Source: Chan, Golub, LeVeque 1983, equation 2.1 for merging.
    """

    def __init__(self, horizon: int) -> None:
        self.n = torch.zeros(horizon, dtype=torch.int64)
        self.skipped = torch.zeros(horizon, dtype=torch.int64)
        self.mean = torch.zeros(horizon, dtype=torch.float64)
        self.squares = torch.zeros(horizon, dtype=torch.float64)  # of the deviations from the mean

    def add(self, values: Tensor) -> None:
        """Take clips in. values: float (b, horizon); what is not finite is skipped and counted."""
        values = values.detach().double().cpu()
        if values.ndim != 2 or values.shape[1] != len(self.n):
            raise UserError(f"expected values (b, {len(self.n)}), one per clip and frame, got {tuple(values.shape)}")
        finite = values.isfinite()
        part = Running(len(self.n))
        part.n, part.skipped = finite.sum(0), (~finite).sum(0)
        part.mean = values.where(finite, 0.0).sum(0) / part.n.clamp_min(1)
        part.squares = (values - part.mean).where(finite, 0.0).square().sum(0)
        self.merge(part)

    def merge(self, other: Running) -> None:
        """Take in what another one has seen."""
        total = (self.n + other.n).clamp_min(1)
        delta = other.mean - self.mean
        self.squares = self.squares + other.squares + delta.square() * self.n * other.n / total
        self.mean = self.mean + delta * other.n / total
        self.n, self.skipped = self.n + other.n, self.skipped + other.skipped

    def series(self) -> Series:
        """Means with their 95 % intervals over clips."""
        counts = [int(n) for n in self.n]
        means = [float(m) if n else None for m, n in zip(self.mean, counts, strict=True)]
        half = [
            t_quantile(n - 1) * math.sqrt(float(s) / (n - 1) / n) if n > 1 else None
            for s, n in zip(self.squares, counts, strict=True)
        ]
        ends = [None if m is None or h is None else (m - h, m + h) for m, h in zip(means, half, strict=True)]
        return Series(
            mean=tuple(means),
            low=tuple(e and e[0] for e in ends),
            high=tuple(e and e[1] for e in ends),
            n=tuple(counts),
            skipped=tuple(int(s) for s in self.skipped),
        )


@dataclass
class Tally:
    """All metrics of one predictor, streamed.

    names, horizon: what is measured.  samples: K per clip; of each clip and metric the best and the worst are the
    samples with the best and worst mean over the horizon.  keep_clips: keep every clip's number of the best sample in
    `per_clip` (8 bytes per clip, metric and frame) so that models can be compared clip by clip.
    """

    names: Sequence[str]
    horizon: int
    samples: int = 1
    keep_clips: bool = False
    best: dict[str, Running] = field(init=False)
    mean: dict[str, Running] = field(init=False)
    worst: dict[str, Running] = field(init=False)
    diversity: Running = field(init=False)
    _clips: dict[str, list[Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        self.best, self.mean, self.worst = (
            {name: Running(self.horizon) for name in self.names} for _ in ("best", "mean", "worst")
        )
        self.diversity = Running(self.horizon)
        self._clips = {name: [] for name in self.names}

    def add(self, values: Mapping[str, Tensor], spread: Tensor | None = None) -> dict[str, Tensor]:
        """Take a batch in.

        values: name -> float64 (s, b, horizon), from `measure` of every sample.  spread: `diversity` of the samples.
        Returns: name -> (b, horizon) of the best sample of each clip.
        """
        chosen = {}
        for name in self.names:
            every = values[name]
            first, last = order_samples(name, every)
            chosen[name] = _pick(every, first)
            self.best[name].add(chosen[name])
            if self.samples > 1:
                self.mean[name].add(every.nanmean(0))
                self.worst[name].add(_pick(every, last))
            if self.keep_clips:
                self._clips[name].append(chosen[name].cpu())
        if spread is not None:
            self.diversity.add(spread)
        return chosen

    def merge(self, other: Tally) -> None:
        """Take in what another process has tallied, its clips after ours."""
        if (tuple(self.names), self.horizon, self.samples) != (tuple(other.names), other.horizon, other.samples):
            raise UserError("tallies can be merged only if they have the same metrics, horizon and samples")
        for mine, theirs in ((self.best, other.best), (self.mean, other.mean), (self.worst, other.worst)):
            for name in self.names:
                mine[name].merge(theirs[name])
        self.diversity.merge(other.diversity)
        for name in self.names:
            self._clips[name] += other._clips[name]

    def per_clip(self) -> dict[str, Tensor]:
        """name -> float64 (clips, horizon) of the best sample, in the order of the clips; empty unless kept."""
        return {name: torch.cat(parts) for name, parts in self._clips.items() if parts}


def order_samples(name: str, values: Tensor) -> tuple[Tensor, Tensor]:
    """Index of each clip's best and worst sample by the metric's mean over the horizon, undefined frames left out.

    values: (s, b, horizon) of metric `name`.  Returns: two int64 (b,).
    """
    over_horizon = METRICS[name].badness(horizon_mean(values))
    best = over_horizon.nan_to_num(nan=math.inf).argmin(0)
    worst = over_horizon.nan_to_num(nan=-math.inf).argmax(0)
    return best, worst


def horizon_mean(values: Tensor) -> Tensor:
    """Mean over the last axis of what is finite; not-a-number where nothing is."""
    return values.where(values.isfinite(), torch.nan).nanmean(-1)


def _pick(values: Tensor, which: Tensor) -> Tensor:
    return values[which, torch.arange(values.shape[1], device=values.device)]


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
