"""rf-mmd: fixed features, an unbiased estimator, and the floor of real clips."""

import math

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.metrics.features import LAYERS, SIZE, WIDTHS, mmd, mmd_floor, random_features, random_weights


def clips(n=3, t=5, c=3, side=20, seed=0):
    return torch.rand(n, t, c, side, side, generator=torch.Generator().manual_seed(seed))


def features_by_loop(clip: np.ndarray) -> np.ndarray:
    """Of one clip (t, 3, 64, 64) in 0…1, convolutions written out over taps."""
    x = clip.transpose(1, 0, 2, 3).astype(np.float64) * 2 - 1
    out = [x.mean((1, 2, 3)), x.std((1, 2, 3))]
    rng = np.random.Generator(np.random.PCG64(20161))
    for i, (inputs, filters, kernel, stride) in enumerate(LAYERS):
        w = rng.standard_normal((filters, inputs, *kernel)) * math.sqrt(2 / (inputs * math.prod(kernel)))
        if i == 0:
            w -= w.mean((1, 2, 3, 4), keepdims=True)
        padded = np.pad(x, [(0, 0), *((k // 2, k // 2) for k in kernel)])
        size = [(n - 1) // s + 1 for n, s in zip(x.shape[1:], stride, strict=True)]
        y = np.zeros((filters, *size))
        for dt in range(kernel[0]):
            for dh in range(kernel[1]):
                for dw in range(kernel[2]):
                    cut = padded[
                        :,
                        dt : dt + size[0] * stride[0] : stride[0],
                        dh : dh + size[1] * stride[1] : stride[1],
                        dw : dw + size[2] * stride[2] : stride[2],
                    ][:, : size[0], : size[1], : size[2]]
                    y += np.einsum("fc,cthw->fthw", w[:, :, dt, dh, dw], cut)
        x = np.maximum(y, 0)
        out += [x.mean((1, 2, 3)), x.std((1, 2, 3))]
    return np.concatenate(out)


def test_features_equal_the_documented_network():
    x = clips(n=1, t=3, side=64)
    got = random_features(x)
    assert got.shape == (1, SIZE)
    np.testing.assert_allclose(got[0].numpy(), features_by_loop(x[0].numpy()), rtol=2e-4, atol=1e-5)


def test_features_are_fixed_and_independent_of_the_batch():
    first = random_weights()[0]
    assert first.shape == (32, 3, 3, 5, 5)
    assert float(first.mean((1, 2, 3, 4)).abs().max()) < 1e-8
    assert first[0, 0, 0, 0].tolist() == pytest.approx([-0.17242, 0.00131, -0.20496, -0.05327, -0.05186], abs=1e-5)
    squares = [float(w.double().square().sum()) for w in random_weights()]
    assert squares == pytest.approx(
        [64.158, 128.698, 257.029], abs=1e-3
    )  # near 2 filters, less the first layer's means
    x = clips(n=3)
    torch.testing.assert_close(
        random_features(x), torch.cat([random_features(v[None]) for v in x]), rtol=1e-5, atol=1e-6
    )
    long = clips(n=1, t=20)
    assert torch.equal(random_features(long), random_features(long[:, :16]))


def test_grey_is_repeated_and_further_channels_are_left_out():
    grey = clips(c=1)
    assert torch.equal(random_features(grey), random_features(grey.expand(-1, -1, 3, -1, -1)))
    four = clips(c=4)
    assert torch.equal(random_features(four), random_features(four[:, :, :3]))


def mmd_by_loop(x, y, groups):
    mean, std = y.mean(0), y.std(0)
    std = np.maximum(std, 0.1 * std.mean() + 1e-12)
    a, b = (x - mean) / std, (y - mean) / std
    distances = [np.linalg.norm(b[i] - b[j]) for i in range(len(b)) for j in range(len(b)) if i != j]
    # torch's median is the lower of the two in the middle
    width = sorted(distances)[(len(distances) - 1) // 2]

    def k(p, q):
        return np.mean([math.exp(-np.sum((p - q) ** 2) / (2 * (w * width) ** 2)) for w in WIDTHS])

    total, count = 0.0, 0
    for i in range(len(a)):
        for j in range(len(a)):
            if i != j and (groups is None or len(set(groups)) == 1 or groups[i] != groups[j]):
                total += k(a[i], a[j]) + k(b[i], b[j]) - k(a[i], b[j]) - k(a[j], b[i])
                count += 1
    return total / count


@pytest.mark.parametrize("groups", [None, ["a", "a", "b", "b", "c", "c", "c", "d"], ["a"] * 8])
def test_mmd_matches_a_loop(groups):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 5)), rng.normal(size=(8, 5)) * 1.5 + 0.3
    got = mmd(torch.from_numpy(x), torch.from_numpy(y), groups)
    assert got == pytest.approx(mmd_by_loop(x, y, groups), rel=1e-9)


def test_mmd_is_unbiased_and_detects_a_difference():
    rng = np.random.default_rng(1)

    def sample(n=40, shift=0.0):
        return torch.from_numpy(rng.normal(size=(n, 6)) + shift)

    same = [mmd(sample(), sample()) for _ in range(60)]
    other = [mmd(sample(shift=0.7), sample()) for _ in range(20)]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(60)
    assert min(other) > max(same)
    x = sample()
    assert mmd(x, x.clone()) == pytest.approx(0, abs=1e-12)


def test_real_clips_stay_below_the_floor_and_others_do_not():
    rng = np.random.default_rng(2)
    x, y, z = (torch.from_numpy(rng.normal(size=(60, 6)) + shift) for shift in (0, 0, 0.6))
    value, most = mmd_floor(x, y)
    assert value == pytest.approx(mmd(y, x))
    assert value < most < mmd(z, x)
    below = [mmd(torch.from_numpy(rng.normal(size=(60, 6))), x) < most for _ in range(40)]
    assert sum(below) >= 34


def test_mmd_needs_two_clips_and_equal_numbers():
    with pytest.raises(UserError, match="at least 2, got 1 and 1"):
        mmd(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(UserError, match="as many made as real clips"):
        mmd(torch.zeros(3, 3), torch.zeros(4, 3))
