"""Reader of folders of frames: each folder of images is a video, its images in natural order the frames.

Per-frame arrays such as joints or actions may be stored next to the images (see `data/readers/sidecars.py`).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.core.io import shown_name
from framecast.core.types import Clip, ClipSpec
from framecast.data.base import clip_stop
from framecast.data.labels import resize_labels
from framecast.data.options import AS_STORED, ReadOptions
from framecast.data.readers.arrays import action_spec_of
from framecast.data.readers.folders import DEFAULT_FPS, fixed_splits, visible_files
from framecast.data.readers.sidecars import read_sidecars
from framecast.data.splits import SplitByName
from framecast.media.images import IMAGE_SUFFIXES, image_size, is_image, natural_key, natural_order, read_image
from framecast.media.resize import resize_frames, target_size

_DIGITS = re.compile(r"\d+")
_CHECKED_AT_ONCE = 20_000  # headers read on opening; beyond that, only the first and last frame of each video


class Frames(SplitByName):
    """A folder of frames, flat (one video) or nested (one video per folder of images), as a source.

    Each video has frames of one size; different videos may have different sizes. Images are converted to RGB by
    `media.images.read_image`. Per-frame arrays next to the images are read too; every video must have the same.

    Args:
        path: Folder; names, suffixes and numbering of the files are free, hidden and other files are ignored.
        options: fps is the rate, which folders do not store; size and fit resize the frames.

    Attributes:
        skipped: Images left out with `skip_bad`.
        fixed: Name -> split, from `Train/` and `Test/` folders, any case.

    Raises:
        UserError: An image cannot be read, frames of a video have two sizes, or there is no image.
    """

    def __init__(self, path: str | os.PathLike[str], options: ReadOptions = AS_STORED) -> None:
        self.path, self.options = Path(path), options
        videos = frame_folders(self.path)
        if not videos:
            raise UserError(f"{self.path} holds no image; give a folder of frames, or of folders of frames")
        if self.path in videos and len(videos) > 1:
            other = next(folder for folder in videos if folder != self.path)
            raise UserError(
                f"{self.path} has images next to folders of images such as {other.name}; give each video its own folder"
            )
        self.skipped: list[str] = []
        self.files: list[list[Path]] = []
        self.names: list[str] = []
        self.stored: list[tuple[int, int]] = []
        self._sidecars: list[dict[str, np.ndarray]] = []
        every = options.skip_bad or sum(map(len, videos.values())) <= _CHECKED_AT_ONCE
        for folder, images in videos.items():
            _check_series(images)
            good, frame_size = self._checked(images, every)
            if good:
                self.files.append(good)
                self.stored.append(frame_size)
                self._sidecars.append(_readable_rows(folder, images, good, frame_size))
                self.names.append(self.path.resolve().name if folder == self.path else _name(folder, self.path))
        if not self.files:
            raise UserError(f"{self.path}: none of its {len(self.skipped)} images can be read, first {self.skipped[0]}")
        self.lengths: list[int] = [len(files) for files in self.files]
        self.fixed: dict[str, str] = fixed_splits(self.names)
        self.sizes = [target_size(*stored, options.size, options.fit) for stored in self.stored]
        height, width = Counter(self.sizes).most_common(1)[0][0]
        self._check_arrays()
        shapes = {name: values.shape[1:] for name, values in self._arrays(0, slice(1)).items()}
        self.spec = ClipSpec(
            channels=3,
            height=height,
            width=width,
            fps=float(options.fps or DEFAULT_FPS),
            actions=None
            if "actions" not in shapes
            else action_spec_of(np.concatenate([arrays["actions"] for arrays in self._sidecars]), self.path),
            extras={name: shape for name, shape in shapes.items() if name != "actions"},
        )

    def _check_arrays(self) -> None:
        """Raise unless every video has the per-frame arrays of the first."""
        shapes = [{name: values.shape[1:] for name, values in arrays.items()} for arrays in self._sidecars]
        sizes = [{k: v for k, v in found.items() if k != "masks"} for found in shapes]  # as large as the frames
        for files, mine, names in zip(self.files, sizes, shapes, strict=True):
            if mine != sizes[0] or set(names) != set(shapes[0]):
                raise UserError(
                    f"{files[0].parent} has the per-frame arrays {_listed(names)} but {self.files[0][0].parent} has "
                    f"{_listed(shapes[0])}; give every video the same"
                )

    def _arrays(self, index: int, cut: slice) -> dict[str, np.ndarray]:
        """Per-frame arrays of a clip, resized with its frames."""
        rows = {name: values[cut] for name, values in self._sidecars[index].items()}
        return resize_labels(rows, *self.stored[index], self.options.size, self.options.fit) if rows else rows

    def _checked(self, images: list[Path], every: bool) -> tuple[list[Path], tuple[int, int]]:
        """The readable images of one video and their common size."""
        good: list[Path] = []
        size: tuple[int, int] | None = None
        for number, image in enumerate(images):
            if not every and 0 < number < len(images) - 1:
                good.append(image)
                continue
            try:
                found = image_size(image)
            except UserError:
                if not self.options.skip_bad:
                    raise
                self.skipped.append(shown_name(image.relative_to(self.path).as_posix()))
                continue
            size = size or found
            if found != size:
                raise _two_sizes(image, found, good[0], size)
            good.append(image)
        return good, size or (0, 0)

    def clip(self, index: int, start: int, length: int, stride: int = 1) -> Clip:
        """Frames start, start + stride, … of video `index`."""
        files = self.files[index]
        if len(files) == 1 and start + length > 1:
            raise UserError(f"{files[0].parent} holds a single frame, expected at least two; add frames")
        stop = clip_stop(files[0].parent, len(files), start, length, stride)
        frames = read_images(files[start:stop:stride], files[0], self.stored[index], self.options)
        arrays = self._arrays(index, slice(start, stop, stride))
        return Clip(frames=frames, arrays=arrays, name=self.names[index], fps=self.spec.fps / stride)

    def meta(self) -> dict[str, Any]:
        """Kind, name and options of the source; with skip_bad, the files left out."""
        found: dict[str, Any] = {"source": "frames", "path": self.path.resolve().name, "fps": self.spec.fps}
        found |= self.options.meta()
        if self.options.skip_bad:
            found["skipped"] = self.skipped
        return found


def read_images(files: Sequence[Path], first: Path, stored: tuple[int, int], options: ReadOptions) -> np.ndarray:
    """Image files of one video, uint8 (t, 3, h, w), resized.

    Args:
        files: Images to read.
        first: First image of the video, for the message.
        stored: Common (h, w) of the video's images.
        options: Frame size and fit.

    Raises:
        UserError: An image cannot be read or has another size.
    """
    frames = np.empty((len(files), 3, *target_size(*stored, options.size, options.fit)), np.uint8)
    for slot, file in zip(frames, files, strict=True):
        pixels = read_image(file)
        if pixels.shape[1:] != stored:
            raise _two_sizes(file, (pixels.shape[1], pixels.shape[2]), first, stored)
        slot[...] = resize_frames(pixels[None], options.size, options.fit)[0]
    return frames


def frame_folders(root: Path) -> dict[Path, list[Path]]:
    """Folders at or below `root` that hold images, in natural order, each with its images in natural order.

    Images are recognised by suffix; if no file has an image suffix, files without a known suffix by content.
    """
    folders: dict[Path, list[Path]] = {}
    others: dict[Path, list[Path]] = {}
    for file in visible_files(root):
        suffix = file.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            folders.setdefault(file.parent, []).append(file)
        elif suffix == "" or suffix[1:].isdecimal() or suffix in (".img", ".frame", ".dat"):
            others.setdefault(file.parent, []).append(file)
    if not folders:
        folders = {folder: images for folder, files in others.items() if (images := [f for f in files if is_image(f)])}
    ordered = sorted(folders, key=lambda folder: natural_key(folder.relative_to(root)))
    return {folder: natural_order(folders[folder]) for folder in ordered}


def _check_series(images: list[Path]) -> None:
    """Raise if a folder holds several series with the same numbers, such as pictures and masks, or copies."""
    series: dict[str, tuple[set[tuple[str, ...]], Path]] = {}
    kinds = {_DIGITS.sub("#", image.name) for image in images}
    for image in images:
        numbers = tuple(number.lstrip("0") for number in _DIGITS.findall(image.stem))
        kind = _DIGITS.sub("#", image.name)
        positive = kind.replace("-#", "#")
        if positive != kind and positive in kinds:  # a negative number of the same series
            kind, numbers = positive, (*numbers, kind)
        series.setdefault(kind, (set(), image))[0].add(numbers)
    found = list(series.values())
    if len(found) > 1 and len(found[0][0]) > 2 and all(numbers == found[0][0] for numbers, _ in found):
        raise UserError(
            f"{images[0].parent} holds {len(found)} series of images with the same numbers, such as {found[0][1].name} "
            f"and {found[1][1].name}; give each its own folder"
        )


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix()


def _readable_rows(folder: Path, images: list[Path], good: list[Path], size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Per-frame arrays of a folder, rows of its readable images."""
    arrays = read_sidecars(folder, len(images), *size)
    if not arrays or len(good) == len(images):
        return arrays
    readable = set(good)
    kept = [number for number, image in enumerate(images) if image in readable]
    return {name: values[kept] for name, values in arrays.items()}


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items())) or "none"


def _two_sizes(file: Path, found: tuple[int, int], first: Path, size: tuple[int, int]) -> UserError:
    return UserError(
        f"{file} is {found[1]}x{found[0]} but {first.name} of the same video is {size[1]}x{size[0]}; "
        "bring them to one size or move it to a separate folder"
    )
