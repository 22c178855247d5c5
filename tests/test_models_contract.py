"""The contract of every model.

Each name in MODELS is built, counted and given one loss. All other checks run once per class, and once per kind of
configuration of the autoencoders, whose fourteen names are combinations of four choices over one class.
"""

import dataclasses
import importlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from host_reads import host_reads, waiting_is_an_error

from framecast.core.types import ActionSpec, Batch, ClipSpec
from framecast.models import MODELS
from framecast.models.autoencoders.config import PROFILES as AUTOENCODERS
from framecast.models.autoencoders.config import VARIANTS
from framecast.models.base import Predictor, count_parameters
from framecast.models.baselines import CopyLastConfig, TemporalMeanConfig
from framecast.models.categorical.config import tiny as tiny_categorical
from framecast.models.direct.config import PROFILES as DIRECT
from framecast.models.dreams.config import tiny as tiny_dreams
from framecast.models.hierarchical.config import PROFILES as HIERARCHICAL
from framecast.models.latent import EditableLatent
from framecast.models.linear_flow import LinearFlowConfig
from framecast.models.multiscale_gan.config import tiny
from framecast.models.visual_dynamics.config import tiny as tiny_visual_dynamics
from framecast.training.checkpoint import load_weights, write_weights
from framecast.training.device import Device
from framecast.training.gradients import only, update_unread
from framecast.training.state import TrainState, make_optimiser, phase_parameters
from framecast.training.step import check_losses, train_step

#: A configuration of each model that trains in seconds. A new model gets one line.
TINY = {
    "copy-last": CopyLastConfig(),
    "temporal-mean": TemporalMeanConfig(),
    "linear-flow": LinearFlowConfig(),
    "direct": DIRECT["tiny"](),
    "multiscale-gan": tiny(),
    "hierarchical": HIERARCHICAL["tiny"](),
    "dreams": tiny_dreams(),
    **{name: AUTOENCODERS["tiny"](name) for name in VARIANTS},
    "categorical": tiny_categorical(),
    "visual-dynamics": tiny_visual_dynamics(),
}

#: Autoencoders that together have every value of every choice, both bottlenecks with both trunks.
AUTOENCODER_KINDS = ("fc-vae", "fc-ga-ae", "c-ia-ae", "c-gia-ae", "c-lstm-vae", "c-td-ae")
CASES = sorted({*MODELS, *AUTOENCODER_KINDS} - (VARIANTS.keys() - set(AUTOENCODER_KINDS)))


@dataclass
class Case:
    """A tiny model of one name and a batch it can be trained on."""

    name: str
    model: Predictor
    batch: Batch

    @property
    def model_class(self):
        return type(self.model)


def build(name, seed=0):
    module, attribute = MODELS[name]
    model_class = getattr(importlib.import_module(module), attribute)
    assert name in TINY, f"tests/test_models_contract.py: give {name!r} a tiny configuration"
    actions = None if model_class.actions == "none" else ActionSpec(kind="discrete", size=3)
    torch.manual_seed(seed)
    return model_class(TINY[name], ClipSpec(channels=3, height=32, width=32, actions=actions))


def moving_blobs(model, b=4, seed=0):
    """A batch of the model's own window: a soft blob on each clip, moving in a straight line."""
    request = model.request(model.config)
    h, w = request.crop or request.resize or (model.spec.height, model.spec.width)
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(request.length).view(1, -1, 1, 1, 1)
    start, speed, colour = (torch.rand(b, 1, n, 1, 1, generator=g) for n in (2, 2, model.spec.channels))
    at = 0.3 + 0.3 * start + (speed - 0.5) * 0.08 * t
    y, x = torch.linspace(0, 1, h).view(1, 1, 1, h, 1), torch.linspace(0, 1, w).view(1, 1, 1, 1, w)
    window = colour * torch.exp(-((y - at[:, :, :1]) ** 2 + (x - at[:, :, 1:]) ** 2) / 0.02)
    actions = None
    if model.spec.actions is not None:
        index = torch.randint(model.spec.action_size, (b, request.length - 1), generator=g)
        actions = torch.nn.functional.one_hot(index, model.spec.action_size).float()
    first, future, leads = request.future_start, request.future, None
    if request.targets is not None:
        future = request.targets.length * request.targets.count
        leads = torch.arange(1, future + 1).expand(b, -1)
    return Batch(
        context=window[:, : request.context],
        future=window[:, first : first + future],
        actions=actions,
        lead_times=leads,
    )


def actions_for(case, horizon, seed=0):
    """Actions of context and horizon, where the model takes any."""
    size = case.model.spec.action_size
    if not size:
        return None
    g = torch.Generator().manual_seed(seed)
    index = torch.randint(size, (case.batch.size, case.model.num_context + horizon - 1), generator=g)
    return torch.nn.functional.one_hot(index, size).float()


def generators(case, seed=0):
    """A generator of each clip, with which no forecast depends on the other clips."""
    return [torch.Generator().manual_seed(seed + i) for i in range(case.batch.size)]


def predict(case, horizon=1, samples=1, seed=0, context=None):
    context = case.batch.context if context is None else context
    return case.model.predict(context, horizon, actions_for(case, horizon), samples, generators(case, seed))


@pytest.fixture(params=CASES)
def case(request):
    model = build(request.param)
    return Case(request.param, model.eval(), moving_blobs(model))


@pytest.mark.parametrize("choice", ["trunk", "memory", "bottleneck", "adversary"])
def test_autoencoder_kinds_cover_every_choice(choice):
    def values(names):
        return {(VARIANTS[name].trunk, getattr(VARIANTS[name], choice)) for name in names}

    assert {value for _, value in values(AUTOENCODER_KINDS)} == {value for _, value in values(VARIANTS)}
    if choice == "bottleneck":
        assert values(AUTOENCODER_KINDS) == values(VARIANTS)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_name_is_built_counted_and_has_a_finite_loss(name):
    model = build(name).eval()
    assert sum(count_parameters(model).values()) == model.count(model)
    assert model.loss(moving_blobs(model, b=2)).total.isfinite()


def test_every_phase_has_a_finite_loss_with_detached_parts(case):
    losses = [case.model.loss(case.batch), *(phase.loss(case.batch, 0) for phase in case.model.phases())]
    for loss in losses:
        assert loss.total.shape == ()
        assert loss.total.isfinite()
        assert loss.parts
        assert all(part.isfinite() and not part.requires_grad for part in loss.parts.values())


def test_every_parameter_of_a_phase_gets_a_gradient_and_no_other(case):
    case.model.train()
    trained = set()
    for phase in case.model.phases():
        own = {id(p) for p in phase_parameters(case.model, phase)}
        trained |= own
        case.model.zero_grad()
        with only(case.model, phase):
            phase.loss(case.batch, 0).total.backward()
        for name, p in case.model.named_parameters():
            assert (p.grad is not None) == (id(p) in own), f"{phase.name}: {name}"
        assert any(p.grad.abs().max() > 0 for p in phase_parameters(case.model, phase))
    assert trained == {id(p) for p in case.model.parameters()}


@pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_training_step_reads_no_value_from_the_device(case, place, monkeypatch):
    model = case.model
    if case.name == "direct":  # OpenCV computes flow on the CPU, from frames that it reads
        model = type(model)(dataclasses.replace(model.config, flow="blocks"), model.spec)
    device = Device(torch.device(place), "bf16" if place == "cuda" else "fp32")
    state = TrainState.create(model.to(device.device))
    batch = case.batch.to(place)
    monkeypatch.setattr("framecast.training.step.update", update_unread)  # as on a GPU
    train_step(state, lambda *_: batch, device)
    with host_reads() as reads, waiting_is_an_error(place):
        for _ in range(2):
            train_step(state, lambda *_: batch, device)
    assert not reads
    check_losses(state, device)


def test_validation_leaves_no_gradient(case):
    with torch.no_grad():
        assert not case.model.loss(case.batch).total.requires_grad


@pytest.mark.parametrize("horizon", [1, 19])
def test_prediction_has_the_promised_shape_and_range(case, horizon):
    b, _, c, h, w = case.batch.context.shape
    prediction = predict(case, horizon, samples=2)
    assert prediction.shape == (2, b, horizon, c, h, w)
    assert prediction.dtype == torch.float32
    assert not prediction.requires_grad
    assert prediction.isfinite().all()
    assert 0 <= prediction.min() <= prediction.max() <= 1


def test_predict_accepts_uint8_numpy_longer_clips_and_a_clip_without_batch_axis(case):
    levels = (case.batch.context * 255).round().to(torch.uint8)
    expected = predict(case, 2, context=levels.float() / 255)
    for context in (levels, levels.numpy()):
        torch.testing.assert_close(predict(case, 2, context=context), expected)
    if not case.model.spec.action_size:
        alone = case.model.predict(levels[0], 2, generator=generators(case)[:1])
        torch.testing.assert_close(alone, expected[:, :1], atol=1e-5, rtol=1e-5)
        longer = torch.cat([torch.rand_like(expected[0]), levels.float() / 255], 1)
        torch.testing.assert_close(predict(case, 2, context=longer), expected)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (np.zeros((2, 8, 4, 32, 32), np.uint8), "4 channels but the model was built for 3"),
        (np.zeros((32, 32), np.uint8), r"must have axes \(b, t, c, h, w\)"),
        (np.zeros((2, 8, 3, 32, 32), np.int64), "must be uint8"),
        (np.zeros((2, 0, 3, 32, 32), np.uint8), "context frames, got 0"),
    ],
)
def test_predict_rejects_a_wrong_clip_with_a_message(case, context, message):
    with pytest.raises(ValueError, match=message):
        case.model.predict(context, 1)


def test_samples_differ_only_for_stochastic_models(case):
    first, second = predict(case, 3, samples=2)
    assert torch.equal(first, second) is not case.model.stochastic


def test_forecasts_do_not_depend_on_the_batch(case):
    whole, actions = predict(case, 5, samples=3), actions_for(case, 5)
    for i, own in enumerate(generators(case)):
        led = None if actions is None else actions[i : i + 1]
        alone = case.model.predict(case.batch.context[i : i + 1], 5, led, 3, [own])
        # a batch of another size may be convolved by another algorithm; other noise would differ by tenths
        torch.testing.assert_close(alone, whole[:, i : i + 1], atol=1e-4, rtol=1e-4)


@pytest.fixture
def reads(monkeypatch):
    """The tensors whose values are read."""
    found = []

    def counted(read):
        def counting(tensor, *args):
            found.append(tensor)
            return read(tensor, *args)

        return counting

    for name in ("__int__", "__float__", "__bool__", "__index__", "item", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name)))
    return found


def test_forecasts_read_no_value_from_the_device_at_a_frame(case, reads):
    actions, given = actions_for(case, 3), generators(case)
    state = case.model.rollout_init(case.batch.context, actions, 2, given)
    assert len(reads) == 0 or case.name == "categorical"  # whether the frames have the colours of its palette, once
    lead, on_host = case.batch.context.shape[1] - 1, state.get("temperature") if case.name == "categorical" else None
    reads.clear()
    for k in range(3):
        state, _ = case.model.rollout_step(state, None if actions is None else actions[:, lead + k].repeat(2, 1))
    assert all(read is on_host for read in reads)


def test_same_seed_same_prediction_and_same_start(case):
    assert torch.equal(predict(case, 3, seed=7), predict(case, 3, seed=7))
    again = build(case.name)
    for (name, p), (other, q) in zip(case.model.named_parameters(), again.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(p, q)


def test_saved_weights_predict_the_same(case, tmp_path):
    write_weights(tmp_path, case.model, {})
    other = build(case.name, seed=1).eval()
    load_weights(other, tmp_path / "model.safetensors")
    loaded = Case(case.name, other, case.batch)
    assert torch.equal(predict(loaded, 3), predict(case, 3))


def test_rollout_steps_equal_predict(case):
    model, context, horizon = case.model, case.batch.context, 9
    actions = actions_for(case, horizon)
    known = None if actions is None else actions[:, : model.num_context - 1]
    state = model.rollout_init(context, known, 1, generators(case))
    frames = []
    for k in range(horizon):
        action = None if actions is None else actions[:, model.num_context - 1 + k]
        state, frame = model.rollout_step(state, action)
        assert all(len(value) == case.batch.size for value in state.values())
        frames.append(frame)
    torch.testing.assert_close(torch.stack(frames, 1), predict(case, horizon)[0], atol=1e-4, rtol=1e-4)


def test_controls_are_entries_of_the_state_and_are_kept(case):
    actions = actions_for(case, 1)
    state = case.model.rollout_init(
        case.batch.context, None if actions is None else actions[:, : case.model.num_context - 1]
    )
    names = [control.name for control in case.model.controls()]
    assert len(set(names)) == len(names)
    for control in case.model.controls():
        value = state[control.name]
        assert value.shape == (case.batch.size,)
        assert value.is_floating_point()
        assert control.low <= value.min() <= value.max() <= control.high
        assert control.label
        turned = {**state, control.name: torch.full_like(value, control.high)}
        after, _ = case.model.rollout_step(turned, None if actions is None else actions[:, -1])
        assert torch.equal(after[control.name], turned[control.name])


def test_latent_of_the_last_frame_decodes_to_it_and_can_be_replaced(case):
    if not isinstance(case.model, EditableLatent):
        pytest.skip(f"{case.name} does not predict in latent space")
    actions = actions_for(case, 1)
    state = case.model.rollout_init(
        case.batch.context, None if actions is None else actions[:, : case.model.num_context - 1]
    )
    state, frame = case.model.rollout_step(state, None if actions is None else actions[:, -1])
    latent = case.model.get_latent(state)
    torch.testing.assert_close(case.model.decode(latent[:, None])[:, 0], frame, atol=1e-4, rtol=1e-4)
    before = {name: value.clone() for name, value in state.items()}
    replaced = case.model.with_latent(state, latent + 1)
    torch.testing.assert_close(case.model.get_latent(replaced), latent + 1)
    assert all(torch.equal(state[name], value) for name, value in before.items())


def test_preview_is_images_in_range(case):
    images = case.model.preview(case.batch)
    assert images
    for image in images.values():
        assert image.ndim == 5
        assert image.shape[0] == case.batch.size
        assert 0 <= image.min() <= image.max() <= 1


# c-ia-ae reconstructs as c-gia-ae does, whose stages contain its own
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name != "c-ia-ae"])
def test_one_batch_can_be_overfitted(name):
    model = build(name)
    if not any(True for _ in model.parameters()):
        assert model.phases() == []  # a baseline
        return
    case = Case(name, model, moving_blobs(model, b=2))
    if name == "categorical":  # it predicts colours of its palette only
        case.batch.context = model.colours(model.indices(case.batch.context))
        case.batch.future = model.colours(model.indices(case.batch.future))
    horizon = case.batch.future.shape[1]

    def error():
        if name == "categorical":  # repeating the last colours is nearly right here, so its loss is watched
            with torch.no_grad():
                return model.loss(case.batch).total
        return (predict(case, horizon)[0] - case.batch.future).abs().mean()

    before = error()
    run = TrainState.create(model)
    for stage in run.stages:
        optimisers = {p.name: make_optimiser(p.optimiser, phase_parameters(model, p)) for p in stage.phases}
        for step in range(250):
            if step and step % 10 == 0 and error() < before / 4:
                break  # later phases, such as a discriminator, must not undo it
            for phase in stage.phases:
                if phase.should_run(step):
                    model.zero_grad()
                    with only(model, phase):
                        phase.loss(case.batch, step).total.backward()
                    for group in optimisers[phase.name].param_groups:
                        group["lr"] = 2 * phase.optimiser.rate(step)  # half of the steps
                    optimisers[phase.name].step()
    assert error() < before / 3
