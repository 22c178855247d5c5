"""Second contours: none in true frames, found in constructed doubles."""

import numpy as np
import pytest
import torch

from framecast.data.synthetic.shapes import Scene, ShapesConfig
from framecast.metrics.contours import second_contours
from framecast.metrics.displacement import KINDS, SceneTruth, find_displacements


def scenes(count, least=0):
    drawn = (Scene.draw(ShapesConfig(), np.random.default_rng([3, i])) for i in range(10 * count))
    return [scene for scene in drawn if min(abs(v) for v in scene.motion.values()) >= least][:count]


def rendered(scene, size, t):
    return torch.from_numpy(scene.frame(size, t)).float() / 255


def measured(frames, chosen, size):
    doubled, found = [], []
    for frame, scene in zip(frames, chosen, strict=True):
        truth = SceneTruth.from_arrays(scene.truth(size))
        moved, seen = find_displacements(frame[None], truth)
        doubled.append(second_contours(frame[None], truth, moved, seen))
        found.append(seen)
    return np.concatenate(doubled), np.concatenate(found)


@pytest.mark.parametrize("size", [64, 128])
def test_true_frames_have_no_second_contour(size):
    chosen = scenes(12)
    doubled, found = measured([rendered(s, size, 1) for s in chosen], chosen, size)
    assert found.mean() > 0.95
    assert not doubled.any()


@pytest.mark.parametrize("share", [0.3, 0.4])
def test_frames_blended_with_the_old_place_have_second_contours(share):
    chosen = scenes(8, least=7)
    frames = [(1 - share) * rendered(s, 64, 1) + share * rendered(s, 64, 0) for s in chosen]
    doubled, found = measured(frames, chosen, 64)
    assert found.mean() > 0.9
    assert doubled[found].mean() > 0.65  # some old outlines are behind other shapes


def test_faint_noise_and_blur_are_no_contours():
    chosen = scenes(6)
    noise = torch.Generator().manual_seed(0)
    frames = []
    for scene in chosen:
        frame = rendered(scene, 64, 1)
        frame = torch.nn.functional.avg_pool2d(frame[None], 3, 1, 1, count_include_pad=False)[0]
        frames.append((frame + 0.02 * torch.randn(frame.shape, generator=noise)).clamp(0, 1))
    doubled, _ = measured(frames, chosen, 64)
    assert doubled.mean() < 0.1


def test_shapes_have_the_order_of_their_kinds():
    (scene,) = scenes(1)
    doubled, found = measured([rendered(scene, 64, 0)], [scene], 64)
    assert doubled.shape == found.shape == (1, len(KINDS))
