"""Checkpoints (all of TrainState, to resume) and snapshots (config and weights, to use).

Both are written atomically: to a temporary file next to the target, flushed to disk, then renamed. Loading executes no
code: `weights_only=True` and safetensors.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.migration import migrate_checkpoint
from framecast.core.types import FORMAT
from framecast.training.state import TrainState

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: TrainState) -> Path:
    """The path of the written `folder/checkpoint.pt`; a kill or full disk leaves the previous one intact.

    Raises:
        UserError: it cannot be written.
    """
    path = folder / CHECKPOINT
    temporary = folder / f".{CHECKPOINT}.tmp"
    try:
        with open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **state.state_dict()}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch wraps a failed write into RuntimeError
        temporary.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(
            f"{path}: the checkpoint could not be written ({reason}); the previous one is intact, free some space and "
            "run the same command again"
        ) from error
    return path


def restore(folder: Path, state: TrainState) -> bool:
    """Load the folder's checkpoint into `state`; False if there is none.

    Raises:
        UserError: a damaged file, a newer format, or the checkpoint of another model.
    """
    saved = load_checkpoint(folder)
    if saved is None:
        return False
    try:
        state.load_state_dict(saved)
    except (KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{folder / CHECKPOINT}: the checkpoint does not fit this model ({reason}); choose another --out, or give "
            "--overwrite"
        ) from error
    return True


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The content of the folder's checkpoint, or None if there is none.

    Raises:
        UserError: a damaged file or a newer format.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        number = saved.pop("format")
    except PermissionError as error:
        raise UserError(f"{path}: the checkpoint cannot be read ({error.strerror}); change its permissions") from error
    except Exception as error:
        # for a damaged file torch raises various errors, from EOFError to pickle.UnpicklingError
        raise UserError(
            f"{path}: the checkpoint is damaged ({type(error).__name__}); delete it and start from the last "
            f"weights with --init-from {folder}"
        ) from error
    check_format(number, path)
    return migrate_checkpoint(saved)


def save_snapshot(folder: Path, model: nn.Module, config: dict[str, Any], step: int, keep: int = 3) -> Path:
    """The written `folder/weights/step-N` with config.json and model.safetensors.

    Args:
        folder: the run folder.
        model: the weights.
        config: content of config.json.
        step: N.
        keep: number of snapshots to keep; older ones are deleted.

    Raises:
        UserError: it cannot be written.
    """
    from safetensors import SafetensorError

    weights = folder / "weights"
    target = weights / f"step-{step}"
    temporary = weights / f".step-{step}.tmp"
    try:
        for left in weights.glob(".step-*.tmp"):  # of a killed process
            shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir(parents=True)
        write_weights(temporary, model, config)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{target}: the weights could not be written ({reason}); free some space") from error
    for old in snapshots(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def write_weights(folder: Path, model: nn.Module, config: dict[str, Any], half: bool = False) -> None:
    """Write config.json and model.safetensors to an existing folder; with `half`, floats as float16."""
    from safetensors.torch import save_file

    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
    if half:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_weights(model: nn.Module, path: Path, strict: bool = True) -> None:
    """Load a safetensors file into `model`; half precision is converted to that of the model.

    Args:
        model: the model.
        path: the file.
        strict: whether every tensor of the model must be in the file.

    Raises:
        UserError: the file is damaged or does not fit the model.
    """
    tensors = _read_weights(path)
    own = model.state_dict()
    wrong = [k for k in own if k not in tensors] if strict else []
    wrong += [k for k, v in tensors.items() if k not in own or own[k].shape != v.shape]
    if wrong:
        raise UserError(
            f"{path}: {len(wrong)} of {len(own)} tensors do not fit the model, first {wrong[0]!r}; "
            "its config.json belongs to other weights"
        )
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()}, strict=strict)


def load_matching(model: nn.Module, path: Path) -> int:
    """The number of tensors of `model` loaded from a file, those of the same name and shape.

    Raises:
        UserError: no tensor fits.
    """
    own = model.state_dict()
    found = {k: v.to(own[k].dtype) for k, v in _read_weights(path).items() if k in own and own[k].shape == v.shape}
    if not found:
        raise UserError(f"{path}: no tensor fits the model; --init-from must be a run of the same model")
    model.load_state_dict(found, strict=False)
    return len(found)


def _read_weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: the weights file is missing; train again or copy the whole run folder") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: the weights file is damaged ({error}); copy it again") from error


def snapshots(folder: Path) -> list[Path]:
    """The folders `weights/step-N` of a run, oldest first."""
    found = [p for p in (folder / "weights").glob("step-*") if p.name[5:].isdigit() and p.is_dir()]
    return sorted(found, key=lambda p: int(p.name[5:]))


def check_format(number: Any, path: Path) -> None:
    """Check the format number of a file.

    Raises:
        UserError: an invalid number, or one above `FORMAT`.
    """
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise UserError(f"{path}: has no valid format number; expected a file written by framecast")
    if number > FORMAT:
        raise UserError(f"{path}: is of format {number}, this version knows up to {FORMAT}; upgrade framecast")
