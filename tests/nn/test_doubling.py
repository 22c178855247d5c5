"""Transposed convolutions with stride 2 as plain convolutions: the values and gradients of torch's own."""

import pytest
import torch
import torch.nn.functional as F

from framecast.nn.doubling import DoubledConvTranspose2d, doubled


@pytest.mark.parametrize("cropped", [0, 1])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 6])
def test_doubled_equals_transposed_convolution(kernel, cropped):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(3, 4, kernel, kernel, dtype=torch.float64)
    inputs = [x.requires_grad_(), weight.requires_grad_(), torch.randn(4, dtype=torch.float64, requires_grad=True)]
    plain = F.conv_transpose2d(*inputs, stride=2)
    plain = plain[..., : plain.shape[-2] - cropped, : plain.shape[-1] - cropped]
    ours = doubled(*inputs, cropped)
    torch.testing.assert_close(ours, plain)
    slope = torch.randn_like(plain)
    found, expected = (torch.autograd.grad(y, inputs, slope) for y in (ours, plain))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("cropped", [0, 1])
def test_layer_gives_the_same_with_and_without_gradient(cropped):
    torch.manual_seed(0)
    layer, x = DoubledConvTranspose2d(3, 2, 3, cropped), torch.randn(2, 3, 4, 4)
    expected = F.conv_transpose2d(x, layer.weight, layer.bias, stride=2)[..., : 9 - cropped, : 9 - cropped]
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x), expected)
    assert layer(x).relu_().shape == (2, 2, 9 - cropped, 9 - cropped)


def test_an_exported_graph_has_the_transposed_convolution():
    layer, x = DoubledConvTranspose2d(3, 2, 3, 1).eval(), torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        graph = torch.export.export(layer, (x,)).graph
    operations = {str(node.target) for node in graph.nodes}
    assert any("conv_transpose" in name for name in operations)
    assert not any("conv2d" in name for name in operations)


def test_second_derivatives():
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((1, 2, 2, 2), (2, 1, 3, 3), (1,))
    )
    assert torch.autograd.gradgradcheck(lambda *given: doubled(*given, 1), (x, weight, bias))


def test_bf16_under_autocast():
    torch.manual_seed(0)
    layer, x = DoubledConvTranspose2d(8, 8, 3), torch.randn(2, 8, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = layer(x)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(
        ours.float(), F.conv_transpose2d(x, layer.weight, layer.bias, stride=2), atol=0.02, rtol=0.02
    )
    ours.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
