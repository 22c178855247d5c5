"""Losses compiled by torch.compile, with a fallback to the plain ones.

Functions are compiled, not modules, so that weights, checkpoints and exports keep their names.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch

from framecast.core.errors import UserError
from framecast.core.random import seed_for
from framecast.core.types import Phase
from framecast.training.device import Device
from framecast.training.gradients import only
from framecast.training.state import TrainState
from framecast.training.step import Batches

#: Compiler of torch.compile.
BACKEND = "inductor"
#: Loggers of torch that report what could not be compiled; that part then runs without compilation.
_REPORTS = ("torch._dynamo.convert_frame", "torch._guards")


def wants_compilation(setting: str, device: Device, grad_accum_steps: int) -> bool:
    """Whether to compile: "on" or "off", or for "auto" on a GPU; on a CPU compilation takes longer than it saves.

    Losses of parts of a batch are not compiled: a compiled loss does not draw the noise of the joint batch.

    Raises:
        UserError: "on" for several processes or micro-batches.
    """
    whole = device.world * grad_accum_steps == 1
    if setting == "on" and not whole:
        raise UserError("--compile on: needs one process and --grad-accum-steps 1; use --compile auto")
    return whole and (setting == "on" or (setting == "auto" and device.device.type == "cuda"))


def compile_losses(state: TrainState, batches: Batches, device: Device) -> None:
    """Compile the losses of the stage's phases, each tried on the batch of this step. Within `compiling`.

    A phase whose gradient fails keeps its plain loss. Weights and statistics stay as they are.

    Args:
        state: whose `losses` are set.
        batches: as in `train_step`.
        device: of this process.
    """
    state.losses = {}
    for phase in state.current.phases:
        loss = _compiled(phase.loss)
        problem = _tried(state, phase, loss, batches, device)
        if problem is None:
            state.losses[phase.name] = loss
        else:
            logging.getLogger(_REPORTS[0]).warning("%s", problem)


def _compiled(loss: Callable[..., Any]) -> Callable[..., Any]:
    # the random numbers of torch, as without compilation
    options: dict[str, Any] | None = {"fallback_random": True} if BACKEND == "inductor" else None
    return torch.compile(loss, backend=BACKEND, options=options)


def _tried(state: TrainState, phase: Phase, loss: Callable[..., Any], batches: Batches, device: Device) -> str | None:
    """The first line of the error of one gradient, None without; afterwards the model is as before."""
    trained = state.parts[phase.name]
    buffers = [(b, b.clone()) for b in state.model.buffers()]
    seed = seed_for(state.seed, 0, state.step, phase.seed_name or phase.name)
    try:
        batch = batches(phase.stream, 0)
        with only(state.model, phase, trained):
            with device.autocast(), device.noise(seed, batch.size):
                total = loss(batch, state.stage_step).total
            total.backward()
    except Exception as error:  # compilers raise many kinds; an error of the loss itself is raised again by the step
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    finally:
        for p in trained.parameters:
            p.grad = None
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
    return None


class _OneWarning(logging.Filter):
    """Passes no report of torch, but calls `warn` with one sentence for the first."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__()
        self.warn, self.given = warn, False

    def filter(self, record: logging.LogRecord) -> bool:
        if not self.given:
            self.given = True
            reason = _reason(record.getMessage())
            self.warn(f"--compile: a part of the losses runs without compilation ({reason}); --compile off omits this")
        return False


def _reason(report: str) -> str:
    """The sentence of a report of torch that names the error: the first one after its traceback, if it has one."""
    lines = [line.strip() for line in report.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Failed|Unsupported)\b.*:", line)]
    return (errors or lines)[0][:200]


@contextlib.contextmanager
def compiling(wanted: bool, warn: Callable[[str], None]) -> Iterator[None]:
    """Within, if `wanted`: what cannot be compiled runs without compilation.

    Args:
        wanted: whether anything is compiled.
        warn: called once, with one sentence, where a part of a loss is not compiled.
    """
    if not wanted:
        yield
        return
    import torch._dynamo

    settings: Any = torch._dynamo.config
    before, settings.suppress_errors = settings.suppress_errors, True
    reports, only_one = [logging.getLogger(name) for name in _REPORTS], _OneWarning(warn)
    for report in reports:
        report.addFilter(only_one)
    try:
        yield
    finally:
        settings.suppress_errors = before
        for report in reports:
            report.removeFilter(only_one)
