"""Cross convolution against a plain loop, and paddings against those of the published framework."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from framecast.nn.conv import SameConv, SameTransposed, cross_convolve


def plain_loop(features, kernels):
    """Sample by sample, map by map, cell by cell; zeros outside."""
    s, b, c, k, _ = kernels.shape
    _, _, h, w = features.shape
    padded = np.pad(features, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = np.zeros((s * b, c, h, w))
    for n in range(s):
        for i in range(b):
            for j in range(c):
                for y in range(h):
                    for x in range(w):
                        out[n * b + i, j, y, x] = (padded[i, j, y : y + k, x : x + k] * kernels[n, i, j]).sum()
    return out


@pytest.mark.parametrize(("s", "b", "c", "k", "h", "w"), [(1, 2, 3, 5, 6, 7), (3, 2, 2, 3, 4, 5), (2, 1, 4, 5, 4, 4)])
def test_cross_convolution_is_the_plain_loop(s, b, c, k, h, w):
    g = torch.Generator().manual_seed(0)
    features, kernels = torch.randn(b, c, h, w, generator=g), torch.randn(s, b, c, k, k, generator=g)
    expected = plain_loop(features.numpy(), kernels.numpy())
    for kind in (torch.contiguous_format, torch.channels_last):
        found = cross_convolve(features.contiguous(memory_format=kind), kernels)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("i", "j"), [(0, 0), (1, 0), (0, -2), (-2, 1)])
def test_a_shifted_delta_shifts_the_map(i, j):
    features = torch.randn(2, 3, 6, 6)
    kernels = torch.zeros(1, 2, 3, 5, 5)
    kernels[..., 2 - i, 2 - j] = 1
    expected = torch.zeros(2, 3, 6, 6)
    for y in range(6):
        for x in range(6):
            if 0 <= y - i < 6 and 0 <= x - j < 6:
                expected[:, :, y, x] = features[:, :, y - i, x - j]
    torch.testing.assert_close(cross_convolve(features, kernels), expected)


def test_gradients_reach_both_and_no_other_sample():
    features = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(2, 2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cross_convolve, (features, kernels))
    cross_convolve(features, kernels)[1].sum().backward()  # sample set 0, clip 1
    touched = kernels.grad.abs().sum((2, 3, 4)) > 0
    assert touched.tolist() == [[False, True], [False, False]]
    assert (features.grad[0] == 0).all()


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad"),
    [
        (8, 5, 2, (1, 2)),  # an odd total: one more behind
        (8, 3, 2, (0, 1)),
        (9, 5, 2, (2, 2)),
        (8, 5, 1, (2, 2)),
        (8, 4, 1, (1, 2)),
        (8, 1, 1, (0, 0)),
    ],
)
def test_same_padding(size, kernel, stride, pad):
    layer = SameConv(2, 3, kernel, stride)
    x = torch.randn(2, 2, size, size)
    padded = F.pad(x, (*pad, *pad))
    expected = F.conv2d(padded, layer.weight, layer.bias, stride)
    torch.testing.assert_close(layer(x), expected)
    assert expected.shape[-1] == -(-size // stride)


@pytest.mark.parametrize(("stride", "before"), [(2, 3), (4, 2), (8, 0), (16, 0)])
def test_same_transposed_is_the_gradient_of_the_same_convolution(stride, before):
    layer = SameTransposed(2, 3, 9, stride)
    x = torch.randn(1, 2, 4, 4)
    out = layer(x)
    assert out.shape == (1, 3, 4 * stride, 4 * stride)
    picture = torch.zeros(1, 3, 4 * stride, 4 * stride, requires_grad=True)
    after = max(9 - stride, 0) - before
    padded = F.pad(picture, (before, after, before, after))
    F.conv2d(padded, layer.weight, stride=stride)[..., :4, :4].backward(x)
    torch.testing.assert_close(out, picture.grad + layer.bias[:, None, None])


def test_holes_where_the_stride_is_wider_than_the_kernel():
    layer = SameTransposed(1, 1, 9, 16)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    reached = layer(torch.ones(1, 1, 2, 2)) > 0
    assert reached.float().mean() == 81 / 256
