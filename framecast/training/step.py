"""One training step: a pass over the phases of the current stage. No other module calls backward."""

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

#: (stream, number of the micro-batch) -> batch of the current step, on the device.
Batches = Callable[[str, int], Batch]


_REMEDY = "lower the learning rate (--optim.…) or try --precision fp32; the last checkpoint is intact"


class NotFinite(RuntimeError):
    """A loss or a weight is inf or nan. The message names part and step; the last checkpoint is unchanged."""


def train_step(
    state: TrainState, batches: Batches, device: Device, grad_accum_steps: int = 1, elapsed: float = 0.0
) -> dict[str, Tensor]:
    """Train every phase that runs at this step, update the EMA copy, and increment the step.

    Args:
        state: the state of training, which is modified.
        batches: (stream, micro-batch) -> Batch; the micro-batches of a stream together are the batch of the step.
        device: of this process.
        grad_accum_steps: micro-batches per step; their gradients are averaged, so a loss should be a batch mean.
        elapsed: share of the stage that has passed, for the learning rates.

    Returns:
        Detached scalars "<phase>/<part>" and "<phase>/total".

    Raises:
        NotFinite: a loss is inf or nan; no weight of the phase has been updated.
    """
    logged: dict[str, Tensor] = {}
    running = [p for p in state.current.phases if p.should_run(state.stage_step)]
    for _, members in itertools.groupby(running, key=lambda p: p.group if p.group is not None else f"\0{p.name}"):
        taken = [(phase, _gradients(state, phase, batches, device, grad_accum_steps, logged)) for phase in members]
        for phase, gradients in taken:  # after all gradients: phases of a group use the same weights
            _apply(state, phase, gradients, device, elapsed)
    state.step += 1
    state.stage_step += 1
    state.update_ema()
    return logged


def check_weights(state: TrainState) -> None:
    """Check that all weights are finite, before they are saved; a finite loss can have an infinite gradient.

    Raises:
        NotFinite: a weight is inf or nan.
    """
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
    """The gradients of a phase, one per trained parameter; `grad` of the parameters is None afterwards."""
    parameters = phase_parameters(state.model, phase)
    for p in parameters:
        p.grad = None
    torch.manual_seed(seed_for(state.seed, device.rank, state.step, phase.seed_name or phase.name))
    with only(state.model, phase):
        for micro in range(grad_accum_steps):
            batch = batches(phase.stream, micro)
            with device.autocast():
                loss = phase.loss(batch, state.stage_step)
            if device.any(not all_finite(loss.total)):  # all processes stop together; others would wait forever
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


def _apply(state: TrainState, phase: Phase, gradients: list[Tensor | None], device: Device, elapsed: float) -> None:
    parameters = phase_parameters(state.model, phase)
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = g
    device.average_gradients(parameters)
    clip_gradients(parameters, phase.clip)
    optimiser = state.optimisers[phase.name]
    for group in optimiser.param_groups:
        group["lr"] = phase.optimiser.rate(state.stage_step, elapsed)
    optimiser.step()
    for p in parameters:
        p.grad = None


def clip_gradients(parameters: list[nn.Parameter], clip: GradClip) -> None:
    """Scale gradients down to norm `clip.value`, of all together ("global") or of each tensor ("tensor")."""
    present = [p for p in parameters if p.grad is not None]
    if clip.kind == "global" and present:
        torch.nn.utils.clip_grad_norm_(present, clip.value)
    elif clip.kind == "tensor" and present:  # all tensors at once: one by one, hundreds of small ones are slow
        gradients = [p.grad for p in present if p.grad is not None]
        scales = torch._foreach_norm(gradients)
        torch._foreach_add_(scales, 1e-6)
        torch._foreach_reciprocal_(scales)
        torch._foreach_mul_(scales, clip.value)
        torch._foreach_clamp_max_(scales, 1.0)
        torch._foreach_mul_(gradients, scales)


@contextlib.contextmanager
def only(model: nn.Module, phase: Phase) -> Iterator[None]:
    """Within: only the modules of the phase require gradients; batch norm of all others uses stored statistics."""
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
