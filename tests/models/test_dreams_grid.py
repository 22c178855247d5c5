"""Dreams with a latent for every cell of a frame: cells, losses, mixture density, temperature, roll-out, a run."""

# ruff: noqa: F401, F811 - fixtures come by import

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cli_support import done, refused
from small_models import same_run, stopped_in, trained_dreams
from torch import nn

from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, Batch, ClipSpec
from framecast.inference.load import load
from framecast.models.dreams.config import PROFILES, grid_tiny
from framecast.models.dreams.grid import REACH, crops_of_change, moving_cells, weighted_error
from framecast.models.dreams.predictor import Dreams
from framecast.models.latent import EditableLatent
from framecast.models.rollout import RolloutSession
from framecast.training.presets import preset
from framecast.training.train import train

CLIP = ClipSpec(channels=3, height=16, width=24)
ACTING = replace(CLIP, actions=ActionSpec(kind="discrete", size=3, names=("noop", "left", "right")))
CELLS, SIZE = 6, 4


def build(config=None, spec=CLIP, seed=0):
    """A model whose layers that start at zero are filled, so that everything has an effect."""
    torch.manual_seed(seed)
    model = Dreams(config or grid_tiny(), spec).eval()
    for p in model.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return model


def over_last(**settings):
    """`grid-tiny` whose frames are over the last true one."""
    return replace(grid_tiny(), background="last", **settings)


def batch(model, b=2, seed=0):
    """Frames that change in the upper left cell only, and actions where the model takes them."""
    request = model.request(model.config)
    g = torch.Generator().manual_seed(seed)
    frames = torch.rand(b, 1, 3, 16, 24, generator=g).repeat(1, request.length, 1, 1, 1)
    frames[..., :8, :8] = torch.rand(b, request.length, 3, 8, 8, generator=g)
    actions = None
    if model.spec.actions is not None:
        actions = one_hot(torch.randint(3, (b, request.length - 1), generator=g))
    return Batch(context=frames[:, : request.context], future=frames[:, request.context :], actions=actions)


def one_hot(index):
    return nn.functional.one_hot(index, 3).float()


# ------------------------------------------------------------------------------------------------------- latents


def test_latent_of_a_frame_is_that_of_its_cells_in_rows():
    model = build()
    frames = torch.rand(1, 2, 3, 16, 24)
    z = model.encode(frames)
    assert z.shape == (1, 2, CELLS * SIZE)
    decoded = model.decode(z)
    assert decoded.shape == frames.shape
    assert 0 < decoded.min() < decoded.max() < 1
    changed = frames.clone()
    changed[..., 8:16, 16:24] = 0  # row 1, column 2
    where = (model.encode(changed) - z)[0, 0].view(CELLS, SIZE).abs().amax(1) > 1e-6
    assert where.nonzero().flatten().tolist() == [5]


def test_profile_has_ten_by_ten_cells_for_the_maze_and_fits_in_two_megabytes():
    model = Dreams(PROFILES["grid"](), ClipSpec(channels=3, height=80, width=80, actions=ACTING.actions))
    assert model.grid == (10, 10)
    assert 2 * sum(p.numel() for p in model.parameters()) < 2e6
    assert (model.num_context, model.actions) == (10, "required")


def test_decoder_starts_from_the_median_picture():
    model = build()
    frames = torch.rand(5, 1, 3, 16, 24)
    with torch.no_grad():
        model.initialize_from_batch(Batch(context=frames, future=frames[:, :0]))
        for p in model.vae.decoder.parameters():
            p.zero_()
    expected = frames[:, 0].median(0).values.clamp(0.01, 0.99)
    torch.testing.assert_close(model.decode(torch.randn(1, 1, CELLS * SIZE))[0, 0], expected)


# -------------------------------------------------------------------------------------------------------- losses


def test_weighted_error_by_a_plain_loop():
    rng = np.random.default_rng(0)
    x, y, still = rng.random((2, 3, 7, 9)), rng.random((2, 3, 7, 9)), rng.random((3, 7, 9))
    expected = 0.0
    for n, c, i, j in np.ndindex(x.shape):
        around = (slice(None), slice(max(0, i - 2), i + 3), slice(max(0, j - 2), j + 3))
        weight = 1 + 7 * np.abs(x[n] - still)[around].max()
        expected += weight * (x[n, c, i, j] - y[n, c, i, j]) ** 2 / 2
    assert float(weighted_error(*map(torch.from_numpy, (x, y, still)), 7.0)) == pytest.approx(expected)


def test_crops_are_whole_cells_of_frame_and_still_picture_around_a_change():
    torch.manual_seed(0)
    still = torch.arange(3 * 32 * 40).view(3, 32, 40) / 3840
    frames = still.repeat(400, 1, 1, 1)
    frames[:, :, 8:16, 24:32] += 1  # row 1, column 3
    found, beside = crops_of_change(frames, still, 8, 2)
    assert found.shape == beside.shape == (400, 3, 16, 16)
    places = (beside[:, 0, 0, 0] * 3840).round().long()
    top, left = places // 40, places % 40
    assert set(top.tolist()) == {0, 8, 16}
    assert set(left.tolist()) == {0, 8, 16, 24}
    for crop, y, x in zip(found, top, left, strict=True):
        assert torch.equal(crop, frames[0, :, y : y + 16, x : x + 16])
    inside = (top <= 8) & (left >= 16)
    assert 0.8 < inside.float().mean() < 0.97
    assert crops_of_change(frames, still, 8, 9)[0].shape == frames.shape


def test_vision_trains_on_crops_first_and_is_validated_on_whole_frames():
    model = build(replace(grid_tiny(), crop_cells=1, kl_weight=0.0))
    whole, seen = batch(model), []
    model.vae.decoder.register_forward_hook(lambda module, given, out: seen.append(tuple(out.shape[-2:])))
    for training, elapsed in ((True, 0.7), (True, 0.8), (False, 0.0)):
        model.train(training).vision_loss(replace(whole, elapsed=elapsed))
    assert seen == [(8, 8), (16, 24), (16, 24)]


def test_moving_cells_by_a_plain_loop():
    rng = np.random.default_rng(0)
    changed = rng.random((2, 9, 4, 5)) < 0.03
    steps = np.where(changed[..., None], rng.choice([-1.0, 1.0], (2, 9, 4, 5, 3)), 0.0)
    cells = np.concatenate([np.zeros((2, 1, 4, 5, 3)), steps.cumsum(1)], 1)
    found = moving_cells(torch.from_numpy(cells.reshape(2, 10, -1)), (4, 5)).view(2, 9, 4, 5)
    for b, t, y, x in np.ndindex(found.shape):
        near = changed[b, max(t - 3, 0) : t + 1, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert bool(found[b, t, y, x]) == bool(near.any())
    assert 0.1 < found.float().mean() < 0.9


@pytest.mark.parametrize("recurrence", ["carried", "window"])
def test_memory_loss_by_a_plain_loop(recurrence):
    model = build(replace(grid_tiny(), recurrence=recurrence, change_weight=5.0))
    whole = batch(model)
    found = model.latents(Batch(context=torch.cat([whole.context, whole.future], 1), future=whole.future))
    exact = {"mean": found["mean"].detach(), "logvar": torch.full_like(found["logvar"], -200.0)}
    empty = torch.zeros(2, 0, 3, 16, 24)
    loss = model.memory_loss(Batch(context=empty, future=empty, latents=exact))
    z, out = exact["mean"], model.rnn(exact["mean"][:, :-1])[0].detach().double().numpy()
    target = z[:, 1:].view(2, -1, CELLS, SIZE).double().numpy()
    moving = moving_cells(z, model.grid).numpy()
    steps = range(out.shape[1]) if recurrence == "carried" else [out.shape[1] - 1]
    total = weights = 0.0
    for b in range(2):
        for t in steps:
            for cell in range(CELLS):
                mean, raw, logits = np.split(out[b, t, cell], [2 * SIZE, 4 * SIZE])
                density = 0.0
                for k in range(2):
                    density_k = math.exp(logits[k]) / sum(map(math.exp, logits))
                    for d in range(SIZE):
                        sigma = math.exp(raw[k * SIZE + d]) + 1e-3
                        error = (target[b, t, cell, d] - mean[k * SIZE + d]) / sigma
                        density_k *= math.exp(-0.5 * error**2) / (sigma * math.sqrt(2 * math.pi))
                    density += density_k
                weight = 1 + 5 * moving[b, t, cell]
                total, weights = total - weight * math.log(density), weights + weight
    assert float(loss.total.detach()) == pytest.approx(total / weights, rel=1e-4)
    assert set(loss.parts) == {"nll", "moving_nll"}


@pytest.mark.parametrize("spec", [CLIP, ACTING])
def test_each_phase_gives_gradients_to_all_of_its_network_and_to_no_other(spec):
    model = build(spec=spec)
    for phase in model.phases():
        model.zero_grad()
        phase.loss(batch(model), 0).total.backward()
        touched = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        expected = {name for name, _ in model.named_parameters() if name.split(".")[0] in phase.modules}
        if spec is CLIP:  # without actions the weights of their condition meet zeros
            touched |= {name for name in expected if "before" in name and "film.linear.weight" in name}
        assert touched == expected, phase.name


def test_gated_vision_loss_by_a_plain_loop():
    model = build(replace(over_last(), change_weight=7.0, drawn_weight=0.25, kl_weight=0.0))
    with torch.no_grad():
        model.vae.encoder["logvar"].bias.fill_(-80.0)  # latents without noise
    frames = torch.cat([batch(model).context, batch(model).future], 1)
    z = model.encode(frames)
    drawn, expected = model.decode(z), 0.0
    for b, t in np.ndindex(*frames.shape[:2]):
        base = t - 1  # in validation every frame is over the one before, the first over the last
        got = model.vae.gated(drawn[b, t][None], z[b, t][None], frames[b, base][None], z[b, base][None])
        of_both = [(got, frames[b, base], 1.0), (drawn[b, t][None], model.vae.still, 0.25)]
        for found, still, weight in of_both:
            expected += weight * float(weighted_error(frames[b, t][None], found, still, 7.0).detach())
    loss = model.vision_loss(Batch(context=frames, future=frames[:, :0]))
    assert float(loss.total.detach()) == pytest.approx(expected / (len(frames) * frames.shape[1]), rel=1e-4)


def test_gate_mixes_drawn_and_last_frame_and_starts_mostly_closed():
    torch.manual_seed(0)
    model = Dreams(over_last(), CLIP).eval()
    frame, drawn, (z, base) = torch.rand(2, 3, 16, 24), torch.rand(2, 3, 16, 24), torch.randn(2, 2, CELLS * SIZE)
    m = 1 / (1 + math.e)
    torch.testing.assert_close(model.vae.gated(drawn, z, frame, base), frame + m * (drawn - frame))


def test_a_closed_gate_does_not_stop_the_gradient_of_the_drawn_frame():
    model = build(over_last())
    with torch.no_grad():
        model.vae.gate[2].bias.fill_(-200.0)
    model.vision_loss(batch(model)).total.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.vae.decoder.parameters())


# ------------------------------------------------------------------------------------------------------ roll-out


@pytest.mark.parametrize(
    "settings",
    [{}, {"recurrence": "window"}, {"context": 1}, {"head": "gaussian"}, {"background": "last", "shrink": 3}],
)
@pytest.mark.parametrize("spec", [CLIP, ACTING])
def test_frame_by_frame_is_predict(settings, spec):
    model = build(replace(grid_tiny(), **settings), spec)
    context, t = batch(model).context, model.num_context
    actions = (
        None if spec is CLIP else one_hot(torch.randint(3, (2, t + 3), generator=torch.Generator().manual_seed(1)))
    )
    if model.shares is not None:
        model.shares.copy_(torch.tensor([1.0, 0.5, 0.25]))
    whole = model.predict(context, 4, actions, samples=3, generator=torch.Generator().manual_seed(5))
    led = None if actions is None else actions.repeat(3, 1, 1)
    start = None if actions is None else actions[:, : t - 1]
    state = model.rollout_init(context, start, 3, torch.Generator().manual_seed(5))
    for k in range(4):
        state, frame = model.rollout_step(state, None if led is None else led[:, t - 1 + k])
        torch.testing.assert_close(frame, whole[:, :, k].flatten(0, 1), atol=1e-5, rtol=1e-4)
    assert all(len(value) == 6 for value in state.values())
    assert not torch.equal(whole[0], whole[1])


def test_rollout_state_equals_that_of_the_whole_past():
    model = build(replace(grid_tiny(), weight_temperature=0.0, sigma_temperature=0.0))
    state = model.rollout_init(batch(model).context)
    latents = state["latents"]
    for _ in range(3):
        mixture = model.law(model.rnn(latents)[0][:, -1], "mdn")
        likeliest = mixture.logits.argmax(2, keepdim=True).expand(-1, -1, 1, SIZE)
        expected = mixture.mean.gather(2, likeliest).flatten(1)
        state, latent = model.rollout_latent(state)
        torch.testing.assert_close(latent, expected)
        latents = torch.cat([latents, expected[:, None]], 1)


def test_actions_lead_to_the_next_frame_and_not_to_this_one():
    model = build(spec=ACTING)
    context = batch(model).context
    left, right = (one_hot(torch.full((2, 6), i)) for i in (1, 2))
    turned = torch.cat([left[:, :4], right[:, 4:]], 1)
    one, two = (model.predict(context, 4, a, generator=torch.Generator().manual_seed(0)) for a in (left, turned))
    assert torch.equal(one[:, :, :2], two[:, :, :2])  # led there by actions 2 and 3
    assert not torch.equal(one[:, :, 2], two[:, :, 2])  # by action 4


def test_long_dreams_stay_finite_and_within_reach():
    model = build()
    with torch.no_grad():
        model.rnn.out.weight.mul_(10)  # a memory that pushes latents further at every step
    state = model.rollout_init(batch(model).context)
    for _ in range(100):
        state, latent = model.rollout_latent(state)
        assert latent.abs().max() <= REACH
    assert latent.abs().max() == REACH


def test_temperatures_scale_variance_and_sharpen_the_choice_in_every_cell():
    model = build()
    context, count = batch(model).context[:1], 4000
    state = model.rollout_init(context, samples=count, generator=torch.Generator().manual_seed(0))
    before = {k: v[:1] for k, v in state.items() if k.startswith("state")}
    mixture = model.law(model.rnn(state["latents"][:1, -1:], *before.values())[0][:, -1], "mdn")

    def drawn(weight, sigma):
        given = {
            "weight_temperature": torch.full((count,), weight),
            "sigma_temperature": torch.full((count,), sigma),
        }
        return model.rollout_latent({**state, **given})[1].view(count, CELLS, SIZE)

    likeliest = mixture.logits.argmax(2, keepdim=True).expand(-1, -1, 1, SIZE)
    mean, sigma = (x.gather(2, likeliest)[0, :, 0] for x in (mixture.mean, mixture.sigma))
    torch.testing.assert_close(drawn(0.0, 0.0), mean.expand(count, -1, -1))
    for tau in (1.0, 0.25):
        torch.testing.assert_close(drawn(0.0, tau).std(0), sigma * math.sqrt(tau), rtol=0.06, atol=0)
    for tau in (1.0, 0.3):
        chosen = (drawn(tau, 0.0)[:, :, None] - mixture.mean).abs().amax(3).argmin(2)
        expected = (mixture.logits[0, :, :, 0] / tau).softmax(1)
        torch.testing.assert_close(one_hot(chosen)[..., :2].mean(0), expected, rtol=0, atol=0.04)


def test_every_frame_has_the_last_true_one_and_shrunk_towards_it():
    model = build(over_last(shrink=2))
    model.shares.copy_(torch.tensor([1.0, 0.25]))
    context = batch(model).context
    state = model.rollout_init(context, generator=torch.Generator().manual_seed(0))
    last, base = context[:, -1], model.encode(context)[:, -1]
    for share in (1.0, 0.25, 0.25):
        state, frame = model.rollout_step(state)
        z = model.get_latent(state)
        upon = model.vae.gated(model.decode(z[:, None])[:, 0], z, last, base)
        torch.testing.assert_close(frame, last + share * (upon - last))
        assert not torch.equal(upon, last)


def test_calibration_sets_shares_and_nothing_else():
    model = build(over_last(shrink=3))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.calibrate([batch(model)])
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"shares"}
    assert ((model.shares >= 0) & (model.shares <= 1)).all()


def test_roll_out_continues_from_an_edited_latent():
    model = build()
    assert isinstance(model, EditableLatent)
    session = RolloutSession(model, batch(model).context[:1], generator=torch.Generator().manual_seed(0))
    session.step()
    edited = session.code + 1
    torch.testing.assert_close(session.take(edited), model.decode(edited[:, None])[:, 0])
    assert torch.equal(session.code, edited)
    session.step()
    assert not torch.equal(session.code, edited)


def test_an_edited_latent_has_the_last_true_frame():
    model = build(over_last())
    context = batch(model).context[:1]
    session = RolloutSession(model, context, generator=torch.Generator().manual_seed(0))
    frame = session.step()
    torch.testing.assert_close(session.take(session.code), frame)


# ----------------------------------------------------------------------------------------------------- bad input


def test_frames_that_cells_do_not_divide_are_refused(refused, tmp_path):
    with pytest.raises(UserError, match=r"cell_side 8 does not divide frames of 20x24 px; use --size 16x24 or another"):
        Dreams(grid_tiny(), replace(CLIP, height=20))
    np.save(tmp_path / "clip.npy", np.zeros((3, 9, 3, 20, 24), np.uint8))
    out = tmp_path / "run"
    result = refused("train", "dreams", "--profile", "grid-tiny", "--data", tmp_path / "clip.npy", "--out", out)
    assert "model.cell_side 8 does not divide frames of 20x24 px" in result
    assert not out.exists()


def test_frames_of_another_size_are_refused():
    with pytest.raises(ValueError, match="takes frames of 16x24, got 32x48"):
        build().predict(torch.zeros(1, 3, 3, 32, 48), 1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"latent": "cells"}, "model.latent must be one of frame, grid"),
        ({"cell_side": 6}, "model.cell_side must be a multiple of 4, got 6"),
        ({"grid_widths": (8, 0)}, "model.grid_widths must be 2 numbers of at least 1"),
        ({"memory_sizes": (8, 8)}, "one number in model.memory_sizes, got gru"),
        ({"cell": "lstm"}, "use model.cell gru"),
        ({"head": "linear"}, "needs heads mdn, gaussian or softmax"),
        ({"resample": False}, "and model.resample"),
        ({"crop_share": 1.5}, "model.crop_share must lie in 0…1"),
        ({"drawn_weight": -1.0}, "model.drawn_weight must be at least 0"),
        ({"shrink": -1}, "model.shrink must be at least 0"),
        ({"background": "first"}, "model.background must be one of still, last"),
        ({"latent": "frame", "background": "last"}, "model.background last needs model.latent grid"),
        ({"change_weight": -1.0}, "model.change_weight must be at least 0"),
    ],
)
def test_settings_are_checked(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        replace(grid_tiny(), **settings)


# --------------------------------------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_dreams("grid-tiny", tmp_path_factory.mktemp("grid") / "run")


def test_one_command_trains_both_stages(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"vision/reconstruction", "memory/nll", "memory/moving_nll"} <= {k for r in rows for k in r}
    assert {p.stem for p in (run / "final_videos").iterdir()} == {"reconstruction", "dream-mdn"}
    model = load(run)
    assert model.grid == (8, 8)
    assert not torch.equal(model.vae.still, torch.full_like(model.vae.still, 0.5))


@pytest.mark.parametrize(("stage", "call"), [("vision_loss", 3), ("memory_loss", 4)])
def test_resumed_run_equals_unbroken_run(run, tmp_path, monkeypatch, stage, call):
    same_run(run, stopped_in(monkeypatch, stage, call, "grid-tiny", tmp_path / "run"))


def test_memory_of_another_grid_is_refused_as_a_start(run, refused, tmp_path):
    np.save(tmp_path / "clip.npy", np.zeros((3, 9, 3, 48, 64), np.uint8))
    result = refused(
        *("train", "dreams", "--profile", "grid-tiny", "--data", tmp_path / "clip.npy"),
        *("--init-from", run, "--out", tmp_path / "run"),
    )
    assert "its memory was trained on a grid of 8x8 cells, this model has 6x8; use frames of 64x64 px" in result


def test_latent_commands_accept_the_model(run, done, tmp_path):
    result = json.loads(
        done("latents", "statistics", run, "--out", tmp_path, "--clips", 2, "--steps", 2, "--json", "-")
    )
    assert len(result["numbers"]) == 64 * SIZE
    assert [row["step"] for row in result["dream"]] == [1, 2]
    done("latents", "traverse", run, "--out", tmp_path, "--low", "-3", "--high", "3", "--steps", "3")
    assert (tmp_path / "traverse.gif").is_file()
