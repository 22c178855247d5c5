"""index.json of packed stores, parsed and checked field by field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from framecast.core.config import from_dict
from framecast.core.errors import UserError
from framecast.core.io import read_json
from framecast.core.types import ActionSpec
from framecast.data.npy_files import ARRAY_NAME
from framecast.data.shards import ShardEntry, check_parts, read_entries

#: Newest format of a store.
STORE_FORMAT = 2

_SIZE = re.compile(r"[1-9]\d{0,5}x[1-9]\d{0,5}x[1-9]\d{0,5}")


@dataclass(frozen=True)
class StoreIndex:
    """Contents of an index.json."""

    version: int
    """Format, 1 or 2."""
    videos: list[dict[str, Any]]
    """Entries of the videos."""
    arrays: dict[str, tuple[int, ...]]
    """Name -> shape of one row, of the per-frame arrays."""
    actions: ActionSpec | None
    """Action space."""
    entries: list[ShardEntry]
    """Shards, of format 2."""
    content: str | None
    """Digest of the content, see `digest.py`, of format 2."""


def parse_index(where: Path | str, data: Mapping[str, Any]) -> StoreIndex:
    """The checked contents of an index.json.

    Args:
        where: The file, for messages.
        data: The mapping in it.

    Raises:
        UserError: It is damaged or of a newer format.
    """
    version = data.get("format")
    if isinstance(version, int) and version > STORE_FORMAT:
        raise UserError(f"{where} has format {version}, this program reads up to {STORE_FORMAT}; update framecast")
    if type(version) is not int or version < 1:
        raise UserError(f"{where} has format {version!r}, expected 1 or {STORE_FORMAT}; make the store again")
    arrays = data.get("arrays", {})
    videos = _checked_videos(where, data, version)
    for name in arrays:
        if not ARRAY_NAME.fullmatch(name):
            raise UserError(f"{where} names an array {name!r}; make the store again")
    entries = read_entries(where, data.get("shards")) if version == 2 else []
    if version == 2:
        check_parts(where, entries, videos)
    content = data.get("content")
    return StoreIndex(
        version=version,
        videos=videos,
        arrays={name: _row_shape(where, name, value) for name, value in sorted(arrays.items())},
        actions=_action_spec(where, data.get("actions")),
        entries=entries,
        content=content if isinstance(content, str) and version == 2 else None,
    )


def _row_shape(where: Path | str, name: str, value: Any) -> tuple[int, ...]:
    """Shape of one row of an array from [type, *shape]."""
    if not isinstance(value, list) or not all(type(n) is int and 0 < n < 2**32 for n in value[1:]):
        raise UserError(f"{where} is damaged (array {name!r}); make the store again")
    return tuple(value[1:])


def parse_size_key(key: str) -> tuple[int, int, int]:
    """Channels, height and width of a key such as 3x64x64."""
    c, h, w = (int(n) for n in key.split("x"))
    return c, h, w


def read_store_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file of a packed store.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing, so this is not a packed store; give a folder made by data import")
    try:
        return read_json(path)
    except UserError as error:
        raise UserError(f"{path} is damaged ({error}); make the store again") from error


def _checked_videos(path: Path | str, index: Mapping[str, Any], version: int) -> list[dict[str, Any]]:
    """The videos of an index, with the type of every field checked."""
    videos = index.get("videos")
    if not isinstance(videos, list) or not videos or not isinstance(index.get("arrays", {}), dict):
        raise UserError(f"{path} lists no videos; make the store again")
    names = set()
    for i, v in enumerate(videos):
        fine = (
            isinstance(v, dict)
            and isinstance(v.get("name"), str)
            and isinstance(v.get("size"), str)
            and _SIZE.fullmatch(v["size"]) is not None
            and type(v.get("frames")) is int
            and 0 < v["frames"] < 2**40
            and (version == 2 or (type(v.get("offset")) is int and 0 <= v["offset"] < 2**48))
            and isinstance(v.get("fps"), int | float)
            and 0 < v["fps"] < 1e9
            and isinstance(v.get("meta", {}), dict)
            and _are_breaks(v.get("breaks", []), v["frames"])
            and all(isinstance(v.get(k, ""), str) for k in ("episode", "camera", "split", "subset"))
            and v["name"] not in names
        )
        if not fine:
            raise UserError(f"{path} is damaged (video {i}); make the store again")
        names.add(v["name"])
    return videos


def _are_breaks(value: Any, frames: int) -> bool:
    """Whether a value is a list of ascending frame numbers inside a video."""
    if not isinstance(value, list) or not all(type(frame) is int for frame in value):
        return False
    return all(a < b for a, b in pairwise([0, *value, frames]))


def _action_spec(path: Path | str, value: Any) -> ActionSpec | None:
    if value is None:
        return None
    known = {f.name for f in fields(ActionSpec)}
    try:
        return from_dict(ActionSpec, {k: v for k, v in value.items() if k in known}, "actions")
    except (AttributeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); make the store again") from error
