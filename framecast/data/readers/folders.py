"""Files of a folder of videos or frames, and its `Train/` `Test/` layout."""

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
    """Files below `folder`, without hidden files and folders; links to folders are not followed."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(files):
            if not name.startswith(".") and name not in ("Thumbs.db", "desktop.ini"):
                yield Path(place) / name


def fixed_splits(names: Sequence[str]) -> dict[str, str]:
    """Video name -> split, if every name is in a folder Train, Val or Test (any case); otherwise empty.

    Args:
        names: Relative paths with "/"; both Train and Test must be present.
    """
    found = {name: _SPLIT_FOLDERS.get(name.split("/")[0].lower(), "") for name in names}
    parts = set(found.values())
    return found if {"train", "test"} <= parts and "" not in parts else {}
