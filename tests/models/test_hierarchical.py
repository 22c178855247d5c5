"""Hierarchical prediction: the published sizes, what each mode's losses reach, and what the chain does."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import CPU, moved, weights

from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, Batch, ClipSpec
from framecast.models.base import count_parameters
from framecast.models.hierarchical import objectives
from framecast.models.hierarchical.config import PROFILES, HierarchicalConfig, OptimConfig
from framecast.models.hierarchical.losses import gradient_penalty, psnr
from framecast.models.hierarchical.predictor import Hierarchical
from framecast.nn.losses import change_error, lp
from framecast.nn.vgg import VGG16
from framecast.reporting.figure import watch
from framecast.training.gradients import clip_gradients
from framecast.training.presets import preset
from framecast.training.state import TrainState, phase_parameters
from framecast.training.step import train_step

ROBOT = ClipSpec(
    channels=3,
    height=64,
    width=64,
    actions=ActionSpec(kind="continuous", size=5),
    extras={"joints": (7,), "states": (5,)},
)
#: All parts in the published form, at a size that takes milliseconds.
NARROW = HierarchicalConfig(
    size=32,
    future=3,
    encoding_size=12,
    encoder_widths=((4,), (8,), (8,)),
    encoder_keep=1.0,
    predictor_depth=4,
    van_width=4,
    van_keep=1.0,
    alpha_delay=10,
)


def narrow(seed=0, **settings):
    torch.manual_seed(seed)
    model = Hierarchical(replace(NARROW, **settings), ROBOT)
    torch.nn.init.normal_(model.encoder.out.weight, std=0.05)  # as after some training: encodings that differ
    return model


def batch_of(model, b=2, seed=0, length=None):
    g = torch.Generator().manual_seed(seed)
    c = model.config
    frames = torch.rand(b, length or c.context + c.future, 3, c.size, c.size, generator=g)
    count = frames.shape[1]
    return Batch(
        context=frames[:, : c.context],
        future=frames[:, c.context :],
        actions=torch.randn(b, count - 1, 5, generator=g),
        extras={
            "joints": torch.randn(b, count, 7, generator=g),
            "states": torch.randn(b, count, 5, generator=g) * 0.3,
        },
    )


def reached(model, loss):
    """Names of the networks that get a gradient which is not zero, each with the share of its tensors that do."""
    model.zero_grad()
    loss.total.backward()
    found = {}
    for name, part in model.subnetworks().items():
        hit = [p.grad is not None and bool(p.grad.abs().max() > 0) for p in part.parameters()]
        if any(hit):
            found[name] = sum(hit) / len(hit)
    return found


# ---------------------------------------------------------------------------------------------------- the networks


@pytest.mark.parametrize(
    ("size", "encoder", "predictor", "van", "noise", "critic"),
    [
        (12, 14_739_276, 71_922, 7_545_944, 1_717, 625_537),
        (16, 14_747_472, 108_922, 7_550_040, 2_121, 694_657),
        (32, 14_780_256, 333_402, 7_566_424, 3_737, 1_073_857),
        (64, 14_845_824, 1_149_466, 7_599_192, 6_969, 2_325_313),
    ],
)
def test_published_counts(size, encoder, predictor, van, noise, critic):
    with torch.device("meta"):
        plain = Hierarchical(HierarchicalConfig(encoding_size=size), ROBOT)
        judged = Hierarchical(HierarchicalConfig(encoding_size=size, mode="epva-gan", predictor_noise=1.0), ROBOT)
    assert count_parameters(plain) == {"encoder": encoder, "predictor": predictor, "van": van}
    assert count_parameters(judged) == {
        **{"encoder": encoder, "predictor": predictor + noise, "van": van, "discriminator": critic}
    }
    assert [len(list(p.parameters())) for p in plain.subnetworks().values()] == [28, 153, 68]
    n = size + 5
    assert predictor == 238 * n**2 + 172 * n + n * size + size


def test_parts_of_the_networks_have_the_published_counts_and_shapes():
    with torch.device("meta"):
        model = Hierarchical(HierarchicalConfig(mode="epva-gan"), ROBOT)
        count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_modules()}
        assert count["encoder.trunk"] == 14_714_688
        assert count["van.image"] == 1_736_000
        assert count["van.structure"] == 622_528
        assert count["van.difference"] + count["van.target"] + count["van.join"] + count["van.analogy"] == 3_540_736
        assert count["van.decoder"] == 1_699_928
        assert len(model.predictor.cells) == 21
        assert len(model.predictor.norms) == 11
        assert model.encoder.trunk(torch.zeros(2, 3, 64, 64)).flatten(1).shape == (2, 2048)
        encodings = model.encode(torch.zeros(2, 6, 3, 64, 64))
        assert encodings.shape == (2, 6, 64)
        inner, outer = model.van.structure(encodings[:, 0])
        assert inner.shape == (2, 128, 8, 8)
        assert outer.shape == (2, 256, 8, 8)
        real, fake = objectives.sequences(model, encodings, encodings[:, 1:])
        assert real.shape == fake.shape == (2, 6, 64 + 24_576)
        assert model.discriminator(real).shape == (2,)


@pytest.mark.parametrize(
    ("profile", "frames", "size"),
    [
        *[("default", 20, 64), ("robot-e2e", 20, 16), ("robot-epva", 20, 32), ("robot-individual", 20, 12)],
        *[("humans-e2e", 32, 64), ("humans-epva", 32, 64), ("single-gpu", 32, 64), ("humans-epva-gan", 32, 64)],
    ],
)
def test_published_profiles(profile, frames, size):
    c = preset("hierarchical", profile).model
    assert (c.context + c.future, c.encoding_size) == (frames, size)
    assert (c.context, c.stride) == ((5, 2) if profile.startswith(("humans", "single")) else (2, 1))
    assert c.encoder_widths == VGG16
    assert c.optim.clip == 0.01
    request = Hierarchical.request(c)
    assert (request.length, request.resize) == (frames, (64, 64))
    assert request.extras == (("joints", "states") if profile == "robot-individual" else ())
    rates = {"default": 1e-4, "single-gpu": 1e-4}
    assert c.optim.all_lr == (rates.get(profile, 1e-5) if c.mode != "epva-gan" else 1e-4)
    if profile == "single-gpu":
        assert (c.alpha, c.alpha_delay, preset("hierarchical", profile).train.steps) == (0.1, 20_000, 120_000)


def test_the_drawing_of_the_model_shows_its_own_layers_too():
    model = narrow()
    seen = watch(model, ROBOT)
    assert seen["van.join"].detail == "3×3 32 → 16"
    assert seen["van.decoder.0"].out == (16, 8, 8)


def test_second_cell_below_the_top_is_fed_back_at_the_next_step():
    model = narrow()
    predictor, states = model.predictor, model.predictor.start(2)
    assert states.shape == (2, 6, 34)
    assert torch.equal(states[:, -1], predictor.feedback.expand(2, -1))
    encoding, action = torch.randn(2, 12), torch.randn(2, 5)
    _, states = predictor(encoding, action, states)
    assert torch.equal(states[:, -1], states[:, 2])  # cell 2 of 0…4, as 18 of 0…20
    other = states.clone()
    other[:, -1] += 1
    assert not torch.equal(predictor(encoding, action, states)[0], predictor(encoding, action, other)[0])


def test_untrained_predictor_output_has_moderate_scale():
    """With the usual epsilon of 1e-5 the tiny output of the first cell would drown, and all others with it."""
    torch.manual_seed(0)
    with torch.device("cpu"):
        predictor = Hierarchical(replace(NARROW, encoding_size=64, predictor_depth=20), ROBOT).predictor
    encoding, action = torch.randn(64, 64), torch.randn(64, 5)
    loud = float(predictor(encoding, action, predictor.start(64))[0].detach().std())
    assert 0.2 < loud < 0.25
    for norm in predictor.norms:
        norm.eps = 1e-5
    assert float(predictor(encoding, action, predictor.start(64))[0].detach().std()) < loud / 20


def test_a_closed_mask_returns_the_first_frame_exactly():
    model = narrow().eval()
    with torch.no_grad():
        model.van.decoder[-1].bias[3] = -1e4
    frames = batch_of(model).context
    assert torch.equal(model.predict(frames, 4)[0], frames[:, :1].expand(-1, 4, -1, -1, -1))
    assert float(model.masks(frames, 4).max()) == 0
    assert float(model.masks(frames, 4, normalise=True).max()) == 0


def test_the_alpha_schedule():
    c = HierarchicalConfig(alpha=0.1, alpha_delay=20_000)
    steps = {0: 4.54e-5, 10_000: 6.69e-3, 18_000: 0.269, 20_000: 0.5, 22_000: 0.731, 40_000: 0.99995}
    for step, factor in steps.items():
        assert c.weight(step) == pytest.approx(0.1 * factor, rel=2e-3)
    at_once = HierarchicalConfig(alpha=0.1, alpha_delay=0)
    assert at_once.weight(2) == pytest.approx(0.1, rel=1e-3)
    assert HierarchicalConfig(alpha_delay=10**6).weight(0) > 0
    judged = HierarchicalConfig(mode="epva-gan", alpha=10.0, alpha_delay=600_000)
    assert judged.weight(0) == judged.weight(10**6) == 10


# --------------------------------------------------------------------------------------------------- gradient flow


def test_pixels_from_true_encodings_reach_all_of_encoder_and_van_and_nothing_of_the_predictor():
    model = narrow()
    assert reached(model, objectives.van_on_encoding_loss(model, batch_of(model))) == {"encoder": 1, "van": 1}


def test_encodings_reach_encoder_and_predictor_and_nothing_of_the_van():
    model = narrow()
    batch = batch_of(model)
    model.config = replace(model.config, alpha_delay=0)
    loss = objectives.epva_loss(model, batch, 100)
    encodings = model.encode(torch.cat([batch.context, batch.future], 1))
    apart = objectives.encoding_error(model, model.roll(encodings[:, :2], batch.actions), encodings)
    assert float(loss.parts["enc_pred"]) == pytest.approx(float(apart.detach()), rel=1e-5)
    found = reached(model, type(loss)(apart))
    assert set(found) == {"encoder", "predictor"}
    assert found["encoder"] == 1
    assert found["predictor"] > 0.95  # the forget gate of a cell that starts from zero has little effect
    assert float(loss.total.detach()) == pytest.approx(
        float(loss.parts["van_on_enc"] + loss.parts["enc_pred"]), rel=1e-5
    )


def test_predictor_mode_uses_stored_or_computed_encodings_and_trains_only_the_predictor():
    model = narrow(mode="predictor")
    batch = batch_of(model)
    found = objectives.prediction_loss(model, batch)
    assert set(reached(model, found)) == {"predictor"}
    frames = torch.cat([batch.context, batch.future], 1)
    stored = model.encodings(Batch(context=frames, future=frames[:, :0]))
    from_codes = Batch(context=frames[:, :0], future=frames[:, :0], actions=batch.actions, latents=stored)
    torch.testing.assert_close(objectives.prediction_loss(model, from_codes).total, found.total)
    target = stored["encodings"][:, 1:].numpy()
    variance = ((target - target.mean((0, 1))) ** 2).mean()
    assert float(found.parts["explained"]) == pytest.approx(1 - float(found.total.detach()) / variance, abs=1e-4)
    (stage,) = model.stages()
    assert [p.modules for p in stage.phases] == [("predictor",)]
    assert stage.precompute_latents is not None


def test_the_target_of_the_encoding_loss_is_not_detached():
    model = narrow()
    frames = torch.cat([batch_of(model).context, batch_of(model).future], 1).requires_grad_()
    encodings = model.encode(frames)
    objectives.encoding_error(model, model.roll(encodings[:, :2], torch.zeros(2, 4, 5)), encodings).backward()
    assert all(bool(frames.grad[:, t].abs().max() > 0) for t in range(5))


def test_end_to_end_reaches_the_frames_through_the_context_only():
    model = narrow()
    batch = batch_of(model)
    batch.context.requires_grad_()
    found = reached(model, objectives.van_loss(model, batch))
    assert set(found) == {"encoder", "predictor", "van"}
    assert found["encoder"] == found["van"] == 1
    assert bool(batch.context.grad.abs().max() > 0)
    seen = []
    model.encoder.register_forward_hook(lambda *given: seen.append(len(given[1][0])))
    objectives.van_loss(model, batch)
    assert seen == [2 * 2]  # two clips, two context frames: later ones are only compared with


def test_individual_mode_trains_three_networks_independently():
    model = narrow(mode="individual")
    batch, networks = batch_of(model), list[str]()
    seen = []
    model.encoder.register_forward_hook(lambda *_: seen.append(1))
    for phase in model.phases():
        calls = len(seen)
        assert set(reached(model, phase.loss(batch, 0))) == set(phase.modules)
        assert (len(seen) > calls) == (phase.name == "encoder")  # poses never go through the encoder
        networks += phase.modules
    assert sorted(networks) == ["encoder", "predictor", "van"]
    assert [p.optimiser.lr for p in model.phases()] == [1e-5, 3e-4, 3e-5]


def test_end_to_end_with_poses_by_one_optimiser_or_by_three():
    one = narrow(mode="e2e-pose", pose_weight=2.0)
    batch = batch_of(one)
    (phase,) = one.phases()
    loss = phase.loss(batch, 0)
    parts = loss.parts
    expected = parts["van"] + 2 * (parts["pose_from_enc"] + parts["pose_from_pred"])
    assert float(loss.total.detach()) == pytest.approx(float(expected), rel=1e-5)
    assert set(reached(one, loss)) == {"encoder", "predictor", "van"}
    three = narrow(mode="e2e-pose", pose_optimisers="each")
    found = {p.name: (p.modules, set(reached(three, p.loss(batch, 0)))) for p in three.phases()}
    assert found["all"] == (("",), {"encoder", "predictor", "van"})
    assert found["encoder"] == (("encoder",), {"encoder"})
    assert found["predictor"] == (("predictor",), {"encoder", "predictor"})  # of which only the predictor moves
    assert float(objectives.encoder_pose_loss(three, batch).total.detach()) == pytest.approx(
        float(parts["pose_from_enc"]), rel=1e-5
    )
    assert float(objectives.predictor_pose_loss(three, batch).total.detach()) == pytest.approx(
        float(parts["pose_from_pred"]), rel=1e-5
    )


def test_the_adversarial_cycle_is_one_joint_step_and_five_of_the_critic():
    model = narrow(mode="epva-gan", predictor_noise=1.0, normalise=True)
    state = TrainState.create(model)
    for step in range(7):
        before = {name: weights(part) for name, part in model.subnetworks().items()}
        logged = train_step(state, lambda *_: batch_of(model), CPU)
        changed = {name for name, part in model.subnetworks().items() if moved(before[name], part)}
        if step % 6 == 0:
            assert changed == {"encoder", "predictor", "van"}
            assert {"generator/generator", "generator/enc_pred", "van/van_on_enc"} <= set(logged)
        else:
            assert changed == {"discriminator"}
            assert set(logged) == {"critic/critic", "critic/penalty", "critic/total"}
    assert [p.clip.kind for p in model.phases()] == ["tensor", "tensor", "none"]


def test_the_generator_passes_through_the_structure_encoder_but_is_not_allowed_to_train_it():
    model = narrow(mode="epva-gan")
    generator, van, critic = model.phases()
    assert generator.modules == ("encoder", "predictor")
    assert van.modules == ("encoder", "van")
    assert critic.modules == ("discriminator",)
    assert generator.group == van.group  # both gradients at the same weights
    batch = batch_of(model)
    found = reached(model, generator.loss(batch, 0))
    assert found["encoder"] == 1  # also through the true sequences
    assert set(found) == {"encoder", "predictor", "van", "discriminator"}
    own = {id(p) for p in phase_parameters(model, generator)}
    assert not own & {id(p) for p in model.van.parameters()}
    assert set(reached(model, critic.loss(batch, 0))) == {"discriminator"}


def test_the_penalty_is_that_of_a_plain_loop_and_can_be_differentiated_again():
    model = narrow(mode="epva-gan", van_width=2)
    real, fake = torch.randn(2, 2, 3, 12 + 2 * 2 * 16 + 4 * 2 * 16).unbind(0)
    torch.manual_seed(5)
    penalty = gradient_penalty(model.discriminator, real, fake)
    torch.manual_seed(5)
    share, norms = torch.rand(2, 1, 1), []
    for k in range(2):
        point = (real[k] + share[k] * (fake[k] - real[k])).requires_grad_()
        model.discriminator(point[None]).sum().backward()
        norms.append(math.sqrt(float(point.grad.double().square().sum()) + 1e-10))
    assert float(penalty.detach()) == pytest.approx(np.mean([(n - 1) ** 2 for n in norms]), rel=1e-4)
    model.zero_grad()
    penalty.backward()
    slopes = [p.grad for name, p in model.discriminator.named_parameters() if name.startswith(("inner", "cells"))]
    assert all(slope.isfinite().all() for slope in slopes)
    assert sum(bool(slope.abs().max() > 0) for slope in slopes) > len(slopes) / 2


def test_the_plain_discriminator_has_smoothed_labels():
    model = narrow(mode="epva-gan", critic="gan")
    loss = objectives.critic_loss(model, batch_of(model))
    assert set(loss.parts) == {"critic"}
    with torch.no_grad():
        model.discriminator.score.weight.zero_()
        model.discriminator.score.bias.zero_()
    assert float(objectives.critic_loss(model, batch_of(model)).total.detach()) == pytest.approx(
        2 * math.log(2), rel=1e-6
    )
    assert float(objectives.generator_loss(model, batch_of(model)).parts["generator"]) == pytest.approx(
        -2 * math.log(2), rel=1e-6
    )


def test_generated_sequences_begin_with_true_encodings():
    model = narrow(mode="epva-gan", critic_context=2)
    encodings, predicted = torch.rand(2, 5, 12), torch.rand(2, 4, 12)
    real, fake = objectives.sequences(model, encodings, predicted)
    assert torch.equal(real[..., :12], encodings)
    assert torch.equal(fake[:, :2, :12], encodings[:, :2])
    assert torch.equal(fake[:, 2:, :12], predicted[:, 1:])


def test_each_tensor_is_clipped_by_itself():
    model = narrow(mode="e2e")
    (phase,) = model.phases()
    (phase.loss(batch_of(model), 0).total * 1e4).backward()
    parameters = phase_parameters(model, phase)
    clip_gradients(parameters, phase.clip)
    norms = torch.stack([p.grad.norm() for p in parameters])
    assert float(norms.max()) <= 0.01 * (1 + 1e-4)
    assert float(norms.norm()) > 0.02
    assert narrow(optim=OptimConfig(clip=0)).phases()[0].clip.kind == "none"


# -------------------------------------------------------------------------------------------- dropout, noise, losses


def test_dropout_and_training_noise_end_with_training():
    model = narrow(encoder_keep=0.5, van_keep=0.5, encoding_noise=0.5, state_noise=0.5, hue=True)
    batch = batch_of(model)
    values = [float(objectives.epva_loss(model, batch).total.detach()) for _ in range(2)]
    assert values[0] != values[1]
    model.eval()
    values = [float(objectives.epva_loss(model, batch).total.detach()) for _ in range(2)]
    assert values[0] == values[1]


def test_predictor_noise_makes_futures_that_differ_by_their_generator_alone():
    model = narrow(predictor_noise=1.0).eval()
    assert model.stochastic
    assert not narrow().stochastic
    context = batch_of(model).context

    def futures(seed):
        return model.predict(context, 3, samples=2, generator=torch.Generator().manual_seed(seed))

    first = futures(0)
    assert torch.equal(first, futures(0))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, futures(1))
    carry = model.rollout_init(context, samples=2, generator=torch.Generator().manual_seed(0))
    frames = [model.rollout_step(carry)[1] for _ in range(2)]
    assert frames[0].shape == (4, 3, 32, 32)
    assert torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0][:2], frames[0][2:])


def test_normalised_encodings_have_length_one():
    model = narrow(normalise=True)
    batch = batch_of(model)
    encodings = model.encode(batch.context)
    predicted = model.roll(encodings, batch.actions)
    for e in (encodings, predicted):
        torch.testing.assert_close(e.norm(dim=-1), torch.ones(e.shape[:2]))


def test_the_encoding_loss_is_l2_or_l1():
    model = narrow(encoding_loss="l1")
    a, b = torch.randn(2, 4, 12), torch.randn(2, 5, 12)
    assert float(objectives.encoding_error(model, a, b)) == pytest.approx(float((a - b[:, 1:]).abs().mean()))
    model.config = replace(model.config, encoding_loss="l2")
    assert float(objectives.encoding_error(model, a, b)) == pytest.approx(float((a - b[:, 1:]).square().mean()))


def test_the_relative_encoding_loss_is_a_share_of_how_far_encodings_move_whatever_their_scale():
    model = narrow(encoding_loss="relative")
    g = torch.Generator().manual_seed(0)
    encodings, predicted = torch.randn(5, 4, 12, generator=g), torch.randn(5, 3, 12, generator=g)
    target = encodings[:, 1:].numpy()
    moves = np.mean([clip[:, k].var() for clip in target for k in range(12)])
    share = ((predicted.numpy() - target) ** 2).mean() / moves
    assert float(objectives.encoding_error(model, predicted, encodings)) == pytest.approx(share, rel=1e-4)
    still = torch.randn(5, 1, 12, generator=g)  # what never changes within a clip does not count
    assert float(
        objectives.encoding_error(model, 100 * (predicted + still), 100 * (encodings + still))
    ) == pytest.approx(share, rel=1e-3)


def test_the_whitened_encoding_loss_counts_every_direction_alike():
    model = narrow(encoding_loss="whitened")
    g = torch.Generator().manual_seed(0)
    encodings, predicted = torch.randn(50, 4, 3, generator=g), torch.randn(50, 3, 3, generator=g)
    target = encodings[:, 1:].numpy()
    moves = (target - target.mean(1, keepdims=True)).reshape(-1, 3)
    inverse = np.linalg.inv(moves.T @ moves / len(moves))
    apart = (predicted.numpy() - target).reshape(-1, 3)
    expected = np.mean([d @ inverse @ d for d in apart]) / 3
    assert float(objectives.encoding_error(model, predicted, encodings)) == pytest.approx(expected, rel=0.01)
    mixed = torch.tensor([[1.0, 0.5, 0], [0, 0.2, 0.3], [0.1, 0, 2.0]])  # turned and squeezed
    assert float(objectives.encoding_error(model, predicted @ mixed, encodings @ mixed)) == pytest.approx(
        expected, rel=0.05
    )


@pytest.mark.parametrize("leak", [0.0, 0.2])
def test_leaky_activation_keeps_gradients_of_inactive_maps(leak):
    model = narrow(van_leak=leak)
    doubling = model.van.decoder[-4]
    with torch.no_grad():
        doubling.bias -= 100  # nothing gets above 0
    objectives.van_on_encoding_loss(model, batch_of(model)).total.backward()
    assert bool(doubling.weight.grad.abs().max() > 0) is (leak > 0)


def test_predictor_output_may_be_the_change_of_the_encoding():
    plain, change = narrow(seed=3), narrow(seed=3, predict_change=True)
    assert {n: p.shape for n, p in plain.named_parameters()} == {n: p.shape for n, p in change.named_parameters()}
    encoding, action = torch.randn(2, 12), torch.randn(2, 5)
    (next_one, states), (added, other) = (m.predictor(encoding, action, m.predictor.start(2)) for m in (plain, change))
    torch.testing.assert_close(added, encoding + next_one)
    torch.testing.assert_close(states, other)


def test_the_predictor_may_be_trained_on_the_head_of_a_clip_while_any_frame_is_drawn(monkeypatch):
    model = narrow(future=6, rolled=3, drawn=2)
    batch, seen, rolled = batch_of(model), [], []
    encode, roll = model.encode, model.roll
    monkeypatch.setattr(model, "encode", lambda frames: seen.append(frames) or encode(frames))
    monkeypatch.setattr(model, "roll", lambda e, c: rolled.append(roll(e, c)) or rolled[-1])
    found = objectives.epva_loss(model.train(), batch)
    frames = torch.cat([batch.context, batch.future], 1)
    assert seen[0].shape[1] == 3 + 2
    assert rolled[0].shape[1] == 2
    assert torch.equal(seen[0][:, :3], frames[:, :3])
    later = [k for t in (3, 4) for k in range(1, 8) if torch.equal(seen[0][:, t], frames[:, k])]
    assert len(set(later)) == 2
    encodings = encode(seen[0])
    drawn = model.draw(frames[:, 0], encodings[:, 0], encodings[:, 3:])[0]
    assert float(found.parts["van_on_enc"]) == pytest.approx(lp(drawn, seen[0][:, 3:], 2.0).item(), rel=1e-5)
    apart = (rolled[0] - encodings[:, 1:3]).square().mean()
    assert float(found.parts["enc_pred"]) == pytest.approx(float(apart.detach()), rel=1e-5)
    objectives.epva_loss(model.eval(), batch)
    assert seen[-1].shape[1] == 8  # all are scored


def test_fewer_frames_may_be_drawn_while_training_and_all_are_scored():
    model = narrow(mode="e2e", drawn=2)
    seen = []
    model.van.decoder.register_forward_hook(lambda *given: seen.append(len(given[2])))
    objectives.van_loss(model, batch_of(model))
    model.eval()
    whole = objectives.van_loss(model, batch_of(model)).total
    assert seen == [2 * 2, 2 * 4]
    model.config = replace(model.config, drawn=0)
    assert torch.equal(objectives.van_loss(model, batch_of(model)).total, whole)


def test_a_grey_encoder_does_not_see_colour():
    model = narrow(grey_encoder=True).eval()
    frames = torch.zeros(1, 2, 3, 32, 32)
    frames[0, 0, 0] = 0.587  # as bright a red as this green
    frames[0, 1, 1] = 0.299
    encodings = model.encode(frames)
    torch.testing.assert_close(encodings[0, 0], encodings[0, 1], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(*narrow().eval().encode(frames)[0], atol=1e-4)


def test_validation_reports_the_chain_beside_repeating_the_first_frame():
    model = narrow(mode="e2e").eval()
    batch = batch_of(model)
    parts = model.loss(batch).parts
    for name in ("psnr", "psnr_on_enc", "psnr_first"):
        assert {f"{name}_context", f"{name}_forecast", f"{name}_pooled"} <= set(parts)
    frames = torch.cat([batch.context, batch.future], 1).double()
    error = (frames[:, :1] - frames[:, 1:]).square().mean((2, 3, 4))
    assert float(parts["psnr_first_context"]) == pytest.approx(float(-10 * error[:, :1].log10().mean()), rel=1e-5)
    assert float(parts["psnr_first_forecast"]) == pytest.approx(float(-10 * error[:, 1:].log10().mean()), rel=1e-5)
    assert float(parts["psnr_first_pooled"]) == pytest.approx(float(-10 * error.mean(0).log10().mean()), rel=1e-5)
    assert float(psnr(frames, frames)) == 100
    drawn = model.predict(batch.context, 3, batch.actions)[0]
    assert drawn.isfinite().all()


@pytest.mark.parametrize("mode", ["e2e", "epva", "individual", "e2e-pose", "epva-gan", "predictor"])
def test_validation_of_every_mode(mode):
    model = narrow(mode=mode).eval()
    with torch.no_grad():
        loss = model.loss(batch_of(model))
    assert loss.total.isfinite()
    assert {"van", "van_on_enc", "enc_pred"} <= set(loss.parts)


# ------------------------------------------------------------------------------------------------------ prediction


def test_the_first_frame_is_drawn_on_and_the_last_ones_are_encoded():
    model = narrow().eval()
    batch = batch_of(model, length=5)
    frames, actions = torch.cat([batch.context, batch.future], 1), batch.actions
    encodings = model.encode(frames[:, :2])
    predicted = model.roll(encodings, actions)
    assert predicted.shape == (2, 4, 12)
    drawn, masks, _ = model.draw(frames[:, :1], encodings[:, 0], predicted)
    torch.testing.assert_close(model.predict(batch.context, 3, actions)[0], drawn[:, 1:].clamp(0, 1))
    torch.testing.assert_close(model.masks(batch.context, 3, actions), masks[:, 1:])
    shown = model.masks(batch.context, 3, actions, normalise=True)
    torch.testing.assert_close(shown.amax((2, 3, 4)), torch.ones(2, 3))
    rebuilt = model.reconstruct(frames)
    assert rebuilt.shape == (2, 4, 3, 32, 32)
    torch.testing.assert_close(
        rebuilt, model.draw(frames[:, :1], encodings[:, 0], model.encode(frames[:, 1:]))[0].clamp(0, 1)
    )


def test_long_futures_are_drawn_in_pieces_that_fit_together(monkeypatch):
    model = narrow().eval()
    batch = batch_of(model)
    whole = model.predict(batch.context, 40, torch.zeros(2, 41, 5))
    monkeypatch.setattr("framecast.models.hierarchical.predictor.CHUNK", 6)
    torch.testing.assert_close(model.predict(batch.context, 40, torch.zeros(2, 41, 5)), whole, atol=1e-5, rtol=1e-5)


def test_actions_count_from_the_frame_at_which_they_are_done():
    model = narrow().eval()
    torch.nn.init.normal_(model.predictor.pre.weight, std=0.5)
    batch = batch_of(model)
    expected = model.predict(batch.context, 3, batch.actions)[0]
    other = batch.actions.clone()
    other[:, 3] += 2.0  # leads from frame 3 to frame 4, the last of the forecast
    changed = model.predict(batch.context, 3, other)[0]
    torch.testing.assert_close(changed[:, :2], expected[:, :2])
    assert not torch.allclose(changed[:, 2], expected[:, 2], atol=1e-6)
    assert torch.equal(model.predict(batch.context, 3), model.predict(batch.context, 3, torch.zeros(2, 4, 5)))


def test_data_without_actions_may_stand_as_zeros():
    still = ClipSpec(channels=3, height=32, width=32)
    assert Hierarchical(NARROW, still).predictor.pre.in_features == 17
    assert Hierarchical(replace(NARROW, blank_actions=0), still).predictor.pre.in_features == 12


def test_previews_show_reconstructions_and_masks():
    model = narrow().eval()
    rows = model.preview(batch_of(model))
    assert set(rows) == {"context", "truth", "prediction", "reconstruction", "mask"}
    assert rows["mask"].shape == rows["prediction"].shape == rows["reconstruction"].shape


def test_decoding_needs_a_frame_to_draw_on_and_encoding_frames_of_its_size():
    model = narrow()
    with pytest.raises(ValueError, match="give context"):
        model.decode(torch.zeros(1, 2, 12))
    with pytest.raises(ValueError, match="takes frames of 32x32, got 16x16"):
        model.predict(torch.zeros(1, 2, 3, 16, 16), 1)


def test_without_the_first_frame_pictures_are_made_of_the_encoding_alone():
    model = narrow(first_frame=False).eval()
    batch = batch_of(model)
    assert {name.split(".")[1] for name, _ in model.named_parameters() if name.startswith("van.")} == {
        *("structure", "decoder")
    }
    frames = torch.cat([batch.context, batch.future], 1)
    z = model.encode(frames).detach()
    drawn = model.decode(z)
    assert torch.equal(drawn, model.decode(z, batch.context))
    assert torch.equal(drawn, model.decode(z, 1 - batch.context))
    assert drawn.shape == frames.shape
    torch.testing.assert_close(model.reconstruct(frames), drawn[:, 1:].detach())  # without gradients
    future = model.predict(batch.context, 3, batch.actions)
    assert future.shape == (1, 2, 3, 3, 32, 32)
    assert bool((model.masks(batch.context, 3, batch.actions) == 1).all())
    assert reached(model, objectives.van_on_encoding_loss(model, batch)) == {"encoder": 1, "van": 1}
    with pytest.raises(UserError, match=r"model\.change_weight must be at least 0"):
        replace(NARROW, change_weight=-1.0)


def test_what_changes_may_count_more_in_the_loss_of_pixels():
    plain, weighted = narrow(), narrow(change_weight=7.0)
    batch = batch_of(plain)
    frames = torch.cat([batch.context, batch.future], 1)
    with torch.no_grad():
        z = plain.eval().encode(frames)
        drawn = plain.draw(frames[:, 0], z[:, 0], z[:, 1:])[0]
        found = [float(objectives.van_on_encoding_loss(model.eval(), batch).total) for model in (plain, weighted)]
        expected = float(change_error(drawn, frames[:, 1:], frames[:, :1], 7.0))
    assert found[1] == pytest.approx(expected, rel=1e-5)
    assert found[1] > 2 * found[0]


# ----------------------------------------------------------------------------------------------------------- settings


def test_name_epev_of_the_first_release_still_works():
    assert HierarchicalConfig(mode="epev") == HierarchicalConfig(mode="epva")
    assert HierarchicalConfig(mode="epev-gan").mode == "epva-gan"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mode": "epv"}, "model.mode must be one of e2e, epva"),
        ({"size": 40}, "multiple of 16"),
        ({"size": 16, "mode": "epva-gan"}, "multiple of 32"),
        ({"context": 0}, "model.context must be at least 1"),
        ({"encoder_keep": 0.0}, "must be a probability"),
        ({"predictor_depth": 1}, "model.predictor_depth must be at least 2"),
        ({"alpha": -1.0}, "model.alpha must be at least 0"),
        ({"critic_steps": -1}, "model.critic_steps must be at least 0"),
        ({"critic_context": 5}, "must be below the 5 frames of a clip"),
        ({"encoder_widths": ((4,), ())}, "model.encoder_widths must hold rows"),
        ({"rolled": 1}, "model.rolled must be 0 or at least 2, got 1"),
    ],
)
def test_invalid_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        replace(NARROW, **settings)


def test_invalid_learning_rates_are_refused():
    with pytest.raises(UserError, match=r"optim\.van_lr must be above 0"):
        OptimConfig(van_lr=0)
    with pytest.raises(UserError, match=r"optim\.clip must be at least 0"):
        OptimConfig(clip=-1)


def test_modes_with_poses_report_missing_arrays():
    bare = replace(ROBOT, extras={"states": (5,)})
    with pytest.raises(UserError, match="no joints per frame"):
        Hierarchical(replace(NARROW, mode="individual"), bare)
    with pytest.raises(UserError, match="as many numbers as the 12 of a pose"):
        Hierarchical(replace(NARROW, mode="individual", encoding_size=16), ROBOT)
    with pytest.raises(UserError, match="at least the 12 of a pose"):
        Hierarchical(replace(NARROW, mode="e2e-pose", encoding_size=8), ROBOT)
    assert Hierarchical(replace(NARROW, mode="e2e-pose", encoding_size=16), ROBOT)


def test_every_profile_is_made_of_its_own_settings():
    made = {name: make() for name, make in PROFILES.items()}
    assert len(set(map(repr, made.values()))) == len(made)
