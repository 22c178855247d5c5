"""Full precision inside mixed precision: islands of float32 that know no device but the tensor's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

_NARROW = (torch.float16, torch.bfloat16)


def autocast_off(x: Tensor) -> AbstractContextManager[Any]:
    """A context in which nothing is cast down on the device `x` lives on.

    Autocast is a matter of the device type, so the tensor says which one to close; a model needs no device name. The
    "meta" device, on which shapes are computed and nothing else, has none.
    """
    if x.device.type == "meta":
        return nullcontext()
    return torch.autocast(device_type=x.device.type, enabled=False)


def widen(x: Tensor) -> Tensor:
    """`x` as float32 if it is a half-width float; float32, float64 and integers stay as they are."""
    return x.float() if x.dtype in _NARROW else x


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """The same function with autocast closed and its half-width tensor arguments widened to float32.

    function: its first tensor argument, by position or by name, decides the device.
    Raises: TypeError when it is called without any tensor.
    """

    def wide(value: object) -> object:
        return widen(value) if isinstance(value, Tensor) else value

    @functools.wraps(function)
    def island(*args: P.args, **kwargs: P.kwargs) -> R:
        first = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        if first is None:
            raise TypeError(f"{function.__name__} needs at least one tensor argument to know its device")
        call: Callable[..., R] = function
        with autocast_off(first):
            return call(*(wide(value) for value in args), **{name: wide(value) for name, value in kwargs.items()})

    return island
