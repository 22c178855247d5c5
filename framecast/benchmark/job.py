"""One run of a benchmark in a separate process: trains, deletes large files and writes a result file.

`python -m framecast.benchmark.job JOB` is started by `benchmark/runner.py`. It stops, with a checkpoint, when its
standard input ends, so that no process remains after the end of the one that started it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import framecast
from framecast.benchmark.plan import entry_config
from framecast.core.errors import UserError
from framecast.core.io import read_json, write_json
from framecast.core.lease import one_writer
from framecast.core.memory import peak_memory
from framecast.core.types import FORMAT
from framecast.data.cache import open_data
from framecast.models.base import count_parameters
from framecast.models.registry import find_model
from framecast.training.checkpoint import CHECKPOINT, CHECKPOINT_SUMS, PREVIOUS, load_checkpoint, snapshots
from framecast.training.device import pick_device
from framecast.training.log import read_metrics
from framecast.training.run_folder import open_run
from framecast.training.signals import Interrupted
from framecast.training.step import NotFinite
from framecast.training.train import train

#: Files deleted from a finished run; config, last weights, log and images remain.
BULKY = (CHECKPOINT, PREVIOUS, CHECKPOINT_SUMS, "latents", "tensorboard")


def main(argument: str) -> int:
    """Exit code of one job, as of `framecast train`.

    Args:
        argument: Job as JSON, see `runner.py`.
    """
    job = json.loads(argument)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    result = Path(job["result"])
    try:
        # waits: an orphaned process finishes its step and saves
        with one_writer(result.with_suffix(".lock"), result.stem, wait=True):
            work(job)
        return 0
    except Interrupted as stop:
        return stop.code
    except UserError as error:
        fault, code = str(error), 2
    except NotFinite as error:
        fault, code = str(error), 1
    except MemoryError:
        fault, code = "not enough memory; use a smaller --size or a smaller profile", 1
    except Exception as error:
        traceback.print_exc()
        fault, code = f"{type(error).__name__}: {error}", 1
    write_json(result, {**begun(job), "state": "failed", "fault": " ".join(fault.split())})
    return code


def on_node(job: Mapping[str, Any], folder: str) -> int:
    """Exit code of a job on a node of a cluster, in a process that ends with the one that calls this.

    Args:
        job: See `runner.py`.
        folder: Folder that relative paths of the job start from.
    """
    command = [sys.executable, "-P", "-m", "framecast.benchmark.job", json.dumps(job)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=folder) as process:
        code = process.wait()
    if code in (130, 143):
        raise UserError(f"{job['run']}: was stopped; repeat the command to resume")
    return code


def begun(job: Mapping[str, Any]) -> dict[str, Any]:
    """Part of a result that is known before training."""
    about = {name: job[name] for name in ("row", "label", "model", "profile", "seed", "command", "settings")}
    return {"format": FORMAT, "kind": "benchmark run", "state": "begun", **about}


def work(job: Mapping[str, Any]) -> None:
    """Train or resume the run of a job and write its result."""
    result, folder = Path(job["result"]), Path(job["run"])
    if finished(result):
        tidy(folder)
        return
    write_json(result, begun(job))
    config = entry_config(job["model"], job["profile"], tuple(job["words"]))
    source, data = open_data(config.data)
    config = dataclasses.replace(config, data=data)
    began, worked = time.monotonic(), time.process_time()
    train(job["model"], source, out=folder, config=config, device=job["device"], quiet=job["quiet"])
    summary = {
        **begun(job),
        "state": "finished",
        **facts(folder, job["model"]),
        # of the last process only; processor time far below seconds times threads indicates a shared machine
        "sitting_seconds": round(time.monotonic() - began, 1),
        "sitting_cpu_seconds": round(time.process_time() - worked, 1),
    }
    write_json(
        result,
        {
            **summary,
            "peak_memory_gb": round(peak_memory(pick_device(job["device"])), 3),
            **circumstances(job["device"]),
        },
    )
    tidy(folder)


def facts(folder: Path, model: str) -> dict[str, Any]:
    """Parameters, steps, seconds and last validation of a finished run.

    Args:
        folder: Run folder.
        model: Name of the model.
    """
    run = open_run(folder, find_model(model))
    steps, seconds = run.trained
    if saved := load_checkpoint(folder):  # the log has the time of every n-th step only
        seconds = float(saved["seconds"])
    counts = count_parameters(run.model())
    validated = [r for r in read_metrics(folder) if "val/loss" in r]
    return {
        "steps": steps,
        "seconds": None if seconds is None else round(seconds, 1),
        "parameters": sum(counts.values()),
        "parameters_by_part": counts,
        "validation": {k: v for k, v in validated[-1].items() if k.startswith("val/")} if validated else {},
        "weights_bytes": run.weights.stat().st_size,
    }


def circumstances(device: str) -> dict[str, Any]:
    """Hardware, versions and date.

    Args:
        device: Device of the run, such as auto, cpu or cuda:0.
    """
    import torch

    info, cpu = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    if info.is_file():
        names = [s.partition(":")[2].strip() for s in info.read_text().splitlines() if s.startswith("model name")]
        cpu = names[0] if names else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    place = pick_device(device)
    return {
        "hardware": {
            "cpu": cpu,
            "cores": cores,
            "torch_threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(place) if place.type == "cuda" else str(place),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {
            "framecast": framecast.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "date": time.strftime("%Y-%m-%d"),
    }


def finished(result: Path) -> bool:
    """Whether the run of a result file finished without error."""
    return state_of(result) == "finished"


def state_of(result: Path) -> str | None:
    """State in a result file: begun, failed or finished; None without the file."""
    if not result.is_file():
        return None
    return str(read_json(result).get("state"))


def tidy(folder: Path) -> None:
    """Delete the files of a run folder that only training needs."""
    for name in BULKY:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for old in snapshots(folder)[:-1]:
        shutil.rmtree(old, ignore_errors=True)


def _stop_with_parent() -> None:
    """Wait for the end of standard input, then ask for a stop as SIGTERM does."""
    # not sys.stdin: a thread that holds the lock of its buffer blocks the shutdown of the interpreter
    while os.read(0, 4096):
        pass
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
