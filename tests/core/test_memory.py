"""Peak memory of the device asked for; work that does not fit into memory."""

import platform
import resource
from types import SimpleNamespace

import psutil
import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.memory import kept_memory, peak_memory, require_memory


def test_memory_is_that_of_the_device_of_the_run(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: (1 + (device.index or 0)) * 10**9)
    assert peak_memory(torch.device("cuda:1")) == 2
    assert peak_memory(torch.device("cuda")) == 1
    assert 0 < peak_memory(torch.device("cpu")) != 1  # of the host, although there are GPUs


def test_work_that_does_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=3 * 10**9))
    require_memory(3 * 10**9, "32 frames", "use --size")
    with pytest.raises(UserError, match=r"32 frames need 3.1 GB of memory and 3.0 GB are free; use --size"):
        require_memory(31 * 10**8, "32 frames", "use --size")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory by other rules")
def test_freed_memory_is_taken_again_without_new_pages_and_given_back_after():
    process = psutil.Process()
    with kept_memory():
        _use_and_free()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        _use_and_free()
        pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        held = process.memory_info().rss
    assert pages < 0.1 * 200e6 / resource.getpagesize()
    assert held - process.memory_info().rss > 150e6


def _use_and_free() -> None:
    """200 MB in blocks of 4 MB."""
    blocks = [torch.ones(10**6) for _ in range(50)]
    del blocks
