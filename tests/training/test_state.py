"""TrainState: moving average, patience, stages and their validation."""

import copy
import dataclasses
import functools
import math

import pytest
import torch
from small_models import Group, Plain, Small, TwoStage, advance, batch_of, build, moved, same, weights

from framecast.core.types import ClipSpec, Phase, Stage
from framecast.models.baselines import CopyLast
from framecast.training.state import TrainState, phase_parameters


def test_ema_follows_its_formula_with_warm_up():
    state = TrainState.create(build(Plain), ema_decay=0.25)
    average = state.model.net.weight.detach().double().clone()
    for step in range(1, 6):
        advance(state)
        decay = min(0.25, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * state.model.net.weight.detach().double()
        torch.testing.assert_close(state.ema.net.weight.double(), average, rtol=1e-6, atol=1e-7)
    assert decay == 0.25  # the bound was reached: 6/15 > 0.25 from the second step on
    assert (1 + 1) / (10 + 1) < 0.25


def test_ema_without_decay_equals_the_model():
    state = TrainState.create(build(Group), ema_decay=0)
    advance(state, 3)
    same(state.ema.state_dict(), state.model.state_dict())


def test_ema_averages_statistics_and_copies_counts():
    state = TrainState.create(build(Group))
    advance(state, 3)
    norm, average = state.model.encoder[1], state.ema.encoder[1]
    assert int(average.num_batches_tracked) == int(norm.num_batches_tracked) > 0
    assert not torch.equal(average.running_mean, norm.running_mean)
    assert not average.training
    assert not any(p.requires_grad for p in state.ema.parameters())


def test_patience_counts_validations_without_improvement():
    state = TrainState.create(build(TwoStage, patience=2))
    state.stages[0] = dataclasses.replace(
        state.stages[0], until=dataclasses.replace(state.stages[0].until, min_delta=0.1)
    )
    history = [(1.0, True, 0), (0.95, False, 1), (0.8, True, 0), (math.nan, False, 1), (0.75, False, 2)]
    for value, better, bad in history:
        assert state.note_validation(value, keep=True) is better
        assert state.bad == bad
    assert state.best == 0.8


def test_nan_is_never_the_best_value():
    state = TrainState.create(build(TwoStage, patience=2))
    assert not state.note_validation(math.nan, keep=True)
    assert (state.best, state.best_weights) == (None, None)
    assert state.note_validation(3.0, keep=True)


def test_leaving_a_stage_restores_best_weights_and_resets_counters():
    state = TrainState.create(build(TwoStage, patience=3))
    advance(state, 2)
    state.note_validation(1.0, keep=True)
    best = weights(state.ema)
    advance(state, 2)
    state.note_validation(2.0, keep=True)
    assert state.leave_stage()
    same(weights(state.model), best)
    same(weights(state.ema), best)
    assert (state.step, state.stage, state.stage_step, state.best, state.bad) == (4, 1, 0, None, 0)
    assert list(state.optimisers) == ["memory"]
    assert state.optimisers["memory"].state_dict()["state"] == {}
    assert not state.ended
    assert not state.leave_stage()
    assert state.ended


def test_without_patience_no_weights_are_kept():
    state = TrainState.create(build(Plain))
    state.note_validation(1.0, keep=False)
    assert state.best_weights is None
    now = weights(state.model)
    assert not state.leave_stage()
    same(weights(state.model), now)


def test_loaded_state_continues_like_the_saved_one():
    one, other = (TrainState.create(build(Group, seed=s)) for s in (0, 5))
    advance(one, 4)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    same(advance(one, 3), advance(other, 3))
    same(one.state_dict(), other.state_dict())


def test_parameter_in_two_modules_is_trained_once():
    model = build(Group)
    phase = Phase(name="twice", loss=model.loss, modules=("encoder", "encoder.0", "predictor"))
    names = [n for n, p in model.named_parameters() if any(p is q for q in phase_parameters(model, phase))]
    assert len(phase_parameters(model, phase)) == len(names) == 6


def test_stages_of_the_copy_use_its_weights():
    """However the functions are written: methods, partials, lambdas, methods of a part of the model."""

    class Varied(Plain):
        def stages(self):
            (stage,) = super().stages()
            return [
                dataclasses.replace(stage, name="partial", loss=functools.partial(Plain.loss, self)),
                dataclasses.replace(stage, name="lambda", loss=lambda batch, step: self.loss(batch)),
                dataclasses.replace(stage, name="method", loss=self.loss),
                dataclasses.replace(stage, name="part", precompute_latents=self.net.forward, loss=self.loss),
            ]

    state = TrainState.create(build(Varied))
    advance(state, 2)
    batch = batch_of(9, "main")
    for index in range(4):
        state.enter_stage(index)
        with torch.no_grad():
            found = state.current_ema.loss(batch, 0).total
            assert torch.equal(found, state.ema.loss(batch).total)
            assert not torch.equal(found, state.model.loss(batch).total)
    frames = torch.rand(1, 2, 12, 12)
    assert torch.equal(state.current_ema.precompute_latents(frames), state.ema.net(frames))


def test_frozen_weights_become_their_average_when_a_stage_ends_without_patience():
    class Overlap(TwoStage):
        """The second stage trains the decoder on."""

        def stages(self):
            first, second = super().stages()
            (phase,) = second.phases
            return [
                first,
                dataclasses.replace(second, phases=[dataclasses.replace(phase, modules=("memory", "decoder"))]),
            ]

    state = TrainState.create(build(Overlap, stage_steps=3))
    advance(state, 3)
    average, raw = weights(state.ema), weights(state.model)
    assert state.leave_stage()
    frozen = {k for k in average if k.startswith("encoder")}
    assert frozen <= {k for k, v in average.items() if not torch.equal(v, raw[k])}
    assert not frozen & moved(average, state.model)
    assert moved(raw, state.model) == frozen  # what is trained next starts from its own weights
    for _ in range(5):
        state.update_ema()
    assert not frozen & moved(average, state.ema)


def broken(*phases, group=(None, None, None)):
    class Broken(Group):
        def stages(self):
            found = [dataclasses.replace(p, group=g) for p, g in zip(self.phases(), group, strict=True)]
            return [Stage(name="odd", phases=[f(found) for f in phases])]

    return Broken


@pytest.mark.parametrize(
    ("model_class", "sentence"),
    [
        (broken(lambda p: p[0], lambda p: p[0]), r"stage 'odd': expected unique names of phases"),
        (broken(), r"stage 'odd' has no phases"),
        (broken(lambda p: dataclasses.replace(p[0], modules=("kritik",))), r"phase 'critic' trains 'kritik'"),
        (broken(lambda p: dataclasses.replace(p[0], modules=("encoder.2",))), r"have no parameters"),
        (broken(*(lambda p, i=i: p[i] for i in range(3)), group=("g", None, "g")), r"must be consecutive"),
    ],
)
def test_invalid_stages_are_refused(model_class, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainState.create(build(model_class))


def test_baseline_has_an_empty_state():
    state = TrainState.create(CopyLast(CopyLast.Config(), ClipSpec(channels=1, height=4, width=4)))
    assert state.optimisers == {}
    state.update_ema()
    assert isinstance(state.model, CopyLast)
    assert not isinstance(state.model, Small)
