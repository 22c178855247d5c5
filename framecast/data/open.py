"""The source that a path holds, chosen by content: store, videos, frames, pairs, arrays, records or episodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from framecast.core.errors import UserError
from framecast.core.remote import is_address
from framecast.data.base import Source
from framecast.data.options import AS_STORED, ReadOptions
from framecast.data.readers.arrays import Arrays, array_files
from framecast.data.readers.folders import visible_files
from framecast.data.readers.frames import Frames, frame_folders
from framecast.data.readers.grand_challenge import GrandChallenge, find_root
from framecast.data.readers.hdf5 import SUFFIXES as HDF5_SUFFIXES
from framecast.data.readers.hdf5 import Hdf5, hdf5_files
from framecast.data.readers.lerobot import LeRobot, is_lerobot
from framecast.data.readers.minari import Minari, minari_folder
from framecast.data.readers.pairs import Pairs, pair_files
from framecast.data.readers.tfrecord_format import is_records
from framecast.data.readers.tfrecords import SUFFIXES, TFRecords, record_files
from framecast.data.readers.videos import Videos, video_files
from framecast.data.store import Store
from framecast.media.animation import ANIMATION_SUFFIXES, frame_count
from framecast.media.images import IMAGE_SUFFIXES
from framecast.media.video import VIDEO_SUFFIXES

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_REMEDY = "give a packed store, a video, a folder of videos or frames, an .npy or .npz file, or TFRecords"

_STORED = {"store": "a packed store", "pairs": "pairs", "lerobot": "a LeRobot dataset"}  # at a rate of their own

_READERS: dict[str, Callable[[Path, ReadOptions], Source]] = {
    "store": lambda path, options: Store(path),
    "pairs": Pairs,
    "arrays": Arrays,
    "records": TFRecords,
    "episodes": GrandChallenge,
    "videos": Videos,
    "images": Frames,
    "lerobot": LeRobot,
    "hdf5": Hdf5,
    "minari": Minari,
}


def open_path(path: str | os.PathLike[str], options: ReadOptions = AS_STORED) -> Source:
    """The source that a path holds, chosen by its content.

    A folder with index.json is a packed store, one whose images are all named <id>_im1.png or <id>_im2.png holds
    pairs, one with screens/<game>/<episode> an Atari Grand Challenge, one with meta/info.json a LeRobot dataset;
    otherwise a video file, a folder of videos, a folder of frames (flat, nested, or with `Train/` and `Test/`), an .npy
    or .npz file or a folder of these, TFRecords, HDF5 or Minari episodes, or a folder of them.

    Args:
        path: File or folder, or the address of a packed store of format 2.
        options: Settings of the reader. Arrays, pairs and stores keep their frame size.

    Raises:
        UserError: The path holds nothing that can be read, or files of several kinds.
    """
    if is_address(path):
        _check_address(path)
        return Store(os.fspath(path))
    path = Path(path)
    return _READERS[kind_of(path, options)](path, options)


def kind_of(path: Path, options: ReadOptions = AS_STORED) -> str:
    """What a path holds, without reading it.

    One of store, pairs, arrays, records, episodes, lerobot, minari, hdf5, videos and images.

    Args:
        path: File or folder.
        options: Settings of the reader.

    Raises:
        UserError: The path holds nothing that can be read, or files of several kinds.
    """
    if is_address(path):
        _check_address(path)
        return "store"
    if not path.exists():
        raise UserError(_missing(path))
    if not path.is_dir() and not path.is_file():
        raise UserError(f"{path} is a pipe or device, not a file; write its content to a file first")
    kind = _kind_of_folder(path) if path.is_dir() else _kind_of_file(path)
    if options.axes is not None and kind not in ("arrays", "hdf5", "store", "pairs"):
        raise UserError(f"{path} holds {kind}, whose axes are known; --axes is for .npy and .npz files, leave it out")
    if options.fps is not None and kind in ("store", "pairs", "lerobot"):
        raise UserError(f"{path} holds {_STORED[kind]}, whose rate is fixed; --fps is for other data, leave it out")
    return kind


def _check_address(path: str | os.PathLike[str]) -> None:
    """Raise UserError for the address of a file; only packed stores are read from addresses."""
    if Path(path).suffix.lower() in (VIDEO_SUFFIXES | IMAGE_SUFFIXES | {".npy", ".npz", *SUFFIXES, *_ARCHIVES}):
        raise UserError(f"{os.fspath(path)} is an address; download it and give the file or folder")


def _missing(path: Path) -> str:
    """Which part of the path is missing, and the most similar name beside it."""
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        path, parent = parent, parent.parent
    there = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    near = get_close_matches(path.name, there, n=1, cutoff=0.5)
    return f"{path} does not exist; " + (f"did you mean {parent / near[0]}?" if near else "check the path")


def _kind_of_file(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        return "arrays"
    if suffix in HDF5_SUFFIXES:
        return "hdf5"
    if suffix in SUFFIXES or is_records(path):
        return "records"
    if suffix in _ARCHIVES:
        raise UserError(f"{path} is an archive; unpack it and give the folder")
    if suffix in IMAGE_SUFFIXES - VIDEO_SUFFIXES and not (suffix in ANIMATION_SUFFIXES and frame_count(path) > 1):
        raise UserError(f"{path} is a single image, expected several frames; give its folder of frames, or a video")
    return "videos"  # whatever its name: its content decides, and the reader reports what is wrong


def _kind_of_folder(path: Path) -> str:
    if (path / "index.json").is_file():
        return "store"
    if is_lerobot(path):
        return "lerobot"
    if minari_folder(path) is not None:
        return "minari"
    if find_root(path) is not None:
        return "episodes"
    videos = video_files(path)
    moving = set(videos)
    folders = frame_folders(path)
    images = [image for frames in folders.values() for image in frames if image not in moving]
    arrays = [file for file in array_files(path) if file.parent not in folders]  # others are beside frames
    found = {"videos": len(videos), "images": len(images), "arrays": len(arrays)}
    kinds = [kind for kind, count in found.items() if count]
    if len(kinds) > 1:
        counts = " and ".join(f"{found[kind]} {kind}" for kind in kinds)
        raise UserError(f"{path} holds {counts}, expected one kind; move the others to a folder elsewhere")
    if kinds == ["images"] and sum(map(len, folders.values())) == sum(map(len, pair_files(path).values())):
        return "pairs"
    if kinds:
        return kinds[0]
    others = list(visible_files(path))
    if not others:
        raise UserError(f"{path} is an empty folder; {_REMEDY}")
    if hdf5_files(path):
        return "hdf5"
    if record_files(path):
        return "records"
    archives = [file for file in others if file.suffix.lower() in _ARCHIVES]
    if archives:
        raise UserError(f"{path} holds archives such as {archives[0].name}; unpack them first")
    raise UserError(f"{path} holds only other files, such as {others[0].name}; {_REMEDY}")
