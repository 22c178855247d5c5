"""Published data sets: what they are, where they are kept, and fetching them so that a broken transfer goes on."""

from __future__ import annotations

import http.client
import json
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.data.writer import bytes_in_words, require_space

Progress = Callable[[int, int], None]

_BLOCK = 1 << 20
_SECONDS = 60.0  # without an answer


@dataclass(frozen=True)
class Published:
    """about: in a sentence.  address: of the folder the files are in.  files: name -> file, for each part.
    aliases: further names of parts."""

    about: str
    address: str
    files: Mapping[str, str]
    aliases: Mapping[str, str]


#: Name on the command line -> set.
SETS: dict[str, Published] = {
    "agc": Published(
        about="Atari Grand Challenge, first release: people playing five games at 60 frames a second "
        "(Kurin et al. 2017, arXiv 1705.10998)",
        address="https://omnomnom.vision.rwth-aachen.de/data/atari_v1_release/",
        files={
            "mspacman": "mspacman.tar.gz",
            "qbert": "qbert.tar.gz",
            "pinball": "pinball.tar.gz",
            "revenge": "revenge.tar.gz",
            "spaceinvaders": "spaceinvaders.tar.gz",
            "trajectories": "trajectories.tar.gz",
            "all": "full.tar.gz",
        },
        aliases={
            "ms_pacman": "mspacman",
            "video_pinball": "pinball",
            "montezuma_revenge": "revenge",
            "space_invaders": "spaceinvaders",
        },
    )
}


@dataclass(frozen=True)
class Offer:
    """A file that can be fetched. size: bytes, None where the host does not say.  tag: changes when the file does."""

    address: str
    name: str
    size: int | None
    tag: str

    @property
    def host(self) -> str:
        """Where it is kept."""
        return urlsplit(self.address).netloc

    @property
    def words(self) -> str:
        """Name, size and host, to be said before anything is fetched."""
        size = "of unknown size" if self.size is None else bytes_in_words(self.size)
        return f"{self.name}, {size}, from {self.host}"


def find(name: str, part: str, address: str | None = None) -> str:
    """The address of a part of a published set.

    address: of another folder with the same files.
    Raises: UserError for an unknown set or part.
    """
    if name not in SETS:
        raise UserError(f"unknown data set {name!r}; {suggest(name, SETS)}")
    found = SETS[name]
    part = found.aliases.get(part, part)
    if part not in found.files:
        raise UserError(f"{name} has no part {part!r}; {suggest(part, [*found.files, *found.aliases])}")
    folder = (address or found.address).rstrip("/") + "/"
    if urlsplit(folder).scheme not in ("http", "https"):
        raise UserError(f"--url {address}: must begin with https:// or http://")
    return folder + found.files[part]


def offer(address: str) -> Offer:
    """What the host says about a file, without fetching it.

    Raises: UserError when it cannot be reached or has no such file.
    """
    with _opened(address, method="HEAD") as answer:
        size = answer.headers.get("Content-Length")
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    name = urlsplit(address).path.rsplit("/", 1)[-1]
    return Offer(address, name, int(size) if size and size.isdecimal() else None, tag)


def fetch(wanted: Offer, folder: Path, progress: Progress | None = None) -> Path:
    """The file, in `folder`. What is there of it already is not fetched again; it gets its name when it is whole.

    progress: called with bytes there and in all.
    Raises: UserError when the connection breaks (the same call goes on) or there is too little space.
    """
    target, part = folder / wanted.name, folder / f"{wanted.name}.part"
    note = folder / f"{wanted.name}.part.json"
    folder.mkdir(parents=True, exist_ok=True)
    if target.is_file() and wanted.size in (None, target.stat().st_size):
        return target
    same = {"address": wanted.address, "size": wanted.size, "tag": wanted.tag}
    if part.is_file() and not (note.is_file() and _read(note) == same):
        part.unlink()  # of another file, or of this one before it changed
    note.write_text(json.dumps(same), encoding="utf-8")
    there = part.stat().st_size if part.is_file() else 0
    require_space(folder, (wanted.size or 0) - there)
    if wanted.size is None or there < wanted.size:
        _go_on(wanted, part, there, progress)
    if wanted.size is not None and part.stat().st_size != wanted.size:
        raise UserError(
            f"{wanted.address}: the connection ended at {bytes_in_words(part.stat().st_size)} of "
            f"{bytes_in_words(wanted.size)}; run the same command again to go on from there"
        )
    os.replace(part, target)
    note.unlink()
    return target


def _go_on(wanted: Offer, part: Path, there: int, progress: Progress | None) -> None:
    headers = {"Range": f"bytes={there}-"} if there else {}
    with _opened(wanted.address, headers=headers) as answer:
        if there and answer.status != 206:  # a host that cannot go on sends the whole file
            there = 0
        with part.open("ab" if there else "wb") as file:
            while True:
                try:
                    block = answer.read(_BLOCK)
                except (OSError, http.client.HTTPException):
                    return  # told by the size that is missing
                if not block:
                    return
                file.write(block)
                there += len(block)
                if progress is not None:
                    progress(there, wanted.size or there)


def unpack(archive: Path, folder: Path, progress: Progress | None = None) -> int:
    """Unpack a .tar.gz into `folder`; how many files. Names that leave the folder, links and devices are refused.

    progress: called with bytes of the archive read and in all.
    Raises: UserError when it is damaged or holds such names.
    """
    size, count = archive.stat().st_size, 0
    require_space(folder, size)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
            for member in tar:
                if not (member.isfile() or member.isdir()):
                    raise UserError(f"{archive} holds {member.name!r}, which is neither file nor folder; not unpacked")
                tar.extract(member, folder, set_attrs=False, filter="data")
                count += member.isfile()
                if progress is not None and count % 256 == 0:
                    progress(raw.tell(), size)
    except tarfile.FilterError as error:
        raise UserError(f"{archive} holds a name that leaves its folder ({error}); not unpacked") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{archive} is damaged ({error}); delete it and download it again") from error
    return count


def _opened(address: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
    request = urllib.request.Request(address, headers=dict(headers or {}), method=method)
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        raise UserError(f"{address}: the host answers {error.code} {error.reason}; try later, or give --url") from error
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"{address}: cannot be reached ({reason}); check the network, or give --url") from error
    return answer


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
