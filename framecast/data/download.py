"""Published data sets: addresses, and downloads that resume after a broken transfer."""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import json
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from framecast.core.commit import sync
from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.io import write_text
from framecast.data.writer import bytes_in_words, require_space

Progress = Callable[[int, int], None]

_BLOCK = 1 << 20
#: An archive may unpack to this multiple of its size, plus a fixed number of bytes for small ones.
EXPANSION, _FREE_BYTES = 20, 1 << 26
_MEMBER_BYTES = 512  # of a file on the disk, besides its contents
_SECONDS = 60.0  # timeout of the connection


@dataclass(frozen=True)
class Published:
    """A published data set."""

    about: str
    """Description in one sentence."""
    address: str
    """URL of the folder of its files."""
    files: Mapping[str, str]
    """Name of each part -> file."""
    aliases: Mapping[str, str]
    """Alternative name -> name of a part."""


#: Name on the command line -> data set.
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


#: Sets that are fetched by hand: name -> what to download, and the command that reads it.
BY_HAND = {
    "kth": "KTH actions: download the six .zip files of its project page (www.csc.kth.se/cvap/actions), unpack each "
    "into a folder of its name, then framecast data import kth --out data/kth --size 64x64",
    "bair": "BAIR robot pushing: download bair_robot_pushing_dataset_v0.tar (rail.eecs.berkeley.edu/datasets), unpack "
    "it, then framecast data import softmotion30_44k --out data/bair --records.train '*train/*' --records.test "
    "'*test/*'",
    "robonet": "RoboNet: download robonet_v3.tar.gz (github.com/SudeepDasari/RoboNet), unpack it, then framecast data "
    "import hdf5 --out data/robonet",
    "cityscapes": "Cityscapes: register, download leftImg8bit_sequence_trainvaltest.zip (www.cityscapes-dataset.com), "
    "unpack it, then framecast data import leftImg8bit_sequence --out data/cityscapes --size 128x256",
    "moving-mnist": "Moving MNIST: download mnist_test_seq.npy (www.cs.toronto.edu/~nitish/unsupervised_video), then "
    "framecast evaluate RUN --data mnist_test_seq.npy --context 10 --horizon 10; framecast data make moving-mnist "
    "generates training videos",
}


@dataclass(frozen=True)
class Offer:
    """A file that can be downloaded."""

    address: str
    """URL of the file."""
    name: str
    """File name."""
    size: int | None
    """Bytes; None if the host does not report the size."""
    tag: str
    """Version of the file on the host."""

    @property
    def host(self) -> str:
        """Host of the file."""
        return urlsplit(self.address).netloc

    @property
    def words(self) -> str:
        """Name, size and host, for the announcement of a download."""
        size = "of unknown size" if self.size is None else bytes_in_words(self.size)
        return f"{self.name}, {size}, from {self.host}"


def find(name: str, part: str, address: str | None = None, allow_http: bool = False) -> str:
    """URL of a part of a published data set.

    Args:
        name: Name in `SETS`.
        part: Name or alias of a part.
        address: URL of another folder with the same files.
        allow_http: Accept an address without encryption.

    Raises:
        UserError: Unknown data set or part, an invalid address, or a set that is fetched by hand.
    """
    if name in BY_HAND:
        raise UserError(f"data download {name}: is not fetched by this command. {BY_HAND[name]}")
    if name not in SETS:
        raise UserError(f"unknown data set {name!r}; {suggest(name, [*SETS, *BY_HAND])}")
    found = SETS[name]
    part = found.aliases.get(part, part)
    if part not in found.files:
        raise UserError(f"{name} has no part {part!r}; {suggest(part, [*found.files, *found.aliases])}")
    folder = (address or found.address).rstrip("/") + "/"
    check_address(folder, allow_http)
    return folder + found.files[part]


def check_address(address: str, allow_http: bool) -> None:
    """Check that an address begins with https://, or http:// where that is allowed.

    Raises:
        UserError: it does not.
    """
    try:
        parts = urlsplit(address)
        scheme, host = parts.scheme, parts.hostname
    except ValueError:
        scheme, host = "", None
    if scheme not in ("http", "https") or not host:
        raise UserError(f"--url {address}: must begin with https://")
    if scheme == "http" and not allow_http and not _loopback(host):
        raise UserError(f"--url {address}: is not encrypted; use https://, or --allow-http with --sha256")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections that do not leave encryption."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.full_url.startswith("https:"):
            check_address(newurl, allow_http=False)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def offer(address: str) -> Offer:
    """Name, size and version of a file on its host, without downloading it.

    Raises:
        UserError: The host cannot be reached or has no such file.
    """
    with _opened(address, method="HEAD") as response:
        size = response.headers.get("Content-Length")
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    name = urlsplit(address).path.rsplit("/", 1)[-1]
    return Offer(address, name, int(size) if size and size.isdecimal() else None, tag)


def fetch(wanted: Offer, folder: Path, progress: Progress | None = None, sha256: str | None = None) -> Path:
    """Path of the downloaded file in `folder`; a partial download is resumed.

    Args:
        wanted: File to download.
        folder: Target folder; the file gets its name when it is complete.
        progress: Called with bytes present and the total.
        sha256: Expected hash of the file, 64 hex digits; None accepts any.

    Raises:
        UserError: The hash differs, the connection broke (the same call resumes), or disk space is too small.
    """
    target, part = folder / wanted.name, folder / f"{wanted.name}.part"
    note = folder / f"{wanted.name}.part.json"
    folder.mkdir(parents=True, exist_ok=True)
    if target.is_file() and wanted.size in (None, target.stat().st_size):
        check_hash(target, sha256)
        return target
    same = {"address": wanted.address, "size": wanted.size, "tag": wanted.tag}
    if part.is_file() and not (note.is_file() and _read(note) == same):
        part.unlink()  # part of another file, or of an older version
    write_text(note, json.dumps(same))
    there = part.stat().st_size if part.is_file() else 0
    require_space(folder, (wanted.size or 0) - there)
    if wanted.size is None or there < wanted.size:
        _resume(wanted, part, there, progress)
    if wanted.size is not None and part.stat().st_size != wanted.size:
        raise UserError(
            f"{wanted.address}: the connection ended at {bytes_in_words(part.stat().st_size)} of "
            f"{bytes_in_words(wanted.size)}; run the same command again to resume"
        )
    check_hash(part, sha256)
    sync(part)
    os.replace(part, target)
    sync(folder)
    note.unlink()
    return target


def file_hash(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hash(path: Path, sha256: str | None) -> None:
    """Check the SHA-256 of a downloaded file.

    Raises:
        UserError: it differs from the expected one.
    """
    if sha256 is not None and (found := file_hash(path)) != sha256.lower():
        raise UserError(f"{path}: its SHA-256 is {found}, expected {sha256.lower()}; delete it and download it again")


def _resume(wanted: Offer, part: Path, there: int, progress: Progress | None) -> None:
    headers = {"Range": f"bytes={there}-"} if there else {}
    with _opened(wanted.address, headers=headers) as response:
        if there and response.status != 206:  # a host that cannot resume sends the whole file
            there = 0
        if not there:
            part.unlink(missing_ok=True)  # never through a link
        flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | (0 if there else os.O_CREAT | os.O_EXCL)
        with os.fdopen(os.open(part, flags, 0o666), "ab") as file:
            while True:
                try:
                    block = response.read(_BLOCK)
                except (OSError, http.client.HTTPException):
                    return  # detected by the missing bytes
                if not block:
                    return
                file.write(block)
                there += len(block)
                if progress is not None:
                    progress(there, wanted.size or there)


def unpack(archive: Path, folder: Path, progress: Progress | None = None) -> int:
    """Number of files unpacked from a .tar.gz into `folder`. Paths outside the folder, links and devices are refused.

    Args:
        archive: Archive file.
        folder: Target folder.
        progress: Called with bytes of the archive read and the total.

    Raises:
        UserError: The archive is damaged or holds such members.
    """
    size, count, unpacked = archive.stat().st_size, 0, 0
    require_space(folder, size)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
            for member in tar:
                if not (member.isfile() or member.isdir()):
                    raise UserError(f"{archive} holds {member.name!r}, expected files and folders only; not unpacked")
                unpacked += member.size + _MEMBER_BYTES
                if unpacked > EXPANSION * size + _FREE_BYTES:
                    raise UserError(f"{archive} unpacks to more than {EXPANSION} times its size; not unpacked further")
                tar.extract(member, folder, set_attrs=False, filter="data")
                count += member.isfile()
                if progress is not None and count % 256 == 0:
                    progress(raw.tell(), size)
    except tarfile.FilterError as error:
        raise UserError(f"{archive} holds a path outside its folder ({error}); not unpacked") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"{archive} is damaged ({reason}); delete it and download it again") from error
    return count


def _opened(address: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
    request = urllib.request.Request(address, headers=dict(headers or {}), method=method)
    try:
        response: http.client.HTTPResponse = urllib.request.build_opener(_Redirects).open(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        raise UserError(f"{address}: the host returned {error.code} {error.reason}; try later or use --url") from error
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"{address}: cannot be reached ({reason}); check the network, or use --url") from error
    return response


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
