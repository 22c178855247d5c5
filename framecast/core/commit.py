"""Durable, atomic writes of files and folders.

Temporary names are unique, hidden and beside the target; files are opened exclusively, so that no link is followed. A
commit counts when the files and the folder that names them are synced. What a killed process left is cleared by the
next write of the same name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from framecast.core.errors import UserError
from framecast.core.io import file_text, parse_json

#: Hidden manifest of folders whose format has none of its own: folders of images, of TFRecords and of LeRobot.
MARKER = ".framecast.json"
#: Kinds that it names.
MARKED = ("frames", "records", "lerobot")
#: Name of the lease inside a folder with one writer (see `core/lease.py`).
LEASE = ".lock"

_MACHINE = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_LEFT = re.compile(r"\.(?P<name>.+)\.(?P<kind>part|old)-(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}(\.\w+)?")
#: Names of earlier versions.
_LEFT_BEFORE = (
    r"\.{name}\.(?P<kind>part|old)-(?P<pid>\d+)",
    r"\.{name}\.(?P<pid>\d+)\.(?P<kind>part)(\.\w+)?",
    r"\.{name}\.(?P<kind>part|tmp)(?P<pid>)",
)
_OWN = re.compile(rf"{_LEFT.pattern}|\.(config\.json|checkpoint\.pt)\.(part|tmp)|{re.escape(LEASE)}.*")
_LONGEST = 100  # characters of the target's name in a temporary one; file systems allow 255 bytes


def temporary_path(target: Path, suffix: str = "", kind: str = "part") -> Path:
    """An unused hidden path beside `target`.

    Args:
        target: the path that is to be written.
        suffix: end of the name, for writers that choose a format by it.
        kind: "part" for what is being written, "old" for what is being replaced.
    """
    owner = f"{kind}-{_MACHINE}-{os.getpid()}-{secrets.token_hex(4)}"
    return target.with_name(f".{target.name[:_LONGEST]}.{owner}{suffix}")


@contextlib.contextmanager
def replaced_file(target: Path, suffix: str = "", durable: bool = True) -> Iterator[Path]:
    """Within: the path of a new, empty file beside `target`, which it replaces afterwards; missing folders are created.

    Args:
        target: the file to write; on an exception it is unchanged.
        suffix: end of the temporary name.
        durable: whether to sync file and folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(target)
    part = temporary_path(target, suffix)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
    os.close(os.open(part, flags, 0o666))
    try:
        yield part
        if durable:
            sync(part)
        os.replace(part, target)
        if durable:
            sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Within: a new, empty folder beside `target`, which it replaces afterwards, synced; missing parents are created.

    Args:
        target: the folder to write; on an exception it is unchanged. Call `check_target` first.
    """
    part = new_folder(target)
    try:
        yield part
        install_folder(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def new_folder(target: Path) -> Path:
    """A new, empty folder beside `target`, for `install_folder`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(target)
    part = temporary_path(target)
    part.mkdir()
    return part


def install_folder(part: Path, target: Path) -> None:
    """Sync a finished folder and let it replace `target`, which stays if that fails."""
    for place, _, files in os.walk(part):
        for name in files:
            sync(Path(place) / name)
        sync(Path(place))
    old = temporary_path(target, kind="old")
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(part, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # folders cannot be opened there
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot sync a folder
            raise
    finally:
        os.close(handle)


def clear_leftovers(target: Path) -> None:
    """Remove what ended processes left beside `target`; a folder that was being replaced is restored."""
    before = [re.compile(pattern.format(name=re.escape(target.name))) for pattern in _LEFT_BEFORE]
    try:
        entries = [entry.name for entry in os.scandir(target.parent) if entry.name.startswith(".")]
    except OSError:
        return
    for name in entries:
        found = _LEFT.fullmatch(name)
        if found is not None and found["name"] != target.name[:_LONGEST]:
            continue
        found = found or next((m for pattern in before if (m := pattern.fullmatch(name))), None)
        if found is None or _in_use(target.parent / name, found):
            continue
        left = target.parent / name
        with contextlib.suppress(OSError):
            if found["kind"] == "old" and not target.exists():
                os.replace(left, target)
            elif left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()


def _in_use(path: Path, found: re.Match[str]) -> bool:
    """Whether the process that made a temporary path may still be writing it."""
    import psutil

    if not found["pid"]:
        return False
    pid = int(found["pid"])
    if found.groupdict().get("machine", _MACHINE) != _MACHINE:
        return True  # of another machine, whose processes are unknown here
    if pid > 2**31 - 1 or not psutil.pid_exists(pid):
        return False
    with contextlib.suppress(OSError, psutil.Error):
        # ids recur, in containers soon: a process that is younger than the file did not make it
        return bool(psutil.Process(pid).create_time() < path.lstat().st_ctime + 2)
    return True


# ------------------------------------------------------------------------------------------------------- what is ours


def folder_kind(folder: Path) -> str | None:
    """What a folder holds by its own manifest: store, run, clips, or a kind of `MARKED`; None for folders of others."""
    for name, kind, proof in (
        (MARKER, None, "kind"),
        ("index.json", "store", "videos"),
        ("config.json", "run", "train"),
        ("chain.json", "run", "links"),  # a chain of trainings that has not reached its last
        ("manifest.json", "clips", "clips"),
    ):
        path = folder / name
        if not path.is_file() or path.is_symlink():
            continue
        try:
            data = parse_json(file_text(path), path)
        except UserError:
            continue
        if not isinstance(data, dict) or type(data.get("format")) is not int or data["format"] < 1:
            continue
        if kind is None and data.get("kind") in MARKED:
            return str(data["kind"])
        if kind is not None and proof in data and data.get("kind", "framecast-clips") == "framecast-clips":
            return kind
    return None


def write_marker(folder: Path, kind: str) -> None:
    """Write the hidden manifest of a folder whose format has none.

    Args:
        folder: the folder, not yet in its place.
        kind: one of `MARKED`.
    """
    (folder / MARKER).write_text(json.dumps({"format": 1, "kind": kind}) + "\n", encoding="utf-8")


def own_files(folder: Path) -> list[Path]:
    """Entries of a folder without leases and leftovers of this package."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if not _OWN.fullmatch(p.name))


def check_target(folder: Path, kind: str, overwrite: bool) -> None:
    """Check that a folder may be written: it is new or empty, or holds the same kind by its manifest.

    Nothing else is ever replaced, with or without `overwrite`.

    Args:
        folder: the folder to write.
        kind: what will be written, as of `folder_kind`.
        overwrite: whether a folder of that kind may be replaced.

    Raises:
        UserError: it is a file, holds something else, or may not be replaced.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(f"{folder} is a file or a broken link; name a folder")
    if not folder.is_dir() or not own_files(folder):
        return
    if folder_kind(folder) != kind:
        raise UserError(
            f"{folder} holds other files, so it is not replaced, with --overwrite neither; name a new or empty folder"
        )
    if not overwrite:
        noun = {"store": "a store", "run": "a run", "lerobot": "a LeRobot dataset"}.get(kind, kind)
        raise UserError(f"{folder} already holds {noun}; choose another folder or overwrite it (--overwrite)")
