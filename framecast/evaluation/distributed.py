"""Clips measured on the nodes of a Ray cluster and collected in their order, so that the table is that of one process.

A job measures one batch. Nodes open data and weights themselves, from the same settings, and keep them for their next
batch; only measurements return.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framecast.core.errors import UserError
from framecast.core.jobs import Job, job_function, run_jobs
from framecast.data.base import Source
from framecast.evaluation.clips import Clips
from framecast.evaluation.rows import Cost
from framecast.evaluation.score_table import ScoreTable
from framecast.models.base import Predictor
from framecast.training.run_folder import Run

#: Names a process, as process ids of two machines may be equal.
_PROCESS = secrets.token_hex(8)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """An evaluation whose clips can be measured.

    Attributes:
        table: Forecasters and protocol.
        clips: Clips to measure.
        about: What must be equal on all nodes, plain values.
        costs: Row -> time and memory of its forecasts, where they are measured.
    """

    table: ScoreTable
    clips: Clips
    about: Mapping[str, Any]
    costs: Mapping[str, Cost] = field(default_factory=dict)


def measure_on_cluster(
    ready: Ready,
    prepare: str,
    settings: Mapping[str, Any],
    cluster: str,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Cost]:
    """Measure all clips on a Ray cluster; the table of `ready` collects them.

    Args:
        ready: The evaluation, in this process.
        prepare: Function that makes the same evaluation on a node, such as framecast.evaluation.compare:on_node.
        settings: Its arguments, plain values.
        cluster: "auto" or an address.
        progress: Called with the numbers of measured and of all clips.

    Returns:
        Row -> time and memory of its forecasts on all nodes.

    Raises:
        UserError: Without Ray or a cluster, or when a node has other data, weights or another version.
    """
    table, batches = ready.table, ready.clips.batches()
    common = {"prepare": prepare, "settings": dict(settings), "folder": os.getcwd(), "about": _plain(ready.about)}
    jobs = [
        Job("framecast.evaluation.distributed:measure_batch", {**common, "first": b.start, "stop": b.stop})
        for b in batches
    ]
    waiting: dict[int, Any] = {}
    costs: dict[str, dict[str, Cost]] = {}
    following = 0

    def done(number: int, result: Mapping[str, Any]) -> None:
        nonlocal following
        waiting[number] = result["measured"]
        for row, cost in result["costs"].items():  # those of a process since its start: the latest counts
            of_row = costs.setdefault(row, {})
            known = of_row.get(result["process"])
            if known is None or cost.calls > known.calls:
                of_row[result["process"]] = cost
        while following in waiting:
            table.take(waiting.pop(following), batches[following])
            following += 1
        if progress:
            progress(table.clips, len(ready.clips.pairs))

    run_jobs(jobs, cluster=cluster, done=done, gpus=1 if str(table.device).startswith("cuda") else 0)
    return {row: Cost.together(list(parts.values())) for row, parts in costs.items()}


def measure_batch(
    prepare: str, settings: Mapping[str, Any], folder: str, about: Mapping[str, Any], first: int, stop: int
) -> dict[str, Any]:
    """Measurements of one batch, in a process of a node.

    Args:
        prepare, settings: See `measure_on_cluster`.
        folder: Folder that relative paths start from.
        about: `Ready.about` of the process that collects.
        first, stop: Numbers of the clips.

    Raises:
        UserError: The folder does not exist here, or data, weights or version differ.
    """
    if not Path(folder).is_dir():
        raise UserError(
            f"{folder}: does not exist on {socket.gethostname()}; start the command in a folder on a disk that all "
            "nodes share"
        )
    with contextlib.chdir(folder):
        ready = _prepared(prepare, json.dumps(settings))
        for name, value in _plain(ready.about).items():
            if value != about.get(name):
                raise UserError(
                    f"{socket.gethostname()}: {name} differs from that of the machine that collects; all nodes need "
                    "the same version of framecast and the same data and weights, on a disk that they share"
                )
        numbers = range(first, stop)
        batch = ready.clips.loader.gather([ready.clips.pairs[i] for i in numbers])
        measured = ready.table.measure(batch, numbers)
    costs = {row: dataclasses.replace(cost) for row, cost in ready.costs.items()}
    return {"measured": measured, "process": _PROCESS, "costs": costs}


@functools.lru_cache(maxsize=1)
def _prepared(prepare: str, settings: str) -> Ready:
    """The evaluation of this process, kept for its next batch."""
    found: Ready = job_function(prepare)(**json.loads(settings))
    return found


def _plain(about: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they are after a way through JSON, so that tuples equal lists."""
    found: dict[str, Any] = json.loads(json.dumps(dict(about)))
    return found


def path_of(value: str | Path | Run | Source, what: str) -> str:
    """A run or data as a text that other nodes can open.

    Raises:
        UserError: It is an object in memory.
    """
    if isinstance(value, Run):
        return value.label
    if isinstance(value, str | Path):
        return str(value)
    raise UserError(f"cluster: needs {what} by path or name, got an object of {type(value).__name__}")


def class_name(model_class: type[Predictor] | str | None) -> str | None:
    """A model's class as a text that other nodes can open.

    Raises:
        UserError: It is a class.
    """
    if isinstance(model_class, type):
        raise UserError(f"cluster: needs model_class as path/to/mine.py:{model_class.__name__}, got the class")
    return model_class
