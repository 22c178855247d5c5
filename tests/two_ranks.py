"""What each of two real processes finds, saved as RANK.pt; `training/test_device.py` starts it under torchrun.

torchrun … tests/two_ranks.py FOLDER
"""

import dataclasses
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from small_models import Noisy, TwoStage, build, write_store
from torch import nn

from framecast.core.errors import UserError
from framecast.core.types import Batch
from framecast.data.store import Store
from framecast.evaluation.scorer import forecast
from framecast.models.rollout import rollout
from framecast.training import latents
from framecast.training.device import Device, make_device
from framecast.training.latents import precompute_all


def gradients(device, folder):
    parameters = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(1))]
    parameters[2].requires_grad_(False)
    parameters[0].grad = torch.full((2, 3), 1.0 + 2 * device.rank)
    if device.rank == 1:
        parameters[1].grad = torch.arange(4.0)
    device.average_gradients(parameters)
    return [p.grad for p in parameters]


def numbers(device, folder):
    means = device.average({"b": 1.0 + device.rank, "a": 4.0 * device.rank})
    return means, device.any(device.rank == 1), device.any(False), device.maximum(-3.0 - device.rank)


def values(device, folder):
    return device.gather({"rank": device.rank, "tensor": torch.full((2,), float(device.rank))})


def order_of_main_first(device, folder):
    with device.main_first():
        found = sorted(path.name for path in folder.glob("first-*"))
        (folder / f"first-{device.rank}").touch()
    return found


def two_machines(device, folder):
    """With a first process each, neither machine waits for the other before its own work."""
    device = dataclasses.replace(device, local_rank=0)
    with device.local_first():
        (folder / f"machine-{device.rank}").touch()
        return wait_for(folder / f"machine-{1 - device.rank}")


def one_machine(device, folder):
    with device.local_first():
        found = sorted(path.name for path in folder.glob("local-*"))
        (folder / f"local-{device.local_rank}").touch()
    return found


def wait_for(path):
    for _ in range(600):
        if path.exists():
            return True
        time.sleep(0.05)
    return False


def failure_of_main(device, folder):
    try:
        with device.main_first():
            raise UserError("no such file")
    except UserError as error:
        return str(error)


def samples(device, folder):
    """Whether the samples of a stochastic model, half of the clips in each process, equal those of one process."""
    model = build(Noisy)
    batch = Batch(
        context=torch.rand(4, 2, 1, 12, 12, generator=torch.Generator().manual_seed(0)), future=torch.empty(4)
    )
    mine = slice(2 * device.rank, 2 * device.rank + 2)
    own = forecast(model, 2, 3, 7, rollout, batch.rows(mine), range(4)[mine])
    whole = forecast(model, 2, 3, 7, rollout, batch, range(4))
    return bool(whole.std(0).min() > 0), torch.equal(torch.cat(device.gather(own), 1), whole)


def shared_latents(device, folder):
    """The latents of two processes, those of one, and how many arrays this process wrote."""
    source, model, written = Store(folder / "data"), build(TwoStage), []
    save = np.save
    latents.np.save = lambda path, array: written.append(path) or save(path, array)
    try:
        two = encoded(device, model, source, folder / "two")
        count = len(written)
        one = encoded(Device(torch.device("cpu")), model, source, folder / f"one-{device.rank}")
    finally:
        latents.np.save = save
    return count, [np.array(v) for v in two["z"]], [np.array(v) for v in one["z"]]


def failure_of_latents(device, folder):
    save = np.save

    def full(path, array):
        raise OSError(28, "No space left on device")

    latents.np.save = full if device.rank == 1 else save
    try:
        encoded(device, build(TwoStage), Store(folder / "data"), folder / "full")
    except UserError as error:
        return str(error)
    finally:
        latents.np.save = save


def encoded(device, model, source, folder):
    return precompute_all(model.latents, model, source, lambda frames: frames, device, folder, 0)


def long_work(device, folder):
    """The last case: the others wait for the main process longer than for a step."""
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=1), dist.group.WORLD)
    with device.main_first():
        if device.is_main:
            time.sleep(3)
    return True


CASES = (
    *(gradients, numbers, values, order_of_main_first, one_machine, two_machines, failure_of_main, samples),
    *(shared_latents, failure_of_latents, long_work),
)


def main(folder):
    device = make_device("cpu", 2, precision="fp32")
    with device.main_first():
        if device.is_main:
            write_store(folder / "data", videos=3, frames=11)
    found = {case.__name__: case(device, folder) for case in CASES}
    found["device"] = (device.rank, device.local_rank, device.world)
    torch.save(found, folder / f"{device.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
