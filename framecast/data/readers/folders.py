"""Files of a folder of videos or frames, and its `Train/` `Test/` layout."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from framecast.core.errors import UserError

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


# Folders of thumbnails, deleted files and metadata that cameras, network disks and systems write beside data.
_IGNORED = frozenset(("__MACOSX", "@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "lost+found", "@Recycle"))
_IGNORED |= {"System Volume Information", "@Recently-Snapshot"}


def visible_files(folder: Path) -> Iterator[Path]:
    """Files below `folder`, without hidden files and folders, pipes and devices.

    Links to folders are followed, each real folder once: under its own path if that is below `folder` too, so that no
    file is read twice and loops end.
    """
    seen: set[tuple[int, int]] = set()
    for above in folder.resolve().parents:  # a link to one of these is a loop
        _first_visit(above, seen)
    links = [folder]
    while links:
        place = links.pop(0)
        for here, folders, files in os.walk(place):
            if not _first_visit(Path(here), seen):
                folders[:] = []
                continue
            shown = sorted(name for name in folders if not name.startswith(".") and name not in _IGNORED)
            links += [Path(here) / name for name in shown if (Path(here) / name).is_symlink()]
            folders[:] = [name for name in shown if not (Path(here) / name).is_symlink()]
            for name in sorted(files):
                if not name.startswith(".") and name not in ("Thumbs.db", "desktop.ini"):
                    path = Path(here) / name
                    if _readable_kind(path):
                        yield path


def _first_visit(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Whether a folder was not visited before under another path; marks it as visited."""
    status = folder.stat()
    known = (status.st_dev, status.st_ino)
    if known in seen:
        return False
    seen.add(known)
    return True


def _readable_kind(path: Path) -> bool:
    """Whether a path is a file, or a broken link, which its reader reports; opening a FIFO would wait forever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def fixed_splits(names: Sequence[str]) -> dict[str, str]:
    """Video name -> split, if every name is in a folder Train, Val or Test (any case); otherwise empty.

    Args:
        names: Relative paths with "/"; Train and one of the others must be present, all at one depth: Train/a, or
            walking/Train/a and running/Test/b.

    Raises:
        UserError: There are Train and Test, and a video beside them.
    """
    paths = [name.lower().split("/") for name in names]
    for depth in range(min(map(len, paths), default=0)):
        found = [_SPLIT_FOLDERS.get(path[depth], "") for path in paths]
        parts = set(found)
        if "train" in parts and len(parts) > 1 and "" not in parts:
            return dict(zip(names, found, strict=True))
        inside = {split for split, path in zip(found, paths, strict=True) if len(path) > 1}  # not train.mp4 itself
        if depth == 0 and {"train", "test"} <= inside:
            raise UserError(
                f"{names[found.index('')]!r} lies beside folders for training and test; move it into one of them, or "
                "elsewhere"
            )
    return {}
