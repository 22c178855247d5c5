"""Reader of folders of image pairs `<id>_im1.png`, `<id>_im2.png`, as published for one-step prediction.

Lists `train.txt`, `test.txt` and `visualize.txt` in the folder hold the ids of each part, separated by white space.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.core.types import Clip, ClipSpec
from framecast.data.base import clip_stop
from framecast.data.options import AS_STORED, ReadOptions
from framecast.data.readers.folders import visible_files
from framecast.data.splits import SplitByName
from framecast.media.images import image_size, natural_key, read_image

#: File name of one image of a pair.
PAIR_NAME = re.compile(r"(?P<id>.+)_im(?P<frame>[12])\.png", re.IGNORECASE)
#: List -> split. Pairs for visualisation are evaluated during training, so they are val.
LISTS = {"train.txt": "train", "test.txt": "test", "visualize.txt": "val"}
_LIST_BYTES = 1 << 26  # maximum size of a list


class Pairs(SplitByName):
    """A folder of pairs as a source: each pair is a video of two frames, named by its id.

    Args:
        path: Folder. Its lists prescribe the splits, and pairs in no list are left out; without lists all pairs are
            split by name. An id in several lists belongs to the first of test, visualize and train.
        options: skip_bad leaves out pairs that cannot be read.

    Attributes:
        skipped: Ids of pairs left out.
        fixed: Id -> split, from the lists.

    Raises:
        UserError: One image of a pair is missing, an id has no images, or images have different sizes.
    """

    def __init__(self, path: str | os.PathLike[str], options: ReadOptions = AS_STORED) -> None:
        self.path = Path(path)
        files = pair_files(self.path)
        self.fixed: dict[str, str] = self._splits(files)
        self.names: list[str] = []
        self.skipped: list[str] = []
        self._files: list[tuple[Path, Path]] = []
        self._size: tuple[int, int] | None = None
        for name in sorted(self.fixed or files, key=natural_key):
            try:
                self._files.append(self._checked(name, files[name]))
            except UserError:
                if not options.skip_bad:
                    raise
                self.skipped.append(name)
                continue
            self.names.append(name)
        if self._size is None:
            raise UserError(f"{self.path}: none of its {len(self.skipped)} pairs can be read, first {self.skipped[0]}")
        left = set(self.skipped)
        self.fixed = {name: split for name, split in self.fixed.items() if name not in left}
        self.lengths: list[int] = [2] * len(self.names)
        self.spec: ClipSpec = ClipSpec(channels=3, height=self._size[0], width=self._size[1], fps=1.0)

    def _checked(self, name: str, found: dict[str, Path]) -> tuple[Path, Path]:
        """Both images of a pair, of the size of the first pair."""
        for frame in ("1", "2"):
            if frame not in found:
                there = next(iter(found.values()))
                raise UserError(f"{there}: {name}_im{frame}.png is missing; add it or remove this image")
        sizes = [image_size(found[frame]) for frame in ("1", "2")]
        wanted = self._size or sizes[0]
        for frame, size in zip(("1", "2"), sizes, strict=True):
            if size != wanted:
                first = (self._files[0] if self._files else (found["1"],))[0]
                raise UserError(
                    f"{found[frame]}: is {size[0]}x{size[1]} but {first.name} is {wanted[0]}x{wanted[1]}; bring all "
                    "images of a folder to one size"
                )
        self._size = wanted
        return found["1"], found["2"]

    def _splits(self, files: dict[str, dict[str, Path]]) -> dict[str, str]:
        fixed: dict[str, str] = {}
        for name in ("train.txt", "visualize.txt", "test.txt"):  # the last one wins
            file = self.path / name
            if not file.is_file():
                continue
            for pair in _read_list(file):
                if pair not in files:
                    raise UserError(
                        f"{file}: names {pair!r}, but {pair}_im1.png and {pair}_im2.png do not exist; fix the list"
                    )
                fixed[pair] = LISTS[name]
        return fixed

    def clip(self, index: int, start: int, length: int, stride: int = 1) -> Clip:
        """Frames start, start + stride, … of pair `index`."""
        stop = clip_stop(f"pair {self.names[index]!r}", 2, start, length, stride)
        frames = [read_image(file) for file in self._files[index][start:stop:stride]]
        return Clip(frames=np.stack(frames), name=self.names[index], fps=self.spec.fps / stride)

    def meta(self) -> dict[str, Any]:
        """Kind and name of the folder."""
        found: dict[str, Any] = {"source": "pairs", "path": self.path.resolve().name}
        return {**found, "skipped": self.skipped} if self.skipped else found


def pair_files(folder: Path) -> dict[str, dict[str, Path]]:
    """Id -> {"1": first image, "2": second image} of the images of pairs in a folder."""
    found: dict[str, dict[str, Path]] = {}
    for file in visible_files(folder):
        match = PAIR_NAME.fullmatch(file.name)
        if match and file.parent == folder:
            found.setdefault(match["id"], {})[match["frame"]] = file
    return found


def _read_list(file: Path) -> list[str]:
    if file.stat().st_size > _LIST_BYTES:
        raise UserError(f"{file}: is too large for a list of ids; use at most {_LIST_BYTES >> 20} MB")
    try:
        return file.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is not a text file of ids ({error.reason}); separate ids by white space") from error
