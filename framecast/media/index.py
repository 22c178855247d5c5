"""Video index from one pass over the packets of a file: frames, times, key frames, size, rotation, missing frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.media.animation import is_animation, scan_animation
from framecast.media.packets import (
    NO_DISPLAY_ORDER,
    SKIP_BAD,
    Decoded,
    Packets,
    SeekMap,
    check_file,
    decode_times,
    decoder_name,
    missing_frames,
    opened,
    picture_track,
    read_packets,
    stated_rate,
)
from framecast.media.timing import Timing, close_pauses, constant_rate, resampled, without_skips

# Frames decoded when a file is opened, to compare their order with their times; more where the times are doubtful, all
# where the container stores no display order.
_HEAD, _DOUBTFUL_HEAD = 4, 48


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Properties of a video as read by `iter_frames`: after rotation, at a constant rate.

    frames: number at `fps`.  duration: seconds.  constant: False if the stored rate varies.  rotation: degrees
    clockwise that the file asks for.  stored: frames in the file.  lost: frames cut off or damaged, 0 unless skip_bad.
    unused: stored frames that are not among those at `fps`, because their times lie closer together.
    breaks: frames at `fps` that follow a pause of the recording, which training clips do not cross.
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
    unused: int = 0
    breaks: tuple[int, ...] = ()

    def frames_at(self, fps: float) -> int:
        """Number of frames when resampled to `fps`."""
        return len(timing_at(video_index(self.path, self.lost > 0), fps).pick)

    def breaks_at(self, fps: float) -> tuple[int, ...]:
        """`breaks` when resampled to `fps`."""
        index = video_index(self.path, self.lost > 0)
        return timing_at(index, fps).breaks(index.after_pauses)


@dataclass(frozen=True, kw_only=True)
class VideoIndex:
    """Index of a video file; frames are counted in display order."""

    info: VideoInfo
    raw: tuple[int, int]  # (h, w) as stored, before rotation
    matrix: tuple[int, int, int, int]  # signs of the display matrix (a, b, c, d)
    times: np.ndarray  # seconds from the first frame, pauses closed, (stored,)
    pts: np.ndarray | None  # stored times in the stream's clock; None if frames are numbered by count
    keys: np.ndarray  # frames that decoding can begin at
    tick: float
    timing: Timing
    after_pauses: np.ndarray  # frames that follow a pause
    stream: int = 0
    decoder: str = ""  # see packets.decoder_name
    packets: SeekMap | None = None  # None if frames are numbered by count
    animation: bool = False


def video_index(path: str | os.PathLike[str], skip_bad: bool = False) -> VideoIndex:
    """The index of a video file, kept until the file changes. Raises: UserError as `video.probe`."""
    path = Path(path)
    status = check_file(path)
    return _scan(path, status.st_mtime_ns, status.st_size, skip_bad)


@lru_cache(maxsize=4096)
def _scan(path: Path, _modified: int, _bytes: int, skip_bad: bool) -> VideoIndex:
    if is_animation(path):
        return _scan_file_of_images(path, skip_bad)
    with opened(path) as container:
        track = picture_track(path, container)
        packets = read_packets(container, track)
        missing = missing_frames(container, track, packets)
        number, decoder, codec = track.index, decoder_name(track), track.codec_context.name
        tick, expected = float(track.time_base), int(track.frames or 0)
        stated = (track.average_rate, track.guessed_rate)
        # Frames that are decoded out of order although the times of their packets ascend: the times may be wrong.
        doubtful = bool(track.codec_context.has_b_frames) and packets.ascending
        head: int | None = _DOUBTFUL_HEAD if doubtful else _HEAD
        if skip_bad or (doubtful and container.format.name in NO_DISPLAY_ORDER):
            head = None
        constant = container.format.name == "mpeg" and codec in ("mpeg1video", "mpeg2video")
    if packets.corrupt and packets.damage is None:
        strict = decode_times(path, number, decoder, None, strict=True)
        packets.damage = len(strict.pts) if strict.damaged else None
    if not skip_bad:
        _refuse_damage(path, packets, missing, expected)
    found = decode_times(path, number, decoder, head)
    stamps = packets.stamps()
    if stamps is None or not found.matches(stamps):
        stamps = None  # frames are numbered by count
        if found.more:
            found = decode_times(path, number, decoder, None)
    total = len(found.pts) if stamps is None or found.damaged else len(stamps)
    times = packets.times(stamps, total, tick, stated)
    if skip_bad:
        good = _intact_frames(path, number, decoder, found, packets.damage)
        if good < total or found.damaged or packets.damage is not None:
            missing += max(total, packets.promised()) - good
        stamps, times = None if stamps is None else stamps[:good], times[:good]
    times, after_pauses = close_pauses(without_skips(times, stated, tick) if constant else times)
    keys = np.zeros(1, np.int64)
    # The palette of a track may come with its first packet only.
    if stamps is not None and found.first.format.name != "pal8":
        keys = packets.key_frames()
    timing = constant_rate(times, _duration(times, packets, tick, stated), tick, stated)
    matrix, raw = _matrix(found.first), (int(found.first.height), int(found.first.width))
    return VideoIndex(
        info=_info(
            path, codec, raw if matrix[0] else raw[::-1], timing, times, after_pauses, _degrees(matrix), missing
        ),
        raw=raw,
        matrix=matrix,
        times=times,
        pts=stamps,
        keys=keys,
        tick=tick,
        timing=timing,
        after_pauses=after_pauses,
        stream=number,
        decoder=decoder,
        packets=None if stamps is None else packets.seek_map(),
    )


def _refuse_damage(path: Path, packets: Packets, missing: int, expected: int) -> None:
    """Raises: UserError for a file whose container is broken or shorter than its header promises."""
    if packets.damage is not None:
        raise UserError(f"{path} is damaged after {packets.damage} frames; copy it again, {SKIP_BAD}")
    if missing:
        shown = f"{len(packets.pts)} of {expected} frames" if expected else "only a part"
        raise UserError(f"{path} is cut short: {shown} can be read; copy it again, {SKIP_BAD}")


def _intact_frames(path: Path, number: int, decoder: str, found: Decoded, damage: int | None) -> int:
    """Frames before the first damage. Where there is some, a strict decoder finds its beginning."""
    if not found.damaged and damage is None:
        return len(found.pts)
    strict = len(decode_times(path, number, decoder, None, strict=True).pts)
    return min(len(found.pts), strict or len(found.pts), len(found.pts) if damage is None else max(damage, 1))


def _duration(times: np.ndarray, packets: Packets, tick: float, stated: Sequence[Fraction | None]) -> float:
    """Seconds from the first frame to the end of the last one, whose stored duration is used if it is plausible."""
    typical = float(np.median(np.diff(times))) if len(times) > 1 else 1 / stated_rate(stated)
    last = packets.last_duration() * tick
    return float(times[-1]) + (last if 0 < last < 4 * max(typical, tick) else typical)


def _info(
    path: Path,
    codec: str,
    size: tuple[int, int],
    timing: Timing,
    times: np.ndarray,
    after_pauses: np.ndarray,
    rotation: int,
    lost: int,
) -> VideoInfo:
    return VideoInfo(
        path=path,
        codec=codec,
        height=size[0],
        width=size[1],
        fps=float(timing.fps),
        frames=len(timing.pick),
        duration=len(timing.pick) / float(timing.fps),
        constant=timing.constant,
        rotation=rotation,
        stored=len(times),
        lost=lost,
        unused=timing.unused(len(times)),
        breaks=timing.breaks(after_pauses),
    )


def _scan_file_of_images(path: Path, skip_bad: bool) -> VideoIndex:
    scan = scan_animation(path)
    if scan.damage and not skip_bad:
        raise UserError(f"{path} is cut short after {len(scan.times)} frames; copy it again, {SKIP_BAD}")
    timing = constant_rate(scan.times, scan.duration, scan.tick)
    size, nothing = (scan.height, scan.width), np.zeros(0, np.int64)
    return VideoIndex(
        info=_info(path, scan.codec, size, timing, scan.times, nothing, 0, scan.damage),
        raw=size,
        matrix=(1, 0, 0, 1),
        times=scan.times,
        pts=None,
        keys=np.zeros(1, np.int64),
        tick=scan.tick,
        timing=timing,
        after_pauses=nothing,
        animation=True,
    )


def timing_at(index: VideoIndex, fps: float | None) -> Timing:
    """The video's own timing, or that of `fps`."""
    if fps is None or abs(fps - float(index.timing.fps)) < 1e-6:
        return index.timing
    last = index.times[-1] if len(index.times) else 0.0
    return resampled(index.times, max(index.info.duration, float(last) + 1e-9), fps, index.tick)


def _matrix(frame: Any) -> tuple[int, int, int, int]:
    """Signs (a, b, c, d) of the display matrix x' = a x + c y, y' = b x + d y; exactly one of each row is not 0."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that PyAV has no name for, such as EXIF; the angle it gives nevertheless
        turn = round(frame.rotation / 90) % 4
        return ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))[turn]
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (-1 if a < 0 else 1), 0, 0, (-1 if d < 0 else 1)
    return 0, (-1 if b < 0 else 1), (-1 if c < 0 else 1), 0


def _degrees(matrix: tuple[int, int, int, int]) -> int:
    turns: dict[tuple[int, ...], int] = {(1, 0, 0, 1): 0, (0, 1, -1, 0): 90, (-1, 0, 0, -1): 180, (0, -1, 1, 0): 270}
    return turns.get(matrix, 0 if matrix[0] else 90)
