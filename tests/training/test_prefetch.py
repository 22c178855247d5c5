"""Batches made ahead by a thread: the same runs bit for bit, errors at their step, and an end of the thread."""

import threading

import numpy as np
import pytest
import torch
from small_models import Group, Plain, TwoStage, build, rows_of, same_run, small_config, write_store

from framecast.core.errors import UserError
from framecast.core.types import Batch
from framecast.data.store import Store
from framecast.training.prefetch import Prefetch, batches_ahead, streams_of
from framecast.training.signals import Interrupted, Signals
from framecast.training.train import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("data") / "grey")


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def number(step, stream):
    """A batch that holds its step."""
    frames = torch.full((1, 1, 1, 2, 2), float(step))
    return Batch(context=frames, future=frames[:, :0])


def prefetch(make=number, streams=lambda step: ["main"], ahead=2):
    return Prefetch(make, streams, CPU, ahead, threading.Lock())


@pytest.mark.parametrize(("model_class", "steps", "ahead"), [(Group, 8, 1), (TwoStage, 10, 3)])
def test_run_with_batches_made_ahead_equals_run_without(grey, tmp_path, model_class, steps, ahead):
    """Also across streams, phases that run rarely, stages, validations, and a stop in the middle."""
    settings = dict(order="epoch", validate_every=4, validate_train=True, summary_every=3)
    runs = {}
    for name, made, lengths in (("without", 0, [steps]), ("with", ahead, [steps]), ("resumed", ahead, [5, steps])):
        for length in lengths:
            config = small_config(model_class, steps=length, prefetch=made, **settings)
            runs[name] = train(model_class, grey, out=tmp_path / name, config=config, quiet=True)
        assert not threads()
    same_run(runs["without"], runs["with"])
    same_run(runs["without"], runs["resumed"])


def test_at_most_the_wanted_number_is_made_ahead():
    made, settled = [], threading.Event()

    def make(step, stream):
        made.append(step)
        if len(made) == 4:
            settled.set()
        return number(step, stream)

    batches = prefetch(make, ahead=3)
    assert batches.get(7, "main").context.unique().item() == 7
    assert settled.wait(10)
    batches.close()
    assert made == [7, 8, 9, 10]
    assert not threads()


def test_batches_of_other_steps_and_streams_are_made_when_asked_for():
    batches = prefetch(streams=lambda step: ["main", "critic"] if step % 3 == 0 else ["main"], ahead=1)
    asked = [(0, "critic"), (0, "main"), (1, "critic"), (1, "main"), (6, "critic"), (5, "main"), (400, "main")]
    assert [batches.get(*key).context.unique().item() for key in asked] == [step for step, _ in asked]
    batches.close()


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_streams_that_end_or_fail_do_not_block_a_step():
    rare = prefetch(streams=lambda step: ["main"] if step < 2 else [])
    assert [rare.get(step, "main").context.unique().item() for step in range(4)] == [0, 1, 2, 3]
    rare.close()

    def failing(step):
        if step == 2:
            raise ValueError("no such step")
        return ["main"]

    broken = prefetch(streams=failing, ahead=1)
    broken.get(0, "main")
    broken.get(1, "main")
    assert broken.get(2, "main").context.unique().item() == 2
    broken.close()


class Unreadable(Store):
    """The end of every video cannot be read."""

    def clip(self, video, start, length, stride=1):
        if start == 20:
            raise UserError("video.mp4: is damaged; leave it out")
        return super().clip(video, start, length, stride)


def test_unreadable_data_end_the_run_at_the_same_step_with_the_same_sentence(grey, tmp_path):
    source, rows = Unreadable(grey.folder), []
    for ahead in (0, 4):
        config = small_config(Plain, steps=50, batch_size=1, seed=4, prefetch=ahead)
        with pytest.raises(UserError, match=r"^video.mp4: is damaged; leave it out$"):
            train(Plain, source, out=tmp_path / str(ahead), quiet=True, config=config)
        assert not threads()
        rows.append(rows_of(tmp_path / str(ahead)))
    assert rows[0] == rows[1]
    assert rows[0], "the run ended at its first step"


def test_batches_before_an_unreadable_one_are_trained():
    def make(step, stream):
        if step == 2:
            raise UserError("video.mp4: is damaged")
        return number(step, stream)

    batches = prefetch(make, ahead=4)
    assert [batches.get(step, "main").context.unique().item() for step in (0, 1)] == [0, 1]
    with pytest.raises(UserError, match="is damaged"):
        batches.get(2, "main")
    assert batches.get(3, "main").context.unique().item() == 3
    batches.close()


def test_thread_ends_after_a_signal(grey, tmp_path, monkeypatch):
    signals = Signals()
    monkeypatch.setattr("framecast.training.trainer.Signals", lambda: signals)

    class Stopping(Plain):
        def loss(self, batch, step=0):
            if step == 3:
                assert threads()
                signals.number = 15
            return super().loss(batch, step)

    with pytest.raises(Interrupted):
        train(Stopping, grey, out=tmp_path / "run", config=small_config(Stopping, steps=50, prefetch=2), quiet=True)
    assert not threads()


def test_data_are_read_by_one_thread_at_a_time(grey, tmp_path):
    class Checked(Store):
        busy = False

        def clip(self, video, start, length, stride=1):
            assert not self.busy
            self.busy = True
            try:
                return super().clip(video, start, length, stride)
            finally:
                self.busy = False

    config = small_config(Plain, steps=20, prefetch=4, validate_every=2, validate_train=True, select_horizon=2)
    train(Plain, Checked(grey.folder), out=tmp_path / "run", config=config, quiet=True)


def test_number_of_batches_depends_on_the_device_unless_given():
    assert [batches_ahead(None, torch.device(name)) for name in ("cpu", "cuda", "mps")] == [0, 2, 0]
    assert batches_ahead(0, torch.device("cuda")) == 0
    assert batches_ahead(5, CPU) == 5
    with pytest.raises(UserError, match=r"--train\.prefetch must be at least 0, got -1"):
        small_config(Plain, prefetch=-1)


def test_streams_of_a_step_are_those_of_its_phases():
    phases = build(Group).phases()
    assert [streams_of(phases, step) for step in (0, 1, 3)] == [["critic", "main"], ["main"], ["critic", "main"]]


@pytest.mark.gpu
def test_batches_on_a_gpu_equal_those_on_the_cpu():
    """Page-locked memory and a copy on a stream of its own."""
    rng = np.random.default_rng(0)
    frames = torch.from_numpy(rng.integers(0, 256, (20, 4, 3, 8, 8), np.uint8))

    def make(step, stream):
        return Batch(context=frames[step][None, :2], future=frames[step][None, 2:])

    batches = Prefetch(make, lambda step: ["main"], torch.device("cuda"), 3, threading.Lock())
    for step in range(20):
        found = batches.get(step, "main")
        torch.testing.assert_close(found.context.cpu(), frames[step][None, :2].float() / 255)
        torch.testing.assert_close(found.future.cpu(), frames[step][None, 2:].float() / 255)
    batches.close()
