"""Masks and joints go where the frames go."""

import numpy as np
import pytest

from framecast.data.labels import joints_from_pixels, resize_labels
from framecast.media.resize import resize_frames


def test_pixels_to_coordinates():
    found = joints_from_pixels(np.array([[0, 0], [20, 10], [10, 5]]), height=10, width=20)
    np.testing.assert_array_equal(found, [[-1, -1], [1, 1], [0, 0]])
    assert found.dtype == np.float32


@pytest.mark.parametrize("size", [(20, 20), (10, 40), (30, 16), 20])
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_resized_joint_stays_on_its_mark(size, fit):
    height, width = 40, 60
    masks = np.zeros((1, height, width), np.uint8)
    masks[0, 12:20, 24:36] = 7  # around (30, 16), within what every crop keeps
    joints = joints_from_pixels(np.array([[[30.0, 16.0]]]), height, width)
    arrays = resize_labels({"masks": masks, "joints": joints, "states": np.ones((1, 5))}, height, width, size, fit)
    frames = resize_frames(np.repeat(masks[:, None] * 30, 3, 1), size, fit)
    assert arrays["masks"].shape == (1, *frames.shape[2:])
    assert set(np.unique(arrays["masks"])) == {0, 7}
    lit = frames[0, 0] > 105
    assert (lit == (arrays["masks"][0] == 7)).mean() > 0.95
    x, y = (arrays["joints"][0, 0] + 1) / 2 * np.array(frames.shape[3:1:-1])
    rows, columns = np.nonzero(arrays["masks"][0])
    assert abs(columns.mean() + 0.5 - x) < 0.8
    assert abs(rows.mean() + 0.5 - y) < 0.8
    np.testing.assert_array_equal(arrays["states"], np.ones((1, 5)))
