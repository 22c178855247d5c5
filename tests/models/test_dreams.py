"""The dreams model: counts and sizes, windows, losses, what trains what, how a dream goes on, and a whole run."""

# ruff: noqa: F401, F811 - fixtures come by import

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from cli_support import done, refused
from PIL import Image
from torch import nn

from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, Batch, Clip, ClipSpec
from framecast.data.base import Segment
from framecast.data.loader import Loader
from framecast.data.synthetic.ball import painted
from framecast.inference.load import load
from framecast.media.images import write_image
from framecast.media.video import probe, read_video
from framecast.media.write import write_video
from framecast.models.base import count_parameters
from framecast.models.dreams.config import PROFILES, DreamsConfig, default, tiny
from framecast.models.dreams.networks import PointConvTranspose2d, vision_terms
from framecast.models.dreams.predictor import Dreams
from framecast.models.latent import EditableLatent
from framecast.models.registry import find_model
from framecast.models.rollout import RolloutSession
from framecast.reporting.catalog import one_model
from framecast.training.presets import preset
from framecast.training.run_folder import open_run
from framecast.training.state import TrainState
from framecast.training.train import train

CLIP = ClipSpec(channels=3, height=64, width=64)
ACTING = replace(CLIP, actions=ActionSpec(kind="discrete", size=3, names=("noop", "left", "right")))


def build(config=None, spec=CLIP, seed=0):
    torch.manual_seed(seed)
    return Dreams(config or tiny(), spec).eval()


def batch(model, b=2, seed=0):
    """Random frames of the model's window, and actions where it takes them."""
    request = model.request(model.config)
    g = torch.Generator().manual_seed(seed)
    frames = torch.rand(b, request.length, 3, 64, 64, generator=g)
    actions = None
    if model.spec.actions is not None:
        index = torch.randint(3, (b, request.length - 1), generator=g)
        actions = nn.functional.one_hot(index, 3).float()
    return Batch(context=frames[:, : request.context], future=frames[:, request.context :], actions=actions)


# ---------------------------------------------------------------------------------------------------- structure


def test_parameters_are_the_published_ones():
    found = one_model("dreams")
    assert found["parameters"] == {"vae": 2_115_971, "rnn": 183_498}
    model = build(default())
    assert sum(p.numel() for p in model.vae.encoder.parameters()) == 264_032
    assert sum(p.numel() for p in model.vae.decoder.parameters()) == 1_851_939
    assert [sum(p.numel() for p in layer.parameters()) for layer in model.rnn.layers] == [6_336, 18_816, 74_496]
    assert sum(p.numel() for p in model.rnn.out.parameters()) == 83_850
    assert model.rnn.out.out_features == 650 == 320 + 320 + 10


def test_keras_lstm_has_one_bias_vector_fewer():
    layers = build(default()).rnn.layers
    second = sum(layer.bias_hh_l0.numel() for layer in layers)
    assert 183_498 - second == 182_826
    assert 103_776 - second == 103_104


@pytest.mark.parametrize("head", ["linear", "softmax-mse"])
def test_without_a_mixture_the_memory_has_103776_parameters(head):
    assert count_parameters(build(replace(default(), head=head)))["rnn"] == 103_776


def test_world_models_variant():
    assert one_model("dreams", "world-models")["parameters"]["vae"] == 4_348_547
    model = build(PROFILES["world-models"](), ACTING)
    lstm, out = model.rnn.layers[0], model.rnn.out
    assert (lstm.input_size, lstm.hidden_size) == (35, 256)
    assert out.out_features == 480
    assert sum(p.numel() for p in out.parameters()) == 123_360
    # its own LSTM has one set of biases, torch's has two
    assert sum(p.numel() for p in lstm.parameters()) - lstm.bias_hh_l0.numel() == 299_008


def test_sizes_of_every_layer():
    seen = []
    model = build(default())
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda m, i, o: seen.append(tuple(o.shape[1:])))
    frames = torch.rand(2, 3, 64, 64)
    mean, logvar = model.vae.encode(frames)
    decoded = model.vae.decode(mean)
    assert mean.shape == logvar.shape == (2, 32)
    assert seen[:4] == [(32, 31, 31), (64, 14, 14), (64, 6, 6), (128, 2, 2)]
    assert seen[4:] == [(64, 5, 5), (64, 13, 13), (32, 30, 30), (3, 64, 64)]
    assert decoded.shape == frames.shape
    assert 0 < decoded.min() < decoded.max() < 1


def test_from_a_point_a_transposed_convolution_is_a_matrix_product():
    torch.manual_seed(0)
    fast, x = PointConvTranspose2d(6, 4, 5, stride=2), torch.randn(3, 6, 1, 1)
    expected = nn.functional.conv_transpose2d(x, fast.weight, fast.bias, stride=2)
    torch.testing.assert_close(fast(x), expected)
    torch.testing.assert_close(fast.to(memory_format=torch.channels_last)(x), expected)


def test_a_frame_of_a_dream_copies_no_weights():
    # Such copies, megabytes between the small things that a live page keeps, tear holes into the process's memory.
    dream = RolloutSession(Dreams(default(), CLIP), torch.rand(1, 10, 3, 64, 64))
    dream.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        dream.step()
    asked = [event.cpu_memory_usage for event in profile.events() if event.name == "[memory]"]
    asked += [event.self_cpu_memory_usage for event in profile.events()]
    assert 3 * 64 * 64 * 4 <= max(asked) < 1e6, max(asked)


def test_alias_builds_the_same_model():
    assert find_model("vae-mdn-rnn") is Dreams
    assert preset("vae-mdn-rnn", "small").name == "dreams"


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_loss_of_a_window_and_its_gradients_equal_those_of_plain_layers(cell):
    model = build(replace(tiny(), cell=cell, memory_sizes=(8, 16)))
    inputs = batch(model)
    z = model.latents(Batch(context=torch.cat([inputs.context, inputs.future], 1), future=inputs.future))
    given = Batch(context=inputs.context[:, :0], future=inputs.future[:, :0], latents=z)
    weights, found = list(model.rnn.parameters()), []

    def plain(x):
        for layer in model.rnn.layers:
            x, _ = layer(x)
        return model.rnn.out(x), ()

    for forward in (None, plain):
        with pytest.MonkeyPatch.context() as patch:
            if forward is not None:
                patch.setattr(model.rnn, "forward", forward)
            torch.manual_seed(0)
            loss = model.memory_loss(given).total
            found.append((loss, *torch.autograd.grad(loss, weights)))
    torch.testing.assert_close(found[0], found[1])


# ------------------------------------------------------------------------------------------------------ windows


class Codes:
    """A source of which only lengths and codes matter."""

    def __init__(self, *lengths):
        self.spec, self.lengths, self.names = CLIP, lengths, [f"video-{i}" for i in range(len(lengths))]
        self.latents = [np.random.default_rng(i).normal(size=(n, 32)).astype(np.float32) for i, n in enumerate(lengths)]

    def __len__(self):
        return len(self.lengths)

    def clip(self, index, start, length, stride=1):
        return Clip(frames=np.zeros((length, 3, 64, 64), np.uint8))


def windows(t, *lengths):
    source = Codes(*lengths)
    request = Dreams.request(replace(default(), context=t))
    segments = [Segment(i, 0, n) for i, n in enumerate(lengths)]
    return source, Loader(source, segments, request, 8, latents={"mean": source.latents})


@pytest.mark.parametrize(("n", "t"), [(7200, 10), (500, 4)])
def test_windows_of_latents(n, t):
    source, loader = windows(t, n)
    assert loader.num_clips == n - t
    found = loader.gather([(0, i) for i in (0, 17, n - t - 1)]).latents["mean"]
    for row, i in zip(found, (0, 17, n - t - 1), strict=True):
        np.testing.assert_array_equal(row[:t], source.latents[0][i : i + t])
        np.testing.assert_array_equal(row[t], source.latents[0][i + t])


def test_windows_never_cross_a_cut():
    _, loader = windows(10, 30, 40)
    assert loader.num_clips == 20 + 30
    videos, starts = loader.windows.at(np.arange(50))
    assert (starts + 11 <= np.array([30, 40])[videos]).all()


@pytest.mark.parametrize("n", [4, 10])
def test_a_video_without_a_window_is_refused(n):
    with pytest.raises(UserError, match=rf"has {n} frames but one clip spans 11; give a longer clip"):
        windows(10, n)


# ------------------------------------------------------------------------------------------------------- losses


def test_vision_terms_by_a_plain_loop():
    g = np.random.default_rng(0)
    x, y = g.random((2, 3, 4, 5)), g.random((2, 3, 4, 5))
    mean, logvar = g.normal(size=(2, 6)), g.normal(size=(2, 6))
    error = kl = 0.0
    for n in range(2):
        error += sum((a - b) ** 2 for a, b in zip(x[n].flat, y[n].flat, strict=True)) / 2
        own = sum(-0.5 * (1 + v - m * m - np.exp(v)) for m, v in zip(mean[n], logvar[n], strict=True))
        kl += max(own, 7.0) / 2
    found = vision_terms(*map(torch.from_numpy, (x, y, mean, logvar)), floor=7.0)
    np.testing.assert_allclose([float(v) for v in found], [error, kl])


def test_parts_add_up_to_the_total():
    model = build(replace(tiny(), kl_weight=3.0))
    found = model.vision_loss(batch(model))
    expected = found.parts["reconstruction"] + 3 * found.parts["kl"]
    torch.testing.assert_close(found.total.detach(), expected)


def test_kl_below_its_minimum_has_no_gradient():
    def pushed(**settings):
        model = build(replace(tiny(), **settings))
        torch.manual_seed(1)
        loss = model.vision_loss(batch(model))
        loss.total.backward()
        return float(loss.parts["kl"]), model.vae.encoder["logvar"].weight.grad

    without, free = pushed(kl_weight=0.0), pushed()
    floored = pushed(kl_floor=1e6)
    assert floored[0] == 1e6
    torch.testing.assert_close(floored[1], without[1])
    assert not torch.equal(free[1], without[1])


@pytest.mark.parametrize("recurrence", ["window", "carried"])
def test_memory_target_is_the_latent_after_the_window(recurrence):
    config = replace(tiny(), recurrence=recurrence, sequence=5, resample=False, head="linear")
    model = build(config)
    length = model.request(config).length
    latents = torch.randn(2, length, 4)
    out, _ = model.rnn(latents[:, :-1])
    expected = (out - latents[:, 1:]).square()
    expected = (expected[:, -1] if recurrence == "window" else expected).mean()
    empty = torch.zeros(2, 0, 3, 64, 64)
    found = model.memory_loss(Batch(context=empty, future=empty, latents={"z": latents}))
    torch.testing.assert_close(found.total, expected)
    assert length == (4 if recurrence == "window" else 6)


def test_latents_are_sampled_again_at_every_use():
    model = build()
    latents = {"mean": torch.zeros(2, 4, 4), "logvar": torch.zeros(2, 4, 4)}
    windows = [model.drawn_latents(latents) for _ in range(2)]
    assert not torch.equal(*windows)
    kept = build(replace(tiny(), resample=False))
    whole = batch(kept)
    assert set(kept.latents(whole)) == {"z"}
    assert set(model.latents(whole)) == {"mean", "logvar"}


def test_each_phase_trains_its_own_network():
    model = build(replace(tiny(), compare=("linear", "softmax-mse", "gaussian")))
    for phase in model.phases():
        model.zero_grad()
        phase.loss(batch(model), 0).total.backward()
        touched = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
        touched |= {
            ".".join(n.split(".")[:2]) for n, p in model.named_parameters() if p.grad is not None and "comp" in n
        }
        assert touched - {"compared"} == set(phase.modules), phase.name
    names = [[p.name for p in stage.phases] for stage in model.stages()]
    assert names == [["vision"], ["memory", "linear", "softmax-mse", "gaussian"]]


def test_the_decoder_begins_with_the_mean_colour():
    model = build(replace(tiny(), start_at_mean=True))
    whole = batch(model)
    dark = replace_frames(whole, whole.context * torch.tensor([0.1, 1.0, 0.0]).view(3, 1, 1))
    with torch.no_grad():
        model.initialize_from_batch(dark)
    bias = model.vae.decoder[-2].bias.sigmoid()
    expected = torch.cat([dark.context, dark.future], 1).mean((0, 1, 3, 4)).clamp(0.01, 0.99)
    torch.testing.assert_close(bias.detach(), expected)
    literal = build(PROFILES["original"]())
    literal.initialize_from_batch(dark)
    assert not literal.vae.decoder[-2].bias.any()


def replace_frames(whole, context):
    return Batch(context=context, future=context[:, :1], actions=whole.actions)


# ------------------------------------------------------------------------------------------------------ dreaming


@pytest.mark.parametrize(
    "config",
    [
        tiny(),
        replace(tiny(), context=1),
        replace(tiny(), recurrence="carried", sequence=6),
        replace(tiny(), recurrence="carried", sequence=6, cell="lstm", memory_sizes=(8, 8), joint=False, spread="exp"),
        replace(tiny(), recurrence="carried", sequence=6, context=1),
        replace(tiny(), head="softmax-mse"),
        replace(tiny(), head="gaussian"),
    ],
)
@pytest.mark.parametrize("spec", [CLIP, ACTING])
def test_frame_by_frame_is_predict(config, spec):
    model = build(config, spec)
    context, t = batch(model).context, config.context
    actions = None
    if spec.actions is not None:
        index = torch.randint(3, (2, t + 3), generator=torch.Generator().manual_seed(1))
        actions = nn.functional.one_hot(index, 3).float()
    whole = model.predict(context, 4, actions, samples=3, generator=torch.Generator().manual_seed(5))
    led = None if actions is None else actions.repeat(3, 1, 1)
    start = None if actions is None else actions[:, : t - 1]
    carry = model.rollout_init(context, start, 3, torch.Generator().manual_seed(5))
    for k in range(4):
        carry, frame = model.rollout_step(carry, None if led is None else led[:, t - 1 + k])
        torch.testing.assert_close(frame, whole[:, :, k].flatten(0, 1), atol=1e-5, rtol=1e-4)
    assert all(len(value) == 6 for value in carry.values())
    assert model.stochastic == (config.head in ("mdn", "gaussian"))
    assert torch.equal(whole[0], whole[1]) is not model.stochastic


def test_rollout_state_equals_that_of_the_whole_past():
    config = replace(tiny(), recurrence="carried", sequence=6, head="linear")
    model = build(config)
    carry = model.rollout_init(batch(model).context)
    latents = carry["latents"]
    for _ in range(3):
        expected = model.rnn(latents)[0][:, -1]
        carry = model.rollout_latent(carry)[0]
        torch.testing.assert_close(carry["latents"][:, -1], expected)
        latents = torch.cat([latents, expected[:, None]], 1)


def test_actions_lead_to_the_next_frame_and_not_to_this_one():
    model = build(tiny(), ACTING)
    context = batch(model).context
    left, right = (nn.functional.one_hot(torch.full((2, 6), i), 3).float() for i in (1, 2))
    turned = torch.cat([left[:, :4], right[:, 4:]], 1)
    one, two = (model.predict(context, 4, a, generator=torch.Generator().manual_seed(0)) for a in (left, turned))
    assert torch.equal(one[:, :, :2], two[:, :, :2])  # led there by actions 2 and 3
    assert not torch.equal(one[:, :, 2], two[:, :, 2])  # by action 4


def test_missing_actions_are_reported():
    model = build(tiny(), ACTING)
    assert model.actions == "required"
    context = batch(model).context
    with pytest.raises(ValueError, match="Dreams predicts from actions"):
        model.predict(context, 1)
    with pytest.raises(ValueError, match="needs the 2 actions of its context, got 0"):
        model.rollout_init(context)
    carry = model.rollout_init(context, torch.zeros(2, 2, 3))
    with pytest.raises(ValueError, match="pass the action at each frame"):
        model.rollout_step(carry)
    assert build(replace(tiny(), use_actions=False), ACTING).actions == "none"


def test_frames_of_another_size_are_refused():
    with pytest.raises(ValueError, match="takes frames of 64x64, got 32x48"):
        build().predict(torch.zeros(1, 3, 3, 32, 48), 1)


def test_temperatures_are_entries_of_the_rollout_state():
    model = build(replace(tiny(), weight_temperature=0.5, sigma_temperature=0.25))
    assert isinstance(model, EditableLatent)
    dream = RolloutSession(model, batch(model).context, generator=torch.Generator().manual_seed(0))
    assert dream.carry["weight_temperature"].tolist() == [0.5, 0.5]
    assert dream.carry["sigma_temperature"].tolist() == [0.25, 0.25]
    dream.set_control("weight_temperature", 0.0)
    dream.set_control("sigma_temperature", 0.0)
    mixture = model.law(model.rnn(dream.carry["latents"])[0][:, -1], "mdn")
    likeliest = mixture.logits.argmax(1)[:, 0]
    dream.step()
    torch.testing.assert_close(dream.code, mixture.mean[torch.arange(2), likeliest])
    assert build(replace(tiny(), head="linear")).controls() == ()


def test_spread_of_one_step_grows_with_the_temperature():
    model = build()
    context = batch(model).context[:1]
    spread = []
    for tau in (0.1, 0.5, 1.0, 1.5):
        model.config = replace(model.config, weight_temperature=tau, sigma_temperature=tau)
        carry = model.rollout_latent(
            model.rollout_init(context, samples=500, generator=torch.Generator().manual_seed(0))
        )[0]
        spread.append(float(carry["latents"][:, -1].std(0).mean()))
    assert spread == sorted(spread)
    assert spread[-1] > 2 * spread[0]


def test_original_starts_from_a_draw_and_the_others_from_the_mean():
    model, literal = build(), build(replace(tiny(), resample=False))
    context = batch(model).context
    first, second = (model.rollout_init(context, generator=torch.Generator().manual_seed(s))["latents"] for s in (0, 1))
    assert torch.equal(first, second)
    first, second = (
        literal.rollout_init(context, generator=torch.Generator().manual_seed(s))["latents"] for s in (0, 1)
    )
    assert not torch.equal(first, second)


def test_compared_heads_dream_with_the_same_weights():
    model = build(replace(tiny(), compare=("linear",)))
    other = model.using("linear")
    assert other.vae is model.vae
    assert other.rnn is model.compared["linear"]
    assert not other.stochastic
    assert model.using("mdn") is model
    context = batch(model).context
    assert not torch.equal(other.predict(context, 2), model.predict(context, 2))
    inference_only = Dreams(Dreams.inference_only(model.config), model.spec)  # what travels needs no other heads
    assert set(model.state_dict()) - set(inference_only.state_dict()) == {
        f"compared.linear.{k}" for k in other.rnn.state_dict()
    }
    with pytest.raises(ValueError, match=r"trained with mdn, linear; train with model\.compare"):
        model.using("softmax-mse")


# ---------------------------------------------------------------------------------------------------- the config


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"context": 0}, "model.context must be at least 1"),
        ({"encoder_widths": (1, 2)}, "model.encoder_widths must be 4 numbers"),
        ({"memory_sizes": ()}, "model.memory_sizes"),
        ({"head": "mean"}, "model.head must be one of mdn, gaussian, linear, softmax-mse"),
        ({"compare": ("mdn",)}, "model.compare must name heads other than mdn"),
        ({"sigma_floor": 0.0}, "model.sigma_floor must be above 0"),
        ({"vision_share": 1.0}, "model.vision_share must lie between 0 and 1"),
        ({"recurrence": "carried", "sequence": 5}, r"model.sequence must be at least model.context \(10\)"),
        ({"weight_temperature": -1.0}, "model.weight_temperature must be at least 0"),
        ({"memory_patience": 0}, "model.memory_patience must be at least 1 or none"),
    ],
)
def test_settings_are_checked(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        DreamsConfig(**settings)


# ------------------------------------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """All six steps by one command, tiny, with both other heads beside."""
    folder = tmp_path_factory.mktemp("dreams")
    config = preset("dreams", "tiny")
    model = replace(config.model, compare=("linear",), vision_patience=1)
    return train("dreams", "ball", config=replace(config, model=model), out=folder / "run", quiet=True, steps=30)


def test_one_command_trains_all_stages(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["stage"] for r in rows] == sorted((r["stage"] for r in rows), reverse=True)
    assert {"vision/reconstruction", "memory/nll", "linear/mse"} <= {k for r in rows for k in r}
    films = {p.stem: read_video(p).frames for p in (run / "final_videos").iterdir()}
    assert set(films) == {"reconstruction", "dream-mdn", "dream-linear"}
    assert films["reconstruction"].shape == (12, 3, 64, 128)
    assert films["dream-mdn"].shape == (12, 3, 64, 64)
    weights = load(run).state_dict()
    assert {name.split(".")[0] for name in weights} == {"vae", "rnn", "compared"}
    assert json.loads((run / "config.json").read_text())["data"]["path"] == "ball"


def test_reloaded_model_decodes_equally(run):
    z = torch.randn(1, 5, 4)
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    model = Dreams(open_run(run).config.model, open_run(run).config.spec).eval()
    model.load_state_dict(state["ema"])
    assert torch.equal(load(run).decode(z), model.decode(z))


def test_resuming_with_another_window_is_refused(run):
    config = preset("dreams", "tiny")
    model = replace(config.model, compare=("linear",), vision_patience=1, context=4)
    with pytest.raises(UserError, match=r"model\.context was 3 and is now 4"):
        train("dreams", "ball", config=replace(config, model=model), out=run, quiet=True, steps=30)


def test_stages_are_valid_for_the_trainer():
    state = TrainState.create(build(default()))
    assert [stage.name for stage in state.stages] == ["vision", "memory"]
    assert state.stages[0].until.patience == 5
    assert state.stages[1].precompute_latents is not None


def test_videos_have_24_frames_per_second(run):
    for film in (run / "final_videos").iterdir():
        assert video_rate(film) == pytest.approx(24, rel=0.01), film.name


def video_rate(path):
    """Frames over seconds, by the durations in the file."""
    with Image.open(path) as film:
        seconds = 0.0
        for i in range(film.n_frames):
            film.seek(i)
            seconds += film.info["duration"] / 1000
        return film.n_frames / seconds


def test_long_dreams_from_real_frames_and_from_noise(run, done, tmp_path):
    clip = tmp_path / "ball.npy"
    np.save(clip, np.stack([painted((x, 32), 10, (255, 0, 0)) for x in range(20, 30)]))
    (tmp_path / "frames").mkdir()
    for i, frame in enumerate(np.load(clip)):
        write_image(frame, tmp_path / "frames" / f"{i}.png")
    result = done("predict", run, "--input", tmp_path / "frames", "--horizon", 300, "--out", tmp_path / "long.mp4")
    assert "3 context frames, 300 predicted, at 24 fps" in result
    assert probe(tmp_path / "long.mp4").frames == 303
    done("predict", run, "--from-noise", "--horizon", 5, "--out", tmp_path / "noise.gif")
    assert read_video(tmp_path / "noise.gif").frames.shape == (8, 3, 66, 66)


def test_latent_commands_accept_the_model(run, done, tmp_path):
    result = json.loads(done("latents", "importance", run, "--out", tmp_path, "--clips", 2, "--json", "-"))
    assert len(result["numbers"]) == 4
    result = json.loads(
        done("latents", "statistics", run, "--out", tmp_path, "--clips", 2, "--steps", 5, "--json", "-")
    )
    assert [row["step"] for row in result["dream"]] == [1, 5]
    assert result["dream"][0]["ratio"] > 0
    done("latents", "traverse", run, "--out", tmp_path, "--low", "-3", "--high", "3", "--steps", "3")
    assert (tmp_path / "traverse.gif").is_file()


def test_too_short_videos_are_refused_in_one_sentence(run, refused, tmp_path):
    np.save(tmp_path / "short.npy", np.zeros((1, 10, 3, 64, 64), np.uint8))
    result = refused("train", "dreams", "--data", tmp_path / "short.npy", "--steps", 2, "--out", tmp_path / "run")
    assert "has 10 frames but one clip spans 11; give a longer video" in result
    assert not (tmp_path / "run").exists()
    write_video(np.zeros((2, 3, 64, 64), np.uint8), tmp_path / "two.mp4", 24)
    result = refused("predict", run, "--input", tmp_path / "two.mp4", "--out", tmp_path / "f.gif")
    assert "the model uses 3 frames but only 2 come before the forecast" in result
