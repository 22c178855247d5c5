"""Weights files that a user names, for LPIPS and FVD: read without running code, told apart by their SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.nn.tensors import read_tensors

_REMEDY = "give a .safetensors file, or a .pt saved by torch.save(model.state_dict())"


@dataclass(frozen=True)
class Weights:
    """Tensors of a file.

    Attributes:
        sha256: Of the file, in hexadecimal.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]


def read_weights(path: str | Path, sha256: str | None = None) -> Weights:
    """The tensors of a .safetensors file, or of a state dict saved by torch (.pt, .pth), which is loaded as data only.

    Args:
        sha256: What the file must have, or its first digits, at least 8; None takes any.

    Raises:
        UserError: Naming the file, when it is missing, damaged, holds code, or is another file than expected.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    found = digest.hexdigest()
    if sha256 is not None and (len(sha256) < 8 or not found.startswith(sha256.lower())):
        raise UserError(f"{path}: has SHA-256 {found[:16]}…, not {sha256[:16]}; it is another file than was asked for")
    return Weights(path, found, read_tensors(path, _REMEDY))


def fill(model: nn.Module, tensors: Mapping[str, Tensor], where: Path, what: str) -> None:
    """Put tensors into a network by name; all it has must be there, in the right shape.

    Raises:
        UserError: Naming the file, what it should hold, and the first tensor that is missing or of another shape.
    """
    own = model.state_dict()
    for name, value in own.items():
        if name.endswith("num_batches_tracked"):
            continue
        if name not in tensors:
            raise UserError(f"{where}: holds no {name}, so it is not {what}; see docs/compare.md for what it must hold")
        if tensors[name].shape != value.shape:
            raise UserError(
                f"{where}: {name} has shape {tuple(tensors[name].shape)}, {what} has {tuple(value.shape)}; "
                "see docs/compare.md for what it must hold"
            )
    kept = {k: tensors[k].to(own[k].dtype) for k in own if k in tensors}
    model.load_state_dict(kept, strict=False)
    model.eval().requires_grad_(False)
