"""Metrics of clips: one number per clip and frame, and the reduction of samples."""

import math

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.metrics import clips, frames
from framecast.metrics.averages import summarize


def test_best_and_worst_sample_per_clip_follow_the_mean_over_the_horizon():
    psnr = torch.tensor([[[30.0, 10.0], [math.nan, 12.0]], [[21.0, 21.0], [11.0, 11.0]]], dtype=torch.float64)
    mse = torch.tensor([[[1.0, 1.0], [3.0, 3.0]], [[2.0, 1.0], [2.0, 1.0]]], dtype=torch.float64)
    ratio = torch.tensor([[[0.5, 0.5], [1.1, 1.1]], [[1.2, 1.2], [1.9, 1.9]]], dtype=torch.float64)
    reduced = clips.reduce_samples({"psnr": psnr, "mse": mse, "sharpness_ratio": ratio})
    best = reduced["best"]
    assert best["psnr"][0].tolist() == [21, 21]
    assert math.isnan(best["psnr"][1, 0])  # 12 dB where defined is better than 11
    assert best["mse"].tolist() == [[1, 1], [2, 1]]
    assert best["sharpness_ratio"].tolist() == [[1.2, 1.2], [1.1, 1.1]]  # nearest to 1
    assert summarize(reduced["mean"]["mse"]).mean == (2.0, 1.5)
    assert summarize(reduced["mean"]["psnr"]).mean == ((25.5 + 11) / 2, (15.5 + 11.5) / 2)
    assert summarize(reduced["worst"]["mse"]).mean == (2.5, 2.0)
    assert summarize(best["psnr"]).skipped == (1, 0)
    assert set(clips.reduce_samples({"psnr": psnr[:1]})) == {"best"}


def test_diversity_equals_mean_pairwise_distance():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(3, 2, 2, 1, 4, 5, generator=g)
    want = np.zeros((2, 2))
    for b in range(2):
        for t in range(2):
            for i, j in ((0, 1), (0, 2), (1, 2)):
                want[b, t] += math.sqrt(float(((x[i, b, t] - x[j, b, t]).double() ** 2).mean())) / 3
    assert clips.diversity(x).numpy() == pytest.approx(want, rel=1e-6)
    assert clips.diversity(x[:1].repeat(4, 1, 1, 1, 1, 1)).sum() == 0
    with pytest.raises(UserError, match="at least 2 samples"):
        clips.diversity(x[:1])


def test_measure_returns_every_metric_per_clip_and_frame():
    g = torch.Generator().manual_seed(0)
    truth, last = torch.rand(2, 3, 3, 24, 26, generator=g), torch.rand(2, 3, 24, 26, generator=g)
    prediction = (truth + 0.05 * torch.randn(truth.shape, generator=g)).clamp(0, 1)
    truth[1, 0] = last[1]
    settings = clips.MetricSettings.fitting(24, 26)
    got = clips.measure(prediction, truth, last, settings)
    measured = tuple(name for name in clips.METRICS if name not in (*clips.POOLED, *clips.NEEDS_WEIGHTS_FILE))
    assert tuple(got) == settings.names == measured
    assert settings.ms_ssim_scales == 2
    assert all(v.shape == (2, 3) and v.dtype == torch.float64 for v in got.values())
    assert torch.equal(got["ssim"], frames.ssim(prediction, truth))
    assert torch.allclose(got["psnr"], frames.psnr(prediction, truth), rtol=1e-12)
    assert got["moving_mse"].isnan().tolist() == [[False] * 3, [True, False, False]]
    mask = frames.moving_mask(truth[0, 1], last[0])
    assert got["moving_mae"][0, 1].item() == pytest.approx(
        frames.masked_mae(prediction[0, 1], truth[0, 1], mask).item()
    )


def test_metrics_too_large_for_the_frames_are_left_out_of_the_settings():
    assert "ms_ssim" not in clips.MetricSettings.fitting(16, 64).names
    small = clips.MetricSettings.fitting(8, 64)
    assert not {"ssim", "ms_ssim"} & set(small.names)
    assert "sharp_diff" not in clips.MetricSettings.fitting(1, 64).names
    assert clips.MetricSettings.from_description(small.describe()) == small
    assert small.describe()["moving_threshold"] == 0.02
    with pytest.raises(UserError, match="got lpisp"):
        clips.MetricSettings(names=("psnr", "lpisp"))
