"""Cross convolutional networks on longer contexts: mixed output, best guess, lead times, frames of any size."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipSpec
from framecast.models.visual_dynamics.config import PROFILES, VisualDynamicsConfig, tiny
from framecast.models.visual_dynamics.networks import lead_code
from framecast.models.visual_dynamics.predictor import VisualDynamics
from framecast.nn.mixture import gaussian_kl

SIZE = (20, 36)


def guessing(**changes):
    config = replace(
        tiny(),
        pool=True,
        resize=False,
        upsample="subpixel",
        context=3,
        horizon=6,
        targets=2,
        output="mixed",
        guess_weight=0.5,
        relative=0.01,
        shrink=True,
    )
    return replace(config, **changes)


def build(config=None, seed=0):
    torch.manual_seed(seed)
    model = VisualDynamics(config or guessing(), ClipSpec(channels=3, height=SIZE[0], width=SIZE[1]))
    with torch.no_grad():  # away from copying, where it starts
        for p in model.motion_decoder.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def clips(b=2, context=3, future=2, seed=0):
    frames = torch.rand(b, context + future, 3, *SIZE, generator=torch.Generator().manual_seed(seed))
    leads = torch.tensor([[1, 4], [1, 2]])[:b]
    return Batch(context=frames[:, :context], future=frames[:, context:], lead_times=leads)


@pytest.fixture(scope="module")
def model():
    return build().eval().requires_grad_(False)


# ------------------------------------------------------------------------------------------------------- mixed output


def test_the_change_is_the_weighted_mean_of_difference_image_and_context_changes(model):
    window = torch.rand(2, 3, 3, *SIZE) * 2 - 1
    z, outputs = torch.randn(1, 2, model.config.z_size), []
    hook = model.motion_decoder.register_forward_hook(lambda m, i, o: outputs.append(o))
    change = model._change(model._features(window), z, window)
    hook.remove()
    output, expected = outputs[0].double().numpy(), np.zeros((2, 3, *SIZE))
    frames = window.double().numpy()
    for b in range(2):
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                weights = np.exp(output[b, 3:, y, x])
                weights /= weights.sum()
                expected[b, :, y, x] = weights[3] * output[b, :3, y, x]
                for i in range(2):
                    expected[b, :, y, x] += weights[i] * (frames[b, i, :, y, x] - frames[b, 2, :, y, x])
    np.testing.assert_allclose(change, expected, atol=1e-5)


def test_training_starts_near_the_last_frame():
    torch.manual_seed(0)
    model = VisualDynamics(PROFILES["small"](), ClipSpec(channels=3, height=84, width=64)).eval()
    context = torch.rand(1, 4, 3, 84, 64)
    other = (context[:, :3] - context[:, -1:]).square().mean()
    assert (model.predict(context, 1)[0] - context[:, -1:]).square().mean() < 0.1 * other


def test_codes_of_lead_times_differ_and_alternate_from_frame_to_frame():
    code = lead_code(torch.arange(1, 65))
    assert torch.cdist(code, code).add(10 * torch.eye(64)).min() > 0.1
    assert torch.allclose(code[:, 15], torch.tensor([-1.0, 1.0]).repeat(32), atol=1e-4)


# --------------------------------------------------------------------------------------------------------------- loss


def test_the_loss_adds_the_error_of_the_best_guess_of_every_target():
    model, batch = build(replace(guessing(), kl_weights=((0, 0.3),))).eval(), clips()
    torch.manual_seed(5)
    loss = model.loss(batch)
    with torch.no_grad():
        mean, logvar = model.posterior(torch.cat([batch.context[:, -1:], batch.future[:, :1]], 1))
        torch.manual_seed(5)
        z = mean[:, 0] + (logvar[:, 0] / 2).exp() * torch.randn_like(mean[:, 0])
        window = batch.context * 2 - 1
        maps = model._features(window)

        def error(latent, target):
            change = model._change(maps, latent[None], window, batch.lead_times[None, :, target].float())
            wanted = batch.future[:, target] * 2 - 1 - window[:, -1]
            ratios = []
            for one, true in zip(change.double().numpy(), wanted.double().numpy(), strict=True):
                ratios.append(((one - true) ** 2).mean() / ((true**2).mean() + 0.01))
            return np.mean(ratios)

        l2, guess = error(z, 0), np.mean([error(torch.zeros_like(z), k) for k in (0, 1)])
    assert float(loss.parts["l2"]) == pytest.approx(l2, rel=1e-5)
    assert float(loss.parts["guess"]) == pytest.approx(guess, rel=1e-5)
    total = l2 + 0.3 * gaussian_kl(mean, logvar).mean().item() + 0.5 * guess
    assert loss.total.item() == pytest.approx(total, rel=1e-5)


def test_the_error_of_the_best_guess_has_no_gradient_in_the_motion_encoder():
    model, batch = build(replace(guessing(), kl_weights=((0, 0.0),))), clips()
    first = torch.autograd.grad(model.loss(batch).total, list(model.motion_encoder.parameters()))
    torch.manual_seed(1)
    model.loss(batch)  # batch norm has moved; only the gradient of the difference below counts
    model.eval()

    def gradient(weight):
        model.config = replace(model.config, guess_weight=weight)
        torch.manual_seed(2)
        return torch.autograd.grad(model.loss(batch).total, list(model.motion_encoder.parameters()))

    for some, more in zip(gradient(0.5), gradient(5.0), strict=True):
        torch.testing.assert_close(some, more)
    assert any(g.abs().max() > 0 for g in first)


# --------------------------------------------------------------------------------------------------------- best guess


def test_one_sample_is_the_best_guess_and_several_are_drawn(model):
    context = clips().context
    one, again = model.predict(context, 3), model.predict(context, 3)
    assert torch.equal(one, again)
    assert set(model.rollout_init(context)) == {"window", "lead"}
    several = model.predict(context, 3, samples=3, generator=torch.Generator().manual_seed(0))
    assert several.shape == (3, 2, 3, 3, *SIZE)
    assert (several[0] - several[1]).abs().max() > 1e-3
    drawn = build(replace(guessing(), guess_weight=0.0)).eval()
    assert "seed" in drawn.rollout_init(context)


def test_the_best_guess_of_every_lead_time_is_made_from_the_true_context(model):
    context = clips().context
    made = model.predict(context, 11)[0]  # more than are drawn at once, and than the horizon
    window = context * 2 - 1
    z = torch.zeros(1, 2, model.config.z_size)
    for k in (1, 4, 6, 11):
        change = model._change(model._features(window), z, window, torch.full((1, 2), float(min(k, 6))))
        expected = ((window[:, -1] + change + 1) / 2).clamp(0, 1)
        torch.testing.assert_close(made[:, k - 1], expected, atol=1e-5, rtol=0)
    state = model.rollout_init(context)
    for k in range(11):
        state, frame = model.rollout_step(state)
        torch.testing.assert_close(frame, made[:, k], atol=1e-5, rtol=0)
        assert torch.equal(state["window"], context)


def test_samples_are_fed_back_into_the_window(model):
    context = clips().context
    state = model.rollout_init(context, samples=2, generator=torch.Generator().manual_seed(0))
    state, frame = model.rollout_step(state)
    assert torch.equal(state["window"][:, -1], frame)
    assert torch.equal(state["window"][:, 0], context[:, 1].repeat(2, 1, 1, 1))


def test_shares_scale_the_change_from_the_last_true_frame():
    model, context = build().eval(), clips().context
    whole, last = model.predict(context, 8)[0], context[:, -1:]
    model.shares.copy_(torch.tensor([1, 0.5, 0, 0.25, 1, 0.75]))
    shares = torch.tensor([1, 0.5, 0, 0.25, 1, 0.75, 0.75, 0.75]).view(1, 8, 1, 1, 1)
    torch.testing.assert_close(model.predict(context, 8)[0], last + shares * (whole - last))


def test_a_calibrated_best_guess_is_not_worse_than_the_last_frame_on_its_clips():
    model, batch = build().eval(), clips(future=6)
    batch = replace(batch, lead_times=None, future=batch.context[:, -1:] + 0.01 * torch.randn_like(batch.future))

    def error():
        return (model.predict(batch.context, 6)[0] - batch.future).square().mean((0, 2, 3, 4))

    before, copied = error(), (batch.context[:, -1:] - batch.future).square().mean((0, 2, 3, 4))
    model.calibrate([batch])
    assert (error() < before).all()
    assert (error() < 0.6 * before + copied).all()
    model.calibrate([])
    assert torch.equal(model.shares, torch.ones(6))


# --------------------------------------------------------------------------------------------------- frames, contexts


def test_frames_of_any_size_are_padded_to_whole_cells_with_their_edge(model):
    assert model.config.padded(20, 36) == (32, 48)
    assert VisualDynamicsConfig(**{**vars(PROFILES["small"]())}).padded(84, 64) == (96, 64)
    x = torch.rand(1, 3, *SIZE)
    padded = model._padded(x)
    assert padded.shape == (1, 3, 32, 48)
    assert torch.equal(padded[..., :20, :36], x)
    assert torch.equal(padded[..., 25, :36], x[..., 19, :])
    assert torch.equal(padded[..., :20, 47], x[..., 35])


def test_a_single_frame_stands_still_before_the_first(model):
    frame = torch.rand(1, 1, 3, *SIZE)
    torch.testing.assert_close(model.predict(frame, 2), model.predict(frame.expand(-1, 3, -1, -1, -1), 2))


def test_pairs_shorten_context_and_horizon():
    config = VisualDynamics.fit_to_data(guessing(), lambda request: request.length <= 2)
    assert (config.context, config.horizon) == (1, 1)
    assert VisualDynamics.request(config).targets is None
    model = build(config)
    frames = torch.rand(2, 2, 3, *SIZE)
    assert np.isfinite(model.loss(Batch(context=frames[:, :1], future=frames[:, 1:])).total.item())
    assert model.eval().predict(frames[:, :1], 3).shape == (1, 2, 3, 3, *SIZE)
    config = VisualDynamics.fit_to_data(guessing(), lambda request: request.length <= 6)
    assert (config.context, config.horizon) == (3, 3)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"pool": False}, "model.resize off needs model.pool"),
        ({"context": 0}, "model.context must be at least 1"),
        ({"horizon": 0}, "model.horizon must be at least 1"),
        ({"guess_weight": -1.0}, "model.guess_weight must be at least 0"),
        ({"output": "gated"}, "one of difference, mixed"),
    ],
)
def test_invalid_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        guessing(**settings)


def test_large_frames_are_trained_on_crops_and_small_ones_whole():
    request = VisualDynamics.request(PROFILES["small"]())
    assert (request.crop, request.crop_at_most, request.resize) == ((128, 128), True, None)
    assert VisualDynamics.request(PROFILES["pairs"]()).crop is None
    with pytest.raises(UserError, match=r"model.crop must be at least 1, and None with model.resize, got 0"):
        guessing(crop=0)
