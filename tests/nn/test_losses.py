"""Each loss against worked values and a plain NumPy loop."""

import math

import numpy as np
import pytest
import torch

from framecast.nn.losses import bce, change_error, gdl, lp

ZEROS = torch.zeros(2, 3, 4, 4)
ONES = torch.ones(2, 3, 4, 4)
CHECKERBOARD = ((torch.arange(4)[:, None] + torch.arange(4)) % 2).float().expand(2, 3, 4, 4)
RAMP = torch.tensor([0, 0.25, 0.5, 0.75]).expand(2, 3, 4, 4)


def loop_gdl(prediction, target, exponent, border):
    """The published double loop, element by element."""
    b, c, h, w = prediction.shape
    pad = border == "zero"
    terms = {"rows": [], "columns": []}

    def at(x, n, k, i, j):
        return float(x[n, k, i, j]) if i < h and j < w else 0.0

    for n, k, i, j in np.ndindex(b, c, h, w):
        if pad or i + 1 < h:
            y, y_hat = (abs(at(x, n, k, i + 1, j) - at(x, n, k, i, j)) for x in (target, prediction))
            terms["rows"].append(abs(y - y_hat) ** exponent)
        if pad or j + 1 < w:
            y, y_hat = (abs(at(x, n, k, i, j + 1) - at(x, n, k, i, j)) for x in (target, prediction))
            terms["columns"].append(abs(y - y_hat) ** exponent)
    return terms


@pytest.mark.parametrize("exponent", [1, 2])
def test_zeros_against_ones(exponent):
    assert lp(ZEROS, ONES, exponent, "sum") == 96
    assert lp(ZEROS, ONES, exponent) == 1
    assert gdl(ZEROS, ONES, exponent, "zero", "sum") == 48
    assert gdl(ZEROS, ONES, exponent, "crop", "sum") == 0


@pytest.mark.parametrize("exponent", [1, 2])
def test_zeros_against_checkerboard(exponent):
    assert gdl(ZEROS, CHECKERBOARD, exponent, "zero", "sum") == 168
    assert gdl(ZEROS, CHECKERBOARD, exponent, "crop", "sum") == 144


def test_zeros_against_ramp():
    assert lp(ZEROS, RAMP, 1, "sum") == 36
    assert lp(ZEROS, RAMP, 2, "sum") == 21
    assert gdl(ZEROS, RAMP, 1, "zero", "sum") == 45
    assert gdl(ZEROS, RAMP, 2, "zero", "sum") == 23.25


@pytest.mark.parametrize("border", ["crop", "zero"])
@pytest.mark.parametrize("exponent", [1, 1.5, 2])
def test_gdl_agrees_with_a_plain_loop(exponent, border):
    g = torch.Generator().manual_seed(3)
    a, b = torch.rand(2, 3, 5, 4, generator=g).double(), torch.rand(2, 3, 5, 4, generator=g).double()
    terms = loop_gdl(a.numpy(), b.numpy(), exponent, border)
    assert gdl(a, b, exponent, border, "sum").item() == pytest.approx(sum(map(sum, terms.values())), rel=1e-9)
    assert gdl(a, b, exponent, border).item() == pytest.approx(sum(map(np.mean, terms.values())), rel=1e-9)


def test_lp_agrees_with_a_plain_loop():
    g = torch.Generator().manual_seed(4)
    a, b = torch.rand(2, 3, 5, 4, generator=g).double(), torch.rand(2, 3, 5, 4, generator=g).double()
    for exponent in (1, 1.5, 2):
        total = sum(abs(float(x) - float(y)) ** exponent for x, y in zip(a.flatten(), b.flatten(), strict=True))
        assert lp(a, b, exponent, "sum").item() == pytest.approx(total, rel=1e-9)
        assert lp(a, b, exponent).item() == pytest.approx(total / a.numel(), rel=1e-9)


def test_equal_images_have_zero_loss():
    assert lp(RAMP, RAMP) == 0
    assert gdl(RAMP, RAMP) == 0


def test_gdl_of_one_pixel_is_zero_not_nan():
    assert gdl(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)) == 0
    assert gdl(torch.zeros(1, 1, 1, 3), torch.tensor([[[[0.0, 1.0, 1.0]]]])) == 0.5


def test_bce_agrees_with_the_formula_in_both_bases():
    logits = torch.tensor([-3.0, -0.5, 0.0, 1.0, 4.0], dtype=torch.float64)
    for label in (0.0, 0.3, 1.0):
        d = 1 / (1 + np.exp(-logits.numpy()))
        formula = -(label * np.log(d) + (1 - label) * np.log(1 - d))
        assert bce(logits, label, reduction="sum").item() == pytest.approx(formula.sum(), rel=1e-9)
        assert bce(logits, label, log_base="10").item() == pytest.approx(formula.mean() / math.log(10), rel=1e-9)


def test_bce_on_logits_is_finite_for_extreme_logits():
    logits = torch.tensor([200.0, -200.0], requires_grad=True)
    loss = bce(logits, 1.0, reduction="sum")
    loss.backward()
    assert loss.item() == pytest.approx(200)
    assert logits.grad.tolist() == [0, -1]


def test_clipped_bce_is_bounded_and_stops_the_gradient_where_sure():
    logits = torch.tensor([9.0, 0.0, -9.0], requires_grad=True)
    terms = [bce(x, 1.0, "10", clip=0.1) for x in logits]
    assert [t.item() for t in terms] == pytest.approx([-math.log10(0.9), math.log10(2), 1.0], rel=1e-5)
    sum(terms).backward()
    assert logits.grad[0] == 0
    assert logits.grad[1] != 0
    assert logits.grad[2] == 0


def test_losses_are_float32_under_autocast():
    x = torch.rand(2, 3, 8, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert {lp(x, ZEROS.new_zeros(x.shape)).dtype, gdl(x, x).dtype, bce(x, 1.0).dtype} == {torch.float32}


@pytest.mark.parametrize("loss", [lp, gdl])
def test_shapes_must_agree(loss):
    with pytest.raises(ValueError, match="one shape"):
        loss(torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 4, 4))


def test_error_weighted_by_change_is_that_of_a_plain_loop():
    g = torch.Generator().manual_seed(0)
    prediction, truth = torch.rand(2, 3, 3, 4, 5, generator=g), torch.rand(2, 3, 3, 4, 5, generator=g)
    first, total = truth[:, :1], 0.0
    for b, t, y, x in np.ndindex(2, 3, 4, 5):
        weight = 1 + 7 * max(abs(float(truth[b, t, k, y, x] - first[b, 0, k, y, x])) for k in range(3))
        total += weight * sum(float(prediction[b, t, k, y, x] - truth[b, t, k, y, x]) ** 2 for k in range(3))
    assert float(change_error(prediction, truth, first, 7.0)) == pytest.approx(total / truth.numel(), rel=1e-5)
    torch.testing.assert_close(change_error(prediction, truth, first, 0.0), lp(prediction, truth, 2.0))
