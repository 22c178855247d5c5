"""Writing of videos. Writes are atomic: a temporary file in the same folder is renamed when complete.

| suffix | how | odd sizes |
| .mp4 .mov .mkv .m4v | H.264, yuv420p, crf 16 (MPEG-4 where the build has no x264) | last row or column repeated |
| .webm | VP9, yuv420p, crf 20 | last row or column repeated |
| .avi | MPEG-4, near the best quality | last row or column repeated |
| .gif | one palette of 256 colours for all frames, no dithering | kept |
| .webp | lossy, quality 85 | kept |
| none | a folder of PNGs 000000.png, 000001.png, … | kept, lossless |
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from framecast.core.commit import check_target, replaced_file, replaced_folder, write_marker
from framecast.core.errors import UserError
from framecast.media.images import on_black, to_uint8
from framecast.media.timing import exact_rate

SUFFIXES = (".gif", ".webp", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")

_CODECS: dict[str, tuple[str, ...]] = {
    ".mp4": ("libx264", "mpeg4"),
    ".m4v": ("libx264", "mpeg4"),
    ".mov": ("libx264", "mpeg4"),
    ".mkv": ("libx264", "mpeg4"),
    ".webm": ("libvpx-vp9", "libvpx"),
    ".avi": ("mpeg4",),
}
_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "16", "preset": "medium"},
    "libvpx-vp9": {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
    "libvpx": {"crf": "6", "b": "20M", "deadline": "good", "cpu-used": "4"},
    "mpeg4": {"qmin": "1", "qmax": "3"},
}
_FORMATS = {".mkv": "matroska", ".m4v": "mp4"}


def write_video(frames: Any, path: str | os.PathLike[str], fps: float | Fraction = 30.0) -> Path:
    """Write frames as a video, an animation or a folder of PNGs, by the ending of `path`; see the table above.

    frames: uint8, or float 0…1, (t, c, h, w) with 1, 3 or 4 channels, numpy or torch; or an iterable of (c, h, w),
    taken one by one (only .gif and .webp hold them all: one palette needs them).  fps: frames per second, kept exactly
    by the video containers; GIF counts hundredths of a second, so its frames last 3, 3, 4, … of them at 30 fps and
    no less than 2, WebP thousandths.
    Returns: the path.  Raises: UserError for no frames, frames of two sizes, an unknown ending, an occupied path, or
    a write error.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix and suffix not in SUFFIXES:
        raise UserError(
            f"{path}: videos cannot be written as {suffix}; use {', '.join(SUFFIXES)}, or no ending for PNGs"
        )
    if not 0 < fps <= 1000:
        raise UserError(f"{path}: fps must be above 0 and at most 1000, got {fps}")
    _check_place(path, folder=not suffix)
    rate = exact_rate(fps)
    stream = _checked(frames, path)
    first = next(stream, None)
    if first is None:
        raise UserError(f"{path}: there are no frames to write; give at least one")
    stream = chain((first,), stream)
    try:
        if not suffix:
            with replaced_folder(path) as part:
                _write_folder(stream, part)
            return path
        with replaced_file(path, suffix, durable=False) as part:
            if suffix == ".gif":
                _write_gif(list(stream), part, rate)
            elif suffix == ".webp":
                _write_webp(list(stream), part, rate)
            else:
                _write_container(stream, part, rate, suffix)
    except OSError as error:  # the codecs' own errors are OSErrors too
        reason = error.strerror or error
        raise UserError(f"{path} could not be written ({reason}); free some space or choose another path") from error
    return path


def _check_place(path: Path, folder: bool) -> None:
    if folder and path.is_file():
        raise UserError(
            f"{path} is a file, but a folder of PNGs was to be written there; choose another name or an ending"
        )
    if not folder and path.is_dir():
        raise UserError(f"{path} is a folder, but a video was to be written there; choose another name")
    if folder:
        check_target(path, "frames", overwrite=True)
    taken = next((parent for parent in path.parents if parent.is_file()), None)
    if taken:
        raise UserError(f"{taken} is a file, so {path} cannot be written below it; choose another path")


def _checked(frames: Any, path: Path) -> Iterator[np.ndarray]:
    """Frames as uint8 RGB (3, h, w), all of the first one's size."""
    if hasattr(frames, "ndim") and frames.ndim != 4:
        raise UserError(f"{path}: a video needs frames (t, c, h, w), got {frames.ndim} axes {tuple(frames.shape)}")
    size: tuple[int, ...] | None = None
    for number, frame in enumerate(frames):
        pixels = to_uint8(frame)
        if pixels.ndim != 3 or pixels.shape[0] not in (1, 3, 4) or 0 in pixels.shape:
            raise UserError(f"{path}: frame {number} has shape {pixels.shape}; write (c, h, w) with 1, 3 or 4 channels")
        size = size or pixels.shape[1:]
        if pixels.shape[1:] != size:
            raise UserError(
                f"{path}: frame {number} is {pixels.shape[2]}x{pixels.shape[1]}, those before are {size[1]}x{size[0]}; "
                f"bring them to one size"
            )
        if pixels.shape[0] == 4:
            pixels = on_black(pixels.transpose(1, 2, 0)).transpose(2, 0, 1)
        yield np.broadcast_to(pixels, (3, *pixels.shape[1:]))


def _write_container(frames: Iterator[np.ndarray], temporary: Path, rate: Fraction, suffix: str) -> None:
    import av

    codec = next(name for name in _CODECS[suffix] if name in av.codecs_available)
    if codec == "mpeg4":  # its clock counts in 16 bits
        while max(rate.numerator, rate.denominator) > 65535:
            rate = rate.limit_denominator(rate.denominator // 2)
    with av.open(str(temporary), "w", format=_FORMATS.get(suffix, suffix[1:])) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=dict(_OPTIONS[codec]))
        context = stream.codec_context
        for number, pixels in enumerate(frames):
            height, width = pixels.shape[1:]
            even = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = even.shape[2], even.shape[1], "yuv420p"
                if codec == "mpeg4":
                    stream.bit_rate = int(8 * even.shape[1] * even.shape[2] * float(rate)) + 100_000
                # Stated, so that no player guesses: BT.601 matrix, studio range.
                context.colorspace, context.color_range = 6, 1
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even.transpose(1, 2, 0)), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU601", interpolation="AREA")
            frame.pts, frame.time_base = number, 1 / rate
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _write_gif(frames: list[np.ndarray], temporary: Path, rate: Fraction) -> None:
    import av

    palette = _Palette(frames)
    step = max(Fraction(100) / rate, Fraction(2))  # players show anything shorter than 2 hundredths as 10
    with av.open(str(temporary), "w", format="gif", options={"loop": "0"}) as container:
        stream: Any = container.add_stream("gif", rate=Fraction(100))
        stream.height, stream.width = frames[0].shape[1:]
        stream.pix_fmt = "pal8"
        for number, pixels in enumerate(frames):
            paletted: Any = (palette.indices(pixels), palette.colours)
            frame = av.VideoFrame.from_ndarray(paletted, format="pal8")
            frame.pts, frame.time_base = round(number * step), Fraction(1, 100)
            frame.duration = round((number + 1) * step) - round(number * step)
            for packet in stream.encode(frame):
                packet.duration = frame.duration
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


class _Palette:
    """At most 256 colours for all frames: every one as it is where they suffice, else chosen by median cut and k-means.

    frames: uint8 (3, h, w); up to 24 of them, thinned to 2^17 pixels, are looked at.  colours: uint8 (256, 4), ARGB.
    """

    def __init__(self, frames: list[np.ndarray]) -> None:
        self.exact = self._few(frames)
        self.image: Image.Image | None = None
        if self.exact is not None:
            rgb = np.stack([self.exact >> 16, self.exact >> 8 & 255, self.exact & 255], axis=1)
        else:
            count = min(24, len(frames))
            chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int)]
            thinning = max(1, int(np.ceil(np.sqrt(count * chosen[0][0].size / 2**17))))
            mosaic = np.concatenate([frame[:, ::thinning, ::thinning] for frame in chosen], axis=1)
            self.image = _picture(mosaic).quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1)
            rgb = np.frombuffer(bytes(self.image.getpalette() or ()), np.uint8).reshape(-1, 3)
        self.colours = np.zeros((256, 4), np.uint8)
        self.colours[:, 0] = 255
        self.colours[: len(rgb), 1:] = rgb

    def indices(self, pixels: np.ndarray) -> np.ndarray:
        """The palette's nearest entry for each pixel, uint8 (h, w)."""
        if self.exact is not None:
            return np.searchsorted(self.exact, _packed(pixels)).astype(np.uint8)
        return np.asarray(_picture(pixels).quantize(palette=self.image, dither=Image.Dither.NONE))

    @staticmethod
    def _few(frames: list[np.ndarray]) -> np.ndarray | None:
        """All colours, packed and sorted, or None if there are more than 256."""
        known = np.zeros(0, np.int32)
        for pixels in frames:
            known = np.union1d(known, _packed(pixels))
            if len(known) > 256:
                return None
        return known


def _packed(pixels: np.ndarray) -> np.ndarray:
    red, green, blue = pixels.astype(np.int32)
    packed: np.ndarray = red << 16 | green << 8 | blue
    return packed


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _write_webp(frames: list[np.ndarray], temporary: Path, rate: Fraction) -> None:
    ends = [round(1000 * i / rate) for i in range(len(frames) + 1)]
    images = [_picture(pixels) for pixels in frames]
    images[0].save(
        temporary,
        format="WEBP",
        save_all=True,
        append_images=images[1:],
        duration=[after - before for before, after in pairwise(ends)],
        loop=0,
        quality=85,
        method=4,
    )


def _write_folder(frames: Iterable[np.ndarray], part: Path) -> None:
    for number, pixels in enumerate(frames):
        _picture(pixels).save(part / f"{number:06d}.png")
    write_marker(part, "frames")
