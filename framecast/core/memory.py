"""Memory of this process."""

from __future__ import annotations

import sys

import psutil
import torch


def peak_memory(device: torch.device) -> float:
    """Peak memory in GB of this process on `device`: of that GPU, otherwise of the host."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e9
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
