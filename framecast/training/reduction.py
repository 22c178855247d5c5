"""Averages of gradients over processes, which begin while the backward pass still runs.

Gradients are summed in buckets, in the order in which the backward pass usually makes them. Every process starts the
buckets in the same order, also where a gradient is missing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from framecast.training.device import Device

#: Bytes of gradients that are summed in one operation, at least; one parameter is never divided.
BUCKET = 4 * 2**20


@contextlib.contextmanager
def overlapped(reduction: Reduction | None) -> Iterator[None]:
    """Within: the backward pass that completes the gradients of a reduction starts its sums; nothing without one."""
    if reduction is None:
        yield
        return
    handles: list[Any] = []
    for p in reduction.parameters:
        handles.append(p.register_post_accumulate_grad_hook(reduction.note))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Reduction:
    """The gradients of one backward pass, averaged over all processes.

    Args:
        device: of this process.
        parameters: the same ones in every process, without duplicates.
    """

    def __init__(self, device: Device, parameters: list[nn.Parameter]) -> None:
        self.device, self.parameters = device, parameters
        self._buckets: list[list[nn.Parameter]] = []
        self._index: dict[nn.Parameter, int] = {}
        size = 0
        for p in reversed(parameters):
            if not self._buckets or size >= BUCKET or p.dtype != self._buckets[-1][0].dtype:
                self._buckets.append([])
                size = 0
            self._buckets[-1].append(p)
            self._index[p] = len(self._buckets) - 1
            size += p.numel() * p.element_size()
        self._left = [len(bucket) for bucket in self._buckets]
        self._started: list[tuple[Tensor, Any]] = []
        self._error: RuntimeError | None = None
        self._began = 0.0

    def note(self, parameter: nn.Parameter) -> None:
        """Record that a gradient is complete, and start the sums of all buckets that follow and are complete."""
        self._left[self._index[parameter]] -= 1
        try:
            while len(self._started) < len(self._buckets) and not self._left[len(self._started)]:
                self._start()
        except RuntimeError as error:  # raised by `finish`: within a backward pass it would look like one of the loss
            self._error = self._error or error
            self._left = [1 + len(bucket) for bucket in self._buckets]

    def _start(self) -> None:
        import torch.distributed as dist

        if not self._started:
            self._began = time.monotonic()
        bucket = self._buckets[len(self._started)]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in bucket])
        self._started.append((flat, dist.all_reduce(flat, group=self.device.group, async_op=True)))

    @torch.no_grad()
    def finish(self, fault: Tensor) -> Tensor:
        """Set the gradients to their averages; a missing one counts as zeros unless missing in all processes.

        Args:
            fault: scalar bool, whether this process must not update its weights.

        Returns:
            Whether any process must not: scalar bool on the device.

        Raises:
            ProcessLost: another process ended, or did not answer in time.
        """
        import torch.distributed as dist

        present = [p.grad is not None for p in self.parameters]
        flags = torch.tensor([0.0, *present], dtype=torch.float32).to(self.device.device, non_blocking=True)
        flags[0] = fault.to(self.device.device, torch.float32)
        with self.device.collective(began=self._began or None):
            if self._error is not None:
                raise self._error
            while len(self._started) < len(self._buckets):
                self._start()
            dist.all_reduce(flags, group=self.device.group)
            for _, work in self._started:
                work.wait()
        # flags are read only where a gradient is missing here: reading waits for the device
        wanted = present if all(present) else [count > 0 for count in flags[1:].tolist()]
        used = {p for p, found in zip(self.parameters, wanted, strict=True) if found}
        for bucket, (flat, _) in zip(self._buckets, self._started, strict=True):
            means = torch.split(flat.div_(self.device.world), [p.numel() for p in bucket])
            found = [(p, mean.view_as(p)) for p, mean in zip(bucket, means, strict=True) if p in used]
            for p, _ in found:
                if p.grad is None:
                    p.grad = torch.empty_like(p)
            if found:
                torch._foreach_copy_([p.grad for p, _ in found if p.grad is not None], [mean for _, mean in found])
        return flags[0] > 0
