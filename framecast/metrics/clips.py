"""Metrics of clips, frame by frame of the horizon.

`measure` turns a batch into one number per clip and frame for every metric of `METRICS`; `reduce_samples` reduces the
samples of each clip to the best, the mean and the worst. Averages over clips are those of `averages.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.metrics import frames
from framecast.metrics.averages import INTERVAL, interval_sentence


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
    "moving_psnr": Metric("PSNR, moving area", "dB", "higher", "moving", 2),
    "psnr": Metric("PSNR", "dB", "higher", "frame", 2),
    "ssim": Metric("SSIM", "", "higher", "frame", 4),
    "ms_ssim": Metric("MS-SSIM", "", "higher", "frame", 4),
    "sharp_diff": Metric("Sharp Diff", "dB", "higher", "frame", 2),
    "sharpness_ratio": Metric("Sharpness ratio", "", "one", "frame", 3),
    "total_variation": Metric("Total variation of the forecast", "", "neither", "frame", 1),
    "mse": Metric("MSE", "", "lower", "frame", 6),
    "mae": Metric("MAE", "", "lower", "frame", 5),
    "moving_mse": Metric("MSE, moving area", "", "lower", "moving", 6),
    "moving_mae": Metric("MAE, moving area", "", "lower", "moving", 5),
    "lpips": Metric("LPIPS", "", "lower", "frame", 4),
}
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

    names: tuple[str, ...] = tuple(name for name in METRICS if name not in NEEDS_WEIGHTS_FILE)
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
        larger than the frame. The protocol records it."""
        scales = min(frames.ms_ssim_scales(height, width), self.ms_ssim_scales)
        left_out = set() if scales > 1 else ({"ms_ssim"} if scales else {"ssim", "ms_ssim"})
        if min(height, width) < 2:
            left_out |= {"sharp_diff", "sharpness_ratio"}
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
    prediction: Tensor, truth: Tensor, last_context: Tensor, settings: MetricSettings, mask: Tensor | None = None
) -> dict[str, Tensor]:
    """Every metric of `settings`, one number per clip and frame, except those that need a weights file.

    Args:
        prediction: float (b, horizon, c, h, w) in 0…1.
        truth: float (b, horizon, c, h, w) in 0…1.
        last_context: float (b, c, h, w) in 0…1.

        mask: bool (b, horizon, h, w), the moving area; None computes it.

    Returns:
        Name -> float64 (b, horizon); NaN where a metric is undefined (no moving area, flat truth).
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
    if "total_variation" in names:
        out["total_variation"] = frames.total_variation(prediction)
    if names & {"moving_mse", "moving_psnr", "moving_mae"}:
        if mask is None:
            mask = moving_masks(truth, last_context, settings)
        out["moving_mse"] = frames.masked_mse(prediction, truth, mask)
        out["moving_psnr"] = frames.decibels(out["moving_mse"])
        if "moving_mae" in names:
            out["moving_mae"] = frames.masked_mae(prediction, truth, mask)
    return {name: out[name] for name in settings.names if name not in NEEDS_WEIGHTS_FILE}


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
