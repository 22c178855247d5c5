"""Dreams with discrete codes and a memory over pictures: codes, loss, recursion, temperature, roll-out, a run."""

# ruff: noqa: F401, F811 - fixtures come by import

import itertools
import json
from dataclasses import replace

import pytest
import torch
from cli_support import done
from small_models import same_run, stopped_in, trained_dreams
from torch import nn

from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, Batch, ClipSpec
from framecast.inference.load import load
from framecast.models.dreams.config import PROFILES, grid_tiny, tokens_tiny
from framecast.models.dreams.grid import moving_cells
from framecast.models.dreams.predictor import Dreams
from framecast.models.latent import EditableLatent
from framecast.models.rollout import RolloutSession
from framecast.nn.fsq import codebook, indices
from framecast.training.train import train

CLIP = ClipSpec(channels=3, height=16, width=24)
ACTING = replace(CLIP, actions=ActionSpec(kind="discrete", size=3, names=("noop", "left", "right")))
CELLS, SIZE = 6, 3


def gaussian(**settings):
    """`tokens-tiny` with Gaussian latents and a mixture."""
    changed = {"code": "gaussian", "head": "mdn", "code_size": SIZE, **settings}
    return replace(tokens_tiny(), **changed)


def build(config=None, spec=CLIP, seed=0):
    """A model whose layers that start at zero are filled, so that everything has an effect."""
    torch.manual_seed(seed)
    model = Dreams(config or tokens_tiny(), spec).eval()
    for p in model.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    with torch.no_grad():
        model.vae.encoder["mean"].weight.mul_(20)  # different codes of random pictures
    return model


def batch(model, b=2, seed=0):
    """Frames that change in the upper left cell only, and actions where the model takes them."""
    request = model.request(model.config)
    g = torch.Generator().manual_seed(seed)
    frames = torch.rand(b, 1, 3, 16, 24, generator=g).repeat(1, request.length, 1, 1, 1)
    frames[..., :8, :8] = torch.rand(b, request.length, 3, 8, 8, generator=g)
    actions = None
    if model.spec.actions is not None:
        actions = nn.functional.one_hot(torch.randint(3, (b, request.length - 1), generator=g), 3).float()
    return Batch(context=frames[:, : request.context], future=frames[:, request.context :], actions=actions)


def test_latents_are_codes_of_the_codebook():
    model = build()
    z = model.encode(torch.rand(2, 3, 3, 16, 24)).view(-1, SIZE)
    torch.testing.assert_close(codebook(model.config.levels)[indices(z, model.config.levels)], z)
    assert len(z.unique(dim=0)) > 1
    assert set(model.latents(batch(model))) == {"z"}


def test_profile_has_twenty_by_twenty_cells_for_the_maze_and_fits_in_two_megabytes():
    model = Dreams(PROFILES["tokens"](), ClipSpec(channels=3, height=80, width=80, actions=ACTING.actions))
    assert model.grid == (20, 20)
    assert 2 * sum(p.numel() for p in model.parameters()) < 2e6
    assert (model.num_context, model.actions) == (40, "required")


def test_gradient_passes_the_rounding_to_the_encoder():
    model = build()
    loss = model.vision_loss(batch(model))
    loss.total.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.vae.parameters())
    assert set(loss.parts) == {"reconstruction"}


@pytest.mark.parametrize("spec", [CLIP, ACTING])
@pytest.mark.parametrize("config", [tokens_tiny(), gaussian()])
def test_each_phase_gives_gradients_to_all_of_its_network_and_to_no_other(spec, config):
    model = build(config, spec)
    for phase in model.phases():
        model.zero_grad()
        phase.loss(batch(model), 0).total.backward()
        touched = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        expected = {name for name, _ in model.named_parameters() if name.split(".")[0] in phase.modules}
        if spec is CLIP:  # without actions their weights meet zeros
            touched |= {"rnn.act.weight"} & expected
        assert touched == expected, phase.name


def of_true_grids(model, whole):
    """Loss of predictions from true grids alone, by a plain loop."""
    config, t = model.config, model.config.context
    frames = torch.cat([whole.context, whole.future], 1)
    z = model.encode(frames)
    moving, total, weights = moving_cells(z, model.grid), 0.0, 0.0
    for b, k in itertools.product(range(len(z)), range(config.recursion)):
        window = z[b : b + 1, k : k + t]
        pictures = model.decode(window[:, -config.memory_frames :])
        out, (drawn,) = model.rnn(window, pictures, model.vae)
        logits, true = out[0, 0].log_softmax(-1), model.decode(z[b : b + 1, t + k : t + k + 1])[:, 0]
        errors = (drawn - true)[0].detach().square().unflatten(1, (2, 8)).unflatten(3, (3, 8)).sum((0, 2, 4)).flatten()
        chosen = indices(z[b, t + k].view(CELLS, SIZE), config.levels)
        for cell in range(CELLS):
            weight = 1 + config.change_weight * float(moving[b, t + k - 1, cell])
            value = -float(logits[cell, chosen[cell]].detach()) + config.picture_weight * float(errors[cell])
            total, weights = total + weight * value, weights + weight
    return total / weights


def test_loss_without_recursion_by_a_plain_loop():
    model = build(replace(tokens_tiny(), recursion=1))
    whole = batch(model)
    loss = model.memory_loss(whole)
    assert float(loss.total.detach()) == pytest.approx(of_true_grids(model, whole), rel=1e-4)
    assert set(loss.parts) == {"nll", "moving_nll", "picture"}


def test_recursion_grows_from_true_grids_to_own_ones():
    model = build(replace(tokens_tiny(), reset_cells=0)).train()
    whole = batch(model)
    losses = {e: float(model.memory_loss(replace(whole, elapsed=e)).total.detach()) for e in (0.0, 0.6)}
    assert losses[0.0] == pytest.approx(of_true_grids(model, whole), rel=1e-4)
    assert losses[0.6] != pytest.approx(losses[0.0], rel=1e-4)
    found = model.memory_loss(replace(whole, elapsed=0.6)).parts
    assert set(found) == {"nll", "moving_nll", "reset", "picture"}
    assert float(found["reset"]) == 0


def test_a_clip_that_has_left_the_truth_returns_to_it():
    config = replace(tokens_tiny(), reset_cells=1, recursion_ramp=0.0)
    model = build(config)
    with torch.no_grad():
        for p in model.rnn.parameters():
            p.zero_()
        model.rnn.copy.fill_(9.0)  # copies the last grid, of which one cell alone is wrong at the first step
    whole = batch(model)
    assert float(model.memory_loss(whole).parts["reset"]) == 0
    with torch.no_grad():
        model.rnn.out.bias[7] = 99.0  # one code in all cells
        model.vae.decoder[-2].weight.mul_(50)
    assert float(model.memory_loss(whole).parts["reset"]) == 1


@pytest.mark.parametrize("config", [tokens_tiny(), gaussian(), replace(grid_tiny(), recurrence="window", recursion=3)])
def test_recursion_trains_every_memory_over_grids(config):
    model = build(config, ACTING)
    loss = model.memory_loss(batch(model))
    assert torch.isfinite(loss.total)
    assert "reset" in loss.parts


@pytest.mark.parametrize("config", [tokens_tiny(), gaussian(), replace(tokens_tiny(), background="last", shrink=3)])
@pytest.mark.parametrize("spec", [CLIP, ACTING])
def test_frame_by_frame_is_predict(config, spec):
    model = build(replace(config, weight_temperature=1.0), spec)
    if model.shares is not None:
        model.shares.copy_(torch.tensor([1.0, 0.5, 0.25]))
    context, t = batch(model).context, model.num_context
    actions = None
    if spec is ACTING:
        index = torch.randint(3, (2, t + 3), generator=torch.Generator().manual_seed(1))
        actions = nn.functional.one_hot(index, 3).float()
    whole = model.predict(context, 4, actions, samples=3, generator=torch.Generator().manual_seed(5))
    led = None if actions is None else actions.repeat(3, 1, 1)
    start = None if actions is None else actions[:, : t - 1]
    state = model.rollout_init(context, start, 3, torch.Generator().manual_seed(5))
    for k in range(4):
        state, frame = model.rollout_step(state, None if led is None else led[:, t - 1 + k])
        torch.testing.assert_close(frame, whole[:, :, k].flatten(0, 1), atol=1e-5, rtol=1e-4)
    assert not torch.equal(whole[0], whole[1])


def test_temperature_sharpens_the_choice_of_codes_and_is_the_only_control():
    model = build()
    assert [control.name for control in model.controls()] == ["weight_temperature"]
    count, config = 4000, model.config
    state = model.rollout_init(batch(model).context[:1], samples=count, generator=torch.Generator().manual_seed(0))
    latents = state["latents"][:1]
    logits = model.rnn(latents, model.decode(latents[:, -config.memory_frames :]), model.vae)[0][0, 0]

    def drawn(tau):
        z = model.rollout_latent({**state, "weight_temperature": torch.full((count,), tau)})[1]
        return indices(z.view(count, CELLS, SIZE), config.levels)

    assert torch.equal(drawn(0.0), logits.argmax(-1).expand(count, -1))
    for tau in (1.0, 0.5):
        expected = (logits / tau).softmax(-1)
        for cell in range(CELLS):
            shares = drawn(tau)[:, cell].bincount(minlength=240) / count
            torch.testing.assert_close(shares, expected[cell], rtol=0, atol=0.05)


def test_ages_and_clock_count_steps_since_a_change():
    model = build()
    z = torch.zeros(1, 5, CELLS, SIZE)
    z[0, 2:, 4] = 0.5  # cell 4 changes at the third grid
    z[0, 4:, 1] = -0.5  # cell 1 at the fifth
    _, since = model.rnn._condition(z.flatten(2), model.rnn._cells(z.flatten(2)))
    assert since[0].flatten().tolist() == [4, 0, 4, 4, 2, 4]


def test_roll_out_continues_from_an_edited_latent():
    model = build()
    assert isinstance(model, EditableLatent)
    session = RolloutSession(model, batch(model).context[:1], generator=torch.Generator().manual_seed(0))
    session.step()
    edited = session.code + 0.7
    torch.testing.assert_close(session.take(edited), model.decode(edited[:, None])[:, 0])
    assert torch.equal(session.code, edited)
    session.step()
    assert not torch.equal(session.code, edited)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"head": "mdn"}, "model.code discrete and model.head softmax need each other, got discrete, mdn"),
        ({"code": "gaussian"}, "need each other, got gaussian, softmax"),
        ({"levels": (8, 6)}, r"model.levels must be model.code_size \(3\) numbers of at least 2"),
        ({"levels": (8, 6, 1)}, "model.levels must be"),
        ({"levels": (20, 20, 20)}, "a product of at most 4,096"),
        ({"recurrence": "carried"}, "model.grid_memory pictures need model.recurrence window"),
        ({"memory_frames": 6}, r"model.memory_frames must be at most model.context \(5\), got 6"),
        ({"recursion": 0}, "model.recursion must be at least 1"),
        ({"picture_weight": -1.0}, "model.picture_weight must be at least 0"),
        ({"latent": "frame"}, "need model.latent grid, got frame"),
    ],
)
def test_settings_are_checked(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        replace(tokens_tiny(), **settings)


# --------------------------------------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_dreams("tokens-tiny", tmp_path_factory.mktemp("tokens") / "run")


def test_one_command_trains_both_stages(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"vision/reconstruction", "memory/nll", "memory/reset"} <= {k for r in rows for k in r}
    assert {p.stem for p in (run / "final_videos").iterdir()} == {"reconstruction", "dream-softmax"}
    assert load(run).grid == (8, 8)


@pytest.mark.parametrize(("stage", "call"), [("vision_loss", 2), ("memory_loss", 5)])
def test_resumed_run_equals_unbroken_run(run, tmp_path, monkeypatch, stage, call):
    same_run(run, stopped_in(monkeypatch, stage, call, "tokens-tiny", tmp_path / "run"))


def test_latent_commands_accept_the_model(run, done, tmp_path):
    found = done("latents", "statistics", run, "--out", tmp_path, "--clips", 2, "--steps", 2, "--json", "-")
    assert len(json.loads(found)["numbers"]) == 64 * SIZE
    done("latents", "traverse", run, "--out", tmp_path, "--low", "-1", "--high", "1", "--steps", "3")
    assert (tmp_path / "traverse.gif").is_file()
