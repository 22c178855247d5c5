"""Gradients of a phase: which modules get them, their clipping, and the update of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from framecast.core.types import GradClip, Phase
from framecast.training.state import PhaseParts


def update(optimiser: torch.optim.Optimizer, skip: Tensor) -> None:
    """One step of the optimiser that changes no weight where `skip` is true, without reading it from the device.

    Args:
        optimiser: of `make_optimiser`.
        skip: scalar bool.
    """
    if skip.device.type == "cpu":  # reading it costs nothing there
        if not skip:
            optimiser.step()
        return
    update_unread(optimiser, skip)


def update_unread(optimiser: torch.optim.Optimizer, skip: Tensor) -> None:
    """`update` without reading `skip`."""
    if optimiser.defaults.get("fused"):
        optimiser.found_inf = skip.float()  # type: ignore[attr-defined]  # the fused kernels' own switch
        optimiser.step()
        del optimiser.found_inf  # type: ignore[attr-defined]
        return
    parameters = [p.detach() for group in optimiser.param_groups for p in group["params"]]
    before = [torch.empty_like(p) for p in parameters]
    torch._foreach_copy_(before, parameters)
    optimiser.step()
    # not a product: 0 times inf is nan
    for p, old in zip(parameters, before, strict=True):
        torch.where(skip, old, p, out=p)


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
def only(model: nn.Module, phase: Phase, parts: PhaseParts | None = None) -> Iterator[None]:
    """Within: only the modules of the phase require gradients; batch norm of all others uses stored statistics.

    Args:
        model: of the phase.
        phase: that is trained.
        parts: of the phase, if known.
    """
    parts = PhaseParts.of(model, phase) if parts is None else parts
    changed = [(p, True) for p in parts.parameters if not p.requires_grad]
    changed += [(p, False) for p in parts.others if p.requires_grad]
    norms = [m for m in parts.norms if m.training]
    for p, wanted in changed:
        p.requires_grad_(wanted)
    for m in norms:
        m.eval()
    try:
        yield
    finally:
        for p, wanted in changed:
            p.requires_grad_(not wanted)
        for m in norms:
            m.train()
