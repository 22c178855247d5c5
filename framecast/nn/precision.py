"""Full precision inside mixed precision, on the device of the tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from framecast.core.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

_NARROW = (torch.float16, torch.bfloat16)


def autocast_off(x: Tensor) -> AbstractContextManager[Any]:
    """A context without autocast on the device of `x`.

    Autocast is set per device type, which the tensor decides, so a model needs no device name. The "meta" device,
    on which only shapes are computed, has none.
    """
    if x.device.type == "meta" or not (torch.compiler.is_compiling() or torch.is_autocast_enabled(x.device.type)):
        return nullcontext()  # a hundredth of the time, which counts in a recurrent loop
    return torch.autocast(device_type=x.device.type, enabled=False)


def widen(x: Tensor) -> Tensor:
    """`x` as float32 if it is a half-width float; float32, float64 and integers stay as they are."""
    return x.float() if x.dtype in _NARROW else x


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """The function with autocast disabled and its half-width tensor arguments widened to float32.

    Args:
        function: its first tensor argument, by position or by name, decides the device.

    Raises:
        TypeError: if it is called without any tensor.
    """

    def wide(value: object) -> object:
        return widen(value) if isinstance(value, Tensor) else value

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        first = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        if first is None:
            raise TypeError(f"{function.__name__} needs at least one tensor argument to know its device")
        call: Callable[..., R] = function
        with autocast_off(first):
            return call(*(wide(value) for value in args), **{name: wide(value) for name, value in kwargs.items()})

    return wrapper


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Autocast to bf16 on `device` if precision is "bf16", else nothing."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def resolve_precision(precision: str, device: torch.device) -> str:
    """ "auto" becomes bf16 where the hardware multiplies it natively, else fp32; never fp16 on a CPU."""
    if precision in ("fp32", "bf16"):
        return precision
    if precision != "auto":
        raise UserError(f"precision {precision!r} is unknown; use auto, fp32 or bf16")
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device.type == "cpu":
        return "bf16" if _cpu_has_bf16() else "fp32"
    return "fp32"


def _cpu_has_bf16() -> bool:
    # oneDNN reports bf16 support also where it is emulated (plain AVX-512), which is slower than fp32; the capability
    # list has the instructions of the hardware.
    mkldnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not mkldnn or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    try:
        capabilities = torch.cpu.get_capabilities()
    except (AttributeError, RuntimeError):
        checks = [getattr(torch.cpu, n, None) for n in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
        return any(check() for check in checks if check is not None)
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "amx", "arm_bf16", "bf16"))
