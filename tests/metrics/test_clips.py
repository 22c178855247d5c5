"""Averages over clips: exact, streamed, mergeable, blind to how clips were batched."""

import math

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.metrics import clips, frames


def values(n: int = 37, horizon: int = 5) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return 20 + 3 * torch.randn(n, horizon, generator=g, dtype=torch.float64)


def test_figures_of_single_clips_are_kept_only_if_asked():
    tally = clips.Tally(["psnr"], 4)
    tally.add({"psnr": values(10, 4)[None]})
    assert tally.per_clip() == {}


def test_best_and_worst_sample_are_chosen_per_clip_by_their_mean_over_the_horizon():
    psnr = torch.tensor([[[30.0, 10.0], [math.nan, 12.0]], [[21.0, 21.0], [11.0, 11.0]]], dtype=torch.float64)
    mse = torch.tensor([[[1.0, 1.0], [3.0, 3.0]], [[2.0, 1.0], [2.0, 1.0]]], dtype=torch.float64)
    ratio = torch.tensor([[[0.5, 0.5], [1.1, 1.1]], [[1.2, 1.2], [1.9, 1.9]]], dtype=torch.float64)
    tally = clips.Tally(["psnr", "mse", "sharpness_ratio"], 2, samples=2, keep_clips=True)
    chosen = tally.add({"psnr": psnr, "mse": mse, "sharpness_ratio": ratio}, spread=torch.tensor([[0.1, 0.3]] * 2))
    assert chosen["psnr"][0].tolist() == [21, 21]
    assert math.isnan(chosen["psnr"][1, 0])  # 12 dB where defined is better than 11
    assert chosen["mse"].tolist() == [[1, 1], [2, 1]]
    assert chosen["sharpness_ratio"].tolist() == [[1.2, 1.2], [1.1, 1.1]]  # nearest to 1
    assert tally.mean["mse"].series().mean == (2.0, 1.5)
    assert tally.mean["psnr"].series().mean == ((25.5 + 11) / 2, (15.5 + 11.5) / 2)
    assert tally.worst["mse"].series().mean == (2.5, 2.0)
    assert tally.best["psnr"].series().skipped == (1, 0)
    assert tally.diversity.series().mean == pytest.approx((0.1, 0.3))
    assert tally.per_clip()["mse"].tolist() == [[1, 1], [2, 1]]


def test_tallies_merge():
    x = values(12, 3)[None].repeat(2, 1, 1) + torch.tensor([0.0, 1.0]).reshape(2, 1, 1)
    whole, one, two = (clips.Tally(["psnr"], 3, samples=2, keep_clips=True) for _ in range(3))
    whole.add({"psnr": x})
    one.add({"psnr": x[:, :5]})
    two.add({"psnr": x[:, 5:]})
    one.merge(two)
    for kind in ("best", "mean", "worst"):
        assert getattr(one, kind)["psnr"].series().low == pytest.approx(getattr(whole, kind)["psnr"].series().low)
    assert torch.equal(one.per_clip()["psnr"], whole.per_clip()["psnr"])
    with pytest.raises(UserError, match="same metrics, horizon and samples"):
        one.merge(clips.Tally(["psnr"], 3, samples=3))


def test_diversity_is_the_mean_distance_of_pairs():
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


def test_measure_gives_every_metric_per_clip_and_frame():
    g = torch.Generator().manual_seed(0)
    truth, last = torch.rand(2, 3, 3, 24, 26, generator=g), torch.rand(2, 3, 24, 26, generator=g)
    prediction = (truth + 0.05 * torch.randn(truth.shape, generator=g)).clamp(0, 1)
    truth[1, 0] = last[1]
    settings = clips.MetricSettings.fitting(24, 26)
    got = clips.measure(prediction, truth, last, settings)
    measured = tuple(name for name in clips.METRICS if name not in clips.NEEDS_WEIGHTS_FILE)
    assert tuple(got) == settings.names == measured
    assert settings.ms_ssim_scales == 2
    assert all(v.shape == (2, 3) and v.dtype == torch.float64 for v in got.values())
    assert torch.equal(got["ssim"], frames.ssim(prediction, truth))
    assert torch.equal(got["psnr"], frames.psnr(prediction, truth))
    assert got["moving_mse"].isnan().tolist() == [[False] * 3, [True, False, False]]
    mask = frames.moving_mask(truth[0, 1], last[0])
    assert got["moving_mae"][0, 1] == frames.masked_mae(prediction[0, 1], truth[0, 1], mask)


def test_metrics_that_do_not_fit_are_left_out_and_the_protocol_shows_it():
    assert "ms_ssim" not in clips.MetricSettings.fitting(16, 64).names
    small = clips.MetricSettings.fitting(8, 64)
    assert not {"ssim", "ms_ssim"} & set(small.names)
    assert "sharp_diff" not in clips.MetricSettings.fitting(1, 64).names
    assert clips.MetricSettings.from_description(small.describe()) == small
    assert small.describe()["moving_threshold"] == 0.02
    with pytest.raises(UserError, match="got lpisp"):
        clips.MetricSettings(names=("psnr", "lpisp"))
