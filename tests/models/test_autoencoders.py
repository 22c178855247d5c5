"""The fourteen: published counts and sizes, losses in figures, whose weights each term moves, blocks of a forecast."""

import json
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from cli_support import store
from small_models import CPU

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipSpec
from framecast.evaluation.evaluate import evaluate
from framecast.models.autoencoders.config import PROFILES, VARIANTS, AutoencoderConfig
from framecast.models.autoencoders.networks import kl_sampled, reconstruction, shares
from framecast.models.autoencoders.predictor import Autoencoder
from framecast.models.base import count_parameters
from framecast.models.latent import LatentModel
from framecast.nn.losses import bce
from framecast.nn.mixture import gaussian_kl
from framecast.reporting.figure import draw_model
from framecast.training.gradients import only
from framecast.training.state import TrainState, phase_parameters
from framecast.training.step import train_step
from framecast.training.train import train

RESIZED, NATIVE = ClipSpec(channels=3, height=160, width=210), ClipSpec(channels=3, height=210, width=160)
SQUARE = ClipSpec(channels=3, height=32, width=32)

#: Parameters and running statistics, as Keras counts them; one discriminator a domain.
TOTALS = {
    **{"c-ae": 895_587, "c-vae": 1_136_883, "fc-ae": 19_759_587, "fc-vae": 33_367_572},
    **{"c-ga-ae": 1_136_914, "fc-ga-ae": 33_367_603, "c-gia-ae": 1_892_006, "fc-gia-ae": 36_594_596},
    **{"c-ia-ae": 1_650_679, "fc-ia-ae": 21_474_355, "c-lstm-ae": 8_946_393, "c-lstm-vae": 11_376_903},
    **{"c-td-ae": 8_902_707, "c-td-vae": 11_292_123},
}
MEMORY = [name for name, config in VARIANTS.items() if config.memory != "none"]

each = pytest.mark.parametrize("name", VARIANTS)
#: Names that together have every value of every choice; see tests/test_models_contract.py.
KINDS = ("fc-vae", "fc-ga-ae", "c-ia-ae", "c-gia-ae", "c-lstm-vae", "c-td-ae")
each_kind = pytest.mark.parametrize("name", KINDS)
each_adversary = pytest.mark.parametrize("name", ["fc-ga-ae", "c-ia-ae", "c-gia-ae"])


def build(name, profile="tiny", spec=SQUARE, device="cpu", **changes):
    torch.manual_seed(0)
    with torch.device(device):
        return Autoencoder(replace(PROFILES[profile](name), **changes), spec)


def batch_for(model, b=2, seed=0, device="cpu"):
    """Random frames in the model's own window."""
    request, spec = model.request(model.config), model.spec
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(b, request.length, spec.channels, spec.height, spec.width, generator=g).to(device)
    first = request.future_start
    return Batch(context=x[:, : request.context], future=x[:, first : first + request.future])


# ---------------------------------------------------------------------------------------------- counts and sizes


def test_there_are_fourteen_variants():
    assert len(VARIANTS) == 14
    assert VARIANTS.keys() == TOTALS.keys()


@each
@pytest.mark.parametrize(("profile", "spec"), [("original", RESIZED), ("original", NATIVE)])
def test_published_totals_at_both_orientations(name, profile, spec):
    geometry = "resized" if spec is RESIZED else "native"
    model = build(name, profile, spec, "meta", geometry=geometry)
    assert model.count(model) == TOTALS[name]
    assert sum(count_parameters(model).values()) == TOTALS[name]


def test_parts_have_the_published_sizes():
    def parts(name):
        return count_parameters(build(name, "original", RESIZED, "meta"))

    assert parts("c-ae") == {"encoder": 241_296, "decoder": 654_291}
    assert parts("c-vae") == {"mean_encoder": 241_296, "logvar_encoder": 241_296, "decoder": 654_291}
    assert parts("fc-ae") == {"encoder": 15_120_450, "decoder": 4_639_137}
    assert parts("fc-gia-ae")["encoder"] == 15_120_210
    assert parts("fc-vae")["decoder"] == 3_126_672
    assert parts("c-lstm-ae") == {"encoder": 2_430_510, "decoder": 6_515_883}
    assert parts("c-td-ae") == {"encoder": 2_389_416, "decoder": 6_513_291}
    assert parts("c-gia-ae")["image_discriminator"] == 241_327
    assert parts("c-gia-ae")["latent_discriminator"] == 755_092
    assert parts("fc-ia-ae")["latent_discriminator"] == 3_227_473


def test_normalised_channels_have_two_untrained_statistics():
    model = build("c-ae", "original", RESIZED, "meta")
    assert sum(p.numel() for p in model.parameters()) == 895_521


@each
def test_default_has_no_output_tail_and_a_small_latent_discriminator(name):
    model = build(name, "default", NATIVE, "meta")
    kinds = {type(m).__name__ for m in model.decoder.modules()}
    assert not kinds & {"BatchNorm2d", "Dropout"}
    if hasattr(model, "latent_discriminator"):
        widths = [(m.in_features, m.out_features) for m in model.latent_discriminator.modules() if hasattr(m, "bias")]
        assert widths == [(30, 128), (128, 128), (128, 1)]


@each_kind
@pytest.mark.parametrize("spec", [RESIZED, NATIVE])
def test_shapes_at_full_size(name, spec):
    """Codes, feature maps and outputs, for a hundred frames or ten clips; nothing is computed on the meta device."""
    geometry = "resized" if spec is RESIZED else "native"
    model = build(name, "original", spec, "meta", geometry=geometry).eval()
    seen = []
    for m in model.modules():
        if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d) and m.kernel_size == (3, 3):
            m.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[-2:])))
    frames = torch.rand(10, 10, 3, spec.height, spec.width, device="meta")
    latents = model.encode(frames)
    assert latents.shape == ((10, 1, 30) if name in MEMORY else (10, 10, 30))
    assert model(frames).shape == frames.shape
    if model.config.trunk == "conv":
        sizes = [(79, 104), (39, 34), (80, 105), (160, 210)]
        sizes = sizes if spec is RESIZED else [(w, h) for h, w in sizes]
        assert set(seen) == set(sizes)
        assert model.decoder.shape[1:] == ((40, 35) if spec is RESIZED else (35, 40))


@pytest.mark.parametrize(("height", "width"), [(84, 64), (126, 96), (42, 32), (24, 16)])
def test_other_sizes_are_computed(height, width):
    spec = ClipSpec(channels=1, height=height, width=width)
    for name in ("c-ae", "fc-ae", "c-lstm-ae", "c-td-vae"):
        model = build(name, "default", spec, "meta").eval()
        assert model(torch.rand(1, 10, 1, height, width, device="meta")).shape == (1, 10, 1, height, width)


def test_sizes_that_the_strides_do_not_divide_are_rejected():
    with pytest.raises(UserError, match=r"frames of 105x80 cannot be generated.*6 down.*--size 10[28]x80"):
        build("c-ae", "default", ClipSpec(channels=3, height=105, width=80))
    with pytest.raises(UserError, match="frames of 8x8 cannot be generated"):
        build("c-ae", "default", ClipSpec(channels=3, height=8, width=8))
    assert build("fc-ae", "default", ClipSpec(channels=3, height=9, width=7)).decoder.shape == (3, 9, 7)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trunk": "cnov"}, "trunk must be one of conv, dense"),
        ({"latent": 0}, "latent must be at least 1"),
        ({"beta": -1.0}, "beta must be at least 0"),
        ({"generator_weight": 1.0}, "generator_weight must lie in 0…1"),
        ({"memory": "lstm", "episode": 4}, "episode must be at least model.shift"),
        ({"memory": "lstm", "trunk": "dense"}, "use model.trunk conv"),
        ({"memory": "time", "adversary": "image"}, "use model.memory none"),
        ({"strides": ((4, 2), (2, 2))}, "strides must hold 1, 2 or 3"),
        ({"widths": (0, 6)}, "widths must hold numbers of at least 1"),
    ],
)
def test_invalid_settings_are_rejected(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        AutoencoderConfig(**changes)


@each
def test_figures_in_the_documentation_are_of_the_built_model(name):
    drawn = draw_model(build(name, "default", NATIVE, "meta"), NATIVE, name)
    text = [node.text for node in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert name in text
    assert "30" in text  # the code
    folder = Path(__file__).parents[2] / "docs" / "models" / "autoencoders"
    assert (folder / f"{name}.svg").read_text(encoding="utf-8") == drawn, (
        f"draw it again: framecast models {name} --figure docs/models/autoencoders/{name}.svg"
    )


# -------------------------------------------------------------------------------------------------------- losses


def frames_of(value, shape=(1, 1, 3, 160, 210)):
    return torch.full(shape, float(value), dtype=torch.float64)


@pytest.mark.parametrize(
    ("value", "each_value", "each_frame"),
    [(1.0, 0.693132, 69_867.7), (0.0, 0.693132, 69_867.7), (0.25, 0.130812, 13_185.9), (0.5, 0.0, 0.0)],
)
def test_reconstruction_in_figures(value, each_value, each_frame):
    logits, target = frames_of(0), frames_of(value)
    assert float(reconstruction(logits, target)) == pytest.approx(each_value, abs=1e-6)
    assert float(reconstruction(logits, target, "sum")) == pytest.approx(each_frame, abs=0.05)
    assert float(reconstruction(logits, target, "published")) == pytest.approx(each_frame, abs=0.05)


def test_published_reconstruction_of_clips_averages_over_channels():
    shape = (2, 10, 3, 160, 210)
    found = float(reconstruction(frames_of(0, shape), frames_of(1, shape), "published"))
    assert found == pytest.approx(232_892.5, abs=0.5)
    assert float(reconstruction(frames_of(0, shape), frames_of(1, shape), "sum")) == pytest.approx(3 * found)


def test_reconstruction_against_a_loop():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(2, 1, 3, 4, 5)), rng.random((2, 1, 3, 4, 5))
    total = 0.0
    for l, x in zip(logits.ravel(), target.ravel(), strict=True):  # noqa: E741
        q, p = 1 / (1 + math.exp(-l)), min(max(x, 1e-6), 1 - 1e-6)
        total += -x * math.log(q) - (1 - x) * math.log(1 - q) + p * math.log(p) + (1 - p) * math.log(1 - p)
    found = reconstruction(torch.from_numpy(logits), torch.from_numpy(target), "sum")
    assert float(found) == pytest.approx(total / 2, rel=1e-9)


def test_kl_in_figures():
    zero, one, eps = torch.zeros(4, 30), torch.ones(4, 30), torch.randn(4, 30)
    assert float(kl_sampled(eps, zero, zero)) == 0
    assert float(gaussian_kl(zero, zero).sum(1).mean()) == 0
    assert float(kl_sampled(one, one, zero)) == pytest.approx(0.5)
    assert float(gaussian_kl(one, zero).sum(1).mean()) == pytest.approx(15)


def test_the_sampled_kl_has_the_closed_one_as_its_mean():
    torch.manual_seed(0)
    mean, logvar = torch.randn(1, 6).double(), torch.randn(1, 6).double()
    z = mean + (logvar / 2).exp() * torch.randn(200_000, 6).double()
    found = kl_sampled(z, mean.expand_as(z), logvar.expand_as(z))
    assert float(6 * found) == pytest.approx(float(gaussian_kl(mean, logvar).sum(1).mean()), rel=0.01)


def test_adversarial_terms_and_weights_in_figures():
    logit = torch.zeros(100, 1)
    real, fake, fool = 0.5 * bce(logit, 1.0), 0.5 * bce(logit, 0.0), bce(logit, 1.0)
    assert [round(float(v), 5) for v in (real, fake, fool)] == [0.34657, 0.34657, 0.69315]
    for adversary, terms in (("image", 1), ("latent", 1), ("both", 2)):
        share = shares(AutoencoderConfig(adversary=adversary))
        assert share["reconstruction"] == pytest.approx(0.8991)
        assert share["generator"] * terms == pytest.approx(0.0999)
        assert share["discriminator"] * 2 * terms == pytest.approx(0.001)
        joint = terms * (share["generator"] * fool + share["discriminator"] * (real + fake))
        assert float(joint) == pytest.approx(0.069592, abs=1e-6)


@each_adversary
def test_totals_are_the_weighted_parts(name):
    model = build(name).eval()
    batch, share = batch_for(model), shares(model.config)
    fool = model.generator_loss(batch)
    judged = [v for k, v in fool.parts.items() if k.endswith("_generator")]
    expected = share["reconstruction"] * fool.parts["reconstruction"] + share["generator"] * sum(judged)
    torch.testing.assert_close(fool.total, expected)
    torch.manual_seed(0)
    judge = model.discriminator_loss(batch)
    torch.testing.assert_close(judge.total, sum(judge.parts.values()))


@pytest.mark.parametrize("kl", ["elbo", "published"])
def test_kl_is_on_the_scale_of_the_reconstruction(kl):
    model = build("c-vae", kl=kl, beta=2.0, reduction="mean" if kl == "elbo" else "published").eval()
    loss = model.loss(batch_for(model))
    weight = 2.0 / (3 * 32 * 32) if kl == "elbo" else 2.0
    torch.testing.assert_close(loss.total, loss.parts["reconstruction"] + weight * loss.parts["kl"])


def test_published_activity_regularisation_equals_a_loop():
    model = build("c-ae", activity=1e-3).eval()
    batch = batch_for(model)
    with torch.no_grad():
        loss = model.loss(batch)
    z = model.encode(batch.context)
    logits = model.decoder(z.flatten(0, 1))
    size = 2 * model.config.episode
    penalty = sum(float(x.abs().sum() + x.square().sum()) for x in (z.detach(), logits.detach())) / size
    assert float(loss.parts["activity"]) == pytest.approx(penalty, rel=1e-4)
    assert float(loss.total) == pytest.approx(float(loss.parts["reconstruction"]) + 1e-3 * penalty, rel=1e-4)


# --------------------------------------------------------------------------------------------------- whose gradient


def gradient(model, part):
    return max(float(p.grad.abs().max()) if p.grad is not None else 0.0 for p in model.get_submodule(part).parameters())


@each_adversary
def test_generator_terms_reach_only_their_own_domain(name):
    """GA: encoder and decoder; IA: the encoder alone; GIA: both. The discriminators stay."""
    model = build(name).train()
    batch = batch_for(model)
    with only(model, model.phases()[1]):
        _, z, logits = model._loss(batch)
        fakes = {"image": logits.sigmoid(), "latent": z}
        for domain, judge in model._discriminators().items():
            model.zero_grad()
            bce(judge(fakes[domain]), 1.0).backward(retain_graph=True)
            assert gradient(model, "encoder") > 0
            assert (gradient(model, "decoder") > 0) is (domain == "image")
            assert gradient(model, f"{domain}_discriminator") == 0


@each_adversary
def test_discriminators_train_alone_and_separate_real_from_generated(name):
    model = build(name, latent_norm=False).train()
    judge, fool = model.phases()
    assert {p.partition("_")[2] for p in judge.modules} == {"discriminator"}
    batch = batch_for(model)
    model.zero_grad()
    judge.loss(batch, 0).total.backward()
    assert all(p.grad is None for part in fool.modules for p in model.get_submodule(part).parameters())
    assert all(gradient(model, part) > 0 for part in judge.modules)
    optimiser = torch.optim.Adam(phase_parameters(model, judge), 0.02)
    first = float(judge.loss(batch, 0).total)
    for _ in range(40):
        optimiser.zero_grad()
        judge.loss(batch, 0).total.backward()
        optimiser.step()
    assert float(judge.loss(batch, 0).total) < 0.85 * first


@each_adversary
def test_second_of_three_stages_trains_discriminators_alone(name):
    model = build(name)
    stages = model.stages()
    assert [s.name for s in stages] == ["reconstruct", "discriminator", "adversarial"]
    assert [[p.name for p in s.phases] for s in stages] == [
        ["reconstruct"],
        ["discriminator"],
        ["discriminator", "generator"],
    ]
    assert stages[1].until.steps == model.config.warm_up_steps
    assert (stages[0].until.patience, stages[2].until.patience) == (12, 12)
    assert stages[2].phases[0].stream == stages[2].phases[1].stream, "both on one batch"
    state, batch = TrainState.create(model), batch_for(model)
    makers = {n for n, _ in model.named_parameters() if "discriminator" not in n}

    def moved(steps=1):
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        for _ in range(steps):
            train_step(state, lambda stream, part: batch, CPU)
        return {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}

    assert moved() <= makers
    state.leave_stage()
    assert not moved() & makers
    state.leave_stage()
    assert moved() & makers


@each
def test_radam_with_the_published_settings_throughout(name):
    for stage in build(name, "default", NATIVE, "meta").stages():
        for phase in stage.phases:
            rule = phase.optimiser
            assert (rule.kind, rule.lr, rule.betas, rule.eps) == ("radam", 1e-3, (0.9, 0.999), 1e-7)
    original = PROFILES["original"](name).optim.kind
    assert original == ("adam" if name.endswith("vae") else "radam")


def test_radam_rectifies_from_the_sixth_step_on():
    """rho_t and r_t of Liu et al. 2020, and torch's own steps: momentum alone while rho is at most 5."""
    beta = 0.999
    limit = 2 / (1 - beta) - 1

    def rho(t):
        return limit - 2 * t * beta**t / (1 - beta**t)

    def r(t):
        p = rho(t)
        return math.sqrt((p - 4) * (p - 2) * limit / ((limit - 4) * (limit - 2) * p))

    assert limit == pytest.approx(1999)
    assert [round(rho(t), 3) for t in range(1, 7)] == [1.0, 1.999, 2.999, 3.997, 4.996, 5.994]
    factors = {6: 0.02582, 10: 0.04900, 100: 0.21534, 1000: 0.64533, 10_000: 0.99977}
    assert {t: round(r(t), 5) for t in factors} == factors
    w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    rule = torch.optim.RAdam([w], lr=1e-3, betas=(0.9, 0.999), eps=1e-7)
    for t in range(1, 8):  # a gradient of 2 at every step: the corrected averages are 2 and 4
        before = float(w)
        w.grad = torch.full_like(w, 2.0)
        rule.step()
        step = 1e-3 * 2.0 if t < 6 else 1e-3 * r(t) * 2.0 / 2.0
        assert before - float(w) == pytest.approx(step, rel=1e-4)


# ---------------------------------------------------------------------------------------------------- prediction


@each
def test_window_and_target_overlap_by_the_shift(name):
    request = build(name, "default", NATIVE, "meta").request(PROFILES["default"](name))
    assert (request.context, request.future, request.future_start, request.length) == (10, 10, 5, 15)
    single = Autoencoder.request(AutoencoderConfig(episode=1))
    assert (single.context, single.target_offset, single.future) == (1, 5, 1)


@each_kind
def test_forecasts_are_made_in_blocks_of_shift(name):
    """The first block is the networks' answer to the frames seen, the next their answer to that answer."""
    model = build(name).eval()
    shift, context = model.config.shift, batch_for(model).context
    seen = context[:, -model.num_context :]
    assert model.num_context == (6 if name in MEMORY else 3)
    with torch.no_grad():
        first = model(seen)[:, -shift:]
        second = model(torch.cat([seen, first], 1)[:, -model.num_context :])[:, -shift:]
    found = model.predict(context, 2 * shift)[0]
    torch.testing.assert_close(found, torch.cat([first, second], 1))


@each_kind
def test_sixty_frames_stay_finite_and_in_range(name):
    model = build(name).eval()
    prediction = model.predict(batch_for(model).context, 60)
    assert prediction.shape[2] == 60
    assert prediction.isfinite().all()
    assert 0 <= prediction.min() <= prediction.max() <= 1


@each_kind
def test_prediction_uses_the_mean_latent(name):
    model = build(name, latent_dropout=0.25, output_tail=True).eval()
    context = batch_for(model).context
    assert torch.equal(model.predict(context, 4), model.predict(context, 4))
    assert model.stochastic is name.endswith("vae")
    assert Autoencoder.is_stochastic(model.config) is model.stochastic


@pytest.mark.parametrize("name", ["c-vae", "c-lstm-vae"])
def test_samples_of_a_variational_model_follow_the_seed(name):
    model = build(name).eval()
    context = batch_for(model).context

    def drawn(seed, samples=3):
        return model.predict(context, 7, samples=samples, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert not torch.equal(drawn(1)[0], drawn(1)[1])
    carry, frames = model.rollout_init(context, samples=3, generator=torch.Generator().manual_seed(1)), []
    for _ in range(7):
        carry, frame = model.rollout_step(carry)
        frames.append(frame)
    torch.testing.assert_close(torch.stack(frames, 1).unflatten(0, (3, 2)), drawn(1))


@each_kind
def test_residual_models_start_as_persistence(name):
    model = build(name, residual=True).eval()
    batch = batch_for(model)
    found, t, shift = model(batch.context), model.config.episode, model.config.shift
    newest = [min(k + shift, t - 1) for k in range(t)] if name in MEMORY else range(t)
    torch.testing.assert_close(found, batch.context[:, list(newest)].clamp(1 / 512, 511 / 512), atol=1e-5, rtol=0)


@each_kind
def test_encode_then_decode_equals_forward(name):
    model = build(name).eval()
    assert isinstance(model, LatentModel)
    frames = batch_for(model).context
    z = model.encode(frames)
    assert z.shape[2] == 8
    torch.testing.assert_close(model.decode(z, frames), model(frames))
    if name in MEMORY:
        with pytest.raises(UserError, match="a latent encodes a clip of 6 frames, got 2"):
            model.encode(frames[:, :2])


@each_kind
def test_preview_has_samples_only_where_latents_are_normal(name):
    model = build(name).eval()
    batch = batch_for(model)
    rows = model.preview(batch)
    normal = name.endswith("vae") or "ia" in name
    assert ("samples" in rows) is normal
    assert rows["prediction"].shape == batch.future.shape
    assert all(torch.equal(rows[k], model.preview(batch)[k]) for k in rows)


def test_summaries_of_the_fourteen_differ():
    summaries = {Autoencoder.summary(config) for config in VARIANTS.values()}
    assert len(summaries) == 14


def test_a_run_passes_all_stages_and_forecasts(tmp_path):
    run = train("c-gia-ae", store(), profile="tiny", out=tmp_path / "run", steps=40, tensorboard=False, quiet=True)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    seen = dict.fromkeys(row["stage"] for row in rows if any(k.endswith("/total") for k in row))
    # 24 steps of reconstruction, 2 (a twentieth) for the judges alone, both from then on
    assert list(seen) == ["reconstruct", "adversarial"]
    logged = set().union(*rows)
    assert {
        "discriminator/image_real",
        "discriminator/latent_fake",
        "generator/image_generator",
        "generator/latent_generator",
    } <= logged
    scores, _ = evaluate(run, horizon=6, clips=2)
    assert scores.predictors["c-gia-ae"]["total_variation"].mean[5] > 0
    assert scores.protocol.context == 3


@pytest.mark.parametrize("name", ["c-vae", "c-lstm-vae"])
def test_small_profile_starts_with_low_latent_variance(name):
    spec = ClipSpec(channels=3, height=84, width=64)
    config = PROFILES["small"](name)
    model = Autoencoder(config, spec).train()
    frames = torch.rand(6, config.episode, 3, 84, 64)
    _, logvar = model._moments(model._samples(frames))
    torch.testing.assert_close(logvar.mean(0), torch.full((config.latent,), -5.0), atol=1e-4, rtol=0)
    published = Autoencoder(PROFILES["default"](name), spec)
    assert not published.logvar_encoder.norm.bias.any()


@pytest.mark.parametrize("name", ["c-lstm-ae", "c-td-vae"])
def test_small_profile_with_memory_never_sees_its_targets(name):
    request = Autoencoder.request(PROFILES["small"](name))
    assert request.future_start >= request.context


# -------------------------------------------------------------------------------------------------------------- shares


def test_shares_scale_what_is_shown_and_not_what_is_fed_back():
    model = build("c-ae", residual=True).eval()
    context = batch_for(model).context[:, -model.num_context :]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    whole, last = model.predict(context, 6)[0], context[:, -1:]
    model.shares.copy_(torch.tensor([1, 0.5, 0, 0.25]))
    shares = torch.tensor([1, 0.5, 0, 0.25, 0.25, 0.25]).view(1, 6, 1, 1, 1)  # later frames have the last one
    torch.testing.assert_close(model.predict(context, 6)[0], last + shares * (whole - last))


def test_calibrated_forecast_is_not_worse_than_the_last_frame_on_its_clips():
    model = build("c-lstm-ae", residual=True).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    context = batch_for(model, b=8).context
    future = context[:, -1:] + 0.01 * torch.randn(8, 4, *context.shape[2:])
    batch = Batch(context=context, future=future)

    def error():
        return (model.predict(context, 4)[0] - future).square().mean((0, 2, 3, 4))

    before, copied = error(), (context[:, -1:] - future).square().mean((0, 2, 3, 4))
    model.calibrate([batch])
    assert (error() < before).all()
    assert (error() < 0.1 * before + copied).all()
    model.calibrate([])
    assert torch.equal(model.shares, torch.ones(4))


def test_small_profiles_have_shares_and_published_ones_have_none():
    for name in VARIANTS:
        small, default, original = (PROFILES[profile](name) for profile in ("small", "default", "original"))
        assert (small.shrink, default.shrink, original.shrink) == (64, 0, 0)
