"""Writer of packed stores (format in `store.py`); a store appears only when it is complete."""

from __future__ import annotations

import contextlib
import shutil
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from framecast.core.checksums import write_checksums
from framecast.core.commit import LEASE, check_target, install_folder, new_folder
from framecast.core.errors import UserError
from framecast.core.lease import one_writer
from framecast.core.types import ActionSpec
from framecast.data.base import SPLITS
from framecast.data.npy_files import (
    ARRAY_NAME,
    DiskFull,
    Layout,
    PlainFiles,
    bytes_in_words,
    require_space,
    write_index,
    writing,
)
from framecast.data.shard_writer import SHARD_BYTES, ShardFiles

__all__ = [
    "ARRAY_NAME",
    "SHARD_BYTES",
    "DatasetWriter",
    "DiskFull",
    "bytes_in_words",
    "channels_first",
    "content_digest",
    "is_store",
    "lease_of",
    "require_space",
    "writing",
]


class DatasetWriter:
    """Writer of a packed store, video by video.

        with DatasetWriter("lab", fps=30) as writer:
            for frames, actions in episodes:
                writer.add(frames, actions=actions)

    An exception inside the block removes the unfinished store and leaves an earlier store unchanged.

    Args:
        folder: Folder of the store, which appears when it is complete.
        fps: Frames per second of videos without a rate.
        actions: Action space; if not given, integers are discrete and floats continuous.
        meta: Origin of the videos (JSON).
        overwrite: Replace an existing store.
        shards: Largest size of a shard in bytes, such as `SHARD_BYTES`, for a store of format 2, which can be read from
            object storage; None for format 1.

    Raises:
        UserError: The folder cannot be written or is not empty.
    """

    def __init__(
        self,
        folder: Path | str,
        fps: float = 30.0,
        actions: ActionSpec | None = None,
        meta: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        shards: int | None = None,
    ) -> None:
        self.folder, self.fps, self.actions = Path(folder), fps, actions
        self._settled = actions is not None  # otherwise the number of discrete actions grows with the data
        self.meta: dict[str, Any] = dict(meta or {})
        self.overwrite = overwrite
        check_target(self.folder, "store", overwrite)
        with writing(self.folder), contextlib.ExitStack() as stack:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(one_writer(lease_of(self.folder), self.folder.name, say=_report))
            self._part = new_folder(self.folder)
            self._lease = stack.pop_all()
        weakref.finalize(self, self._lease.close)  # of a writer that is neither closed nor aborted
        self._layout: Layout = PlainFiles(self._part) if shards is None else ShardFiles(self._part, shards)
        self._videos: list[dict[str, Any]] = []
        self._names: set[str] = set()
        self._arrays: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] | None = None
        self._open = True

    def add(
        self,
        frames: Any,
        actions: Any = None,
        states: Any = None,
        meta: Mapping[str, Any] | None = None,
        name: str | None = None,
        fps: float | None = None,
        *,
        axes: str | None = None,
        episode: str | None = None,
        camera: str | None = None,
        split: str | None = None,
        subset: str | None = None,
        breaks: Sequence[int] = (),
        **arrays: Any,
    ) -> None:
        """Append one video; on an exception nothing of it is kept.

        Args:
            frames: uint8 (t, c, h, w), (t, h, w, c) or (t, h, w), or an iterator of single frames or blocks, of which
                one at a time is held in memory.
            actions: Integers (t,) or floats (t, a); actions[i] is executed at frame i and leads to frame i + 1; the
                last may be omitted.
            states: Per-frame array (t, …).
            meta: Origin of the video (JSON).
            name: Unique name, by default video-00000, ….
            fps: Frames per second, by default that of the store.
            axes: "tchw" or "thwc"; needed only if the shape is ambiguous (see `channels_first`).
            episode: Common name of the cameras that recorded the same moment.
            camera: Name of the camera.
            split: Prescribed split: train, val or test.
            subset: Named part of the split that can be scored separately, such as novel (--split test/novel).
            breaks: Frames that do not continue the frame before them (cuts, pauses); training clips do not cross them.
            arrays: Further per-frame arrays (t, …), the same for every video of a store. With an iterator of frames,
                arrays may be lists that it fills.

        Raises:
            UserError: A value has a wrong type or shape.
        """
        if not self._open:
            raise ValueError("this DatasetWriter is closed; create a new one")
        name = f"video-{len(self._videos):05d}" if name is None else name
        labels = {"episode": episode, "camera": camera, "split": split, "subset": subset}
        entry = self._entry(name, self.fps if fps is None else fps, labels) | ({"meta": dict(meta)} if meta else {})
        try:
            key, count = self._write_frames(name, frames, axes)
            named = {"actions": actions, "states": states, **arrays}
            found = {k: _per_frame(name, k, v, count) for k, v in named.items() if v is not None}
            self._check_arrays(name, found)
            if not all(a < b for a, b in pairwise([0, *breaks, count])):
                raise UserError(f"video {name!r}: breaks must ascend within 1…{count - 1}, got {list(breaks)}")
            with writing(self.folder):
                place = self._layout.commit(key, name, found)
        except BaseException:
            self._layout.roll_back()
            if not self._videos:
                self._arrays = None
            raise
        if breaks := [int(frame) for frame in breaks]:
            entry["breaks"] = breaks
        entry |= {"frames": count, "size": key, **place}
        self._videos.append(entry)
        self._names.add(name)

    def _entry(self, name: str, fps: float, labels: Mapping[str, str | None]) -> dict[str, Any]:
        """Name, rate and labels of a new video, as the index holds them."""
        if not name or name in self._names:
            raise UserError(f"video name {name!r} is empty or already used; use a unique name per video")
        if not fps > 0:
            raise UserError(f"video {name!r}: fps must be above 0, got {fps}")
        if labels["split"] not in (None, *SPLITS):
            raise UserError(f"video {name!r}: split must be train, val or test, got {labels['split']!r}")
        return {"name": name, "fps": float(fps)} | {key: text for key, text in labels.items() if text is not None}

    def _write_frames(self, name: str, frames: Any, axes: str | None) -> tuple[str, int]:
        if axes not in (None, "tchw", "thwc"):
            raise UserError(f"video {name!r}: axes must be 'tchw' or 'thwc', got {axes!r}")
        if hasattr(frames, "__len__") and not isinstance(frames, Iterator):
            self.expect(len(frames), 0)
        blocks = frames if isinstance(frames, Iterator) or not hasattr(frames, "__array__") else [frames]
        key, count, first = "", 0, axes
        for block in blocks:
            array = np.asarray(block)
            single = blocks is frames
            array = array[None] if single and array.ndim in (2, 3) else array
            _check_frames(name, array)
            if array.ndim == 3:
                array = array[:, None]
            else:
                first = first or ("tchw" if channels_first(array.shape, name) else "thwc")
                array = array if first == "tchw" else array.transpose(0, 3, 1, 2)
            size = "x".join(str(n) for n in array.shape[1:])
            if key and size != key:
                raise UserError(f"video {name!r}: frame {count} is {size}, those before {key}; make all one size")
            key = size
            with writing(self.folder):
                self._layout.add_frames(key, array)
            count += len(array)
        if not count:
            raise UserError(f"video {name!r} has no frames, expected at least one; leave it out")
        return key, count

    def expect(self, frames: int, array_bytes: int) -> None:
        """Announce the next video, so that no shard ends within it unless it is longer than a shard.

        Args:
            frames: Number of its frames.
            array_bytes: Bytes of its arrays per frame.
        """
        self._layout.expect(frames, array_bytes)

    def _check_arrays(self, name: str, found: Mapping[str, np.ndarray]) -> None:
        for k in found:
            if not ARRAY_NAME.fullmatch(k) or k == "frames":
                raise UserError(f"video {name!r}: {k!r} is not a valid array name; use letters, digits and _")
        if "actions" in found:
            self._check_actions(name, found["actions"])
        shapes = {k: (a.shape[1:], a.dtype) for k, a in found.items()}
        if self._arrays is None:
            self._arrays = shapes
        if shapes != self._arrays:
            raise UserError(
                f"video {name!r} has arrays {_described(shapes)} but the first has {_described(self._arrays)}; "
                "give every video the same arrays"
            )

    def _check_actions(self, name: str, actions: np.ndarray) -> None:
        discrete = actions.dtype.kind in "iu"
        if discrete and actions.ndim != 1:
            raise UserError(f"video {name!r}: discrete actions must be one index per frame, got {actions.shape}")
        if self.actions is None:
            size = 1 if discrete else actions.shape[-1]
            self.actions = ActionSpec(kind="discrete" if discrete else "continuous", size=size)
        if discrete != (self.actions.kind == "discrete"):
            raise UserError(f"video {name!r}: actions are {actions.dtype} but the store's are {self.actions.kind}")
        if not discrete:
            if actions.shape[1:] != (self.actions.size,):
                raise UserError(f"video {name!r}: actions must be (frames, {self.actions.size}), got {actions.shape}")
            return
        low, high = int(actions.min()), int(actions.max())
        if not self._settled and high >= self.actions.size:
            self.actions = ActionSpec(kind="discrete", size=high + 1)
        if low < 0 or high >= self.actions.size:
            raise UserError(f"video {name!r}: action indices {low}…{high} are not in 0…{self.actions.size - 1}")

    def close(self) -> None:
        """Finish the store and move it to its folder.

        Raises:
            UserError: No video was added; no folder is created.
        """
        if not self._open:
            return
        if not self._videos:
            self.abort()
            raise UserError(f"{self.folder}: no video was added, so no store was written; add at least one")
        try:
            with writing(self.folder):
                fields, sums = self._layout.finish()
                actions = {k: v for k, v in asdict(self.actions).items() if v != ()} if self.actions else None
                arrays = {k: [str(d), *shape] for k, (shape, d) in sorted((self._arrays or {}).items())}
                index = {"format": self._layout.version, "actions": actions, "arrays": arrays, "videos": self._videos}
                write_index(self._part / "meta.json", self.meta)
                write_index(self._part / "index.json", {**index, **fields})
                if fields:
                    write_index(self._part / "index.json", {**index, **fields, "content": content_digest(self._part)})
                write_checksums(self._part, known=sums)
                check_target(self.folder, "store", self.overwrite)  # again: the folder may have changed since
                install_folder(self._part, self.folder)
        except BaseException:
            self.abort()
            raise
        self._open = False
        self._lease.close()

    def abort(self) -> None:
        """Discard the unfinished store; an earlier store stays unchanged."""
        if self._open:
            self._open = False
            self._layout.close()
            shutil.rmtree(self._part, ignore_errors=True)
            self._lease.close()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def channels_first(shape: tuple[int, ...], name: str) -> bool:
    """Whether four axes mean (t, c, h, w) rather than (t, h, w, c).

    An axis of 1 to 4 is channels if the other candidate is longer than 4.

    Raises:
        UserError: Both or neither can be channels.
    """
    before, after = shape[1] <= 4, shape[3] <= 4
    if before == after:
        raise UserError(
            f"video {name!r}: shape {shape} may be (t, c, h, w) or (t, h, w, c); use axes='tchw' or axes='thwc'"
        )
    return before


def is_store(path: Path | str) -> bool:
    """Whether `path` is the folder of a packed store."""
    return (Path(path) / "index.json").is_file() and (Path(path) / "meta.json").is_file()


def content_digest(folder: Path) -> str:
    """Digest of the content of a store, which then need not be read again to compare data."""
    from framecast.data.digest import data_digest
    from framecast.data.store import Store

    return data_digest(Store(folder)).partition("-")[2]


def lease_of(folder: Path) -> Path:
    """File of the lease of a folder that appears when it is complete: beside it."""
    return folder.with_name(f".{folder.name}{LEASE}")


def _report(text: str) -> None:
    print(text, file=sys.stderr)


def _check_frames(name: str, array: np.ndarray) -> None:
    if array.dtype != np.uint8:
        raise UserError(f"video {name!r}: frames must be uint8 (0…255), got {array.dtype}; multiply by 255 and round")
    if array.ndim not in (3, 4) or 0 in array.shape[1:]:
        raise UserError(f"video {name!r}: frames must be (t, c, h, w), (t, h, w, c) or (t, h, w), got {array.shape}")


def _per_frame(name: str, key: str, values: Any, count: int) -> np.ndarray:
    """A per-frame array in its stored form: numbers of at most 64 bits, one row per frame."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8 or array.ndim < 1:
        raise UserError(f"video {name!r}: {key} must be an array of numbers, one row per frame, got {array.dtype}")
    if array.dtype == np.float64:
        array = array.astype(np.float32) if key in ("actions", "states") else array
    if key == "actions":
        if array.dtype.kind == "b":
            array = array.astype(np.int64)
        if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "iu":
            array = array[:, 0]
        if array.ndim == 1 and array.dtype.kind == "f":
            array = array[:, None]
        array = array.astype(np.int64) if array.dtype.kind in "iu" else array.astype(np.float32)
        if len(array) == count - 1:  # the action of the last frame has no recorded effect
            array = np.concatenate([array, np.zeros_like(array, shape=(1, *array.shape[1:]))])
    if len(array) != count:
        raise UserError(f"video {name!r}: {key} has {len(array)} rows for {count} frames; give one per frame")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"video {name!r}: {key} holds values that are not finite; use finite numbers")
    return array


def _described(shapes: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> str:
    return ", ".join(f"{k} {d} {list(shape)}" for k, (shape, d) in sorted(shapes.items())) or "none"
