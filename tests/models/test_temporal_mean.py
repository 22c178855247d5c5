"""The baseline that averages."""

import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipSpec
from framecast.models.temporal_mean import TemporalMean, TemporalMeanConfig

SPEC = ClipSpec(channels=1, height=6, width=5)


def test_it_repeats_the_mean_of_the_last_context_frames():
    model = TemporalMean(TemporalMeanConfig(context=3), SPEC)
    context = torch.rand(2, 5, 1, 6, 5)
    prediction = model.predict(context, 4)
    assert prediction.shape == (1, 2, 4, 1, 6, 5)
    for k in range(4):
        torch.testing.assert_close(prediction[0, :, k], context[:, 2:].mean(1))


def test_frame_by_frame_the_predictions_do_not_join_the_mean():
    model = TemporalMean(TemporalMeanConfig(), SPEC)
    context = torch.rand(2, 4, 1, 6, 5)
    carry = model.rollout_init(context)
    for _ in range(3):
        carry, frame = model.rollout_step(carry)
        torch.testing.assert_close(frame, context.mean(1))


def test_its_loss_is_the_distance_from_the_mean():
    context = torch.tensor([0.0, 0.5]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 6, 5)
    batch = Batch(context=context, future=torch.ones(1, 1, 1, 6, 5))
    assert TemporalMean(TemporalMeanConfig(context=2), SPEC).loss(batch).total == 0.75


def test_context_is_checked():
    with pytest.raises(UserError, match="context must be at least 1"):
        TemporalMeanConfig(context=0)
