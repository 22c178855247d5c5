"""Files of a folder of videos or frames, and its `Train/` `Test/` layout."""

from __future__ import annotations

import os
import stat
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
    """Files below `folder`, without hidden files and folders, pipes and devices; links to folders are not followed."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(files):
            if not name.startswith(".") and name not in ("Thumbs.db", "desktop.ini"):
                path = Path(place) / name
                if _readable_kind(path):
                    yield path


def _readable_kind(path: Path) -> bool:
    """Whether a path is a file, or a broken link, which its reader reports; opening a FIFO would wait forever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def fixed_splits(names: Sequence[str]) -> dict[str, str]:
    """Video name -> split, if every name is in a folder Train, Val or Test (any case); otherwise empty.

    Args:
        names: Relative paths with "/"; both Train and Test must be present.
    """
    found = {name: _SPLIT_FOLDERS.get(name.split("/")[0].lower(), "") for name in names}
    parts = set(found.values())
    return found if {"train", "test"} <= parts and "" not in parts else {}
