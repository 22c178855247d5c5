"""Displacements of shapes: the estimator recovers drawn motions and rejects ghosts; statistics of distributions."""

import numpy as np
import pytest
import torch

from framecast.data.synthetic.shapes import Scene, ShapesConfig
from framecast.media.draw import MOVERS
from framecast.metrics.displacement import (
    KINDS,
    Displacements,
    SceneTruth,
    find_displacements,
    histogram,
    kl_divergence,
    table,
)


def scenes(count, seed=0):
    return [Scene.draw(ShapesConfig(), np.random.default_rng([seed, i])) for i in range(count)]


def truth_of(scene, size):
    return SceneTruth.from_arrays(scene.truth(size))


def rendered(scene, size, t=1):
    return torch.from_numpy(scene.frame(size, t)).float() / 255


@pytest.mark.parametrize("size", [64, 128])
def test_drawn_displacements_are_recovered(size):
    right = []
    for scene in scenes(12):
        moved, found = find_displacements(rendered(scene, size)[None], truth_of(scene, size))
        for k, kind in enumerate(KINDS):
            expected = np.multiply(MOVERS[kind][1], scene.motion[kind])
            right.append(bool(found[0, k]) and moved[0, k].tolist() == expected.tolist())
    assert np.mean(right) > 0.95  # now and then a shape is hidden behind another


def test_several_samples_of_one_scene_at_once():
    scene = scenes(1)[0]
    frames = torch.stack([rendered(scene, 64, t) for t in (0, 1)])
    moved, found = find_displacements(frames, truth_of(scene, 64))
    assert moved.shape == (2, 3, 2)
    assert found.all()
    assert (moved[0] == 0).all()


def test_ghosts_are_rejected():
    ghosts, solid = [], []
    for scene in scenes(6):
        ground = torch.tensor(scene.ground).float()[:, None, None] / 255
        frame = rendered(scene, 64)
        truth = truth_of(scene, 64)
        ghosts.append(find_displacements((0.35 * frame + 0.65 * ground)[None], truth)[1])
        solid.append(find_displacements((0.8 * frame + 0.2 * ground)[None], truth)[1])
        assert not find_displacements(ground.expand(1, 3, 64, 64), truth)[1].any()
    assert np.mean(solid) > 0.95
    assert np.mean(ghosts) < 0.1


def test_window_beyond_the_frame_is_zero_padded():
    scene = scenes(1)[0]
    corner = Scene(scene.ground, dict.fromkeys(MOVERS, (3, 125)), scene.radius, scene.colour, dict.fromkeys(MOVERS, 0))
    moved, found = find_displacements(rendered(corner, 64)[None], truth_of(corner, 64))
    at = KINDS.index("square")  # drawn last, so it is seen
    assert found[0, at]
    assert moved[0, at].tolist() == [0, 0]


def test_frames_must_be_square():
    with pytest.raises(ValueError, match="scenes are square"):
        find_displacements(torch.zeros(1, 3, 64, 32), truth_of(scenes(1)[0], 64))


def test_divergence_by_hand():
    values = np.array([-10, -3, -3, 0, 25])
    counts = histogram(values)
    assert counts.tolist()[:1] + counts.tolist()[7:8] + counts.tolist()[-1:] == [1, 2, 1]
    assert kl_divergence(counts, counts) == 0
    one, other = np.zeros(21), np.zeros(21)
    one[3], other[4] = 100, 100
    p = np.full(21, 1e-3)
    q = p.copy()
    p[3] += 100
    q[4] += 100
    p, q = p / p.sum(), q / q.sum()
    assert kl_divergence(one, other) == pytest.approx(float((p * np.log(p / q)).sum()))
    both = table(np.array([-10, 0, 0]), np.array([10, 1, 1]))
    assert both.shape == (21, 21)
    assert (both[0, 20], both[10, 11], both.sum()) == (1, 2, 3)


def drawn(motions, found=None):
    """Displacements of samples by motions (images, samples, 3) along the axes of KINDS, none across."""
    out = Displacements()
    for image in np.asarray(motions):
        moved = np.stack([image[:, k, None] * np.array(MOVERS[kind][1]) for k, kind in enumerate(KINDS)], 1)
        out.images.append((moved, np.ones(image.shape, bool) if found is None else found))
    return out


def law(rng, count):
    circle, square = rng.integers(-10, 11, (2, count))
    return np.stack([circle, np.clip(circle + rng.integers(-1, 2, count), -10, 10), square], -1)


def test_samples_of_the_true_distribution_have_ideal_statistics():
    rng = np.random.default_rng(0)
    true = law(rng, 40_000)
    motions = {kind: true[:, k] for k, kind in enumerate(KINDS)}
    result = drawn(law(rng, 10_000).reshape(500, 20, 3)).summary(motions)
    assert (result["images"], result["samples"]) == (500, 10_000)
    for kind in KINDS:
        row = result["shapes"][kind]
        assert row["kl"] < 0.005
        assert row["rejected"] == 0
        assert row["off_axis"] == 1
        assert row["sd_ratio"] == pytest.approx(1, abs=0.02)
        assert row["within_image_sd"] == pytest.approx(6, abs=0.2)
        assert sum(row["true"]) == pytest.approx(1)
        assert len(row["sampled"]) == 21
    assert result["kl_circle_triangle"] < 0.02
    assert result["corr_circle_triangle"] > 0.98
    assert abs(result["corr_circle_square"]) < 0.05


def test_samples_of_another_distribution_have_other_statistics():
    rng = np.random.default_rng(0)
    true = law(rng, 10_000)
    motions = {kind: true[:, k] for k, kind in enumerate(KINDS)}
    apart = np.stack([law(rng, 2000)[:, 0], law(rng, 2000)[:, 1], np.zeros(2000, int)], -1).reshape(100, 20, 3)
    result = drawn(apart).summary(motions)
    assert abs(result["corr_circle_triangle"]) < 0.1
    assert result["kl_circle_triangle"] > 1
    assert result["shapes"]["square"]["kl"] > 5
    assert result["shapes"]["square"]["sd_ratio"] == 0
    assert result["shapes"]["square"]["within_image_sd"] == 0


def test_statistics_without_detections_are_none():
    motions = {kind: np.arange(-10, 11) for kind in KINDS}
    result = drawn(np.zeros((2, 3, 3), int), found=np.zeros((3, 3), bool)).summary(motions)
    row = result["shapes"]["circle"]
    assert row["rejected"] == 1
    assert row["kl"] is row["off_axis"] is row["sd_ratio"] is row["within_image_sd"] is None
    assert result["kl_circle_triangle"] is result["corr_circle_triangle"] is None
