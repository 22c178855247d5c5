"""Memory of this process."""

from __future__ import annotations

import sys

import psutil
import torch

from framecast.core.errors import UserError


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
