"""Small tensors of numbers on the device of another tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def constant(values: Sequence[Any], like: Tensor) -> Tensor:
    """The numbers as a tensor, copied without waiting for the device (`Tensor.new_tensor` waits for all its work).

    Args:
        values: numbers, or nested sequences of them.
        like: tensor whose dtype and device the result has.
    """
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)
