"""Import into shards by several processes or a cluster: parts are stores of their own, joined at the end.

Finished parts are kept beside the output until all are there, so the same command resumes after a kill. The store is
the same for any number of processes.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import framecast
from framecast.core.checksums import CHECKSUMS, read_checksums, write_checksums
from framecast.core.commit import check_target, install_folder, new_folder
from framecast.core.config import from_dict, to_dict
from framecast.core.errors import UserError
from framecast.core.io import read_json, write_json
from framecast.core.jobs import Job, run_jobs
from framecast.core.lease import one_writer
from framecast.core.types import Clip
from framecast.data.base import Source
from framecast.data.npy_files import write_index, writing
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.shards import shard_name
from framecast.data.store import NoVideo, Store, estimate, pack, require_space
from framecast.data.writer import content_digest, lease_of
from framecast.media.resize import target_size

#: Videos of one part, at most; more make its repetition after a kill too long.
MOST_VIDEOS = 4096


class Part:
    """Some videos of a source, as a source.

    Args:
        source: The source.
        videos: Indices of the videos.
    """

    def __init__(self, source: Source, videos: Sequence[int]) -> None:
        self._source, self._videos = source, videos
        self.names = [source.names[v] for v in videos]
        self.lengths = [source.lengths[v] for v in videos]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._videos)

    def clip(self, index: int, start: int, length: int, stride: int = 1) -> Clip:
        """Frames of a video of this part."""
        return self._source.clip(self._videos[index], start, length, stride)


def pack_parallel(
    path: str,
    folder: Path,
    options: ReadOptions,
    shards: int,
    workers: int = 1,
    cluster: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> Store:
    """A packed store of format 2 of what a path holds, written by several processes; the same call resumes.

    Args:
        path: What `open_path` reads.
        folder: Folder of the store.
        options: Settings of the reader, frame size and fit; with `skip_bad` as in `pack`.
        shards: Largest size of a shard, bytes.
        workers: Number of processes.
        cluster: "auto" or the address of a Ray cluster; path and folder must then be on a disk that its nodes share.
        progress: Called with the number of frames done and the total.
        overwrite: Replace an existing store.

    Raises:
        UserError: Disk space is too small, a video cannot be read, or a process was killed.
    """
    folder = Path(os.path.abspath(folder))
    check_target(folder, "store", overwrite)
    source = open_path(path, options)
    require_space(folder, estimate(source, options.size))
    parts = divide(source, options, shards)
    work = folder.with_name(f".{folder.name}.import")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with one_writer(lease_of(folder), folder.name, say=lambda text: print(text, file=sys.stderr)):
        _prepare(work, source, options, shards, parts)
        left = [i for i in range(len(parts)) if not _complete(work, i)]
        lengths = [sum(source.lengths[v] for v in part) for part in parts]
        done = sum(lengths) - sum(lengths[i] for i in left)

        def report(number: int, result: Any) -> None:
            nonlocal done
            done += lengths[left[number]]
            if progress is not None:
                progress(done, sum(lengths))

        if progress is not None and done:
            progress(done, sum(lengths))
        common = {"path": os.path.abspath(path), "options": to_dict(options), "shards": shards}
        jobs = [
            Job("framecast.data.parallel_pack:pack_task", {**common, "out": str(_place(work, i)), "videos": parts[i]})
            for i in left
        ]
        run_jobs(jobs, workers, cluster, report)
        with writing(folder):
            _join(work, folder, source, options, len(parts), overwrite)
            shutil.rmtree(work, ignore_errors=True)
    return Store(folder)


def divide(source: Source, options: ReadOptions, shards: int) -> list[list[int]]:
    """Consecutive videos in parts of about one shard each."""
    spec = source.spec
    height, width = target_size(spec.height, spec.width, options.size)
    row = spec.channels * height * width + 8 * spec.action_size
    row += 8 * sum(int(np.prod(shape)) for shape in spec.extras.values())
    parts: list[list[int]] = [[]]
    size = 0
    for video, length in enumerate(source.lengths):
        if parts[-1] and (size + length * row > shards * 63 // 64 or len(parts[-1]) >= MOST_VIDEOS):
            parts.append([])
            size = 0
        parts[-1].append(video)
        size += length * row
    return parts


def pack_task(path: str, options: dict[str, Any], shards: int, out: str, videos: list[int]) -> int:
    """Number of videos written as one part; those that cannot be read are listed in its meta, with `skip_bad`."""
    folder = Path(out)
    source, settings = _opened(path, json.dumps(options, sort_keys=True))
    part = Part(source, videos)
    try:
        # of a part that a killed process left half-joined
        return len(pack(part, folder, settings, overwrite=True, shards=shards))
    except NoVideo:
        write_json(folder.with_suffix(".json"), {"skipped": part.names})
        return 0


@functools.lru_cache(maxsize=1)
def _opened(path: str, options: str) -> tuple[Source, ReadOptions]:
    """The source and its options, opened once per process."""
    settings = from_dict(ReadOptions, json.loads(options), "options")
    return open_path(path, settings), settings


def _place(work: Path, part: int) -> Path:
    return work / f"part-{part:05d}"


def _prepare(work: Path, source: Source, options: ReadOptions, shards: int, parts: list[list[int]]) -> None:
    """A work folder of this import; parts of one with other data or options are deleted."""
    origin = {k: v for k, v in source.meta().items() if k not in ("path", "folder")}
    plan = {
        "version": framecast.__version__,
        "source": json.loads(json.dumps([list(source.names), [int(n) for n in source.lengths], origin], default=str)),
        "options": {k: v for k, v in to_dict(options).items() if k != "skip_bad"},  # finished parts skipped nothing
        "shards": shards,
        "parts": len(parts),
    }
    path = work / "plan.json"
    if path.is_file() and read_json(path) == plan:
        return
    shutil.rmtree(work, ignore_errors=True)
    with writing(work):
        work.mkdir()
    write_json(path, plan)


def _complete(work: Path, part: int) -> bool:
    place = _place(work, part)
    if place.with_suffix(".json").is_file():
        return True
    try:
        Store(place)
    except UserError:  # not written yet, or its shards were moved by a process that was killed while joining
        return False
    return True


def _join(work: Path, folder: Path, source: Source, options: ReadOptions, count: int, overwrite: bool) -> None:
    """Join the parts, without copying their shards, and move the store to its folder."""
    meta = source.meta()
    if options.size is not None:
        meta["packed"] = options.meta()
    part = new_folder(folder)
    try:
        index: dict[str, Any] = {"format": 2, "shards": [], "videos": []}
        sums: dict[str, str] = {}
        skipped: list[str] = []
        for number in range(count):
            place = _place(work, number)
            if place.with_suffix(".json").is_file():
                skipped += read_json(place.with_suffix(".json"))["skipped"]
                continue
            own = read_json(place / "index.json")
            skipped += read_json(place / "meta.json").get("skipped", [])
            for name in ("actions", "arrays"):
                if index.setdefault(name, own[name]) != own[name]:
                    raise UserError(
                        f"video {own['videos'][0]['name']!r} has {name} {own[name]} but the first has {index[name]}; "
                        "give every video the same"
                    )
            before = len(index["shards"])
            known = read_checksums(place / CHECKSUMS)
            for entry in own["shards"]:
                name = shard_name(len(index["shards"]))
                _link(place / entry["file"], part / name)
                sums[name] = known[entry["file"]][0]
                index["shards"].append({**entry, "file": name})
            for video in own["videos"]:
                video["parts"] = [[before + shard, row, frames] for shard, row, frames in video["parts"]]
                index["videos"].append(video)
        if not index["videos"]:
            raise UserError(f"none of the {len(skipped)} videos could be read, first {skipped[0]!r}")
        cuts = sum(len(v.get("breaks", [])) for v in index["videos"])
        cuts -= sum(map(len, (getattr(source, "breaks", None) or {}).values()))
        if cuts > 0:
            meta["notes"] = [*meta.get("notes", []), f"shot cuts, which clips do not cross: {cuts}"]
        if skipped:
            meta["skipped"] = skipped
        write_index(part / "meta.json", meta)
        write_index(part / "index.json", index)
        write_index(part / "index.json", {**index, "content": content_digest(part)})
        write_checksums(part, known=sums)
        check_target(folder, "store", overwrite)  # again: the folder may have changed since
        install_folder(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _link(there: Path, here: Path) -> None:
    """A file under a second name, so that a process killed meanwhile loses nothing; moved where that is impossible."""
    try:
        os.link(there, here)
    except OSError:
        os.replace(there, here)
