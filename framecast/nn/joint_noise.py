"""Noise of a part of a batch, equal to that of the whole batch drawn at once.

Random numbers in a loss come from torch's generators, whose draws depend on the size of the tensor. A process or a
micro-batch that has a part of the clips only therefore draws for all of them and keeps its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: Functions whose result has a size given by their arguments.
SIZED: tuple[Callable[..., Any], ...] = (torch.randn, torch.rand, torch.randint)
#: Functions of tensors with one row per clip, whose result has the same rows.
ROWWISE: tuple[Callable[..., Any], ...] = (
    *(torch.randn_like, torch.rand_like, torch.randint_like, torch.bernoulli, torch.multinomial, torch.poisson),
    *(torch.binomial, torch.dropout, torch.alpha_dropout, torch.feature_dropout, torch.feature_alpha_dropout),
    *(torch.native_dropout, torch.rrelu, torch.normal, Tensor.bernoulli, Tensor.multinomial),
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout),
    *(F.gumbel_softmax, F.rrelu, F.scaled_dot_product_attention),
)
#: Methods that fill a tensor with random numbers.
IN_PLACE: tuple[Callable[..., Any], ...] = (
    *(Tensor.normal_, Tensor.uniform_, Tensor.bernoulli_, Tensor.exponential_, Tensor.geometric_, Tensor.cauchy_),
    *(Tensor.log_normal_, Tensor.random_),
)


class JointNoise(TorchFunctionMode):
    """Within: random numbers for clips `start` … `start + rows` of a batch of `total` clips.

    A random tensor whose first axis is `rows`, or a multiple of it, has one row, or several consecutive ones, per clip;
    all others are the same for every part of the batch. Not covered are the dropout inside torch's recurrent layers and
    tensors whose first axis is not that of clips although its length is a multiple of `rows`.

    Args:
        start: index of the first clip of this part.
        rows: clips of this part, at least 1.
        total: clips of the batch.
    """

    def __init__(self, start: int, rows: int, total: int) -> None:
        super().__init__()
        self.start, self.rows, self.total = start, rows, total

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in SIZED or (func is torch.normal and "size" in given):
            return self._sized(func, args, given)
        if func in ROWWISE:
            return self._rowwise(func, args, given)
        if func in IN_PLACE and self._has_rows(args[0]):
            found = func(self._whole(args[0].detach()), *args[1:], **given)
            with torch.no_grad():
                return args[0].copy_(self._own(found))
        return func(*args, **given)

    def _sized(self, func: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any]) -> Tensor:
        before = 0 if func is not torch.randint else sum(isinstance(a, int) for a in args)
        if "size" in given:
            fixed, size = args, tuple(given.pop("size"))
        elif before or not isinstance(args[0], int):  # the size is the last argument
            fixed, size = args[:-1], tuple(args[-1])
        else:
            fixed, size = (), args
        if not size or not size[0] or size[0] % self.rows:
            return self._call(func, fixed, size, given)
        return self._own(self._call(func, fixed, (size[0] // self.rows * self.total, *size[1:]), given))

    @staticmethod
    def _call(func: Callable[..., Any], fixed: tuple[Any, ...], size: tuple[int, ...], given: dict[str, Any]) -> Tensor:
        found: Tensor = func(*fixed, size=size, **given)
        return found

    def _rowwise(self, func: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        tensors = [x for x in (*args, *given.values()) if isinstance(x, Tensor)]
        if not tensors or not all(map(self._has_rows, tensors)):
            return func(*args, **given)
        if given.get("inplace"):
            given["inplace"] = False
        found = func(
            *(self._whole(x) if isinstance(x, Tensor) else x for x in args),
            **{name: self._whole(x) if isinstance(x, Tensor) else x for name, x in given.items()},
        )
        return tuple(self._own(x) for x in found) if isinstance(found, tuple) else self._own(found)

    def _has_rows(self, x: Tensor) -> bool:
        return bool(x.ndim and len(x) and not len(x) % self.rows)

    def _whole(self, x: Tensor) -> Tensor:
        """`x` at its place among the rows of the whole batch, which are 1 elsewhere."""
        each = len(x) // self.rows
        last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        layout = torch.channels_last if last else torch.contiguous_format

        def other(clips: int) -> Tensor:
            return torch.ones((clips * each, *x.shape[1:]), dtype=x.dtype, device=x.device).contiguous(
                memory_format=layout
            )

        return torch.cat([other(self.start), x, other(self.total - self.start - self.rows)]).contiguous(
            memory_format=layout
        )

    def _own(self, x: Tensor) -> Tensor:
        each = len(x) // self.total
        return x[self.start * each : (self.start + self.rows) * each]
