"""The base class: its door, its defaults, its window that slides."""

import numpy as np
import pytest
import torch
from small_models import Acting, Group, Noisy, Plain, Small, TwoStage, build

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, ClipSpec, Loss
from framecast.models.base import Predictor, count_parameters
from framecast.models.inputs import as_frames
from framecast.models.latent import LatentModel

SPEC = ClipSpec(channels=1, height=12, width=12)


class Bare(Predictor):
    """Gives nothing of what a model must give."""

    Config = Plain.Config


def test_missing_methods_are_named_in_the_error():
    model = Bare(Plain.Config(), SPEC)
    with pytest.raises(TypeError, match=r"Bare must define request\(config\)"):
        Bare.request(model.config)
    with pytest.raises(TypeError, match=r"Bare must define loss\(batch, step\)"):
        model.loss(Batch(context=torch.zeros(1), future=torch.zeros(1)))
    with pytest.raises(TypeError, match=r"Bare must define predict"):
        model.predict(torch.zeros(1, 2, 1, 12, 12), 1)


def test_weights_of_other_programs_are_refused_by_default(tmp_path):
    with pytest.raises(
        UserError, match=r"w\.npz: Plain takes no weights file; use a run of this model with --init-from"
    ):
        build(Plain).import_weights(tmp_path / "w.npz")


def test_defaults_are_one_stage_one_phase_all_parameters():
    class Simple(Small):
        def __init__(self, config, spec):
            super().__init__(config, spec)
            self.net = torch.nn.Linear(2, 2)

    model = build(Simple)
    (stage,) = model.stages()
    (phase,) = stage.phases
    assert phase.modules == ("",)
    assert phase.loss == model.loss
    assert (stage.precompute_latents, stage.request, stage.loss) == (None, None, None)
    assert count_parameters(model) == {"net": 6}
    assert Simple.resolve_schedules(model.config, 7) is model.config
    assert model.num_context == 2


def test_every_subclass_checks_predict_arguments_also_if_inherited():
    context = torch.rand(2, 1, 1, 12, 12)
    for model_class in (Plain, TwoStage, Group, Noisy):
        with pytest.raises(ValueError, match=f"{model_class.__name__} needs 2 context frames, got 1"):
            build(model_class).predict(context, 1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"horizon": 0}, "horizon and samples must be at least 1, got 0 and 1"),
        ({"horizon": 1, "samples": 0}, "horizon and samples must be at least 1, got 1 and 0"),
        ({"horizon": 1}, r"Acting predicts from actions: pass actions \(b, context \+ horizon - 1, a\)"),
        ({"horizon": 2, "actions": np.zeros((3, 2, 3))}, r"actions must be .* = \(3, 3, 3\), got \(3, 2, 3\)"),
        ({"horizon": 2, "actions": np.zeros((3, 3, 4))}, r"got \(3, 3, 4\)"),
    ],
)
def test_invalid_predict_arguments_are_refused_in_one_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(Acting).eval().predict(torch.rand(3, 2, 1, 12, 12), **settings)


def test_actions_of_a_longer_clip_are_cut_like_its_frames():
    model = build(Acting).eval()
    frames, led = torch.rand(1, 6, 1, 12, 12), torch.nn.functional.one_hot(torch.arange(8) % 3, 3).float()[None]
    long = model.predict(frames, 3, led)
    torch.testing.assert_close(model.predict(frames[:, -2:], 3, led[:, -4:]), long)
    torch.testing.assert_close(model.predict(frames[0].numpy(), 3, led[0].numpy()), long)
    assert not torch.equal(model.predict(frames, 3, led.roll(1, 1)), long)


def test_the_window_slides():
    class Counting(Small):
        def guess(self, context, actions=None):
            return context[:, 0] / 2 + context[:, 1] / 4

    model = Counting(Plain.Config(), SPEC)
    values = [0.5, 1.0]
    carry = model.rollout_init(torch.tensor(values).reshape(1, 2, 1, 1, 1).expand(-1, -1, -1, 12, 12))
    for _ in range(4):
        carry, frame = model.rollout_step(carry)
        values.append(values[-2] / 2 + values[-1] / 4)
        assert float(frame[0, 0, 0, 0]) == pytest.approx(values[-1])


def test_rollout_state_is_flat_with_a_row_per_sample_and_clip():
    model = build(Acting).eval()
    context, led = torch.rand(3, 4, 1, 12, 12), torch.rand(3, 3, 3)
    carry = model.rollout_init(context, led, samples=2)
    assert {k: tuple(v.shape) for k, v in carry.items()} == {
        "context": (6, 2, 1, 12, 12),
        "actions": (6, 1, 3),
    }
    assert torch.equal(carry["actions"][:3, 0], led[:, -1])
    assert torch.equal(carry["context"][3:], context[:, -2:])
    carry, _ = model.rollout_step(carry, torch.ones(6, 3))
    assert torch.equal(carry["actions"][:, 0], torch.ones(6, 3))
    with pytest.raises(ValueError, match="needs the 1 actions of its context, got 0"):
        model.rollout_init(context, led[:, :0])


def test_seeded_rollout_repeats_and_unseeded_does_not():
    model, context = build(Noisy).eval(), torch.rand(1, 2, 1, 12, 12)
    seeds = [model.rollout_init(context, generator=torch.Generator().manual_seed(3))["seed"] for _ in range(2)]
    assert torch.equal(*seeds)
    assert not torch.equal(model.rollout_init(context)["seed"], model.rollout_init(context)["seed"])


def test_every_sample_and_clip_has_its_own_seed_and_steps_count():
    model, context = build(Noisy).eval(), torch.rand(3, 2, 1, 12, 12)
    carry = model.rollout_init(context, samples=2, generator=torch.Generator().manual_seed(3))
    assert len(set(carry["seed"].tolist())) == 6
    after, frame = model.rollout_step(carry)
    assert after["tick"].tolist() == [1] * 6
    assert torch.equal(after["seed"], carry["seed"])
    rows = {name: value[4:] for name, value in carry.items()}
    assert torch.equal(model.rollout_step(rows)[1], frame[4:])  # no row depends on the others


def test_a_generator_of_each_clip_makes_its_futures_independent_of_the_batch():
    model, context = build(Noisy).eval(), torch.rand(3, 2, 1, 12, 12)

    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    whole = model.predict(context, 2, samples=2, generator=generators(5, 6, 7))
    assert torch.equal(model.predict(context[1:2], 2, samples=2, generator=generators(6)), whole[:, 1:2])
    assert not torch.equal(whole[:, 1], model.predict(context, 2, samples=2, generator=generators(5, 5, 7))[:, 1])
    with pytest.raises(ValueError, match="Noisy: expected a generator of each of 3 clips, got 2"):
        model.predict(context, 2, generator=generators(5, 6))


def test_the_preview_is_context_truth_and_prediction():
    model = build(Acting).eval()
    batch = Batch(context=torch.rand(2, 2, 1, 12, 12), future=torch.rand(2, 1, 1, 12, 12), actions=torch.rand(2, 2, 3))
    shown = model.preview(batch)
    assert list(shown) == ["context", "truth", "prediction"]
    assert shown["prediction"].shape == batch.future.shape


def test_preview_of_chosen_targets_is_predicted_at_their_lead_times():
    model = build(Plain).eval()
    leads = torch.tensor([[1, 2], [4, 5]])
    context = torch.rand(2, 2, 1, 12, 12)
    shown = model.preview(Batch(context=context, future=torch.rand(2, 2, 1, 12, 12), lead_times=leads))
    whole = model.predict(context, 5)[0]
    torch.testing.assert_close(shown["prediction"], torch.stack([whole[0, :2], whole[1, 3:]]))


def test_encoder_is_recognised_by_its_methods():
    assert isinstance(build(TwoStage), LatentModel)
    assert not isinstance(build(Plain), LatentModel)


def test_frames_of_every_kind():
    model = build(Plain)
    levels = np.arange(2 * 1 * 12 * 12, dtype=np.uint8).reshape(1, 2, 1, 12, 12)
    expected = torch.from_numpy(levels).float() / 255
    for given in (levels, levels[0], torch.from_numpy(levels), expected.double()):
        found = as_frames(given, model)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="frames have 12 channels but the model was built for 1"):
        as_frames(np.zeros((2, 12, 12, 1), np.uint8), model)


def test_request_is_read_before_the_model_is_built():
    assert Plain.request(Plain.Config()) == ClipRequest(context=2, future=1)
    assert isinstance(Loss(torch.zeros(())).parts, dict)
