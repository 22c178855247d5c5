"""Digests of data: whether a run is resumed on the data it was trained on, and whether frames were trained on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from framecast.data.base import Source

#: Largest number of videos whose content is read; of more, as many are taken at equal distances.
VIDEOS = 1024


def data_digest(source: Source) -> str:
    """Digest of the data, "origin-content", 16 hexadecimal digits each.

    The first part depends on names, lengths and origin of the videos, the second on the first, middle and last frame of
    each video and on their arrays, such as actions; it does not depend on names and their order. A source whose
    `content` is that second part, computed when it was written, is not read.
    """
    origin = {k: v for k, v in source.meta().items() if k not in ("path", "folder")}
    names = list(source.names), [int(n) for n in source.lengths], origin
    known: str | None = getattr(source, "content", None)
    if known:
        return f"{short_digest(*names)}-{known}"
    videos = sorted({i * len(source) // VIDEOS for i in range(VIDEOS)}) if len(source) > VIDEOS else range(len(source))
    content = sorted(_video_digest(source, video) for video in videos)
    return f"{short_digest(*names)}-{short_digest(len(source), *content)}"


def same_data(stored: str, digest: str) -> bool:
    """Whether two digests are of the same data; one of an older version has no content, which is then not compared."""
    if "-" in stored and "-" in digest:
        return stored == digest
    return stored.split("-")[0] == digest.split("-")[0]


def same_content(stored: str, digest: str) -> bool:
    """Whether two digests are of the same frames under any names; where one has no content, of the same data."""
    if "-" in stored and "-" in digest:
        return stored.split("-")[1] == digest.split("-")[1]
    return same_data(stored, digest)


def short_digest(*parts: Any) -> str:
    """Sixteen hexadecimal digits of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _video_digest(source: Source, video: int) -> str:
    length = int(source.lengths[video])
    found = hashlib.sha256(str(length).encode())
    for frame in sorted({0, length // 2, length - 1} if length else ()):
        clip = source.clip(video, frame, 1)
        for name, array in sorted({**clip.arrays, "frames": clip.frames}.items()):
            found.update(f"{name} {array.dtype.str} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
