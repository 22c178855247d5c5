"""Weights files for LPIPS and FVD, read without executing code and identified by their SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.nn.tensors import read_tensors

_REMEDY = "use a .safetensors file, or a .pt saved by torch.save(model.state_dict())"


@dataclass(frozen=True)
class Weights:
    """Tensors of a file.

    Attributes:
        path: Of the file.
        sha256: Of the file, hexadecimal.
        tensors: By name.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]


def read_weights(path: str | Path, sha256: str | None = None) -> Weights:
    """The tensors of a .safetensors file, or of a state dict saved by torch (.pt, .pth), loaded as data only.

    Args:
        path: Of the file.
        sha256: Expected digest, or at least its first 8 digits; None accepts any.

    Raises:
        UserError: When the file is missing, damaged, contains code, or is another file than expected.
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
        raise UserError(
            f"{path}: expected SHA-256 {sha256[:16]}, got {found[:16]}…; use the file that the digest belongs to"
        )
    return Weights(path, found, read_tensors(path, _REMEDY))


def fill(model: nn.Module, tensors: Mapping[str, Tensor], where: Path, what: str) -> None:
    """Load tensors into a network by name, in evaluation mode without gradients.

    Raises:
        UserError: For a tensor that is missing or of another shape.
    """
    own = model.state_dict()
    for name, value in own.items():
        if name.endswith("num_batches_tracked"):
            continue
        if name not in tensors:
            raise UserError(
                f"{where}: {name} is missing, expected {what}; see docs/compare.md for the expected tensors"
            )
        if tensors[name].shape != value.shape:
            raise UserError(
                f"{where}: {name} has shape {tuple(tensors[name].shape)}, {what} has {tuple(value.shape)}; "
                "see docs/compare.md for the expected tensors"
            )
    kept = {k: tensors[k].to(own[k].dtype) for k in own if k in tensors}
    model.load_state_dict(kept, strict=False)
    model.eval().requires_grad_(False)
