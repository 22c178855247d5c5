"""The multi-scale adversarial model against the numbers of the paper and of the published code."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from framecast.core.errors import UserError
from framecast.core.schedules import Decay
from framecast.core.types import Batch, ClipSpec
from framecast.models.base import count_parameters
from framecast.models.multiscale_gan.config import (
    PROFILES,
    MultiscaleGANConfig,
    OptimConfig,
    default,
    eight,
    original,
    small,
    stable,
    tiny,
)
from framecast.models.multiscale_gan.networks import ScaleOutput
from framecast.models.multiscale_gan.predictor import MultiscaleGAN
from framecast.nn.losses import lp
from framecast.nn.scales import pyramid
from framecast.training.gradients import only

SPEC = ClipSpec(channels=3, height=32, width=32)
NARROW = {
    "generator_widths": ((2, 2, 2), (2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 2, 2, 2)),
    "discriminator_widths": ((4,), (4, 4, 4), (4, 4, 4), (4, 4, 4, 4)),
    "discriminator_hidden": ((4, 4), (4, 4), (4, 4), (4, 4)),
}


def on_meta(config, spec=SPEC):
    """The model without memory for its weights: enough for counting."""
    with torch.device("meta"):
        return MultiscaleGAN(config, spec)


def a_batch(b=4, context=4, future=1, side=32, seed=0):
    g = torch.Generator().manual_seed(seed)
    frames = torch.rand(b, context + future, 3, side, side, generator=g)
    return Batch(context=frames[:, :context], future=frames[:, context:])


def per_scale(network):
    return [sum(p.numel() for p in scale.parameters()) for scale in network.scales]


# ------------------------------------------------------------------------------------------------ counts and shapes


def test_generator_counts_of_the_paper():
    assert per_scale(on_meta(default()).generator) == [607_619, 647_939, 3_008_003, 8_306_179]
    assert count_parameters(on_meta(default()))["generator"] == 12_569_740
    assert count_parameters(on_meta(original()))["generator"] == 12_569_740


@pytest.mark.parametrize(
    ("conditioned", "pool", "scales"),
    [
        (False, "every", [166_657, 880_641, 4_042_753, 11_785_601]),
        (True, "every", [173_569, 887_553, 4_081_153, 11_860_865]),
        (True, "finest", [271_873, 1_280_769, 7_226_881, 11_860_865]),
    ],
)
def test_discriminator_counts(conditioned, pool, scales):
    model = on_meta(MultiscaleGANConfig(conditioned=conditioned, pool=pool))
    assert per_scale(model.discriminator) == scales


@pytest.mark.parametrize(
    ("profile", "counts"),
    [
        ("default", {"generator": 12_569_740, "discriminator": 20_640_388}),
        ("original", {"generator": 12_569_740, "discriminator": 16_875_652}),
        ("small", {"generator": 225_376, "discriminator": 2_128_548}),
        ("stable", {"generator": 227_104}),
        ("eight", {"generator": 40_456 + 56_200 + 371_448 + 818_040, "discriminator": 2_601_316}),
    ],
)
def test_profile_counts(profile, counts):
    assert count_parameters(on_meta(PROFILES[profile]())) == counts


def test_counts_of_the_networks_of_the_papers_script_and_of_gates_and_noise_level_beside_them():
    assert per_scale(on_meta(replace(small(), output="frame")).generator) == [11_443, 16_483, 53_443, 142_275]
    assert per_scale(on_meta(small()).generator) == [11_588, 16_884, 53_844, 143_060]
    gates, level = (9 + 25 + 25 + 49) * 16 + 4, (9 + 25 + 25 + 49) * 16
    assert sum(per_scale(on_meta(stable()).generator)) == 223_644 + gates + level == 227_104


def test_counts_of_the_model_with_eight_outputs():
    assert per_scale(on_meta(eight()).generator) == [40_456, 56_200, 371_448, 818_040]


def test_larger_patch_grows_the_first_fully_connected_layer_only():
    model = on_meta(MultiscaleGANConfig(patch=64))
    first = next(layer for layer in model.discriminator.scales[-1] if isinstance(layer, nn.Linear))
    assert first.in_features == 22 * 22 * 128 == 61_952
    assert count_parameters(model)["generator"] == 12_569_740


def test_outputs_at_every_scale_of_training_and_full_frames():
    model = MultiscaleGAN(replace(default(), **NARROW), SPEC)
    for b, h, w, sizes in (
        (8, 32, 32, [(4, 4), (8, 8), (16, 16), (32, 32)]),
        (1, 210, 160, [(26, 20), (52, 40), (105, 80), (210, 160)]),
        (1, 211, 163, [(26, 20), (52, 40), (105, 81), (211, 163)]),
    ):
        outputs = [x.frame for x in model.generator(pyramid(torch.rand(b, 12, h, w) * 2 - 1, 4))]
        assert [tuple(x.shape) for x in outputs] == [(b, 3, *size) for size in sizes]
        assert all(x.abs().max() < 1 for x in outputs)


def test_generator_can_be_counted_and_run_at_any_channel_count():
    spec = ClipSpec(channels=1, height=32, width=32)
    model = MultiscaleGAN(tiny(), spec)
    frames = torch.rand(2, 5, 1, 32, 32)
    for phase in model.phases():
        assert phase.loss(Batch(context=frames[:, :4], future=frames[:, 4:]), 0).total.isfinite()
    assert model.predict(frames, 3).shape == (1, 2, 3, 1, 32, 32)


def test_single_scale_is_the_finest_network_without_a_guess():
    model = on_meta(MultiscaleGANConfig(num_scales=1))
    assert per_scale(model.generator) == [8_306_179 - 3 * 128 * 49]
    assert per_scale(model.discriminator) == [11_860_865]


def test_residual_adds_the_enlarged_guess_before_tanh():
    config = replace(tiny(), num_scales=2)
    guess, context = torch.rand(1, 3, 8, 8) - 0.5, torch.rand(1, 12, 8, 8)
    for residual in (True, False):
        torch.manual_seed(0)
        scale = MultiscaleGAN(replace(config, residual=residual, tanh="plain"), SPEC).generator.scales[-1]
        bare = scale.layers(torch.cat([context, guess], 1))
        expected = torch.tanh(bare + guess) if residual else torch.tanh(bare)
        torch.testing.assert_close(scale(context, guess, context[:, -3:]).frame, expected)


def test_network_of_changes_starts_from_copying_and_learns():
    config = replace(tiny(), output="change", generator_slope=0.1, future=2)
    model, batch = MultiscaleGAN(config, SPEC), a_batch(future=2)
    last = batch.context[:, -1:]
    assert torch.allclose(model.predict(batch.context, 2)[0], last.expand(-1, 2, -1, -1, -1), atol=1e-6)
    model.loss(batch).total.backward()
    for scale in model.generator.scales:  # what was zero must be able to leave zero
        assert all(p.grad.abs().max() > 0 for p in list(scale.parameters())[-2:])


def test_clips_are_augmented_in_training_only():
    torch.manual_seed(0)
    model, batch = MultiscaleGAN(replace(tiny(), augment=True), SPEC), a_batch(b=16)
    losses = {model.loss(batch).total.item() for _ in range(3)}
    assert len(losses) == 3
    model.eval()
    assert model.loss(batch).total == model.loss(batch).total


def test_predicted_changes_stay_in_the_image_range():
    model = MultiscaleGAN(replace(tiny(), output="change"), SPEC)
    for scale in model.generator.scales:
        nn.init.constant_(scale.layers[-1].bias, 8.0)
    carry, frame = model.rollout_step(model.rollout_init(a_batch().context))
    assert frame.max() == 1.0
    assert carry["window"].max() <= 1.0


def test_fully_convolutional_crop_of_the_output_is_output_of_the_crop():
    torch.manual_seed(1)
    model = MultiscaleGAN(replace(default(), adversarial=False, **NARROW), SPEC)
    large = torch.rand(1, 4, 3, 256, 256)
    whole = model.predict(large, 1)[0, 0, 0]
    crop = model.predict(large[..., 16:240, 24:248], 1)[0, 0, 0]
    inside = slice(100, 124)  # further from the crop's border than the pyramid sees
    torch.testing.assert_close(whole[:, 16:240, 24:248][:, inside, inside], crop[:, inside, inside])
    assert not torch.allclose(whole[:, 16:240, 24:248], crop)  # the border does differ


# ------------------------------------------------------------------------------------------------------- recursion


def test_64_recursions_on_a_full_frame():
    model = MultiscaleGAN(replace(default(), adversarial=False, **NARROW), SPEC)
    prediction = model.predict(torch.rand(1, 4, 3, 210, 160), 64)
    assert prediction.shape == (1, 1, 64, 3, 210, 160)
    assert prediction.min() >= 0
    assert prediction.max() <= 1


@pytest.mark.parametrize("config", [tiny(), replace(tiny(), context=8, future=8), replace(tiny(), context=2, future=3)])
def test_every_block_depends_on_the_last_window_alone(config):
    torch.manual_seed(2)
    model, n, f = MultiscaleGAN(config, SPEC), config.context, config.future
    frames = torch.rand(1, n + 1, 3, 16, 16)
    prediction = model.predict(frames, 64)[0]
    other = frames.clone()
    other[:, 0] = torch.rand(3, 16, 16)
    assert torch.equal(model.predict(other, 64)[0], prediction)  # the frame before the window does not matter
    other[:, 1] = torch.rand(3, 16, 16)
    assert not torch.equal(model.predict(other, 1)[0], prediction[:, :1])  # the first of the window does
    seen = torch.cat([frames, prediction], 1)
    for k in (1, 2, 7):  # each restart sees the window as it stood after k blocks
        again = model.predict(seen[:, : n + 1 + k * f], f)[0]
        torch.testing.assert_close(again, prediction[:, k * f : (k + 1) * f], atol=1e-4, rtol=1e-4)


def test_frame_by_frame_equals_predict_across_blocks():
    model = MultiscaleGAN(replace(tiny(), context=4, future=3), SPEC)
    context = torch.rand(2, 4, 3, 24, 16)
    carry = model.rollout_init(context, samples=2)
    frames = []
    for _ in range(8):
        carry, frame = model.rollout_step(carry)
        assert all(len(value) == 4 for value in carry.values())  # (s b)
        frames.append(frame)
    assert torch.equal(torch.stack(frames, 1)[:2], model.predict(context, 8)[0])


def test_frames_too_small_for_the_pyramid():
    with pytest.raises(UserError, match="too small for 4 scales"):
        MultiscaleGAN(tiny(), SPEC).predict(torch.rand(1, 4, 3, 3, 3), 1)


# ----------------------------------------------------------------------------------------------------------- losses


def with_answers(config, error=None, logit=None, b=8):
    """A model whose generator is off by `error` (in -1…1) and whose discriminators answer `logit`; a grey batch."""
    model = MultiscaleGAN(config, SPEC)
    batch = Batch(context=torch.full((b, 4, 3, 32, 32), 0.5), future=torch.full((b, 1, 3, 32, 32), 0.5))
    if error is not None:
        wrong = [torch.full((b, 3, side, side), error) for side in (4, 8, 16, 32)]
        model.generator.forward = lambda contexts, level: [ScaleOutput(x, x, torch.ones(())) for x in wrong]
    if logit is not None:
        for scale in model.discriminator.scales:
            scale[-1].weight.data.zero_()
            scale[-1].bias.data.fill_(logit)
    return model, batch


def test_original_profile_sums_squares_and_averages_scales():
    sums = [lp(torch.full((8, 3, side, side), 0.1), torch.zeros(8, 3, side, side), 2, "sum") for side in (4, 8, 16, 32)]
    assert [x.item() for x in sums] == pytest.approx([3.84, 15.36, 61.44, 245.76])
    model, batch = with_answers(replace(original(), **NARROW), error=0.1)
    assert model.generator_loss(batch).parts["lp"].item() == pytest.approx(81.6)


def test_default_profile_means():
    model, batch = with_answers(replace(default(), **NARROW), error=0.1)
    parts = model.generator_loss(batch).parts
    assert parts["lp"].item() == pytest.approx(0.1)
    assert parts["gdl"].item() == pytest.approx(0, abs=1e-6)


def test_original_discriminator_loss_at_undecided_scores():
    model, batch = with_answers(replace(original(), **NARROW), logit=0.0)
    assert model.discriminator_loss(batch).total.item() == pytest.approx(16 * math.log10(2), abs=1e-4)
    assert model.discriminator_loss(batch).total.item() == pytest.approx(4.8165, abs=1e-4)
    assert model.generator_loss(batch).parts["adversarial"].item() == pytest.approx(2.408, abs=1e-3)


def test_natural_logarithm_of_undecided_scores():
    model, batch = with_answers(replace(original(), log_base="e", **NARROW), logit=0.0)
    assert model.discriminator_loss(batch).total.item() == pytest.approx(11.090, abs=1e-3)


@pytest.mark.parametrize(("logit", "least", "most"), [(50.0, 0.366, 8.0), (-50.0, 8.0, 0.366)])
def test_range_of_the_original_adversarial_terms(logit, least, most):
    model, batch = with_answers(replace(original(), **NARROW), logit=logit)
    assert model.generator_loss(batch).parts["adversarial"].item() == pytest.approx(least, abs=1e-3)
    parts = model.discriminator_loss(batch).parts
    assert parts["real"].item() == pytest.approx(least, abs=1e-3)
    assert parts["fake"].item() == pytest.approx(most, abs=1e-3)


def test_extremes_of_the_original_discriminator_loss():
    model, batch = with_answers(replace(original(), **NARROW), logit=0.0)
    for right, total in ((True, 0.7321), (False, 16.0)):
        sign = 50.0 if right else -50.0
        model.discriminator.forward = lambda patches, sign=sign: [
            torch.cat([torch.full((8, 1), sign), torch.full((8, 1), -sign)]) for _ in patches
        ]
        assert model.discriminator_loss(batch).total.item() == pytest.approx(total, abs=1e-3)


def test_default_discriminator_loss_sums_scales_of_means():
    model, batch = with_answers(replace(default(), **NARROW), logit=0.0)
    assert model.discriminator_loss(batch).total.item() == pytest.approx(4 * 2 * math.log(2), rel=1e-5)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_weighted_parts_add_up_to_the_total(profile):
    config = replace(PROFILES[profile](), patch=32)
    config = config if profile in ("eight", "tiny") else replace(config, **NARROW)
    model = MultiscaleGAN(config, SPEC)
    loss = model.loss(a_batch(2, config.context, config.future * config.recursion))
    weights = {"lp": config.lp_weight, "gdl": config.gdl_weight, "adversarial": config.adversarial_weight}
    weights |= {"new": config.new_weight, "gate": config.gate_weight}
    total = sum(weights[name] * part for name, part in loss.parts.items())
    torch.testing.assert_close(loss.total.detach(), total)
    assert not any(part.requires_grad for part in loss.parts.values())


def test_discriminator_sees_the_context_where_it_is_conditioned():
    batch, other = a_batch(), a_batch(seed=1)
    other.future = batch.future
    for conditioned in (True, False):
        torch.manual_seed(0)
        model = MultiscaleGAN(replace(tiny(), conditioned=conditioned), SPEC)
        real = [model.discriminator_loss(x).parts["real"] for x in (batch, other)]
        assert torch.equal(*real) is not conditioned


def test_extra_pairs_judge_another_clips_context():
    config = replace(tiny(), extra_pairs=True)
    torch.manual_seed(0)
    model = MultiscaleGAN(config, SPEC)
    loss = model.discriminator_loss(a_batch())
    assert set(loss.parts) == {"real", "fake", "other"}
    expected = 2 * loss.parts["real"] + loss.parts["fake"] + loss.parts["other"]
    torch.testing.assert_close(loss.total.detach(), expected)
    with pytest.raises(UserError, match="at least 2 clips"):
        model.discriminator_loss(a_batch(1))


def test_frames_the_discriminator_was_not_built_for():
    model = MultiscaleGAN(tiny(), SPEC)
    with pytest.raises(UserError, match="takes patches of 32x32, got frames of 48x48"):
        model.generator_loss(a_batch(1, side=48))
    assert set(model.loss(a_batch(1, side=48)).parts) == {"lp", "gdl"}


# -------------------------------------------------------------------------------------------------------- gradients


def adversarial_gradients(model, batch):
    model.zero_grad()
    phase = next(p for p in model.phases() if p.name == "generator")
    with only(model, phase):
        phase.loss(batch, 0).total.backward()
    return [torch.cat([p.grad.flatten() for p in scale.parameters()]) for scale in model.generator.scales]


def test_adversarial_term_alone_moves_every_scale_of_the_generator():
    torch.manual_seed(0)
    model = MultiscaleGAN(replace(default(), lp_weight=0, gdl_weight=0, **NARROW), SPEC)
    assert all(gradient.abs().max() > 0 for gradient in adversarial_gradients(model, a_batch()))
    assert all(p.grad is None for p in model.discriminator.parameters())


def test_discriminator_step_does_not_change_the_generator():
    model = MultiscaleGAN(tiny(), SPEC)
    phase = model.phases()[0]
    with only(model, phase):
        phase.loss(a_batch(), 0).total.backward()
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(p.grad is not None for p in model.discriminator.parameters())


def test_original_profile_has_no_adversarial_gradient():
    batch, gradients = a_batch(), []
    for weight in (1.0, 0.0):
        torch.manual_seed(0)
        model = MultiscaleGAN(replace(original(), adversarial_weight=weight, **NARROW), SPEC)
        gradients.append(torch.cat(adversarial_gradients(model, batch)))
    assert torch.equal(*gradients)


def test_weight_zero_and_plain_runs_are_identical():
    """Three steps of each, with the same batches for the generator."""
    trained = []
    for change in ({"adversarial_weight": 0.0}, {"adversarial": False}):
        torch.manual_seed(5)
        model = MultiscaleGAN(replace(tiny(), **change), SPEC)
        optimisers = {
            phase.name: torch.optim.Adam(model.get_submodule(phase.modules[0]).parameters(), lr=1e-3)
            for phase in model.phases()
        }
        for step in range(3):
            for phase in model.phases():
                batch = a_batch(seed=step + (100 if phase.stream == "discriminator" else 0))
                with only(model, phase):
                    phase.loss(batch, step).total.backward()
                optimisers[phase.name].step()
                model.zero_grad()
        trained.append(torch.cat([p.detach().flatten() for p in model.generator.parameters()]))
    assert torch.equal(*trained)


# ------------------------------------------------------------------------------------------- phases, preview, config


def test_phases_and_streams():
    discriminator, generator = MultiscaleGAN(tiny(), SPEC).phases()
    assert (discriminator.name, discriminator.modules, discriminator.stream) == (
        "discriminator",
        ("discriminator",),
        "discriminator",
    )
    assert (generator.name, generator.modules, generator.stream) == ("generator", ("generator",), "main")
    assert [p.name for p in MultiscaleGAN(replace(tiny(), adversarial=False), SPEC).phases()] == ["generator"]


def test_optimisers_of_the_profiles():
    d, g = (p.optimiser for p in on_meta(default()).phases())
    assert (g.kind, g.rate(0), d.kind, d.rate(0)) == ("adam", 4e-5, "adam", 2e-5)
    d, g = (p.optimiser for p in on_meta(original()).phases())
    assert (g.kind, g.rate(0), d.kind, d.rate(0), d.momentum) == ("adam", 4e-5, "sgd", 0.02, 0.0)


def test_rate_of_the_paper_falls_linearly():
    optim = OptimConfig(generator="sgd", generator_lr=0.04, generator_final_lr=0.005, decay_steps=100)
    rate = optim.optimiser("generator").rate
    assert [rate(0), rate(50), rate(100), rate(1000)] == pytest.approx([0.04, 0.0225, 0.005, 0.005])
    assert optim.optimiser("generator").lr == Decay(0.04, 0.005, 100)


def test_request_of_the_published_clips():
    request = MultiscaleGAN.request(default())
    assert (request.context, request.future, request.stride, request.crop) == (4, 1, 1, (32, 32))
    motion = request.motion_filter
    assert (motion.threshold, motion.bypass, motion.tries) == (100, 0.05, 100)
    assert MultiscaleGAN.request(replace(default(), motion_threshold=None)).motion_filter is None
    assert MultiscaleGAN.request(eight()).future == 8


def test_preview_shows_every_scale():
    model = MultiscaleGAN(tiny(), SPEC)
    batch = a_batch()
    images = model.preview(batch)
    coarse = {f"scale{k}_{kind}" for k in range(3) for kind in ("prediction", "truth")}
    assert set(images) == {"context", "truth", "prediction", *coarse}
    for k, side in enumerate((4, 8, 16)):
        for kind in ("prediction", "truth"):
            image = images[f"scale{k}_{kind}"]
            assert image.shape == (4, 1, 3, side, side)
            assert 0 <= image.min() <= image.max() <= 1
    torch.testing.assert_close(images["truth"], batch.future)
    torch.testing.assert_close(images["prediction"], model.predict(batch.context, 1)[0])


def test_truncated_start_as_published():
    model = MultiscaleGAN(replace(original(), **NARROW), SPEC)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert all(layer.weight.abs().max() <= 0.02 and (layer.bias == 0.1).all() for layer in layers)


@pytest.mark.parametrize("residual", [False, True])
def test_every_scale_begins_with_the_mean_colour(residual):
    model = MultiscaleGAN(replace(small(), output="frame", residual=residual, future=2), SPEC)
    whole = a_batch(2, future=2)
    batch = replace(whole, context=whole.context * 0.3, future=whole.future * 0.3)
    with torch.no_grad():
        model.initialize_from_batch(batch)
        for scale in model.generator.scales:
            scale.layers[-1].weight.zero_()
    mean = torch.cat([batch.context, batch.future], 1).mean((0, 1, 3, 4)).view(1, 1, 3, 1, 1)
    torch.testing.assert_close(model.predict(batch.context, 2)[0], mean.expand(2, 2, 3, 32, 32), atol=1e-4, rtol=0)
    published = MultiscaleGAN(replace(original(), **NARROW), SPEC)
    published.initialize_from_batch(batch)
    assert all((scale.layers[-1].bias == 0.1).all() for scale in published.generator.scales)


def test_a_dark_scene_does_not_saturate_the_scaled_tanh():
    """Bright dots on black: with plain tanh every output soon is -1 and no gradient is left; scaled, it learns."""
    dots = torch.zeros(1, 5, 3, 32, 32)
    dots[..., 2::4, 2::4] = 1
    batch = Batch(context=dots[:, :4], future=dots[:, 4:])
    errors = {}
    for changes in ({"tanh": "plain", "start_at_mean": False}, {}):
        torch.manual_seed(0)
        model = MultiscaleGAN(replace(small(), output="frame", adversarial=False, **changes), SPEC)
        with torch.no_grad():
            model.initialize_from_batch(batch)
        adam = torch.optim.Adam(model.parameters(), lr=1.5e-3)
        for _ in range(30):
            adam.zero_grad()
            model.phases()[0].loss(batch, 0).total.backward()
            adam.step()
        with torch.no_grad():
            errors[model.config.tanh] = (model.predict(batch.context, 1)[0] - batch.future).square().mean().item()
    assert errors["plain"] == pytest.approx(1 / 16, rel=1e-3)  # black everywhere
    assert errors["scaled"] < 1 / 64


def test_mixed_precision_keeps_losses_and_frames_in_float32():
    model, batch = MultiscaleGAN(replace(stable(), adversarial=True), SPEC), a_batch(2, future=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = [phase.loss(batch, 0) for phase in model.phases()]
        prediction = model.predict(batch.context, 2)
    assert all(loss.total.dtype == torch.float32 for loss in losses)
    assert prediction.dtype == torch.float32
    torch.testing.assert_close(prediction, model.predict(batch.context, 2), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"context": 0}, "model.context must be at least 1"),
        ({"future": 0}, "model.future must be at least 1"),
        ({"lp_weight": -1.0}, "model.lp_weight must be at least 0"),
        ({"gdl_exponent": 0.5}, "model.gdl_exponent must be at least 1"),
        ({"lp_exponent": 0.5}, "model.lp_exponent must be at least 1"),
        ({"probability_clip": 0.5}, "model.probability_clip must be below 0.5"),
        ({"leaky_slope": 2.0}, "model.leaky_slope must lie in 0…1"),
        ({"pool": "none"}, "model.pool must be one of finest, every"),
        ({"num_scales": 5}, "has 4 rows for 5 scales"),
        ({"generator_widths": ((8,),) * 4}, "4 kernels for 1 widths; expected 2"),
        ({"generator_kernels": ((2, 3, 3, 3),) * 4}, "kernels"),
        ({"discriminator_kernels": ((3,),) * 4}, "1 kernels for 3 widths"),
        ({"patch": 4}, "too small for 4 scales"),
        ({"extra_pairs": True, "conditioned": False}, "use model.conditioned"),
        ({"output": "change"}, "use --model.no-residual"),
        ({"generator_slope": -0.1}, "model.generator_slope must lie in 0…1"),
        ({"lp_weight": 0.0, "gdl_weight": 0.0, "adversarial": False}, "no loss is left"),
    ],
)
def test_config_is_checked_in_sentences(change, sentence):
    with pytest.raises(UserError, match=sentence):
        MultiscaleGANConfig(**change)


def test_even_kernels_are_refused():
    with pytest.raises(UserError, match="must be odd"):
        replace(tiny(), generator_kernels=((3, 4), (3, 3), (3, 3), (5, 3, 3)))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"generator": "lion"}, "optim.generator must be one of adam, radam, sgd"),
        ({"generator_lr": 0.0}, "optim.generator_lr must be above 0"),
        ({"betas": (0.9, 1.0)}, "optim.betas"),
        ({"momentum": 1.0}, "optim.momentum"),
        ({"generator_final_lr": 0.005, "decay_steps": -1}, "optim.decay_steps must be at least 0"),
        ({"generator_clip": 0.0}, "optim.generator_clip must be above 0"),
    ],
)
def test_optimiser_config_is_checked_in_sentences(change, sentence):
    with pytest.raises(UserError, match=sentence):
        OptimConfig(**change)


def test_discriminator_that_does_not_fit_its_patch():
    with pytest.raises(UserError, match="do not fit its 2x2 patch"):
        MultiscaleGAN(replace(tiny(), patch=16), SPEC)
