"""Reader of TFRecords of clips, memory-mapped; `tfrecord_schemas.py` holds the features of each schema."""

from __future__ import annotations

import contextlib
import fnmatch
import mmap
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, Clip, ClipSpec
from framecast.data.base import RecordSettings, clip_stop
from framecast.data.labels import resize_labels
from framecast.data.options import AS_STORED, ReadOptions
from framecast.data.readers.folders import visible_files
from framecast.data.readers.tfrecord_format import is_records, scan
from framecast.data.readers.tfrecord_schemas import POSE, ClipRecord, Column, Place, Schema, named
from framecast.data.splits import SplitByName
from framecast.media.images import natural_key
from framecast.media.resize import resize_frames, target_size

SUFFIXES = (".tfrecord", ".tfrecords")


class TFRecords(SplitByName):
    """TFRecord files as a source: each record is a video.

    A clip has those of the arrays `actions`, `states`, `joints`, `visibility`, `masks`, `objects` that the first record
    has, and others declared in the feature `meta` of records written here; unknown features are ignored.

    Args:
        path: One file, or a folder of them at any depth, recognised by suffix or content.
        options: records selects the files of each split and the frames of a record: 0, skip, 2 skip, … of the first
            `length`; actions of skipped frames are dropped, as in the published reader. size and fit resize frames.
            skip_bad checks every record on opening and leaves out damaged, incomplete and short ones.

    Attributes:
        skipped: Records left out.
        fixed: Name -> split, if file names match the patterns (other files are then not used).
        subsets: Name -> "seen" or "novel", from the file names.

    Raises:
        UserError: A file, record or feature is damaged or missing; the message names it.
    """

    def __init__(self, path: str | os.PathLike[str], options: ReadOptions = AS_STORED) -> None:
        self.path, self.options = Path(path), options
        self.settings = replace(options.records, fps=options.records.fps or options.fps)
        self._root = self.path if self.path.is_dir() else self.path.parent
        files = record_files(self.path) if self.path.is_dir() else [self.path]
        if not files:
            raise UserError(f"{self.path} holds no TFRecord; give a TFRecord file or a folder of them")
        splits = self._splits_of(files)
        places = [p for file in splits or files for p in self._places_in(file)]
        first = self._first(places)
        self.schema: Schema = first.schema()
        if not options.skip_bad:
            self._check_length(first)  # other records are checked on reading
        self.columns: dict[str, Column] = first.columns(self.schema)
        self.stored = first.image(named(self.schema.image, 0), colour=True)[1]
        self.skipped: list[str] = []
        self.names: list[str] = []
        self.lengths: list[int] = []
        self.fixed: dict[str, str] = {}
        self.subsets: dict[str, str] = {}
        self._places: list[Place] = []
        mapped: tuple[Path | None, memoryview] = (None, memoryview(b""))
        for place in places:
            if mapped[0] != place.file:
                mapped = (place.file, _mapped(place.file))
            self._add(place, mapped[1], splits.get(place.file, ""))
        if not self.names:
            raise UserError(f"{self.path}: none of its records can be used, first {self.skipped[0]}")
        self.spec = self._spec(first.meta())

    def _spec(self, meta: dict[str, Any]) -> ClipSpec:
        stored = meta.get("fps")
        known = float(stored) if isinstance(stored, int | float) and stored > 0 else self.schema.fps
        height, width = target_size(*self.stored, self.options.size, self.options.fit)
        extras = {name: column.shape for name, column in self.columns.items() if name != "actions"}
        masks = self.columns.get("masks")
        if masks is not None and masks.shape == self.stored:
            extras["masks"] = (height, width)
        return ClipSpec(
            channels=3,
            height=height,
            width=width,
            fps=(self.settings.fps or known) / self.settings.skip,
            actions=_action_spec(self.columns.get("actions"), meta.get("actions")),
            extras=extras,
        )

    # ----------------------------------------------------------------------------------------------- records and splits

    def _splits_of(self, files: Sequence[Path]) -> dict[Path, str]:
        """Split of each file whose path matches a pattern, in the order of the files; empty if none does."""
        given, usual = self.settings, RecordSettings()
        patterns = {"test": given.test, "val": given.validation, "train": given.train}
        found = {}
        for file in files:
            name = file.relative_to(self._root).as_posix()
            split = next((split for split, pattern in patterns.items() if _matches(name, pattern)), "")
            if split:
                found[file] = split
        for split, flag in (("train", "train"), ("val", "validation"), ("test", "test")):
            if patterns[split] != getattr(usual, flag) and split not in found.values():
                there = files[0].relative_to(self._root).as_posix()
                raise UserError(
                    f"{self.path}: no file matches {patterns[split]!r} (--records.{flag}); there is {there}"
                )
        return found

    def _places_in(self, file: Path) -> list[Place]:
        return [Place(file, number, *where) for number, where in enumerate(scan(file, self.options.skip_bad))]

    def _first(self, places: Sequence[Place]) -> ClipRecord:
        """The first readable record, whose schema and arrays all must have."""
        for place in places:
            try:
                return ClipRecord(place)
            except UserError:
                if not self.options.skip_bad:
                    raise
        raise UserError(f"{self.path}: none of its records can be read; copy the files again")

    def _add(self, place: Place, data: memoryview, split: str) -> None:
        stem = place.file.relative_to(self._root)
        base = (stem.with_suffix("") if stem.suffix in SUFFIXES else stem).as_posix()
        name, subset = f"{base}/{place.number:05d}", re.search(r"test[-_]?(seen|novel)", base.lower())
        try:
            frames = self._frames_in(place, data)
        except UserError:
            if not self.options.skip_bad:
                raise
            self.skipped.append(name)
            return
        self._places.append(place)
        self.names.append(name)
        self.lengths.append(-(-frames // self.settings.skip))
        if split:
            self.fixed[name] = split
        if subset and split == "test":
            self.subsets[name] = subset[1]

    def _frames_in(self, place: Place, data: memoryview) -> int:
        """Number of frames used of a record; with skip_bad the whole record is checked."""
        if self.settings.length is not None and not self.options.skip_bad:
            return self.settings.length
        record = ClipRecord(place, None if self.options.skip_bad else data[place.offset : place.offset + place.length])
        used = self.settings.length or record.frames(self.schema)
        if not used:
            raise UserError(f"{place} has no feature {named(self.schema.image, 0)!r}; give records of one schema")
        if self.options.skip_bad:
            self._check_length(record)
            numbers = range(0, used, self.settings.skip)
            self._pixels(record, numbers)
            self._arrays(record, self.columns, numbers)
        return used

    def _check_length(self, record: ClipRecord) -> None:
        length = self.settings.length
        if length is not None and named(self.schema.image, length - 1) not in record:
            count = record.frames(self.schema)
            raise UserError(
                f"{record.place} has {count} frames, expected {length}; use --records.length {count} or less"
            )

    # ------------------------------------------------------------------------------------------------------- clips

    def clip(self, index: int, start: int, length: int, stride: int = 1) -> Clip:
        """Frames start, start + stride, … of record `index`, decoded."""
        record, numbers = ClipRecord(self._places[index]), self._numbers(index, start, length, stride)
        self._check_length(record)
        meta = {k: v for k, v in record.meta().items() if k not in ("arrays", "actions", "format", "fps")}
        return Clip(
            frames=self._pixels(record, numbers),
            arrays=self._arrays(record, self.columns, numbers),
            name=self.names[index],
            fps=self.spec.fps / stride,
            meta=meta,
        )

    def rows(self, index: int, start: int, length: int, stride: int = 1) -> dict[str, np.ndarray]:
        """Per-frame arrays that are not images, for statistics: no frame is decoded and no checksum verified."""
        place = self._places[index]
        record = ClipRecord(place, _mapped(place.file)[place.offset : place.offset + place.length])
        columns = {name: column for name, column in self.columns.items() if not column.is_image}
        return self._arrays(record, columns, self._numbers(index, start, length, stride))

    def _numbers(self, index: int, start: int, length: int, stride: int) -> range:
        """Indices of a clip's frames in the record."""
        stop, skip = clip_stop(self.names[index], self.lengths[index], start, length, stride), self.settings.skip
        return range(start * skip, (stop - 1) * skip + 1, stride * skip)

    def _arrays(self, record: ClipRecord, columns: dict[str, Column], numbers: range) -> dict[str, np.ndarray]:
        found = {name: record.rows(column, numbers) for name, column in columns.items()}
        return resize_labels(found, *self.stored, self.options.size, self.options.fit)

    def _pixels(self, record: ClipRecord, numbers: range) -> np.ndarray:
        """Frames uint8 (t, 3, h, w), resized."""
        out = np.empty((len(numbers), 3, *target_size(*self.stored, self.options.size, self.options.fit)), np.uint8)
        target = None if self.options.size is None else (out.shape[2], out.shape[3])
        for slot, number in zip(out, numbers, strict=True):
            key = named(self.schema.image, number)
            pixels, size = record.image(key, colour=True, target=target)
            if size != self.stored:
                raise UserError(
                    f"{record.place}: {key} is {size[1]}x{size[0]} px but the first record's frames are "
                    f"{self.stored[1]}x{self.stored[0]}; bring them to one size"
                )
            slot[...] = pixels if pixels.shape == slot.shape else self._scaled(pixels)
        return out

    def _scaled(self, pixels: np.ndarray) -> np.ndarray:
        """One frame resized from its decoded size, which may be smaller than the stored one."""
        size = self.options.size
        size = target_size(*self.stored, size) if isinstance(size, int) else size
        frame: np.ndarray = resize_frames(pixels[None], size, self.options.fit)[0]
        return frame

    # -------------------------------------------------------------------------------------------------- the source

    def meta(self) -> dict[str, Any]:
        """Kind, schema and options of the source; with skip_bad, the records left out."""
        found: dict[str, Any] = {"source": "tfrecords", "path": self.path.resolve().name, "schema": self.schema.name}
        found |= {"settings": asdict(self.settings), **self.options.meta()}
        if self.options.skip_bad:
            found["skipped"] = self.skipped
        return found


def record_files(folder: Path) -> list[Path]:
    """TFRecord files below a folder, recognised by suffix or content, in natural order."""
    found = [file for file in visible_files(folder) if file.suffix in SUFFIXES or is_records(file)]
    return sorted(found, key=lambda file: natural_key(file.relative_to(folder)))


def _matches(path: str, pattern: str) -> bool:
    """Whether a pattern matches a path below the folder or the file name, ignoring case."""
    path, pattern = path.lower(), pattern.lower()
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path.rsplit("/", 1)[-1], pattern)


def _action_spec(column: Column | None, declared: Any) -> ActionSpec | None:
    """Action space declared in a record's meta, otherwise continuous with the size of the column."""
    if column is None:
        return None
    if isinstance(declared, dict):
        known = {f.name for f in fields(ActionSpec)} - {"mean", "std"}
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in declared.items() if k in known}
        with contextlib.suppress(TypeError, ValueError):
            return ActionSpec(**given)
    size = column.shape[0] if column.shape else 1
    return ActionSpec(kind="continuous", size=size, names=POSE if size == len(POSE) else ())


def _mapped(file: Path) -> memoryview:
    """The bytes of a file, memory-mapped."""
    with file.open("rb") as handle:
        if not os.fstat(handle.fileno()).st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
