"""Protocols of video sources, segments of splits, and settings of TFRecord readers."""

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
    """Settings of TFRecord readers."""

    train: str = "*train*"
    """Training files, as a pattern for names or paths below the folder."""
    validation: str = "*val*"
    """Validation files, as a pattern."""
    test: str = "*test*"
    """Test files, as a pattern."""
    length: int | None = None
    """Frames used per record, from the first; all if not given."""
    skip: int = 1
    """Keep every n-th of these frames; actions of the other frames are dropped."""
    fps: float | None = None
    """Frames per second of the records; if not given, the rate they store, or 10."""

    def __post_init__(self) -> None:
        for name in ("length", "skip"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--records.{name} must be at least 1, got {value}")
        if self.fps is not None and not self.fps > 0:
            raise UserError(f"--records.fps must be above 0, got {self.fps}")


@dataclass(frozen=True)
class Segment:
    """Frames [start, stop) of one video, the unit of a split."""

    video: int
    start: int
    stop: int


class Source(Protocol):
    """Videos from which clips are read.

    A source may also have `breaks`: name -> frames that do not continue the frame before them, after a pause or a cut,
    and `may_have_cuts`: whether shot cuts are searched for when it is packed.
    A source whose frames are slow to decode may also have `rows(index, start, length, stride=1)`, which returns the
    per-frame arrays only.

    Attributes:
        spec: Frames and actions; the most common frame size where there are several.
        names: Unique names, one per video, in natural order.
        lengths: Frames per video.
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

        Raises:
            IndexError: The clip exceeds the video.
            UserError: A file cannot be read.
        """

    def splits(self, window: int) -> dict[str, list[Segment]]:
        """train / val / test as disjoint segments.

        Args:
            window: Source frames of one clip; the gap where a video is cut in time.
        """

    def meta(self) -> dict[str, Any]:
        """Origin of the videos as JSON: generator, version and parameters, or names of files and options."""


class World(Protocol):
    """A recorded scene restored to one of its frames, which continues under new actions.

    A synthetic source that can restore its scenes has `replay(meta, name, actions) -> World`: meta of the store, name
    of the video and its actions up to the frame wanted.
    """

    def frame(self) -> np.ndarray:
        """The current frame, uint8 (c, h, w), at the size of generation."""

    def act(self, action: Any) -> Any:
        """Advance by one frame with an action in its recorded form: an index or a vector of floats.

        Games return their reward and whether the game ended.
        """

    def save(self) -> Any:
        """The current state, for `restore`."""

    def restore(self, state: Any) -> None:
        """Return to a state of `save`."""


def clip_stop(name: object, frames: int, start: int, length: int, stride: int) -> int:
    """One past the last source frame of a clip.

    Args:
        name: Name of the video, for the message.
        frames: Frames of the video.
        start: First frame of the clip.
        length: Frames of the clip.
        stride: Source frames between two frames of the clip.

    Raises:
        IndexError: The clip exceeds the video.
    """
    stop = start + (length - 1) * stride + 1
    if start < 0 or length < 1 or stride < 1 or stop > frames:
        raise IndexError(f"{name} has {frames} frames, got frames {start} to {stop - 1} at stride {stride}")
    return stop


def rank_by_hash(names: Sequence[str], seed: int = 0) -> list[int]:
    """Indices of `names` ordered by a seeded hash, which is stable under added videos and independent of naming."""
    return sorted(range(len(names)), key=lambda i: hashlib.sha256(f"{seed}:{names[i]}".encode()).digest())
