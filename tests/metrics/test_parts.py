"""Parts of a frame's error: the split in two is exact, sharpness is compared where something moves."""

import numpy as np
import pytest
import torch

from framecast.metrics.frames import mae, masked_mae, masked_mse, moving_mask, mse, sharpness
from framecast.metrics.parts import ERRORS, PARTS, frame_parts

G = torch.Generator().manual_seed(5)
TRUTH, LAST = torch.rand(2, 3, 3, 12, 14, generator=G), torch.rand(2, 3, 12, 14, generator=G)
TRUTH[:, :, :, :, 8:] = LAST[:, None, :, :, 8:]
PREDICTION = (TRUTH + 0.1 * torch.randn(TRUTH.shape, generator=G)).clamp(0, 1)
MASK = moving_mask(TRUTH, LAST[:, None])


def test_parts_equal_the_metrics_of_frames():
    parts = frame_parts(PREDICTION, TRUTH, LAST, MASK)
    assert tuple(parts) == PARTS
    for name, expected in {
        "mse": mse(PREDICTION, TRUTH),
        "mae": mae(PREDICTION, TRUTH),
        "moving_mse": masked_mse(PREDICTION, TRUTH, MASK),
        "moving_mae": masked_mae(PREDICTION, TRUTH, MASK),
        "sharpness": sharpness(PREDICTION),
        "true_sharpness": sharpness(TRUTH),
        "mean": PREDICTION.double().mean((-3, -2, -1)),
        "variance": PREDICTION.double().var((-3, -2, -1), correction=0),
    }.items():
        assert torch.allclose(parts[name], expected, rtol=1e-9 if name in ERRORS else 1e-5, atol=0), name


def test_squared_error_is_split_exactly_in_two():
    parts, share = frame_parts(PREDICTION, TRUTH, LAST, MASK), MASK.double().mean((-2, -1))
    assert share.min() > 0
    assert share.max() < 1
    for kind in ("mse", "mae"):
        whole = parts[f"moving_{kind}"] * share + parts[f"still_{kind}"]
        assert torch.allclose(whole, parts[kind], rtol=1e-12, atol=0)


def test_still_part_by_hand():
    truth, last = torch.zeros(1, 1, 1, 12, 12), torch.zeros(1, 1, 12, 12)
    truth[..., 0, 0] = 1.0  # moving area: 4 x 4 pixels of the corner
    prediction = truth.clone()
    prediction[..., 11, 11], prediction[..., 0, 0] = 0.5, 0.75
    parts = frame_parts(prediction, truth, last, moving_mask(truth, last[:, None]))
    assert parts["still_mse"].item() == pytest.approx(0.25 / 144)
    assert parts["still_mae"].item() == pytest.approx(0.5 / 144)
    assert parts["moving_mse"].item() == pytest.approx(0.0625 / 16)


def test_sharpness_within_the_moving_area_sees_a_blurred_object():
    """A blurred square on a textured still background: over the whole frame its sharpness hardly changes."""
    ground = torch.from_numpy(np.random.default_rng(0).random((1, 64, 64), np.float32))[None]
    truth = ground[:, None].clone()
    truth[..., 20:28, 20:28] = torch.rand(8, 8, generator=G)
    blurred = truth.clone()
    blurred[..., 20:28, 20:28] = 0.5
    parts = frame_parts(blurred, truth, ground, moving_mask(truth, ground[:, None], dilate=0), dilate=0)
    assert (parts["sharpness"] / parts["true_sharpness"]).item() > 0.97
    assert (parts["area_sharpness"] / parts["true_area_sharpness"]).item() < 0.5


def test_area_of_sharpness_contains_motion_that_only_the_forecast_has():
    truth, last = torch.zeros(1, 1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    invented = truth.clone()
    invented[..., 8, 8] = 1.0
    parts = frame_parts(invented, truth, last, moving_mask(truth, last[:, None]))
    assert parts["area_sharpness"].item() == pytest.approx(4)
    assert parts["true_area_sharpness"].item() == 0
    assert parts["moving_mse"].isnan().all()


def test_frames_of_one_pixel_have_no_sharpness():
    parts = frame_parts(
        torch.ones(1, 1, 1, 1, 5), torch.zeros(1, 1, 1, 1, 5), torch.zeros(1, 1, 1, 5), torch.ones(1, 1, 1, 5) > 0
    )
    assert parts["sharpness"].isnan().all()
    assert parts["mse"].item() == 1
