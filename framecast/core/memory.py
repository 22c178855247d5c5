"""Memory of this process."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

import psutil
import torch

from framecast.core.errors import UserError

#: Parameters of glibc's mallopt: bytes from which a block is mapped by itself (at most 32 MiB), and bytes of free
#: memory at the end of the heap from which it is given back.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK, _KEPT, _USUAL = 32 << 20, 1 << 30, 64 << 20


def peak_memory(device: torch.device) -> float:
    """Peak memory in GB of this process on `device`: of that GPU, otherwise of the host."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e9
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse work that does not fit into the memory that is free.

    Args:
        needed: bytes, at least.
        what: the work, for the error.
        remedy: what to change, for the error.

    Raises:
        UserError: less is available.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise UserError(f"{what} need {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free; {remedy}")


@contextlib.contextmanager
def kept_memory(wanted: bool = True) -> Iterator[None]:
    """Within, the allocator keeps up to 1 GiB that is freed; afterwards that memory goes back to the system.

    A training step frees what it took, and takes it again in the next one. By default glibc gives that memory back in
    between, and the system clears every page again: 3 to 12 % of a step of a small network. With another C library
    nothing changes.

    Args:
        wanted: False changes nothing.
    """
    if not wanted or not _limit(_KEPT):
        yield
        return
    try:
        yield
    finally:
        _limit(_USUAL)
        release_memory()


def _limit(kept: int) -> bool:
    """Set how many freed bytes are kept; whether that is possible."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)) and bool(mallopt(_TRIM_THRESHOLD, kept))
    return False


def release_memory() -> None:
    """Give memory back to the system that was freed and that the C library keeps; on Linux only."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
