"""The baseline that copies the flow of a training image, on scenes whose motion is known."""

import numpy as np
import torch
from cli_support import pairs

from framecast.data.store import Store
from framecast.data.synthetic.shapes import Scene, ShapesConfig
from framecast.evaluation.motion import first_frame
from framecast.metrics.displacement import KINDS, SceneTruth
from reproduction.flow_baseline import flow_baseline, flow_copy


def test_flow_is_copied_to_the_pixels_where_the_donor_has_its_shapes():
    donor = Scene.draw(ShapesConfig(), np.random.default_rng([0, 0]))
    truth = SceneTruth.from_arrays(donor.truth(64))
    frame = torch.rand(3, 64, 64)
    (out,) = flow_copy(frame, [(truth, dict.fromkeys(KINDS, 4))])
    y, x = (round(v / 2) for v in reversed(donor.centre["square"]))  # the square lies on top; 4 px of 128 are 2 here
    assert torch.equal(out[:, y, x], frame[:, y, x - 2])
    assert torch.equal(out[:, 0, 0], frame[:, 0, 0])
    (still,) = flow_copy(frame, [(truth, dict.fromkeys(KINDS, 0))])
    assert torch.equal(still, frame)


def test_flow_baseline_of_a_training_image_copies_its_own_flow():
    store = Store(pairs())
    train = store.splits(2)["train"]
    sampler = flow_baseline(store, train[:1], (32, 32))
    frame, _ = first_frame(store, train[0], (32, 32))
    out = sampler(frame[None, None], 4, torch.Generator().manual_seed(0))
    assert out.shape == (4, 1, 3, 32, 32)
    assert torch.equal(out[0], out[3])  # there is a single training image
    motion = store.clip(train[0].video, 0, 1).meta["motion"]
    assert any(motion.values())
    assert not torch.equal(out[0, 0], frame)
