"""Detection of shot cuts: places where a video continues with another picture.

Frames are reduced to a shorter side of 24 px. Two signs must agree. (1) The mean difference of consecutive frames,
after the best shift of up to 3 px (an eighth of the picture), is large and stands out from those before and after it: a
fast pan or a fast object changes many frames in a row, a flash two. (2) The colours differ: half the absolute
difference of the histograms of 4 levels per channel, 0 for equal and 1 for disjoint colours. Or, for two shots of the
same colours, the difference stands out further from those before it and the two frames hardly correlate.

One frame may lie between two shots, black, white or a blend of both as conversions of the frame rate leave it: then the
frames before and after it are compared. After a flash these are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from framecast.media.resize import resize_frames

_SIDE = 24  # shorter side of the reduced frames, px
_SHIFT = 3  # largest shift that is tried, px
_LEAST = 14.0  # grey levels of mean difference at a cut
_PROMINENCE = 2.5  # ratio to the largest difference within two frames before and after
_COLOURS = 0.15  # least difference of the histograms
_SAME_COLOURS_PROMINENCE = 4.0  # ratio to the differences before it at a cut between shots of the same colours
_CORRELATION = 0.3  # largest correlation of two such shots
_REACH = 2


class CutDetector:
    """Cuts of a video whose frames arrive one block after another.

    Attributes:
        differences: Mean difference of each frame to the one before it after the best shift, grey levels; 0 at first.
        other: Whether each frame shows other colours than the one before it, or the same ones at other places.
    """

    def __init__(self) -> None:
        self.differences: list[float] = []
        self.other: list[bool] = []
        self._recent: list[np.ndarray] = []  # reduced frames, the newest last
        self._histograms: list[np.ndarray] = []  # of the newest frames
        self._across: dict[
            int, float
        ] = {}  # frame -> difference of the frames before and after it, where colours differ
        self._shifted = 0  # differences from here on were taken at the best shift
        self._until = 0  # and are still to be taken so, before this frame

    def add(self, frames: np.ndarray) -> None:
        """Take the next frames, uint8 (t, c, h, w)."""
        height, width = frames.shape[2:]
        scale = _SIDE / min(height, width)
        size = (max(8, round(height * scale)), max(8, round(width * scale)))
        for frame in resize_frames(frames, size).astype(np.float32):
            histogram = _histogram(frame)
            first = not self._recent
            self.differences.append(0.0 if first else float(np.abs(frame - self._recent[-1]).mean()))
            self.other.append(not first and self._is_other(frame, histogram))
            self._recent, self._histograms = [*self._recent[-_REACH - 1 :], frame], [*self._histograms[-2:], histogram]
            doubtful = self._compare_across(frame, histogram) if len(self.differences) > 2 else False
            self._compensate(doubtful)

    def _is_other(self, frame: np.ndarray, histogram: np.ndarray) -> bool:
        """Whether the newest frame has other colours than the one before it, or the same ones at other places."""
        if float(np.abs(histogram - self._histograms[-1]).sum()) / 2 >= _COLOURS:
            return True
        near = self.differences[1:-1][-_REACH:]
        if not near or self.differences[-1] < max(_LEAST, _SAME_COLOURS_PROMINENCE * max(near)):
            return False
        return _correlation(self._recent[-1], frame) < _CORRELATION

    def _compare_across(self, frame: np.ndarray, histogram: np.ndarray) -> bool:
        """Compare the newest frame with the last but one; whether there may be a cut between."""
        before, number = self._recent[-3], len(self.differences) - 2
        raw = float(np.abs(frame - before).mean())
        if raw < _LEAST or min(self.differences[-2:]) < raw / _PROMINENCE:
            return False
        if float(np.abs(histogram - self._histograms[-3]).sum()) / 2 < _COLOURS:
            return False
        self._across[number] = _difference(before, frame, raw)
        return True

    def _compensate(self, doubtful: bool) -> None:
        """Take the best shift for the newest frame and those around it, if one of them may be a cut: it costs time."""
        newest = len(self.differences) - 1
        if doubtful or (self.differences[-1] >= _LEAST and self.other[-1]):
            self._until = newest + _REACH + 1
        if newest >= self._until:
            return
        for back in range(min(_REACH, len(self._recent) - 2) + 1):
            number = newest - back
            if number >= max(1, self._shifted):
                before, after = self._recent[-back - 2], self._recent[-back - 1]
                self.differences[number] = _difference(before, after, self.differences[number])
        self._shifted = newest + 1

    def cuts(self) -> list[int]:
        """Frames that begin a new shot, ascending."""
        found = set()
        for number, difference in enumerate(self.differences):
            if difference >= _LEAST and self.other[number] and self._stands_out(number, number, difference):
                found.add(number)
        for number, difference in self._across.items():
            if difference >= _LEAST and self._stands_out(number, number + 1, difference):
                found.add(number + int(self.differences[number + 1] > self.differences[number]))
        return sorted(found)

    def _stands_out(self, first: int, last: int, difference: float) -> bool:
        """Whether a difference, over the frames first to last, is larger than those before and after them."""
        near = self.differences[max(1, first - _REACH) : first] + self.differences[last + 1 :][:_REACH]
        return difference > _PROMINENCE * max(near, default=0.0)


def find_cuts(frames: Iterable[np.ndarray]) -> list[int]:
    """Frames that begin a new shot.

    Args:
        frames: uint8 (c, h, w), in order.
    """
    detector = CutDetector()
    for frame in frames:
        detector.add(frame[None])
    return detector.cuts()


def _difference(before: np.ndarray, after: np.ndarray, best: float) -> float:
    """Mean absolute difference of two frames (c, h, w) where they overlap, at the best shift; `best`: without one."""
    for dy, dx in _shifts():
        one = before[:, max(0, dy) : before.shape[1] + min(0, dy), max(0, dx) : before.shape[2] + min(0, dx)]
        two = after[:, max(0, -dy) : after.shape[1] + min(0, -dy), max(0, -dx) : after.shape[2] + min(0, -dx)]
        best = min(best, float(np.abs(one - two).mean()))
    return best


def _correlation(before: np.ndarray, after: np.ndarray) -> float:
    """Correlation of two frames (c, h, w), -1…1, each channel about its own mean; 1 if one of them is of one colour."""
    one, two = (frame - frame.mean((1, 2), keepdims=True) for frame in (before, after))
    scale = float(np.sqrt(np.square(one).sum() * np.square(two).sum()))
    return float((one * two).sum()) / scale if scale else 1.0


def _shifts() -> Iterator[tuple[int, int]]:
    reach = range(-_SHIFT, _SHIFT + 1)
    return ((dy, dx) for dy in reach for dx in reach if dy or dx)


def _histogram(frame: np.ndarray) -> np.ndarray:
    """Shares of the colours of a frame (c, h, w), 4 levels per channel, each split between the two nearest levels."""
    shares = []
    for channel in frame:
        place = channel.ravel() / 255 * 3
        low = np.minimum(place.astype(np.int64), 2)
        part = place - low
        shares.append(np.bincount(low, 1 - part, 4) + np.bincount(low + 1, part, 4))
    joined: np.ndarray = np.concatenate(shares) / (frame.shape[1] * frame.shape[2] * len(frame))
    return joined
