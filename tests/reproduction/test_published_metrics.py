"""Worked values of the published formulas."""

import math

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.metrics import frames
from reproduction import published_metrics as published


def test_dyelax_psnr_of_a_constant_error_is_6_db_below_the_standard():
    zero = torch.zeros(3, 4, 4, dtype=torch.float64)
    for error, want in ((0.1, 20.00), (0.5, 6.02), (1.0, 0.00)):
        value = published.dyelax_psnr(zero, zero + error).item()
        assert value == pytest.approx(want, abs=0.005)
        standard = frames.psnr((zero + 1) / 2, (zero + error + 1) / 2).item()
        assert standard - value == pytest.approx(6.0206, abs=1e-4)
        assert pytest.approx(6.0206, abs=1e-4) == published.DYELAX_PSNR_OFFSET_DB


def test_dyelax_sharp_diff():
    zeros, ones = torch.zeros(3, 4, 4), torch.ones(3, 4, 4)
    board = torch.tensor([[float((i + j) % 2) for j in range(4)] for i in range(4)]).expand(3, 4, 4)
    ramp = torch.tensor([0.0, 0.25, 0.5, 0.75]).expand(3, 4, 4)
    for x, y, want in ((zeros, ones, 3.0103), (zeros, board, -2.430), (ones / 2, board, -2.109), (zeros, ramp, 3.291)):
        assert published.dyelax_sharp_diff(x, y).item() == pytest.approx(want, abs=1e-3)
    assert published.dyelax_sharp_diff(ramp, ramp).item() == 100  # the published code gives infinity


def test_dyelax_sharp_diff_is_3_db_below_0_to_1():
    g = torch.Generator().manual_seed(0)
    x, y = (torch.rand(3, 9, 9, generator=g, dtype=torch.float64) for _ in range(2))
    x[..., -1], y[..., -1], x[..., -1, :], y[..., -1, :] = 0.5, 0.5, 0.5, 0.5  # zero in -1…1: no padded border
    wide = published.dyelax_sharp_diff(2 * x - 1, 2 * y - 1).item()
    cropped = frames.sharp_diff(x, y).item() + 10 * math.log10(81 / 64)  # mean over 9x9 instead of 8x8
    assert cropped - wide == pytest.approx(published.DYELAX_SHARP_DIFF_OFFSET_DB)


def test_official_psnr():
    low, high = -torch.ones(3, 6, 6, dtype=torch.float64), torch.ones(3, 6, 6, dtype=torch.float64)
    assert published.official_psnr(low, low).item() == pytest.approx(88.13, abs=0.005)
    assert published.official_psnr(low, low + 0.5).item() == pytest.approx(12.007, abs=0.001)
    assert published.official_psnr(low, high).item() == pytest.approx(-0.034, abs=0.001)
    assert published.official_psnr(low, low + 0.5).item() - published.dyelax_psnr(low, low + 0.5).item() == (
        pytest.approx(5.987, abs=0.001)
    )


def test_official_sharpness_matches_a_loop():
    g = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2, 3, 7, 9, generator=g, dtype=torch.float64) * 2 - 1 for _ in range(2))
    for n in range(2):
        a, b, total = x[n].numpy(), y[n].numpy(), 0.0
        for c in range(3):
            for i in range(1, 6):
                for j in range(1, 8):
                    dx = abs(a[c, i, j] - a[c, i, j - 1]) - abs(b[c, i, j] - b[c, i, j - 1])
                    dy = abs(a[c, i, j] - a[c, i - 1, j]) - abs(b[c, i, j] - b[c, i - 1, j])
                    total += abs(dx) + abs(dy)
        want = 10 * math.log10(255**2 / (128**2 * total / (3 * 7 * 9)))
        assert published.official_sharpness(x, y)[n].item() == pytest.approx(want)
    assert published.official_sharpness(x, x)[0].item() == pytest.approx(88.13, abs=0.005)
    with pytest.raises(UserError, match="at least 3x3"):
        published.official_sharpness(x[..., :2], y[..., :2])


@pytest.mark.parametrize("channels", [1, 3])
def test_official_ssim_is_the_full_convolution(channels):
    g = torch.Generator().manual_seed(0)
    x, y = (torch.rand(channels, 6, 7, generator=g, dtype=torch.float64) * 2 - 1 for _ in range(2))
    taps = np.exp(-((np.arange(11) - 5.0) ** 2) / 4.5)
    window = np.outer(taps, taps) / taps.sum() ** 2

    def grey(v: torch.Tensor) -> np.ndarray:
        z = (v.numpy() + 1) / 2 * 255
        return np.pad(z[0] if channels == 1 else 0.299 * z[0] + 0.587 * z[1] + 0.114 * z[2], 10)

    a, b, values = grey(x), grey(y), []
    for i in range(16):
        for j in range(17):
            p, q = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * p * p).sum() - mp**2, (window * q * q).sum() - mq**2
            cov = (window * p * q).sum() - mp * mq
            c1, c2 = 2.55**2, 7.65**2
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    assert published.official_ssim(x, y).item() == pytest.approx(np.mean(values), abs=1e-10)
    assert published.official_ssim(x, x).item() == pytest.approx(1)


def test_official_moving_counts_still_pixels_as_no_error():
    truth, prediction = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.5)
    moving = torch.zeros(2, 8, 8, dtype=torch.bool)
    moving[0, :4, :4] = True
    a, b = (published.official_moving(v, moving) for v in (prediction, truth))
    assert (a[0, :, 4:] == -1).all()
    assert (b[0, :, 4:] == -1).all()
    assert torch.equal(a[0, :, :4, :4], prediction[0, :, :4, :4])
    # A quarter of the pixels with an error of 0.5 is 6.02 dB better than all of them; a still clip is at the cap.
    values = published.official_psnr(a, b)
    assert values.tolist() == pytest.approx([12.007 + 6.0206, 88.13], abs=0.005)
    assert published.official_average(values, values) == (pytest.approx(18.028, abs=0.001), 1)
