"""Mixtures of pictures by softmax weights, with a gradient of few passes over memory on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def mixed(logits: Tensor, stills: Tensor, made: list[Tensor]) -> Tensor:
    """Sum of pictures, weighted by the softmax of the logits.

    In training on a CPU clip by clip, so that what is read again is still in the cache; on other devices that would be
    many small kernels.

    Args:
        logits: (m, n, s, h, w) float32.
        stills: the first of the s pictures, the same for all n frames, (m, s - len(made), c, h, w).
        made: the others, (m, n, c, h, w) each.

    Returns:
        (m, n, c, h, w).
    """
    written_out = logits.device.type == "cpu" and not stills.requires_grad
    if not (written_out and torch.is_grad_enabled()) or torch.compiler.is_compiling():
        return _summed(logits.softmax(2), stills, made)
    found: Tensor = _Mixed.apply(logits, stills, *made)  # type: ignore[no-untyped-call]
    return found


def _summed(weights: Tensor, stills: Tensor, made: list[Tensor]) -> Tensor:
    """The sum for weights (..., n, s, h, w), without the axis of clips or with it."""
    shares = list(weights.unsqueeze(-3).unbind(-4))
    pictures = [still.unsqueeze(-4) for still in stills.unbind(-4)] + made
    total = torch.zeros((), device=weights.device)
    for share, picture in zip(shares, pictures, strict=True):
        total = torch.addcmul(total, share, picture)
    return total.expand(*weights.shape[:-3], -1, -1, -1)


class _Mixed(torch.autograd.Function):
    """The mixture, with the softmax's gradient w_s (g . x_s - g . y) written out, y the sum and x_s a picture."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, stills: Tensor, *made: Tensor) -> Tensor:
        clips, frames = logits.shape[:2]
        weights = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
        out = stills.new_empty((clips, frames, *stills.shape[2:]))
        for k in range(clips):
            torch.softmax(logits[k], 1, out=weights[k])
            out[k] = _summed(weights[k], stills[k], [picture[k] for picture in made])
        ctx.save_for_backward(weights, out, stills, *made)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, out, stills, *made = ctx.saved_tensors
        of_logits, of_made = torch.empty_like(weights), [torch.empty_like(out) for _ in made]
        count = stills.shape[1]
        for k, (w, g, into) in enumerate(zip(weights, gradient, of_logits, strict=True)):
            less = (g * out[k]).sum(1)
            for s in range(w.shape[1]):
                picture = stills[k, s] if s < count else made[s - count][k]
                torch.sub((g * picture).sum(1), less, out=into[:, s])
                if s >= count:
                    torch.mul(g, w[:, s, None], out=of_made[s - count][k])
            into.mul_(w)
        return of_logits, None, *of_made
