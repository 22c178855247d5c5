"""Device, precision and processes of training. No other module depends on them.

lightning-fabric selects the accelerator, launches processes and connects them (also under torchrun and Slurm). Models
are not wrapped: phases train subsets and some losses need `autograd.grad`, so gradients are averaged by
`training/reduction.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import Tensor, nn

from framecast.core.config import duration_in_words, parse_duration
from framecast.core.errors import UserError
from framecast.nn.joint_noise import JointNoise
from framecast.nn.precision import autocast, resolve_precision
from framecast.training.rendezvous import connect

Precision = Literal["auto", "fp32", "bf16"]

#: Longest wait for another process in a collective operation of a step, unless the user chooses another.
STEP_TIMEOUT = "30m"
#: Longest wait for work of other processes, such as decoding a data set.
WORK_TIMEOUT = timedelta(days=7)


class ProcessLost(RuntimeError):
    """Another process of the job ended or does not answer. A training's last checkpoint is unchanged."""


@dataclass
class Device:
    """Device and rank of one process.

    Attributes:
        device: torch device.
        precision: fp32 or bf16.
        rank: number of the process, 0 for the main process.
        world: number of processes.
        fabric: the lightning-fabric object; None with one process.
        local_rank: number of the process on its machine.
        group: process group of a step, with its timeout; None is the default group.
        waiting: process group for long work of other processes; None is the default group.
        timeout: longest wait for another process in a step.
    """

    device: torch.device
    precision: str = "fp32"
    rank: int = 0
    world: int = 1
    fabric: Any = None
    local_rank: int = 0
    group: Any = None
    waiting: Any = None
    timeout: timedelta = timedelta(seconds=parse_duration(STEP_TIMEOUT))

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Context of bf16 autocast, if selected; weights stay fp32."""
        return autocast(self.device, self.precision)

    def noise(self, seed: int, clips: int, part: int = 0, parts: int = 1) -> contextlib.AbstractContextManager[Any]:
        """Context of random numbers that are a function of the clip's index in the joint batch of all processes.

        Args:
            seed: of the joint batch, the same in every process.
            clips: number of clips of this part.
            part: index of the micro-batch.
            parts: number of micro-batches, of equal sizes.
        """
        # torch.manual_seed formats the stack for every kind of device, which takes milliseconds
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(seed)
        if self.world * parts == 1:
            return contextlib.nullcontext()
        return JointNoise((self.rank * parts + part) * clips, clips, self.world * parts * clips)

    def average_statistics(self, model: nn.Module) -> None:
        """Average the running statistics of batch norm over all processes; those of synchronised layers are equal."""
        norms = (
            [] if self.world == 1 else [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        )
        own = [m for m in norms if not isinstance(m, nn.SyncBatchNorm)]
        found = [x for m in own for x in (m.running_mean, m.running_var) if x is not None]
        if not found:
            return
        import torch.distributed as dist

        flat = torch.cat([x.reshape(-1) for x in found])
        with self.collective():
            dist.all_reduce(flat, group=self.group)
        means = torch.split(flat / self.world, [x.numel() for x in found])
        for x, mean in zip(found, means, strict=True):
            x.copy_(mean.view_as(x))

    def average(self, values: dict[str, float]) -> dict[str, float]:
        """Means of named numbers over all processes, for logs and common decisions."""
        if self.world == 1 or not values:
            return values
        import torch.distributed as dist

        names = sorted(values)
        flat = torch.tensor([values[n] for n in names], dtype=torch.float64, device=self.device)
        with self.collective():
            dist.all_reduce(flat, group=self.group)
        return dict(zip(names, (flat / self.world).tolist(), strict=True))

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes in the order of ranks; plain values or CPU tensors."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.world
        with self.collective(WORK_TIMEOUT):
            dist.all_gather_object(found, value, group=self.waiting)
        return found

    def maximum(self, value: float) -> float:
        """The largest of the values of all processes."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        found = torch.tensor(value, dtype=torch.float64, device=self.device)
        with self.collective():
            dist.all_reduce(found, dist.ReduceOp.MAX, group=self.group)
            return float(found)

    def minimum(self, values: Tensor) -> Tensor:
        """The smallest of the values of all processes, element by element.

        Args:
            values: of the same shape in every process.
        """
        if self.world == 1:
            return values
        import torch.distributed as dist

        found = values.to(self.device).clone()
        with self.collective():
            dist.all_reduce(found, dist.ReduceOp.MIN, group=self.group)
        return found

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in any process."""
        return self.maximum(float(flag)) > 0

    def main_first(self) -> contextlib.AbstractContextManager[None]:
        """Within: first the main process, then all others, also if the main process fails."""
        return self._first(self.is_main)

    def local_first(self) -> contextlib.AbstractContextManager[None]:
        """Within: first one process of every machine, for files that machines may not share; then all others."""
        return self._first(self.local_rank == 0)

    @contextlib.contextmanager
    def _first(self, first: bool) -> Iterator[None]:
        if not first:
            self.barrier(long=True)
        try:
            yield
        finally:
            if first:
                self.barrier(long=True)

    def barrier(self, long: bool = False) -> None:
        """Wait for all processes.

        Args:
            long: whether another process may be at long work, such as decoding a data set.
        """
        if self.world > 1:
            import torch.distributed as dist

            with self.collective(WORK_TIMEOUT if long else self.timeout):
                dist.barrier(group=self.waiting if long else self.group)

    @contextlib.contextmanager
    def collective(self, timeout: timedelta | None = None, began: float | None = None) -> Iterator[None]:
        """Within: a collective operation, whose failure ends the job in one sentence.

        Args:
            timeout: longest wait of the operation; that of a step if not given.
            began: monotonic time at which the operation began, if before.

        Raises:
            ProcessLost: another process ended, or did not answer within the timeout.
        """
        limit = (timeout or self.timeout).total_seconds()
        began = time.monotonic() if began is None else began
        try:
            yield
        except RuntimeError as error:
            launcher = self.fabric.strategy.launcher if self.fabric else None
            for child in getattr(launcher, "procs", ()):
                child.kill()  # a stopped process handles no other signal
            late = time.monotonic() - began > 0.9 * limit
            ended = f"ended or closed its connection ({str(error).partition(chr(10))[0]})"
            what = f"did not answer within {duration_in_words(limit)}" if late else ended
            raise ProcessLost(
                f"process {self.rank} of {self.world}: another process {what}; run the same command again: a "
                "training resumes from its last checkpoint"
            ) from error


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Within, if `wanted`: deterministic algorithms only.

    Raises:
        UserError: an operation has none on this device.
    """
    if not wanted:
        yield
        return
    # read by cuBLAS when its first handle is made
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, tuned = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        name = str(error).split(" ", 1)[0]
        raise UserError(
            f"--deterministic: {name} has no deterministic algorithm on this device; leave it out, or use --device cpu"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = tuned


@contextlib.contextmanager
def fast_kernels(device: Device, repeatable: bool) -> Iterator[None]:
    """Within, on a GPU: the precision of float32 products, and how cuDNN chooses its algorithms.

    With bf16, products that autocast leaves in float32 use TF32, whose mantissa is longer than that of bf16; with fp32
    none does. Algorithms are chosen by trial for each shape.

    Args:
        device: of this process.
        repeatable: full float32 and no trials, whose outcome varies.
    """
    if device.device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    tf32 = device.precision == "bf16" and not repeatable
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = tf32, tf32, not repeatable
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


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


def make_device(
    device: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    precision: str = "auto",
    timeout: str = STEP_TIMEOUT,
) -> Device:
    """The Device of this process, after launching or joining the others.

    Args:
        device: name of the device, see `pick_device`.
        devices: number of processes on this machine; overridden by torchrun and Slurm.
        num_nodes: number of machines; overridden likewise.
        precision: auto, fp32 or bf16.
        timeout: longest wait for another process in a step, such as 90s, 10m or 1.5h.

    Raises:
        UserError: a number below 1, an unknown device, or no duration.
        ProcessLost: under torchrun, the other processes did not start.
    """
    import torch.distributed as dist
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    if devices < 1 or num_nodes < 1:
        raise UserError(f"--devices and --num-nodes must be at least 1, got {devices} and {num_nodes}")
    target, longest = pick_device(device), timedelta(seconds=parse_duration(timeout))
    if TorchElasticEnvironment.detect():
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
        num_nodes = max(1, int(os.environ.get("WORLD_SIZE", devices)) // devices)
    if devices * num_nodes == 1:
        chosen = torch.device("cuda", 0) if target.type == "cuda" and target.index is None else target
        return Device(chosen, resolve_precision(precision, target))
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # without its messages at start
    try:
        connect("nccl" if target.type == "cuda" else "gloo")
    except TimeoutError as error:
        raise ProcessLost(str(error)) from error
    fabric = Fabric(
        accelerator={"cuda": "gpu"}.get(target.type, target.type),
        devices=devices,
        num_nodes=num_nodes,
        strategy=DDPStrategy(),  # for launcher and process group only; the model is not wrapped
    )
    fabric.launch()
    return Device(
        fabric.device,
        resolve_precision(precision, fabric.device),
        fabric.global_rank,
        fabric.world_size,
        fabric,
        fabric.local_rank,
        dist.new_group(timeout=longest),
        dist.new_group(backend="gloo", timeout=WORK_TIMEOUT),
        longest,
    )
