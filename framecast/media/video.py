"""Video files in: what they are, their frames as a stream, and clips of them. Writing is in write.py.

Frames come out as uint8 RGB (c, h, w). Rotation and mirroring flags are applied, 10 and more bits become 8 by rounding,
grey is repeated three times, transparency is composited on black, odd sizes stay odd, pixels are taken as stored
(no aspect correction), and colours without a stated matrix are BT.709 from 720 lines on, BT.601 below, as players do.
Variable rates become constant by the rule of timing.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from framecast.media.animation import animation_frames, is_animation, scan_animation
from framecast.media.images import MAX_PIXELS, on_black
from framecast.media.resize import Fit, Placement, Size, placement
from framecast.media.timing import Timing, constant_rate, resampled
from framecast.media.write import write_video
from framecast.types import Clip, UserError

__all__ = ["VIDEO_SUFFIXES", "VideoInfo", "iter_frames", "probe", "read_video", "write_video"]

VIDEO_SUFFIXES = frozenset((".mp4", ".mkv", ".mov", ".webm", ".avi", ".gif", ".webp", ".m4v", ".mpg", ".mpeg", ".ts"))

#: A clip asked for at once may take so many bytes (8 GiB); longer ones are streamed by `iter_frames`.
MAX_CLIP_BYTES = 2**33

# Demuxers that read one local file and nothing else: a text that names other files or addresses is not opened.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,h264,hevc,m4v,ogg,flv,asf,ivf,mjpeg"
_SKIP_BAD = "or pass --skip-bad (skip_bad=True) to use the part before the damage"


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video holds, as `iter_frames` gives it: after rotation, at a constant rate.

    frames: number at `fps`.  duration: seconds.  constant: False if the stored rate varies.  rotation: degrees
    clockwise that the file asks for.  stored: frames in the file.  lost: frames cut off or damaged, 0 unless skip_bad.
    """

    path: Path
    codec: str
    height: int
    width: int
    fps: float
    frames: int
    duration: float
    constant: bool
    rotation: int
    stored: int
    lost: int

    def frames_at(self, fps: float) -> int:
        """Number of frames when resampled to `fps`."""
        return len(_timing(_index(self.path, self.lost > 0), fps).pick)


@dataclass(frozen=True, kw_only=True)
class _Index:
    """What one pass over a file's packets tells; frames are counted in the order they are shown."""

    info: VideoInfo
    raw: tuple[int, int]  # (h, w) as stored, before rotation
    matrix: tuple[int, int, int, int]  # signs of the display matrix (a, b, c, d)
    times: np.ndarray  # seconds from the first frame, (stored,)
    pts: np.ndarray | None  # the same in the stream's clock; None if the file has no timestamps
    keys: np.ndarray  # frames that decoding can begin at
    tick: float
    timing: Timing
    stream: int = 0
    animation: bool = False


def probe(path: str | os.PathLike[str], skip_bad: bool = False) -> VideoInfo:
    """What a video file holds, read from its packets and its first frame; nothing else is decoded.

    skip_bad: count the part before the damage of a truncated file instead of refusing it.
    Raises: UserError if the file is missing, empty, not a video, without a picture, truncated or too large.
    """
    return _index(path, skip_bad).info


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
    index = _index(path, skip_bad)
    timing = _timing(index, fps)
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
    index = _index(path, skip_bad)
    timing = _timing(index, fps)
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


# ------------------------------------------------------------------------------------------------ the index


def _index(path: str | os.PathLike[str], skip_bad: bool) -> _Index:
    path = Path(path)
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path} does not exist; check the path") from error
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a video; give one of the videos in it")
    if stat.st_size == 0:
        raise UserError(f"{path} is empty (0 bytes); copy or record it again")
    return _scan(path, stat.st_mtime_ns, stat.st_size, skip_bad)


@lru_cache(maxsize=4096)
def _scan(path: Path, _modified: int, _bytes: int, skip_bad: bool) -> _Index:
    if is_animation(path):
        return _scan_file_of_images(path, skip_bad)
    with _opened(path) as container:
        if not container.streams.video and not container.streams.audio:
            raise UserError(f"{path} is cut short: its index is missing; copy or export it again")
        stream = _picture(path, container)
        pts, durations, keys = _packets(container, stream)
        frame = _first_frame(path, stream.index)
        expected = int(stream.frames or 0)
        tick = float(stream.time_base)
        missing = _missing(container, expected, pts, tick)
        if missing and not skip_bad:
            shown = f"{len(pts)} of {expected} frames" if expected else "only a part"
            raise UserError(f"{path} is cut short: {shown} can be read; copy it again, {_SKIP_BAD}")
        stated = (stream.average_rate, stream.guessed_rate)
        codec = stream.codec_context.name
        number = stream.index
    count = len(pts)
    if not pts or None in pts:
        rate = float(next((r for r in stated if r), None) or 25)
        stamps, times, length = None, np.arange(count) / rate, count / rate
        key_frames = np.zeros(1, np.int64)
    else:
        order = np.argsort(np.asarray(pts, np.int64), kind="stable")
        stamps = np.asarray(pts, np.int64)[order]
        times = (stamps - stamps[0]) * tick
        typical = float(np.median(np.diff(times))) if count > 1 else 1 / float(next((r for r in stated if r), 25))
        last = (durations[order[-1]] or 0) * tick
        length = float(times[-1]) + (last if 0 < last < 4 * max(typical, tick) else typical)
        key_frames = np.flatnonzero(np.asarray(keys)[order])
    timing = constant_rate(times, length, tick, stated)
    matrix = _matrix(frame)
    raw = (int(frame.height), int(frame.width))
    height, width = raw if matrix[0] else raw[::-1]
    info = VideoInfo(
        path=path,
        codec=codec,
        height=height,
        width=width,
        fps=float(timing.fps),
        frames=len(timing.pick),
        duration=len(timing.pick) / float(timing.fps),
        constant=timing.constant,
        rotation=_degrees(matrix),
        stored=count,
        lost=missing,
    )
    return _Index(
        info=info,
        raw=raw,
        matrix=matrix,
        times=times,
        pts=stamps,
        keys=key_frames,
        tick=tick,
        timing=timing,
        stream=number,
    )


def _scan_file_of_images(path: Path, skip_bad: bool) -> _Index:
    scan = scan_animation(path)
    if scan.damage and not skip_bad:
        raise UserError(f"{path} is cut short after {len(scan.times)} frames; copy it again, {_SKIP_BAD}")
    timing = constant_rate(scan.times, scan.duration, scan.tick)
    info = VideoInfo(
        path=path,
        codec=scan.codec,
        height=scan.height,
        width=scan.width,
        fps=float(timing.fps),
        frames=len(timing.pick),
        duration=len(timing.pick) / float(timing.fps),
        constant=timing.constant,
        rotation=0,
        stored=len(scan.times),
        lost=scan.damage,
    )
    return _Index(
        info=info,
        raw=(scan.height, scan.width),
        matrix=(1, 0, 0, 1),
        times=scan.times,
        pts=None,
        keys=np.zeros(1, np.int64),
        tick=scan.tick,
        timing=timing,
        animation=True,
    )


def _timing(index: _Index, fps: float | None) -> Timing:
    """The video's own timing, or that of `fps`."""
    if fps is None or abs(fps - float(index.timing.fps)) < 1e-6:
        return index.timing
    last = index.times[-1] if len(index.times) else 0.0
    return resampled(index.times, max(index.info.duration, float(last) + 1e-9), fps, index.tick)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An open container; what the codecs raise about the file becomes a UserError naming it."""
    import av

    try:
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
        with av.open(f"file:{path.resolve()}", options=options, metadata_errors="replace") as container:
            yield container
    except av.FFmpegError as error:
        raise UserError(f"{path} {_complaint(path, error)}") from error


def _complaint(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        head = file.read(4096)
    if head[4:8] == b"ftyp":
        return "is cut short or damaged: its index is missing; copy or export it again"
    if b"\0" not in head:
        return "is text, not a video, whatever its name; give a video file"
    return (
        f"is not a video that can be read ({getattr(error, 'strerror', error)}); give mp4, mkv, mov, webm, avi or gif"
    )


def _picture(path: Path, container: Any) -> Any:
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise UserError(f"{path} has sound but no picture; give a file with a video track")
    return streams[0]


def _packets(container: Any, stream: Any) -> tuple[list[int | None], list[int], list[bool]]:
    """Timestamps, durations and key flags of all whole packets, in file order; damage ends the list."""
    import av

    pts: list[int | None] = []
    durations: list[int] = []
    keys: list[bool] = []
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_corrupt and not packet.is_discard:
                pts.append(packet.pts)
                durations.append(packet.duration or 0)
                keys.append(bool(packet.is_keyframe))
    except av.FFmpegError:
        # The count that the header promises is compared afterwards; that comparison reports the loss.
        return pts, durations, keys
    return pts, durations, keys


def _missing(container: Any, expected: int, pts: list[int | None], tick: float) -> int:
    """Frames the header promises and the file does not hold. Matroska promises a duration only."""
    import av

    if expected:
        # AVI and MP4 count what they store. One in a hundred may be empty or cut away by an edit list.
        lost = expected - len(pts)
        return lost if lost > expected // 100 and not _edited(container, lost, tick) else 0
    known = [value for value in pts if value is not None]
    if "matroska" not in container.format.name or not container.duration or len(known) < 2:
        return 0
    promised, end = float(container.duration / av.time_base), max(known) * tick
    step = (max(known) - min(known)) * tick / (len(known) - 1)
    # Where the file has sound too, that may be what lasts longer.
    allowed = 2 * step if len(container.streams) == 1 else max(5.0, 0.05 * promised)
    return round((promised - end) / step) - 1 if promised - end > allowed and step > 0 else 0


def _edited(container: Any, lost: int, tick: float) -> bool:
    """Whether so many packets were left out because the edit list of an MP4 or MOV hides them."""
    if "mov" not in container.format.name:
        return False
    stream = container.streams.video[0]
    step = 1 / float(stream.guessed_rate) if stream.guessed_rate else 0.0
    return bool(stream.duration) and step > 0 and stream.duration * tick <= (stream.frames - lost + 1.5) * step


def _first_frame(path: Path, number: int) -> Any:
    import av

    frame = None
    with _opened(path) as container:
        try:
            frame = next(iter(container.decode(container.streams[number])), None)
        except av.FFmpegError as error:
            raise UserError(f"{path} is damaged: its first frame cannot be decoded; copy or export it again") from error
    if frame is None:
        raise UserError(f"{path} has a video track without a single frame; copy or export it again")
    if frame.width * frame.height > MAX_PIXELS:
        raise UserError(
            f"{path} has frames of {frame.width}x{frame.height}, more than {MAX_PIXELS} pixels; scale it down"
        )
    return frame


def _matrix(frame: Any) -> tuple[int, int, int, int]:
    """Signs (a, b, c, d) of the display matrix x' = a x + c y, y' = b x + d y; exactly one of each row is not 0."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (-1 if a < 0 else 1), 0, 0, (-1 if d < 0 else 1)
    return 0, (-1 if b < 0 else 1), (-1 if c < 0 else 1), 0


def _degrees(matrix: tuple[int, int, int, int]) -> int:
    turns: dict[tuple[int, ...], int] = {(1, 0, 0, 1): 0, (0, 1, -1, 0): 90, (-1, 0, 0, -1): 180, (0, -1, 1, 0): 270}
    return turns.get(matrix, 0 if matrix[0] else 90)


# --------------------------------------------------------------------------------------------------- decoding


def _decode(index: _Index, wanted: np.ndarray, plan: Placement, skip_bad: bool) -> Iterator[np.ndarray]:
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
                # No frame of this number came out (one never shown, or hidden by damage): the one before stands in.
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
        raise UserError(f"{index.info.path} is damaged from frame {at} on; copy it again, {_SKIP_BAD}")
    while shown < len(wanted):
        yield converter(previous)
        shown += 1


def _shown(index: _Index, key: int, skip_bad: bool) -> Iterator[tuple[int, Any]]:
    """(number, decoded frame) in the order shown, from key frame `key` on."""
    import av

    with _opened(index.info.path) as container:
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
                    raise UserError(f"{index.info.path} is damaged at frame {number}; copy it again, {_SKIP_BAD}")
                if number >= 0:
                    yield number, frame
        except av.FFmpegError as error:
            if not skip_bad:
                raise UserError(
                    f"{index.info.path} is damaged after frame {number}; copy it again, {_SKIP_BAD}"
                ) from error


class _Converter:
    """Decoded frame to uint8 (3, h, w): scaled by the decoder's own scaler, turned, cut or padded; repeats are kept."""

    def __init__(self, index: _Index, plan: Placement) -> None:
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
