"""Cross convolutional networks: published counts and shapes, the loss by hand, codes, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipSpec
from framecast.models.base import count_parameters
from framecast.models.latent import LatentModel
from framecast.models.seeds import next_tick, step_normal
from framecast.models.visual_dynamics.config import (
    PROFILES,
    OptimConfig,
    VisualDynamicsConfig,
    original,
    small,
    tiny,
)
from framecast.models.visual_dynamics.predictor import VisualDynamics
from framecast.nn.mixture import gaussian_kl
from framecast.training.device import Device
from framecast.training.state import TrainState
from framecast.training.step import train_step

PARTS = ("image_encoder", "motion_encoder", "kernel_decoder", "motion_decoder")


def build(config=None, seed=0):
    config = config or tiny()
    torch.manual_seed(seed)
    return VisualDynamics(config, ClipSpec(channels=3, height=config.size, width=config.size))


def pairs(n=3, side=32, seed=0):
    frames = torch.rand(n, 2, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return Batch(context=frames[:, :1], future=frames[:, 1:])


@pytest.fixture(scope="module")
def model():
    return build().eval().requires_grad_(False)


# ------------------------------------------------------------------------------------------------ counts and shapes


@pytest.mark.parametrize(
    ("profile", "counts", "generation"),
    [
        ("original", (1_045_632, 3_421_568, 819_712, 751_747), 2_617_091),
        ("master", (1_045_632, 3_421_568, 819_712, 1_344_643), 3_209_987),
        ("default", (1_045_632, 3_421_568, 819_712, 419_587), 2_284_931),
        ("pairs", (29_920, 136_880, 153_856, 20_604), 204_380),
        ("medium", (63_424, 225_232, 153_856, 30_460), 247_740),
    ],
)
def test_published_counts(profile, counts, generation):
    with torch.device("meta"):  # counted, not filled
        found = count_parameters(build(PROFILES[profile]()))
    assert found == dict(zip(PARTS, counts, strict=True))
    assert sum(found.values()) - found["motion_encoder"] == generation
    totals = {"original": 6_038_659, "master": 6_631_555, "default": 5_706_499, "pairs": 341_260, "medium": 472_972}
    assert totals[profile] == sum(counts)


@pytest.mark.parametrize("profile", ["original", "default"])
def test_intermediate_shapes(profile):
    model = build(PROFILES[profile]()).eval()
    batch = pairs(2, 128)
    with torch.no_grad():
        maps = model.features(batch.context[:, 0])
        assert [tuple(m.shape) for m in maps] == [(2, 32, side, side) for side in (64, 32, 16, 8)]
        mean, logvar = model.posterior(torch.cat([batch.context, batch.future], 1))
        assert mean.shape == logvar.shape == (2, 1, 3200)
        assert [tuple(k.shape) for k in model.kernels(mean[:, 0])] == [(2, 32, 5, 5)] * 4
        assert model.predict(batch.context, 1).shape == (1, 2, 1, 3, 128, 128)


def test_the_spatial_cut_is_that_of_the_published_layout():
    model = build(replace(tiny(), split="spatial")).eval()
    batch = pairs(2)
    first, second = (x[:, 0] * 2 - 1 for x in (batch.context, batch.future))
    with torch.no_grad():
        last = model.motion_encoder.layers(torch.cat([first, second], 1)).numpy()  # (b, 8, 5, 5)
        mean, logvar = model.motion_encoder(first, second)
    flat = last.transpose(0, 2, 3, 1).reshape(2, -1)  # channels last
    np.testing.assert_allclose(mean, flat[:, :100].reshape(2, 5, 5, 4).transpose(0, 3, 1, 2).reshape(2, -1))
    np.testing.assert_allclose(logvar, flat[:, 100:].reshape(2, 5, 5, 4).transpose(0, 3, 1, 2).reshape(2, -1))


@pytest.mark.parametrize(("split", "sees_all"), [("channel", True), ("spatial", False)])
def test_means_depend_on_the_whole_pair_only_if_split_between_channels(split, sees_all):
    model = build(replace(tiny(), split=split)).eval()
    frames = torch.rand(1, 2, 3, 32, 32, requires_grad=True)
    model.encode(frames).square().sum().backward()
    lowest = frames.grad[0, :, :, 28:].abs().max() > 0
    assert bool(lowest) is sees_all
    assert frames.grad[0, :, :, :4].abs().max() > 0


@pytest.mark.parametrize("pool", [True, False])
def test_pooled_latent_encodes_what_moves_and_not_where(pool):
    # a spot that changes, in the middle of nothing; the motion encoder's strides are 4 px together
    config = replace(tiny(), size=64 if pool else 32, pool=pool)
    model, spot = build(config).eval(), torch.rand(2, 3, 6, 6)
    side, places = config.size, ((28, 28), (32, 24)) if pool else ((12, 12), (16, 8))
    frames = torch.full((2, 2, 3, side, side), 0.5)
    for pair, (row, column) in zip(frames, places, strict=True):
        pair[:, :, row : row + 6, column : column + 6] = spot
    with torch.no_grad():
        here, there = model.encode(frames)
    assert model.config.z_size == (4 if pool else 100)
    assert here.shape == (1, model.config.z_size)
    assert torch.allclose(here, there, atol=1e-5) is pool
    assert [tuple(k.shape) for k in model.kernels(here)] == [(1, 4, 5, 5)] * 4


# --------------------------------------------------------------------------------------------------------------- loss


def test_kl_equals_a_plain_computation():
    mean, logvar = torch.randn(3, 7), torch.randn(3, 7)
    m, v = mean.double().numpy(), logvar.double().numpy()
    expected = -0.5 * (1 + v - np.exp(v) - m**2)
    np.testing.assert_allclose(gaussian_kl(mean, logvar), expected, rtol=1e-5, atol=1e-6)
    assert gaussian_kl(torch.zeros(2), torch.zeros(2)).tolist() == [0, 0]
    assert gaussian_kl(torch.ones(2), torch.zeros(2)).tolist() == [0.5, 0.5]


def test_the_loss_is_the_weighted_sum_of_its_parts_and_they_are_means():
    config = replace(tiny(), kl_weights=((0, 0.3),))
    model, batch = build(config).eval(), pairs()
    torch.manual_seed(5)
    loss = model.loss(batch)
    assert loss.total.item() == pytest.approx(float(loss.parts["l2"] + 0.3 * loss.parts["kl"]), rel=1e-6)
    with torch.no_grad():
        mean, logvar = model.posterior(torch.cat([batch.context, batch.future], 1))
        torch.manual_seed(5)
        z = mean[:, 0] + (logvar[:, 0] / 2).exp() * torch.randn_like(mean[:, 0])
        first = batch.context[:, 0] * 2 - 1
        change = model._change(model.features(batch.context[:, 0]), z[None], first[:, None])
        error = (change - (batch.future[:, 0] * 2 - 1 - first)).double().numpy()
    assert float(loss.parts["l2"]) == pytest.approx((error**2).mean(), rel=1e-5)
    assert float(loss.parts["kl"]) == pytest.approx(gaussian_kl(mean, logvar).mean().item(), rel=1e-5)


@pytest.mark.parametrize("relative", [0.0, 0.01])
def test_other_exponents_and_edges_enter_the_loss_beside_the_squared_error(relative):
    batch = pairs()
    first, second = (x[:, 0] * 2 - 1 for x in (batch.context, batch.future))

    def loss(**changes):
        model = build(replace(tiny(), kl_weights=((0, 0.0),), relative=relative, **changes)).eval()
        torch.manual_seed(5)
        return model, model.loss(batch)

    model, squared = loss()
    with torch.no_grad():
        mean, logvar = model.posterior(torch.cat([batch.context, batch.future], 1))
        torch.manual_seed(5)
        z = mean[:, 0] + (logvar[:, 0] / 2).exp() * torch.randn_like(mean[:, 0])
        change = model._change(model.features(batch.context[:, 0]), z[None], first[:, None]).double().numpy()
    wanted = (second - first).double().numpy()
    absolute = np.abs(change - wanted).mean((1, 2, 3))
    if relative:
        absolute /= np.abs(wanted).mean((1, 2, 3)) + relative
    _, l1 = loss(lp_exponent=1.0)
    assert l1.total.item() == pytest.approx(absolute.mean(), rel=1e-5)
    assert float(l1.parts["l2"]) == pytest.approx(float(squared.parts["l2"]), rel=1e-6)
    drawn, true = first.double().numpy() + change, second.double().numpy()
    edges = sum(np.abs(np.abs(np.diff(true, axis=a)) - np.abs(np.diff(drawn, axis=a))).mean() for a in (2, 3))
    _, sharp = loss(gdl_weight=0.3)
    assert float(sharp.parts["gdl"]) == pytest.approx(edges, rel=1e-5)
    assert sharp.total.item() == pytest.approx(squared.total.item() + 0.3 * edges, rel=1e-5)


@pytest.mark.parametrize("upsample", ["bilinear", "subpixel", "transposed"])
def test_new_colours_cover_the_changed_frame_by_their_opacity(upsample):
    config = replace(tiny(), upsample=upsample)
    composed, plain = build(replace(config, output="composed")).eval(), build(config).eval()
    composed.load_state_dict(plain.state_dict(), strict=False)
    frame, z = torch.rand(2, 3, 32, 32), torch.randn(1, 2, 100)
    window = frame[:, None] * 2 - 1
    cover = composed.motion_decoder.cover
    with torch.no_grad():
        before = plain._change(plain.features(frame), z, window)
        start = composed._change(composed.features(frame), z, window)
        assert float((start - before).std()) < 0.2 * float(before.std())  # hardly covered at first
        cover.weight.zero_()
        cell = 4 if upsample == "subpixel" else 1
        cover.bias[:] = torch.tensor([0.5, -0.5, 0.25, 0.0]).repeat_interleave(cell)
        change = composed._change(composed.features(frame), z, window)
    colours = torch.tensor([0.5, -0.5, 0.25])[:, None, None]
    torch.testing.assert_close(change, 0.5 * before + 0.5 * (colours - window[:, -1]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("upsample", ["bilinear", "subpixel", "transposed"])
def test_the_decoder_can_be_continued_with_the_frame_as_an_input(upsample):
    config = replace(tiny(), upsample=upsample)
    seeing, plain = build(replace(config, decoder_frame=True)).eval(), build(config).eval()
    seeing.load_state_dict(plain.state_dict(), strict=False)
    frame, z = torch.rand(2, 3, 32, 32), torch.randn(3, 2, 100)
    maps, window = plain.features(frame), frame[:, None] * 2 - 1
    with torch.no_grad():
        before = plain._change(maps, z, window)
        assert torch.equal(seeing._change(maps, z, window), before)  # no influence at first
        seeing.motion_decoder.frame.weight.normal_()
        both = seeing._change(maps, z, window)
        alone = torch.cat([seeing._change([m[1:] for m in maps], z[i : i + 1, 1:], window[1:]) for i in range(3)])
    assert not torch.allclose(both, before, atol=1e-2)
    torch.testing.assert_close(both[1::2], alone, atol=1e-5, rtol=1e-4)  # each sample has its own frame


def test_scales_can_be_continued_with_the_next_coarser_one_as_an_input():
    coarser, plain = build(replace(tiny(), image_down=True)).eval(), build(tiny()).eval()
    coarser.load_state_dict(plain.state_dict(), strict=False)
    frame = torch.rand(1, 3, 32, 32)
    before = plain.features(frame)
    for ours, theirs in zip(coarser.features(frame), before, strict=True):
        assert torch.equal(ours, theirs)  # no influence at first
    with torch.no_grad():
        for layer in coarser.image_encoder.down:
            layer.weight.normal_()
        changed = coarser.image_encoder.scales[-1][-1].bias.add_(1)  # of the coarsest
    assert changed.shape == (4,)
    for ours, theirs in zip(coarser.features(frame), before, strict=True):
        assert ours.shape == theirs.shape
        assert not torch.allclose(ours, theirs, atol=1e-3)


def test_the_kl_weight_by_epochs():
    config = VisualDynamics.resolve_schedules(original(), 625)
    steps = (0, 48 * 625 - 1, 48 * 625, 56 * 625 - 1, 56 * 625, 128 * 625)
    assert [config.kl_weight(s) for s in steps] == [0.005, 0.005, 0.02, 0.02, 0.05, 0.05]
    line = VisualDynamics.resolve_schedules(replace(tiny(), kl_weights=((0, 0.0), (2, 1.0)), kl_between="linear"), 10)
    assert [line.kl_weight(s) for s in (0, 5, 10, 20, 99)] == [0, 0.25, 0.5, 1, 1]
    assert replace(tiny(), kl_weights=((0, 0.7),)).kl_weight(10**6) == 0.7


def test_the_learning_rate_falls_by_epochs():
    optim = VisualDynamics.resolve_schedules(
        replace(tiny(), optim=OptimConfig(final_lr=1e-4, decay_epochs=2)), 10
    ).optim
    assert [optim.rate(s) for s in (0, 10, 20, 50)] == pytest.approx([1e-3, 5.5e-4, 1e-4, 1e-4])
    assert OptimConfig().rate(10**6) == 1e-3


def test_samples_of_the_posterior_have_its_deviation():
    model = build().eval()
    mean, logvar = torch.zeros(1, 100), torch.full((1, 100), 1.2)
    model.posteriors[:] = torch.stack([mean, logvar], 1).half().view(torch.int16)
    model.num_stored += 16
    z = model.draw(400, "posterior", torch.Generator().manual_seed(0))
    assert float(z.std()) == pytest.approx(np.exp(0.6), rel=0.02)


def test_log_variances_are_clamped():
    model = build(replace(tiny(), logvar_clamp=0.01, start_logvar=3.0))
    _, logvar = model.posterior(torch.rand(2, 2, 3, 32, 32))
    assert logvar.abs().max() <= 0.01
    assert build(replace(tiny(), start_logvar=-4.0)).posterior(torch.rand(2, 2, 3, 32, 32))[1].mean() < -2


# -------------------------------------------------------------------------------------------------- codes and priors


def test_training_stores_the_latest_posteriors_unmixed():
    state = TrainState.create(build(replace(tiny(), stored=5)))
    batches = [pairs(3, seed=i) for i in range(3)]
    seen = []
    for batch in batches:
        inputs = torch.cat([batch.context[:, 0], batch.future[:, 0]], 1) * 2 - 1
        with torch.no_grad():
            state.model.train()
            before = {k: v.clone() for k, v in state.model.state_dict().items()}
            mean, logvar = state.model.motion_encoder(inputs[:, :3], inputs[:, 3:])
            state.model.load_state_dict(before)
        seen += list(torch.stack([mean, logvar], 1).half())
        train_step(state, lambda stream, micro, batch=batch: batch, Device(torch.device("cpu")))
    for model in (state.model, state.ema):
        assert int(model.num_stored) == 9
        kept = model.posteriors.view(torch.float16)
        for i, slot in enumerate((5, 6, 7, 8, 4)):  # the ring after nine
            torch.testing.assert_close(kept[i], seen[slot], atol=2e-3, rtol=2e-3)
    before = state.model.posteriors.clone()
    state.model.eval().loss(batches[0])
    assert torch.equal(state.model.posteriors, before)


def test_every_prior_samples_latents(model):
    g = torch.Generator
    z = model.draw(500, generator=g().manual_seed(0))
    assert z.shape == (500, 100)
    assert abs(float(z.mean())) < 0.02
    assert float(z.std()) == pytest.approx(1, abs=0.02)
    with pytest.raises(UserError, match="no stored posteriors to sample from"):
        model.draw(1, "posterior")
    with pytest.raises(UserError, match="use normal or posterior"):
        model.draw(1, "uniform")
    stored = build(replace(tiny(), prior="posterior"))
    with pytest.raises(UserError, match="no stored posteriors"):
        stored.predict(torch.rand(1, 1, 3, 32, 32), 1)
    stored.train().loss(pairs())
    assert stored.eval().predict(torch.rand(1, 1, 3, 32, 32), 1).shape == (1, 1, 1, 3, 32, 32)


def test_decode_is_encode_backwards_in_shape_and_one_step_of_predict(model):
    assert isinstance(model, LatentModel)
    frames = torch.rand(2, 4, 3, 32, 32)
    z = model.encode(frames)
    assert z.shape == (2, 3, 100)
    decoded = model.decode(z, frames[:, :1])
    assert decoded.shape == (2, 3, 3, 32, 32)
    torch.testing.assert_close(model.decode(z[:, 1:2], decoded[:, :1]), decoded[:, 1:2])  # one after the other
    state = model.rollout_init(frames[:, :1], generator=torch.Generator().manual_seed(3))
    drawn = step_normal(state, (100,))
    once = model.predict(frames[:, :1], 1, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(model.decode(drawn[:, None], frames[:, :1]), once[0])
    with pytest.raises(UserError, match="a latent of this model is a motion"):
        model.decode(z)


def test_many_samples_share_one_pass_of_the_image_encoder_and_none_of_the_motion_encoder(model):
    calls = []
    hooks = [part.register_forward_hook(lambda m, i, o: calls.append((m, len(i[0])))) for part in model.children()]
    many = model.predict(torch.rand(1, 1, 3, 32, 32), 1, samples=7)
    for hook in hooks:
        hook.remove()
    assert many.shape == (7, 1, 1, 3, 32, 32)
    assert [n for m, n in calls if m is model.image_encoder] == [1]
    assert [n for m, n in calls if m is model.kernel_decoder] == [7]
    assert not [n for m, n in calls if m is model.motion_encoder]


def test_the_next_frame_is_the_first_plus_the_change(model):
    frame, z = torch.rand(1, 3, 32, 32), torch.randn(2, 1, 100)
    change = model._change(model.features(frame), z, frame[:, None] * 2 - 1)
    expected = torch.clamp(frame + change / 2, 0, 1)
    torch.testing.assert_close(model._next(frame[:, None], z), expected)


def test_longer_futures_start_from_each_sample(model):
    context = torch.rand(2, 1, 3, 32, 32)
    future = model.predict(context, 3, samples=2, generator=torch.Generator().manual_seed(1))
    assert future.shape == (2, 2, 3, 3, 32, 32)
    state = next_tick(model.rollout_init(context, samples=2, generator=torch.Generator().manual_seed(1)))
    second = model._next(future[:, :, :1].flatten(0, 1), step_normal(state, (100,))[None])
    torch.testing.assert_close(second.unflatten(0, (2, 2)), future[:, :, 1])


def test_preview_is_frame_samples_truth(model):
    rows = model.preview(pairs(2))
    assert list(rows) == ["context", "samples", "truth", "prediction"]
    assert [rows[k].shape[1] for k in rows] == [1, 6, 1, 1]


# -------------------------------------------------------------------------------------------------------------- sizes


def test_other_sizes_where_maps_nest(model):
    assert model.predict(torch.rand(1, 1, 3, 48, 64), 1).shape == (1, 1, 1, 3, 48, 64)
    with pytest.raises(ValueError, match="both sides are multiples of 16"):
        model.predict(torch.rand(1, 1, 3, 40, 64), 1)
    with pytest.raises(ValueError, match=r"at least two frames of 32x32, got 2 of 48x64"):
        model.encode(torch.rand(1, 2, 3, 48, 64))
    with pytest.raises(ValueError, match=r"at least two frames of 32x32, got 1"):
        model.encode(torch.rand(1, 1, 3, 32, 32))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": 64}, "frames of 64x64 do not fit: layer 6 of model.motion has no input left"),
        ({"size": 120}, "multiples of 16"),
        ({"size": 160}, "makes latents of 9x9, but kernels are 5x5"),
        ({"kernel_size": 4}, "must be odd"),
        ({"kl_weights": ((1, 0.1),)}, "must start at 0"),
        ({"kl_weights": ((0, 0.1), (0, 0.2))}, "increase"),
        ({"kl_weights": ((0, -0.1),)}, "weights of at least 0"),
        ({"motion": ((96, 5, 2),)}, "every row must be feature maps-kernel-stride-padded"),
        ({"motion": ((97, 5, 1, 0),)}, "must be even"),
        ({"image": ()}, "at least one layer"),
        ({"pool": True, "split": "spatial"}, "there is none"),
        ({"split": "half"}, "one of channel, spatial"),
        ({"bn_momentum": 2.0}, "must lie in 0…1"),
        ({"stored": -1}, "stored must be at least 0"),
        ({"lp_exponent": 0.0}, "lp_exponent must be at least 1"),
        ({"lp_exponent": 0.5}, "lp_exponent must be at least 1"),
        ({"decoder": (), "output": "composed"}, "model.decoder needs at least one layer"),
        ({"image": ((32, 5, 4),), "image_down": True}, "model.image needs at least two layers"),
        ({"num_scales": 1, "image_down": True}, "model.num_scales at least 2, with image_down"),
        ({"gdl_weight": -1.0}, "gdl_weight must be at least 0"),
        ({"num_scales": 0}, "num_scales must be at least 1"),
    ],
)
def test_invalid_input_is_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        VisualDynamicsConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"lr": 0.0}, "optim.lr must be above 0"),
        ({"betas": (0.9, 1.0)}, "optim.betas"),
        ({"final_lr": 1e-4}, "decay_epochs must be above 0"),
        ({"clip": -1.0}, "optim.clip must be at least 0"),
    ],
)
def test_invalid_optimiser_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        OptimConfig(**settings)


def test_gradients_are_bounded_as_configured():
    (phase,) = build(small()).phases()
    assert (phase.clip.kind, phase.clip.value) == ("global", 1.0)
    (phase,) = build(replace(tiny(), optim=OptimConfig(clip=0.0))).phases()
    assert phase.clip.kind == "none"
