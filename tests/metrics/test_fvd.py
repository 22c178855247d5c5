"""FVD: the network in the published widths, "same" padding, and the distance against a plain formula."""

import numpy as np
import pytest
import torch
from scipy import linalg

from framecast.core.errors import UserError
from framecast.metrics.fvd import BLOCKS, FVD, I3D, frechet, same_padding
from framecast.metrics.weights import read_weights


def test_network_has_the_published_tensors():
    with torch.device("meta"):
        network = I3D()
    assert sum(p.numel() for p in network.parameters()) == 12_697_264
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    assert shapes["Conv3d_1a_7x7.conv3d.weight"] == (64, 3, 7, 7, 7)
    assert shapes["Mixed_4e.b1b.conv3d.weight"] == (288, 144, 3, 3, 3)
    assert shapes["Mixed_5c.b3b.bn.running_var"] == (128,)
    assert shapes["logits.conv3d.weight"] == (400, 1024, 1, 1, 1)
    assert shapes["logits.conv3d.bias"] == (400,)
    units = 3 + 6 * len(BLOCKS) + 1
    assert sum(name.endswith("conv3d.weight") for name in shapes) == units
    assert network.Mixed_3b.b0.bn.eps == 1e-3


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [(7, 3, 2, (1, 1)), (8, 3, 2, (0, 1)), (9, 7, 2, (3, 3)), (8, 2, 2, (0, 0)), (5, 1, 1, (0, 0))],
)
def test_padding_keeps_ceil_of_size_over_stride(size, kernel, stride, pads):
    x = same_padding(torch.ones(1, 1, size, size, size), (kernel,) * 3, (stride,) * 3)
    assert x.shape[-1] == size + sum(pads)
    assert (x.shape[-1] - kernel) // stride + 1 == -(-size // stride)
    row = x[0, 0, x.shape[2] // 2, x.shape[3] // 2].tolist()
    assert (row.index(1.0), row[::-1].index(1.0)) == pads


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("i3d") / "i3d.pt"
    torch.save({k: v for k, v in I3D(32).state_dict().items() if "num_batches" not in k}, path)
    return path


def test_features_are_logits_of_clips(file):
    metric = FVD(read_weights(file), shrink=32)
    x = torch.rand(2, 9, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    found = metric.features(x)
    assert found.shape == (2, 400)
    torch.testing.assert_close(found[1:], metric.features(x[1:]), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="FVD needs forecasts of at least 9 frames, got 8"):
        metric.features(x[:, :8])
    with pytest.raises(UserError, match=r"Conv3d_1a_7x7.conv3d.weight has shape .*, I3D with 400 classes has"):
        FVD(read_weights(file), shrink=16)


def test_distance_equals_that_of_two_gaussians():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 6)), rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)) + 0.5
    ca, cb = np.cov(a.T), np.cov(b.T)
    want = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * linalg.sqrtm(ca @ cb).real)
    assert frechet(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(want, rel=1e-9)
    few = torch.from_numpy(a[:3])  # fewer clips than features
    assert frechet(few, few) == pytest.approx(0, abs=1e-9)
    with pytest.raises(UserError, match="at least 2 clips, got 1"):
        frechet(few[:1], few)
