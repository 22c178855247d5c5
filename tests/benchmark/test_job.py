"""Circumstances of a run: hardware is that of its own device."""

import pytest
import torch

from framecast.benchmark.job import circumstances


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine with two GPUs, as far as names are asked for."""

    def index(device=None):
        return (torch.device(device).index if device is not None else None) or 0

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"GPU {index(device)}")


@pytest.mark.parametrize(("name", "gpu"), [("cuda:1", "GPU 1"), ("cuda:0", "GPU 0"), ("cuda", "GPU 0"), ("cpu", "cpu")])
def test_hardware_is_that_of_the_device_of_the_run(two_gpus, name, gpu):
    assert circumstances(name)["hardware"]["device"] == gpu
