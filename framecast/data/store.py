"""The packed store: frames as memory-mapped uint8 arrays, the fastest source of clips.

A store of format 1 is a folder:

    index.json               format, actions; per video name, frames, size, offset, fps, meta, episode, camera, split,
                             breaks
    meta.json                origin of the videos
    frames-<C>x<H>x<W>.npy   uint8 (n, c, h, w), frames of all videos of that size, concatenated
    <array>-<C>x<H>x<W>.npy  (n, …), per-frame arrays (actions, rewards, …), one row per frame

Plain .npy and JSON can be read by any program; the same videos give the same bytes. Format 2 divides the same into
shards (`shards.py`), for data larger than memory or disk.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.checksums import Checksum
from framecast.core.errors import UserError
from framecast.core.migration import migrate_terminals
from framecast.core.npy import map_npy
from framecast.core.remote import RemoteFolder, is_address
from framecast.core.types import Clip, ClipSpec
from framecast.data.base import Source, clip_stop
from framecast.data.digest import short_digest
from framecast.data.labels import resize_clip
from framecast.data.options import AS_STORED, ReadOptions
from framecast.data.shard_cache import CachedShards, cache_limit
from framecast.data.shards import LocalShards, ShardFolder, Shards, check_mixed
from framecast.data.splits import SplitByName
from framecast.data.store_index import StoreIndex, parse_index, parse_size_key, read_store_json
from framecast.data.writer import DatasetWriter, DiskFull, is_store, require_space
from framecast.media.cuts import CutDetector
from framecast.media.resize import Size, target_size

__all__ = ["DatasetWriter", "Store", "estimate", "is_store", "pack", "require_space"]

_BLOCK_BYTES = 1 << 25  # maximum bytes of frames read at a time while packing, and maximum number of frames:
_BLOCK = 64


class NoVideo(UserError):
    """None of the videos of a source can be read."""


class Store(SplitByName):
    """A packed store as a source.

    Frames are views of the memory-mapped files: reading a clip copies nothing, writing to one is an error.

    Args:
        folder: Folder written by `DatasetWriter` or `pack`; of format 2 also the address of one, such as
            s3://bucket/store, which is then read through a cache.

    Attributes:
        fixed: Name -> split where the store prescribes splits, otherwise empty.
        groups: Name -> episode where the store has episodes.
        games: Name -> game, of videos whose meta has one.
        subsets: Name -> named part of its split.
        breaks: Name -> frames that do not continue the frame before them (pauses and cuts).
        shapes: (c, h, w) per video.
        parts: (shard, row, frames) of the parts of every video; None for format 1.
        fps: Frames per second per video.

    Raises:
        UserError: A file is missing, damaged or of a newer format.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder: Path | str = RemoteFolder(folder).address if is_address(folder) else Path(folder)
        index, self._meta, place = _opened(self.folder)
        videos = index.videos
        self.names: list[str] = [v["name"] for v in videos]
        self.lengths: list[int] = [v["frames"] for v in videos]
        self.fps: list[float] = [float(v["fps"]) for v in videos]
        self.shapes: list[tuple[int, int, int]] = [parse_size_key(v["size"]) for v in videos]
        self.fixed: dict[str, str] = {v["name"]: v["split"] for v in videos if "split" in v}
        self.groups: dict[str, str] = {v["name"]: v["episode"] for v in videos if "episode" in v}
        self.cameras: dict[str, str] = {v["name"]: v["camera"] for v in videos if "camera" in v}
        self.subsets: dict[str, str] = {v["name"]: v["subset"] for v in videos if "subset" in v}
        self.games: dict[str, str] = {v["name"]: str(v["meta"]["game"]) for v in videos if "game" in v.get("meta", {})}
        self.breaks: dict[str, list[int]] = {v["name"]: v["breaks"] for v in videos if "breaks" in v}
        self._video_meta = [v.get("meta", {}) for v in videos]
        self.content = index.content
        self._read: Shards | _Files
        if place is not None:
            self._read = Shards(place, [v["parts"] for v in videos])
            extras = index.arrays
        else:
            assert isinstance(self.folder, Path)
            self._read = _Files(self.folder, videos, list(index.arrays))
            extras = {k: tuple(a.shape[1:]) for k, a in self._read.arrays[0].items() if k != "frames"}
        self.parts = self._read.parts if isinstance(self._read, Shards) else None
        self._row_names = list(extras)
        common, _ = Counter(self.shapes).most_common(1)[0]
        self.spec = ClipSpec(
            channels=common[0],
            height=common[1],
            width=common[2],
            fps=Counter(self.fps).most_common(1)[0][0],
            actions=index.actions,
            extras={name: shape for name, shape in extras.items() if name != "actions"},
        )

    def clip(self, index: int, start: int, length: int, stride: int = 1) -> Clip:
        """Frames start, start + stride, … (`length` of them) of video `index`, as read-only views."""
        stop = clip_stop(self.names[index], self.lengths[index], start, length, stride)
        arrays = self._read.views(index, start, stop, stride)
        return Clip(
            frames=arrays.pop("frames"),
            arrays=arrays,
            name=self.names[index],
            fps=self.fps[index] / stride,
            meta=self._video_meta[index],
        )

    def rows(self, index: int, start: int, length: int, stride: int = 1) -> dict[str, np.ndarray]:
        """The per-frame arrays of `clip` without its frames, as read-only views."""
        stop = clip_stop(self.names[index], self.lengths[index], start, length, stride)
        return self._read.views(index, start, stop, stride, self._row_names)

    def readahead(self, shards: Iterable[int]) -> None:
        """Read whole shards in the background, in this order; nothing for format 1."""
        if isinstance(self._read, Shards):
            self._read.folder.readahead(shards)

    def require(self, shards: int) -> None:
        """Check that a number of shards fit into the cache, where there is one.

        Raises:
            UserError: They do not.
        """
        if isinstance(self._read, Shards):
            self._read.folder.require(shards)

    def meta(self) -> dict[str, Any]:
        """Contents of meta.json: generator, version and parameters."""
        return dict(self._meta)


def _opened(folder: Path | str) -> tuple[StoreIndex, dict[str, Any], ShardFolder | None]:
    """Index and meta of a store, and where its shards are; None for format 1."""
    if isinstance(folder, Path):
        where = folder / "index.json"
        index, meta = parse_index(where, read_store_json(where)), read_store_json(folder / "meta.json")
        if index.version == 1:
            check_mixed(folder, [entry.name for entry in os.scandir(folder)], 1)
            return index, meta, None
        return index, meta, LocalShards(folder, index.entries)
    from framecast.data.cache import cache_folder

    remote = RemoteFolder(folder)
    data, text = remote.json("index.json")
    index, meta = parse_index(remote.place("index.json"), data), remote.json("meta.json")[0]
    if index.version == 1:
        raise UserError(
            f"{remote} is a store of format 1, which is not read from an address; download it, or write format 2 with "
            "data import --shards 512MiB"
        )
    root = cache_folder() / "shards"
    own = short_digest(remote.address, Checksum().update(text).text)
    return index, meta, CachedShards(remote, index.entries, root / own, root, cache_limit())


class _Files:
    """The arrays of a store of format 1.

    Args:
        folder: Folder of the store.
        videos: Entries of its index.
        names: Names of the per-frame arrays.
    """

    def __init__(self, folder: Path, videos: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
        self.folder = folder
        self._offsets = [v["offset"] for v in videos]
        rows = Counter[str]()
        for v in videos:
            rows[v["size"]] = max(rows[v["size"]], v["offset"] + v["frames"])
        arrays = {key: self._open(key, rows[key], names) for key in rows}
        for key, found in arrays.items():
            if "terminals" in found and "terminated" not in found:
                own = [v for v in videos if v["size"] == key]
                rows_of = [v["offset"] for v in own], [v["frames"] for v in own]
                found["terminated"] = migrate_terminals(found.pop("terminals"), *rows_of)
                found["terminated"].flags.writeable = False
        self.arrays = [arrays[v["size"]] for v in videos]

    def _open(self, key: str, rows: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Views of every array of one frame size, checked against the index."""
        found = {}
        for name in ("frames", *names):
            path = self.folder / f"{name}-{key}.npy"
            array = _map_array(path)
            shape = (rows, *(parse_size_key(key) if name == "frames" else array.shape[1:]))
            if array.shape != shape or (name == "frames" and array.dtype != np.uint8):
                raise UserError(
                    f"{path} holds {array.dtype} {array.shape} but index.json has uint8 {shape}; make the store again"
                    if name == "frames"
                    else f"{path} has {array.shape[:1]} rows but index.json has {rows}; make the store again"
                )
            found[name] = array
        return found

    def views(
        self, video: int, start: int, stop: int, stride: int, names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Rows start…stop - 1 of a video at a stride, by array, as read-only views; see `Shards.views`."""
        first, arrays = self._offsets[video], self.arrays[video]
        cut = slice(first + start, first + stop, stride)
        if names is None:
            return {name: array[cut] for name, array in arrays.items()}
        return {name: arrays[name][cut] for name in names}


def estimate(source: Source, size: Size = None) -> int:
    """Estimated bytes of a packed `source`, from its most common frame size."""
    spec = source.spec
    height, width = target_size(spec.height, spec.width, size)
    extra = 8 * spec.action_size + 8 * sum(int(np.prod(shape)) for shape in spec.extras.values())
    return sum(source.lengths) * (spec.channels * height * width + extra)


def pack(
    source: Source,
    folder: Path | str,
    options: ReadOptions = AS_STORED,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
    shards: int | None = None,
) -> Store:
    """A source's videos as a packed store in `folder`.

    At most a few dozen frames are held in memory. Prescribed splits, parts and episodes of the source are kept, masks
    and joints follow the frames.

    Args:
        source: Videos to pack.
        folder: Folder of the store.
        options: Frame size and fit; with `skip_bad`, videos that cannot be read are left out and listed in meta.json
            under "skipped".
        progress: Called with the number of frames done and the total.
        overwrite: Replace an existing store.
        shards: Largest size of a shard in bytes, for a store of format 2; None for format 1.

    Raises:
        UserError: Disk space is too small, or a video cannot be read.
    """
    require_space(folder, estimate(source, options.size))
    total, done, skipped = sum(source.lengths), 0, []
    fixed, groups = getattr(source, "fixed", None) or {}, getattr(source, "groups", None) or {}
    cameras, subsets = getattr(source, "cameras", None) or {}, getattr(source, "subsets", None) or {}
    breaks = getattr(source, "breaks", None) or {}
    cuts = 0
    meta = source.meta()
    if options.size is not None:
        meta["packed"] = options.meta()
    with DatasetWriter(folder, source.spec.fps, source.spec.actions, meta, overwrite, shards) as writer:
        for i, name in enumerate(source.names):
            reader = _Reader(source, i, options, partial(_report, progress, done, total))
            reader.breaks += breaks.get(name, ())
            writer.expect(source.lengths[i], reader.row_bytes)
            try:
                writer.add(
                    iter(reader),
                    name=name,
                    meta=reader.meta,
                    fps=reader.fps,
                    axes="tchw",
                    episode=groups.get(name),
                    camera=cameras.get(name),
                    split=fixed.get(name),
                    subset=subsets.get(name),
                    breaks=reader.breaks,
                    **reader.arrays,
                )
            except DiskFull:
                raise
            except UserError:
                if not options.skip_bad:
                    raise
                skipped.append(name)
            done += source.lengths[i]
            cuts += len(reader.breaks) - len(breaks.get(name, ()))
        if cuts:
            writer.meta["notes"] = [*writer.meta.get("notes", []), f"shot cuts, which clips do not cross: {cuts}"]
        if skipped:
            writer.meta["skipped"] = skipped
            if len(skipped) == len(source.names):
                raise NoVideo(f"none of the {len(skipped)} videos could be read, first {skipped[0]!r}")
    return Store(folder)


def _report(progress: Callable[[int, int], None] | None, before: int, total: int, done: int) -> None:
    if progress is not None:
        progress(before + done, total)


class _Reader:
    """Iterator over the frames of one video that collects its per-frame arrays."""

    def __init__(self, source: Source, index: int, options: ReadOptions, report: Callable[[int], None]) -> None:
        self.source, self.index, self.options, self.report = source, index, options, report
        self.arrays: dict[str, list[Any]] = {}
        self.meta: dict[str, Any] = {}
        self.fps = source.spec.fps
        self.breaks: list[int] = []
        self.cuts = CutDetector() if options.cuts and getattr(source, "may_have_cuts", False) else None
        first, self.block, self.row_bytes = None, 1, 0
        with contextlib.suppress(UserError):  # reported, or skipped, when the frames are read
            first = source.clip(index, 0, 1)
        if first is not None:
            self.meta, self.fps = first.meta, first.fps
            self.block = max(1, min(_BLOCK, _BLOCK_BYTES // first.frames.nbytes))
            self.arrays = {name: [] for name in first.arrays}
            self.row_bytes = sum(array.nbytes for array in first.arrays.values())

    def __iter__(self) -> Iterator[np.ndarray]:
        length = self.source.lengths[self.index]
        for start in range(0, length, self.block):
            clip = self.source.clip(self.index, start, min(self.block, length - start))
            frames, arrays = resize_clip(clip.frames, clip.arrays, self.options.size, self.options.fit)
            for name, array in arrays.items():
                self.arrays[name].extend(array)
            if self.cuts is not None:
                self.cuts.add(frames)
            yield frames
            self.report(start + len(clip.frames))
        if self.cuts is not None:
            self.breaks[:] = sorted({*self.breaks, *self.cuts.cuts()})


def _map_array(path: Path) -> np.ndarray:
    """A .npy file as a read-only memory-mapped view. Never unpickles."""
    if not path.is_file():
        raise UserError(f"{path} is missing; make the store again")
    try:
        # The plain view: slicing a memmap object costs ten times as much as slicing an array.
        return map_npy(path).view(np.ndarray)
    except UserError as error:
        raise UserError(f"{path} is damaged or cut short; make the store again") from error
