"""Mixtures of pictures: values and gradients of the plain sum."""

import pytest
import torch

from framecast.models.direct.mixing import mixed


@pytest.mark.parametrize("count", [0, 1, 2])
def test_mixture_equals_plain_sum_with_its_gradient(count):
    torch.manual_seed(0)
    stills = torch.rand(2, 3, 3, 4, 5)
    logits = torch.randn(2, 4, 3 + count, 4, 5, requires_grad=True)
    made = [torch.rand(2, 4, 3, 4, 5, requires_grad=True) for _ in range(count)]
    pictures = torch.stack([*stills[:, None].expand(-1, 4, -1, -1, -1, -1).unbind(2), *made], 2)
    plain = (logits.softmax(2)[:, :, :, None] * pictures).sum(2)
    ours = mixed(logits, stills, made)
    torch.testing.assert_close(ours, plain)
    with torch.no_grad():
        torch.testing.assert_close(mixed(logits, stills, made), plain)
    slope = torch.randn_like(plain)
    found, expected = (torch.autograd.grad(y, [logits, *made], slope) for y in (ours, plain))
    torch.testing.assert_close(found, expected)


def test_stills_that_need_a_gradient_get_it():
    torch.manual_seed(0)
    stills = torch.rand(1, 2, 3, 4, 5, requires_grad=True)
    weights = torch.randn(1, 2, 2, 4, 5)
    (found,) = torch.autograd.grad(mixed(weights, stills, []).sum(), stills)
    expected = weights.softmax(2).sum(1)[:, :, None].expand_as(stills)
    torch.testing.assert_close(found, expected)
