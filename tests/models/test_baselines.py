"""Baselines without weights: persistence and the mean of the context."""

import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipSpec
from framecast.models.baselines import CopyLast, CopyLastConfig, TemporalMean, TemporalMeanConfig

SPEC = ClipSpec(channels=3, height=6, width=5)


def test_copy_last_repeats_the_last_frame():
    model = CopyLast(CopyLastConfig(), SPEC)
    context = torch.rand(2, 3, 3, 6, 5)
    prediction = model.predict(context, 4, samples=2)
    assert prediction.shape == (2, 2, 4, 3, 6, 5)
    assert (prediction == context[None, :, -1:]).all()


def test_loss_of_copy_last_is_the_mean_change():
    batch = Batch(context=torch.zeros(1, 1, 3, 6, 5), future=torch.full((1, 2, 3, 6, 5), 0.25))
    loss = CopyLast(CopyLastConfig(), SPEC).loss(batch)
    assert loss.total == loss.parts["l1"] == 0.25


@pytest.mark.parametrize(("model_class", "config"), [(CopyLast, CopyLastConfig), (TemporalMean, TemporalMeanConfig)])
def test_baselines_have_nothing_to_train(model_class, config):
    model = model_class(config(), SPEC)
    assert model.phases() == []
    assert list(model.parameters()) == []


@pytest.mark.parametrize("config", [CopyLastConfig, TemporalMeanConfig])
def test_context_must_be_at_least_one_frame(config):
    with pytest.raises(UserError, match=f"{config.__name__}.context must be at least 1"):
        config(context=0)


def test_temporal_mean_repeats_the_mean_of_the_last_context_frames():
    model = TemporalMean(TemporalMeanConfig(context=3), SPEC)
    context = torch.rand(2, 5, 3, 6, 5)
    prediction = model.predict(context, 4, samples=2)
    assert prediction.shape == (2, 2, 4, 3, 6, 5)
    for k in range(4):
        torch.testing.assert_close(prediction[0, :, k], context[:, 2:].mean(1))


def test_predictions_are_not_added_to_the_temporal_mean():
    model = TemporalMean(TemporalMeanConfig(), SPEC)
    context = torch.rand(2, 4, 3, 6, 5)
    state = model.rollout_init(context)
    for _ in range(3):
        state, frame = model.rollout_step(state)
        torch.testing.assert_close(frame, context.mean(1))


def test_loss_of_temporal_mean_is_the_distance_from_the_mean():
    context = torch.tensor([0.0, 0.5]).view(1, 2, 1, 1, 1).expand(1, 2, 3, 6, 5)
    batch = Batch(context=context, future=torch.ones(1, 1, 3, 6, 5))
    assert TemporalMean(TemporalMeanConfig(context=2), SPEC).loss(batch).total == 0.75
