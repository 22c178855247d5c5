"""Reader of video files: one file or a folder of them; clips are decoded on demand."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.core.io import shown_name
from framecast.core.types import Clip, ClipSpec
from framecast.data.base import clip_stop
from framecast.data.options import AS_STORED, ReadOptions
from framecast.data.readers.folders import fixed_splits, visible_files
from framecast.data.splits import SplitByName
from framecast.media.animation import ANIMATION_SUFFIXES, frame_count
from framecast.media.images import natural_key
from framecast.media.resize import target_size
from framecast.media.video import VIDEO_SUFFIXES, VideoInfo, iter_frames, probe


class Videos(SplitByName):
    """A video file, or a folder of them at any depth, as a source.

    Args:
        path: File or folder.
        options: fps is a common rate to which videos are resampled, None keeps their own; size and fit resize frames
            during decoding; skip_bad leaves out unreadable files and uses the intact part of truncated ones.

    Attributes:
        skipped: Names of unreadable files.
        lost: Frames lost in truncated files.
        breaks: Name -> frames after a pause of the recording.
        fixed: Name -> split, from `Train/` and `Test/` folders.
        infos: Stream information per file.

    Raises:
        UserError: A file cannot be read, or there is none.
    """

    #: Films may consist of shots, unlike recordings of games and robots.
    may_have_cuts = True

    def __init__(self, path: str | os.PathLike[str], options: ReadOptions = AS_STORED) -> None:
        self.path, self.options, self.fps = Path(path), options, options.fps
        files = video_files(self.path) if self.path.is_dir() else [self.path]
        if not files:
            raise UserError(
                f"{self.path} holds no video; give a folder with mp4, mkv, mov, webm, avi, gif or webp files"
            )
        self.infos: list[VideoInfo] = []
        self.skipped: list[str] = []
        for file in files:
            try:
                self.infos.append(probe(file, options.skip_bad))
            except UserError:
                if not options.skip_bad:
                    raise
                self.skipped.append(shown_name(file.name))
        if not self.infos:
            raise UserError(
                f"{self.path}: none of its {len(files)} videos can be read, first {files[0].name}; copy them again"
            )
        self.lost = sum(info.lost for info in self.infos)
        self.names: list[str] = _names(self.path, [info.path for info in self.infos])
        self.lengths: list[int] = [self._length(info) for info in self.infos]
        pauses = (info.breaks if self.fps is None else info.breaks_at(self.fps) for info in self.infos)
        self.breaks: dict[str, list[int]] = {
            n: list(found) for n, found in zip(self.names, pauses, strict=True) if found
        }
        self.fixed: dict[str, str] = fixed_splits(self.names)
        self.sizes = [target_size(info.height, info.width, options.size, options.fit) for info in self.infos]
        height, width = Counter(self.sizes).most_common(1)[0][0]
        rate = self.fps or Counter(info.fps for info in self.infos).most_common(1)[0][0]
        self.spec = ClipSpec(channels=3, height=height, width=width, fps=float(rate))
        self._running: tuple[int, int, int, Iterator[np.ndarray]] | None = None

    def clip(self, index: int, start: int, length: int, stride: int = 1) -> Clip:
        """Frames start, start + stride, … of video `index`, decoded from the key frame before them.

        A clip that begins where the last one ended continues its decoder, so sequential clips need a single pass.
        """
        info, total = self.infos[index], self.lengths[index]
        if total == 1 and start + length > 1:
            raise UserError(
                f"{info.path} holds a single frame, expected at least two; give a video or a folder of frames"
            )
        clip_stop(info.path, total, start, length, stride)
        stream = self._stream(index, start, stride)
        frames = np.empty((length, 3, *self.sizes[index]), np.uint8)
        for slot in frames:
            slot[...] = next(stream)
        self._running = (index, start + length * stride, stride, stream)
        fps = (self.fps or info.fps) / stride
        return Clip(frames=frames, name=self.names[index], fps=fps, meta={"lost": info.lost} if info.lost else {})

    def _stream(self, index: int, start: int, stride: int) -> Iterator[np.ndarray]:
        running, self._running = self._running, None
        if running is not None and running[:3] == (index, start, stride):
            return running[3]
        path = self.infos[index].path
        count = len(range(start, self.lengths[index], stride))
        size, fit, skip_bad = self.options.size, self.options.fit, self.options.skip_bad
        return iter_frames(path, size, fit, self.fps, start=start, length=count, stride=stride, skip_bad=skip_bad)

    def _length(self, info: VideoInfo) -> int:
        return info.frames if self.fps is None else info.frames_at(self.fps)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_running": None}  # decoders cannot be pickled

    def meta(self) -> dict[str, Any]:
        """Kind, name and options of the source; with skip_bad, the files left out."""
        found: dict[str, Any] = {"source": "videos", "path": self.path.name, "fps": self.fps, **self.options.meta()}
        if self.options.skip_bad:
            found |= {"skipped": self.skipped, "lost_frames": self.lost}
        if notes := self._notes():
            found["notes"] = notes
        return found

    def _notes(self) -> list[str]:
        """What a reader of the files cannot see in the result: pictures left out, pauses."""
        notes = []
        if self.fps is None and (unused := sum(info.unused for info in self.infos)):
            stored = sum(info.stored for info in self.infos)
            notes.append(
                f"left out, closer together in time than one frame: {unused} of {stored} pictures; "
                "a higher rate (--fps) keeps them"
            )
        if pauses := sum(map(len, self.breaks.values())):
            notes.append(f"pauses of the recording, which clips do not cross: {pauses}")
        return notes


def video_files(folder: Path) -> list[Path]:
    """Videos below a folder in natural order, without still images.

    Damaged .gif and .webp files are taken for videos if there are others, so that the reader reports or skips them.
    Other images of several frames, such as animated PNG, are videos; a folder's first image decides whether all are
    examined, so that folders of frames open fast.
    """
    every = list(visible_files(folder))
    files = [f for f in every if f.suffix.lower() in VIDEO_SUFFIXES]
    counts = {f: frame_count(f) if f.suffix.lower() in (".gif", ".webp") else 2 for f in files}
    least = 0 if any(count > 1 for count in counts.values()) else 2
    moving = [f for f in files if counts[f] >= least and counts[f] != 1]
    images: dict[Path, list[Path]] = {}
    for file in every:
        if file.suffix.lower() in ANIMATION_SUFFIXES - VIDEO_SUFFIXES:
            images.setdefault(file.parent, []).append(file)
    for group in images.values():
        if frame_count(min(group, key=lambda f: natural_key(f.name))) > 1:
            moving += [f for f in group if frame_count(f) > 1]
    return sorted(moving, key=lambda f: natural_key(f.relative_to(folder)))


def _names(root: Path, files: list[Path]) -> list[str]:
    """Names relative to the root, without suffixes where they stay unique."""
    if root.is_file():
        return [root.stem]
    full = [file.relative_to(root).as_posix() for file in files]
    short = [file.relative_to(root).with_suffix("").as_posix() for file in files]
    counts = Counter(short)
    return [s if counts[s] == 1 else f for s, f in zip(short, full, strict=True)]
