"""`framecast check`: verification of a run, store or export by its checksums."""

from __future__ import annotations

from pathlib import Path

from framecast.cli.output import print_result
from framecast.cli.shared_flags import JsonFlag, command_flags
from framecast.core.errors import UserError
from framecast.core.flags import PathName, parse


@command_flags
class CheckFlags(JsonFlag):
    """Verification of a run, packed store or export by its checksums; nothing is changed.

    Example: framecast check runs/pacman
    """

    path: PathName
    """Run folder, packed store, exported weights, or the name of packaged weights."""


def run_check(argv: list[str]) -> None:
    """Verify a folder; damage is an error that names the first damaged file."""
    from framecast.inference.check import check_folder
    from framecast.training.run_folder import packaged

    flags = parse(CheckFlags, argv, "check")
    folder = Path(flags.path)
    found = check_folder(folder if folder.exists() else packaged().get(flags.path, folder))
    damaged, unchecked = found["damaged"], found["unchecked"]
    lines = [f"{flags.path}: {found['kind']}, {found['verified']} files verified"]
    lines += [f"no checksum (written by an older version): {path}" for path in unchecked]
    print_result(flags.json, found, "\n".join([*lines, *damaged]))
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise UserError(f"{damaged[0]}{more}; copy the folder again, or restore it from a backup")
