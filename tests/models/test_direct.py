"""Direct multi-horizon prediction: mixture, lead times, actions, sizes, bounds."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, Batch, ClipSpec
from framecast.models.direct.config import PROFILES, DirectConfig
from framecast.models.direct.losses import bounds_loss
from framecast.models.direct.predictor import Direct

TINY = replace(PROFILES["tiny"](), flow="blocks")


def build(config=TINY, channels=3, height=16, width=24, actions=0, trained=True):
    torch.manual_seed(0)
    kind = ActionSpec(kind="continuous", size=actions) if actions else None
    model = Direct(config, ClipSpec(channels=channels, height=height, width=width, actions=kind)).eval()
    if trained:  # weights that are not at their start, where parts are zero
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.05 * torch.randn_like(p))
    return model


def clip(model, frames, b=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(b, frames, model.spec.channels, model.spec.height, model.spec.width, generator=g)


def test_new_model_almost_copies_the_last_frame():
    model = build(trained=False)
    context = torch.full((1, 3, 3, 16, 24), 0.2)
    context[:, -1] = 0.6
    forecast = model.predict(context, 4)
    assert (forecast - 0.6).abs().max() < 0.1


def test_forecast_is_the_softmax_mixture_of_its_sources():
    config = replace(TINY, flow="none", new=False)
    model = build(config)
    context = clip(model, 3)
    with torch.no_grad():
        encoded = model._encode(context)
        maps = model.head(model._features(encoded, torch.zeros(2, 1, dtype=torch.int64), None))
    weights = maps[..., :16, :24].softmax(2)
    sources = [context[:, 2], context[:, 1], context.mean(1)]
    for k in range(2):
        expected = sum(weights[:, k, s, None] * source for s, source in enumerate(sources))
        torch.testing.assert_close(model.predict(context, 2)[0][:, k], expected)


def test_frames_depend_on_the_lead_time_and_not_on_the_length_of_the_forecast():
    model = build()
    context = clip(model, 3)
    long = model.predict(context, 4)
    assert not torch.allclose(long[0, :, 1], long[0, :, 3])
    torch.testing.assert_close(model.predict(context, 3), long[:, :, :3])


def test_frames_beyond_the_horizon_come_from_predicted_ones():
    model = build()
    context = clip(model, 3)
    first = model.predict(context, 4)[0]
    again = model.predict(torch.cat([context, first], 1), 2)[0]
    torch.testing.assert_close(model.predict(context, 6)[0][:, 4:], again)


@pytest.mark.parametrize("actions", [0, 2])
def test_rollout_equals_predict_across_blocks_and_horizons(actions):
    model = build(actions=actions)
    model.shares.copy_(torch.tensor([1, 0.5, 0.25, 0]))
    context, steps = clip(model, 3), 7
    table = torch.randn(2, 3 + steps - 1, actions) if actions else None
    forecast = model.predict(context, steps, actions=table)[0]
    state = model.rollout_init(context, actions=None if table is None else table[:, :2])
    for k in range(steps):
        state, frame = model.rollout_step(state, None if table is None else table[:, 2 + k])
        torch.testing.assert_close(frame, forecast[:, k], atol=1e-5, rtol=1e-4)
        assert all(v.shape[0] == 2 for v in state.values())


def test_shares_scale_the_change_from_the_last_frame_at_their_lead_times():
    model = build()
    context, shares = clip(model, 3), torch.tensor([1, 0.5, 0.25, 0])
    whole, last = model.predict(context, 4)[0], context[:, -1:]
    model.shares.copy_(shares)
    expected = last + shares.view(1, 4, 1, 1, 1) * (whole - last)
    torch.testing.assert_close(model.predict(context, 4)[0], expected)


def test_calibration_lowers_the_error_on_its_clips_and_starts_from_unscaled_changes():
    model = build()
    context = clip(model, 3, b=6)
    future = context[:, -1:] + 0.1 * torch.randn(6, 4, 3, 16, 24)  # hardly anything moves
    batch = Batch(context=context, future=future)

    def error():
        return (model.predict(batch.context, 4)[0] - batch.future).square().mean((0, 2, 3, 4))

    before = error()
    model.calibrate([batch])
    once = model.shares.clone()
    assert (error() < before).all()
    assert ((once > 0) & (once < 1)).all()
    model.calibrate([batch])
    assert torch.equal(model.shares, once)
    model.calibrate([])
    assert torch.equal(model.shares, torch.ones(4))


def test_config_of_before_shares_came_has_none():
    assert "shares" not in build(replace(TINY, shrink=False)).state_dict()
    assert not Direct.Config().shrink
    assert all(make().shrink for make in PROFILES.values())


def test_frame_k_depends_on_the_actions_before_it_and_on_no_later_one():
    model = build(actions=2)
    context, table = clip(model, 3), torch.randn(2, 3 + 4 - 1, 2)
    forecast = model.predict(context, 4, actions=table)[0]
    for index in range(6):
        changed = table.clone()
        changed[:, index] += 1
        frames = model.predict(context, 4, actions=changed)[0]
        first = max(index - 2, 0)  # action i leads to frame i + 1, and the context has 3
        assert torch.equal(frames[:, :first], forecast[:, :first])
        assert not torch.allclose(frames[:, first], forecast[:, first])


def test_loss_of_drawn_blocks_and_gradients_of_the_bounds():
    model = build()
    leads = torch.tensor([[3, 4], [1, 2]])
    batch = Batch(context=clip(model, 3), future=clip(model, 2, seed=1), lead_times=leads)
    truth, last = batch.future, batch.context[:, -1:]
    forecast = model.predict(batch.context, 4)[0]
    chosen = torch.stack([forecast[0, 2:], forecast[1, :2]])
    mse = (chosen - truth).square().mean((1, 2, 3, 4))
    copied = (last - truth).square().mean((1, 2, 3, 4))
    found = replace_loss(model, bounds_weight=0.0).loss(batch)
    torch.testing.assert_close(found.total, (mse / (copied + model.config.relative_floor)).mean())
    only_bounds = model.loss(batch)
    only_bounds.total.backward()
    with_bounds = model.head.project.weight.grad.clone()
    assert model.bounds.project.weight.grad.abs().sum() > 0
    model.zero_grad()
    found = replace_loss(model, bounds_weight=0.0).loss(batch)
    found.total.backward()
    torch.testing.assert_close(with_bounds, model.head.project.weight.grad)


def test_training_loss_counts_every_second_frame_from_alternating_ones():
    model = build(replace(TINY, target_stride=2, bounds_weight=0.0, loss="l2")).train()
    batch = Batch(context=clip(model, 3), future=clip(model, 2, seed=1))
    forecast = model.predict(batch.context, 2)[0]
    mse = 10 * (forecast - batch.future).square().mean((0, 2, 3, 4))
    for step in range(4):
        torch.testing.assert_close(model.loss(batch, step).total.detach(), mse[step % 2])
    torch.testing.assert_close(model.eval().loss(batch, 1).total.detach(), mse.mean())


def replace_loss(model, **changes):
    made = Direct(replace(model.config, **changes), model.spec)
    made.load_state_dict(model.state_dict())
    if changes.get("bounds_weight") == 0.0:
        made.head, made.encoder, made.decoder = model.head, model.encoder, model.decoder
    return made


def test_bounds_enclose_the_chosen_share_of_a_known_error():
    model = build(replace(TINY, coverage=0.8))
    g = torch.Generator().manual_seed(0)
    truth = torch.rand(4, 1, 3, 40, 40, generator=g)
    bounds = torch.full((4, 1, 2, 40, 40), 0.1, requires_grad=True)
    optimiser = torch.optim.Adam([bounds], 0.01)
    mean, last = torch.full_like(truth, 0.5), torch.zeros_like(truth)
    for _ in range(150):
        optimiser.zero_grad()
        everywhere = bounds.mean((0, 3, 4), keepdim=True).expand_as(bounds)
        bounds_loss(model.config.coverage, mean, everywhere, truth, last).backward()
        optimiser.step()
    low, high = bounds.detach().mean((0, 1, 3, 4))
    inside = ((truth > 0.5 - low) & (truth < 0.5 + high)).float().mean()
    assert inside == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (64, 48)])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_size_and_any_number_of_channels(size, channels):
    model = build(replace(TINY, work_side=20), channels, *size)
    context = clip(model, 3, b=1)
    forecast = model.predict(context, 3)
    assert forecast.shape == (1, 1, 3, channels, *size)
    low, high = model.intervals(context, 3)
    assert low.shape == high.shape == forecast.shape[1:]
    assert ((low <= forecast[0]) & (forecast[0] <= high)).all()


def test_one_frame_of_context_is_repeated():
    model = build()
    one = clip(model, 1)
    torch.testing.assert_close(model.predict(one, 4), model.predict(one.repeat(1, 3, 1, 1, 1), 4))
    with pytest.raises(ValueError, match="needs 1 context frames"):
        model.predict(one[:, :0], 4)


def test_large_frames_are_mixed_in_parts_with_the_same_result(monkeypatch):
    model = build(replace(TINY, work_side=10))
    context = clip(model, 3)
    whole = model.predict(context, 4)
    monkeypatch.setattr("framecast.models.direct.predictor._MIXED_AT_ONCE", 1)
    torch.testing.assert_close(model.predict(context, 4), whole)


class _Counted(TorchDispatchMode):
    """Counts tensors of at least `least` numbers that operations allocate."""

    def __init__(self, least):
        super().__init__()
        self.least, self.count = least, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        known = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        for x in found if isinstance(found, (list, tuple)) else [found]:
            if isinstance(x, torch.Tensor) and x.numel() >= self.least:
                self.count += x.untyped_storage().data_ptr() not in known
        return found


def test_a_forecast_of_large_frames_is_held_in_memory_once(monkeypatch):
    monkeypatch.setattr("framecast.models.direct.predictor._MIXED_AT_ONCE", 1)
    model = build(replace(TINY, work_side=8, horizon=16, shrink=True), height=48, width=64)
    context = clip(model, 3, b=1)
    with _Counted(16 * context[0, 0].numel()) as counted:
        forecast = model.predict(context, 16)
    assert forecast.shape == (1, 1, 16, 3, 48, 64)
    assert counted.count == 1


def test_augmented_loss_has_the_same_targets_turned(monkeypatch):
    model = build(replace(TINY, augment=True, short_contexts=1.0), height=16, width=16)
    batch = Batch(context=clip(model, 3), future=clip(model, 2, seed=1))
    seen = []
    monkeypatch.setattr(Direct, "loss", lambda self, batch, step=0: seen.append(batch))
    torch.manual_seed(0)
    for _ in range(8):
        model.training_loss(batch)
    for given in seen:
        assert torch.equal(given.context[:, 0], given.context[:, 1])  # at most 2 of 3 frames are real
        pair = torch.cat([given.context[:, -1:], given.future], 1)
        assert torch.equal(
            pair.flatten(2).sort(2)[0], torch.cat([batch.context[:, -1:], batch.future], 1).flatten(2).sort(2)[0]
        )
        assert not torch.equal(pair[0, 0], pair[0, 1])
    assert len({tuple(given.future[0, 0, 0, 0, :4].tolist()) for given in seen}) > 2


def test_uncertainty_is_a_view_of_the_forecast():
    model = build()
    context = (255 * clip(model, 3)).byte()
    width = model.views(context, 4)["uncertainty"]
    assert width.shape == (2, 4, 1, 16, 24)
    assert not width.requires_grad
    torch.testing.assert_close(width, model.views(context.float() / 255, 4)["uncertainty"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": 1}, "2 to 16"),
        ({"context": 17}, "2 to 16"),
        ({"horizon": 5}, "multiple of model.block"),
        ({"target_stride": 3}, "at most model.block"),
        ({"recent": 4}, "at most model.context"),
        ({"kept": 4}, "at most model.context"),
        ({"crop": 4}, "at least 8 px"),
        ({"coverage": 1.0}, "coverage"),
        ({"widths": (8, 8)}, "three numbers"),
        ({"block": 0, "horizon": 4}, "model.block must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        replace(TINY, **change)


def test_profiles_share_their_weights_where_the_networks_are_the_same():
    spec = ClipSpec(channels=3, height=64, width=64)
    small, natural = (Direct(PROFILES[name](), spec) for name in ("small", "natural"))
    assert {n: p.shape for n, p in natural.named_parameters()} == {n: p.shape for n, p in small.named_parameters()}
    assert replace(DirectConfig(), shrink=True) == PROFILES["small"]()
