"""Opening data: read directly where possible, otherwise decoded once into the cache."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import framecast
from framecast.core.config import suggest, to_dict
from framecast.core.errors import UserError
from framecast.core.lease import one_writer
from framecast.core.remote import is_address
from framecast.data import SOURCES
from framecast.data.base import Source
from framecast.data.digest import short_digest
from framecast.data.options import DataConfig
from framecast.data.readers.folders import visible_files
from framecast.data.registry import find_source, make_source

#: Shorter side, px, to which videos are resized if no size is given.
VIDEO_SIZE = "128"
_DECODED = ("videos", "lerobot")  # kinds of videos: decoded into the cache at that size


def cache_folder() -> Path:
    """Folder of decoded videos and generated sets: $FRAMECAST_CACHE, else the user's cache folder."""
    if set_by_user := os.environ.get("FRAMECAST_CACHE"):
        return Path(set_by_user)
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "framecast"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home)) / "framecast" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME", home / ".cache")) / "framecast"


def open_data(data: DataConfig, progress: Callable[[int, int], None] | None = None) -> tuple[Source, DataConfig]:
    """The source behind `data.path`, and the config with the size frames were resized to.

    Videos and folders of frames are decoded once into the cache; stores, .npy files and TFRecords are read directly.

    Args:
        data: Path of a packed store, video, folder of videos or frames, arrays or records, or a source's name; options.
        progress: Called during decoding or generation with parts done and the total.

    Raises:
        UserError: The path does not exist or holds nothing that can be read.
    """
    from framecast.data.open import kind_of, open_path
    from framecast.data.store import Store, pack
    from framecast.media.resize import parse_size

    if is_address(data.path):
        if data.size is not None:
            raise UserError(
                f"--size is for data on this machine; import {data.path} at that size with data import --size --shards"
            )
        return open_path(data.path, data.options()), data
    path = Path(data.path).expanduser()
    if data.path in SOURCES and not path.exists():
        folder = (
            cache_folder()
            / f"{data.path}-{short_digest(framecast.__version__, to_dict(find_source(data.path).Config()))}"
        )
        with _made_once(folder) as missing:
            if missing:
                make_source(data.path, folder, progress=progress)
        return Store(folder), data
    if not path.exists() and not path.suffix and "/" not in data.path:
        near = suggest(data.path, [*SOURCES, *(p.name for p in Path().iterdir() if not p.name.startswith("."))])
        raise UserError(f"--data {data.path}: is neither a file or folder nor the name of a source; {near}")
    options = data.options()
    kind = kind_of(path, options)
    size = data.size or (VIDEO_SIZE if kind in _DECODED else None)
    if kind == "records":
        return open_path(path, options), dataclasses.replace(data, trained_size=size)
    if kind in ("store", "arrays", "hdf5", "minari") and size is None:
        return open_path(path, options), data
    settings = [size, data.fit, data.axes, framecast.__version__, *(["skip-bad"] if data.skip_bad else [])]
    settings += ["cuts"] if data.cuts else []
    folder = cache_folder() / f"{path.stem}-{short_digest(_signature(path), *settings)}"
    with _made_once(folder) as missing:
        if missing:
            # videos are resized while decoding: those of phones at full size exceed the memory
            decoded = dataclasses.replace(options, size=parse_size(size))
            pack(open_path(path, decoded if kind in _DECODED else options), folder, decoded, progress)
    return Store(folder), dataclasses.replace(data, trained_size=size)


@contextlib.contextmanager
def _made_once(folder: Path) -> Iterator[bool]:
    """Within: whether the set is missing; while another process makes it, this one waits and then uses it."""
    if (folder / "index.json").is_file():
        yield False
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    lease = folder.with_name(f".{folder.name}.making")

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    with one_writer(lease, f"{folder.name} of the cache", wait=True, say=say):
        yield not (folder / "index.json").is_file()


def _signature(path: Path) -> list[Any]:
    """State of a file or folder without reading it: names, sizes and modification times."""
    files = [path] if path.is_file() else sorted(p for p in visible_files(path) if p.is_file())
    return [str(path.resolve()), [[str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns] for f in files]]
