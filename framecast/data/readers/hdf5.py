"""Reader of HDF5 files of episodes: robomimic, Minari, and any layout with a group for each episode.

    data/demo_0/obs/agentview_image    robomimic: (t, h, w, 3), with data/demo_0/actions and mask/train, mask/valid
    episode_0/observations             Minari: t + 1 frames, t actions
    observations/images/top            one episode in a file

Images may be stored encoded (JPEG, PNG): a row of bytes for each frame, padded or of variable length.

An episode is the group above `obs`, `observations` or `images`, otherwise the one that holds the images. Other layouts
are described by a mapping in a YAML file of the same name beside it (`run.hdf5`, `run.yaml`):

    episodes: runs/*            groups of the episodes; "" for one episode in the file
    frames: {top: cam0/rgb}     camera: path in the group; a path alone for a single camera
    actions: cmd                and states, each a path in the group
    arrays: {force: ft}         further per-frame arrays
    fps: 20
    axes: thwc
"""

from __future__ import annotations

import fnmatch
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.config import from_dict
from framecast.core.errors import UserError, imported
from framecast.core.io import read_file, shown_name
from framecast.data.options import AS_STORED, ReadOptions
from framecast.data.readers.episodes import Recording, Recordings, axes_of, checked_axes, matched_rows, row_name
from framecast.data.readers.folders import visible_files
from framecast.media.images import natural_key, open_image, to_rgb

SUFFIXES = (".hdf5", ".h5", ".he5")
_OBSERVATIONS = ("obs", "observations", "observation", "images")
_IGNORED = ("next_obs", "infos", "mask")
_CACHE_BYTES = (
    1 << 26
)  # of each data set: chunks of images exceed the default of 1 MB, and would be read again and again
_SPLITS = {"train": "train", "valid": "val", "val": "val", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Mapping of a file's paths to episodes, cameras and arrays; see the module's description."""

    frames: dict[str, str]
    episodes: str = "*"
    actions: str = ""
    states: str = ""
    arrays: dict[str, str] = field(default_factory=dict)
    fps: float | None = None
    axes: str = ""


class Hdf5(Recordings):
    """HDF5 files of episodes as a source, read without copying.

    Args:
        path: File, or folder of files.
        options: Size and fit of frames; fps, if the file does not store it; axes of the frames; skip_bad leaves out
            files that cannot be read, and depth maps.

    Raises:
        UserError: h5py is not installed, a file is damaged, or holds no images that are recognised.
    """

    def __init__(self, path: str | os.PathLike[str], options: ReadOptions = AS_STORED) -> None:
        path = Path(path)
        files = hdf5_files(path) if path.is_dir() else [path]
        recordings: list[Recording] = []
        fixed: dict[str, str] = {}
        rates: list[float] = []
        skipped: list[str] = []
        for file in files:
            prefix = "" if len(files) == 1 else file.relative_to(path).with_suffix("").as_posix()
            try:
                found, splits, rate = _read_file(file, prefix, options)
            except UserError:
                if not options.skip_bad:
                    raise
                skipped.append(shown_name(file.name))
                continue
            recordings += found
            fixed |= splits
            rates += [rate] if rate else []
        super().__init__(path, recordings, options, rates[0] if rates else None, fixed, skipped)


def _read_file(file: Path, prefix: str, options: ReadOptions) -> tuple[list[Recording], dict[str, str], float | None]:
    """Cameras of all episodes of a file, the splits it prescribes, by episode, and its frames per second."""
    group, layout = _Data(file), _layout_beside(file)
    if layout is None:
        layout = Layout(frames={})
        found = _recognised(group.root, file, options.axes or "", options.skip_bad)
    else:
        found = _mapped(group.root, file, layout)
    if not found:
        raise UserError(
            f"{file} holds no images that are recognised (uint8 arrays of frames); describe its layout in "
            f"{file.with_suffix('.yaml').name}, see docs/data-robots.md"
        )
    recordings: list[Recording] = []
    fixed: dict[str, str] = {}
    for item in found:
        name = "/".join(part for part in (prefix, item.episode.removeprefix("data/")) if part) or file.stem
        for split in _masks(group.root, item.episode):
            fixed[name] = split
        lazy = item.frames
        if not isinstance(lazy, _EncodedImages):
            lazy = _Data(file, lazy.name)
        recordings.append(Recording(file, name, item.camera, lazy, item.axes, item.rows))
    if layout.fps is not None and not layout.fps > 0:
        raise UserError(f"{file}: the mapping beside it has fps {layout.fps}, expected a number above 0")
    return recordings, fixed, layout.fps or _control_rate(group.root)


class _Data:
    """A data set of a file, opened on first use and again in every process."""

    def __init__(self, file: Path, name: str = "/") -> None:
        self._file, self._name = file, name
        self._opened: Any = None
        data = self.root if name == "/" else self.root[name]
        self.shape: tuple[int, ...] = getattr(data, "shape", ())
        self.ndim, self.dtype = len(self.shape), getattr(data, "dtype", None)

    @property
    def root(self) -> Any:
        if self._opened is None:
            self._opened = _open(self._file)
        return self._opened

    def __getitem__(self, cut: Any) -> Any:
        try:
            return self.root[self._name][cut]
        except OSError as error:  # a damaged chunk, or a compression that this build of HDF5 lacks
            reason = str(error).splitlines()[0]
            raise UserError(f"{self._file}: {self._name} cannot be read ({reason}); copy or export it again") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


class _EncodedImages(_Data):
    """A data set of encoded images, one row of bytes for each, as an array of frames (t, h, w, 3)."""

    def __init__(self, file: Path, name: str) -> None:
        super().__init__(file, name)
        self.shape, self.dtype = (self.shape[0], *self._decoded(0).shape), np.dtype(np.uint8)
        self.ndim = len(self.shape)

    def __getitem__(self, cut: Any) -> Any:
        if isinstance(cut, slice):
            return np.stack([self._decoded(number) for number in range(*cut.indices(self.shape[0]))])
        return self._decoded(int(cut))

    def _decoded(self, number: int) -> np.ndarray:
        content = io.BytesIO(np.asarray(super().__getitem__(number), np.uint8).tobytes())
        with open_image(content, f"{self._file}: image {number} of {self._name}") as image:
            return to_rgb(image)


def hdf5_files(folder: Path) -> list[Path]:
    """HDF5 files below a folder, in natural order."""
    files = (file for file in visible_files(folder) if file.suffix.lower() in SUFFIXES)
    return sorted(files, key=lambda file: natural_key(file.relative_to(folder)))


def _open(file: Path) -> Any:
    h5py = imported("h5py", f"{file} is an HDF5 file; install its reader: pip install 'framecast[hdf5]'")
    try:
        return h5py.File(file, "r", rdcc_nbytes=_CACHE_BYTES)
    except OSError as error:
        raise UserError(f"{file} is no HDF5 file, or damaged; copy it again") from error


def _layout_beside(file: Path) -> Layout | None:
    for name in (f"{file.stem}.yaml", f"{file.stem}.yml", "mapping.yaml"):
        description = file.with_name(name)
        if description.is_file():
            given = read_file(description)
            if isinstance(given.get("frames"), str):
                given["frames"] = {"main": given["frames"]}
            return from_dict(Layout, given, str(description))
    return None


def _datasets(group: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """(path, data set) below a group; links that lead to other files, nowhere or to a known group are left out."""
    import h5py

    seen, place = seen if seen is not None else set(), h5py.h5o.get_info(group.id).addr
    if place in seen:
        return
    seen.add(place)
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink) or name in _IGNORED:
            continue
        member, inner = group[name], f"{path}/{name}" if path else name
        if isinstance(member, h5py.Group):
            yield from _datasets(member, inner, seen)
        elif isinstance(member, h5py.Dataset):
            yield inner, member


def _is_image(data: Any) -> bool:
    """Whether a data set holds frames: four axes with channels, or three of uint8."""
    if _is_encoded(data):
        return True
    if data.ndim == 4:
        return bool(data.dtype.kind == "f" or data.dtype == np.uint8)
    return bool(data.ndim == 3 and data.dtype == np.uint8 and min(data.shape[1:]) >= 8)


def _is_encoded(data: Any) -> bool:
    """Whether the rows of a data set are JPEG or PNG images, by the first one."""
    import h5py

    variable = data.ndim == 1 and h5py.check_vlen_dtype(data.dtype) == np.uint8
    if not (variable or (data.ndim == 2 and data.dtype == np.uint8)) or data.shape[0] == 0:
        return False
    head = np.asarray(data[0])[:8].tobytes()
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))


def _frames(data: Any, file: Path) -> Any:
    """A data set of frames, decoded on reading where they are encoded images."""
    return _EncodedImages(file, data.name) if _is_encoded(data) else data


def _recognised(root: Any, file: Path, axes: str, skip_bad: bool) -> list[Recording]:
    """Cameras of all episodes, by the names of groups."""
    found, every = [], list(_datasets(root))
    episodes: dict[str, list[str]] = {}
    for path, data in every:
        if _is_image(data):
            if data.dtype.kind == "f" and "depth" in path.lower():
                if skip_bad:
                    continue
                raise UserError(
                    f"{file}: {path} is a depth map, which cannot be read; remove it, or leave it out with --skip-bad"
                )
            parts = path.split("/")
            at = next((i for i, part in enumerate(parts) if part.lower() in _OBSERVATIONS), len(parts) - 1)
            episodes.setdefault("/".join(parts[:at]), []).append(path)
    for episode, images in episodes.items():
        inside = {path: data for path, data in every if path.startswith(f"{episode}/" if episode else "")}
        rows = {_row_name(path, episode): data for path, data in inside.items() if path not in images}
        small = {name: data for name, data in rows.items() if data.dtype.kind in "biuf" and 1 <= data.ndim <= 3}
        for path in images:
            where = f"{file}: {path}"
            data = _frames(inside[path], file)
            named = axes if not isinstance(data, _EncodedImages) else ""
            order = checked_axes(named, data.shape, where) if named else axes_of(data.shape, where)
            length = data.shape[order.index("t")]
            arrays = {k: v[()] for k, v in small.items() if len(v) in (length, length - 1)}
            if "actions" in small:
                arrays["actions"] = small["actions"][()]
            camera = path.removeprefix(episode).strip("/").split("/")
            camera = [part for part in camera if part.lower() not in _OBSERVATIONS] or ["main"]
            matched = matched_rows(arrays, length, where)
            found.append(Recording(file, episode, "-".join(camera), data, order, matched))
    return found


def _row_name(path: str, episode: str) -> str:
    inner = path.removeprefix(episode).strip("/").split("/")
    return row_name("_".join(part for part in inner if part.lower() not in _OBSERVATIONS) or "states")


def _mapped(root: Any, file: Path, layout: Layout) -> list[Recording]:
    """Cameras of all episodes, by a mapping."""
    found = []
    for episode in _matching_groups(root, layout.episodes):
        group = root[episode] if episode else root
        for camera, path in layout.frames.items():
            data = _frames(_member(group, path, file, episode), file)
            axes = layout.axes or axes_of(data.shape, f"{file}: {episode}/{path}")
            if len(axes) != data.ndim or axes[:1] != "t":
                raise UserError(f"{file}: axes {axes!r} of {path} must begin with t and name {data.ndim} axes")
            named = {"actions": layout.actions, "states": layout.states, **layout.arrays}
            rows = {name: _member(group, inner, file, episode)[()] for name, inner in named.items() if inner}
            where = f"{file}: {episode}"
            found.append(Recording(file, episode, camera, data, axes, matched_rows(rows, data.shape[0], where)))
    return found


def _matching_groups(root: Any, pattern: str) -> list[str]:
    import h5py

    places = [""]
    for part in pattern.strip("/").split("/") if pattern.strip("/") else []:
        places = [
            f"{place}/{name}".strip("/")
            for place in places
            for name in (root[place] if place else root)
            if fnmatch.fnmatchcase(name, part) and isinstance((root[place] if place else root)[name], h5py.Group)
        ]
    return places


def _member(group: Any, path: str, file: Path, episode: str) -> Any:
    if path not in group or not hasattr(group[path], "shape"):
        raise UserError(f"{file}: {episode or 'the file'} holds no data set {path!r}; fix the mapping beside the file")
    return group[path]


def _masks(root: Any, episode: str) -> list[str]:
    """Split that robomimic's masks prescribe for an episode."""
    if "mask" not in root:
        return []
    name, found = episode.rsplit("/", 1)[-1].encode(), []
    for key, split in _SPLITS.items():
        if key in root["mask"] and name in set(np.asarray(root["mask"][key]).astype("S").tolist()):
            found.append(split)
    return found


def _control_rate(root: Any) -> float | None:
    """Frames per second of robomimic's environment."""
    stored: Mapping[str, Any] = root["data"].attrs if "data" in root else {}
    try:
        rate = json.loads(stored.get("env_args", "{}")).get("env_kwargs", {}).get("control_freq")
    except (ValueError, AttributeError, TypeError):
        return None
    return float(rate) if isinstance(rate, int | float) and rate > 0 else None
