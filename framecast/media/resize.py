"""Frame sizes: parsing, placement and resampling.

All inputs are scaled with a triangle filter widened by the reduction (Pillow's BILINEAR, torch's antialiased
bilinear), so a video, a folder of its frames and an array of them give a model nearly the same pixels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from framecast.core.errors import UserError

Fit = Literal["squash", "crop", "pad"]
FITS = ("squash", "crop", "pad")

#: Target size: None keeps the size, an int limits the shorter side, (height, width) is exact.
Size = int | tuple[int, int] | None

_LARGEST = 8192


def parse_size(text: str | Size) -> Size:
    """The size that "128" (shorter side at most 128) or "64x96" (height x width) means; "full" and None are None.

    Raises: UserError for anything else, and for sides outside 1…8192.
    """
    if text is None or (isinstance(text, str) and text.strip().lower() in ("full", "none", "")):
        return None
    numbers: tuple[int, ...]
    if isinstance(text, str):
        match = re.fullmatch(r"\s*(\d+)\s*(?:[x×,]\s*(\d+)\s*)?", text, re.IGNORECASE)
        if not match:
            raise UserError(
                f'size {text!r} is not understood; write "128" (shorter side), "64x96" (height x width) or "full"'
            )
        numbers = tuple(int(group) for group in match.groups() if group is not None)
    else:
        numbers = (text,) if isinstance(text, int) else tuple(text)
    if len(numbers) not in (1, 2) or not all(1 <= number <= _LARGEST for number in numbers):
        raise UserError(f"size {text!r} is out of range; each side must be between 1 and {_LARGEST}")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def target_size(height: int, width: int, size: Size, fit: Fit = "squash") -> tuple[int, int]:
    """(height, width) of what `resize_frames` makes of a frame of height x width.

    An int scales the shorter side down to it and the other side along; smaller frames stay as they are. A pair is met
    exactly, whatever `fit` does to get there.
    """
    return placement(height, width, size, fit).out


@dataclass(frozen=True)
class Placement:
    """Resizing of a frame: scaled to `scaled`, then shifted by (top, left) into `out`, all (h, w) in px.

    Positive offsets crop at the top and left, negative ones pad with black.
    """

    scaled: tuple[int, int]
    out: tuple[int, int]
    top: int = 0
    left: int = 0

    def settle(self, frames: np.ndarray) -> np.ndarray:
        """Cut or pad scaled frames (..., h, w) to `out`."""
        if self.scaled == self.out:
            return frames
        if self.top >= 0 and self.left >= 0:
            return frames[..., self.top : self.top + self.out[0], self.left : self.left + self.out[1]]
        canvas = np.zeros((*frames.shape[:-2], *self.out), frames.dtype)
        top, left = -self.top, -self.left
        canvas[..., top : top + self.scaled[0], left : left + self.scaled[1]] = frames
        return canvas


def placement(height: int, width: int, size: Size, fit: Fit = "squash") -> Placement:
    """How a frame of height x width reaches `size`: "squash" stretches, "crop" fills and cuts, "pad" fits inside.

    Raises: UserError for another fit.
    """
    if fit not in FITS:
        raise UserError(f"fit {fit!r} is unknown; use one of {', '.join(FITS)}")
    if size is None:
        return Placement((height, width), (height, width))
    if isinstance(size, int):
        short = min(height, width)
        if short <= size:
            return Placement((height, width), (height, width))
        scaled = _scaled(height, width, size, short)
        return Placement(scaled, scaled)
    out = (int(size[0]), int(size[1]))
    if fit == "squash":
        return Placement(out, out)
    # Compared as integers, so that rounding cannot change which side binds.
    rows_bind = (out[0] * width > out[1] * height) == (fit == "crop")
    scaled = _scaled(height, width, out[0], height) if rows_bind else _scaled(height, width, out[1], width)
    scaled = (out[0], scaled[1]) if rows_bind else (scaled[0], out[1])
    top, left = (scaled[0] - out[0]) // 2, (scaled[1] - out[1]) // 2
    return Placement(scaled, out, top, left)


def resize_frames(frames: np.ndarray, size: Size, fit: Fit = "squash") -> np.ndarray:
    """Frames resized to `size`, uint8 (t, c, h', w').

    Args:
        frames: uint8 (t, c, h, w), any number of channels.
        size: None keeps the size, an int limits the shorter side, (height, width) is exact.
        fit: "squash" stretches, "crop" fills the size and crops the rest, "pad" adds black bars.
    """
    assert frames.ndim == 4, frames.shape
    assert frames.dtype == np.uint8, frames.dtype
    plan = placement(frames.shape[2], frames.shape[3], size, fit)
    if plan.scaled != frames.shape[2:]:
        frames = _interpolate(frames, plan.scaled)
    return np.ascontiguousarray(plan.settle(frames))


def _scaled(height: int, width: int, numerator: int, denominator: int) -> tuple[int, int]:
    def scale(side: int) -> int:
        return max(1, (2 * side * numerator + denominator) // (2 * denominator))

    return scale(height), scale(width)


def _interpolate(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import torch
    from torch.nn.functional import interpolate

    out = np.empty((*frames.shape[:2], *size), np.uint8)
    for first in range(0, len(frames), 32):  # a few at a time: torch keeps an intermediate of the half-scaled frames
        chunk = torch.from_numpy(np.array(frames[first : first + 32]))
        chunk = chunk.contiguous(memory_format=torch.channels_last)
        out[first : first + 32] = interpolate(chunk, size=size, mode="bilinear", antialias=True).numpy()
    return out
