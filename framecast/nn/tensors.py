"""Weights files of other programs: named tensors, read as data. Nothing in such a file is ever executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.npy import read_npz

_LIMIT = 2 << 30  # maximum file size in bytes


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .npz file, or of a state dict saved by torch (.pt, .pth), by name.

    Args:
        remedy: advice at the end of error messages.

    Raises:
        UserError: naming the file when it is missing, larger than 2 GiB, damaged, or does not hold named tensors only.
    """
    try:
        if path.stat().st_size > _LIMIT:
            raise UserError(f"{path}: has {path.stat().st_size >> 20} MB, more than the {_LIMIT >> 20} read; {remedy}")
        saved = _saved(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such weights file; {remedy}") from None
    except UserError:
        raise
    except Exception as error:  # torch, NumPy and safetensors raise many kinds for a file that is something else
        raise UserError(f"{path}: cannot be read as weights ({type(error).__name__}); {remedy}") from error
    saved = saved.get("state_dict", saved) if isinstance(saved, Mapping) else saved
    if not isinstance(saved, Mapping) or not all(isinstance(v, Tensor) for v in saved.values()):
        raise UserError(f"{path}: has no named tensors; {remedy}")
    return {str(name): value for name, value in saved.items()}


def _saved(path: Path) -> Any:
    if path.suffix == ".npz":
        try:
            return {name: torch.from_numpy(array) for name, array in read_npz(path).items()}
        except UserError as error:
            raise ValueError(str(error)) from error
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
