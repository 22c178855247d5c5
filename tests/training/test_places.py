"""Training and roll-outs on each kind of device: resuming, precision, equality with a CPU."""

import dataclasses

import pytest
import torch
from small_models import Acting, Group, Plain, batch_of, build, same_run, small_config, weights, write_store

from framecast.models.rollout import rollout
from framecast.training.device import Device
from framecast.training.state import TrainState
from framecast.training.step import check_losses, train_step
from framecast.training.train import train

pytestmark = pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


def trained(model_class, place, precision="fp32", steps=3):
    """The state and the losses of some steps on random clips."""
    device = Device(torch.device(place), precision)
    state, losses = TrainState.create(build(model_class).to(place)), []
    for step in range(steps):
        batch = batch_of(step, "main").to(place)
        losses.append({k: float(v) for k, v in train_step(state, lambda *_, b=batch: b, device).items()})
    check_losses(state, device)
    return state, losses


def test_resumed_run_equals_unbroken_run(tmp_path, place):
    data = write_store(tmp_path / "data")
    for name, lengths in (("unbroken", [4]), ("resumed", [2, 4])):
        for steps in lengths:
            config = small_config(Group, steps=steps, deterministic=True, compile="off")
            train(Group, data, out=tmp_path / name, config=config, device=place, quiet=True)
    same_run(tmp_path / "unbroken", tmp_path / "resumed")


@pytest.mark.parametrize("model_class", [Plain, Group])
def test_steps_equal_those_of_a_cpu(model_class, place):
    (here, losses), (cpu, expected) = trained(model_class, place), trained(model_class, "cpu")
    for found, wanted in zip(losses, expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)
    for key, value in weights(cpu.model).items():
        torch.testing.assert_close(weights(here.model)[key].cpu(), value, rtol=1e-3, atol=1e-4)


def test_bf16_agrees_with_fp32_and_keeps_float32_weights(place):
    (state, narrow), (_, wide) = trained(Plain, place, "bf16"), trained(Plain, place)
    assert narrow != wide
    for found, wanted in zip(narrow, wide, strict=True):
        assert found == pytest.approx(wanted, rel=2e-2)
    assert all(p.dtype == torch.float32 for p in state.model.parameters())


@pytest.mark.parametrize("model_class", [Plain, Acting])
def test_rollout_equals_that_of_a_cpu(model_class, place):
    batch, model = batch_of(0, "main"), build(model_class).eval()
    led = None if model.actions == "none" else torch.eye(3)[torch.arange(5) % 3].expand(4, -1, -1)
    expected = rollout(model, batch.context, 4, led)
    there = dataclasses.replace(batch, actions=None).to(place)
    found = rollout(model.to(place), there.context, 4, None if led is None else led.to(place))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)
