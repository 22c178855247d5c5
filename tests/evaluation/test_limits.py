"""Statistics of training frames, and forecasts that leave them."""

import numpy as np
import torch
from evaluation.test_scorer import batches, predictors_of, protocol, roll

from framecast.data.store import DatasetWriter, Store
from framecast.evaluation.limits import training_limits
from framecast.evaluation.scorer import score


def test_limits_are_those_of_the_training_frames(tmp_path):
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "data") as writer:
        for i, split in enumerate(("train", "train", "val", "test")):
            bright = 60 if split == "train" else 200
            writer.add(rng.integers(0, bright, (6, 3, 16, 16)).astype(np.uint8), name=f"v{i}", axes="tchw", split=split)
    source = Store(tmp_path / "data")
    limits = training_limits(source, "test", [3], (16, 16))
    frames = torch.cat([torch.from_numpy(source.clip(i, 0, 6).frames) for i in range(2)]).double() / 255
    means = frames.mean((1, 2, 3))
    low, high = limits["mean"]
    assert low < means.min() < means.max() < high < 0.2
    assert set(limits) == {"mean", "variance", "sharpness"}
    assert training_limits(source, "all", [3], (16, 16)) is None
    half = training_limits(source, "test", [3], (8, 8))
    assert half["variance"][1] < limits["variance"][1]


def test_forecast_outside_the_training_statistics_is_unstable():
    def growing(model, context, horizon, **settings):
        made = roll(model, context, horizon, **settings)
        if model.kind == "shift":
            made = (made + torch.linspace(0, 0.6, horizon).view(1, 1, -1, 1, 1, 1)).clamp(0, 1)
        return made

    limits = {"mean": (0.0, 0.6), "variance": (0.0, 1.0), "sharpness": (0.0, 1.0)}
    scores, _ = score(predictors_of(), batches(), protocol(), roll=growing, limits=limits, keep=False)
    assert scores.summaries["mine"].unstable_from == 3
    assert scores.summaries["mine"].outside_by_frame[0] == 0
    assert scores.summaries["copy-last"].unstable_from is None
    without, _ = score(predictors_of(), batches(), protocol(), roll=growing, keep=False)
    assert without.summaries["mine"].outside_by_frame == ()
