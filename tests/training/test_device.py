"""Devices, precision, seeds, and what several processes agree on (two threads stand in for two processes)."""

import threading

import pytest
import torch
import torch.distributed as dist
from torch import nn

from framecast.core.errors import UserError
from framecast.core.random import seed_for
from framecast.nn.precision import autocast, resolve_precision
from framecast.training.device import Device, all_finite, make_device, pick_device

CPU = torch.device("cpu")


class Pretend:
    """Collectives of two ranks, one thread each."""

    def __init__(self):
        self.gate, self.shared = threading.Barrier(2), {}

    def all_reduce(self, value, op=dist.ReduceOp.SUM):
        self.shared[threading.get_ident()] = value.clone()
        self.gate.wait()
        values = list(self.shared.values())
        total = sum(values) if op == dist.ReduceOp.SUM else torch.stack(values).amax(0)
        self.gate.wait()
        value.copy_(total)

    def barrier(self):
        self.gate.wait()


def on_two_ranks(work, monkeypatch):
    """What work(device) gives on each of two ranks; an exception counts as a result."""
    pretend, found = Pretend(), {}
    monkeypatch.setattr(dist, "all_reduce", pretend.all_reduce)
    monkeypatch.setattr(dist, "barrier", pretend.barrier)

    def one(rank):
        try:
            found[rank] = work(Device(CPU, rank=rank, world=2))
        except UserError as error:
            found[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found[0], found[1]


def test_gradients_are_averaged_missing_ones_as_zeros_and_none_stays_none(monkeypatch):
    def work(device):
        parameters = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(1))]
        parameters[2].requires_grad_(False)
        parameters[0].grad = torch.full((2, 3), 1.0 + 2 * device.rank)
        if device.rank == 1:
            parameters[1].grad = torch.arange(4.0)
        device.average_gradients(parameters)
        return [p.grad for p in parameters]

    for first, second, third in on_two_ranks(work, monkeypatch):
        assert torch.equal(first, torch.full((2, 3), 2.0))
        assert torch.equal(second, torch.arange(4.0) / 2)
        assert third is None


def test_numbers_are_averaged_and_any_flag_counts(monkeypatch):
    def work(device):
        means = device.average({"b": 1.0 + device.rank, "a": 4.0 * device.rank})
        return means, device.any(device.rank == 1), device.maximum(-3.0 - device.rank)

    for values, flag, largest in on_two_ranks(work, monkeypatch):
        assert values == {"a": 2.0, "b": 1.5}
        assert flag
        assert largest == -3.0


def test_main_process_runs_first(monkeypatch):
    order = []

    def work(device):
        with device.main_first():
            order.append(device.rank)

    on_two_ranks(work, monkeypatch)
    assert order == [0, 1]


def test_failure_of_the_main_process_releases_the_others(monkeypatch):
    def work(device):
        with device.main_first():
            raise UserError("no such file")

    assert [str(e) for e in on_two_ranks(work, monkeypatch)] == ["no such file"] * 2


def test_one_process_exchanges_nothing():
    device = Device(CPU)
    p = nn.Parameter(torch.zeros(2))
    device.average_gradients([p])
    device.barrier()
    assert p.grad is None
    assert device.is_main
    assert device.average({"a": 1.0}) == {"a": 1.0}
    assert not device.any(False)
    assert device.maximum(-2.0) == -2.0


def test_seeds_depend_on_every_part_and_not_on_the_machine():
    assert seed_for(0, "weights") == seed_for(0, "weights") == 8730110008906084551
    seeds = {seed_for(*parts) for parts in ((0, 1, 2), (0, 1, 3), (1, 1, 2), (0, 12), ("0", 1, 2))}
    assert len(seeds) == 5
    assert all(0 <= s < 2**63 for s in seeds)


def test_precision_and_device_are_selected_by_name():
    assert resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"
    assert resolve_precision("auto", CPU) in ("fp32", "bf16")
    assert resolve_precision("auto", torch.device("mps")) == "fp32"
    assert pick_device("cpu") == CPU
    with pytest.raises(UserError, match="precision 'fp16' is unknown; use auto, fp32 or bf16"):
        resolve_precision("fp16", CPU)
    with pytest.raises(UserError, match="device 'gpu' is not known"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="torch finds no CUDA device; use --device cpu"):
            pick_device("cuda")


def test_one_process_needs_no_launcher():
    device = make_device("cpu", precision="fp32")
    assert (device.device, device.precision, device.rank, device.world, device.fabric) == (CPU, "fp32", 0, 1, None)
    with pytest.raises(UserError, match="must be at least 1, got 0"):
        make_device("cpu", devices=0)
    assert not dist.is_initialized()


def test_autocast_is_active_only_for_bf16():
    x = torch.ones(4, 4)
    with autocast(CPU, "bf16"):
        assert (x @ x).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert (x @ x).dtype == torch.float32


def test_all_finite_detects_nan_and_inf():
    assert all_finite(torch.tensor([1.0, 2.0]))
    assert not all_finite(torch.tensor([1.0, float("inf")]))
    assert not all_finite(torch.tensor(float("nan"), requires_grad=True))
