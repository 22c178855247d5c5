"""`framecast data download`: published data sets, fetched after saying how much and from where."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framecast.core.errors import UserError
from framecast.core.flags import SetName, Switch, parse

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None] | None]]


@dataclass(frozen=True, kw_only=True)
class DownloadFlags:
    """A published data set, unpacked. Says size and host before it asks; run again, it goes on where it broke.

    Example: framecast data download agc --game mspacman --out data/agc
    """

    name: SetName
    """Which set: agc, the Atari Grand Challenge."""
    out: str
    """Folder to unpack into."""
    game: str = "all"
    """mspacman, qbert, pinball, revenge, spaceinvaders, or all of them; trajectories for these alone."""
    url: str | None = None
    """Another address with the same files, such as a mirror."""
    yes: Switch = False
    """Do not ask."""
    keep_archive: Switch = False
    """Leave the archive beside what was unpacked."""
    json: str | None = None
    """Also write what was made there; - for standard output."""


def download(argv: Sequence[str], tell: Callable[[str | None, Any, str], None], bar: Bar) -> None:
    """The command. tell: prints what was done.  bar: makes a progress bar.

    Raises: UserError for an unknown set or game, a host that cannot be reached, or an answer other than yes.
    """
    flags = parse(DownloadFlags, list(argv), "data download")
    from framecast.data.download import SETS, fetch, find, offer, unpack

    address = find(flags.name, flags.game, flags.url)
    wanted, folder = offer(address), Path(flags.out)
    if folder.is_file():
        raise UserError(f"{folder}: is a file; --out names a folder")
    print(f"{SETS[flags.name].about}\n{wanted.words}, into {folder}", file=sys.stderr)
    if not flags.yes and not _agreed():
        raise UserError("nothing was fetched; answer y, or give --yes")
    with bar(f"fetching {wanted.name}") as progress:
        archive = fetch(wanted, folder, progress)
    with bar(f"unpacking {wanted.name}") as progress:
        count = unpack(archive, folder, progress)
    if not flags.keep_archive:
        archive.unlink()
    told = {"folder": str(folder), "files": count, "address": wanted.address, "bytes": wanted.size}
    text = f"{count:,} files in {folder}\nnext: framecast data import {folder} --out {folder}-store"
    tell(flags.json, told, text)


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise UserError("nobody is there to ask; give --yes to fetch it")
    print("fetch it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
