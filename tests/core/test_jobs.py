"""Independent jobs: the same results in one process and several, and a sentence where one fails or is killed."""

import json
import socket
import sys
import types

import psutil
import pytest

from framecast.core import jobs as jobs_module
from framecast.core.errors import UserError
from framecast.core.jobs import RETRIES, Job, call, run_jobs

SIZES = ["1kB", "2MiB", "3", "4GB", "5kB"]
FOUND = [1000, 2 << 20, 3, 4 * 10**9, 5000]


def jobs(sizes=SIZES):
    return [Job("framecast.core.remote:parse_bytes", {"text": text}) for text in sizes]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_in_the_order_of_the_jobs(workers):
    seen = []
    assert run_jobs(jobs(), workers, done=lambda number, result: seen.append((number, result))) == FOUND
    assert sorted(seen) == list(enumerate(FOUND))
    assert not [p for p in psutil.Process().children() if "framecast.core.jobs" in " ".join(p.cmdline())]


def test_errors_and_killed_workers_are_one_sentence():
    with pytest.raises(UserError, match="size 'much': expected bytes"):
        run_jobs(jobs(["1", "much", "2"]), 2)

    def kill(number, result):
        for child in psutil.Process().children():
            child.kill()

    with pytest.raises(UserError, match=r"a worker process ended before its work was done \(code -9\); repeat the"):
        run_jobs(jobs(["1"] * 50), 2, done=kill)
    with pytest.raises(UserError, match="--workers must be at least 1"):
        run_jobs(jobs(), 0)
    assert json.loads(json.dumps(call("framecast.core.remote:parse_bytes", {"text": "x"})))["error"]
    with pytest.raises(ValueError, match="a job is a function of this package"):
        call("os:system", {"command": "true"})


def test_a_missing_cluster_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # its import fails
    with pytest.raises(UserError, match=r"--cluster needs Ray; install it with pip install \"framecast\[cluster\]\""):
        run_jobs(jobs(), cluster="auto")


def test_an_address_without_a_cluster_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))  # it is not reached
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UserError, match=f"--cluster {address}: no Ray cluster is reached"):
            run_jobs(jobs(), cluster=address)
    with pytest.raises(UserError, match="--cluster elsewhere: expected auto or an address HOST:PORT"):
        run_jobs(jobs(), cluster="elsewhere")


@pytest.fixture
def cluster(monkeypatch):
    """Ray's interface over this process: the last job ends first, and jobs of the text "lost" lose their node."""
    ray = types.ModuleType("ray")
    ray.done, ray.cancelled = [], []
    kinds = {"RayError": Exception}
    kinds["WorkerCrashedError"] = type("WorkerCrashedError", (kinds["RayError"],), {})
    kinds["RayTaskError"] = type("RayTaskError", (kinds["RayError"],), {})
    ray.exceptions = types.SimpleNamespace(**kinds)

    def get(job):
        ray.done.append(job)
        if job[1]["text"] == "lost":
            raise ray.exceptions.WorkerCrashedError
        return call(job[0], job[1])

    def remote(**options):
        assert options == {"num_cpus": 1, "num_gpus": 0, "max_retries": RETRIES}
        return lambda function: types.SimpleNamespace(remote=lambda name, args: Reference((name, args)))

    class Reference(tuple):
        __slots__ = ()
        __hash__ = object.__hash__

        def __eq__(self, other):
            return self is other

    ray.init, ray.shutdown = lambda **_: None, lambda: ray.done.append("shutdown")
    ray.remote, ray.get = remote, get
    ray.wait = lambda references, num_returns: (references[-1:], references[:-1])
    ray.cancel = lambda reference, force: ray.cancelled.append(reference[1]["text"])
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(jobs_module, "_check_reachable", lambda cluster: None)
    return ray


def test_results_of_a_cluster_are_in_the_order_of_the_jobs(cluster):
    seen = []
    assert run_jobs(jobs(), cluster="auto", done=lambda number, result: seen.append(number)) == FOUND
    assert seen == [4, 3, 2, 1, 0]
    assert cluster.done[-1] == "shutdown"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lost", rf"a job was lost {RETRIES + 1} times \(WorkerCrashedError\); check the nodes' memory and logs, then"),
        ("much", "size 'much': expected bytes"),
    ],
)
def test_lost_and_failed_jobs_of_a_cluster_are_one_sentence_and_stop_the_others(cluster, text, sentence):
    with pytest.raises(UserError, match=sentence):
        run_jobs(jobs(["1", "2", text, "3"]), cluster="auto")
    assert cluster.cancelled == ["1", "2"]
    assert cluster.done[-1] == "shutdown"
