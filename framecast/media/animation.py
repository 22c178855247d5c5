"""Reading of GIF, animated WebP, PNG and AVIF, and TIFF stacks through Pillow, which applies disposal and durations."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from framecast.core.errors import UserError
from framecast.media.images import DECODE_ERRORS, MAX_PIXELS, to_rgb, upright_size
from framecast.media.resize import Placement, resize_frames

_MOST_FRAMES = 1_000_000  # of a file whose frames cannot be counted
_UNTIMED = 0.1  # seconds a frame without a duration is shown, as browsers do
_FORMATS = ("GIF", "WEBP", "PNG", "AVIF", "TIFF")
#: Suffixes of images that may hold several frames.
ANIMATION_SUFFIXES = frozenset((".gif", ".webp", ".png", ".apng", ".avif", ".avifs", ".tif", ".tiff"))


@dataclass(frozen=True)
class Animation:
    """times: start of each frame, seconds.  duration: of all of them.  tick: step of the format's clock, seconds.
    damage: frames promised by the header that cannot be decoded."""

    codec: str
    height: int
    width: int
    times: np.ndarray
    duration: float
    tick: float
    damage: int


def is_animation(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a GIF or WebP, animated or still, or another image of several frames, by its content."""
    with open(path, "rb") as file:
        head = file.read(12)
    if head[:6] in (b"GIF87a", b"GIF89a") or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    if head[4:12] == b"ftypavis" and "AVIF" in _formats():
        return True  # one that is cut short would otherwise be read as the still image that it also holds
    several = head[:8] == b"\x89PNG\r\n\x1a\n" or head[4:12] == b"ftypavis" or head[:4] in (b"II*\0", b"MM\0*")
    return several and frame_count(path) > 1


def frame_count(path: str | os.PathLike[str]) -> int:
    """Frames of an image by its header; 0 if it is damaged, 1 for what is no file.

    Pages of a TIFF are frames if all have the size of the first; others are thumbnails or resolutions of one image.
    """
    if not os.path.isfile(path):
        return 1
    try:
        with Image.open(path, formats=_formats()) as image:
            count = int(getattr(image, "n_frames", 1)) - _first(image)
            if image.format == "TIFF" and count > 1:
                sizes = {image.size}
                for page in (1, count - 1):
                    image.seek(page)
                    sizes.add(image.size)
                return count if len(sizes) == 1 else 1
            return count
    except DECODE_ERRORS:
        return 0


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats of animations that this build of Pillow can read."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _first(image: Image.Image) -> int:
    """Number of the first frame; an animated PNG may begin with a still picture for programs that show no animation."""
    return 1 if image.info.get("default_image") else 0


def scan_animation(path: Path) -> Animation:
    """Size and timestamps of an animation; every frame is decoded once, as the formats keep no index.

    Raises: UserError if not even the first frame can be decoded, or frames are larger than `MAX_PIXELS`.
    """
    with _opened(path) as image:
        height, width = upright_size(image)
        starts: list[float] = []
        clock = 0.0
        promised, first = _promised(image), _first(image)
        for number in range(_MOST_FRAMES if promised is None else promised):
            try:
                image.seek(number + first)
                image.load()
            except DECODE_ERRORS:
                break
            starts.append(clock)
            clock += float(image.info.get("duration") or 0) / 1000 or _UNTIMED
        if not starts:
            raise UserError(f"{path} is damaged: its first frame cannot be decoded; copy or export it again")
        tick = 0.01 if image.format == "GIF" else 0.001
        codec = str(image.format).lower()
    damage = 1 if promised is None else promised - len(starts)  # at least one, where the file cannot be counted
    return Animation(codec, height, width, np.asarray(starts), clock, tick, damage)


def _promised(image: Image.Image) -> int | None:
    """Frames by the header and the block structure; None if that is broken."""
    try:
        return int(getattr(image, "n_frames", 1)) - _first(image)
    except DECODE_ERRORS:
        return None


def animation_frames(path: Path, wanted: Sequence[int] | np.ndarray, plan: Placement) -> Iterator[np.ndarray]:
    """The frames `wanted` (ascending, repeats allowed), uint8 (3, h, w), brought to `plan`."""
    with _opened(path) as image:
        last, first, pixels = -1, _first(image), np.zeros(0, np.uint8)
        for number in wanted:
            if number != last:
                try:
                    image.seek(int(number) + first)
                    frame = to_rgb(image, path).transpose(2, 0, 1)
                except DECODE_ERRORS as error:
                    raise UserError(f"{path} is damaged at frame {number}; copy or export it again") from error
                frame = resize_frames(frame[None], plan.scaled)[0]
                last, pixels = int(number), np.ascontiguousarray(plan.settle(frame))
            yield pixels


def _opened(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=_formats())
    except DECODE_ERRORS as error:
        raise UserError(f"{path} is damaged and cannot be opened; copy or export it again") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise UserError(
            f"{path} has frames of {image.width}x{image.height}, more than {MAX_PIXELS} pixels; scale it down"
        )
    return image
