"""Measures of samples of shapes: true frames are faultless, doubled and hidden shapes are counted."""

import numpy as np
import pytest
import torch

from framecast.core.types import ClipSpec
from framecast.data.store import Store
from framecast.data.synthetic.shapes import Shapes, ShapesConfig
from framecast.metrics.displacement import KINDS
from framecast.models.visual_dynamics.config import tiny
from framecast.models.visual_dynamics.predictor import VisualDynamics
from reproduction.shape_samples import contours, fresh, measured, rollouts, share


@pytest.fixture(scope="module")
def data():
    return fresh(40, 64)


def test_true_frames_are_not_doubled_and_keep_their_axes(data):
    found = measured(data.frames[:, 1], data.truths)
    assert found["doubled"]["share"] == 0
    for kind in KINDS:
        assert found["shapes"][kind]["on_axis"]["share"] == 1
        assert found["shapes"][kind]["lost"]["share"] < 0.1
    parts = found["triangles"]
    assert 0 < parts["half-hidden"]["lost"]["n"] < parts["whole"]["lost"]["n"] < 40


def test_frames_that_show_two_moments_are_doubled(data):
    far = [i for i, scene in enumerate(data.scenes) if min(abs(v) for v in scene.motion.values()) >= 7]
    blended = 0.65 * data.frames[far, 1] + 0.35 * data.frames[far, 0]
    found = measured(blended, [data.truths[i] for i in far])
    assert found["doubled"]["n"] == len(far) > 0
    assert found["doubled"]["share"] > 0.6


def test_splits_are_different_scenes(data):
    assert not torch.equal(fresh(40, 64, "val").frames, data.frames)
    assert torch.equal(fresh(2, 64).frames, data.frames[:2])


def test_interval_of_a_share():
    found = share(np.array([True] * 5 + [False] * 45))
    assert (found["n"], found["share"]) == (50, 0.1)
    assert found["low"] == pytest.approx(0.0333, abs=1e-3)  # Clopper and Pearson
    assert found["high"] == pytest.approx(0.2181, abs=1e-3)
    assert share(np.zeros(0, bool))["share"] is None


def test_every_kind_of_code_is_measured_and_roll_outs_by_frame(tmp_path):
    torch.manual_seed(0)
    model = VisualDynamics(tiny(), ClipSpec(channels=3, height=32, width=32)).eval()
    assert set(contours(model, 3)) == {"true frames", "own code", "normal"}
    Shapes(ShapesConfig(train=8, val=1, test=1, visualise=0, size=32)).prepare(tmp_path / "d")
    found = rollouts(model, Store(tmp_path / "d"), 6, 2, tmp_path / "p.png")
    assert all(len(found[name]) == 2 for name in ("skill", "skill_of_mean", "outside", "outside_true"))
    assert set(found["area"]) == set(KINDS)
    assert (tmp_path / "p.png").is_file()
