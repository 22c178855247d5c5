"""Per-frame arrays stored next to the images of a folder: joints, actions and others.

`joints.npy`, `actions.csv` and similar files are one array each, an .npz holds several; each has one row per frame.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from framecast.core.errors import UserError
from framecast.core.io import require_regular
from framecast.core.tables import read_table
from framecast.data.labels import JOINTS, joints_from_pixels
from framecast.data.readers.arrays import load_arrays
from framecast.data.writer import ARRAY_NAME

#: Tables that are read; other .csv files are ignored.
TABLES = ("actions.csv", "joints.csv", "states.csv", "visibility.csv", "action.csv", "state.csv")
_PLURALS = {"action": "actions", "state": "states"}
_TABLE_LIMIT = 1 << 28  # bytes


def read_sidecars(folder: Path, frames: int, height: int, width: int) -> dict[str, np.ndarray]:
    """Per-frame arrays (frames, …) in the folder of images, by name.

    `joints` may be (t, joints, 2), (t, joints, 3) with visibility last, or the same flattened: x0, y0, x1, y1, … or
    x0, y0, v0, …. Values beyond -1…1 are read as px from the upper left corner and scaled to -1…1. Missing joints (not
    a number, or visibility 0 and below) become 0, 0 and have `visibility` (t, joints) 0.

    Args:
        folder: Folder of the images.
        frames: Number of images.
        height: Height of the images, px.
        width: Width of the images, px.

    Raises:
        UserError: A file is damaged, has another number of rows, values that are not finite, or joints of another
            shape.
    """
    found: dict[str, np.ndarray] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        if file.suffix.lower() in (".npy", ".npz"):
            arrays: Mapping[str, np.ndarray] = load_arrays(file)
            if file.suffix.lower() == ".npy":
                arrays = {_PLURALS.get(file.stem, file.stem): arrays["frames"]}
        elif file.name.lower() in TABLES:
            name = file.stem.lower()
            arrays = {_PLURALS.get(name, name): _table(file)}
        else:
            continue
        for name, values in arrays.items():
            if not ARRAY_NAME.fullmatch(name) or name == "frames":
                raise UserError(f"{file}: {name!r} is not a valid array name; use letters, digits and _")
            if values.ndim < 1 or values.dtype.kind not in "biuf":
                raise UserError(f"{file}: {name} must be numbers, one row per frame, got {values.dtype} {values.shape}")
            if len(values) != frames:
                raise UserError(f"{file}: {name} has {len(values)} rows for {frames} frames; give one per frame")
            if name != JOINTS and values.dtype.kind == "f" and not np.isfinite(values).all():
                at = int(np.flatnonzero(~np.isfinite(values).reshape(frames, -1).all(axis=1))[0])
                raise UserError(f"{file}: {name} is not a finite number at frame {at}; replace it or leave {name} out")
            if name in found:
                raise UserError(f"{file}: {folder} holds two arrays named {name}; keep one")
            found[name] = values
    if JOINTS in found:
        found |= _joints(found[JOINTS], folder, height, width, "visibility" in found)
    return found


def _joints(values: np.ndarray, folder: Path, height: int, width: int, rated: bool) -> dict[str, np.ndarray]:
    """`joints` (t, n, 2) in -1…1 and `visibility` (t, n)."""
    if values.ndim == 2 and values.shape[1] % 2 == 0:
        values = values.reshape(len(values), -1, 2)
    if values.ndim != 3 or values.shape[2] not in (2, 3):
        raise UserError(f"{folder}: joints must be (frames, joints, 2) or (frames, joints, 3), got {values.shape}")
    places = np.asarray(values[..., :2], np.float64)
    seen = np.asarray(np.isfinite(places).all(-1))
    if values.shape[2] == 3:
        seen = seen & (np.nan_to_num(np.asarray(values[..., 2], np.float64)) > 0)
    known = places[seen]
    if known.size and np.abs(known).max() > 1:
        places = joints_from_pixels(places, height, width)
    found: dict[str, np.ndarray] = {JOINTS: np.where(seen[..., None], places, 0).astype(np.float32)}
    if not rated:
        found["visibility"] = seen.astype(np.float32)
    return found


def _table(file: Path) -> np.ndarray:
    """Numbers (rows, columns) of a CSV file; a header is skipped, empty cells are NaN.

    A third column whose header begins with v or c (visibility, confidence) makes joints (rows, n, 3).
    """
    if file.stat().st_size > _TABLE_LIMIT:
        raise UserError(f"{file} is larger than {_TABLE_LIMIT >> 20} MiB; save it as .npy")
    require_regular(file)
    try:
        header, rows = read_table(file.read_text(encoding="utf-8-sig"), str(file))
        values = np.array([[float(cell) if cell.strip() else np.nan for cell in row] for row in rows])
    except (ValueError, csv.Error, IndexError, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file} is not a table of numbers ({error}); write one row per frame") from error
    if values.ndim != 2:
        raise UserError(f"{file} is not a table of numbers; write one row per frame, all of one length")
    if file.stem.lower() == JOINTS and len(header) > 2 and header[2].strip().lower()[:1] in ("v", "c"):
        if values.shape[1] % 3:
            raise UserError(f"{file} has {values.shape[1]} columns, not x, y and visibility for every joint")
        return values.reshape(len(values), -1, 3)
    if file.stem.lower() in ("action", "actions") and values.shape[1] == 1 and (values == np.rint(values)).all():
        return values[:, 0].astype(np.int64)
    return values
