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

    Attributes:
        fixed: Id -> split, from the lists.

    Raises:
        UserError: One image of a pair is missing, an id has no images, or images have different sizes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        files = pair_files(self.path)
        for name, found in files.items():
            for frame in ("1", "2"):
                if frame not in found:
                    there = next(iter(found.values()))
                    raise UserError(f"{there}: {name}_im{frame}.png is missing; add it or remove this image")
        self.fixed: dict[str, str] = self._splits(files)
        self.names: list[str] = sorted(self.fixed or files, key=natural_key)
        self._files = [(files[name]["1"], files[name]["2"]) for name in self.names]
        self.lengths: list[int] = [2] * len(self.names)
        height, width = image_size(self._files[0][0])
        self.spec = ClipSpec(channels=3, height=height, width=width, fps=1.0)
        for pair in self._files:
            for file in pair:
                self._check(file, image_size(file))

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

    def _check(self, file: Path, size: tuple[int, int]) -> None:
        if size != (self.spec.height, self.spec.width):
            raise UserError(
                f"{file}: is {size[0]}x{size[1]} but {self._files[0][0].name} is {self.spec.height}x{self.spec.width}; "
                "bring all images of a folder to one size"
            )

    def clip(self, index: int, start: int, length: int, stride: int = 1) -> Clip:
        """Frames start, start + stride, … of pair `index`."""
        stop = clip_stop(f"pair {self.names[index]!r}", 2, start, length, stride)
        frames = [read_image(file) for file in self._files[index][start:stop:stride]]
        return Clip(frames=np.stack(frames), name=self.names[index], fps=self.spec.fps / stride)

    def meta(self) -> dict[str, Any]:
        """Kind and name of the folder."""
        return {"source": "pairs", "path": self.path.resolve().name}


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
