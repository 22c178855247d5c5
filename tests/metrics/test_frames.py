"""Metrics of frames against plain NumPy loops and scikit-image."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from framecast.core.errors import UserError
from framecast.metrics import frames


def images(kind: str, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and truth: random, constant or identical; float32 as models give them."""
    g = torch.Generator().manual_seed(sum(shape))
    x = torch.rand(shape, generator=g)
    if kind == "random":
        return x, torch.rand(shape, generator=g)
    if kind == "close":
        return x, (x + 0.02 * torch.randn(shape, generator=g)).clamp(0, 1)
    if kind == "constant":
        return torch.full(shape, 0.25), torch.full(shape, 0.75)
    return x, x.clone()


KINDS = ["random", "close", "constant", "identical"]
SHAPES = [(3, 3, 16, 16), (2, 1, 13, 17), (2, 3, 11, 23)]
cases = pytest.mark.parametrize(("kind", "shape"), [(k, s) for k in KINDS for s in SHAPES])


def edges(v: np.ndarray, border: str) -> np.ndarray:
    """|dx| + |dy| pixel by pixel."""
    c, h, w = v.shape
    rows, columns = (h - 1, w - 1) if border == "crop" else (h, w)
    out = np.zeros((c, rows, columns))
    for k in range(c):
        for i in range(rows):
            for j in range(columns):
                right = v[k, i, j + 1] if j + 1 < w else 0.0
                below = v[k, i + 1, j] if i + 1 < h else 0.0
                out[k, i, j] = abs(right - v[k, i, j]) + abs(v[k, i, j] - below)
    return out


def capped(error: float) -> float:
    return min(100.0, 10 * math.log10(1 / error)) if error else 100.0


@cases
def test_pointwise_errors_match_a_loop(kind, shape):
    x, y = images(kind, shape)
    for i in range(shape[0]):
        a, b = x[i].double().numpy(), y[i].double().numpy()
        square = np.mean([(p - q) ** 2 for p, q in zip(a.ravel(), b.ravel(), strict=True)])
        plain = np.mean([abs(p - q) for p, q in zip(a.ravel(), b.ravel(), strict=True)])
        assert frames.mse(x, y)[i].item() == pytest.approx(square, rel=1e-12, abs=1e-15)
        assert frames.mae(x, y)[i].item() == pytest.approx(plain, rel=1e-12, abs=1e-15)
        assert frames.psnr(x, y)[i].item() == pytest.approx(capped(square), rel=1e-12)


@cases
def test_ssim_equals_scikit_image(kind, shape):
    x, y = images(kind, shape)
    got = frames.ssim(x, y)
    assert got.dtype == torch.float64
    for i in range(shape[0]):
        want = structural_similarity(
            x[i].double().numpy(),
            y[i].double().numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert got[i].item() == pytest.approx(want, abs=1e-9)


def test_ssim_does_not_depend_on_blocks(monkeypatch):
    x, y = images("close", (7, 3, 20, 24))
    whole = frames.ssim(x, y)
    monkeypatch.setattr(frames, "_BLOCK", 3 * 3 * 20 * 24)
    assert torch.equal(frames.ssim(x, y), whole)
    assert torch.equal(frames.ssim(x.reshape(7, 1, 3, 20, 24), y.reshape(7, 1, 3, 20, 24)), whole[:, None])


def test_identical_images_score_one_and_the_cap():
    x, _ = images("random", (2, 3, 32, 32))
    assert frames.ssim(x, x) == pytest.approx([1, 1])
    assert frames.ms_ssim(x, x, scales=2) == pytest.approx([1, 1])
    assert frames.psnr(x, x).tolist() == [100, 100]
    assert frames.sharp_diff(x, x).tolist() == [100, 100]
    assert frames.sharpness_ratio(x, x).tolist() == [1, 1]


def test_psnr_of_a_constant_error():
    zero = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    for error, want in ((0.1, 20.0), (0.5, 6.0206), (1.0, 0.0)):
        assert frames.psnr(zero, zero + error).item() == pytest.approx(want, abs=1e-4)


def ms_ssim_by_loop(x: np.ndarray, y: np.ndarray, scales: int) -> float:
    """One channel; window written out over pixels."""
    taps = np.exp(-((np.arange(11) - 5.0) ** 2) / 4.5)
    window = np.outer(taps, taps) / taps.sum() ** 2
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:scales])
    weights /= weights.sum()
    value = 1.0
    for scale in range(scales):
        h, w = x.shape
        full, contrast = [], []
        for i in range(h - 10):
            for j in range(w - 10):
                a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                cov = (window * (a - ma) * (b - mb)).sum()
                contrast.append((2 * cov + 0.0009) / (va + vb + 0.0009))
                full.append(contrast[-1] * (2 * ma * mb + 0.0001) / (ma**2 + mb**2 + 0.0001))
        value *= max(np.mean(full if scale == scales - 1 else contrast), 0) ** weights[scale]
        x, y = (v[: h // 2 * 2, : w // 2 * 2].reshape(h // 2, 2, w // 2, 2).mean((1, 3)) for v in (x, y))
    return float(value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "size"), [(1, (44, 45)), (3, (45, 44))])
def test_ms_ssim_matches_a_loop(kind, channels, size):
    x, y = images(kind, (1, channels, *size))
    want = np.mean([ms_ssim_by_loop(x[0, c].double().numpy(), y[0, c].double().numpy(), 3) for c in range(channels)])
    assert frames.ms_ssim(x, y, scales=3).item() == pytest.approx(want, abs=1e-10)


def test_ms_ssim_error_states_the_scales_that_fit():
    assert [frames.ms_ssim_scales(s, 500) for s in (10, 11, 21, 22, 64, 175, 176)] == [0, 1, 1, 2, 3, 4, 5]
    x = torch.rand(1, 3, 64, 64)
    with pytest.raises(UserError, match=r"at least 176x176 \(use scales=3\), got 64x64"):
        frames.ms_ssim(x, x)
    with pytest.raises(UserError, match="scales must be 1 to 5, got 6"):
        frames.ms_ssim(x, x, scales=6)
    with pytest.raises(UserError, match="use larger frames"):
        frames.ms_ssim(x[..., :9], x[..., :9], scales=1)


@cases
@pytest.mark.parametrize("border", ["crop", "zero"])
def test_sharpness_matches_a_loop(kind, shape, border):
    x, y = images(kind, shape)
    for i in range(shape[0]):
        a, b = (edges(v[i].double().numpy(), border) for v in (x, y))
        want = capped(np.abs(b - a).mean())
        assert frames.sharp_diff(x, y, border)[i].item() == pytest.approx(want, rel=1e-10)
        assert frames.sharpness(x, border)[i].item() == pytest.approx(a.mean(), rel=1e-12, abs=1e-15)
        if border == "crop":
            ratio = frames.sharpness_ratio(x, y)[i].item()
            assert math.isnan(ratio) if kind == "constant" else ratio == pytest.approx(a.mean() / b.mean())


def checkerboard() -> torch.Tensor:
    return torch.tensor([[float((i + j) % 2) for j in range(4)] for i in range(4)]).expand(3, 4, 4)


def test_sharp_diff_of_worked_examples():
    zeros, ones = torch.zeros(3, 4, 4), torch.ones(3, 4, 4)
    ramp = torch.tensor([0.0, 0.25, 0.5, 0.75]).expand(3, 4, 4)
    for x, y, want in (
        (zeros, ones, 3.0103),
        (zeros, checkerboard(), -2.430),
        (ones / 2, checkerboard(), -2.109),
        (zeros, ramp, 3.291),
    ):
        assert frames.sharp_diff(x, y, border="zero").item() == pytest.approx(want, abs=1e-3)
    assert frames.sharp_diff(zeros, ones).item() == 100  # a flat image has no edge once the border is cropped
    assert frames.sharp_diff(zeros, checkerboard()).item() == pytest.approx(-3.0103, abs=1e-4)


def test_sharp_diff_shifts_by_3_db_with_the_range():
    x, y = (v.double() for v in images("random", (4, 3, 12, 12)))
    wide = frames.sharp_diff(2 * x - 1, 2 * y - 1)
    assert (frames.sharp_diff(x, y) - wide).numpy() == pytest.approx(10 * math.log10(2))


@pytest.mark.parametrize("channels", [1, 3])
def test_moving_mask_matches_a_loop(channels):
    g = torch.Generator().manual_seed(3)
    last = torch.rand(2, channels, 15, 18, generator=g)
    truth = last.clone()
    for n, k, i, j in ((0, 0, 2, 2), (0, channels - 1, 9, 17), (1, 0, 14, 0)):
        truth[n, k, i, j] += 0.1
    truth[1, 0, 3, 9] += 0.01  # below the threshold
    want = np.zeros((2, 15, 18), dtype=bool)
    for n in range(2):
        for i in range(15):
            for j in range(18):
                if max(abs(float(truth[n, c, i, j] - last[n, c, i, j])) for c in range(channels)) > 0.02:
                    want[n, max(0, i - 3) : i + 4, max(0, j - 3) : j + 4] = True
    got = frames.moving_mask(truth, last)
    assert got.dtype == torch.bool
    assert np.array_equal(got.numpy(), want)
    assert want.any()
    assert frames.moving_mask(truth, last, dilate=0).sum() == 3


def test_moving_mask_threshold_is_strict_and_context_broadcasts():
    last = torch.zeros(2, 3, 8, 8, dtype=torch.float64)
    future = last[:, None].repeat(1, 4, 1, 1, 1)
    future[:, :, 1, 4, 4] = 0.02
    assert not frames.moving_mask(future, last[:, None]).any()
    future[:, 2:, 1, 4, 4] = 0.0201
    assert frames.moving_mask(future, last[:, None]).sum((-2, -1)).tolist() == [[0, 0, 49, 49]] * 2


@pytest.mark.parametrize("shape", SHAPES)
def test_masked_errors_match_a_loop(shape):
    x, y = images("random", shape)
    mask = torch.rand(shape[0], *shape[2:]) > 0.7
    mask[0] = False
    square, plain, db = (f(x, y, mask) for f in (frames.masked_mse, frames.masked_mae, frames.masked_psnr))
    assert all(math.isnan(v[0]) for v in (square, plain, db))
    for i in range(1, shape[0]):
        inside = (x[i] - y[i]).double().numpy()[:, mask[i].numpy()]
        assert square[i].item() == pytest.approx((inside**2).mean(), rel=1e-6)
        assert plain[i].item() == pytest.approx(np.abs(inside).mean(), rel=1e-6)
        assert db[i].item() == pytest.approx(-10 * math.log10((inside**2).mean()), rel=1e-6)
    assert frames.masked_psnr(x, x, mask)[1].item() == 100


def test_invalid_input_is_refused():
    x = torch.rand(2, 3, 16, 16)
    with pytest.raises(UserError, match=r"of one shape, got \(2, 3, 16, 16\) and \(2, 1, 16, 16\)"):
        frames.mse(x, x[:, :1])
    with pytest.raises(UserError, match="at least 11x11, its window, got 10x16"):
        frames.ssim(x[..., :10, :], x[..., :10, :])
    with pytest.raises(UserError, match="divide uint8 by 255"):
        frames.psnr((x * 255).byte(), (x * 255).byte())
    with pytest.raises(UserError, match="without channels"):
        frames.masked_mse(x, x, torch.ones(2, 3, 16, 16, dtype=torch.bool))
    with pytest.raises(UserError, match='"crop" or "zero", got "wrap"'):
        frames.sharp_diff(x, x, border="wrap")
    with pytest.raises(UserError, match="at least 2x2 pixels, got 1x16"):
        frames.sharpness(x[..., :1, :])
    with pytest.raises(UserError, match="frames of one shape"):
        frames.moving_mask(x, x[..., :8])


def test_total_variation_is_the_sum_of_all_steps_of_the_forecast() -> None:
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = []
    for image in x.double().numpy():
        total = 0.0
        for channel in image:
            total += sum(abs(channel[i + 1, j] - channel[i, j]) for i in range(3) for j in range(5))
            total += sum(abs(channel[i, j + 1] - channel[i, j]) for i in range(4) for j in range(4))
        expected.append(total)
    np.testing.assert_allclose(frames.total_variation(x).numpy(), expected, rtol=1e-12)
    assert frames.total_variation(torch.full((3, 4, 5), 0.3)) == 0


def test_values_of_published_autoencoders_metrics() -> None:
    """On 0…1: a constant error of 0.1 is 20 dB, of 0.5 is 6.02 dB; identical images have an MS-SSIM of 1 each."""
    black = torch.zeros(2, 3, 176, 176)
    assert frames.psnr(black + 0.1, black).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)
    assert frames.psnr(black + 0.5, black).tolist() == pytest.approx([6.02, 6.02], abs=1e-2)
    x = torch.rand(2, 3, 176, 176, generator=torch.Generator().manual_seed(0))
    assert frames.ms_ssim(x, x).tolist() == pytest.approx([1.0, 1.0])
    assert frames.ms_ssim_scales(210, 160) == 4, (
        "160 / 16 is less than the window of 11: four scales at the game's size"
    )
