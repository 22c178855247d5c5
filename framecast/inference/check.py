"""Verification of runs, stores, exports and caches by their checksums, without changing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from framecast.core.checksums import CHECKSUMS, checksum, read_checksums
from framecast.core.commit import folder_kind
from framecast.core.errors import UserError
from framecast.core.io import read_json
from framecast.data.store import Store, is_store
from framecast.training.checkpoint import (
    CHECKPOINT,
    CHECKPOINT_SUMS,
    PREVIOUS,
    check_format,
    snapshots,
    weight_shapes,
)
from framecast.training.config import CONFIG
from framecast.training.log import metrics_and_damage
from framecast.training.run_folder import earlier_links, read_chain


def check_folder(folder: Path) -> dict[str, Any]:
    """Result of the verification of a folder.

    Args:
        folder: run folder, packed store or export.

    Returns:
        kind; verified: number of files whose checksums are right; unchecked: files without a checksum; damaged:
        sentences about damaged or missing files.

    Raises:
        UserError: the folder is none of these.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is no folder; give a run, a packed store or an export")
    kind = folder_kind(folder) or _kind_without_manifest(folder)
    if kind not in ("run", "store"):
        raise UserError(f"{folder}: holds no run, packed store or export of framecast; check the path")
    found: dict[str, Any] = {"kind": kind, "verified": 0, "unchecked": [], "damaged": []}
    if kind == "store":
        _verify(folder, CHECKSUMS, None, found)
        _try(lambda: Store(folder), found)
        return found
    _try(lambda: read_chain(folder), found)
    for place in _runs(folder):
        _check_run(place, found)
    return found


def _runs(folder: Path) -> list[Path]:
    """A run folder, and those of the earlier links of a chain; of an unfinished chain those that are there."""
    try:
        links = earlier_links(folder)
    except UserError:
        links = []
    return [*links, folder] if (folder / CONFIG).is_file() or not links else links


def _check_run(folder: Path, found: dict[str, Any]) -> None:
    """Verify the files of one run folder or export."""
    _try(lambda: check_format(read_json(folder / CONFIG).get("format"), folder / CONFIG), found)
    if (folder / "model.safetensors").is_file():
        found["kind"] = "export"
        _verify(folder, CHECKSUMS, ["model.safetensors"], found)
        _try(lambda: weight_shapes(folder / "model.safetensors"), found)
    _verify(folder, CHECKPOINT_SUMS, [n for n in (CHECKPOINT, PREVIOUS) if (folder / n).is_file()], found)
    for snapshot in snapshots(folder):
        _verify(snapshot, CHECKSUMS, ["model.safetensors"], found)
        _try(lambda snapshot=snapshot: weight_shapes(snapshot / "model.safetensors"), found)
    if rows := metrics_and_damage(folder)[1]:
        found["damaged"].append(f"{folder / 'metrics.jsonl'}: {rows} damaged rows; they are skipped")


def _kind_without_manifest(folder: Path) -> str | None:
    """Kind of a folder whose manifest is damaged or missing, by its other files."""
    if snapshots(folder) or any((folder / name).is_file() for name in (CHECKPOINT, "model.safetensors")):
        return "run"
    return "store" if is_store(folder) else None


def _verify(folder: Path, beside: str, expected: list[str] | None, found: dict[str, Any]) -> None:
    """Compare files with the checksums beside them; expected files without one are listed as unchecked."""
    try:
        known = read_checksums(folder / beside)
    except UserError as error:
        found["damaged"].append(str(error))
        return
    if expected is None and not known:
        found["unchecked"].append(str(folder))
    for name in sorted({*(expected or []), *known}):
        path = folder / name
        if "/" in name or "\\" in name or name.startswith(".."):
            found["damaged"].append(f"{folder / beside}: names a file {name[:80]!r} of another folder")
        elif not path.is_file():
            if beside != CHECKPOINT_SUMS:
                found["damaged"].append(f"{path}: is missing")
        elif name not in known:
            found["unchecked"].append(str(path))
        elif checksum(path) not in known[name]:
            found["damaged"].append(f"{path}: its checksum is wrong")
        else:
            found["verified"] += 1


def _try(read: Any, found: dict[str, Any]) -> None:
    try:
        read()
    except UserError as error:
        if not any(str(error).partition(":")[0] in text for text in found["damaged"]):
            found["damaged"].append(str(error))
