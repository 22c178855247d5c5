"""Metrics of forecasts: frames, averages over clips, scores with their protocol."""

from framecast.metrics.clips import METRICS, Metric, MetricSettings, measure
from framecast.metrics.frames import (
    mae,
    masked_mae,
    masked_mse,
    masked_psnr,
    moving_mask,
    ms_ssim,
    mse,
    psnr,
    sharp_diff,
    sharpness,
    sharpness_ratio,
    ssim,
    total_variation,
)
from framecast.metrics.scores import Protocol, Scores

__all__ = [
    "METRICS",
    "Metric",
    "MetricSettings",
    "Protocol",
    "Scores",
    "mae",
    "masked_mae",
    "masked_mse",
    "masked_psnr",
    "measure",
    "moving_mask",
    "ms_ssim",
    "mse",
    "psnr",
    "sharp_diff",
    "sharpness",
    "sharpness_ratio",
    "ssim",
    "total_variation",
]
