"""Published data sets: addresses, and downloads that resume after a broken transfer."""

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


def find(name: str, part: str, address: str | None = None) -> str:
    """URL of a part of a published data set.

    Args:
        name: Name in `SETS`.
        part: Name or alias of a part.
        address: URL of another folder with the same files.

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
    if urlsplit(folder).scheme not in ("http", "https"):
        raise UserError(f"--url {address}: must begin with https:// or http://")
    return folder + found.files[part]


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


def fetch(wanted: Offer, folder: Path, progress: Progress | None = None) -> Path:
    """Path of the downloaded file in `folder`; a partial download is resumed.

    Args:
        wanted: File to download.
        folder: Target folder; the file gets its name when it is complete.
        progress: Called with bytes present and the total.

    Raises:
        UserError: The connection broke (the same call resumes), or disk space is too small.
    """
    target, part = folder / wanted.name, folder / f"{wanted.name}.part"
    note = folder / f"{wanted.name}.part.json"
    folder.mkdir(parents=True, exist_ok=True)
    if target.is_file() and wanted.size in (None, target.stat().st_size):
        return target
    same = {"address": wanted.address, "size": wanted.size, "tag": wanted.tag}
    if part.is_file() and not (note.is_file() and _read(note) == same):
        part.unlink()  # part of another file, or of an older version
    note.write_text(json.dumps(same), encoding="utf-8")
    there = part.stat().st_size if part.is_file() else 0
    require_space(folder, (wanted.size or 0) - there)
    if wanted.size is None or there < wanted.size:
        _resume(wanted, part, there, progress)
    if wanted.size is not None and part.stat().st_size != wanted.size:
        raise UserError(
            f"{wanted.address}: the connection ended at {bytes_in_words(part.stat().st_size)} of "
            f"{bytes_in_words(wanted.size)}; run the same command again to resume"
        )
    os.replace(part, target)
    note.unlink()
    return target


def _resume(wanted: Offer, part: Path, there: int, progress: Progress | None) -> None:
    headers = {"Range": f"bytes={there}-"} if there else {}
    with _opened(wanted.address, headers=headers) as response:
        if there and response.status != 206:  # a host that cannot resume sends the whole file
            there = 0
        with part.open("ab" if there else "wb") as file:
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
    size, count = archive.stat().st_size, 0
    require_space(folder, size)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
            for member in tar:
                if not (member.isfile() or member.isdir()):
                    raise UserError(f"{archive} holds {member.name!r}, expected files and folders only; not unpacked")
                tar.extract(member, folder, set_attrs=False, filter="data")
                count += member.isfile()
                if progress is not None and count % 256 == 0:
                    progress(raw.tell(), size)
    except tarfile.FilterError as error:
        raise UserError(f"{archive} holds a path outside its folder ({error}); not unpacked") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{archive} is damaged ({error}); delete it and download it again") from error
    return count


def _opened(address: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
    request = urllib.request.Request(address, headers=dict(headers or {}), method=method)
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_SECONDS)
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
