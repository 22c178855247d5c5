"""Base of readers of recorded episodes: image arrays of one or more cameras, and the rows that belong to them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.core.io import shown_name
from framecast.core.types import Clip, ClipSpec
from framecast.data.base import clip_stop
from framecast.data.options import ReadOptions
from framecast.data.readers.arrays import action_spec_of, as_uint8, check_frame, guess_axes
from framecast.data.readers.folders import DEFAULT_FPS
from framecast.data.splits import SplitByName
from framecast.media.images import natural_key
from framecast.media.resize import resize_frames, target_size


@dataclass(frozen=True)
class Recording:
    """One camera of one episode.

    frames: array, or data set that is sliced like one, by its axes.  axes: such as "thwc".  rows: per-frame arrays, as
    long as the frames.
    """

    file: Path
    episode: str
    camera: str
    frames: Any
    axes: str
    rows: Mapping[str, np.ndarray]


class Recordings(SplitByName):
    """Cameras of episodes as a source: every camera of every episode is a video, all cameras of one in one split.

    Args:
        path: File or folder.
        recordings: All cameras of all episodes.
        options: Size and fit of frames; fps, which these files seldom store.
        fps: Frames per second that the file stores.
        fixed: Episode -> split, if the file prescribes it.
        skipped: What was left out before, with `skip_bad`.

    Attributes:
        skipped: Files, episodes and cameras left out with `skip_bad`.

    Raises:
        UserError: There are none, or their frames or rows are not valid.
    """

    def __init__(
        self,
        path: Path,
        recordings: list[Recording],
        options: ReadOptions,
        fps: float | None = None,
        fixed: Mapping[str, str] | None = None,
        skipped: Sequence[str] = (),
    ) -> None:
        self.path, self.options = path, options
        self.skipped = list(skipped)
        shapes, recordings = self._readable(recordings)
        self._items = sorted(recordings, key=lambda item: natural_key(f"{item.episode}/{item.camera}"))
        several = len({item.camera for item in self._items}) > 1
        self.names: list[str] = [f"{i.episode}/{i.camera}" if several else i.episode for i in self._items]
        self.lengths: list[int] = [item.frames.shape[item.axes.index("t")] for item in self._items]
        self.groups = {n: i.episode for n, i in zip(self.names, self._items, strict=True)} if several else {}
        self.cameras = {n: i.camera for n, i in zip(self.names, self._items, strict=True)} if several else {}
        splits = fixed or {}
        if all(item.episode in splits for item in self._items):
            self.fixed = {n: splits[i.episode] for n, i in zip(self.names, self._items, strict=True)}
        self.sizes = [target_size(*shapes[id(item)][1:], options.size, options.fit) for item in self._items]
        channels = Counter(c for c, _, _ in shapes.values()).most_common(1)[0][0]
        height, width = Counter(self.sizes).most_common(1)[0][0]
        common = {k: v.shape[1:] for k, v in self._items[0].rows.items()}
        for item in self._items:
            common = {k: s for k, s in common.items() if k in item.rows and item.rows[k].shape[1:] == s}
        self._common = tuple(common)
        actions = [item.rows["actions"] for item in self._items] if "actions" in common else []
        self.spec = ClipSpec(
            channels=channels,
            height=height,
            width=width,
            fps=float(options.fps or fps or DEFAULT_FPS),
            actions=action_spec_of(np.concatenate(actions), path) if actions else None,
            extras={name: shape for name, shape in common.items() if name != "actions"},
        )

    def _readable(self, recordings: list[Recording]) -> tuple[dict[int, tuple[int, int, int]], list[Recording]]:
        """(c, h, w) of recordings by identity, and the recordings that can be read."""
        shapes: dict[int, tuple[int, int, int]] = {}
        for item in recordings:
            try:
                shapes[id(item)] = self._shape(item)
            except UserError:
                if not self.options.skip_bad:
                    raise
                self.skipped.append(f"{item.episode}/{item.camera}")
        if not shapes:
            first = f", first {shown_name(self.skipped[0])}" if self.skipped else ""
            raise UserError(f"{self.path}: none of its episodes can be read{first}; copy or export them again")
        return shapes, [item for item in recordings if id(item) in shapes]

    def _shape(self, item: Recording) -> tuple[int, int, int]:
        """(c, h, w) of a recording; floats are checked, frame by frame."""
        sizes = dict(zip(item.axes, item.frames.shape, strict=True))
        where = f"{item.file}: {item.episode}/{item.camera}"
        if 0 in sizes.values():
            raise UserError(f"{where} holds no frames; remove it")
        if item.frames.dtype not in (np.uint8, np.bool_):
            for number in range(sizes["t"]):
                check_frame(_stored(item, number, number + 1), where, f"frame {number}")
        return sizes.get("c", 1), sizes["h"], sizes["w"]

    def clip(self, index: int, start: int, length: int, stride: int = 1) -> Clip:
        """Frames start, start + stride, … of one camera of an episode, with the rows of the episode."""
        item = self._items[index]
        stop = clip_stop(self.names[index], self.lengths[index], start, length, stride)
        # Consecutive frames are read and then thinned: stored chunks are decompressed once each.
        stored = _stored(item, start, stop)
        stored = stored[..., None] if "c" not in item.axes else stored
        axes = item.axes if "c" in item.axes else f"{item.axes}c"
        frames = as_uint8(stored.transpose([axes.index(letter) for letter in "tchw"])[::stride])
        if self.options.size is not None:
            frames = resize_frames(np.ascontiguousarray(frames), self.options.size, self.options.fit)
        arrays = {name: item.rows[name][start:stop:stride] for name in self._common}
        return Clip(frames=frames, arrays=arrays, name=self.names[index], fps=self.spec.fps / stride)

    def meta(self) -> dict[str, Any]:
        """Kind, name and options of the source."""
        kind = type(self).__name__.lower()
        found: dict[str, Any] = {
            "source": kind,
            "path": self.path.resolve().name,
            "fps": self.spec.fps,
            **self.options.meta(),
        }
        return {**found, "skipped": self.skipped} if self.skipped else found


def _stored(item: Recording, start: int, stop: int) -> np.ndarray:
    """Frames start to stop in the order of axes in which they are stored."""
    cut, axis = slice(start, stop), item.axes.index("t")
    return np.asarray(item.frames[(*[slice(None)] * axis, cut)] if axis else item.frames[cut])


def checked_axes(axes: str, shape: tuple[int, ...], where: str) -> str:
    """The axes of an image array as the user names them.

    Args:
        axes: Such as "tchw" or "hwt".
        shape: Shape of the array.
        where: Place, for the message.

    Raises:
        UserError: They are not t, h, w and, if present, c, one for each axis of the array.
    """
    if len(axes) != len(shape) or sorted(axes) not in (sorted("thw"), sorted("tchw")):
        raise UserError(
            f"{where}: axes {axes!r} do not fit the shape {shape}; name t, h, w and, if present, c, each once"
        )
    return axes


def axes_of(shape: tuple[int, ...], where: str) -> str:
    """Axes of an image array: (t, h, w), (t, h, w, c) or (t, c, h, w)."""
    return guess_axes(shape, Path(where))


def matched_rows(values: Mapping[str, np.ndarray], length: int, where: str) -> dict[str, np.ndarray]:
    """Arrays with one row per frame; those of transitions, one row shorter, get a last row of zeros.

    Args:
        values: Arrays by name.
        length: Frames.
        where: Place, for the message.

    Raises:
        UserError: Actions have another number of rows.
    """
    found = {}
    for name, rows in values.items():
        if rows.dtype.kind not in "biuf" or rows.ndim < 1:
            continue
        if len(rows) == length - 1:
            rows = np.concatenate([rows, np.zeros_like(rows, shape=(1, *rows.shape[1:]))])
        if len(rows) != length:
            if name == "actions":
                raise UserError(f"{where}: actions have {len(rows)} rows for {length} frames; save one per frame")
            continue
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            raise UserError(f"{where}: {name} holds values that are not finite; replace or remove them")
        integer = name == "actions" and rows.dtype.kind in "biu"
        rows = rows[:, 0] if integer and rows.shape[1:] == (1,) else rows
        found[name] = rows.astype(np.int64) if integer else rows
    return found


def row_name(path: str) -> str:
    """Name of the per-frame array for a path in the episode."""
    name = re.sub(r"\W", "_", path).lstrip("_0123456789")[:60] or "values"
    return {"action": "actions", "state": "states"}.get(name, name)
