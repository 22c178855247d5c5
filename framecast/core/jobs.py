"""Independent jobs: in this process, in worker processes of this machine, or on a Ray cluster (extra `cluster`).

A job is the name of a function of this package and arguments that are JSON. It must be repeatable: on a cluster, a job
whose node is lost runs again on another.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from framecast.core.errors import UserError, imported

#: How often a job is repeated after its node was lost or its process killed.
RETRIES = 5


@dataclass(frozen=True)
class Job:
    """A function and its arguments."""

    call: str
    """Such as framecast.data.parallel_pack:pack_task."""
    args: Mapping[str, Any]
    """Keyword arguments, plain data."""


def run_jobs(
    jobs: Sequence[Job],
    workers: int = 1,
    cluster: str | None = None,
    done: Callable[[int, Any], None] | None = None,
    gpus: float = 0,
) -> list[Any]:
    """Results of all jobs, in their order.

    Args:
        jobs: The jobs.
        workers: Processes of this machine; 1 runs the jobs in this process.
        cluster: "auto" or the address of a Ray cluster, which then runs them; files they read and write must be on a
            disk that all its nodes share.
        done: Called with number and result of every job when it ends.
        gpus: GPUs of each job, on a cluster.

    Raises:
        UserError: A job failed with one, a worker was killed, or the cluster cannot be reached.
    """
    if workers < 1:
        raise UserError(f"--workers must be at least 1, got {workers}")
    report = done or (lambda number, result: None)
    if cluster is not None:
        return _on_cluster(jobs, cluster, report, gpus)
    if workers == 1 or len(jobs) < 2:
        results = []
        for number, job in enumerate(jobs):
            results.append(job_function(job.call)(**job.args))
            report(number, results[-1])
        return results
    return _in_processes(jobs, min(workers, len(jobs)), report)


def call(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """{"result": …} of a job, or {"error": sentence}."""
    try:
        return {"result": job_function(name)(**args)}
    except UserError as error:
        return {"error": str(error)}


def job_function(name: str) -> Callable[..., Any]:
    """The function of a name such as framecast.data.parallel_pack:pack_task.

    Raises:
        ValueError: it is not of this package.
    """
    module, _, function = name.partition(":")
    if not module.startswith("framecast."):
        raise ValueError(f"{name}: a job is a function of this package")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


# ------------------------------------------------------------------------------------------------------- this machine


def _in_processes(jobs: Sequence[Job], workers: int, report: Callable[[int, Any], None]) -> list[Any]:
    waiting = iter(enumerate(jobs))
    answers: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = queue.SimpleQueue()
    running: dict[_Worker, int] = {}
    results: list[Any] = [None] * len(jobs)
    started: list[_Worker] = []
    try:
        for _ in range(workers):
            worker = _Worker(answers)
            started.append(worker)
            running[worker], job = next(waiting)
            worker.send(job)
        while running:
            worker, answer = answers.get()
            number = running.pop(worker)
            if answer is None:
                raise UserError(
                    f"a worker process ended before its work was done (code {worker.process.wait()}); repeat the "
                    "command to resume, with fewer --workers if memory is short"
                )
            if "error" in answer:
                raise UserError(answer["error"])
            results[number] = answer["result"]
            report(number, answer["result"])
            if (following := next(waiting, None)) is not None:
                running[worker] = following[0]
                worker.send(following[1])
        return results
    finally:
        for worker in started:
            worker.stop()


class _Worker:
    """A process that reads jobs line by line and ends when its standard input does, so it never outlives this one."""

    def __init__(self, answers: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]]) -> None:
        # -P: a file random.py or json.py in the current folder is not imported in place of the standard library's
        command = [sys.executable, "-P", "-m", "framecast.core.jobs"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers = answers
        self.thread = threading.Thread(target=self._listen, daemon=True, name="worker")
        self.thread.start()

    def send(self, job: Job) -> None:
        """Start a job."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps([job.call, dict(job.args)]) + "\n")
            self.process.stdin.flush()
        except OSError:  # it ended, which is reported by its thread
            return

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put((self, json.loads(line)))
        self.answers.put((self, None))

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.thread.join()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue


def work() -> None:
    """Answer jobs from standard input until it ends, then end at once."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a job prints does not mix with the answers

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        name, args = json.loads(lines.get())
        answers.write(json.dumps(call(name, args)) + "\n")
        answers.flush()


# ------------------------------------------------------------------------------------------------------------ cluster


def _check_reachable(cluster: str) -> None:
    """Raise UserError for an address that nothing answers at, which Ray would wait for."""
    if cluster == "auto":
        return
    host, _, port = cluster.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"--cluster {cluster}: expected auto or an address HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(
            f"--cluster {cluster}: no Ray cluster is reached ({error.strerror or error}); start one with ray start "
            "--head, or check the address"
        ) from error


def _on_cluster(jobs: Sequence[Job], cluster: str, report: Callable[[int, Any], None], gpus: float) -> list[Any]:
    ray = imported("ray", '--cluster needs Ray; install it with pip install "framecast[cluster]"')
    _check_reachable(cluster)
    try:
        ray.init(address=cluster, ignore_reinit_error=True, log_to_driver=False, logging_level="warning")
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"--cluster {cluster}: no Ray cluster is reached ({first}); start one with ray start --head, or check the "
            "address"
        ) from error
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(call)
    pending = {remote.remote(job.call, dict(job.args)): number for number, job in enumerate(jobs)}
    results: list[Any] = [None] * len(jobs)
    try:
        while pending:
            ready, _ = ray.wait(list(pending), num_returns=1)
            number = pending.pop(ready[0])
            try:
                answer = ray.get(ready[0])
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.RayError) as error:
                if isinstance(error, ray.exceptions.RayTaskError):
                    raise
                raise UserError(
                    f"--cluster {cluster}: a job was lost {RETRIES + 1} times ({type(error).__name__}); check the "
                    "nodes' memory and logs, then repeat the command to resume"
                ) from error
            if "error" in answer:
                raise UserError(answer["error"])
            results[number] = answer["result"]
            report(number, answer["result"])
        return results
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        ray.shutdown()


if __name__ == "__main__":
    work()
