"""One training step: a pass over the phases of the current stage. No other module calls backward."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from framecast.core.random import seed_for
from framecast.core.types import Batch, Phase
from framecast.training.device import Device
from framecast.training.faults import NEVER, fault, note_faults, terms
from framecast.training.gradients import clip_gradients, only, update
from framecast.training.reduction import Reduction, overlapped
from framecast.training.state import TrainState

#: (stream, number of the micro-batch) -> batch of the current step, on the device.
Batches = Callable[[str, int], Batch]


_REMEDY = "lower the learning rate (--optim.…) or try --precision fp32; the last checkpoint is intact"


class NotFinite(RuntimeError):
    """A loss or a weight is inf or nan. The message names part and step; the last checkpoint is unchanged."""


class Diverged(RuntimeError):
    """The weights of two processes differ. The last checkpoint is unchanged."""


def train_step(
    state: TrainState, batches: Batches, device: Device, grad_accum_steps: int = 1, elapsed: float = 0.0
) -> dict[str, Tensor]:
    """Train every phase that runs at this step, update the EMA copy, and increment the step.

    No value is read from the device. From the first loss that is inf or nan on, no weight is updated any more, and
    `check_losses` raises.

    Args:
        state: the state of training, which is modified.
        batches: (stream, micro-batch) -> Batch; the micro-batches of a stream together are the batch of the step.
        device: of this process.
        grad_accum_steps: micro-batches per step, of equal sizes; their gradients are averaged, or summed where the loss
            is a sum over clips.
        elapsed: share of the stage that has passed, for the learning rates.

    Returns:
        Detached scalars "<phase>/<part>" and "<phase>/total", of the batch of this process; with a loss that is a sum
        over clips times the number of processes, so that the average over processes is that of the joint batch.
    """
    logged: dict[str, Tensor] = {}
    running = [p for p in state.current.phases if p.should_run(state.stage_step)]
    for _, members in itertools.groupby(running, key=lambda p: p.group if p.group is not None else f"\0{p.name}"):
        taken = [(phase, _gradients(state, phase, batches, device, grad_accum_steps, logged)) for phase in members]
        for phase, gradients in taken:  # after all gradients: phases of a group use the same weights
            _apply(state, phase, gradients, elapsed)
    device.average_statistics(state.model)
    state.step += 1
    state.stage_step += 1
    state.update_ema()
    return logged


def check_losses(state: TrainState, device: Device) -> None:
    """Check that all losses since the last call were finite. Every process must call it at the same step.

    Raises:
        NotFinite: a loss was inf or nan in some process; no weight has been updated since.
    """
    if not state.faults:
        return
    steps = device.minimum(torch.cat(list(state.faults.values()))).tolist()
    names = [(phase, part) for phase, parts in state.faults for part in parts]
    first = min(steps)
    if first == NEVER:
        return
    phase = next(phase for (phase, _), step in zip(names, steps, strict=True) if step == first)
    bad = [part for (of, part), step in zip(names, steps, strict=True) if step == first and of == phase]
    bad = [part for part in bad if part != "total"] or ["total"]
    raise NotFinite(f"loss is not finite at step {first}: phase {phase!r}, part {', '.join(bad)}; {_REMEDY}")


def check_weights(state: TrainState, device: Device) -> None:
    """Check that all weights are finite and equal in all processes, before they are saved.

    A finite loss can have an infinite gradient. Every process must call it at the same step.

    Raises:
        NotFinite: a weight is inf or nan.
        Diverged: the weights of two processes differ.
    """
    named = list(state.model.named_parameters())
    if not named:
        return
    finite = torch.stack([p.detach().isfinite().all() for _, p in named]).tolist()
    if not all(finite):
        raise NotFinite(f"weight {named[finite.index(False)][0]!r} is not finite after step {state.step}; {_REMEDY}")
    if device.world == 1:
        return
    # sums of the bits, which do not depend on the order of summation
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = torch.stack([p.detach().view(kinds[p.element_size()]).sum(dtype=torch.int64) for _, p in named])
    low, high = device.minimum(sums), -device.minimum(-sums)
    if not torch.equal(low, high):
        name = named[(low != high).tolist().index(True)][0]
        raise Diverged(
            f"weights {name!r} differ between processes after step {state.step}; the last checkpoint is intact: use "
            "machines of one kind and only torch's random numbers in losses, and run the same command again"
        )


def _gradients(
    state: TrainState,
    phase: Phase,
    batches: Batches,
    device: Device,
    grad_accum_steps: int,
    logged: dict[str, Tensor],
) -> list[Tensor | None]:
    """The gradients of a phase, one per trained parameter; `grad` of the parameters is None afterwards.

    They are those of the joint batch of all processes.
    """
    parts = state.parts[phase.name]
    for p in parts.parameters:
        p.grad = None
    seed = seed_for(state.seed, 0, state.step, phase.seed_name or phase.name)
    if state.graphs is not None:  # of one process and whole batches
        return state.graphs.gradients(state, phase, batches(phase.stream, 0), seed, device, logged)  # type: ignore[no-any-return]
    reduction = Reduction(device, parts.parameters) if device.world > 1 else None
    with only(state.model, phase, parts):
        for micro in range(grad_accum_steps):
            batch = batches(phase.stream, micro)
            with device.autocast(), device.noise(seed, batch.size, micro, grad_accum_steps):
                loss = state.losses.get(phase.name, phase.loss)(batch, state.stage_step)
            divisor = grad_accum_steps if loss.reduction == "mean" else 1 / device.world
            names, values = terms(loss)
            note_faults(state, (phase.name, names), values)
            last = micro == grad_accum_steps - 1
            with overlapped(reduction if last else None):
                (loss.total if divisor == 1 else loss.total / divisor).backward()  # type: ignore[no-untyped-call]
            for name, share in zip(names, (values if divisor == 1 else values / divisor).unbind(), strict=True):
                key = f"{phase.name}/{name}"
                logged[key] = logged[key] + share if micro else share
    state.fault = fault(state)
    if reduction is not None:
        state.fault = reduction.finish(state.fault)
    gradients = [p.grad for p in parts.parameters]
    for p in parts.parameters:
        p.grad = None
    return gradients


def _apply(state: TrainState, phase: Phase, gradients: list[Tensor | None], elapsed: float) -> None:
    parameters = state.parts[phase.name].parameters
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = g
    clip_gradients(parameters, phase.clip)
    optimiser = state.optimisers[phase.name]
    for group in optimiser.param_groups:
        group["lr"] = phase.optimiser.rate(state.stage_step, elapsed)
    update(optimiser, state.fault)
    for p in parameters:
        p.grad = None
