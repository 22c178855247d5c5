"""Sizes are what was asked for, and the filter is the one stated."""

import numpy as np
import pytest
from PIL import Image

from framecast.core.errors import UserError
from framecast.media.resize import parse_size, placement, resize_frames, target_size


def test_parse_size():
    assert parse_size("128") == 128
    assert parse_size("64x96") == (64, 96)
    assert parse_size(" 64 X 96 ") == (64, 96)
    assert parse_size("full") is None
    assert parse_size(None) is None
    assert parse_size((3, 4)) == (3, 4)
    for bad in ("big", "0", "64x", "64x0", "9000", "-3", "1x2x3"):
        with pytest.raises(UserError, match="size"):
            parse_size(bad)


@pytest.mark.parametrize(
    ("size", "out"),
    [(None, (1920, 1080)), (128, (228, 128)), (1080, (1920, 1080)), (4000, (1920, 1080)), ((64, 96), (64, 96))],
)
def test_target_size(size, out):
    assert target_size(1920, 1080, size) == out


def test_shorter_side_never_vanishes():
    assert target_size(5000, 1, 1) == (5000, 1)
    assert target_size(3, 5000, 1) == (1, 1667)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("source", [(211, 160), (160, 211), (3, 3), (64, 64), (1, 9)])
@pytest.mark.parametrize("size", [(32, 32), (64, 17), (5, 80)])
def test_height_and_width_are_met_exactly(fit, source, size):
    frames = np.full((2, 3, *source), 77, np.uint8)
    out = resize_frames(frames, size, fit)
    assert out.shape == (2, 3, *size)
    if fit == "pad":
        rows, columns = np.nonzero(out[0, 0])
        assert (out[0, 0][rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == 77).all()
        assert rows.max() - rows.min() + 1 == size[0] or columns.max() - columns.min() + 1 == size[1]
    else:
        assert (out == 77).all()


def test_crop_keeps_the_middle():
    frames = np.zeros((1, 1, 4, 12), np.uint8)
    frames[..., 4:8] = 200
    assert (resize_frames(frames, (4, 4), "crop") == 200).all()


def test_filter_is_pillows_triangle():
    frames = np.random.default_rng(0).integers(0, 256, (3, 3, 45, 62), np.uint8)
    ours = resize_frames(frames, (16, 20)).astype(int)
    for frame, out in zip(frames, ours, strict=True):
        image = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))
        theirs = np.asarray(image.resize((20, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert np.abs(out - theirs).max() <= 1


def test_any_channel_count_and_no_copy_of_the_rest():
    frames = np.random.default_rng(0).integers(0, 256, (40, 7, 8, 8), np.uint8)
    assert resize_frames(frames, (4, 4)).shape == (40, 7, 4, 4)
    assert np.array_equal(resize_frames(frames, None), frames)
    assert np.array_equal(resize_frames(frames, 64), frames)
    assert np.array_equal(resize_frames(frames, (4, 4))[35:36], resize_frames(frames[35:36], (4, 4)))


def test_unknown_fit():
    with pytest.raises(UserError, match="fit 'stretch' is unknown"):
        placement(4, 4, (2, 2), "stretch")
