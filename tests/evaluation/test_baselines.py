"""Baselines of a table, on clips of any kind."""

import pytest
import torch
from cli_support import store
from evaluation.test_scorer import protocol

from framecast import load
from framecast.core.types import Batch, ClipSpec
from framecast.evaluation.baselines import baselines, missing_baselines
from framecast.evaluation.compare import compare
from framecast.evaluation.scorer import score
from framecast.metrics.clips import MetricSettings
from framecast.metrics.scores import BASELINES, REQUIRED
from framecast.models.rollout import rollout
from framecast.training.train import train


def table(channels: int, side: int, horizon: int, clips: int = 3):
    """Scores of the baselines alone on noise."""
    g = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (clips, 2 + horizon, channels, side, side), generator=g, dtype=torch.uint8)
    settings = MetricSettings.fitting(side, side).describe()
    conditions = protocol(horizon=horizon, height=side, width=side, channels=channels, metrics=settings)
    models = baselines(ClipSpec(channels=channels, height=side, width=side), 2)
    return score(models, [Batch(context=frames[:, :2], future=frames[:, 2:])], conditions, keep=False)[0]


@pytest.mark.parametrize(("channels", "side"), [(1, 16), (3, 8), (1, 1)])
def test_grey_and_small_frames_are_scored_with_all_baselines(channels, side):
    scores = table(channels, side, horizon=2)
    assert tuple(scores.predictors) == scores.protocol.baselines == BASELINES
    flow = scores.summaries["linear-flow"].skill["mean"]
    if side < 12:  # DIS needs 12 px: the last frame is repeated
        assert flow == pytest.approx(0, abs=1e-5)  # rounding of the sampling grid
    assert scores.summaries["copy-last"].skill["mean"] == 0


def test_one_frame_horizon_has_the_skill_of_its_frame():
    scores = table(3, 16, horizon=1)
    row = scores.summaries["temporal-mean"]
    assert row.skill["mean"] == scores.predictors["temporal-mean"]["skill"].mean[0]
    assert row.frames == (1,)
    assert row.useful_horizon in (0, 1)


def test_reasons_for_missing_baselines(monkeypatch):
    assert missing_baselines(2) == {}
    assert missing_baselines(1) == {"linear-flow": "not defined: optical flow needs two context frames"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert missing_baselines(2) == {"linear-flow": "not installed (pip install 'framecast[flow]')"}
    assert tuple(baselines(ClipSpec(channels=3, height=16, width=16), 2)) == REQUIRED


def test_flow_uses_two_frames_beside_a_model_of_one():
    models = baselines(ClipSpec(channels=3, height=16, width=16), 1, seen=4)
    assert models["linear-flow"].num_context == 2
    made = rollout(models["linear-flow"], torch.rand(1, 4, 3, 16, 16), 2)
    assert made.shape == (1, 1, 2, 3, 16, 16)


def test_linear_flow_is_a_run_that_can_be_loaded_and_compared(tmp_path):
    run = train("linear-flow", store(), out=tmp_path / "flow", steps=1, tensorboard=False, quiet=True)
    assert load(run).predict(torch.rand(1, 2, 3, 32, 32), horizon=3).shape == (1, 1, 3, 3, 32, 32)
    found, _ = compare([run], store(), horizon=2, clips=2, show=0, mmd=False)
    rows = found.scores.predictors
    assert rows["flow"]["mse"].mean == pytest.approx(rows["linear-flow"]["mse"].mean)
    assert found.paired["skill"]["flow"]["linear-flow"]["mean"] == pytest.approx(0, abs=1e-9)
