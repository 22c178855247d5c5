"""Restarts by torchrun's agent, whose store still holds what the processes of the failed attempt wrote."""

import collections
import os
import signal
import threading
import time
from datetime import timedelta

import pytest
import torch.distributed as dist
from small_models import Plain, same_run, small_config, torchrun, write_store

from framecast.data.store import Store
from framecast.training import device as device_module
from framecast.training import rendezvous
from framecast.training.checkpoint import load_checkpoint
from framecast.training.device import ProcessLost, make_device
from framecast.training.rendezvous import agree
from framecast.training.train import fit
from framecast.training.trainer import Trainer


class Watched(dist.HashStore):
    """A store that counts the questions asked of it by every thread."""

    def __init__(self):
        super().__init__()
        self.asked = collections.Counter()

    def check(self, keys):
        self.asked[threading.get_ident()] += 1
        return super().check(keys)


def attempt(store, order):
    """Names that the processes of one attempt agree on, started in this order, each once the one before waits."""
    found, threads = {}, []
    for rank in order:

        def work(rank=rank):
            found[rank] = agree(store, rank, len(order), timedelta(seconds=60))

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        while threads[-1].is_alive() and not store.asked[threads[-1].ident]:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_processes_of_every_attempt_agree_on_a_name_of_their_own(order, monkeypatch):
    monkeypatch.setattr(rendezvous, "LOOK", 0.01)
    store, names = Watched(), []
    for _ in range(3):
        found = attempt(store, order)
        assert len(set(found.values())) == 1
        names.append(found[0])
        store.set("framecast/greeting/1", "of a process that was killed before it was answered")
    assert len(set(names)) == 3


def test_missing_process_is_one_sentence(monkeypatch):
    with pytest.raises(TimeoutError, match="the other processes of the job did not start; run the same command again"):
        agree(dist.HashStore(), 0, 2, timedelta(0))
    with pytest.raises(TimeoutError):
        agree(dist.HashStore(), 1, 2, timedelta(0))

    def alone(backend):
        raise TimeoutError("the other processes of the job did not start")

    monkeypatch.setattr(device_module, "connect", alone)
    with pytest.raises(ProcessLost, match="did not start"):
        make_device("cpu", 2)


def trained(folder, out, killed):
    """A run of one of two processes; in the first attempt the process `killed` dies at step 5, after a checkpoint at 4.

    In the second attempt it starts once the other process has read what the store kept.
    """
    rank, first = int(os.environ["RANK"]), os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if rank == killed and first:
        original = Trainer._log_step

        def die(self, *arguments):
            if self.state.step == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, *arguments)

        Trainer._log_step = die
    elif rank == killed:
        while not out.with_suffix(".waits").exists():
            time.sleep(0.05)
        time.sleep(0.3)
    elif not first:
        out.with_suffix(".waits").touch()
    config = small_config(Plain, steps=8, save_every=2)
    fit(config, Store(folder), out, Plain, make_device("cpu", 2, precision="fp32"), quiet=True)
    return first


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A store, and the run of two processes on it."""
    folder = tmp_path_factory.mktemp("unbroken")
    data = write_store(folder / "data").folder
    assert torchrun(trained, data, folder / "run", None) == {0: True, 1: True}
    return data, folder / "run"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("killed", [0, 1])
def test_run_restarted_by_torchrun_equals_unbroken_run(unbroken, tmp_path, killed):
    data, run = unbroken
    assert torchrun(trained, data, tmp_path / "restarted", killed, max_restarts=1) == {0: False, 1: False}
    assert load_checkpoint(tmp_path / "restarted")["step"] == 8
    same_run(run, tmp_path / "restarted")
