"""Metrics of clips, frame by frame of the horizon.

`measure` turns a batch into one number per clip and frame for every metric of `METRICS`; `reduce_samples` reduces the
samples of each clip to the best, the mean and the worst. Averages over clips are those of `averages.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.metrics import frames
from framecast.metrics.averages import INTERVAL, interval_sentence
from framecast.metrics.parts import frame_parts


@dataclass(frozen=True)
class Metric:
    """Presentation of a metric.

    Attributes:
        label: Name in tables.
        unit: "dB" or "".
        better: "higher", "lower", "one" (nearest to 1), or "neither": a property of the forecast alone.
        area: "frame" or "moving".
        digits: Decimal places.
    """

    label: str
    unit: str
    better: Literal["higher", "lower", "one", "neither"]
    area: Literal["frame", "moving"]
    digits: int

    def sort_key(self, values: Tensor) -> Tensor:
        """Numbers that are smaller for better values; 0 for a metric without a better direction."""
        if self.better == "neither":
            return torch.zeros_like(values).where(values.isfinite(), values)
        return {"higher": -values, "lower": values, "one": (values - 1).abs()}[self.better]


#: Every metric a table may show, in its order.
METRICS: dict[str, Metric] = {
    "skill": Metric("Skill over persistence", "", "higher", "frame", 3),
    "skill_best": Metric("Skill over the best baseline", "", "higher", "frame", 3),
    "moving_psnr": Metric("PSNR, moving area", "dB", "higher", "moving", 2),
    "psnr": Metric("PSNR", "dB", "higher", "frame", 2),
    "ssim": Metric("SSIM", "", "higher", "frame", 4),
    "ms_ssim": Metric("MS-SSIM", "", "higher", "frame", 4),
    "sharp_diff": Metric("Sharp Diff", "dB", "higher", "frame", 2),
    "sharpness_ratio": Metric("Sharpness ratio", "", "one", "frame", 3),
    "area_sharpness_ratio": Metric("Sharpness ratio, moving area of truth or forecast", "", "one", "moving", 3),
    "total_variation": Metric("Total variation of the forecast", "", "neither", "frame", 1),
    "mse": Metric("MSE", "", "lower", "frame", 6),
    "mae": Metric("MAE", "", "lower", "frame", 5),
    "moving_mse": Metric("MSE, moving area", "", "lower", "moving", 6),
    "moving_mae": Metric("MAE, moving area", "", "lower", "moving", 5),
    "still_mse": Metric("MSE of false motion, part of the MSE", "", "lower", "frame", 6),
    "still_mae": Metric("MAE of false motion, part of the MAE", "", "lower", "frame", 5),
    "lpips": Metric("LPIPS", "", "lower", "frame", 4),
}
#: Metrics of all clips together, beside those of each: see `metrics/skill.py`.
POOLED = ("skill", "skill_best")
#: Metrics that need a weights file from the user.
NEEDS_WEIGHTS_FILE = ("lpips",)


@dataclass(frozen=True, kw_only=True)
class MetricSettings:
    """Metrics to measure and their settings; part of every protocol.

    Attributes:
        names: Keys of METRICS.
        moving_threshold: See frames.moving_mask.
        moving_dilate: See frames.moving_mask.
        ms_ssim_scales: 1 to 5.
        sharp_border: "crop" or "zero", see frames.sharp_diff.
    """

    names: tuple[str, ...] = tuple(name for name in METRICS if name not in (*POOLED, *NEEDS_WEIGHTS_FILE))
    moving_threshold: float = 0.02
    moving_dilate: int = 3
    ms_ssim_scales: int = len(frames.MS_WEIGHTS)
    sharp_border: Literal["crop", "zero"] = "crop"

    def __post_init__(self) -> None:
        known = [name for name in METRICS if name not in POOLED]
        unknown = [name for name in self.names if name not in known]
        if unknown or not self.names:
            raise UserError(f"metrics must be among {', '.join(known)}, got {', '.join(unknown) or 'none'}")

    @classmethod
    def fitting(cls, height: int, width: int, **changes: Any) -> MetricSettings:
        """The settings for frames of this size; see `fitted`."""
        return cls(**changes).fitted(height, width)

    def fitted(self, height: int, width: int) -> MetricSettings:
        """These settings for frames of this size: MS-SSIM with as many scales as fit, without metrics whose window is
        larger than the frame. The protocol records it."""
        scales = min(frames.ms_ssim_scales(height, width), self.ms_ssim_scales)
        left_out = set() if scales > 1 else ({"ms_ssim"} if scales else {"ssim", "ms_ssim"})
        if min(height, width) < 2:
            left_out |= {"sharp_diff", "sharpness_ratio", "area_sharpness_ratio"}
        names = tuple(name for name in self.names if name not in left_out)
        return replace(self, names=names, ms_ssim_scales=max(scales, 1))

    def describe(self, videos: int | None = None) -> dict[str, Any]:
        """Plain values for a protocol, defaults and conventions spelled out.

        Args:
            videos: Number of videos of the clips, for intervals over videos; None treats clips as independent.
        """
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
            "still": "error outside the moving area, divided by all pixels: a part of the frame's error",
            "area_sharpness": "|dx| + |dy| of forecast over that of truth, summed over the moving area of either",
            "skill": "1 - MSE of the forecast / MSE of the reference, whole frame, squared errors pooled over clips "
            "before the ratio; over the horizon, summed over its frames; of several samples their mean error",
            "moving_threshold": self.moving_threshold,
            "moving_dilate": self.moving_dilate,
            "interval": INTERVAL if videos is None else interval_sentence(videos),
        }

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> MetricSettings:
        """The inverse of `describe`."""
        keys = ("moving_threshold", "moving_dilate", "ms_ssim_scales", "sharp_border")
        return cls(names=tuple(described["names"]), **{k: described[k] for k in keys})


def measure(
    prediction: Tensor,
    truth: Tensor,
    last_context: Tensor,
    settings: MetricSettings,
    mask: Tensor | None = None,
    parts: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Every metric of `settings`, one number per clip and frame, except those that need a weights file.

    Args:
        prediction: float (b, horizon, c, h, w) in 0…1.
        truth: float (b, horizon, c, h, w) in 0…1.
        last_context: float (b, c, h, w) in 0…1.
        settings: Names and settings.
        mask: bool (b, horizon, h, w), the moving area; None computes it.
        parts: Result of `parts_of`; None computes it where a metric needs it.

    Returns:
        Name -> float64 (b, horizon); NaN where a metric is undefined (no moving area, flat truth).
    """
    names = [name for name in settings.names if name not in NEEDS_WEIGHTS_FILE]
    if parts is None and not {*names} <= {"ssim", "ms_ssim", "sharp_diff", "total_variation"}:
        parts = parts_of(prediction, truth, last_context, settings, mask)
    given = parts or {}
    compute: dict[str, Callable[[], Tensor]] = {
        "psnr": lambda: frames.decibels(given["mse"]),
        "moving_psnr": lambda: frames.decibels(given["moving_mse"]),
        "ssim": lambda: frames.ssim(prediction, truth),
        "ms_ssim": lambda: frames.ms_ssim(prediction, truth, settings.ms_ssim_scales),
        "sharp_diff": lambda: frames.sharp_diff(prediction, truth, settings.sharp_border),
        "sharpness_ratio": lambda: _over(given["sharpness"], given["true_sharpness"]),
        "area_sharpness_ratio": lambda: _over(given["area_sharpness"], given["true_area_sharpness"]),
        "total_variation": lambda: frames.total_variation(prediction),
    }
    return {name: compute[name]() if name in compute else given[name] for name in names}


def _over(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below, torch.nan)


def parts_of(
    prediction: Tensor, truth: Tensor, last_context: Tensor, settings: MetricSettings, mask: Tensor | None = None
) -> dict[str, Tensor]:
    """Errors, their parts, and sharpness of every frame; arguments as for `measure`, result as of `frame_parts`."""
    mask = moving_masks(truth, last_context, settings) if mask is None else mask
    return frame_parts(prediction, truth, last_context, mask, settings.moving_threshold, settings.moving_dilate)


def moving_masks(truth: Tensor, last_context: Tensor, settings: MetricSettings) -> Tensor:
    """Moving area of each frame of the horizon: (b, horizon, c, h, w) and (b, c, h, w) -> bool (b, horizon, h, w)."""
    return frames.moving_mask(truth, last_context[:, None], settings.moving_threshold, settings.moving_dilate)


def diversity(samples: Tensor) -> Tensor:
    """Diversity of the samples of each clip: mean over all pairs of their root-mean-square difference.

    Args:
        samples: float (s, b, horizon, c, h, w) in 0…1, s at least 2.

    Returns:
        float64 (b, horizon), 0 for equal samples.
    """
    pairs = list(combinations(range(len(samples)), 2))
    if not pairs:
        raise UserError("diversity needs at least 2 samples, got 1")
    total = torch.zeros(samples.shape[1:3], dtype=torch.float64, device=samples.device)
    for i, j in pairs:
        total += frames.mse(samples[i], samples[j]).sqrt()
    return total / len(pairs)


# ------------------------------------------------------------------------------------------------------- samples


def reduce_samples(values: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Best sample, mean over samples and worst sample of every clip and metric.

    Args:
        values: Metric name -> float64 (s, b, horizon), from `measure` of every sample.

    Returns:
        "best", "mean" and "worst" -> metric name -> float64 (b, horizon); with a single sample only "best". Best and
        worst are the samples with the best and worst mean over the horizon.
    """
    out: dict[str, dict[str, Tensor]] = {}
    for name, every in values.items():
        best, worst = order_samples(name, every)
        out.setdefault("best", {})[name] = _pick(every, best)
        if len(every) > 1:
            out.setdefault("mean", {})[name] = every.nanmean(0)
            out.setdefault("worst", {})[name] = _pick(every, worst)
    return out


def order_samples(name: str, values: Tensor) -> tuple[Tensor, Tensor]:
    """Index of each clip's best and worst sample by the metric's mean over the horizon, without undefined frames.

    Args:
        name: Key of METRICS.
        values: float64 (s, b, horizon).

    Returns:
        Two int64 (b,).
    """
    over_horizon = METRICS[name].sort_key(horizon_mean(values))
    best = over_horizon.nan_to_num(nan=math.inf).argmin(0)
    worst = over_horizon.nan_to_num(nan=-math.inf).argmax(0)
    return best, worst


def horizon_mean(values: Tensor) -> Tensor:
    """Mean of the finite values over the last axis; NaN where there is none."""
    return values.where(values.isfinite(), torch.nan).nanmean(-1)


def _pick(values: Tensor, which: Tensor) -> Tensor:
    return values[which, torch.arange(values.shape[1], device=values.device)]
