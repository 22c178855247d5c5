"""The packaged weights of bouncing shapes on scenes that were drawn after they were trained."""

import numpy as np
import pytest
import torch

import framecast
from framecast.data.store import Store
from framecast.data.synthetic.bouncing import Bouncing, BouncingConfig
from reproduction.scene_metrics import shape_colours


@pytest.fixture(scope="module")
def model():
    return framecast.load("hierarchical-bouncing")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """16 fresh scenes: their store, frames (16, 21, 3, 64, 64) in 0…1, colours of the palette and of the ground."""
    config = BouncingConfig(
        videos=16, frames=21, shapes=1, palette="saturated", speed_min=3, speed_max=6, seed=20261121
    )
    folder = tmp_path_factory.mktemp("scenes") / "fresh"
    Bouncing(config).prepare(folder)
    source = Store(folder)
    frames = torch.from_numpy(np.stack([source.clip(v, 0, 21).frames for v in range(16)])).float() / 255
    return folder, frames, list(source.meta()["colours"].values()), [config.grey] * 3


def test_shapes_are_drawn_from_their_encodings_in_place_and_colour(model, fresh):
    _, frames, palette, ground = fresh
    found = shape_colours(model.reconstruct(frames), frames[:, 1:], palette, ground)
    assert float(found.correct.double().mean()) > 0.93
    assert float(found.gone.double().mean()) < 0.02
    assert float(found.away.nanmean()) < 1.0  # px of 64


def test_forecast_shapes_keep_colour_and_place(model, fresh):
    """Table 1 of the paper: 96.9 % in their colour and none gone at frame 16; docs/results/hierarchical.md has ours."""
    _, frames, palette, ground = fresh
    seen = model.num_context
    found = shape_colours(model.predict(frames[:, :seen], 16)[0], frames[:, seen:], palette, ground)
    assert float(found.correct[:, 15].double().mean()) >= 0.95
    assert float(found.gone.double().mean()) <= 0.01
    assert float(found.away[:, 0].nanmean()) < 2.5  # px of 64
    assert float(found.away[:, 15].nanmean()) < 8


def test_training_starts_from_packaged_weights_by_name(fresh, tmp_path, capsys):
    folder, frames, palette, ground = fresh
    start = {"profile": "narrow", "steps": 1, "batch_size": 1, "init_from": "hierarchical-bouncing"}
    run = framecast.train("hierarchical", folder, out=tmp_path / "run", **start)
    assert "119 of 119 tensors taken from hierarchical-bouncing" in capsys.readouterr().err
    drawn = framecast.load(run).reconstruct(frames[:4])
    assert float(shape_colours(drawn, frames[:4, 1:], palette, ground).correct.double().mean()) > 0.5
