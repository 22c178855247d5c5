"""Layouts hold every frame in its place, captions are there, and sizes suit video."""

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.media.grid import (
    GREEN,
    PAPER,
    RED,
    as_rgb,
    border,
    caption,
    enlarge,
    grid,
    heat_map,
    side_by_side,
    stack,
    strip,
)


def plain(value, count=3, height=20, width=30):
    return np.full((count, 3, height, width), value, np.uint8)


def test_as_rgb():
    grey = np.array([[[[0.0, 1.0]]]])
    assert as_rgb(grey).tolist() == [[[[0, 255]]] * 3]
    assert as_rgb(np.full((2, 4, 2, 2), 100, np.uint8))[0, 0, 0, 0] == round(100 * 100 / 255)
    assert as_rgb(np.zeros((2, 7, 2, 2), np.uint8)).shape == (2, 3, 2, 2)
    with pytest.raises(UserError, match="axes"):
        as_rgb(np.zeros((3, 2, 2), np.uint8))


def test_border_surrounds_without_hiding():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 11), np.uint8)
    out = border(frames, RED, 2)
    assert out.shape == (2, 3, 13, 15)
    assert np.array_equal(out[:, :, 2:-2, 2:-2], frames)
    for edge in (out[:, :, :2], out[:, :, -2:], out[..., :2], out[..., -2:]):
        assert (edge == np.array(RED, np.uint8)[:, None, None]).all()
    assert border(frames, GREEN).shape == (2, 3, 11, 13)


def test_enlarge_repeats_pixels():
    frames = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 64), np.uint8)
    assert enlarge(frames, 200).shape == (1, 3, 128, 256)
    assert np.array_equal(enlarge(frames, 200)[:, :, ::4, ::4], frames)
    assert np.array_equal(enlarge(frames, 64), frames)


def test_side_by_side():
    film = side_by_side({"truth": plain(40, 5), "prediction": plain(90, 5), "copy-last": plain(140, 2)})
    count, channels, height, width = film.shape
    assert (count, channels, height % 2, width % 2) == (5, 3, 0, 0)
    assert width > 3 * 200
    for value in (40, 90, 140):
        assert (film[4] == value).all(axis=0).sum() >= 140 * 210
    # Panels keep their order, and each label is ink above its own panel.
    centres = [np.nonzero((film[0] == value).all(axis=0))[1].mean() for value in (40, 90, 140)]
    assert centres == sorted(centres)
    top = np.nonzero((film[0] == 40).all(axis=0))[0].min()
    thirds = np.array_split(film[0, 0, : top - 1], 3, axis=1)
    assert all((third < 80).sum() > 30 for third in thirds)


def test_side_by_side_wraps_and_centres():
    panels = {f"panel {i}": plain(20 * i + 20, 1, 200 - 10 * i, 200) for i in range(6)}
    film = side_by_side(panels, columns=3)
    assert film.shape[2] > 2 * 200
    assert film.shape[3] < 4 * 220
    with pytest.raises(UserError, match="expected at least one labelled video"):
        side_by_side({})


def test_grid_places_every_frame():
    rows = {"truth": np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) * np.ones((1, 3, 64, 64), np.uint8)}
    rows["copy"] = rows["truth"] + 100
    picture = grid(rows, captions=[f"t+{i}" for i in range(6)])
    for value in (*range(1, 6), *range(100, 106)):
        assert (picture == value).all(axis=0).sum() >= 64 * 64
    lefts = [np.nonzero((picture == 100 + i).all(axis=0))[1].min() for i in range(6)]
    assert lefts == sorted(lefts)
    assert (picture[0, -12:] < 100).any()
    assert grid([rows["truth"], rows["copy"]]).shape[2] < picture.shape[2]
    with pytest.raises(UserError, match="one frame size"):
        grid([plain(0), plain(0, height=24)], least=1)


def test_strip_shows_every_nth_frame():
    frames = np.arange(25, dtype=np.uint8).reshape(25, 1, 1, 1) * 10 * np.ones((1, 3, 96, 96), np.uint8)
    picture = strip(frames, every=4, columns=3)
    shown = [value for value in range(0, 250, 10) if (picture == value).all(axis=0).sum() >= 96 * 96]
    assert shown == [0, 40, 80, 120, 160, 200, 240]


def test_caption_fits_its_box():
    text = caption("a label that is far too long for so little room", 60, 20, 18)
    assert text.shape == (3, 20, 60)
    assert (text < 128).any()
    assert (caption("", 10, 10) == np.array(PAPER)[:, None, None]).all()
    assert (caption("<img onerror=…>", 200, 20) < 128).any()


def test_stack_pads_with_paper():
    out = stack([np.zeros((3, 2, 5), np.uint8), np.zeros((3, 3, 2), np.uint8)])
    assert out.shape == (3, 5, 5)
    assert (out[:, 2:, 2:] == 255).all()


def test_heat_map_is_coloured_where_its_strength_is_high():
    strength = np.zeros((1, 2, 2), np.float32)
    strength[0, 0, 1] = 1
    shown = heat_map(plain(100, 1, 16, 16), strength, (200, 0, 0))
    assert tuple(shown[0, :, 0, 15]) == (170, 30, 30)
    np.testing.assert_array_equal(shown[0, :, 15, 0], 100)
