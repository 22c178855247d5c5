"""Peak memory: of the device asked for."""

import torch

from framecast.core.memory import peak_memory


def test_memory_is_that_of_the_device_of_the_run(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: (1 + (device.index or 0)) * 10**9)
    assert peak_memory(torch.device("cuda:1")) == 2
    assert peak_memory(torch.device("cuda")) == 1
    assert 0 < peak_memory(torch.device("cpu")) != 1  # of the host, although there are GPUs
