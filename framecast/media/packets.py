"""Packets of a video file: opening, choice of the track, timestamps, what is missing, and decoded frames in order."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.core.io import check_name
from framecast.core.remote import is_address
from framecast.media.images import MAX_PIXELS

# Demuxers that read one local file only; playlists that refer to other files or addresses are not opened.
_FORMATS = ",".join(
    (
        *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpeg", "mpegts", "mpegvideo", "h264"),
        *("hevc", "m4v", "ogg", "flv", "asf", "ivf", "mjpeg", "mxf", "yuv4mpegpipe", "nut", "dv", "obu", "av1"),
    )
)
SKIP_BAD = "or pass --skip-bad (skip_bad=True) to use the part before the damage"

#: Decoders that return the alpha channel of VP8 and VP9 in Matroska and WebM, which FFmpeg's own ones drop.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
#: Containers without an index, whose times between stored ones are interpolated from where reading begins.
_UNINDEXED = frozenset(("mpeg", "mpegts", "asf"))
#: Containers that store no display order: with B-frames, times are in the order of decoding.
NO_DISPLAY_ORDER = frozenset(("avi", "asf", "mxf"))
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}


@dataclass
class Packets:
    """Whole packets of the video track in file order, times in the track's clock.

    damage: packets before a place where the container's structure is broken; None where it is not.
    marks: what recognises a packet after a seek: its size with its time or, by_content, with a checksum of its bytes.
    by_content: whether the container's times depend on where reading begins.
    end: latest end of a packet of any track, seconds; only of Matroska.
    guessed: whether the container stores decoding times only (AVI).
    corrupt: whether parts of a packet are missing, or files were joined (MPEG-TS), which only decoding can distinguish.
    """

    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    by_content: bool = False
    damage: int | None = None
    end: float = 0.0
    guessed: bool = False
    corrupt: bool = False

    def stamps(self) -> np.ndarray | None:
        """Presentation times in display order; None if they cannot name frames: missing, repeated or restarted."""
        if not self.pts or None in self.pts:
            return None
        known = [value for value in self.dts if value is not None]
        stamps = np.sort(np.asarray(self.pts, np.int64))
        return stamps if (np.diff(stamps) > 0).all() and (np.diff(known) >= 0).all() else None

    @property
    def ascending(self) -> bool:
        """Whether the presentation times ascend in file order, as without B-frames."""
        known = [value for value in self.pts if value is not None]
        return bool((np.diff(known) > 0).all())

    def times(
        self, stamps: np.ndarray | None, count: int, tick: float, stated: Sequence[Fraction | None]
    ) -> np.ndarray:
        """Seconds of the first `count` frames: from `stamps`, else from decoding times, else at the stated rate."""
        if (stamps is None or self.guessed) and len(self.dts) == count and None not in self.dts:
            stamps = np.asarray(self.dts, np.int64)
        if stamps is None or len(stamps) < count or (np.diff(stamps) <= 0).any():
            return np.arange(count) / stated_rate(stated)
        seconds: np.ndarray = (stamps[:count] - stamps[0]) * tick
        return seconds

    def promised(self) -> int:
        """Frames that the track holds, those in a broken place included: as many as fit into its time."""
        stamps = self.stamps()
        if self.damage is None or stamps is None or len(stamps) < 2:
            return len(self.pts)
        return max(len(self.pts), round(float((stamps[-1] - stamps[0]) / np.median(np.diff(stamps)))) + 1)

    def last_duration(self) -> int:
        """Duration of the frame shown last, in the track's clock; 0 if it is not stored."""
        if not self.pts or None in self.pts:
            return 0
        return self.durations[int(np.argmax(np.asarray(self.pts, np.int64)))]

    def key_frames(self) -> np.ndarray:
        """Frames in display order at which decoding can begin."""
        return np.flatnonzero(np.asarray(self.keys)[np.argsort(np.asarray(self.pts, np.int64), kind="stable")])

    def seek_map(self) -> SeekMap:
        """What recognises packets after a seek."""
        return SeekMap(np.asarray(self.pts, np.int64), np.asarray(self.marks, np.int64), self.by_content)


@dataclass(frozen=True)
class SeekMap:
    """Packets of a track in file order: times, marks and the kind of these (see `Packets`)."""

    pts: np.ndarray
    marks: np.ndarray
    by_content: bool


@dataclass
class Decoded:
    """Result of decoding without keeping pictures: the first one, the times of all, and whether damage ended it."""

    first: Any = None
    pts: list[int | None] = field(default_factory=list)
    damaged: bool = False
    more: bool = False

    def matches(self, stamps: np.ndarray) -> bool:
        """Whether the frames came out in the order of the presentation times, none left out."""
        return bool(self.pts == stamps[: len(self.pts)].tolist())


def check_file(path: Path) -> os.stat_result:
    """Status of a regular file that is not empty.

    Raises:
        UserError: It is missing, an address, a folder, a pipe or a device, or empty.
    """
    if is_address(path):
        raise UserError(f"{path} is an address; download it and give the file")
    check_name(path)
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path} does not exist; check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{path} is a folder, not a video; give one of the videos in it")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is a pipe or device, not a file; write its content to a file first")
    if status.st_size == 0:
        raise UserError(f"{path} is empty (0 bytes); copy or record it again")
    return status


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


def picture_track(path: Path, container: Any) -> Any:
    """The video track that players show: the first one marked as default, else the first; cover pictures are none.

    Raises:
        UserError: There is none, or no decoder for it.
    """
    from av.stream import Disposition

    if not container.streams.video and not container.streams.audio:
        raise UserError(f"{path} is cut short: its index is missing; copy or export it again")
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise UserError(f"{path} has sound but no picture; give a file with a video track")
    track = next((s for s in streams if s.disposition & Disposition.default), streams[0])
    if track.codec_context is None:
        raise UserError(f"{path} has a video track of an unknown codec; convert it to H.264 in mp4")
    return track


def decoder_name(track: Any) -> str:
    """The decoder that a track needs for its alpha channel; "" is the usual one."""
    alpha = track.metadata.get("alpha_mode") == "1"
    return _ALPHA_DECODERS.get(track.codec_context.name, "") if alpha else ""


def read_packets(container: Any, track: Any) -> Packets:
    """All whole packets of a track. What cannot be demultiplexed ends the list."""
    import av

    matroska = "matroska" in container.format.name
    name = container.format.name
    found = Packets(guessed=name == "avi", by_content=name in _UNINDEXED)
    with _errors() as errors:
        try:
            # Of Matroska every track is read: the file's duration is that of the longest.
            for packet in container.demux() if matroska else container.demux(track):
                if matroska and packet.pts is not None:
                    end = float((packet.pts + (packet.duration or 0)) * (packet.time_base or 0))
                    found.end = max(found.end, end)
                if packet.stream_index != track.index or not packet.size or packet.is_discard:
                    continue
                if matroska and found.damage is None and any("EBML" in message for _, _, message in errors):
                    found.damage = len(found.pts)
                if not _is_shown(packet, track):
                    continue
                found.corrupt = found.corrupt or bool(packet.is_corrupt)
                found.pts.append(packet.pts)
                found.dts.append(packet.dts)
                found.durations.append(packet.duration or 0)
                found.keys.append(bool(packet.is_keyframe))
                found.marks.append(_mark(packet, found.by_content))
        except av.FFmpegError:
            # The count that the header promises is compared afterwards; that comparison reports the loss.
            return found
    return found


def _is_shown(packet: Any, track: Any) -> bool:
    """Whether a packet holds a frame that is shown; edit lists hide some, and VP8 stores references of its own."""
    if not packet.size or packet.is_discard:
        return False
    return track.codec_context.name != "vp8" or bool(bytes(packet)[0] & 0x10)


def _mark(packet: Any, by_content: bool) -> int:
    return int(packet.size) << 32 | (zlib.crc32(bytes(packet)) if by_content else (packet.pts or 0) & 0xFFFFFFFF)


class MisplacedError(Exception):
    """Packets after a seek differ from those of the whole file at this place."""


def packets_after_seek(container: Any, track: Any, known: SeekMap) -> Iterator[Any]:
    """Packets of a track from the first key frame after the container's position that is recognised, as in the file.

    Raises:
        MisplacedError: Another packet follows than in the file, read from its beginning.
    """
    at = -1
    for packet in container.demux(track):
        if _is_shown(packet, track):
            mark = _mark(packet, known.by_content)
            if at < 0:
                same = np.flatnonzero(known.marks == mark)
                if not packet.is_keyframe or len(same) != 1:
                    continue
                at = int(same[0])
            else:
                at += 1
                if at >= len(known.marks) or known.marks[at] != mark:
                    raise MisplacedError
            if known.by_content:
                packet.pts, packet.dts = int(known.pts[at]), None
        elif at < 0:
            continue
        yield packet


@contextmanager
def _errors() -> Iterator[list[tuple[int, str, str]]]:
    """Within: a list that grows with FFmpeg's errors (level, origin, message); broken Matroska is reported only so."""
    import av.logging

    before, repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # otherwise a second reading of the same file reports nothing
    try:
        with av.logging.Capture() as messages:
            yield messages
    finally:
        av.logging.set_level(before)
        av.logging.set_skip_repeated(repeated)


def missing_frames(container: Any, track: Any, packets: Packets) -> int:
    """Frames the header promises and the file does not hold. Matroska promises a duration only."""
    import av

    expected, tick = int(track.frames or 0), float(track.time_base)
    if expected:
        known = [value for value in packets.dts if value is not None]
        # The count of AVI includes empty chunks, which repeat the frame before and show as gaps in the clock.
        there = max(known, default=-1) + 1 if container.format.name == "avi" else 0
        # One in a hundred may be empty or cut away by an edit list.
        lost = expected - max(len(packets.pts), there)
        return lost if lost > expected // 100 and not _edited(container, track, lost) else 0
    stamps = [value for value in packets.pts if value is not None]
    if "matroska" not in container.format.name or not container.duration or len(stamps) < 2:
        return 0
    step = (max(stamps) - min(stamps)) * tick / (len(stamps) - 1)
    left = float(container.duration / av.time_base) - packets.end
    allowed = 2 * step if len(container.streams) == 1 else max(2 * step, 0.5)
    return max(1, round(left / step)) if left > allowed and step > 0 else 0


def _edited(container: Any, track: Any, lost: int) -> bool:
    """Whether `lost` packets were left out because the edit list of an MP4 or MOV hides them."""
    if "mov" not in container.format.name:
        return False
    step, tick = 1 / float(track.guessed_rate) if track.guessed_rate else 0.0, float(track.time_base)
    return bool(track.duration) and step > 0 and track.duration * tick <= (track.frames - lost + 1.5) * step


def decoded_frames(container: Any, track: Any, decoder: str, known: SeekMap | None = None) -> Iterator[Any]:
    """Frames of a track in the order of the decoder, from the container's position on.

    Args:
        container: Open container.
        track: Its track.
        decoder: See `decoder_name`.
        known: Packets of the track, after a seek.

    Raises:
        MisplacedError: See `packets_after_seek`.
    """
    if not decoder and known is None:
        yield from container.decode(track)
        return
    import av

    context: Any = track.codec_context
    if decoder:
        context = av.CodecContext.create(decoder, "r")
        context.extradata = track.codec_context.extradata
    packets = container.demux(track) if known is None else packets_after_seek(container, track, known)
    for packet in packets:
        yield from context.decode(packet)


def decode_times(path: Path, number: int, decoder: str, limit: int | None, strict: bool = False) -> Decoded:
    """What a plain decoder makes of a track, from its beginning.

    Args:
        path: Video file.
        number: Index of the track.
        decoder: See `decoder_name`.
        limit: Frames after which decoding ends; None is all.
        strict: End at errors that decoders usually conceal.

    Raises:
        UserError: Not even the first frame can be decoded, or it is too large.
    """
    import av

    found, error = Decoded(), None
    with opened(path) as container:
        track = container.streams[number]
        track.thread_type = "SLICE" if limit is not None else "AUTO"
        if strict:
            track.codec_context.options = _STRICT
        try:
            for frame in decoded_frames(container, track, decoder):
                if len(found.pts) == limit:
                    found.more = True
                    break
                if frame.is_corrupt and (limit is None or found.first is None):
                    found.damaged = True
                    break
                found.first = found.first or frame
                found.pts.append(frame.pts)
        except av.FFmpegError as failure:
            found.damaged, error = True, failure
    if found.first is None and not strict:
        if found.damaged:
            raise UserError(f"{path} is damaged: its first frame cannot be decoded; copy or export it again") from error
        raise UserError(f"{path} has a video track without a single frame; copy or export it again")
    if found.first is not None and found.first.width * found.first.height > MAX_PIXELS:
        size = f"{found.first.width}x{found.first.height}"
        raise UserError(f"{path} has frames of {size}, more than {MAX_PIXELS} pixels; scale it down")
    return found


def stated_rate(stated: Sequence[Fraction | None]) -> float:
    """The first rate that a container states, frames per second; 25 without one."""
    return float(next((rate for rate in stated if rate), None) or 25)
