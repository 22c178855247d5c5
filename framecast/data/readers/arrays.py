"""Reader of NumPy files: .npy memory-mapped, .npz with frames and per-frame arrays, one file or a folder."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.core.io import check_name, shown_name
from framecast.core.npy import map_npy, read_npz
from framecast.core.types import ActionSpec, Clip, ClipSpec
from framecast.data.base import clip_stop
from framecast.data.options import AS_STORED, ReadOptions
from framecast.data.readers.folders import DEFAULT_FPS, fixed_splits, visible_files
from framecast.data.splits import SplitByName
from framecast.media.images import natural_key

_FRAME_NAMES = ("frames", "video", "videos", "images", "observations", "obs", "observation", "image", "x")
_MOST_ACTIONS = 1024


@dataclass(frozen=True)
class _Item:
    """One video: its file and its index along `n`, None if the file is a single video."""

    file: Path
    number: int | None


class Arrays(SplitByName):
    """.npy or .npz files as a source: one file, or a folder of them with one or more videos each.

    Frames are uint8, or floats in 0…1 (times 255, rounded), or bool. In an .npz the frames are named frames, video,
    images, obs(ervations) or x, or are the only array with enough axes; every other array with one row per frame is
    read under its name. `actions` with integers in one column are discrete, floats continuous. Nothing is unpickled.
    Each .npz is unpacked on first use; the last one is kept in memory.

    Args:
        path: File or folder.
        options: axes names the frames' axes: any order of t, h, w with optional n (videos) and c (channels), such as
            "tchw", "nthwc", "thw"; None guesses: an axis of 1 to 4 at a position of channels is channels, 5 axes begin
            with n. fps is the rate, which files do not store. skip_bad leaves out files that cannot be read.

    Attributes:
        skipped: Files left out with `skip_bad`.
        fixed: Name -> split, from `Train/` and `Test/` folders, any case.

    Raises:
        UserError: A file cannot be read, or its arrays are not a video.
    """

    def __init__(self, path: str | os.PathLike[str], options: ReadOptions = AS_STORED) -> None:
        self.path, self._axes = Path(path), options.axes
        self._kept: tuple[Path, dict[str, np.ndarray]] | None = None
        if self._axes is not None:
            _check_axes(self._axes)
        files = array_files(self.path) if self.path.is_dir() else [self.path]
        if not files:
            raise UserError(f"{self.path} holds no .npy or .npz file; give one, or a folder of them")
        self._items: list[_Item] = []
        self.names: list[str] = []
        self.lengths: list[int] = []
        self.sizes: list[tuple[int, int, int]] = []
        self.skipped: list[str] = []
        self._shapes: list[dict[str, tuple[int, ...]]] = []  # of the per-frame arrays of each video
        self._actions: list[np.ndarray] = []
        for file in files:
            try:
                self._add(file)
            except UserError:
                if not options.skip_bad:
                    raise
                self.skipped.append(shown_name(file.name))
        if not self._items:
            raise UserError(f"{self.path}: none of its {len(files)} files can be read, first {self.skipped[0]}")
        channels, height, width = Counter(self.sizes).most_common(1)[0][0]
        self.fixed: dict[str, str] = fixed_splits(self.names)
        if len(files) == 1 and _moving_mnist_axes(self._frames(files[0]).shape, files[0]):
            self.fixed = dict.fromkeys(self.names, "test")
        actions, extras = self._describe_arrays()
        self.spec = ClipSpec(
            channels=channels,
            height=height,
            width=width,
            fps=float(options.fps or DEFAULT_FPS),
            actions=actions,
            extras=extras,
        )

    def _add(self, file: Path) -> None:
        frames = self._ordered(file)
        count, length, *size = frames.shape
        if 0 in frames.shape:
            raise UserError(f"{file} holds no frames (shape {frames.shape} as n t c h w); save at least one")
        _check_values(frames, file)
        name = file.stem if self.path.is_file() else file.relative_to(self.path).with_suffix("").as_posix()
        if name in self.names:
            name = file.relative_to(self.path).as_posix()
        digits = len(str(count - 1))
        items = [_Item(file, number if count > 1 else None) for number in range(count)]
        rows = [self._per_frame_arrays(item, length) for item in items]
        for number, (item, arrays) in enumerate(zip(items, rows, strict=True)):
            self._items.append(item)
            self._shapes.append({key: tuple(values.shape[1:]) for key, values in arrays.items()})
            self._actions += [np.asarray(arrays["actions"])] if "actions" in arrays else []
            self.names.append(f"{name}/{number:0{digits}d}" if count > 1 else name)
            self.lengths.append(length)
            self.sizes.append((size[0], size[1], size[2]))

    def clip(self, index: int, start: int, length: int, stride: int = 1) -> Clip:
        """Frames start, start + stride, … of video `index`; uint8 files are viewed, not copied."""
        item, total = self._items[index], self.lengths[index]
        cut = slice(start, clip_stop(self.names[index], total, start, length, stride), stride)
        frames = as_uint8(self._ordered(item.file)[item.number or 0][cut])
        arrays = {name: values[cut] for name, values in self._per_frame_arrays(item, total).items()}
        return Clip(frames=frames, arrays=arrays, name=self.names[index], fps=self.spec.fps / stride)

    def meta(self) -> dict[str, Any]:
        """Kind, name and options of the source."""
        found: dict[str, Any] = {
            "source": "arrays",
            "path": self.path.resolve().name,
            "axes": self._axes,
            "fps": self.spec.fps,
        }
        return {**found, "skipped": self.skipped} if self.skipped else found

    # ------------------------------------------------------------------------------------------ contents of a file

    def _load(self, file: Path) -> dict[str, np.ndarray]:
        """All arrays of a file by name; that of an .npy is named frames."""
        if self._kept is None or self._kept[0] != file:
            self._kept = (file, load_arrays(file))
        return self._kept[1]

    def _frames(self, file: Path) -> np.ndarray:
        """The frames of a file as they are stored."""
        arrays = self._load(file)
        return arrays[_frames_name(arrays, file)]

    def _ordered(self, file: Path) -> np.ndarray:
        """The frames as a view (n, t, c, h, w)."""
        frames = self._frames(file)
        axes = self._axes or _moving_mnist_axes(frames.shape, file) or guess_axes(frames.shape, file)
        if len(axes) != frames.ndim:
            raise UserError(f"{file} has {frames.ndim} axes {frames.shape}, but --axes {axes} names {len(axes)}")
        letters = axes
        for letter in "nc":
            if letter not in letters:
                frames, letters = frames[None], letter + letters
        return frames.transpose([letters.index(letter) for letter in "ntchw"])

    def _per_frame_arrays(self, item: _Item, length: int) -> dict[str, np.ndarray]:
        """Per-frame arrays of one video, each (t, ...)."""
        arrays = self._load(item.file)
        frames = _frames_name(arrays, item.file)
        found = {}
        for name, values in sorted(arrays.items()):
            if name == frames or values.ndim == 0 or values.dtype.kind not in "biuf":
                continue
            rows = values if item.number is None else values[item.number] if item.number < len(values) else values[:0]
            if item.number is None and values.ndim > 1 and values.shape[:2] == (1, length) and length > 1:
                rows = values[0]
            if name == "actions" and values.dtype.kind in "biu" and rows.ndim == 2 and rows.shape[1] == 1:
                rows = rows[:, 0]
            if rows.ndim and len(rows) == length:
                if rows.dtype.kind == "f" and not np.isfinite(rows).all():
                    at = int(np.flatnonzero(~np.isfinite(rows).reshape(length, -1).all(axis=1))[0])
                    raise UserError(
                        f"{item.file}: {name} is not a finite number at frame {at}; replace or leave it out"
                    )
                found[name] = rows
            elif name == "actions" and rows.ndim and len(rows) == length - 1:
                found[name] = np.concatenate([rows, rows[-1:]])  # the action of the last frame is never used
            elif name == "actions":
                raise UserError(f"{item.file}: actions have {len(values)} rows for {length} frames; save one per frame")
        return found

    def _describe_arrays(self) -> tuple[ActionSpec | None, dict[str, tuple[int, ...]]]:
        """Action space of all videos, and shapes of the arrays that every video has."""
        shapes = {name: shape for name, shape in self._shapes[0].items() if name != "actions"}
        for mine in self._shapes:
            shapes = {name: shape for name, shape in shapes.items() if mine.get(name) == shape}
        actions = self._actions
        if not actions:
            return None, shapes
        if len(actions) < len(self._items) or len({values.shape[1:] for values in actions}) > 1:
            raise UserError(f"{self.path}: expected actions of the same shape for every video; save them for each")
        return action_spec_of(np.concatenate(actions), self.path), shapes


def _moving_mnist_axes(shape: tuple[int, ...], file: Path) -> str:
    """Axes of the published test set of moving digits, (20, videos, 64, 64), 10 frames in and 10 out; "" for others.

    Copies of it have an axis for the channel in addition.
    """
    layouts = {(64, 64): "tnhw", (64, 64, 1): "tnhwc", (1, 64, 64): "tnchw"}
    published = "mnist" in file.name.lower() and shape[:1] == (20,) and (len(shape) == 4 or shape[1:2] != (20,))
    return layouts.get(shape[2:], "") if published else ""


def array_files(folder: Path) -> list[Path]:
    """.npy and .npz files below a folder, in natural order."""
    files = (file for file in visible_files(folder) if file.suffix.lower() in (".npy", ".npz"))
    return sorted(files, key=lambda file: natural_key(file.relative_to(folder)))


def load_arrays(file: Path) -> dict[str, np.ndarray]:
    """Arrays of an .npz by name, or {"frames": memory-mapped array} of an .npy. Nothing is unpickled.

    Raises:
        UserError: The file is missing, damaged, contains Python objects, or unpacks to too much.
    """
    check_name(file)
    arrays = read_npz(file) if file.suffix.lower() == ".npz" else {"frames": map_npy(file)}
    # the names that other formats use for the same
    return {
        plural if (plural := f"{k}s") in ("actions", "states") and plural not in arrays else k: v
        for k, v in arrays.items()
    }


def guess_axes(shape: tuple[int, ...], file: Path) -> str:
    """Axes guessed from a shape, as in `Arrays`.

    Args:
        shape: Shape of the frames.
        file: File of the frames, for the message.

    Raises:
        UserError: The shape is ambiguous.
    """
    if len(shape) == 3:
        if shape[-1] in (3, 4) and min(shape[:2]) >= 8:
            raise UserError(
                f"{file}: shape {shape} is that of one image with channels last; save several frames (t, h, w, c), or "
                "use --axes thw if the last axis is the width"
            )
        return "thw"
    if len(shape) in (4, 5):
        # Four channels may be colour with alpha, or a stack of the last four grey frames as games store it.
        first, last = (shape[axis] in (1, 2, 3) for axis in (-3, -1))
        if not first and not last and 4 in (shape[-3], shape[-1]):
            raise UserError(
                f"{file}: shape {shape} may be frames with alpha or stacks of 4 grey frames; of stacks save the newest "
                "frame of each, of colour the first 3 channels, or keep all 4 by --axes, such as tchw or thwc"
            )
        if len(shape) == 5 and shape[1] == 1 < shape[0]:
            raise UserError(
                f"{file}: shape {shape} may be {shape[0]} videos of one frame or one video of {shape[0]} frames; for "
                "the latter use --axes, such as tnhwc or tnchw"
            )
        if first != last:
            return ("n" if len(shape) == 5 else "") + ("tchw" if first else "thwc")
    raise UserError(f"{file}: the axes of shape {shape} are ambiguous; use --axes, such as tchw, nthwc or tnhw")


def _check_axes(axes: str) -> None:
    if len(set(axes)) != len(axes) or not {"t", "h", "w"} <= set(axes) <= set("ntchw"):
        raise UserError(f'--axes {axes!r} is not valid; use t, h, w and, if present, n, c, each once: "nthwc"')


def _frames_name(arrays: dict[str, np.ndarray], file: Path) -> str:
    named = next((name for name in _FRAME_NAMES if name in arrays), None)
    if named:
        return named
    likely = [name for name, values in arrays.items() if values.ndim >= 4]
    likely = likely or [name for name, values in arrays.items() if values.ndim == 3]
    if len(likely) == 1:
        return likely[0]
    raise UserError(f"{file} has no array called frames, but {', '.join(arrays) or 'nothing'}; name the video frames")


def _check_values(frames: np.ndarray, file: Path) -> None:
    """Check dtype, range and finiteness of frames (n, t, c, h, w), one at a time.

    Raises:
        UserError: They are no uint8, bool or floats in 0…1; the message names the first frame at fault.
    """
    if frames.dtype in (np.uint8, np.bool_):
        return
    if frames.dtype.kind != "f":
        raise UserError(f"{file} holds {frames.dtype}; save frames as uint8, or as floats in 0…1")
    for number, frame in np.ndindex(*frames.shape[:2]):
        at = f"frame {frame}" + (f" of video {number}" if len(frames) > 1 else "")
        check_frame(frames[number, frame], str(file), at)


def check_frame(values: np.ndarray, where: str, at: str) -> None:
    """Check dtype, range and finiteness of one frame.

    Args:
        values: The frame.
        where: File, for the message.
        at: Number of the frame, for the message.

    Raises:
        UserError: It is no uint8, bool or floats in 0…1.
    """
    if values.dtype in (np.uint8, np.bool_):
        return
    if values.dtype.kind != "f":
        raise UserError(f"{where} holds {values.dtype}; save frames as uint8, or as floats in 0…1")
    low, high = values.min(), values.max()  # both are NaN where one value is
    if not (np.isfinite(low) and np.isfinite(high)):
        what = "NaN" if np.isnan(low) else "infinity"
        raise UserError(f"{where} holds {what} in {at}; replace it by numbers in 0…1 or leave the frame out")
    if low < -1e-3 or high > 1 + 1e-3:
        raise UserError(
            f"{where} holds floats from {low:g} to {high:g} in {at}, outside 0…1; scale them to 0…1 or save uint8"
        )


def as_uint8(frames: np.ndarray) -> np.ndarray:
    """Checked frames as uint8: floats 0…1 are multiplied by 255 and rounded."""
    if frames.dtype == np.uint8:
        return frames
    if frames.dtype == np.bool_:
        return frames.astype(np.uint8) * np.uint8(255)
    scaled: np.ndarray = np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)
    return scaled


def action_spec_of(actions: np.ndarray, path: Path) -> ActionSpec:
    """Action space of the actions (rows, …) of all videos: integers in one column are discrete, others continuous.

    Args:
        actions: Actions of all videos, concatenated.
        path: Path of the data, for the message.

    Raises:
        UserError: The numbers are out of range, not finite, or of another shape.
    """
    if actions.dtype.kind in "biu" and (actions.ndim == 1 or actions.shape[1:] == (1,)):
        if actions.min() < 0 or actions.max() >= _MOST_ACTIONS:
            raise UserError(
                f"{path}: discrete actions must be 0 to {_MOST_ACTIONS - 1}; save continuous ones as floats"
            )
        return ActionSpec(kind="discrete", size=int(actions.max()) + 1)
    values = actions.reshape(len(actions), -1).astype(np.float64)
    if actions.ndim > 2 or not np.isfinite(values).all():
        raise UserError(f"{path}: actions must be finite numbers (t,) or (t, a), got shape {actions.shape}")
    low, high = values.min(axis=0), values.max(axis=0)
    return ActionSpec(kind="continuous", size=values.shape[1], low=tuple(low.tolist()), high=tuple(high.tolist()))
