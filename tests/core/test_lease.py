"""Leases: one writer at a time, stale ones recognised, whatever the clock."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest
from small_models import process_settings

from framecast.core import lease as leases
from framecast.core.lease import Held, one_writer


def write_lease(path, **changes):
    found = {"host": "elsewhere", "place": "elsewhere", "pid": 7, "started": 1, "token": "t", "count": 0, **changes}
    path.write_text(json.dumps(found))


def test_second_writer_is_refused_with_the_holder(tmp_path):
    path = tmp_path / ".lock"
    with one_writer(path, "this run"):
        message = rf"process {os.getpid()} on .* is writing this run; wait for it, or stop it"
        with pytest.raises(Held, match=message), one_writer(path, "this run"):
            pass
        assert path.is_file()
    assert not path.exists()
    with one_writer(path, "this run"):
        pass


def test_waiting_writer_gets_the_lease_when_it_is_released(tmp_path):
    path, order, said = tmp_path / ".lock", [], []
    entered = threading.Event()

    def second():
        entered.set()
        with one_writer(path, "the cache", wait=True, say=said.append):
            order.append("second")

    with one_writer(path, "the cache"):
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait()
        while not said:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert said[0].startswith(f"waiting for process {os.getpid()} on ")


def test_lease_of_a_killed_process_is_stale_at_once(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom framecast.core.lease import one_writer\n"
        "with one_writer(Path(sys.argv[1]), 'x'):\n    os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / ".lock"], **process_settings())
    assert done.returncode == -9
    assert (tmp_path / ".lock").is_file()
    with one_writer(tmp_path / ".lock", "x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_process_id_used_again_does_not_keep_a_lease(tmp_path):
    path = tmp_path / ".lock"
    earlier = {"pid": os.getpid(), "started": leases._started(os.getpid())}  # with this id, as in containers
    for holder in ({"pid": os.getppid(), "started": 1}, earlier):
        write_lease(path, place=leases._place(), **holder)
        with one_writer(path, "x"):
            assert json.loads(path.read_text())["token"] != "t"
        assert not path.exists()


def test_lease_of_another_machine_is_stale_when_it_is_not_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "STALE", 0.2)
    monkeypatch.setattr(leases, "LOOK", 0.02)
    write_lease(tmp_path / ".lock")
    began = time.monotonic()
    with one_writer(tmp_path / ".lock", "x") as held:
        assert time.monotonic() - began >= leases.STALE  # not before it could have been renewed
        held.check()
        assert json.loads((tmp_path / ".lock").read_text())["token"] != "t"


@pytest.mark.parametrize("clock", [0.0, 4e9])
def test_renewed_lease_of_another_machine_is_held_whatever_the_clock(tmp_path, monkeypatch, clock):
    monkeypatch.setattr(leases, "STALE", 60.0)
    monkeypatch.setattr(leases, "LOOK", 0.02)
    monkeypatch.setattr(time, "time", lambda: clock)
    path, over = tmp_path / ".lock", threading.Event()
    write_lease(path)

    def renew():
        count = 0
        while not over.wait(0.05):
            count += 1
            write_lease(tmp_path / "new", count=count)
            os.replace(tmp_path / "new", path)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(Held, match="process 7 on elsewhere is writing x"), one_writer(path, "x"):
            pass
    finally:
        over.set()
        thread.join()


def test_suspended_writer_notices_that_its_lease_was_taken(tmp_path):
    with one_writer(tmp_path / ".lock", "x") as held:
        held.check()
        write_lease(tmp_path / ".lock")
        with pytest.raises(Held, match="process 7 on elsewhere took over while this process was suspended"):
            held.check()
    assert (tmp_path / ".lock").is_file()  # of the other process


def _compete(path, results, over):
    try:
        with one_writer(path, "x"):
            results.put(1)
            over.wait()
    except Held:
        results.put(0)


def test_one_of_many_processes_takes_a_stale_lease(tmp_path):
    write_lease(tmp_path / ".lock", place=leases._place(), pid=2**22 + 1)
    context = multiprocessing.get_context("fork")
    results, over = context.Queue(), context.Event()
    processes = [context.Process(target=_compete, args=(tmp_path / ".lock", results, over)) for _ in range(5)]
    for process in processes:
        process.start()
    found = [results.get(timeout=300) for _ in processes]
    over.set()
    for process in processes:
        process.join()
    assert sum(found) == 1
