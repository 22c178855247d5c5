"""Windows of videos: which are admissible for a model, and how they are drawn and cropped.

Nothing is written to disk: crops are cut during training from the source's frames.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from framecast.core.errors import UserError
from framecast.core.types import Clip, ClipRequest
from framecast.data.base import Segment, Source, rank_by_hash
from framecast.data.labels import resize_clip


def movement_score(frames: np.ndarray) -> float:
    """Amount of motion in a clip: sum of squared differences of consecutive frames on the scale -1…1.

    Args:
        frames: uint8 (t, c, h, w).

    Returns:
        Sum over pairs, channels and pixels of (2 / 255 * difference)^2: 0 for a still clip, 24 for one RGB pixel that
        switches by the full range and back. Exact: integers are summed, the scale is applied once.

    Source: clip generation of the published multi-scale adversarial system, where clips above 100 count as moving.
    """
    assert frames.dtype == np.uint8, frames.dtype
    assert frames.ndim == 4, frames.shape
    values = frames.reshape(len(frames), -1).astype(np.float64)
    change = (values[1:] - values[:-1]).ravel()
    # Sums of squares of integers stay below 2**53, where float64 is exact in any order of summation. einsum, not dot:
    # BLAS starts its own threads, which compete with torch's and halve the speed of training.
    return float(np.einsum("i,i->", change, change)) * 4 / 65025


class Windows:
    """All windows of one split that satisfy a request, and the rules for drawing, choosing and cutting them.

    Args:
        source: Source of the videos.
        segments: Segments of one split.
        request: Window of the model.

    Attributes:
        left_out: Names of videos too short for a window.
        count: Number of admissible (video, start) pairs.
        longest: Frames of the longest segment.

    Raises:
        UserError: No segment is long enough, or frames are smaller than the crop.
    """

    def __init__(self, source: Source, segments: Sequence[Segment], request: ClipRequest) -> None:
        self.source, self.request = source, request
        need = request.source_length
        segments = split_at_breaks(segments, source)
        self.segments = [s for s in segments if s.stop - s.start >= need]
        fits = {s.video for s in self.segments}
        self.left_out = [source.names[v] for v in dict.fromkeys(s.video for s in segments) if v not in fits]
        self.longest = max((s.stop - s.start for s in segments), default=0)
        if not self.segments:
            raise UserError(_too_short(source, segments, need))
        self._shapes: Sequence[tuple[int, int, int]] | None = getattr(source, "shapes", None)
        if self._shapes is not None:
            for video in sorted(fits):
                self._check_size(video, self._shapes[video])
        # Per segment: number of starts, first frame, video and running total, for vectorised drawing.
        self._room = np.array([s.stop - s.start - need + 1 for s in self.segments], np.int64)
        self._first = np.array([s.start for s in self.segments], np.int64)
        self._video = np.array([s.video for s in self.segments], np.int64)
        order = np.argsort(self._video, kind="stable")
        self.segments = [self.segments[i] for i in order]
        self._room, self._first, self._video = self._room[order], self._first[order], self._video[order]
        self._ends = np.cumsum(self._room)
        self._videos, self._row = np.unique(self._video, return_index=True)
        before = self._ends - self._room
        self._base = before[self._row]
        self._video_room = np.append(self._base[1:], self._ends[-1]) - self._base

    @property
    def count(self) -> int:
        """Number of admissible windows: (video, start) pairs."""
        return int(self._ends[-1])

    def at(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(videos, starts) of the windows with the given indices, 0…count - 1, in order of video and start."""
        row = np.searchsorted(self._ends, numbers, side="right")
        return self._video[row], self._first[row] + numbers - (self._ends[row] - self._room[row])

    def from_uniform(self, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(videos, starts) from uniforms (n, 2) in [0, 1): a video uniformly, regardless of length, then a start.

        Source: the published clip generation (video uniform with replacement, then start uniform).
        """
        which = (uniforms[:, 0] * len(self._videos)).astype(np.int64)
        within = (uniforms[:, 1] * self._video_room[which]).astype(np.int64)
        return self.at(self._base[which] + within)

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """One (video, start): video uniform with replacement, then start uniform."""
        videos, starts = self.from_uniform(rng.random((1, 2)))
        return int(videos[0]), int(starts[0])

    @property
    def num_crop_uniforms(self) -> int:
        """Uniform numbers needed by `crop_from`: one for the bypass, two per try."""
        if self.request.crop is None:
            return 0
        return 1 + 2 * (self.request.motion_filter.tries if self.request.motion_filter else 1)

    def cut(self, video: int, start: int, rng: np.random.Generator | None = None) -> Clip:
        """The window of `request.length` frames, resized, and cropped if `rng` is given.

        Returns:
            A clip whose frames may be a read-only view.

        Raises:
            UserError: Frames are smaller than the crop.
        """
        clip = self.read(video, start)
        if rng is not None and self.request.crop is not None:
            clip.frames = self.crop_from(clip.frames, rng.random(self.num_crop_uniforms))
        return clip

    @property
    def num_target_uniforms(self) -> int:
        """Uniform numbers needed by `blocks_from`: one for the first block, one per block."""
        return 0 if self.request.targets is None else 1 + self.request.targets.count

    def blocks_from(self, uniforms: np.ndarray) -> np.ndarray:
        """Indices of the target blocks of one clip, chosen by `num_target_uniforms` numbers in [0, 1).

        Returns:
            (count,) int64 in 0…future / length - 1; empty without `request.targets`.
        """
        targets = self.request.targets
        if targets is None:
            return np.zeros(0, np.int64)
        blocks = (uniforms[1:] * (self.request.future // targets.length)).astype(np.int64)
        if uniforms[0] < targets.first:
            blocks[0] = 0
        return blocks

    def lead_times(self, blocks: np.ndarray) -> np.ndarray:
        """Distances of the frames of some target blocks from the last context frame, in model frames.

        Args:
            blocks: Indices of blocks, (…, count).

        Returns:
            (…, count * length) int64; 1 is the frame after the context.
        """
        assert self.request.targets is not None
        length = self.request.targets.length
        found = self.request.target_offset + blocks[..., None] * length + np.arange(length)
        return found.reshape(*blocks.shape[:-1], -1)

    def read(self, video: int, start: int, blocks: np.ndarray | None = None) -> Clip:
        """The window before cropping, frames checked and resized.

        Args:
            video: Index of the video.
            start: First source frame of the window.
            blocks: Indices of the target blocks to read after the context; None for the whole window.

        Returns:
            A clip whose arrays cover the whole window, also where only some of its frames are read.
        """
        request = self.request
        if blocks is None:
            clip = self.source.clip(video, start, request.length, request.stride)
        else:
            clip = self._read_blocks(video, start, blocks)
        if self._shapes is None:
            self._check_size(video, clip.frames.shape[1:])
        if request.resize is not None and clip.frames.shape[2:] != request.resize:
            clip.frames, clip.arrays = resize_clip(clip.frames, clip.arrays, request.resize)
        return clip

    def _read_blocks(self, video: int, start: int, blocks: np.ndarray) -> Clip:
        request, source = self.request, self.source
        assert request.targets is not None
        clip = source.clip(video, start, request.context, request.stride)
        parts = [clip.frames]
        for block in blocks.tolist():
            first = start + (request.future_start + block * request.targets.length) * request.stride
            parts.append(source.clip(video, first, request.targets.length, request.stride).frames)
        frames = np.concatenate(parts)
        if source.spec.actions is not None or request.extras:
            rows = getattr(source, "rows", None)
            window = (video, start, request.length, request.stride)
            arrays = dict(rows(*window) if rows is not None else source.clip(*window).arrays)
        else:
            arrays = {}
        return replace(clip, frames=frames, arrays=arrays)

    def crop_from(self, frames: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """A crop of `frames` (t, c, h, w), chosen by `num_crop_uniforms` numbers in [0, 1).

        With a motion filter, crops are drawn until the movement score exceeds the threshold; with probability `bypass`
        the first is used unconditionally, and after `tries` the last is kept.
        """
        assert self.request.crop is not None
        height, width = (min(a, b) for a, b in zip(self.request.crop, frames.shape[2:], strict=True))
        room = np.array([frames.shape[2] - height + 1, frames.shape[3] - width + 1])
        places = (uniforms[1:].reshape(-1, 2) * room).astype(np.int64).tolist()
        motion = self.request.motion_filter
        if motion is None or uniforms[0] < motion.bypass:
            places = places[:1]
        crop = frames
        for top, left in places:
            crop = frames[:, :, top : top + height, left : left + width]
            if motion is not None and len(places) > 1 and movement_score(crop) > motion.threshold:
                break
        return crop

    def fixed(self, n: int, seed: int = 0) -> list[tuple[int, int]]:
        """`n` (video, start) pairs for evaluation, sorted and deterministic; all of them if there are fewer.

        Pairs are spread evenly over the videos, one at a random position in each of equal parts of a video (stratified
        sampling), so that periodic content is sampled in all phases. Windows overlap only if there are too few frames.

        Args:
            n: Number of pairs.
            seed: Random seed of the positions, and of which videos get one more when `n` is not divisible.
        """
        need = self.request.source_length
        names = [f"{self.source.names[s.video]}@{s.start}" for s in self.segments]
        ranked = rank_by_hash(names, seed)
        quota = Counter[int]()
        apart = [(s.stop - s.start) // need for s in self.segments]
        for limits in (apart, self._room.tolist()):  # overlapping windows only after all disjoint ones
            left = n - quota.total()
            while left > 0 and (open_ := [i for i in ranked if quota[i] < limits[i]]):
                for i in open_[:left]:
                    quota[i] += 1
                left = n - quota.total()
        pairs = []
        for i, q in sorted(quota.items()):
            segment, length = self.segments[i], self.segments[i].stop - self.segments[i].start
            if q <= apart[i]:
                borders = [k * length // q for k in range(q + 1)]
                rng = np.random.default_rng([seed, zlib.crc32(names[i].encode())])
                starts = [int(rng.integers(a, b - need + 1)) for a, b in pairwise(borders)]
            else:
                starts = [k * (length - need) // (q - 1) for k in range(q)]
            pairs += [(segment.video, segment.start + start) for start in starts]
        return sorted(pairs)

    def _check_size(self, video: int, shape: Sequence[int]) -> None:
        channels, height, width = shape
        spec, request = self.source.spec, self.request
        name = self.source.names[video]
        if channels != spec.channels:
            raise UserError(
                f"video {name!r} has {channels} channels but the others {spec.channels}; leave it out or convert it"
            )
        height, width = request.resize or (height, width)
        if request.crop is None:
            if request.resize is None and (height, width) != (spec.height, spec.width):
                raise UserError(
                    f"video {name!r} is {height}x{width} but others are {spec.height}x{spec.width}; "
                    f"use one size (--size {spec.height}x{spec.width})"
                )
        elif not request.crop_at_most and (height < request.crop[0] or width < request.crop[1]):
            raise UserError(
                f"video {name!r} is {height}x{width}, smaller than the {request.crop[0]}x{request.crop[1]} crops the "
                f"model trains on; enlarge it (--size {request.crop[0]}x{request.crop[1]}) or leave it out"
            )


def split_at_breaks(
    segments: Sequence[Segment], source: Source, breaks: Mapping[str, Sequence[int]] | None = None
) -> list[Segment]:
    """Segments cut where a video does not continue, so that no window contains a pause or a cut.

    Args:
        segments: Of the source's videos.
        source: Source of the videos.
        breaks: Name -> frames that do not continue the frame before them, ascending; None: those that the source has
            recorded.
    """
    if breaks is None:
        breaks = getattr(source, "breaks", None) or {}
    parts = []
    for segment in segments:
        inside = [f for f in breaks.get(source.names[segment.video], ()) if segment.start < f < segment.stop]
        parts += [Segment(segment.video, a, b) for a, b in pairwise([segment.start, *inside, segment.stop])]
    return parts


def _too_short(source: Source, segments: Sequence[Segment], need: int) -> str:
    if not segments:
        return "this split holds no video; give more videos, or a longer one that can be cut in time"
    longest = max(segments, key=lambda s: s.stop - s.start)
    have = longest.stop - longest.start
    part = "" if have == source.lengths[longest.video] else " in this split"
    return (
        f"video {source.names[longest.video]!r} is the longest and has {have} frames{part} but one clip spans {need}; "
        "give a longer clip, a lower horizon or recursion, or a smaller stride"
    )
