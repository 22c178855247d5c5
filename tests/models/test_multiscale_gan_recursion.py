"""The multi-scale model trained on its own output: noise, recursion, gates, rounding and the adversary in them."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipSpec, GradClip
from framecast.data.splits import split_videos
from framecast.models.base import count_parameters
from framecast.models.multiscale_gan.config import (
    MultiscaleGANConfig,
    OptimConfig,
    default,
    eight,
    original,
    stable,
    tiny,
)
from framecast.models.multiscale_gan.predictor import MultiscaleGAN
from framecast.nn.losses import gdl, lp
from framecast.nn.scales import pyramid
from framecast.training.gradients import only
from framecast.training.presets import preset

SPEC = ClipSpec(channels=3, height=32, width=32)
ALL = {"recursion": 3, "recursion_gradient": "all"}
LAST = {"recursion": 3, "recursion_gradient": "last", "adversarial_frame": "last"}


def built(seed=0, **changes):
    torch.manual_seed(seed)
    return MultiscaleGAN(replace(tiny(), **changes), SPEC)


def a_batch(b=2, future=3, side=32, context=4):
    frames = torch.rand(b, context + future, 3, side, side, generator=torch.Generator().manual_seed(1))
    return Batch(context=frames[:, :context], future=frames[:, context:])


def recorded(network):
    """The arguments and result of every call of a network from now on."""
    calls, forward = [], network.forward

    def call(*inputs):
        found = forward(*inputs)
        calls.append((*inputs, found))
        return found

    network.forward = call
    return calls


def gradient(network):
    return torch.cat([p.grad.flatten() for p in network.parameters()])


# ----------------------------------------------------------------------------------------------------- unchanged


def test_published_profiles_have_every_option_off():
    off = ("output", "context_noise", "recursion", "round_feedback", "spectral_norm", "r1_weight", "adversarial_frame")
    for config in (default(), original(), eight()):
        assert [getattr(config, name) for name in off] == ["frame", 0.0, 1, False, False, 0.0, "first"]
        assert config.optim.clip == GradClip()
        model = MultiscaleGAN(replace(tiny(), output=config.output), SPEC)
        calls = recorded(model.generator)
        model.loss(a_batch(future=1))
        (contexts, level, _) = calls[0]
        assert level is None
        assert contexts[-1].shape[1] == 12


# --------------------------------------------------------------------------------------------------------- noise


def test_noise_has_its_level_and_is_exactly_zero_for_a_share_of_clips():
    model, batch = built(context_noise=0.1, noise_free=0.4), a_batch(256, future=1, side=8)
    clean = 2 * batch.context.flatten(1) - 1
    torch.manual_seed(0)
    calls = recorded(model.generator)
    model._runs(batch.context, batch.future)
    contexts, level, _ = calls[0]
    noise = contexts[-1].flatten(1) - clean
    free = level == 0
    assert 0.3 < free.float().mean() < 0.5
    assert torch.equal(contexts[-1].flatten(1)[free], clean[free])
    # a standard deviation of level * 0.1 on frames in 0…1 is twice that in -1…1
    torch.testing.assert_close(noise.std(1)[~free], 0.2 * level[~free], rtol=0.15, atol=1e-3)
    assert level.max() > 0.9
    assert level.min() >= 0


def test_noise_level_is_an_input_and_validation_and_roll_outs_have_none():
    model, batch = built(context_noise=0.1, noise_free=0.0), a_batch(future=1)
    assert model.generator.scales[0].layers[0].in_channels == 13
    contexts = pyramid(torch.rand(2, 12, 32, 32), 4)
    quiet, loud = (model.generator(contexts, torch.full((2,), level))[-1].frame for level in (0.0, 1.0))
    assert not torch.allclose(quiet, loud)
    assert torch.equal(quiet, model.generator(contexts)[-1].frame)
    assert model.loss(batch).total != model.loss(batch).total
    model.eval()
    assert model.loss(batch).total == model.loss(batch).total
    assert torch.equal(model.predict(batch.context, 2), model.predict(batch.context, 2))


# ----------------------------------------------------------------------------------------------------- recursion


def test_recursion_draws_its_number_in_training_and_takes_the_largest_in_validation():
    model = built(**ALL)
    assert MultiscaleGAN.request(model.config).future == 3
    assert MultiscaleGAN.request(replace(model.config, future=2)).future == 6
    batch = a_batch(1, side=8)
    counts = [len(model._runs(batch.context, batch.future)) for _ in range(60)]
    assert {n: counts.count(n) >= 10 for n in counts} == {1: True, 2: True, 3: True}
    model.eval()
    assert {len(model._runs(batch.context, batch.future)) for _ in range(5)} == {3}


@pytest.mark.parametrize("changes", [ALL, LAST])
@pytest.mark.parametrize("future", [1, 2])
def test_loss_of_recursion_equals_a_plain_loop(changes, future):
    model, batch = built(adversarial=False, future=future, **changes).eval(), a_batch(future=3 * future)
    window, losses = 2 * batch.context.flatten(1, 2) - 1, []
    for k in range(3):
        predictions = [x.frame for x in model.generator(pyramid(window, 4))]
        truths = pyramid(2 * batch.future[:, k * future : (k + 1) * future].flatten(1, 2) - 1, 4)
        losses.append([(lp(y_hat, y, 2), gdl(y_hat, y)) for y_hat, y in zip(predictions, truths, strict=True)])
        window = torch.cat([window, predictions[-1].clamp(-1, 1)], 1)[:, -12:]
    kept = losses if changes is ALL else losses[-1:]
    expected = torch.stack([torch.stack(pair) for pairs in kept for pair in pairs]).mean(0).detach()
    found = model.loss(batch)
    torch.testing.assert_close(torch.stack([found.parts["lp"], found.parts["gdl"]]), expected)
    torch.testing.assert_close(found.total, expected[0] + 0.1 * expected[1])


def test_gradient_flows_through_the_last_run_or_through_all():
    batch, gradients = a_batch(), {}
    for name, changes in (("last", LAST), ("all", ALL)):
        model = built(adversarial=False, **changes).eval()
        calls = recorded(model.generator)
        run = model._runs(batch.context, batch.future)[-1]
        fed = [contexts[-1].requires_grad for contexts, _, _ in calls]
        assert fed == ([False, False, False] if name == "last" else [False, True, True])
        lp(run.predictions[-1], run.truths[-1]).backward()
        gradients[name] = gradient(model.generator)
    assert not torch.allclose(gradients["last"], gradients["all"])  # of the same loss


def test_too_few_target_frames_for_the_recursion():
    model = built(**ALL).eval()
    with pytest.raises(UserError, match=r"model.recursion 3 needs 3 target frames, got 2; use longer clips"):
        model.loss(a_batch(future=2))
    with pytest.raises(UserError, match=r"has 20 frames but one clip spans 34; .* \(a lower horizon or recursion\)"):
        split_videos(
            ["a", "b", "c"], [20] * 3, MultiscaleGAN.request(replace(tiny(), **{**ALL, "recursion": 30})).length
        )


# --------------------------------------------------------------------------------------------------------- gates


def gated(bias, **changes):
    model = built(output="gated", adversarial=False, **changes)
    with torch.no_grad():
        for scale in model.generator.scales:
            scale.layers[-1].weight[-1].zero_()
            scale.layers[-1].bias[-1] = bias
    return model


def test_gated_output_equals_its_equation():
    model = built(output="gated", future=2)
    scale, context, last = model.generator.scales[0], torch.rand(2, 12, 8, 8), torch.rand(2, 6, 8, 8)
    nn.init.normal_(scale.layers[-1].weight)
    found, new, gate = scale(context, None, last)
    raw = scale.layers(context).detach().numpy()
    expected_new = 1.7159 * np.tanh(raw[:, :6] * 2 / 3)
    m = 1 / (1 + np.exp(-raw[:, 6:]))  # one gate per frame and pixel, for all its colours
    for frame, colour in itertools.product(range(2), range(3)):
        i = 3 * frame + colour
        y = last[:, i].numpy()
        expected = y + m[:, frame] * (expected_new[:, i] - y)
        np.testing.assert_allclose(found[:, i].detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new.detach().numpy(), expected_new, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gate.detach().numpy(), m, rtol=1e-4, atol=1e-5)


def test_gates_begin_at_a_quarter_and_new_frames_at_the_mean_colour():
    model, batch = built(output="gated"), a_batch(future=1)
    model.initialize_from_batch(batch)
    with torch.no_grad():
        for scale in model.generator.scales:
            scale.layers[-1].weight.zero_()
    outputs = model.generator(pyramid(2 * batch.context.flatten(1, 2) - 1, 4))
    mean = 2 * torch.cat([batch.context, batch.future], 1).mean((0, 1, 3, 4)) - 1
    torch.testing.assert_close(outputs[0].new[0, :, 0, 0], mean, atol=1e-4, rtol=0)
    last = 2 * batch.context[:, -1] - 1
    torch.testing.assert_close(outputs[-1].frame, last + torch.tensor(-1.0).sigmoid() * (outputs[-1].new - last))


def test_closed_gates_copy_and_leave_a_gradient_to_the_new_frames():
    batch = a_batch(future=1)
    model = gated(-200.0)
    assert torch.allclose(model.predict(batch.context, 4)[0], batch.context[:, -1:].expand(-1, 4, -1, -1, -1))
    for weight in (0.5, 0.0):
        model = gated(-200.0, new_weight=weight, gate_weight=0.0)
        loss = model.loss(batch)
        loss.total.backward()
        norms = [scale.layers[0].weight.grad.norm() for scale in model.generator.scales]
        assert all(norm > 0 for norm in norms) is (weight > 0)
    new = [x.new for x in model.generator(pyramid(2 * batch.context.flatten(1, 2) - 1, 4))]
    truths = pyramid(2 * batch.future[:, 0] - 1, 4)
    expected = sum(lp(a, b, 2) + 0.1 * gdl(a, b) for a, b in zip(new, truths, strict=True)) / 4
    torch.testing.assert_close(gated(-200.0).loss(batch).parts["new"], expected.detach())


def test_weight_of_the_gates_is_that_of_their_mean():
    batch = a_batch()
    model = gated(0.0, gate_weight=0.25, **ALL).eval()
    loss = model.loss(batch)
    torch.testing.assert_close(loss.parts["gate"], torch.tensor(0.5))
    rest = gated(0.0, gate_weight=0.0, **ALL).eval().loss(batch)
    torch.testing.assert_close(loss.total - rest.total, torch.tensor(0.125))


def test_gates_that_have_closed_open_again_in_the_moving_area():
    """All gates at m = 0.007, an exact copy after rounding; the left half of the frame inverts, the right is still."""
    frames = torch.rand(4, 1, 3, 16, 16).expand(-1, 5, -1, -1, -1).clone()
    frames[:, 4, :, :, :8] = 1 - frames[:, 3, :, :, :8]
    batch = Batch(context=frames[:, :4], future=frames[:, 4:])
    model = gated(-5.0, num_scales=2)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        model.loss(batch).total.backward()
        optimiser.step()
    raw = []
    model.generator.scales[-1].layers.register_forward_hook(lambda _, __, out: raw.append(out[:, 3].sigmoid()))
    model.predict(batch.context, 1)
    assert raw[0][..., :7].mean() > 0.5
    assert raw[0][..., 9:].mean() < raw[0][..., :7].mean() / 2


# -------------------------------------------------------------------------------------------------- fed-back frames


def test_fed_back_frames_are_clamped_and_rounded_with_the_gradient_of_no_rounding():
    block = (torch.rand(2, 3, 8, 8) * 2 - 1).requires_grad_()
    for rounded in (True, False):
        model = built(round_feedback=rounded)
        window, fed = model._fed_back(torch.zeros(2, 12, 8, 8), block)
        levels = (fed + 1) * 127.5
        assert torch.allclose(levels, levels.round(), atol=1e-3) is rounded
        assert (fed - block).abs().max() <= 1 / 255 + 1e-6
        assert torch.equal(window[:, 9:], fed)
        assert torch.autograd.grad(fed.sum(), block)[0].eq(1).all()
    assert model._fed_back(torch.zeros(2, 12, 8, 8), block * 9)[1].abs().max() == 1


def test_roll_out_returns_the_frames_that_it_feeds_back():
    model = built(round_feedback=True, output="gated")
    state, frame = model.rollout_step(model.rollout_init(a_batch().context))
    assert torch.allclose(frame * 255, (frame * 255).round(), atol=1e-3)
    torch.testing.assert_close(2 * frame - 1, state["window"][:, 9:])


# ------------------------------------------------------------------------------------------------------- adversary


@pytest.mark.parametrize(("frame", "at"), [("first", 0), ("last", 2)])
def test_discriminator_gets_the_first_or_the_last_frame_after_the_true_context(frame, at):
    model, batch = built(**{**ALL, "adversarial_frame": frame, "context_noise": 0.1}).eval(), a_batch()
    runs, context = model._runs(batch.context, batch.future), 2 * batch.context.flatten(1, 2) - 1
    calls = recorded(model.discriminator)
    model.discriminator_loss(batch)
    model.generator_loss(batch)
    real, fake = calls[0][0][-1].chunk(2)
    for patches, image in ((real, 2 * batch.future[:, at] - 1), (fake, runs[at].predictions[-1])):
        torch.testing.assert_close(patches, torch.cat([context, image], 1))
    torch.testing.assert_close(calls[1][0][-1], fake)


@pytest.mark.parametrize("gradient_of", ["last", "all"])
def test_adversarial_gradient_of_recursed_frames_reaches_every_scale_of_the_generator_alone(gradient_of):
    changes = {"lp_weight": 0.0, "gdl_weight": 0.0, "recursion_gradient": gradient_of}
    model = built(recursion=3, adversarial_frame="last", **changes)
    phase = next(p for p in model.phases() if p.name == "generator")
    with only(model, phase):
        phase.loss(a_batch(), 0).total.backward()
    assert all(gradient(scale).abs().max() > 0 for scale in model.generator.scales)
    assert all(p.grad is None for p in model.discriminator.parameters())


def test_spectral_norm_bounds_every_layer_and_adds_no_parameters():
    model, plain = built(spectral_norm=True), built()
    assert count_parameters(model) == count_parameters(plain)
    for _ in range(30):
        model.discriminator_loss(a_batch(future=1))
    for layer in model.discriminator.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "clips"),
    [({}, 2), ({"adversarial_over_scales": "mean", "reduction": "sum", "conditioned": False}, 3), (LAST, 2)],
)
def test_r1_is_half_the_squared_gradient_at_true_frames(changes, clips):
    model, batch = built(r1_weight=10.0, leaky_slope=0.2, **changes).eval(), a_batch(clips)
    config = model.config
    loss = model.discriminator_loss(batch)
    at = 2 if config.recursion == 3 else 0
    contexts, truths = pyramid(2 * batch.context.flatten(1, 2) - 1, 4), pyramid(2 * batch.future[:, at] - 1, 4)
    norms = torch.zeros(4, clips)
    for k, i in itertools.product(range(4), range(clips)):  # each scale and clip alone
        frame = truths[k][i : i + 1].clone().requires_grad_()
        image = torch.cat([contexts[k][i : i + 1], frame], 1) if config.conditioned else frame
        (slope,) = torch.autograd.grad(model.discriminator.scales[k](image).squeeze(), frame)
        norms[k, i] = slope.square().sum() / 2
    expected = norms.sum(1) if config.reduction == "sum" else norms.mean(1)
    expected = expected.mean() if config.adversarial_over_scales == "mean" else expected.sum()
    assert expected > 0
    torch.testing.assert_close(loss.parts["r1"], expected, rtol=1e-4, atol=1e-9)
    model.config = replace(config, r1_weight=0.0)
    plain = model.discriminator_loss(batch)
    assert set(plain.parts) == {"real", "fake"}
    torch.testing.assert_close(loss.total, plain.total + 10 * expected, rtol=1e-4, atol=1e-7)


def test_gradient_of_r1_reaches_the_discriminator_alone():
    model, batch = built(r1_weight=1.0, spectral_norm=True, leaky_slope=0.2), a_batch()
    phase = next(p for p in model.phases() if p.name == "discriminator")
    with only(model, phase):
        contexts, truths = pyramid(2 * batch.context.flatten(1, 2) - 1, 4), pyramid(2 * batch.future[:, 0] - 1, 4)
        model._r1(contexts, truths).backward()
    found = {name: p.grad for name, p in model.discriminator.named_parameters() if "weight" in name}
    assert all(grad is not None and grad.abs().max() > 0 for grad in found.values())
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(truth.grad is None for truth in truths)
    with torch.no_grad():
        assert model.discriminator_loss(batch).parts["r1"] > 0


# ------------------------------------------------------------------------------------------------- profiles, config


def test_profile_stable_has_every_option_on():
    config = stable()
    assert (config.output, config.recursion, config.recursion_gradient) == ("gated", 3, "all")
    assert (config.round_feedback, config.adversarial, config.adversarial_frame) == (True, False, "last")
    assert config.context_noise > 0
    assert config.motion_bypass > MultiscaleGANConfig().motion_bypass


def test_weights_of_stable_are_chosen_by_skill_over_64_frames():
    train = preset("multiscale-gan", "stable").train
    assert (train.select, train.select_horizon) == ("skill", 64)


def test_rate_without_decay_steps_falls_along_the_elapsed_share():
    optimiser = OptimConfig(generator_lr=1e-3, generator_final_lr=1e-4).optimiser("generator")
    assert [optimiser.rate(7, share) for share in (0, 0.5, 1)] == pytest.approx([1e-3, 5.5e-4, 1e-4])
    assert OptimConfig().optimiser("generator").schedule is None


def test_gradients_of_the_generator_are_clipped_by_the_config():
    phases = {p.name: p for p in built(optim=replace(stable().optim, generator_clip=2.0)).phases()}
    assert phases["generator"].clip == GradClip(kind="global", value=2.0)
    assert phases["discriminator"].clip == GradClip()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"context_noise": -0.1}, "model.context_noise must be at least 0"),
        ({"noise_free": 1.5}, "model.noise_free must lie in 0…1"),
        ({"context_mix": -0.1}, "model.context_mix must lie in 0…1"),
        ({"context_mix": 1.0}, "model.context_mix must lie in 0…1"),
        ({"foreground_weight": -1.0}, "model.foreground_weight must be at least 0"),
        ({"palette": ((0, 0, 256),)}, "model.palette must hold colours of 0…255"),
        ({"recursion": 0}, "model.recursion must be at least 1"),
        ({"recursion": 2}, "use --model.adversarial-frame last or --model.recursion-gradient all"),
        ({"r1_weight": -1.0}, "model.r1_weight must be at least 0"),
        ({"new_weight": -1.0}, "model.new_weight must be at least 0"),
        ({"gate_weight": -1.0}, "model.gate_weight must be at least 0"),
        ({"output": "mixed"}, "model.output must be one of frame, change, gated"),
        ({"recursion_gradient": "none"}, "model.recursion_gradient must be one of last, all"),
    ],
)
def test_options_of_recursion_are_checked_in_sentences(change, sentence):
    with pytest.raises(UserError, match=sentence):
        replace(tiny(), **change)


def test_patches_too_small_for_the_discriminator_with_recursion():
    with pytest.raises(UserError, match=r"do not fit its 2x2 patch; use a larger model\.patch"):
        built(patch=16, **ALL)
