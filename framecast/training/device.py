"""Device, precision and processes of training. No other module depends on them.

lightning-fabric selects the accelerator, launches processes and connects them (also under torchrun and Slurm). Models
are not wrapped: phases train subsets and some losses need `autograd.grad`, so gradients are averaged here after
backward.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.nn.precision import autocast, resolve_precision

Precision = Literal["auto", "fp32", "bf16"]


@dataclass
class Device:
    """Device and rank of one process.

    Attributes:
        device: torch device.
        precision: fp32 or bf16.
        rank: number of the process, 0 for the main process.
        world: number of processes.
        fabric: the lightning-fabric object; None with one process.
    """

    device: torch.device
    precision: str = "fp32"
    rank: int = 0
    world: int = 1
    fabric: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Context of bf16 autocast, if selected; weights stay fp32."""
        return autocast(self.device, self.precision)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients over all processes; a missing gradient counts as zeros unless missing in all of them.

        Args:
            parameters: the same ones in every process.
        """
        if self.world == 1:
            return
        import torch.distributed as dist

        params = list(parameters)
        present = torch.tensor([float(p.grad is not None) for p in params], device=self.device)
        parts = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in params]
        flat = torch.cat([*parts, present])
        dist.all_reduce(flat)
        *means, found = torch.split(flat, [p.numel() for p in params] + [len(params)])
        for p, mean, count in zip(params, means, found.tolist(), strict=True):
            if count:
                p.grad = (
                    (mean / self.world).view_as(p) if p.grad is None else p.grad.copy_(mean.view_as(p) / self.world)
                )

    def average(self, values: dict[str, float]) -> dict[str, float]:
        """Means of named numbers over all processes, for logs and common decisions."""
        if self.world == 1 or not values:
            return values
        import torch.distributed as dist

        names = sorted(values)
        flat = torch.tensor([values[n] for n in names], dtype=torch.float64, device=self.device)
        dist.all_reduce(flat)
        return dict(zip(names, (flat / self.world).tolist(), strict=True))

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes in the order of ranks; plain values or CPU tensors."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def maximum(self, value: float) -> float:
        """The largest of the values of all processes."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        found = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return float(found)

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in any process."""
        return self.maximum(float(flag)) > 0

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Within: first the main process, then all others, also if the main process fails."""
        if not self.is_main:
            self.barrier()
        try:
            yield
        finally:
            if self.is_main:
                self.barrier()

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            import torch.distributed as dist

            dist.barrier()


def pick_device(device: str = "auto") -> torch.device:
    """The torch device of a name; for "auto" CUDA, else Apple's MPS, else the CPU.

    Raises:
        UserError: the name is unknown, or there is no such device.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise UserError(f"device {device!r} is not known; use auto, cpu, cuda, cuda:0 or mps") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device!r}: torch finds no CUDA device; use --device cpu")
    return found


def make_device(device: str = "auto", devices: int = 1, num_nodes: int = 1, precision: str = "auto") -> Device:
    """The Device of this process, after launching or joining the others.

    Args:
        device: name of the device, see `pick_device`.
        devices: number of processes on this machine; overridden by torchrun and Slurm.
        num_nodes: number of machines; overridden likewise.
        precision: auto, fp32 or bf16.

    Raises:
        UserError: a number below 1, or an unknown device.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if devices < 1 or num_nodes < 1:
        raise UserError(f"--devices and --num-nodes must be at least 1, got {devices} and {num_nodes}")
    target = pick_device(device)
    if TorchElasticEnvironment.detect():
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
        num_nodes = max(1, int(os.environ.get("WORLD_SIZE", devices)) // devices)
    if devices * num_nodes == 1:
        chosen = torch.device("cuda", 0) if target.type == "cuda" and target.index is None else target
        return Device(chosen, resolve_precision(precision, target))
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # without its messages at start
    fabric = Fabric(
        accelerator={"cuda": "gpu"}.get(target.type, target.type),
        devices=devices,
        num_nodes=num_nodes,
        strategy="ddp",  # for launcher and process group only; the model is not wrapped
    )
    fabric.launch()
    return Device(
        fabric.device, resolve_precision(precision, fabric.device), fabric.global_rank, fabric.world_size, fabric
    )


def all_finite(value: Tensor) -> bool:
    """Whether all values of a tensor are finite."""
    return bool(torch.isfinite(value.detach()).all())
