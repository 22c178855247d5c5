"""Islands of full precision."""

import pytest
import torch

from framecast.nn.precision import autocast_off, full_precision, widen


def test_island_closes_autocast_and_widens_half_floats():
    seen = {}

    @full_precision
    def product(a, b, *, scale):
        seen["dtypes"] = (a.dtype, b.dtype, scale.dtype)
        return a @ b * scale

    a, b = torch.rand(4, 4).bfloat16(), torch.rand(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (b @ b).dtype == torch.bfloat16
        out = product(a, b, scale=torch.tensor(2.0).half())
        assert (b @ b).dtype == torch.bfloat16  # open again afterwards
    assert out.dtype == torch.float32
    assert seen["dtypes"] == (torch.float32,) * 3


def test_context_closes_autocast_of_the_tensors_device():
    x = torch.rand(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16), autocast_off(x):
        assert (x @ x).dtype == torch.float32


def test_shapes_can_be_computed_without_a_device():
    with autocast_off(torch.zeros(2, device="meta")):
        assert full_precision(torch.relu)(torch.zeros(2, device="meta")).shape == (2,)


def test_double_and_integers_stay():
    assert widen(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    assert widen(torch.zeros(1, dtype=torch.int64)).dtype == torch.int64


def test_without_tensor_the_device_is_unknown():
    with pytest.raises(TypeError, match="needs at least one tensor"):
        full_precision(lambda x: x)(3)
