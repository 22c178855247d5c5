"""What each of two real processes finds, saved as RANK.pt; `training/test_device.py` launches them."""

import dataclasses
import time
import unittest.mock
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from small_models import Acting, Dropped, Noisy, Plain, Summed, TwoStage, batch_of, build, write_store
from torch import nn

from framecast.core.errors import UserError
from framecast.core.types import Batch, Loss
from framecast.data.store import Store
from framecast.evaluation.scorer import forecast
from framecast.models.dreams.predictor import Dreams
from framecast.models.rollout import rollout
from framecast.training import latents, reduction
from framecast.training.device import Device, make_device
from framecast.training.latents import precompute_all
from framecast.training.presets import preset
from framecast.training.state import TrainState
from framecast.training.step import Diverged, NotFinite, check_losses, check_weights, train_step
from framecast.training.train import fit


def gradients(device, folder):
    """Averages for one bucket and for one of each parameter, of gradients that only some processes have, or none."""
    found = []
    for size in (reduction.BUCKET, 1):
        with unittest.mock.patch.object(reduction, "BUCKET", size):
            parameters = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(1))]
            faults = []
            for fault in (device.rank == 1, False):
                for p in parameters:
                    p.grad = None
                work = reduction.Reduction(device, parameters)
                with reduction.overlapped(work):
                    total = (parameters[0] * (1.0 + 2 * device.rank)).sum()
                    if device.rank == 1:
                        total = total + (parameters[1] * torch.arange(4.0)).sum()
                    total.backward()
                faults.append(bool(work.finish(torch.tensor(fault))))
            found.append((*(p.grad for p in parameters), *faults))
    return found


def overlap(device, folder):
    """Sums that started before the end of a backward pass of three layers, each a bucket, and its gradients."""
    started = []
    with unittest.mock.patch.object(reduction, "BUCKET", 1):
        model = nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in range(3)))
        for p in model.parameters():
            nn.init.constant_(p, 0.5)
        work = reduction.Reduction(device, list(model.parameters()))
        with reduction.overlapped(work):
            model[0].weight.register_hook(lambda gradient: started.append(len(work._started)))
            model(torch.full((1, 3), 1.0 + device.rank)).sum().backward()
        work.finish(torch.tensor(False))
    return started, [p.grad for p in model.parameters()]


def numbers(device, folder):
    means = device.average({"b": 1.0 + device.rank, "a": 4.0 * device.rank})
    return means, device.any(device.rank == 1), device.any(False), device.maximum(-3.0 - device.rank)


def least(device, folder):
    return device.minimum(torch.tensor([5, 7]) - 3 * device.rank).tolist()


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
    for _ in range(6000):
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


def stepped(model_class, device, steps=2):
    """State and logged total after some steps on this process's part of the batch, and the same on the joint batch."""
    alone = Device(torch.device("cpu"))
    states = [TrainState.create(build(model_class)) for _ in range(2)]
    for _ in range(steps):
        joint = batch_of(states[0].step, "main")
        mine = joint.part(device.rank, device.world)
        logs = [
            train_step(states[0], lambda *_, batch=mine: batch, device),
            train_step(states[1], lambda *_, batch=joint: batch, alone),
        ]
    totals = [{k: float(v) for k, v in log.items()} for log in logs]
    return *states, (device.average(totals[0]), totals[1])


def joint_steps(device, folder):
    found = {}
    for model_class in (Dropped, Summed, Plain):
        two, one, logs = stepped(model_class, device)
        found[model_class.__name__] = dict(two.model.state_dict()), dict(one.model.state_dict()), logs
    return found


def stochastic_run(device, folder):
    """Folders of the last weights of `dreams`, trained over the border of its stages by one process and by two."""
    with device.main_first():
        if device.is_main:
            write_store(folder / "colour", channels=3, side=16, frames=30)
    config, source = preset("dreams", "tiny"), Store(folder / "colour")
    settings = dataclasses.replace(config.train, steps=6, precision="fp32", tensorboard=False)
    config, found = dataclasses.replace(config, train=settings), {}
    for name, place in (("two", device), ("one", Device(torch.device("cpu")))):
        if name == "two" or device.is_main:
            run = fit(config, source, folder / name, Dreams, place, quiet=True)
            found[name] = str(run / "weights" / "step-6")
    return found


def statistics(device, folder):
    """Running mean after one step of two processes and of one, and the running variance of two."""
    two, one, _ = stepped(Acting, device, steps=1)
    norm = two.model.net[1]
    return norm.running_mean, one.model.net[1].running_mean, norm.running_var


def divergence(device, folder):
    """The errors of the check of weights, before and after one of them changes in one process."""
    state, found = TrainState.create(build(Plain)), []
    for step in range(2):
        with torch.no_grad():
            state.model.net.weight[0, 0, 0, 0] += step * device.rank * 1e-3
        try:
            check_weights(state, device)
            found.append("")
        except Diverged as error:
            found.append(str(error))
    return found


class Faulty(Plain):
    """The loss is nan at step 1 in the second process."""

    rank = 0

    def loss(self, batch, step=0):
        found = super().loss(batch, step)
        wrong = float("nan") if step == 1 and self.rank else 1.0
        return Loss(found.total * wrong, {"mse": found.parts["mse"] * wrong})


def fault_of_one(device, folder):
    """The error at the next log step, and whether no weight has changed since."""
    state = TrainState.create(build(Faulty))
    state.model.rank = device.rank
    weights = []
    for step in range(4):
        train_step(state, lambda *_, at=step: batch_of(at, "main").part(device.rank, 2), device)
        weights.append(state.model.net.weight.detach().clone())
    try:
        check_losses(state, device)
    except NotFinite as error:
        return str(error), all(torch.equal(w, weights[0]) for w in weights)
    return "", False


def long_work(device, folder):
    """The last case: the others wait for the main process longer than for a step."""
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=1), dist.group.WORLD)
    with device.main_first():
        if device.is_main:
            time.sleep(1.5)
    return True


CASES = (
    *(gradients, numbers, values, order_of_main_first, one_machine, two_machines, failure_of_main, samples),
    *(least, overlap, joint_steps, stochastic_run, statistics, divergence, fault_of_one),
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
