"""Video index from one pass over the packets of a file: frames, times, key frames, size, rotation, missing frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.core.io import require_regular
from framecast.media.animation import is_animation, scan_animation
from framecast.media.images import MAX_PIXELS
from framecast.media.timing import Timing, constant_rate, resampled

# Demuxers that read one local file only; playlists that refer to other files or addresses are not opened.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,h264,hevc,m4v,ogg,flv,asf,ivf,mjpeg"
SKIP_BAD = "or pass --skip-bad (skip_bad=True) to use the part before the damage"


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Properties of a video as read by `iter_frames`: after rotation, at a constant rate.

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
        return len(timing_at(video_index(self.path, self.lost > 0), fps).pick)


@dataclass(frozen=True, kw_only=True)
class VideoIndex:
    """Index of a video file; frames are counted in display order."""

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


def video_index(path: str | os.PathLike[str], skip_bad: bool = False) -> VideoIndex:
    """The index of a video file, kept until the file changes. Raises: UserError as `video.probe`."""
    path = Path(path)
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path} does not exist; check the path") from error
    require_regular(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a video; give one of the videos in it")
    if stat.st_size == 0:
        raise UserError(f"{path} is empty (0 bytes); copy or record it again")
    return _scan(path, stat.st_mtime_ns, stat.st_size, skip_bad)


@lru_cache(maxsize=4096)
def _scan(path: Path, _modified: int, _bytes: int, skip_bad: bool) -> VideoIndex:
    if is_animation(path):
        return _scan_file_of_images(path, skip_bad)
    with opened(path) as container:
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
            raise UserError(f"{path} is cut short: {shown} can be read; copy it again, {SKIP_BAD}")
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
    return VideoIndex(
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


def _scan_file_of_images(path: Path, skip_bad: bool) -> VideoIndex:
    scan = scan_animation(path)
    if scan.damage and not skip_bad:
        raise UserError(f"{path} is cut short after {len(scan.times)} frames; copy it again, {SKIP_BAD}")
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
    return VideoIndex(
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


def timing_at(index: VideoIndex, fps: float | None) -> Timing:
    """The video's own timing, or that of `fps`."""
    if fps is None or abs(fps - float(index.timing.fps)) < 1e-6:
        return index.timing
    last = index.times[-1] if len(index.times) else 0.0
    return resampled(index.times, max(index.info.duration, float(last) + 1e-9), fps, index.tick)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An open container; what the codecs raise about the file becomes a UserError naming it."""
    import av

    try:
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
        # PyAV 19 removed the argument: it always replaces what is not UTF-8 in metadata
        arguments: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
        with av.open(f"file:{path.resolve()}", options=options, **arguments) as container:
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
    """Whether `lost` packets were left out because the edit list of an MP4 or MOV hides them."""
    if "mov" not in container.format.name:
        return False
    stream = container.streams.video[0]
    step = 1 / float(stream.guessed_rate) if stream.guessed_rate else 0.0
    return bool(stream.duration) and step > 0 and stream.duration * tick <= (stream.frames - lost + 1.5) * step


def _first_frame(path: Path, number: int) -> Any:
    import av

    frame = None
    with opened(path) as container:
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
