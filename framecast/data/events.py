"""Training videos as a whole: their frames and arrays for a model's config, and windows near events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from framecast.core.errors import UserError
from framecast.core.types import ClipRequest, ClipSpec
from framecast.data.base import Segment, Source


class TrainingVideos:
    """Frames and per-frame arrays of the segments of one split.

    Args:
        source: Source of the videos.
        segments: Segments of the split.
    """

    def __init__(self, source: Source, segments: Sequence[Segment]) -> None:
        self.source, self.segments = source, segments

    @property
    def spec(self) -> ClipSpec:
        """Format of frames, actions and further arrays."""
        return self.source.spec

    def frames(self, most: int) -> Iterator[np.ndarray]:
        """At most `most` single frames, uint8 (c, h, w), evenly spaced over all segments."""
        total = sum(s.stop - s.start for s in self.segments)
        stride = max(1, -(-total // most))
        for s in self.segments:
            for start in range(s.start, s.stop, 256 * stride):
                length = min(256, -(-(s.stop - start) // stride))
                yield from self.source.clip(s.video, start, length, stride).frames

    def array(self, name: str) -> np.ndarray:
        """A per-frame array of all segments, one after another, (frames, …)."""
        return np.concatenate([array_of(self.source, s, name) for s in self.segments])


class EventWindows:
    """Windows with an event among their target frames.

    An event is a frame at which a named per-frame array differs from the frame before. An array is chosen uniformly,
    then one of its events, then the place of the event among the targets: rare kinds of events are seen as often as
    frequent ones.

    Args:
        source: Source of the videos.
        segments: Segments of one split.
        request: Window of the model, with names of arrays in `events`; "states:2" is column 2 of an array.

    Raises:
        UserError: An array is missing, or has no event.
    """

    def __init__(self, source: Source, segments: Sequence[Segment], request: ClipRequest) -> None:
        self._request = request
        need = request.source_length
        self._kinds: list[np.ndarray] = []  # rows of video, frame, first and last start of a window in its segment
        for name in request.events:
            array, _, column = name.partition(":")
            if array not in source.spec.extras or (column and not column.isdecimal()):
                known = ", ".join(sorted(source.spec.extras)) or "none"
                raise UserError(f"the data have no per-frame array {name!r} for event windows; they have {known}")
            found = []
            for s in segments:
                if s.stop - s.start < need:
                    continue
                values = array_of(source, s, array).reshape(s.stop - s.start, -1)
                values = values[:, int(column)][:, None] if column else values
                frames = s.start + 1 + np.flatnonzero((values[1:] != values[:-1]).any(1))
                found += [np.stack([np.full_like(frames, v) for v in (s.video, 0, s.start, s.stop - need)], 1)]
                found[-1][:, 1] = frames
            rows = np.concatenate(found) if found else np.zeros((0, 4), np.int64)
            if not len(rows):
                raise UserError(f"the training videos have no change of {name!r}, so no window near one; leave it out")
            self._kinds.append(rows)

    def replace(self, videos: np.ndarray, starts: np.ndarray, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Some windows replaced by windows with an event.

        Args:
            videos: Video of each window, (n,).
            starts: First frame of each window, (n,).
            uniforms: Numbers in [0, 1), (n, 4).
        """
        videos, starts, request = videos.copy(), starts.copy(), self._request
        for i in np.flatnonzero(uniforms[:, 0] < request.event_share).tolist():
            kind = self._kinds[int(uniforms[i, 1] * len(self._kinds))]
            video, frame, first, last = kind[int(uniforms[i, 2] * len(kind))].tolist()
            target = request.future_start + int(uniforms[i, 3] * request.future)
            videos[i], starts[i] = video, min(max(frame - target * request.stride, first), last)
        return videos, starts


def array_of(source: Source, segment: Segment, name: str) -> np.ndarray:
    """A per-frame array of one segment, without reading its frames where the source can."""
    rows = getattr(source, "rows", None)
    parts = []
    for start in range(segment.start, segment.stop, 256):
        length = min(256, segment.stop - start)
        arrays = rows(segment.video, start, length) if rows else source.clip(segment.video, start, length).arrays
        parts.append(np.asarray(arrays[name]))
    return np.concatenate(parts)
