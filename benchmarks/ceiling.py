"""What the machine can do at best: matrix products and memory copies, measured beside the work they bound.

python -m benchmarks.ceiling
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

T = TypeVar("T")

#: Sides of the square matrices, of which the fastest counts, and bytes of the copied buffer, by device type; the last
#: for `--tiny`.
_SIZES = {
    "cpu": ((512, 1024, 2048), 2**28),
    "cuda": ((4096, 8192, 16384), 2**30),
    "mps": ((2048, 4096), 2**28),
    "tiny": ((128,), 2**20),
}
_TRIALS = 7


@dataclass(frozen=True)
class Ceiling:
    """bf16, fp32: matrix products in GFLOP/s, a multiply-add counted as two.  copy: memory copy in GB/s, every byte
    counted once although it is read and written."""

    bf16: float
    fp32: float
    copy: float

    def gemm(self, precision: str) -> float:
        """GFLOP/s of matrix products in this precision."""
        return self.bf16 if precision == "bf16" else self.fp32

    def floor(self, flops: float, precision: str) -> float:
        """Seconds that `flops` operations take at the speed of a plain matrix product."""
        return flops / (self.gemm(precision) * 1e9)


def measure_ceiling(device: torch.device, tiny: bool = False) -> Ceiling:
    """The best of several trials each: a ceiling is what the machine did when nothing was in its way."""
    sides, size = _SIZES["tiny" if tiny else device.type]

    def gemm(dtype: torch.dtype, side: int) -> float:
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        return 2 * side**3 / min(times(lambda: torch.mm(a, b, out=out), _TRIALS, device, warm_up=2)) / 1e9

    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    copy = size / min(times(lambda: target.copy_(source), _TRIALS, device, warm_up=2)) / 1e9
    bf16, fp32 = (max(gemm(dtype, side) for side in sides) for dtype in (torch.bfloat16, torch.float32))
    return Ceiling(bf16=bf16, fp32=fp32, copy=copy)


def beside(work: Callable[[], T], device: torch.device, tiny: bool = False) -> tuple[T, Ceiling]:
    """What `work` returns, and the ceiling: the better of one taken just before and one just after it.

    Shared machines change their speed within minutes; a ceiling from another moment would flatter or slander.
    """
    before = measure_ceiling(device, tiny)
    result = work()
    after = measure_ceiling(device, tiny)
    best = [max(a, b) for a, b in zip(vars(before).values(), vars(after).values(), strict=True)]
    return result, Ceiling(*best)


def times(work: Callable[[], object], repeats: int, device: torch.device, warm_up: int = 1) -> list[float]:
    """Seconds of each of `repeats` calls, after `warm_up` that do not count; queued GPU work included."""
    found = []
    for i in range(warm_up + repeats):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        if i >= warm_up:
            found.append(time.perf_counter() - start)
    return found


def median_seconds(work: Callable[[], object], repeats: int, device: torch.device, warm_up: int = 1) -> float:
    """Median of `times`."""
    return statistics.median(times(work, repeats, device, warm_up))


def count_flops(work: Callable[[], object]) -> float:
    """Floating-point operations of one call, which is made: convolutions and matrix products, a multiply-add as two.

    Those of gradients are included, also of gradients of gradients.
    """
    with _Counter() as counter:
        work()
    return counter.total


class _Counter(TorchDispatchMode):
    """Adds up operations. torch's own counter follows modules by hooks, which a gradient within a loss breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def main() -> None:
    """Print the ceilings of the CPU, and of the GPU where there is one."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for name in devices:
        found = measure_ceiling(torch.device(name))
        print(f"{name}: GEMM bf16 {found.bf16:.0f} GFLOP/s, fp32 {found.fp32:.0f} GFLOP/s, copy {found.copy:.1f} GB/s")


if __name__ == "__main__":
    main()
