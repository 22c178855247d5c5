"""Hierarchical prediction over the last true frames: frames of any size, the background, skips and shrinkage."""

from dataclasses import replace

import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipSpec
from framecast.models.hierarchical import objectives
from framecast.models.hierarchical.config import PROFILES, HierarchicalConfig
from framecast.models.hierarchical.networks import AnalogyNetwork, Detail, blend
from framecast.models.hierarchical.predictor import Hierarchical
from framecast.nn.losses import lp
from framecast.nn.shrinkage import change_sums, shrinkage

SPEC = ClipSpec(channels=3, height=20, width=16)
TINY = replace(
    PROFILES["tiny"](), size=0, context=3, future=4, mode="e2e", background="mixed", skips=True, drawn=0, shrink=4
)


def built(seed=0, spec=SPEC, **settings):
    torch.manual_seed(seed)
    model = Hierarchical(replace(TINY, **settings), spec).eval()
    torch.nn.init.normal_(model.encoder.out.weight, std=0.05)  # as after some training: encodings that differ
    return model


def clip(seed=0, b=2, t=7):
    return torch.rand(b, t, 3, 20, 16, generator=torch.Generator().manual_seed(seed))


def batch_of(seed=0):
    frames = clip(seed)
    return Batch(context=frames[:, :3], future=frames[:, 3:])


def close_masks(model, bias=-100.0):
    torch.nn.init.constant_(model.van.decoder[-1].bias[3:4], bias)


def test_mixed_background_is_between_last_frame_and_mean():
    torch.manual_seed(0)
    made, frames = torch.randn(2, 4, 5, 6, 6), torch.rand(2, 3, 3, 6, 6)
    images, mask, new = blend(made, frames, mixed=True)
    for b in range(2):
        for t in range(4):
            share, m = 1 / (1 + torch.exp(-made[b, t, 4])), 1 / (1 + torch.exp(-made[b, t, 3]))
            behind = share * frames[b, 2] + (1 - share) * (frames[b, 0] + frames[b, 1] + frames[b, 2]) / 3
            torch.testing.assert_close(images[b, t], m * made[b, t, :3] + (1 - m) * behind)
            torch.testing.assert_close(mask[b, t, 0], m)
    assert torch.equal(new, made[:, :, :3])


def test_mask_bias_starts_the_mask_alone():
    plain, biased = (AnalogyNetwork(6, 16, 3, d=4, mixed=True, mask_bias=bias) for bias in (0.0, -1.0))
    assert plain.decoder[-1].bias.tolist() == [0.0] * 5
    assert biased.decoder[-1].bias.tolist() == [0.0, 0.0, 0.0, -1.0, 0.0]


def test_skips_reach_the_decoder_at_three_sizes():
    shapes = [tuple(maps.shape) for maps in Detail(9, 4)(torch.rand(2, 9, 32, 16))]
    assert shapes == [(2, 16, 8, 4), (2, 8, 16, 8), (2, 4, 32, 16)]
    model = built().train()
    objectives.van_loss(model, batch_of()).total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.van.detail.parameters())
    assert built(skips=False).van.detail is None


def test_frames_of_any_size_are_padded_by_their_edges():
    model, frames = built(), clip()
    padded = model.padded(frames)
    assert padded.shape == (2, 7, 3, 32, 16)
    assert torch.equal(padded[..., :20, :], frames)
    assert torch.equal(padded[..., 20:, :], frames[..., 19:, :].expand(-1, -1, -1, 12, -1))
    assert model.predict(frames[:, :3], 5).shape == (1, 2, 5, 3, 20, 16)
    assert model.request(model.config).resize is None
    assert model.frame_size(model.config, SPEC) == (20, 16)
    with pytest.raises(ValueError, match="takes frames of 20x16"):
        model.encode(torch.rand(1, 2, 3, 16, 16))


def test_size_of_the_config_is_kept_where_it_is_given():
    model = built(size=16, spec=ClipSpec(channels=3, height=16, width=16))
    assert model.request(model.config).resize == (16, 16)
    assert model.padding == (0, 0, 0, 0)


@pytest.mark.parametrize(("background", "behind"), [("first", 0), ("last", 2)])
def test_a_closed_mask_repeats_the_background(background, behind):
    model, frames = built(background=background, shrink=0), clip()[:, :3]
    close_masks(model)
    forecast = model.predict(frames, 4)[0]
    torch.testing.assert_close(forecast, frames[:, behind, None].expand_as(forecast))


def test_the_analogy_refers_to_the_last_context_frame():
    model, frames = built(background="last", skips=False, shrink=0), clip()[:, :3]
    encodings = model.encode(frames)
    predicted = model.roll(encodings, frames.new_zeros(2, 6, 0))
    scene = model.padded(frames)
    drawn = model.van(scene[:, -1], model.van.anchor(scene[:, -1], encodings[:, 2]), predicted[:, 2:])
    torch.testing.assert_close(model.predict(frames, 4)[0], drawn.frames[..., :20, :].clamp(0, 1))


def test_losses_count_only_frames_after_the_background():
    model, batch = built().train(), batch_of()
    frames = torch.cat([batch.context, batch.future], 1)
    encodings = model.encode(frames[:, :3])
    predicted = model.roll(encodings, frames.new_zeros(2, 6, 0))
    drawn = model.draw(frames[:, :3], encodings[:, 2], predicted[:, 2:])
    torch.testing.assert_close(objectives.van_loss(model, batch).total, lp(drawn.frames, frames[:, 3:], 2.0))
    rebuilt = model.reconstruct(frames)
    assert rebuilt.shape == batch.future.shape


def test_new_frames_are_trained_where_the_mask_is_closed():
    frames = batch_of()
    for weight, trained in ((0.0, False), (0.5, True)):
        model = built(new_weight=weight).train()
        close_masks(model)
        loss = objectives.van_loss(model, frames)
        loss.total.backward()
        assert (model.van.decoder[-1].weight.grad[:3].abs().sum() > 0) == trained
    whole = torch.cat([frames.context, frames.future], 1)
    encodings = model.encode(frames.context)
    drawn = model.draw(frames.context, encodings[:, 2], model.roll(encodings, whole.new_zeros(2, 6, 0))[:, 2:])
    expected = lp(drawn.frames, frames.future, 2.0) + 0.5 * lp(drawn.new, frames.future, 2.0)
    torch.testing.assert_close(loss.total, expected)


def test_rolled_keeps_the_frames_of_the_background():
    model = built(mode="epva", rolled=3, drawn=2).train()
    loss = objectives.epva_loss(model, batch_of())
    loss.total.backward()
    assert loss.total.isfinite()


@pytest.mark.parametrize("seed", [0, 1])
def test_shares_scale_the_change_from_the_last_frame_by_lead_time(seed):
    model, frames = built(), clip(seed)[:, :3]
    plain = model.predict(frames, 6)[0]
    shares = torch.tensor([1.0, 0.5, 0.25, 0.0])
    model.shares.copy_(shares)
    shrunk, last = model.predict(frames, 6)[0], frames[:, 2]
    for k in range(6):
        share = shares[min(k, 3)]
        torch.testing.assert_close(shrunk[:, k], last + share * (plain[:, k] - last))
    state = model.rollout_init(frames)
    for k in range(6):
        state, frame = model.rollout_step(state)
        torch.testing.assert_close(frame, shrunk[:, k])


def test_calibration_sets_the_shares_of_least_squared_error():
    model = built()
    batches = [batch_of(seed) for seed in range(3)]
    sums = [change_sums(model.predict(b.context, 4)[0], b.future, b.context[:, -1:]) for b in batches]
    model.calibrate(iter(batches))
    torch.testing.assert_close(model.shares, shrinkage(torch.cat(sums, 1)).float())
    model.calibrate(iter(()))
    assert torch.equal(model.shares, torch.ones(4))
    assert model.calibration_horizon == 4
    assert built(shrink=0).calibration_horizon == 0


def test_masks_of_the_forecast_have_the_size_of_frames():
    masks = built().masks(clip()[:, :3], 4)
    assert masks.shape == (2, 4, 1, 20, 16)
    assert float(masks.min()) >= 0
    assert float(masks.max()) <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"background": "last", "first_frame": False}, "background must be first without"),
        ({"size": 0, "mode": "epva-gan"}, "in mode epva-gan, got 0"),
        ({"background": "mixed", "context": 4, "rolled": 3}, "rolled must be at least model.context, 4, got 3"),
        ({"shrink": -1}, "shrink"),
        ({"new_weight": -1.0}, "new_weight"),
        ({"background": "none"}, "background"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        HierarchicalConfig(**settings)


@pytest.mark.parametrize(("longest", "context", "future"), [(100, 8, 64), (40, 8, 32), (10, 8, 2), (5, 4, 1)])
def test_short_videos_shorten_the_future_and_then_the_context(longest, context, future):
    config = PROFILES["small"]()
    found = Hierarchical.fit_to_data(config, lambda request: request.length <= longest)
    assert (found.context, found.future, found.shrink) == (context, future, future)
    published = PROFILES["narrow"]()
    assert Hierarchical.fit_to_data(published, lambda _: False) == published


def test_frames_that_are_too_large_are_refused_in_one_sentence():
    spec = ClipSpec(channels=3, height=360, width=640)
    with pytest.raises(UserError, match=r"frames of 360x640 are too large .* use --size 128, or --model.size 64"):
        Hierarchical(PROFILES["small"](), spec)
