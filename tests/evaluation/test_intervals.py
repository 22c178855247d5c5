"""Coverage of intervals: of a model's own and of its samples, beside the nominal share."""

import pytest
import torch
from small_models import write_store

from framecast.core.types import Batch
from framecast.evaluation.evaluate import evaluate
from framecast.evaluation.headline import describe
from framecast.evaluation.intervals import IntervalCoverage
from framecast.evaluation.score_table import Forecaster
from framecast.inference.export import save_pretrained
from framecast.metrics.scores import Scores
from framecast.models.registry import find_model
from framecast.training.presets import preset


class Bounds(torch.nn.Module):
    """A model whose interval holds values up to a half."""

    def intervals(self, context, horizon, actions=None):
        shape = (len(context), horizon, *context.shape[2:])
        return torch.zeros(shape), torch.full(shape, 0.5)

    def batch_actions(self, batch, horizon):
        return None


def batch_of(truth):
    return Batch(context=torch.zeros(len(truth), 1, *truth.shape[2:]), future=truth)


def test_coverage_is_the_share_of_true_values_between_the_bounds():
    truth = torch.zeros(2, 3, 1, 16, 16)
    truth[0, :, :, :4, :8], truth[0, :, :, :4, 8:] = 0.4, 0.9  # moving: 7 rows with the margin of 3 px
    coverage = IntervalCoverage("m", Bounds())
    row = Forecaster(name="m", forecast=None, samples=1)
    coverage.take(row, coverage.measure(row, truth[None], truth, batch_of(truth), range(2)), ["a", "b"])
    other = Forecaster(name="copy-last", forecast=None, samples=1)
    assert coverage.measure(other, truth[None], truth, batch_of(truth), range(2)) is None
    found = coverage.to_json()
    assert found["kind"] == "model"
    assert found["mean"]["moving"]["mean"] == pytest.approx(1 - 32 / (7 * 16))  # the second clip has no moving area
    assert found["mean"]["frame"]["mean"] == pytest.approx((1 - 32 / 256 + 1) / 2)
    assert found["by_frame"]["moving"]["n"] == [1, 1, 1]


def test_samples_give_an_interval_and_one_sample_gives_none():
    truth = torch.full((1, 2, 1, 16, 16), 0.5)
    samples = 0.5 + 0.1 * torch.randn(8, *truth.shape, generator=torch.Generator().manual_seed(0))
    coverage = IntervalCoverage("m", torch.nn.Module())
    row = Forecaster(name="m", forecast=None, samples=8)
    assert coverage.measure(row, samples[:1], truth, batch_of(truth), [0]) is None
    assert coverage.to_json() == {}
    coverage.take(row, coverage.measure(row, samples, truth, batch_of(truth), [0]), None)
    assert coverage.to_json()["kind"] == "samples"
    assert coverage.to_json()["mean"]["frame"]["mean"] > 0.99


def test_evaluation_of_direct_reports_the_coverage_of_its_intervals(tmp_path):
    store = write_store(tmp_path / "store", videos=3, frames=30, side=16)
    model = find_model("direct")(preset("direct", "tiny").model, store.spec)
    run = save_pretrained(model, tmp_path / "weights")
    scores, _ = evaluate(run, store, split="all", horizon=3, clips=2, save=False)
    assert 0 <= scores.intervals["mean"]["moving"]["mean"] <= 1
    assert "the intervals for 90% of the true values hold" in describe(scores)
    assert Scores.from_json(scores.to_json()).intervals == scores.intervals
