"""A GRU layer over a known sequence, for training on a CPU, by a fraction of the operations of torch's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def rolled_gru(layer: nn.GRU, x: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (b, t, n) and last state (b, n) of a layer that starts from zeros.

    The same values and gradients as the layer's own, up to rounding. The whole sequence is one operation of autograd:
    the gradients of the weights are one matrix product over all steps instead of one sum for each step. They cannot be
    differentiated again.

    Args:
        layer: one layer in one direction with biases, `batch_first`.
        x: (b, t, inputs), float32.
    """
    weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
    out: Tensor = _Rolled.apply(x, *weights)  # type: ignore[no-untyped-call]
    return out, out[:, -1]


class _Rolled(torch.autograd.Function):
    """All steps of a layer: h' = c + z (h - c) with c = tanh(x_c + r p), gates r and z, and p the product of h.

    Steps are the first axis, so that each is one block of memory. What a backward step multiplies is computed for all
    steps at once; four products and one matrix product are left in a step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_in: Tensor, w_state: Tensor, b_in: Tensor, b_state: Tensor) -> Tensor:
        (b, t, _), n = x.shape, w_state.shape[1]
        ours = x.transpose(0, 1).reshape(t * b, -1)
        both = torch.addmm(b_in[: 2 * n], ours, w_in[: 2 * n].t()).view(t, b, 2 * n)
        candidates = torch.addmm(b_in[2 * n :], ours, w_in[2 * n :].t()).view(t, b, n)
        states = x.new_zeros(t + 1, b, n)
        (resets, keeps), turned, products = both.chunk(2, -1), w_state.t(), []
        steps = zip(both.unbind(), resets.unbind(), keeps.unbind(), candidates.unbind(), strict=True)
        state, *after = states.unbind()
        for (gates, r, z, candidate), new in zip(steps, after, strict=True):
            added, product = torch.split(torch.addmm(b_state, state, turned), [2 * n, n], -1)
            gates.add_(added).sigmoid_()
            candidate.addcmul_(r, product).tanh_()
            state = torch.lerp(candidate, state, z, out=new)
            products.append(product)
        ctx.save_for_backward(ours, both, candidates, states, torch.stack(products), w_in, w_state)
        return states[1:].transpose(0, 1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_out: Tensor) -> tuple[Tensor | None, ...]:
        ours, both, candidates, states, products, w_in, w_state = ctx.saved_tensors
        t, b, n = candidates.shape
        (resets, keeps), before = both.chunk(2, -1), states[:-1]
        slopes = both * (1 - both)
        to_candidate = (1 - keeps) * (1 - candidates.square())
        to_reset = products * slopes[..., :n]
        to_keep = (before - candidates) * slopes[..., n:]
        of_products, of_candidates = both.new_empty(t, b, 3 * n), torch.empty_like(candidates)
        of_state = torch.zeros_like(before[0])
        factors = (x.unbind() for x in (to_candidate, to_reset, to_keep, resets, keeps))
        parts = (x.unbind() for x in (*of_products.chunk(3, -1), of_products, of_candidates, of_out.transpose(0, 1)))
        for to_c, to_r, to_z, r, z, of_r, of_z, of_p, of_product, of_c, of_new in reversed(
            list(zip(*factors, *parts, strict=True))
        ):
            of_state = of_state + of_new
            torch.mul(of_state, to_c, out=of_c)
            torch.mul(of_c, to_r, out=of_r)
            torch.mul(of_state, to_z, out=of_z)
            torch.mul(of_c, r, out=of_p)
            of_state = torch.addmm(of_state.mul_(z), of_product, w_state)
        of_products, of_candidates = of_products.view(t * b, -1), of_candidates.view(t * b, -1)
        of_both = of_products[:, : 2 * n]
        of_in = torch.cat([of_both.t() @ ours, of_candidates.t() @ ours])
        of_bias = of_products.sum(0)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = torch.addmm(of_both @ w_in[: 2 * n], of_candidates, w_in[2 * n :]).view(t, b, -1).transpose(0, 1)
        of_bias_in = torch.cat([of_bias[: 2 * n], of_candidates.sum(0)])
        return of_x, of_in, of_products.t() @ before.reshape(t * b, n), of_bias_in, of_bias
