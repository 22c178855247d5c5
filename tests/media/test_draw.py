"""Shapes cover the area that geometry gives, with the same bytes on every platform."""

import hashlib

import numpy as np
import pytest

from framecast.media.draw import FULL, SHAPES, coverage, disc, draw_shape

AREA = {"circle": np.pi / 4, "square": 1.0, "triangle": 0.5}


@pytest.mark.parametrize("kind", SHAPES)
def test_area_and_centre(kind):
    cover = coverage(64, 80, kind, (40.3, 31.7), 30.5).astype(float) / FULL
    assert cover.sum() == pytest.approx(AREA[kind] * 30.5**2, rel=0.01)
    y, x = np.mgrid[:64, :80] + 0.5
    assert (cover * x).sum() / cover.sum() == pytest.approx(40.3, abs=0.05)
    sunk = 30.5 / 6 if kind == "triangle" else 0  # a triangle's centre of mass lies below its box's centre
    assert (cover * y).sum() / cover.sum() == pytest.approx(31.7 + sunk, abs=0.1)


@pytest.mark.parametrize("kind", SHAPES)
def test_coverage_matches_a_plain_loop(kind):
    x0, y0, size = 6.25, 5.5, 7.0

    def inside(x, y):
        x, y = x - x0, y - y0
        if kind == "circle":
            return x * x + y * y < size**2 / 4
        if kind == "square":
            return max(abs(x), abs(y)) < size / 2
        return y < size / 2 and 2 * abs(x) < y + size / 2

    points = [(i + 0.5) / 4 for i in range(4)]
    expected = [[sum(inside(j + u, i + v) for u in points for v in points) for j in range(14)] for i in range(12)]
    assert coverage(12, 14, kind, (x0, y0), size).tolist() == expected


def test_draws_over_and_is_cut_at_the_edge():
    canvas = np.full((3, 10, 12), 100, np.uint8)
    same = draw_shape(canvas, "square", (0, 0), 6, (250, 0, 10))
    assert same is canvas
    assert (canvas[:, :3, :3] == np.array([250, 0, 10])[:, None, None]).all()
    assert (canvas[:, 3:] == 100).all()
    assert (canvas[:, :, 3:] == 100).all()
    before = canvas.copy()
    draw_shape(canvas, "circle", (-50, 200), 6, (1, 2, 3))
    assert np.array_equal(canvas, before)


def test_edges_blend_or_do_not():
    canvas = np.zeros((1, 4, 4), np.uint8)
    draw_shape(canvas, "square", (2.25, 2), 2, (200,))
    assert canvas[0, 1].tolist() == [0, 150, 200, 50]
    hard = draw_shape(np.zeros((1, 4, 4), np.uint8), "square", (2.25, 2), 2, (200,), antialias=False)
    assert hard[0, 1].tolist() == [0, 200, 200, 0]


def test_same_bytes_everywhere():
    canvas = np.full((3, 64, 64), 128, np.uint8)
    for step in range(40):
        kind = SHAPES[step % 3]
        draw_shape(canvas, kind, (1.7 * step, 60 - 1.3 * step), 5 + step / 3, (step * 6, 255 - step * 5, step))
    digest = hashlib.sha256(canvas.tobytes()).hexdigest()
    assert digest == "f9ea5a159bce46a87982a3b7c13fc38f64827d64427ecc814080067dd5077735"


def test_unknown_shape():
    with pytest.raises(ValueError, match="shape 'star' is unknown"):
        coverage(8, 8, "star", (4, 4), 4)


def test_a_disc_counts_from_pixel_to_pixel():
    whole = disc(40, 50, (20, 15), 10)
    assert whole.shape == (40, 50)
    assert whole.sum() == 317
    y, x = np.nonzero(whole)
    assert (x.mean(), y.mean()) == (20, 15)
    assert disc(40, 50, (-2, 15), 10).sum() < 317 / 2
    assert not disc(40, 50, (-20, 15), 10).any()
