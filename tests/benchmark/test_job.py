"""Circumstances of a run: hardware and memory are those of its own device."""

import pytest
import torch

from framecast.benchmark.job import circumstances
from framecast.training.trainer import peak_memory


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine with two GPUs, as far as names and memory are asked for."""

    def index(device=None):
        return (torch.device(device).index if device is not None else None) or 0

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"GPU {index(device)}")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=None: (1 + index(device)) * 10**9)


@pytest.mark.parametrize(("name", "gpu"), [("cuda:1", "GPU 1"), ("cuda:0", "GPU 0"), ("cuda", "GPU 0"), ("cpu", "cpu")])
def test_hardware_is_that_of_the_device_of_the_run(two_gpus, name, gpu):
    assert circumstances(name)["hardware"]["device"] == gpu


def test_memory_is_that_of_the_device_of_the_run(two_gpus):
    assert peak_memory(torch.device("cuda:1")) == 2
    assert peak_memory(torch.device("cuda")) == 1
    assert 0 < peak_memory(torch.device("cpu")) != 1  # of the host, although there are GPUs
