"""The baseline that copies."""

import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipSpec
from framecast.models.copy_last import CopyLast, CopyLastConfig

SPEC = ClipSpec(channels=3, height=6, width=5)


def test_it_repeats_the_last_frame():
    model = CopyLast(CopyLastConfig(), SPEC)
    context = torch.rand(2, 3, 3, 6, 5)
    prediction = model.predict(context, 4, samples=2)
    assert prediction.shape == (2, 2, 4, 3, 6, 5)
    assert (prediction == context[None, :, -1:]).all()


def test_its_loss_is_the_mean_change():
    batch = Batch(context=torch.zeros(1, 1, 3, 6, 5), future=torch.full((1, 2, 3, 6, 5), 0.25))
    loss = CopyLast(CopyLastConfig(), SPEC).loss(batch)
    assert loss.total == loss.parts["l1"] == 0.25


def test_it_has_nothing_to_train():
    model = CopyLast(CopyLastConfig(), SPEC)
    assert model.phases() == []
    assert list(model.parameters()) == []


def test_context_is_checked():
    with pytest.raises(UserError, match="context must be at least 1"):
        CopyLastConfig(context=0)
