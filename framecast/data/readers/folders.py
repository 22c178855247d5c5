"""What a folder of videos or frames looks like: files that count, and the `Train/` `Test/` layout."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Frames per second of frames and arrays, which do not store a rate.
DEFAULT_FPS = 30.0

_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def visible_files(folder: Path) -> Iterator[Path]:
    """Every file below `folder` that is not hidden, nor in a hidden folder; links to folders are not followed."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(files):
            if not name.startswith(".") and name not in ("Thumbs.db", "desktop.ini"):
                yield Path(place) / name


def fixed_splits(names: Sequence[str]) -> dict[str, str]:
    """Video name -> split, where every name lies in a folder called Train, Val or Test (any case); else empty.

    names: relative paths with "/". Both Train and Test must be there, or nothing is prescribed.
    """
    found = {name: _SPLIT_FOLDERS.get(name.split("/")[0].lower(), "") for name in names}
    parts = set(found.values())
    return found if {"train", "test"} <= parts and "" not in parts else {}
