"""Clips measured by jobs: the table of one process whatever the order of arrival, and nodes that differ are refused."""

import json
import pickle
import sys

import pytest
from cli_support import acting_run, copy_run, refused, store  # noqa: F401

from framecast.core.errors import UserError
from framecast.core.jobs import call
from framecast.evaluation import distributed
from framecast.evaluation.compare import compare
from framecast.evaluation.evaluate import evaluate
from framecast.evaluation.rows import Cost
from framecast.training.run_folder import open_run

SETTINGS = {"horizon": 4, "clips": 5, "precision": "fp32", "device": "cpu", "batch_size": 2}


@pytest.fixture
def nodes(monkeypatch):
    """Jobs of a cluster run in this process, the last one first, their results copied; returns their arguments."""
    seen = []

    def run_jobs(jobs, cluster=None, done=None, gpus=0):
        assert (cluster, gpus) == ("auto", 0)
        for number, job in reversed(list(enumerate(jobs))):
            seen.append(json.loads(json.dumps(dict(job.args))))
            answer = call(job.call, seen[-1])
            if "error" in answer:
                raise UserError(answer["error"])
            done(number, pickle.loads(pickle.dumps(answer["result"])))

    monkeypatch.setattr(distributed, "run_jobs", run_jobs)
    distributed._prepared.cache_clear()
    yield seen
    distributed._prepared.cache_clear()


def costless(comparison):
    return {name: value for name, value in comparison.to_json().items() if name != "costs"}


def test_comparison_on_nodes_equals_that_of_one_process_bit_for_bit(nodes):
    rows, progress = [f"plain={copy_run()}", copy_run()], []
    found, kept = compare(rows, store(), cluster="auto", progress=lambda *at: progress.append(at), **SETTINGS)
    alone, shown = compare(rows, store(), **SETTINGS)
    assert costless(found) == costless(alone)
    assert [clip.index for clip in kept] == [clip.index for clip in shown]
    assert [(job["first"], job["stop"]) for job in nodes] == [(4, 5), (2, 4), (0, 2)]
    assert progress[-1] == (5, 5)
    assert all(found.costs[row]["frames_per_second"] for row in found.costs)


def test_evaluation_on_nodes_equals_that_of_one_process_bit_for_bit(nodes, tmp_path):
    name = json.loads((acting_run() / "config.json").read_text())["name"]
    scores, kept = evaluate(acting_run(), model_class=name, cluster="auto", out=tmp_path, **SETTINGS)
    alone, shown = evaluate(acting_run(), model_class=name, save=False, **SETTINGS)
    assert scores.to_json() == alone.to_json()
    assert [clip.name for clip in kept] == [clip.name for clip in shown]
    assert (tmp_path / "scores.json").is_file()
    assert len(nodes) == 3


def test_node_with_other_data_or_without_the_folder_is_refused(nodes, monkeypatch):
    compare([copy_run()], store(), cluster="auto", **SETTINGS)
    other = {**nodes[-1], "about": {**nodes[-1]["about"], "rows": {}}}
    with pytest.raises(UserError, match="rows differs from that of the machine that collects; all nodes need the same"):
        distributed.measure_batch(**other)
    with pytest.raises(
        UserError, match=r"/nowhere: does not exist on .*; start the command in a folder on a disk that"
    ):
        distributed.measure_batch(**{**nodes[-1], "folder": "/nowhere"})


def test_objects_in_memory_are_refused_for_a_cluster(nodes):
    run = open_run(copy_run())
    for settings, sentence in (
        ({"data": run.config}, "cluster: needs data by path or name, got an object of RunConfig"),
        ({"model_class": run.model_class}, "cluster: needs model_class as path/to/mine.py:"),
        ({"devices": 2}, "--devices shares the clips among processes of this machine; use it or --cluster, not both"),
    ):
        with pytest.raises(UserError, match=sentence):
            compare([run], **{"data": store(), **SETTINGS, "cluster": "auto", **settings})


def test_commands_without_the_extra_are_one_sentence(refused, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setitem(sys.modules, "ray", None)  # its import fails
    common = ("--cluster", "auto", "--horizon", 4, "--out", tmp_path / "out")
    for words in (("evaluate", copy_run()), ("compare", copy_run(), "--data", store())):
        message = refused(*words, *common)
        assert '--cluster needs Ray; install it with pip install "framecast[cluster]"' in message
    assert not (tmp_path / "out").exists()


def test_cost_of_several_processes_is_the_speed_of_one_and_the_largest_memory():
    parts = [Cost(calls=3, seconds=2.0, frames=10, first=(9.0, 5), memory_mb=7.0), Cost(calls=1, first=(1.0, 5))]
    assert (Cost.together(parts).frames_per_second, Cost.together(parts).memory_mb) == (5.0, 7.0)
    assert Cost.together(parts[1:]).frames_per_second == 5.0
