"""Validation in training."""

import numpy as np
import pytest
import torch
from small_models import CPU, Group, Noisy, Plain, TwoStage, advance, batch_of, build, same, weights

from framecast.core.types import Batch
from framecast.training.state import TrainState
from framecast.training.validation import preview_scores, previews, rollout_skill, side_by_side, validate


def held_out(number):
    return batch_of(100 + number, "validation")


def test_validation_is_the_mean_loss_of_the_averaged_weights():
    state = TrainState.create(build(Plain))
    advance(state, 3)
    values = validate(state, held_out, 3, CPU)
    with torch.no_grad():
        losses = [state.ema.loss(held_out(i)).total for i in range(3)]
        other = [state.model.loss(held_out(i)).total for i in range(3)]
    assert values["val/loss"] == pytest.approx(float(sum(losses)) / 3, rel=1e-6)
    assert values["val/loss"] == pytest.approx(values["val/mse"])
    assert values["val/loss"] != pytest.approx(float(sum(other)) / 3, rel=1e-6)


def test_training_batches_are_validated_with_their_own_prefix():
    state = TrainState.create(build(Plain))
    values = validate(state, held_out, 2, CPU)
    assert validate(state, held_out, 2, CPU, "train") == {k.replace("val/", "train/"): v for k, v in values.items()}


def test_psnr_matches_the_forecast():
    state = TrainState.create(build(Plain))
    batch = held_out(0)
    errors = (state.ema.predict(batch.context, 1)[0] - batch.future).double().square().mean((1, 2, 3, 4))
    expected = float((-10 * errors.log10()).mean())
    assert preview_scores(state, batch, "val", CPU)["val/psnr"] == pytest.approx(expected, rel=1e-5)


def test_stage_is_validated_with_its_own_loss():
    state = TrainState.create(build(TwoStage))
    values = validate(state, held_out, 1, CPU)
    assert {"val/pixels", "val/psnr", "val/sharp_diff", "val/loss"} == set(values)


@pytest.mark.parametrize("model_class", [Noisy, Group])
def test_validation_is_repeatable_and_changes_no_state(model_class):
    state = TrainState.create(build(model_class))
    advance(state, 2)
    before, average = weights(state.model), weights(state.ema)
    first = validate(state, held_out, 2, CPU)
    torch.rand(7)
    rows = previews(state, held_out(0), CPU)
    assert validate(state, held_out, 2, CPU) == first
    same(weights(state.model), before)
    same(weights(state.ema), average)
    assert state.model.training
    assert not state.ema.training
    for name, frames in previews(state, held_out(0), CPU).items():
        assert np.array_equal(frames, rows[name])


def test_skill_is_pooled_over_clips_and_frames_before_the_ratio():
    state = TrainState.create(build(Plain))
    g = torch.Generator().manual_seed(0)
    batches = [
        Batch(context=torch.rand(b, 2, 1, 12, 12, generator=g), future=torch.rand(b, 3, 1, 12, 12, generator=g) * scale)
        for b, scale in ((2, 1.0), (1, 0.1))
    ]
    errors = np.zeros(2)
    for batch in batches:
        found = state.ema.predict(batch.context, 3)[0]
        for row in range(batch.size):
            for k in range(3):
                truth = batch.future[row, k].double()
                errors += [float((x.double() - truth).square().mean()) for x in (found[row, k], batch.context[row, -1])]
    values = rollout_skill(state, enumerate(batches), 3, CPU)
    assert values == {"val/skill": pytest.approx(1 - errors[0] / errors[1], rel=1e-5)}
    still = Batch(context=torch.ones(1, 2, 1, 12, 12), future=torch.ones(1, 3, 1, 12, 12))
    assert np.isnan(rollout_skill(state, [(0, still)], 3, CPU)["val/skill"])


def test_previews_use_a_fixed_mapping_to_bytes():
    class Scaled(Plain):
        def preview(self, batch):
            return {"levels": torch.tensor([-1.0, 0.0, 0.5, 1.0, 3.0]).reshape(1, 1, 1, 1, 5)}

    state = TrainState.create(build(Scaled))
    assert previews(state, held_out(0), CPU)["levels"].reshape(-1).tolist() == [0, 0, 128, 255, 255]
    assert preview_scores(state, held_out(0), "val", CPU) == {}


def test_row_has_context_truth_and_prediction_of_one_clip():
    rows = {name: np.full((2, t, 1, 4, 4), i, np.uint8) for i, (name, t) in enumerate((("context", 2), ("truth", 1)))}
    assert [r.shape for r in side_by_side(rows)] == [(3, 1, 4, 4)] * 2
    rows["prediction"] = np.zeros((2, 1, 1, 8, 8), np.uint8)
    assert [r.shape for r in side_by_side(rows)] == [(2, 1, 4, 4)] * 2


def test_samples_replace_the_prediction_in_a_row():
    rows = {
        name: np.full((2, t, 1, 4, 4), i, np.uint8)
        for i, (name, t) in enumerate((("context", 1), ("samples", 6), ("truth", 1), ("prediction", 1)))
    }
    (row, _) = side_by_side(rows)
    assert row[:, 0, 0, 0].tolist() == [0, 1, 1, 1, 1, 1, 1, 2]
