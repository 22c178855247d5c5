"""Rolling a predictor out: modes, precision, frame by frame."""

import dataclasses

import numpy as np
import pytest
import torch
from small_models import Acting, Group, Noisy, Plain, Steered, build

from framecast.core.types import ClipSpec
from framecast.models.multiscale_gan.config import tiny
from framecast.models.multiscale_gan.predictor import MultiscaleGAN
from framecast.models.rollout import RolloutSession, evaluating, rollout


@pytest.fixture
def context():
    return torch.rand(3, 2, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def actions(length, b=3):
    index = torch.randint(3, (b, length), generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.one_hot(index, 3).float()


def test_modes_of_all_modules_are_restored_after_an_error():
    model = build(Group)
    model.critic[1].eval()
    before = [m.training for m in model.modules()]
    with evaluating(model):
        assert not any(m.training for m in model.modules())
    assert [m.training for m in model.modules()] == before
    with pytest.raises(ValueError), evaluating(model):
        raise ValueError("on the way")
    assert [m.training for m in model.modules()] == before


def test_a_rollout_runs_in_eval_mode_without_gradients(context):
    model = build(Acting)
    statistics = model.net[1].running_mean.clone()
    first = rollout(model, context, 4, actions(5))
    assert torch.equal(rollout(model, context, 4, actions(5)), first)  # no dropout
    assert first.shape == (1, 3, 4, 1, 12, 12)
    assert not first.requires_grad
    assert torch.equal(model.net[1].running_mean, statistics)
    assert model.training


def test_bytes_numpy_and_floats_give_the_same(context):
    levels = (context * 255).round().to(torch.uint8)
    expected = rollout(build(Plain), levels.float() / 255, 3)
    for given in (levels, levels.numpy(), levels.numpy().astype(np.float32) / 255):
        torch.testing.assert_close(rollout(build(Plain), given, 3), expected)


def test_long_rollout_begins_with_the_short_one(context):
    model = build(Plain)
    long, short = rollout(model, context, 6), rollout(model, context, 3)
    torch.testing.assert_close(long[:, :, :3], short)
    torch.testing.assert_close(long[:, :, 3:], rollout(model, short[0], 3))


@pytest.mark.parametrize("model_class", [Plain, Group])
def test_a_dream_is_the_forecast_frame_by_frame(context, model_class):
    model = build(model_class)
    dream = RolloutSession(model, context)
    frames = torch.stack([dream.step() for _ in range(5)], 1)
    torch.testing.assert_close(frames, rollout(model, context, 5)[0])
    assert model.training


def test_a_dream_follows_actions(context):
    model, led = build(Acting), actions(2 + 5 - 1)
    dream = RolloutSession(model, context, actions=led[:, :1])
    frames = torch.stack([dream.step(led[:, 1 + k]) for k in range(5)], 1)
    torch.testing.assert_close(frames, rollout(model, context, 5, led)[0])
    other = RolloutSession(model, context, actions=led[:, :1])
    assert not torch.allclose(other.step(led[:, 1].roll(1, -1)), frames[:, 0])


def test_stochastic_dream_repeats_from_its_seed_and_changes_between_frames(context):
    def dreamt(seed):
        dream = RolloutSession(build(Noisy), context, generator=torch.Generator().manual_seed(seed))
        return torch.stack([dream.step() for _ in range(3)], 1)

    assert torch.equal(dreamt(1), dreamt(1))
    assert not torch.equal(dreamt(1), dreamt(2))
    model = build(Noisy)
    still = RolloutSession(model, context)
    stored = still.carry
    first = still.step()
    still.carry = stored
    assert torch.equal(still.step(), first)  # a carry can be stored and gone on from
    assert not torch.equal(RolloutSession(model, context).step(), first)


class Blocks(Plain):
    """Three frames per call, fed back in blocks; drifts by noise where it is stochastic. `calls` counts the calls."""

    block = 3
    calls = 0

    def predict(self, context, horizon, actions=None, samples=1, generator=None):
        futures = []
        for _ in range(samples):
            window, frames = context, []
            while len(frames) < horizon:
                self.calls += 1
                made = [self.guess(window) * 0.9**k for k in range(3)]
                if self.stochastic:
                    made = [x + 0.1 * torch.rand(x.shape, generator=generator) for x in made]
                frames += [x.clamp(0, 1) for x in made]
                window = torch.cat([window, torch.stack(made, 1).clamp(0, 1)], 1)[:, -2:]
            futures.append(torch.stack(frames[:horizon], 1))
        return torch.stack(futures)


@pytest.mark.parametrize("clips", [1, 2, 3])
def test_block_model_rolls_out_with_one_call_per_block(context, clips):
    model = build(Blocks).eval()
    expected = rollout(model, context[:clips], 8)[0]
    model.calls = 0
    state, frames = model.rollout_init(context[:clips]), []
    for _ in range(8):
        stored = {k: v.clone() for k, v in state.items()}
        after, frame = model.rollout_step(state)
        assert all(torch.equal(state[k], v) for k, v in stored.items())
        assert all(len(value) == clips for value in after.values())
        assert after.keys() == state.keys()
        frames.append(frame)
        state = after
    torch.testing.assert_close(torch.stack(frames, 1), expected)
    assert model.calls == 3


def test_block_model_follows_actions_frame_by_frame(context):
    class Led(Blocks):
        actions = "optional"

    model = build(Led).eval()
    state, _ = model.rollout_step(model.rollout_init(context, torch.zeros(3, 1, 3)))
    assert state["queue"].shape[1] == 2
    model.calls = 0
    for _ in range(4):
        state, _ = model.rollout_step(state, torch.ones(3, 3))
        assert state["queue"].shape[1] == 0
    assert model.calls == 4


def test_stochastic_block_model_repeats_from_its_seed_and_a_stored_state(context):
    class Drifting(Blocks):
        stochastic = True

    def roll(seed):
        session = RolloutSession(build(Drifting), context, generator=torch.Generator().manual_seed(seed))
        return torch.stack([session.step() for _ in range(7)], 1), session

    (first, session), (again, _), (other, _) = roll(1), roll(1), roll(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    stored = session.carry
    ahead = [session.step() for _ in range(3)]
    session.carry = stored
    assert all(torch.equal(session.step(), frame) for frame in ahead)


def test_control_takes_effect_from_the_next_frame(context):
    def dreamt(warmth):
        dream = RolloutSession(build(Steered), context, generator=torch.Generator().manual_seed(0))
        dream.set_control("warmth", warmth)
        return torch.stack([dream.step() for _ in range(4)], 1)

    assert torch.equal(dreamt(1), dreamt(1))
    assert not torch.equal(dreamt(1), dreamt(0.5))
    torch.testing.assert_close(dreamt(0)[:, 0], dreamt(0)[:, 3])  # nothing drifts
    with pytest.raises(ValueError, match="Steered has no control 'heat', only warmth"):
        RolloutSession(build(Steered), context).set_control("heat", 1)
    with pytest.raises(ValueError, match="Plain has no control 'heat', only none"):
        RolloutSession(build(Plain), context).set_control("heat", 1)


def test_dream_continues_from_a_replaced_latent(context):
    dream = RolloutSession(build(Steered), context, generator=torch.Generator().manual_seed(0))
    dream.set_control("warmth", 0)
    assert dream.steerable
    frame = dream.take(torch.tensor([[0.9, 0.0, 0.0]]).expand(3, -1))
    torch.testing.assert_close(frame, torch.full_like(frame, 0.9))
    torch.testing.assert_close(dream.step(), frame)
    torch.testing.assert_close(dream.code[:, 0], torch.full((3,), 0.9))
    other = RolloutSession(build(Plain), context)
    assert not other.steerable
    with pytest.raises(ValueError, match="Plain has no editable latents"):
        other.take(torch.zeros(3, 6))


def test_a_dream_in_bf16_stays_close(context):
    exact, coarse = (RolloutSession(build(Plain), context, precision=p).step() for p in ("fp32", "bf16"))
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(exact, coarse, atol=0.02, rtol=0)
    assert not torch.equal(exact, coarse)


def test_samples_of_a_stochastic_model_differ(context):
    model = build(Noisy)
    found = rollout(model, context, 2, samples=3, generator=torch.Generator().manual_seed(0))
    assert found.shape[:3] == (3, 3, 2)
    assert not torch.equal(found[0], found[1])
    carry = model.rollout_init(context, samples=3)
    assert {len(v) for v in carry.values()} == {9}
    _, frame = model.rollout_step(carry)
    assert not torch.equal(frame[:3], frame[3:6])


def test_bf16_stays_close_to_fp32_over_a_long_rollout():
    torch.manual_seed(0)
    model = MultiscaleGAN(dataclasses.replace(tiny(), patch=32), ClipSpec(channels=3, height=32, width=32))
    frames = torch.rand(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    exact, coarse = (rollout(model, frames, 8, precision=p) for p in ("fp32", "bf16"))
    assert coarse.dtype == torch.float32
    assert not torch.equal(exact, coarse)
    assert (exact - coarse).abs().mean() < 2 / 255
