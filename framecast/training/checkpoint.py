"""Checkpoints (all of TrainState, to resume) and snapshots (config and weights, to use).

Both are written atomically and synced, with checksums beside them; the last two checkpoints are kept. Loading executes
no code: `weights_only=True` and safetensors.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from framecast.core.checksums import (
    HashingFile,
    intact,
    note_unchecked,
    read_checksums,
    write_checksums,
)
from framecast.core.commit import replaced_file, replaced_folder, sync, temporary_path
from framecast.core.errors import UserError
from framecast.core.io import read_json, require_regular, write_json
from framecast.core.migration import migrate_checkpoint
from framecast.core.types import FORMAT
from framecast.training.state import TrainState

#: Newest checkpoint, the one before it, and the checksums of both.
CHECKPOINT, PREVIOUS, CHECKPOINT_SUMS = "checkpoint.pt", "checkpoint-previous.pt", "checkpoint.json"

#: Largest number of weights of a model that is built without a weights file.
MAX_VALUES = 1 << 33
#: What constructors raise for values that their config does not check.
_UNBUILDABLE = (ArithmeticError, AssertionError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)

#: File written after a run's last step, when its final validation, weights, previews and videos are complete.
FINISHED = "finished.json"


class Damaged(UserError):
    """A file that cannot be read as it was written."""


def save_checkpoint(folder: Path, state: TrainState) -> Path:
    """The path of the written `folder/checkpoint.pt`; a kill or full disk leaves the previous one intact.

    Raises:
        UserError: it cannot be written.
    """
    path, sums = folder / CHECKPOINT, folder / CHECKPOINT_SUMS
    try:
        with replaced_file(path) as part:
            with open(part, "wb") as file:
                hashing = HashingFile(file)
                torch.save({"format": FORMAT, **state.state_dict()}, hashing)  # type: ignore[arg-type]
            known: dict[str, list[str]] = {}
            with contextlib.suppress(UserError):
                known = read_checksums(sums)
            sync(part)
            # with the old checksum beside the new one, the file is valid before and after it is replaced
            newest = [hashing.checksum, *known.get(CHECKPOINT, [])[:1]]
            before = [*known.get(CHECKPOINT, []), *known.get(PREVIOUS, [])][:3]
            _write_sums(sums, {CHECKPOINT: newest, PREVIOUS: before})
            _keep_previous(path)
    except (OSError, RuntimeError) as error:  # torch wraps a failed write into RuntimeError
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(
            f"{path}: the checkpoint could not be written ({reason}); the previous one is intact, free some space and "
            "run the same command again"
        ) from error
    return path


def _write_sums(path: Path, files: Mapping[str, list[str]]) -> None:
    write_json(path, {"format": FORMAT, "kind": "crc32c", "files": {k: v for k, v in files.items() if v}})


def _keep_previous(path: Path) -> None:
    """Let `path` stand under the previous checkpoint's name too, so that one of them is complete at any time."""
    if not path.is_file() or path.is_symlink():
        return
    link, previous = temporary_path(path), path.with_name(PREVIOUS)
    try:
        os.link(path, link)
        os.replace(link, previous)
    except OSError:  # a file system without links
        os.replace(path, previous)
    link.unlink(missing_ok=True)  # replacing a link by another of the same file does nothing


def restore(folder: Path, state: TrainState) -> bool:
    """Load the folder's checkpoint into `state`; False if there is none.

    Raises:
        UserError: damaged files, a newer format, or the checkpoint of another model.
    """
    saved = load_checkpoint(folder)
    if saved is None:
        return False
    try:
        state.load_state_dict(saved)
    except (AttributeError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{folder / CHECKPOINT}: the checkpoint does not fit this model ({reason}); choose another --out, or give "
            "--overwrite"
        ) from error
    return True


def has_checkpoint(folder: Path) -> bool:
    """Whether a run folder holds a checkpoint, whole or damaged."""
    return any((folder / name).is_file() for name in (CHECKPOINT, PREVIOUS))


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The content of the folder's newest intact checkpoint, or None if there is none.

    A damaged newest checkpoint is replaced by the one before it, with a note.

    Raises:
        UserError: damaged files or a newer format.
    """
    there = [folder / name for name in (CHECKPOINT, PREVIOUS) if os.path.lexists(folder / name)]
    damage: Damaged | None = None
    for path in there:
        try:
            saved = _read_checkpoint(path)
        except Damaged as error:
            damage = damage or error
            continue
        if path.name == PREVIOUS:
            reason = str(damage) if damage is not None else f"{folder / CHECKPOINT}: is missing"
            step = saved.get("step")
            print(f"{reason.partition(';')[0]}; resuming from the one before it, step {step}", file=sys.stderr)
        return saved
    if damage is not None:
        raise damage
    return None


def _read_checkpoint(path: Path) -> dict[str, Any]:
    require_regular(path)
    remedy = f"delete it and start from the last weights with --init-from {path.parent}"
    try:
        known = intact(path, CHECKPOINT_SUMS)
    except UserError:
        known = False
    except OSError as error:
        raise UserError(f"{path}: the checkpoint cannot be read ({error.strerror}); change its permissions") from error
    if known is False:
        raise Damaged(f"{path}: the checkpoint is damaged (its checksum is wrong); {remedy}")
    try:
        check_stored(path)
        saved = torch.load(path, map_location="cpu", weights_only=True)
        number = saved.pop("format")
    except Exception as error:
        # for a damaged file torch raises various errors, from EOFError to pickle.UnpicklingError
        raise Damaged(f"{path}: the checkpoint is damaged ({type(error).__name__}); {remedy}") from error
    check_format(number, path)
    if known is None:
        note_unchecked(path)
    return migrate_checkpoint(saved)


def check_stored(path: Path) -> None:
    """Check that a file saved by torch is not compressed, so that reading it takes no more memory than its size.

    Raises:
        ValueError: it is compressed, or its members claim more bytes than the file has.
        zipfile.BadZipFile: it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise ValueError("compressed")
    if sum(m.file_size for m in members) > path.stat().st_size:
        raise ValueError("claims more bytes than it has")


def write_finished(folder: Path, step: int) -> None:
    """Record that everything that follows the last step of a run is written."""
    write_json(folder / FINISHED, {"format": FORMAT, "step": step})


def finished_step(folder: Path) -> int | None:
    """Last step of a run that is complete with its final weights and videos; None if it is not.

    Args:
        folder: the run folder.
    """
    if not (folder / FINISHED).is_file():
        return None
    with contextlib.suppress(UserError):
        step = read_json(folder / FINISHED).get("step")
        return step if type(step) is int else None
    return None  # damaged: it is written again


def save_snapshot(folder: Path, model: nn.Module, config: dict[str, Any], step: int, keep: int = 3) -> Path:
    """The written `folder/weights/step-N` with config.json, model.safetensors and their checksums.

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

    target = folder / "weights" / f"step-{step}"
    try:
        for left in target.parent.glob(".step-*.tmp"):  # of a killed process of an older version
            shutil.rmtree(left, ignore_errors=True)
        with replaced_folder(target) as part:
            write_weights(part, model, config)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{target}: the weights could not be written ({reason}); free some space") from error
    for old in snapshots(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def write_weights(folder: Path, model: nn.Module, config: dict[str, Any], half: bool = False) -> None:
    """Write config.json, model.safetensors and their checksums to an existing folder.

    Args:
        folder: not yet in its place.
        model: the weights.
        config: content of config.json.
        half: whether to store floats as float16.
    """
    from safetensors.torch import save_file

    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
    if half:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    path = folder / "model.safetensors"
    save_file(tensors, path)
    text = folder / "config.json"
    text.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    os.chmod(path, text.stat().st_mode & 0o777)  # safetensors makes it readable by its owner only
    write_checksums(folder, [text.name, path.name])


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
        raise UserError(_misfit(path, wrong, len(own)))
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()}, strict=strict)


def check_shapes(make: Callable[[], nn.Module], path: Path) -> None:
    """Compare the shapes of a model's weights with those in a file; nothing is allocated.

    Args:
        make: makes the model.
        path: safetensors file; if it is missing, only the number of values is bounded.

    Raises:
        UserError: the model is another one, or larger than the file.
    """
    stored = weight_shapes(path) if path.is_file() else None
    count = sum(math.prod(s) for s in stored.values()) if stored is not None else MAX_VALUES
    most, parts = 2 * count + 10_000, 0 if stored is None else 2 * len(stored) + 1000
    seen = [0, 0]

    def note(module: nn.Module, name: str, parameter: Any) -> None:
        seen[0] += 0 if parameter is None else parameter.numel()
        seen[1] += 1
        if seen[0] > most or (parts and seen[1] > parts):
            where = path.parent / "config.json"
            raise UserError(f"{where}: describes a model larger than its weights; use the config of these weights")

    hook = torch.nn.modules.module.register_module_parameter_registration_hook(note)
    modules = torch.nn.modules.module.register_module_module_registration_hook(lambda m, n, s: note(m, n, None))
    try:
        with torch.device("meta"), _Uninitialized():
            own = make().state_dict()
    except UserError:
        raise
    except _UNBUILDABLE as error:
        if "meta" in str(error).lower():
            return  # a model that computes with its weights when it is made: their number was bounded
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise UserError(
            f"{path.parent}: its config.json describes no model ({reason}); copy the folder again"
        ) from error
    finally:
        hook.remove()
        modules.remove()
    if stored is not None:
        wrong = [k for k, v in own.items() if k not in stored or stored[k] != tuple(v.shape)]
        wrong += [k for k in stored if k not in own]
        if wrong:
            raise UserError(_misfit(path, wrong, len(own)))


class _Uninitialized(TorchFunctionMode):
    """Mode that skips random initial values, for which torch would import its compiler; shapes do not need them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "trunc_normal_", "bernoulli_", "exponential_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors in a safetensors file, from its header.

    Raises:
        UserError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    require_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: the weights file is damaged ({error}); copy it again") from error


def _misfit(path: Path, wrong: Sequence[str], count: int) -> str:
    return (
        f"{path}: {len(wrong)} of {count} tensors do not fit the model, first {wrong[0]!r}; "
        "its config.json belongs to other weights"
    )


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

    require_regular(path)
    try:
        known = intact(path)
        if known is False:
            raise UserError(f"{path}: the weights file is damaged (its checksum is wrong); copy it again")
        found = load_file(path)
        if known is None:
            note_unchecked(path)
        return found
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
