"""One training step: phases, gradients, clipping and noise."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from small_models import (
    CPU,
    Acting,
    Dropped,
    Group,
    Noisy,
    Plain,
    Small,
    Summed,
    advance,
    batch_of,
    build,
    moved,
    weights,
)
from torch import nn

from framecast.core.types import GradClip, Loss, Optimiser, Phase
from framecast.training.gradients import clip_gradients, only, update, update_unread
from framecast.training.state import TrainState, make_optimiser
from framecast.training.step import NotFinite, check_losses, check_weights


def test_phases_of_a_group_compute_gradients_at_the_same_weights():
    model = build(Group)
    _, predict, echo = model.phases()
    batch = batch_of(0, "main")
    expected = {}
    for phase in (predict, echo):
        twin = copy.deepcopy(model)  # batch norm moves its statistics, never its output, while training
        with only(twin, phase):
            loss = type(model).loss if phase is predict else type(model).echo_loss
            (loss(twin, batch) if phase is predict else loss(twin, batch, 0)).total.backward()
        expected[phase.name] = twin.encoder[0].weight.grad
    state = TrainState.create(model)
    taken = {}
    for name, optimiser in state.optimisers.items():
        optimiser.register_step_pre_hook(
            lambda *_, name=name: taken.__setitem__(name, model.encoder[0].weight.grad) or None
        )
    advance(state)
    torch.testing.assert_close(taken["predict"], expected["predict"])
    bound = 0.5 / max(0.5, float(torch.sqrt(sum(p.square().sum() for p in gradients_of(echo, build(Group))))))
    torch.testing.assert_close(taken["echo"], expected["echo"] * bound, rtol=1e-4, atol=1e-7)


def gradients_of(phase, model):
    phase = next(p for p in model.phases() if p.name == phase.name)
    with only(model, phase):
        phase.loss(batch_of(0, "main"), 0).total.backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def test_phase_without_group_uses_updated_weights():
    class Apart(Group):
        def phases(self):
            return [dataclasses.replace(p, group=None) for p in super().phases()]

    together, apart = (TrainState.create(build(c)) for c in (Group, Apart))
    advance(together)
    advance(apart)
    assert torch.equal(together.model.predictor.weight, apart.model.predictor.weight)
    assert not torch.equal(together.model.echo.weight, apart.model.echo.weight)


def test_skipped_phase_changes_no_weights_optimiser_or_statistics():
    state = TrainState.create(build(Group))
    advance(state)  # step 0: due
    before, optimiser = weights(state.model.critic), copy.deepcopy(state.optimisers["critic"].state_dict())
    logged = advance(state, 2)  # steps 1 and 2: not
    assert not moved(before, state.model.critic)
    assert state.optimisers["critic"].state_dict() == optimiser
    assert not any(name.startswith("critic/") for name in logged)
    assert "critic/total" in advance(state)
    assert moved(before, state.model.critic)


def test_frozen_modules_have_no_gradient_and_constant_statistics():
    model = build(Group)
    critic = model.phases()[0]
    statistics = weights(model.encoder[1])
    with only(model, critic):
        critic.loss(batch_of(0, "critic"), 0).total.backward()
        assert not model.encoder[1].training
        assert model.critic[1].training
    assert all(p.grad is None for n, p in model.named_parameters() if not n.startswith("critic"))
    assert all(p.grad is not None for p in model.critic.parameters())
    assert not moved(statistics, model.encoder[1])
    assert model.encoder[1].training
    assert all(p.requires_grad for p in model.parameters())


def test_modes_are_restored_after_an_error():
    model = build(Group)
    phase = model.phases()[1]
    before = weights(model.encoder[1])
    with only(model, phase):
        phase.loss(batch_of(0, "main"), 0)
    assert "running_mean" in moved(before, model.encoder[1])
    with pytest.raises(RuntimeError, match="on the way"), only(model, phase):
        raise RuntimeError("on the way")
    assert model.critic[1].training
    assert all(p.requires_grad for p in model.parameters())


def test_stream_is_independent_of_other_phases():
    class WithoutCritic(Group):
        def phases(self):
            return super().phases()[1:]

    with_critic, without = (TrainState.create(build(c)) for c in (Group, WithoutCritic))
    advance(with_critic, 4)
    advance(without, 4)
    assert with_critic.model.seen["predict"] == without.model.seen["predict"] == with_critic.model.seen["echo"]
    assert not set(with_critic.model.seen["critic"]) & set(with_critic.model.seen["predict"])
    for name in ("predictor", "echo"):
        assert torch.equal(getattr(with_critic.model, name).weight, getattr(without.model, name).weight)


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("model_class", [Plain, Summed, Noisy, Dropped])
def test_accumulated_micro_batches_equal_the_whole_batch(parts, model_class):
    whole, split = TrainState.create(build(model_class)), TrainState.create(build(model_class))
    a, b = advance(whole, 3), advance(split, 3, grad_accum_steps=parts)
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(whole.model.state_dict(), split.model.state_dict(), rtol=1e-5, atol=1e-7)


def test_micro_batches_cover_every_clip_once():
    batch = batch_of(0, "main", b=7)
    parts = [batch.part(i, 3) for i in range(3)]
    assert [p.size for p in parts] == [2, 2, 3]
    assert torch.equal(torch.cat([p.context for p in parts]), batch.context)
    assert torch.equal(torch.cat([p.actions for p in parts]), batch.actions)


class Breaking(Small):
    """Its loss, or only its gradient, stops being a number at step 2."""

    inner = False

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.w = nn.Parameter(torch.ones(3))

    def loss(self, batch, step=0):
        smooth = self.w.square().sum()
        if step < 2:
            return Loss(smooth, {"smooth": smooth.detach(), "sharp": torch.zeros(())})
        # the root at 0 is finite, its slope is not
        sharp = (self.w - self.w.detach()).square().sum().sqrt() if self.inner else smooth / 0
        return Loss(smooth + sharp, {"smooth": smooth.detach(), "sharp": sharp.detach()})


class BreakingInside(Breaking):
    inner = True


def test_non_finite_loss_names_phase_part_and_step_and_keeps_weights():
    state = TrainState.create(build(Breaking))
    advance(state, 2)
    check_losses(state, CPU)
    before = weights(state.model)
    advance(state, 3)  # nothing is read before the next log step
    assert not moved(before, state.model)
    with pytest.raises(NotFinite, match=r"at step 2: phase 'main', part sharp; lower the learning rate") as error:
        check_losses(state, CPU)
    assert "smooth" not in str(error.value)
    check_weights(state, CPU)


def test_non_finite_gradient_is_detected_before_saving():
    state = TrainState.create(build(BreakingInside))
    advance(state, 3)
    with pytest.raises(NotFinite, match=r"weight 'w' is not finite after step 3"):
        check_weights(state, CPU)


@pytest.mark.parametrize("kind", ["adam", "adamw", "radam", "sgd"])
def test_skipped_update_changes_no_weight(kind):
    parameters = [nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(5))]
    optimiser = make_optimiser(Optimiser(kind=kind, lr=0.1, momentum=0.9, weight_decay=0.1), parameters)

    def step(gradient, skip, update=update):
        before = [p.detach().clone() for p in parameters]
        for p in parameters:
            p.grad = torch.full_like(p, gradient)
        update(optimiser, torch.tensor(skip))
        return all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))

    assert not step(1.0, False)
    assert step(float("nan"), True)
    assert step(1.0, True)
    # as on a GPU, without reading the flag
    assert not step(1.0, False, update_unread)
    assert step(float("nan"), True, update_unread)
    assert all(p.isfinite().all() for p in parameters)


def parameters_with_gradients(seed=0):
    g = torch.Generator().manual_seed(seed)
    parameters = [nn.Parameter(torch.zeros(s)) for s in ((3, 4), (5,), (2,))]
    for p, scale in zip(parameters[:2], (3.0, 0.01), strict=True):
        p.grad = torch.randn(p.shape, generator=g) * scale
    return parameters  # the last one has no gradient


@pytest.mark.parametrize("kind", ["none", "global", "tensor"])
def test_clipping_equals_a_plain_computation(kind):
    parameters = parameters_with_gradients()
    arrays = [p.grad.numpy().astype(np.float64) for p in parameters[:2]]
    norms = [np.sqrt((a**2).sum()) for a in arrays]
    bound = 0.7
    if kind == "global":
        norms = [np.sqrt(sum(n**2 for n in norms))] * 2
    scales = [1.0 if kind == "none" else min(1.0, bound / n) for n in norms]
    assert kind == "none" or min(scales) < 1
    assert kind != "tensor" or max(scales) == 1
    clip_gradients(parameters, GradClip(kind=kind, value=bound))
    for p, a, s in zip(parameters[:2], arrays, scales, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), a * s, rtol=1e-5)
    assert parameters[2].grad is None


def test_adamw_decays_weights_apart_from_the_gradient():
    class Decayed(Plain):
        def phases(self):
            return [Phase(name="main", loss=self.loss, optimiser=Optimiser(kind="adamw", lr=0.1, weight_decay=0.2))]

    model = build(Decayed)
    twin = copy.deepcopy(model)
    twin.loss(batch_of(0, "main")).total.backward()
    # the first step of Adam is the rate times the sign of the gradient
    expected = twin.net.weight * (1 - 0.1 * 0.2) - 0.1 * twin.net.weight.grad.sign()
    advance(TrainState.create(model))
    torch.testing.assert_close(model.net.weight, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["adam", "adamw", "radam", "sgd"])
def test_every_optimiser_uses_the_learning_rate_of_the_step(kind):
    class Scheduled(Plain):
        def phases(self):
            lr = lambda step: 0.1 / (1 + step)  # noqa: E731
            return [Phase(name="main", loss=self.loss, optimiser=Optimiser(kind=kind, lr=lr, weight_decay=0.01))]

    state = TrainState.create(build(Scheduled))
    for step in range(3):
        before = weights(state.model)
        advance(state)
        assert moved(before, state.model)
        assert state.optimisers["main"].param_groups[0]["lr"] == pytest.approx(0.1 / (1 + step))


def test_sgd_step_follows_its_formula():
    model = build(Plain)
    state = TrainState.create(model)
    velocity, value = 0.0, model.net.weight.detach().double()
    for step in range(3):
        twin = copy.deepcopy(model)
        twin.loss(batch_of(step, "main")).total.backward()
        velocity = 0.9 * velocity + twin.net.weight.grad.double()
        value = value - 0.01 * velocity
        advance(state)
        torch.testing.assert_close(model.net.weight.detach().double(), value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("model_class", [Acting, Noisy])
def test_noise_is_a_function_of_seed_and_step(model_class):
    def losses(seed=0, disturb=0):
        state = TrainState.create(build(model_class), seed=seed)
        found = []
        for _ in range(3):
            torch.rand(disturb)
            found.append(float(advance(state)["main/total"]))
        return found

    assert losses() == losses(disturb=5)
    assert losses() != losses(seed=1)


def test_bf16_keeps_the_dtype_of_weights():
    fp32, bf16 = TrainState.create(build(Plain)), TrainState.create(build(Plain))
    a = advance(fp32, 3)["main/total"]
    b = advance(bf16, 3, device=dataclasses.replace(CPU, precision="bf16"))["main/total"]
    assert a != b
    assert a == pytest.approx(float(b), rel=0.02)
    assert all(p.dtype == torch.float32 for p in bf16.model.parameters())
