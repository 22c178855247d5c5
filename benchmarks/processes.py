"""Samples per second of one training process and of two, with one thread each, measured in pairs.

    python -m benchmarks.processes

The adversarial step of multiscale-gan at paper widths, batches of 8 patches for each process, so that two processes do
twice the work of one. Each measurement starts its processes, warms up, and times steps; those of one and of two take
turns. The ceiling is twice the rate of one process.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.ceiling import measure_ceiling
from benchmarks.row import Row, Settings, run_script
from framecast.core.types import Batch, ClipSpec
from framecast.models.multiscale_gan.config import PROFILES
from framecast.models.multiscale_gan.predictor import MultiscaleGAN
from framecast.training.device import make_device
from framecast.training.state import TrainState
from framecast.training.step import train_step

#: Clips of a process per step.
BATCH = 8
#: Goal: samples per second of two processes over those of one.
GOAL = 1.8


def run(settings: Settings) -> Iterator[Row]:
    """The row of two processes."""
    machine = measure_ceiling(settings.device, settings.tiny)
    pairs = []
    for number in range(settings.repeats(5)):
        order = (1, 2) if number % 2 else (2, 1)
        found = {count: samples_per_second(count, settings) for count in order}
        pairs.append((found[1], found[2]))
    one, two = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    yield Row(
        name="adversarial steps of two processes, one thread each",
        figure=two,
        unit="samples/s",
        ceiling=2 * one,
        against="ceiling: twice one process",
        machine=machine,
        device=settings.device,
        better="more",
        goal=GOAL / 2,
        details={"one_process": one, "speed_up": statistics.median(b / a for a, b in pairs)},
    )


def samples_per_second(count: int, settings: Settings) -> float:
    """Clips per second of `count` processes together."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.processes", "--worker", str(int(settings.tiny))]
    job = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    if count > 1:
        job |= {"TORCHELASTIC_RUN_ID": "benchmark", "GROUP_RANK": 0}
    workers = []
    for rank in range(count):
        own = {**job, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1}
        environment = {**os.environ, **{name: str(value) for name, value in own.items()}}
        root = Path(__file__).parents[1]
        workers.append(subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True))
    answers = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise SystemExit("a process of the measurement failed, see above")
    return count * BATCH / max(json.loads(answer.splitlines()[-1]) for answer in answers)


def work(tiny: bool) -> None:
    """Print the mean seconds of a step of this process."""
    torch.set_num_threads(1)
    device = make_device("cpu")
    torch.manual_seed(0)
    config = replace(PROFILES["tiny" if tiny else "default"](), adversarial=True)
    model = MultiscaleGAN(config, ClipSpec(channels=3, height=config.patch, width=config.patch))
    state = TrainState.create(model.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    shape = (BATCH, config.context + config.future, 3, config.patch, config.patch)
    frames = torch.rand(shape, generator=torch.Generator().manual_seed(device.rank))
    batch = Batch(context=frames[:, : config.context], future=frames[:, config.context :])
    steps, began = 1 if tiny else 5, 0.0
    for step in range(steps + 1):
        if step == 1:  # after one for warm-up
            device.barrier()
            began = time.perf_counter()
        train_step(state, lambda *_: batch, device)
    device.barrier()
    print(json.dumps((time.perf_counter() - began) / steps))


def main(arguments: Sequence[str]) -> None:
    """Measure as one of the processes, or start them and write the row."""
    if arguments[:1] == ["--worker"]:
        work(bool(int(arguments[1])))
    else:
        run_script(run, __doc__, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
