"""train_step: one pass over the phases of the current stage. The only place that calls backward."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from framecast.core.random import seed_for
from framecast.core.types import Batch, GradClip, Phase
from framecast.training.device import Device, all_finite
from framecast.training.state import TrainState, phase_parameters

#: Gives the batch of a stream at the current step, on the device. The second argument is the micro-batch's number.
Batches = Callable[[str, int], Batch]


_REMEDY = "lower the learning rate (--optim.…) or try --precision fp32; the last checkpoint is intact"


class NotFinite(RuntimeError):
    """A loss or a weight became inf or nan. Says where and at which step; the last good checkpoint is untouched."""


def train_step(state: TrainState, batches: Batches, device: Device, grad_accum_steps: int = 1) -> dict[str, Tensor]:
    """Train every phase due at this step, then update the EMA copy and add one to the step.

    batches: (stream, micro-batch) -> Batch; the micro-batches of one stream together are the step's batch.
    accumulate: micro-batches per step; their gradients are averaged, so a loss should be a mean over its batch.
    Returns: detached scalars, "<phase>/<part>" and "<phase>/total".
    Raises: NotFinite before any weight of the phase has moved.
    """
    logged: dict[str, Tensor] = {}
    should_run = [p for p in state.current.phases if p.should_run(state.stage_step)]
    for _, members in itertools.groupby(should_run, key=lambda p: p.group if p.group is not None else f"\0{p.name}"):
        taken = [(phase, _gradients(state, phase, batches, device, grad_accum_steps, logged)) for phase in members]
        for phase, gradients in taken:  # only now: phases of one group saw the same weights
            _apply(state, phase, gradients, device)
    state.step += 1
    state.stage_step += 1
    state.update_ema()
    return logged


def check_weights(state: TrainState) -> None:
    """Raise NotFinite if a weight is inf or nan: a finite loss can have a gradient that is not (a root at 0), and such
    weights must never replace a good checkpoint."""
    for name, p in state.model.named_parameters():
        if not all_finite(p):
            raise NotFinite(f"weight {name!r} is not finite after step {state.step}; {_REMEDY}")


def _gradients(
    state: TrainState,
    phase: Phase,
    batches: Batches,
    device: Device,
    grad_accum_steps: int,
    logged: dict[str, Tensor],
) -> list[Tensor | None]:
    """The phase's gradients, one per parameter it trains; the parameters are left without."""
    parameters = phase_parameters(state.model, phase)
    for p in parameters:
        p.grad = None
    torch.manual_seed(seed_for(state.seed, device.rank, state.step, phase.seed_name or phase.name))
    with only(state.model, phase):
        for micro in range(grad_accum_steps):
            batch = batches(phase.stream, micro)
            with device.autocast():
                loss = phase.loss(batch, state.stage_step)
            if device.any(not all_finite(loss.total)):  # all processes stop, or those that go on would wait for ever
                bad = [k for k, v in loss.parts.items() if not all_finite(v)] or ["total"]
                raise NotFinite(
                    f"loss is not finite at step {state.step}: phase {phase.name!r}, part {', '.join(bad)}; {_REMEDY}"
                )
            (loss.total / grad_accum_steps).backward()  # type: ignore[no-untyped-call]
            for name, value in {**loss.parts, "total": loss.total}.items():
                key = f"{phase.name}/{name}"
                share = value.detach().float() / grad_accum_steps
                logged[key] = logged[key] + share if micro else share
    gradients = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    return gradients


def _apply(state: TrainState, phase: Phase, gradients: list[Tensor | None], device: Device) -> None:
    parameters = phase_parameters(state.model, phase)
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = g
    device.average_gradients(parameters)
    clip_gradients(parameters, phase.clip)
    optimiser = state.optimisers[phase.name]
    for group in optimiser.param_groups:
        group["lr"] = phase.optimiser.rate(state.stage_step)
    optimiser.step()
    for p in parameters:
        p.grad = None


def clip_gradients(parameters: list[nn.Parameter], clip: GradClip) -> None:
    """Scale gradients down to `clip.value`: the norm of all together ("global") or each tensor's own ("tensor")."""
    present = [p for p in parameters if p.grad is not None]
    if clip.kind == "global" and present:
        torch.nn.utils.clip_grad_norm_(present, clip.value)
    elif clip.kind == "tensor" and present:  # all tensors at once: one by one, hundreds of small ones take their time
        gradients = [p.grad for p in present if p.grad is not None]
        scales = torch._foreach_norm(gradients)
        torch._foreach_add_(scales, 1e-6)
        torch._foreach_reciprocal_(scales)
        torch._foreach_mul_(scales, clip.value)
        torch._foreach_clamp_max_(scales, 1.0)
        torch._foreach_mul_(gradients, scales)


@contextlib.contextmanager
def only(model: nn.Module, phase: Phase) -> Iterator[None]:
    """Within: only the phase's modules want gradients; batch norm of all others runs on its stored statistics."""
    trained = {id(m) for name in phase.modules for m in model.get_submodule(name).modules()}
    wanted = {id(p) for p in phase_parameters(model, phase)}
    parameters = [(p, p.requires_grad) for p in model.parameters()]
    norms = [
        m
        for m in model.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training and id(m) not in trained
    ]
    for p, _ in parameters:
        p.requires_grad_(id(p) in wanted)
    for m in norms:
        m.eval()
    try:
        yield
    finally:
        for p, before in parameters:
            p.requires_grad_(before)
        for m in norms:
            m.train()
