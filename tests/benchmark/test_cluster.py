"""Jobs, benchmarks and evaluations on a Ray cluster of two nodes on this machine, one of them killed: as alone.

Needs the extra `cluster`, which is outside [dev]: run by `make acceptance`.
"""

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason="needs the extra cluster")

from ray.cluster_utils import Cluster

import framecast.evaluation.distributed as distributed
from framecast.benchmark.runner import run_benchmark
from framecast.core.errors import UserError
from framecast.core.jobs import Job, run_jobs
from framecast.data.options import ReadOptions
from framecast.data.parallel_pack import pack_parallel
from framecast.data.store import DatasetWriter
from framecast.evaluation.compare import compare
from framecast.evaluation.evaluate import evaluate
from framecast.training.train import train

ROOT = Path(__file__).parents[2]
SETTINGS = {"horizon": 4, "clips": 3, "precision": "fp32", "device": "cpu", "quiet": True, "show": 1}


@pytest.fixture
def cluster(monkeypatch):
    """A head without processors and two nodes with one each, which import this package."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # workers of low priority never start on a busy machine
    # the nodes have this machine's own address, to which tests open no sockets; Ray's are its own
    monkeypatch.setattr("framecast.core.jobs._check_reachable", lambda cluster: None)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.both = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made
    made.shutdown()


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "data") as w:
        for _ in range(10):
            w.add(rng.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8), axes="tchw")
    return tmp_path / "data"


def lasting(table):
    """A table without what is measured in seconds."""
    return {k: v for k, v in json.loads(json.dumps(table)).items() if k not in ("costs", "runs")}


def kill_when(cluster, ready):
    """Kill a node as soon as a condition holds; returns a list that then has an entry."""
    killed = []

    def work():
        while not ready():
            time.sleep(0.05)
        cluster.remove_node(cluster.both[1], allow_graceful=False)
        killed.append(True)

    threading.Thread(target=work, daemon=True).start()
    return killed


def test_a_benchmark_with_a_lost_node_gives_the_table_of_one_machine(cluster, data, tmp_path):
    models = ("multiscale-gan:tiny --model.no-adversarial", "other=multiscale-gan:tiny --optim.generator-lr 1e-3")
    settings = {"models": models, "data": data, "steps": 60, "seeds": (0, 1), **SETTINGS}
    out = tmp_path / "cluster"
    killed = kill_when(cluster, lambda: len(list(out.rglob("metrics.jsonl"))) >= 2)  # both nodes are training
    found = run_benchmark(cluster=cluster.address, out=out, **settings)
    assert killed
    alone = run_benchmark(out=tmp_path / "alone", **settings)
    assert lasting(found) == lasting(alone)


def test_an_import_with_a_lost_node_gives_the_bytes_of_one_machine(cluster, data, tmp_path):
    one = pack_parallel(str(data), tmp_path / "one", ReadOptions(), 1 << 17)
    killed = kill_when(cluster, lambda: any(tmp_path.glob(".two.import/part-*/index.json")))
    two = pack_parallel(str(data), tmp_path / "two", ReadOptions(), 1 << 17, cluster=cluster.address)
    for path in sorted(one.folder.iterdir()):
        assert (two.folder / path.name).read_bytes() == path.read_bytes()
    while not killed:  # a quick import may be done before
        time.sleep(0.05)


def test_scores_with_a_lost_node_are_those_of_one_process_bit_for_bit(cluster, data, tmp_path, monkeypatch):
    """Both commands on one cluster, as its start is slow; the node is lost once the first clip is measured."""
    run = train("c-vae", data, out=tmp_path / "run", profile="tiny", steps=2, tensorboard=False, quiet=True)
    wanted = {"horizon": 3, "clips": 6, "samples": 2, "precision": "fp32", "device": "cpu", "batch_size": 1}
    measured, jobs = [], distributed.run_jobs

    def noticed(jobs_, done, **options):
        def report(number, result):
            measured.append(number)
            done(number, result)

        return jobs(jobs_, done=report, **options)

    monkeypatch.setattr(distributed, "run_jobs", noticed)
    killed = kill_when(cluster, lambda: measured)
    found, kept = compare([run], data, cluster=cluster.address, **wanted)
    alone, shown = compare([run], data, **wanted)
    assert killed
    assert sorted(measured) == list(range(6))
    assert costless(found) == costless(alone)
    assert [clip.index for clip in kept] == [clip.index for clip in shown]
    assert set(found.costs) == set(alone.costs)
    scores, _ = evaluate(run, cluster=cluster.address, save=False, **wanted)
    assert scores.to_json() == evaluate(run, save=False, **wanted)[0].to_json()


def costless(comparison):
    """A comparison without what is measured in seconds and bytes."""
    return {name: value for name, value in comparison.to_json().items() if name != "costs"}


def test_an_error_of_a_job_is_one_sentence(cluster):
    jobs = [Job("framecast.core.remote:parse_bytes", {"text": text}) for text in ("1kB", "much")]
    with pytest.raises(UserError, match="size 'much': expected bytes"):
        run_jobs(jobs, cluster=cluster.address)
