"""Reading of GIF and animated WebP through Pillow, which applies disposal rules and per-frame durations."""

from __future__ import annotations

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
    """Whether the file header is that of a GIF or WebP, animated or still."""
    with open(path, "rb") as file:
        head = file.read(12)
    return head[:6] in (b"GIF87a", b"GIF89a") or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def frame_count(path: str | os.PathLike[str]) -> int:
    """Frames of a GIF or WebP by its header; 0 if it is damaged, 1 for what is no file."""
    if not os.path.isfile(path):
        return 1
    try:
        with Image.open(path, formats=("GIF", "WEBP")) as image:
            return int(getattr(image, "n_frames", 1))
    except DECODE_ERRORS:
        return 0


def scan_animation(path: Path) -> Animation:
    """Size and timestamps of a GIF or WebP; every frame is decoded once, as the formats keep no index.

    Raises: UserError if not even the first frame can be decoded, or frames are larger than `MAX_PIXELS`.
    """
    with _opened(path) as image:
        height, width = upright_size(image)
        starts: list[float] = []
        clock = 0.0
        promised = _promised(image)
        for number in range(_MOST_FRAMES if promised is None else promised):
            try:
                image.seek(number)
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
        return int(getattr(image, "n_frames", 1))
    except DECODE_ERRORS:
        return None


def animation_frames(path: Path, wanted: Sequence[int] | np.ndarray, plan: Placement) -> Iterator[np.ndarray]:
    """The frames `wanted` (ascending, repeats allowed), uint8 (3, h, w), brought to `plan`."""
    with _opened(path) as image:
        last, pixels = -1, np.zeros(0, np.uint8)
        for number in wanted:
            if number != last:
                try:
                    image.seek(int(number))
                    frame = to_rgb(image, path).transpose(2, 0, 1)
                except DECODE_ERRORS as error:
                    raise UserError(f"{path} is damaged at frame {number}; copy or export it again") from error
                frame = resize_frames(frame[None], plan.scaled)[0]
                last, pixels = int(number), np.ascontiguousarray(plan.settle(frame))
            yield pixels


def _opened(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=("GIF", "WEBP"))
    except DECODE_ERRORS as error:
        raise UserError(f"{path} is damaged and cannot be opened; copy or export it again") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise UserError(
            f"{path} has frames of {image.width}x{image.height}, more than {MAX_PIXELS} pixels; scale it down"
        )
    return image
