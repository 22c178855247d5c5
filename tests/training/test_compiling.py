"""Compiled losses: the same runs, plain names, and one warning where compilation does not work."""

import pytest
import torch
from small_models import Dropped, Group, Plain, advance, batch_of, build, same, small_config, weights, write_store

from framecast.core.errors import UserError
from framecast.core.io import read_file
from framecast.training import compiling
from framecast.training.checkpoint import load_checkpoint
from framecast.training.compiling import compile_losses, wants_compilation
from framecast.training.device import Device
from framecast.training.state import TrainState
from framecast.training.step import train_step
from framecast.training.train import train

CPU = Device(torch.device("cpu"))


@pytest.fixture(autouse=True)
def quick_compiler(monkeypatch):
    """Traces as the usual compiler does, and runs torch's own kernels."""
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("data") / "grey")


def compiled_state(model_class, warnings, device=CPU):
    state = TrainState.create(build(model_class).to(device.device))
    with compiling.compiling(True, warnings.append):
        compile_losses(state, lambda stream, _: batch_of(0, stream).to(device.device), device)
    return state


@pytest.mark.parametrize("model_class", [Group, Dropped])
def test_compiled_steps_equal_plain_steps(model_class):
    """Phases of a group, batch norm, rare phases; noise and dropout."""
    warnings, steps = [], 2
    compiled, plain = compiled_state(model_class, warnings), TrainState.create(build(model_class))
    same(weights(compiled.model), weights(plain.model))  # trying the losses left no trace
    assert set(compiled.losses) == {phase.name for phase in plain.current.phases}
    for state in (compiled, plain):
        advance(state, steps)
    for key, value in weights(plain.model).items():
        torch.testing.assert_close(weights(compiled.model)[key], value, rtol=1e-5, atol=1e-6)
    assert list(weights(compiled.model)) == list(weights(plain.model))
    assert not warnings


def test_compiled_run_resumes_with_plain_names_and_the_setting_may_change(grey, tmp_path):
    runs = {}
    for name, lengths in (("whole", [4]), ("resumed", [2, 4])):
        for steps in lengths:
            config = small_config(Plain, steps=steps, compile="on")
            runs[name] = train(Plain, grey, out=tmp_path / name, config=config, quiet=True)
    same(load_checkpoint(runs["whole"]), load_checkpoint(runs["resumed"]))
    plain = train(Plain, grey, out=tmp_path / "plain", config=small_config(Plain, steps=4), quiet=True)
    assert list(load_checkpoint(plain)["model"]) == list(load_checkpoint(runs["whole"])["model"])
    train(Plain, grey, out=runs["whole"], config=small_config(Plain, steps=5, compile="off"), quiet=True)
    assert read_file(runs["whole"] / "config.json")["train"]["compile"] == "off"


def failing(graph, inputs):
    raise RuntimeError("no compiler was found")


def test_missing_compiler_is_one_warning_and_the_run_is_that_without(grey, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compiling, "BACKEND", failing)
    saved = {}
    for choice in ("on", "off"):
        config = small_config(Plain, steps=2, compile=choice)
        saved[choice] = load_checkpoint(train(Plain, grey, out=tmp_path / choice, config=config))
    same(saved["on"], saved["off"])
    errors = capsys.readouterr().err
    assert errors.count("--compile: a part of the losses runs without compilation (") == 1
    assert "Traceback" not in errors


def unable_to_differentiate(graph, inputs):
    def run(*values):
        found = graph(*values)
        for x in found:
            if isinstance(x, torch.Tensor) and x.requires_grad:
                x.register_hook(refuse)
        return found

    return run


def refuse(gradient):
    raise RuntimeError("double backward is not supported")


def test_loss_whose_compiled_gradient_fails_stays_plain(monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", unable_to_differentiate)
    warnings = []
    state, plain = compiled_state(Plain, warnings), TrainState.create(build(Plain))
    assert not state.losses
    assert len(warnings) == 1
    assert "double backward is not supported" in warnings[0]
    for one in (state, plain):
        advance(one, 2)
    same(weights(state.model), weights(plain.model))


def test_compilation_is_automatic_on_a_gpu_and_of_whole_batches_only():
    cpu, gpu, pair = CPU, Device(torch.device("cuda")), Device(torch.device("cuda"), world=2)
    assert [wants_compilation("auto", *case) for case in ((cpu, 1), (gpu, 1), (gpu, 2), (pair, 1))] == [0, 1, 0, 0]
    assert [wants_compilation(choice, cpu, 1) for choice in ("on", "off")] == [True, False]
    with pytest.raises(UserError, match="--compile on: needs one process and --grad-accum-steps 1"):
        wants_compilation("on", cpu, 2)


@pytest.mark.gpu
@pytest.mark.parametrize("model_class", [Group, Dropped])
def test_compiled_steps_on_a_gpu_equal_plain_steps(model_class, monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "inductor")
    device, warnings = Device(torch.device("cuda")), []
    compiled, plain = compiled_state(model_class, warnings, device), TrainState.create(build(model_class).cuda())
    for state in (compiled, plain):
        for step in range(3):
            train_step(state, lambda stream, _, at=step: batch_of(at, stream).to("cuda"), device)
    for key, value in weights(plain.model).items():
        torch.testing.assert_close(weights(compiled.model)[key], value, rtol=1e-4, atol=1e-5)
