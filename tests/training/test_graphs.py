"""Recorded losses and gradients: the steps of plain training, one record per shape, and a fallback with one warning."""

import dataclasses

import pytest
import torch
from small_models import Dropped, Group, Plain, batch_of, build, same, small_config, weights, write_store

from framecast.core.errors import UserError
from framecast.core.types import Loss
from framecast.training.checkpoint import load_checkpoint
from framecast.training.device import Device
from framecast.training.graphs import GraphedLosses, wants_graphs
from framecast.training.state import TrainState
from framecast.training.step import train_step
from framecast.training.train import train

CPU = Device(torch.device("cpu"))


def rerun(step):
    """Repeats a step into the memory of its first results, as a graph does."""
    names, values, gradients = step()

    def replay():
        _, again, new = step()
        for old, now in zip([values, *gradients], [again, *new], strict=True):
            if old is not None:
                old.copy_(now)

    return replay, (names, values, gradients)


def stepped(model_class, record, device=CPU, steps=5, clips=4):
    """State and logs after some steps, and warnings; `record` None trains without graphs."""
    state, warnings, logs = TrainState.create(build(model_class).to(device.device)), [], []
    state.graphs = record and GraphedLosses(warnings.append, record)
    for step in range(steps):
        b = clips if step != 3 else 2  # another shape once
        log = train_step(state, lambda stream, _, at=step, b=b: batch_of(at, stream, b).to(device.device), device)
        logs.append({name: float(value) for name, value in log.items()})
    return state, logs, warnings


@pytest.mark.parametrize("model_class", [Plain, Group, Dropped])
def test_recorded_steps_equal_plain_steps(model_class):
    """Phases of a group, batch norm, rare phases, noise; the statistics are updated once per step."""
    recorded, logs, warnings = stepped(model_class, rerun)
    plain, expected, _ = stepped(model_class, None)
    same(weights(recorded.model), weights(plain.model))
    assert logs == expected
    assert not warnings
    phases = {phase.name for phase in plain.current.phases}
    frequent = {name for (name, _), graph in recorded.graphs.recorded.items() if graph.checked}
    assert frequent == phases - {"critic"}  # which ran once with each shape
    assert all(p.grad is None for p in recorded.model.parameters())


class Scheduled(Plain):
    def loss(self, batch, step=0):
        found = super().loss(batch, step)
        return dataclasses.replace(found, total=found.total * (1 + 0.1 * step))


class Elapsed(Plain):
    def loss(self, batch, step=0):
        return Loss(super().loss(batch).total * (1 + batch.elapsed))


class HostValue(Plain):
    """The loss depends on a number of the host that a recorded loss would keep."""

    def loss(self, batch, step=0):
        return Loss(super().loss(batch).total * (1 + float(batch.context.detach().flatten()[0])))


def frozen(step):
    """Repeats nothing: the first results stay, as a value of the host does."""
    return lambda: None, step()


def refusing(step):
    raise RuntimeError("operation not permitted when stream is capturing\nmore lines")


@pytest.mark.parametrize(
    ("model_class", "record", "reason"),
    [
        (Scheduled, rerun, "the loss depends on the step of the stage"),
        (Elapsed, rerun, "the loss depends on the elapsed share of the stage"),
        (HostValue, frozen, "repeated, it gives other values"),
        (Group, refusing, "operation not permitted when stream is capturing"),
    ],
)
def test_phase_that_cannot_be_recorded_runs_as_before_after_one_warning(model_class, record, reason):
    state, logs, warnings = stepped(model_class, record)
    plain, expected, _ = stepped(model_class, None)
    same(weights(state.model), weights(plain.model))
    assert logs == expected
    assert set(state.graphs.recorded.values()) == {None}
    assert len(warnings) == 1
    assert warnings[0].startswith("--train.cuda-graph: phase '")
    assert warnings[0].endswith(f"runs without a CUDA graph ({reason})")


def test_setting_is_ignored_on_a_cpu_and_for_whole_batches_only(tmp_path):
    gpu, pair = Device(torch.device("cuda")), Device(torch.device("cuda"), world=2)
    assert [wants_graphs(True, CPU, 1), wants_graphs(True, gpu, 1), wants_graphs(False, gpu, 1)] == [False, True, False]
    for device, parts in ((pair, 1), (gpu, 2)):
        with pytest.raises(UserError, match=r"--train.cuda-graph: needs one process and --grad-accum-steps 1"):
            wants_graphs(True, device, parts)
    data, saved = write_store(tmp_path / "data"), {}
    for wanted in (False, True):
        config = small_config(Plain, steps=2, cuda_graph=wanted)
        saved[wanted] = load_checkpoint(train(Plain, data, out=tmp_path / str(wanted), config=config, quiet=True))
    same(saved[True], saved[False])
    # the setting may change when a run is resumed
    train(Plain, data, out=tmp_path / "True", config=small_config(Plain, steps=3), quiet=True)


@pytest.mark.gpu
@pytest.mark.parametrize("model_class", [Plain, Group])
def test_recorded_steps_on_a_gpu_equal_plain_steps(model_class):
    from framecast.models.graphs import cuda_graph

    device = Device(torch.device("cuda"))
    recorded, logs, warnings = stepped(model_class, cuda_graph, device, steps=8)
    plain, expected, _ = stepped(model_class, None, device, steps=8)
    assert not warnings
    for key, value in weights(plain.model).items():
        torch.testing.assert_close(weights(recorded.model)[key], value, rtol=1e-4, atol=1e-5)
    for log, wanted in zip(logs, expected, strict=True):
        assert log == pytest.approx(wanted, rel=1e-4)
