"""Counting of tensor values that Python reads, which on a GPU would wait for the device."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

#: Operations whose result Python has, or whose output size depends on values.
READING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique_dim", "_unique2")
#: Methods that hand values over without an operation where the tensor is on the CPU.
METHODS = ("cpu", "numpy", "tolist")


class _Reads(TorchDispatchMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in READING:
            note(self.found, func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def note(found: list[str], what: str) -> None:
    stack = traceback.extract_stack()
    if any("/torch/optim/" in f.filename for f in stack):  # counters of steps, which lie on the host
        return
    place = next(f for f in reversed(stack) if "/framecast/" in f.filename)
    found.append(f"{what} at {place.filename.rsplit('/framecast/', 1)[1]}:{place.lineno}")


@contextlib.contextmanager
def host_reads() -> Iterator[list[str]]:
    """Within: the list of reads so far, by operation and line of the package."""
    found: list[str] = []
    with pytest.MonkeyPatch.context() as patch, _Reads(found):
        for name in METHODS:
            method = getattr(torch.Tensor, name)

            def call(self, *args, method=method, name=name, **options):
                note(found, name)
                return method(self, *args, **options)

            patch.setattr(torch.Tensor, name, call)
        yield found


@contextlib.contextmanager
def waiting_is_an_error(device: str) -> Iterator[None]:
    """Within, on "cuda": an operation that waits for the GPU is an error of torch."""
    if device != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
