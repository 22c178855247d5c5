"""What a path holds, as a source: store, video, videos, frames, arrays or records; or one sentence why it is none."""

from __future__ import annotations

import os
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from framecast.core.errors import UserError
from framecast.data.base import RecordSettings, Source
from framecast.data.readers.arrays import Arrays, array_files
from framecast.data.readers.folders import visible_files
from framecast.data.readers.frames import Frames, frame_folders
from framecast.data.readers.grand_challenge import GrandChallenge, find_root
from framecast.data.readers.pairs import Pairs, pair_files
from framecast.data.readers.tfrecord_format import is_records
from framecast.data.readers.tfrecords import SUFFIXES, TFRecords, record_files
from framecast.data.readers.videos import Videos, video_files
from framecast.data.store import Store
from framecast.media.images import IMAGE_SUFFIXES
from framecast.media.resize import Fit, Size
from framecast.media.video import VIDEO_SUFFIXES

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_REMEDY = "give a packed store, a video, a folder of videos or frames, an .npy or .npz file, or TFRecords"


def open_path(
    path: str | os.PathLike[str],
    *,
    axes: str | None = None,
    fps: float | None = None,
    size: Size | str = None,
    fit: Fit = "crop",
    skip_bad: bool = False,
    records: RecordSettings | None = None,
) -> Source:
    """The source that a path holds, told by its content.

    A folder with index.json is a packed store, one whose pictures are all called <id>_im1.png or <id>_im2.png holds
    pairs, one with screens/<game>/<episode> an Atari Grand Challenge; otherwise a video file, a folder of videos, a
    folder of frames (flat, nested, or with `Train/` and `Test/`), an .npy or .npz file or a folder of these, TFRecords
    or a folder of them.
    axes: of arrays, see `Arrays`.  fps: rate to resample videos to, or the rate of frames and arrays.
    size, fit: of videos and frames, scaled while reading; arrays and stores keep theirs.
    skip_bad: leave out what cannot be read; the source's meta() names it.  records: how TFRecords are read.
    Raises: UserError, naming path and remedy, when it holds nothing of the kind, or things of several kinds.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(_missing(path))
    if path.is_dir():
        if (path / "index.json").is_file():
            return Store(path)
        _refuse_lerobot(path)
        kind = _kind_of_folder(path)
        if kind == "images" and _all_pairs(path):
            return Pairs(path)
    else:
        kind = _kind_of_file(path)
    if axes is not None and kind != "arrays":
        raise UserError(f"{path} holds {kind}, whose axes are known; --axes is for .npy and .npz files, leave it out")
    if kind == "arrays":
        return Arrays(path, axes=axes, fps=fps or 30.0)
    if kind == "records":
        settings = records or RecordSettings()
        settings = replace(settings, fps=settings.fps or fps)
        return TFRecords(path, settings, size=size, fit=fit, skip_bad=skip_bad)
    if kind == "episodes":
        return GrandChallenge(path, fps=fps, size=size, fit=fit, skip_bad=skip_bad)
    if kind == "videos":
        return Videos(path, fps=fps, size=size, fit=fit, skip_bad=skip_bad)
    return Frames(path, fps=fps or 30.0, size=size, fit=fit, skip_bad=skip_bad)


def _refuse_lerobot(path: Path) -> None:
    """Raises: UserError for a LeRobot dataset, whose videos hold many episodes and one camera each."""
    if (path / "meta" / "info.json").is_file() and any((path / "meta").glob("*")):
        text = (path / "meta" / "info.json").read_text(encoding="utf-8", errors="replace")
        if '"codebase_version"' in text or '"robot_type"' in text:
            raise UserError(
                f"{path} is a LeRobot dataset, which cannot be read yet: its videos join many episodes and hold one "
                "camera each; write its frames with framecast.DatasetWriter, one video an episode"
            )


def _missing(path: Path) -> str:
    """Which part of the path is missing, and what is there instead."""
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
    if suffix in SUFFIXES or is_records(path):
        return "records"
    if suffix in _ARCHIVES:
        raise UserError(f"{path} is an archive; unpack it and give the folder")
    if suffix in IMAGE_SUFFIXES - VIDEO_SUFFIXES:
        raise UserError(
            f"{path} is a single image, so nothing moves; give the folder of frames it belongs to, or a video"
        )
    return "videos"  # whatever its name: its content decides, and says what is wrong


def _kind_of_folder(path: Path) -> str:
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
        told = " and ".join(f"{found[kind]} {kind}" for kind in kinds)
        raise UserError(f"{path} holds {told}; keep one kind, the others in a folder elsewhere")
    if kinds:
        return kinds[0]
    others = list(visible_files(path))
    if not others:
        raise UserError(f"{path} is an empty folder; {_REMEDY}")
    if record_files(path):
        return "records"
    archives = [file for file in others if file.suffix.lower() in _ARCHIVES]
    if archives:
        raise UserError(f"{path} holds archives such as {archives[0].name}; unpack them first")
    raise UserError(f"{path} holds only other files, such as {others[0].name}; {_REMEDY}")


def _all_pairs(path: Path) -> bool:
    """Whether every image of a folder is named as one of a pair."""
    pictures = [image for images in frame_folders(path).values() for image in images]
    return len(pictures) == sum(map(len, pair_files(path).values()))


def _tfrecord(path: Path) -> str:
    return f"{path} is a TFRecord, which cannot be read here; export its frames as .npz, .npy, videos or images"
