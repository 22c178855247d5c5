"""Copies of a run's checkpoints at an address, such as s3://bucket/runs/name, from which the same command resumes.

Every copy is a folder of its own, step-N; mirror.json, written last, names the newest with its checksums. So a copy
that was interrupted leaves the one before it valid.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from framecast.core.checksums import checksum
from framecast.core.commit import temporary_path
from framecast.core.errors import UserError
from framecast.core.io import json_lines
from framecast.core.remote import RemoteFolder, is_address
from framecast.training.checkpoint import CHECKPOINT, CHECKPOINT_SUMS, snapshots
from framecast.training.config import CONFIG

#: File at the address that names the newest copy.
MIRROR = "mirror.json"
_FILES = (CONFIG, CHECKPOINT, CHECKPOINT_SUMS, "metrics.jsonl")
_KEPT = 2  # copies


def mirror_run(folder: Path, address: str, step: int) -> None:
    """Copy checkpoint, config, log and newest weights of a run to an address, and delete old copies there.

    Args:
        folder: Run folder, whose checkpoint is complete.
        address: Address of this run's copies.
        step: Step of the checkpoint.

    Raises:
        UserError: The address cannot be written; the run in its folder is intact.
    """
    remote = open_mirror(address)
    own = f"step-{step:09d}"
    files = [folder / name for name in _FILES if (folder / name).is_file()]
    files += [path for snapshot in snapshots(folder)[-1:] for path in sorted(snapshot.iterdir()) if path.is_file()]
    names = [path.relative_to(folder).as_posix() for path in files]
    for path, name in zip(files, names, strict=True):
        remote.upload(path, f"{own}/{name}")
    sums = {name: checksum(path) for path, name in zip(files, names, strict=True)}
    remote.write(MIRROR, json_lines({"format": 1, "folder": own, "files": sums}).encode())
    copies = sorted({name.partition("/")[0] for name in remote.names() if name.startswith("step-")})
    for name in remote.names():
        if name.partition("/")[0] in copies[:-_KEPT]:
            remote.remove(name)


def restore_run(folder: Path, address: str) -> bool:
    """Whether a run was copied back from an address into a folder that holds none.

    Args:
        folder: Run folder; one with a config or checkpoint is left as it is.
        address: Address of the run's copies; without any, nothing is done.

    Raises:
        UserError: A file is missing there or damaged, or cannot be read.
    """
    if (folder / CONFIG).is_file() or (folder / CHECKPOINT).is_file():
        return False
    remote = open_mirror(address)
    if not remote.exists(MIRROR):
        return False
    data, _ = remote.json(MIRROR)
    own, files = data.get("folder"), data.get("files")
    if not isinstance(own, str) or not isinstance(files, dict) or not all(_is_inside(n) for n in (own, *files)):
        raise UserError(f"{remote.place(MIRROR)}: is damaged; delete it to start from scratch")
    part = temporary_path(folder / "run")
    try:
        for name, expected in files.items():
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            remote.download(f"{own}/{name}", path)
            if checksum(path) != expected:
                raise UserError(f"{remote.place(f'{own}/{name}')}: its checksum is wrong; delete {MIRROR} there")
        for name in sorted(files, key=lambda n: n == CONFIG):  # the config last, as it makes the folder a run
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).replace(folder / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return True


def open_mirror(address: str) -> RemoteFolder:
    """The folder at an address.

    Raises:
        UserError: It is no address.
    """
    if not is_address(address):
        raise UserError(f"--train.mirror {address}: is no address; use one such as s3://bucket/runs/name")
    return RemoteFolder(address)


def _is_inside(name: object) -> bool:
    """Whether a name read from an address stays in the folder."""
    return isinstance(name, str) and bool(name) and not set(Path(name).parts) & {"..", "/"} and "\\" not in name
