"""Reading of video files: properties, streams of frames, and clips. Writing is in write.py.

Frames come out as uint8 RGB (c, h, w). Rotation and mirroring flags are applied, 10 and more bits become 8 by rounding,
grey is repeated three times, transparency is composited on black, odd sizes stay odd, pixels are taken as stored
(no aspect correction), and colours without a stated matrix are BT.709 from 720 lines on, BT.601 below, as players do.
HDR (PQ, HLG) is mapped to SDR by the rule of hdr.py. Variable rates become constant by the rule of timing.py.
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
from framecast.media.hdr import HLG, PQ, to_sdr
from framecast.media.images import on_black
from framecast.media.index import VideoIndex, VideoInfo, timing_at, video_index
from framecast.media.packets import SKIP_BAD, MisplacedError, decoded_frames, opened
from framecast.media.resize import Fit, Placement, Size, placement, resize_frames
from framecast.media.write import write_video

__all__ = ["VIDEO_SUFFIXES", "VideoInfo", "iter_frames", "probe", "read_video", "write_video"]

VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".mkv", ".mov", ".webm", ".avi", ".gif", ".webp", ".m4v", ".mpg", ".mpeg", ".mpe", ".ts", ".mts"),
        *(".m2ts", ".m2t", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".qt", ".vob", ".divx", ".mxf"),
        *(".m2v", ".h264", ".264", ".h265", ".265", ".hevc", ".ivf", ".mjpeg", ".mjpg", ".y4m", ".apng"),
        *(".avifs", ".nut", ".dv", ".obu"),
    )
)

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
    as_stored: bool = False,
) -> Iterator[np.ndarray]:
    """Frames of a video one by one, uint8 (3, h, w); scaled while decoding, so a long clip needs little memory.

    size, fit: as in `resize_frames`.  fps: resample to this rate; None keeps the video's own constant rate.
    start, length, stride: frames start, start + stride, … at that rate; None is all.
    skip_bad: end quietly where the file is damaged.
    as_stored: every frame of the file once, whatever its time.
    Raises: UserError as `probe`, and for frames of two sizes or damage in the middle, naming file and frame.
    """
    index = video_index(path, skip_bad)
    pick = np.arange(index.info.stored) if as_stored else timing_at(index, fps).pick
    stop = len(pick) if length is None else start + (length - 1) * stride + 1
    wanted = pick[start:stop:stride]
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
    keys = index.keys[index.keys <= wanted[0]]
    back, shown, previous, done = 1, 0, None, False
    while not done:
        done = True
        key = int(keys[-back]) if back <= len(keys) else 0
        try:
            for number, frame in _shown(index, key, skip_bad):
                if number > wanted[shown] and previous is None and key > 0:
                    break  # the file's seek index points past the frame
                if previous is not None and number < previous[0]:
                    if key > 0:
                        raise MisplacedError
                    raise UserError(
                        f"{index.info.path} has timestamps that go back at frame {previous[0]}; write it again with "
                        "new ones, for example as mkv"
                    )
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
        except MisplacedError:
            previous, keys, done = None, keys[:0], False  # decode from the beginning
            continue
        if (previous is None or previous[0] < wanted[0]) and key > 0:
            previous, back, done = None, 2 * back, False  # decode from an earlier key frame
    short = int(wanted[-1]) - (previous[0] if previous else -1)
    if previous is None or (short > 1 and not skip_bad):
        at = previous[0] + 1 if previous else int(wanted[0])
        raise UserError(f"{index.info.path} is damaged from frame {at} on; copy it again, {SKIP_BAD}")
    while shown < len(wanted):
        yield converter(previous)
        shown += 1


def _shown(index: VideoIndex, key: int, skip_bad: bool) -> Iterator[tuple[int, Any]]:
    """(number, decoded frame) in the order shown, from key frame `key` on.

    Raises: MisplacedError if what follows `key` is not what follows it in the file read from its beginning.
    """
    import av

    with opened(index.info.path) as container:
        stream = container.streams[index.stream]
        # With threads over frames, an error may arrive before the intact frames in front of it.
        stream.thread_type = "SLICE" if index.info.lost else "AUTO"
        known = index.packets if key > 0 else None
        if known is not None and index.pts is not None:
            container.seek(int(index.pts[key]), stream=stream)
        number = -1
        try:
            for frame in decoded_frames(container, stream, index.decoder, known):
                if index.pts is None or frame.pts is None:
                    number += 1
                else:
                    number = int(np.searchsorted(index.pts, frame.pts, side="right")) - 1
                if number < key:
                    continue  # depends on frames before the key frame
                if frame.is_corrupt and not skip_bad:
                    raise UserError(f"{index.info.path} is damaged at frame {number}; copy it again, {SKIP_BAD}")
                yield number, frame
        except av.FFmpegError as error:
            if not skip_bad:
                raise UserError(
                    f"{index.info.path} is damaged after frame {number}; copy it again, {SKIP_BAD}"
                ) from error


class _Converter:
    """Decoded frame to uint8 (3, h, w): scaled by the decoder's own scaler, turned, cut or padded; repeats are kept."""

    def __init__(self, index: VideoIndex, plan: Placement) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        self.index, self.plan = index, plan
        self.scaler = VideoReformatter()
        exact = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
        # Otherwise chroma is not interpolated and sums are cut off, and frames come out two grey levels too dark.
        self.interpolation = Interpolation.BILINEAR | exact
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
        pixels = self._rgb(frame, width, height).transpose(2, 0, 1)
        if not a:
            pixels = pixels.transpose(0, 2, 1)
        if (d if a else b) < 0:
            pixels = pixels[:, ::-1]
        if (a if a else c) < 0:
            pixels = pixels[:, :, ::-1]
        return np.ascontiguousarray(self.plan.settle(pixels))

    def _rgb(self, frame: Any, width: int, height: int) -> np.ndarray:
        """The frame in RGB, uint8 (height, width, 3)."""
        options: dict[str, Any] = {"interpolation": self.interpolation}
        if not frame.format.is_rgb and frame.colorspace == 2:  # 2 is "not stated"
            options["src_colorspace"] = "ITU709" if min(frame.height, frame.width) >= 720 else "ITU601"
        if frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components):
            # At full size: scaling first would mix colours that transparency hides into the edges.
            clear = self.scaler.reformat(frame, frame.width, frame.height, "rgba", **options).to_ndarray()
            shown = on_black(clear).transpose(2, 0, 1)[None]
            scaled: np.ndarray = resize_frames(shown, (height, width))[0].transpose(1, 2, 0)
            return scaled
        transfer = int(getattr(frame, "color_trc", 2) or 2)
        if transfer in (PQ, HLG):
            return to_sdr(self.scaler.reformat(frame, width, height, "gbrp16le", **options).to_ndarray(), transfer)
        # planar, which the scaler writes faster than packed pixels
        pixels: np.ndarray = self.scaler.reformat(frame, width, height, "gbrp", **options).to_ndarray()
        return pixels
