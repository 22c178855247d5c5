"""What a source of video is, and how its videos are split. One source is one file beside this one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from framecast.core.errors import UserError
from framecast.core.types import Clip, ClipSpec

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class RecordSettings:
    """How TFRecords are read."""

    train: str = "*train*"
    """Files to train on: a pattern for their names or paths below the folder."""
    validation: str = "*val*"
    """Files for validation."""
    test: str = "*test*"
    """Files for scoring."""
    length: int | None = None
    """Frames used of every record, from its first; if not given, all that each has."""
    skip: int = 1
    """Take every so manyeth of these frames; actions between them are dropped."""
    fps: float | None = None
    """Frames per second of the records; if not given what they say, else 10."""

    def __post_init__(self) -> None:
        for name in ("length", "skip"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--records.{name} must be at least 1, got {value}")
        if self.fps is not None and not self.fps > 0:
            raise UserError(f"--records.fps must be above 0, got {self.fps}")


@dataclass(frozen=True)
class Segment:
    """Frames [start, stop) of one video: what a split consists of."""

    video: int
    start: int
    stop: int


class Source(Protocol):
    """Videos that can be asked for clips.

    spec: what a frame looks like (of the most common frame size where there are several).
    names: one per video, unique, in natural order.  lengths: frames per video.
    Where frames are costly, a source may also have `rows(index, start, length, stride=1)`: the per-frame arrays alone.
    """

    @property
    def spec(self) -> ClipSpec:
        """Frames and actions of this source."""

    @property
    def names(self) -> Sequence[str]:
        """One name per video."""

    @property
    def lengths(self) -> Sequence[int]:
        """Frames per video."""

    def __len__(self) -> int:
        """Number of videos."""

    def clip(self, index: int, start: int, length: int, stride: int = 1) -> Clip:
        """Frames start, start + stride, … (`length` of them) of video `index`.

        Raises: IndexError beyond the video's end; UserError, naming file and remedy, when a file cannot be read.
        """

    def splits(self, window: int) -> dict[str, list[Segment]]:
        """train / val / test as segments, no frame in two of them. window: source frames of one clip, the gap left
        where a video is cut in time."""

    def meta(self) -> dict[str, Any]:
        """Where the videos come from: generator, version, seed, parameters, or paths' names. Stable JSON."""


class World(Protocol):
    """A recorded scene brought back to one of its frames, which goes on under actions of one's own.

    A maker whose scenes can be brought back has `replay(meta, name, actions) -> World`: the store's meta, the video's
    name, and what was done in it up to the frame where the world shall stand.
    """

    def frame(self) -> np.ndarray:
        """What is to be seen now, uint8 (c, h, w), at the size in which it was generated."""

    def act(self, action: Any) -> None:
        """One frame further: an index, or a vector of floats, as it was recorded."""

    def save(self) -> Any:
        """The state it is in, for `restore`."""

    def restore(self, state: Any) -> None:
        """Be in that state again."""


def clip_stop(name: object, frames: int, start: int, length: int, stride: int) -> int:
    """One past the last frame of a clip of `length` frames from `start`, every `stride`-th, of a video of `frames`.

    name: of the video, for the message.
    Raises: IndexError when they are not all there.
    """
    stop = start + (length - 1) * stride + 1
    if start < 0 or length < 1 or stride < 1 or stop > frames:
        raise IndexError(f"{name} has {frames} frames; frames {start} to {stop - 1} at stride {stride} were asked for")
    return stop


def rank_by_hash(names: Sequence[str], seed: int = 0) -> list[int]:
    """Indices of `names` in the order of a seeded hash: stable when a video is added, blind to naming schemes."""
    return sorted(range(len(names)), key=lambda i: hashlib.sha256(f"{seed}:{names[i]}".encode()).digest())
