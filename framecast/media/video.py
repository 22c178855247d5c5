"""Reading of video files: properties, streams of frames, and clips. Writing is in write.py.

Frames come out as uint8 RGB (c, h, w). Rotation and mirroring flags are applied, 10 and more bits become 8 by rounding,
grey is repeated three times, transparency is composited on black, odd sizes stay odd, pixels are taken as stored
(no aspect correction), and colours without a stated matrix are BT.709 from 720 lines on, BT.601 below, as players do.
Variable rates become constant by the rule of timing.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.core.types import Clip
from framecast.media.animation import animation_frames
from framecast.media.images import on_black
from framecast.media.index import SKIP_BAD, VideoIndex, VideoInfo, opened, timing_at, video_index
from framecast.media.resize import Fit, Placement, Size, placement
from framecast.media.write import write_video

__all__ = ["VIDEO_SUFFIXES", "VideoInfo", "iter_frames", "probe", "read_video", "write_video"]

VIDEO_SUFFIXES = frozenset((".mp4", ".mkv", ".mov", ".webm", ".avi", ".gif", ".webp", ".m4v", ".mpg", ".mpeg", ".ts"))

#: Largest size in bytes of a clip read at once (8 GiB); longer ones are streamed by `iter_frames`.
MAX_CLIP_BYTES = 2**33


def probe(path: str | os.PathLike[str], skip_bad: bool = False) -> VideoInfo:
    """Properties of a video file, read from its packets and its first frame.

    skip_bad: count the part before the damage of a truncated file instead of refusing it.
    Raises: UserError if the file is missing, empty, not a video, without a picture, truncated or too large.
    """
    return video_index(path, skip_bad).info


def iter_frames(
    path: str | os.PathLike[str],
    size: Size = None,
    fit: Fit = "crop",
    fps: float | None = None,
    *,
    start: int = 0,
    length: int | None = None,
    stride: int = 1,
    skip_bad: bool = False,
) -> Iterator[np.ndarray]:
    """Frames of a video one by one, uint8 (3, h, w); scaled while decoding, so a long clip needs little memory.

    size, fit: as in `resize_frames`.  fps: resample to this rate; None keeps the video's own constant rate.
    start, length, stride: frames start, start + stride, … at that rate; None is all.
    skip_bad: end quietly where the file is damaged.
    Raises: UserError as `probe`, and for frames of two sizes or damage in the middle, naming file and frame.
    """
    index = video_index(path, skip_bad)
    timing = timing_at(index, fps)
    stop = len(timing.pick) if length is None else start + (length - 1) * stride + 1
    wanted = timing.pick[start:stop:stride]
    if len(wanted) == 0:
        return
    height, width = index.info.height, index.info.width
    plan = placement(height, width, size, fit)
    if index.animation:
        yield from animation_frames(index.info.path, wanted, plan)
    else:
        yield from _decode(index, wanted, plan, skip_bad)


def read_video(
    path: str | os.PathLike[str],
    start: int = 0,
    length: int | None = None,
    size: Size = None,
    fit: Fit = "crop",
    fps: float | None = None,
    *,
    stride: int = 1,
    skip_bad: bool = False,
) -> Clip:
    """Frames start, start + stride, … of a video as a Clip, named after the file. Arguments as in `iter_frames`.

    start: negative counts from the end.  length: number of frames; None is up to the end.
    Raises: UserError as `iter_frames`, and when the video is shorter than asked or the clip larger than 8 GiB.
    """
    index = video_index(path, skip_bad)
    timing = timing_at(index, fps)
    total = len(timing.pick)
    start = start + total if start < 0 else start
    if length is None:
        length = len(range(start, total, stride))
    needed = start + (length - 1) * stride + 1
    if total == 1 and needed > 1:
        raise UserError(
            f"{path} holds a single frame, so nothing moves; give a video or a folder of at least two frames"
        )
    if length < 1 or start < 0 or needed > total:
        raise UserError(f"{path} has {total} frames, but frames {start} to {needed - 1} were asked for; ask for fewer")
    height, width = placement(index.info.height, index.info.width, size, fit).out
    if length * height * width * 3 > MAX_CLIP_BYTES:
        raise UserError(f"{path}: {length} frames of {width}x{height} exceed 8 GiB; give a smaller size or length")
    frames = np.empty((length, 3, height, width), np.uint8)
    stream = iter_frames(path, size, fit, fps, start=start, length=length, stride=stride, skip_bad=skip_bad)
    for slot, frame in zip(frames, stream, strict=True):
        slot[...] = frame
    meta = {"lost": index.info.lost} if index.info.lost else {}
    return Clip(frames=frames, name=Path(path).stem, fps=float(timing.fps / stride), meta=meta)


# --------------------------------------------------------------------------------------------------- decoding


def _decode(index: VideoIndex, wanted: np.ndarray, plan: Placement, skip_bad: bool) -> Iterator[np.ndarray]:
    """The frames `wanted` (ascending, repeats allowed), from the key frame before the first of them."""
    converter = _Converter(index, plan)
    key = int(index.keys[index.keys <= wanted[0]].max(initial=0))
    shown, previous, done = 0, None, False
    while not done:
        done = True
        for number, frame in _shown(index, key, skip_bad):
            if number > wanted[0] and previous is None and key > 0:
                key, done = 0, False  # the file's seek index points past the frame: decode from the start
                break
            while shown < len(wanted) and wanted[shown] < number:
                # No frame of this number was decoded (never shown, or damaged): the previous one is repeated.
                yield converter(previous or (number, frame))
                shown += 1
            previous = (number, frame)
            while shown < len(wanted) and wanted[shown] == number:
                yield converter(previous)
                shown += 1
            if shown == len(wanted):
                return
    short = int(wanted[-1]) - (previous[0] if previous else -1)
    if previous is None or (short > 1 and not skip_bad):
        at = previous[0] + 1 if previous else int(wanted[0])
        raise UserError(f"{index.info.path} is damaged from frame {at} on; copy it again, {SKIP_BAD}")
    while shown < len(wanted):
        yield converter(previous)
        shown += 1


def _shown(index: VideoIndex, key: int, skip_bad: bool) -> Iterator[tuple[int, Any]]:
    """(number, decoded frame) in the order shown, from key frame `key` on."""
    import av

    with opened(index.info.path) as container:
        stream = container.streams[index.stream]
        stream.thread_type = "AUTO"
        if key > 0 and index.pts is not None:
            container.seek(int(index.pts[key]), stream=stream)
        number = -1
        try:
            for frame in container.decode(stream):
                if index.pts is None or frame.pts is None:
                    number += 1
                else:
                    number = int(np.searchsorted(index.pts, frame.pts, side="right")) - 1
                if frame.is_corrupt and not skip_bad:
                    raise UserError(f"{index.info.path} is damaged at frame {number}; copy it again, {SKIP_BAD}")
                if number >= 0:
                    yield number, frame
        except av.FFmpegError as error:
            if not skip_bad:
                raise UserError(
                    f"{index.info.path} is damaged after frame {number}; copy it again, {SKIP_BAD}"
                ) from error


class _Converter:
    """Decoded frame to uint8 (3, h, w): scaled by the decoder's own scaler, turned, cut or padded; repeats are kept."""

    def __init__(self, index: VideoIndex, plan: Placement) -> None:
        from av.video.reformatter import VideoReformatter

        self.index, self.plan = index, plan
        self.scaler = VideoReformatter()
        self.last: tuple[int, np.ndarray] | None = None

    def __call__(self, shown: tuple[int, Any]) -> np.ndarray:
        number, frame = shown
        if self.last is None or self.last[0] != number:
            self.last = (number, self._convert(number, frame))
        return self.last[1]

    def _convert(self, number: int, frame: Any) -> np.ndarray:
        if (frame.height, frame.width) != self.index.raw:
            raise UserError(
                f"{self.index.info.path} has frames of two sizes: {self.index.raw[1]}x{self.index.raw[0]} at first, "
                f"{frame.width}x{frame.height} at frame {number}; export it again at one size"
            )
        a, b, c, d = self.index.matrix
        height, width = self.plan.scaled if a else self.plan.scaled[::-1]
        clear = frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)
        options: dict[str, Any] = {"interpolation": "BILINEAR"}
        if not frame.format.is_rgb and frame.colorspace == 2:  # 2 is "not stated"
            options["src_colorspace"] = "ITU709" if min(frame.height, frame.width) >= 720 else "ITU601"
        scaled = self.scaler.reformat(frame, width, height, "rgba" if clear else "rgb24", **options).to_ndarray()
        pixels = (on_black(scaled) if clear else scaled).transpose(2, 0, 1)
        if not a:
            pixels = pixels.transpose(0, 2, 1)
        if (d if a else b) < 0:
            pixels = pixels[:, ::-1]
        if (a if a else c) < 0:
            pixels = pixels[:, :, ::-1]
        return np.ascontiguousarray(self.plan.settle(pixels))
