"""Layouts of frames: labelled panels side by side, rows of frames, contact strips, borders.

All functions take frames as uint8 or float in 0…1 with 1, 3 or 4 channels and return uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from framecast.core.errors import UserError
from framecast.media.images import on_black, to_uint8
from framecast.media.resize import resize_frames

Colour = tuple[int, int, int]

GREEN: Colour = (46, 160, 67)  # context frames
RED: Colour = (215, 58, 73)  # predicted frames
PAPER: Colour = (255, 255, 255)
INK: Colour = (36, 41, 47)

_LEAST_PANEL = 200  # px; smaller frames are enlarged, pixel by pixel, until their longer side reaches it


def as_rgb(frames: Any) -> np.ndarray:
    """uint8 (t, 3, h, w) of frames (t, c, h, w): grey repeated, alpha on black; of other counts the first channel.

    Raises: UserError unless there are four axes.
    """
    array = to_uint8(frames)
    if array.ndim != 4:
        raise UserError(f"frames must have axes (t, c, h, w), got shape {array.shape}")
    if array.shape[1] == 4:
        return on_black(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if array.shape[1] != 3:
        return np.repeat(array[:, :1], 3, axis=1)
    return array


def border(frames: Any, colour: Colour, width: int | None = None) -> np.ndarray:
    """Frames inside a coloured border, uint8 (t, 3, h + 2 width, w + 2 width). width: px; None is 1/48 of the side."""
    rgb = as_rgb(frames)
    width = max(1, round(max(rgb.shape[2:]) / 48)) if width is None else width
    count, _, height, across = rgb.shape
    out = np.empty((count, 3, height + 2 * width, across + 2 * width), np.uint8)
    out[...] = np.asarray(colour, np.uint8)[:, None, None]
    out[:, :, width : width + height, width : width + across] = rgb
    return out


def enlarge(frames: Any, least: int = _LEAST_PANEL) -> np.ndarray:
    """Frames repeated pixel by pixel until the longer side has `least` px; larger ones as they are."""
    rgb = as_rgb(frames)
    factor = max(1, -(-least // max(rgb.shape[2:])))
    return rgb.repeat(factor, axis=2).repeat(factor, axis=3) if factor > 1 else rgb


def heat_map(frames: np.ndarray, strength: np.ndarray, colour: Colour = (230, 30, 30)) -> np.ndarray:
    """Frames under a map of a colour, uint8 (t, 3, h, w).

    Args:
        frames: uint8 (t, 3, h, w).
        strength: (t, rows, columns), opacity as a share of 0.7, 0…1; brought to the frame's size.
        colour: RGB of the map.
    """
    levels = np.round(255 * strength.clip(0, 1)).astype(np.uint8)[:, None]
    opacity = 0.7 / 255 * resize_frames(levels, (frames.shape[2], frames.shape[3])).astype(np.float32)
    paint = np.asarray(colour, np.float32)[:, None, None]
    mixed: np.ndarray = np.round(frames * (1 - opacity) + paint * opacity).astype(np.uint8)
    return mixed


def side_by_side(rows: Mapping[str, Any], columns: int | None = None, least: int = _LEAST_PANEL) -> np.ndarray:
    """Labelled videos combined into one, uint8 (t, 3, H, W) with even H and W.

    Args:
        rows: label -> frames (t, c, h, w). Shorter videos repeat their last frame, smaller ones are centred.
        columns: panels in a row; None puts up to four in one row, more in a near-square layout.
        least: smallest longer side of a panel, px; smaller frames are enlarged.
    """
    if not rows:
        raise UserError("expected at least one labelled video, got none")
    panels = {label: enlarge(frames, least) for label, frames in rows.items()}
    count = max(len(frames) for frames in panels.values())
    height = max(frames.shape[2] for frames in panels.values())
    width = max(frames.shape[3] for frames in panels.values())
    columns = min(len(panels), columns or (4 if len(panels) <= 4 else int(np.ceil(np.sqrt(len(panels))))))
    gap, size = max(6, width // 40), max(14, min(26, width // 12))
    head = _line_height(size) + gap
    lines = -(-len(panels) // columns)
    total = (lines * (head + height) + (lines + 1) * gap, columns * (width + gap) + gap)
    out = np.empty((count, 3, total[0] + total[0] % 2, total[1] + total[1] % 2), np.uint8)
    out[...] = np.asarray(PAPER, np.uint8)[:, None, None]
    for number, (label, frames) in enumerate(panels.items()):
        line, column = divmod(number, columns)
        top, left = gap + line * (head + height + gap), gap + column * (width + gap)
        text = caption(label, width, head, size)
        out[:, :, top : top + head, left : left + width] = text
        down = top + head + (height - frames.shape[2]) // 2
        across = left + (width - frames.shape[3]) // 2
        if len(frames):
            held = frames[np.minimum(np.arange(count), len(frames) - 1)]
            out[:, :, down : down + frames.shape[2], across : across + frames.shape[3]] = held
    return out


def strip(frames: Any, every: int = 1, columns: int | None = None, least: int = 96, start: int = 0) -> np.ndarray:
    """Contact strip of every n-th frame with its number below, uint8 (3, H, W).

    Args:
        frames: (t, c, h, w).
        every: n, step between the frames shown.
        columns: frames in a row; None is up to 10.
        least: smallest longer side of a frame, px; smaller frames are enlarged.
        start: number of frame 0.
    """
    shown = as_rgb(frames)[::every]
    numbers = [str(start + every * i) for i in range(len(shown))]
    columns = min(len(shown), columns or 10)
    lines = [slice(i, i + columns) for i in range(0, len(shown), columns)]
    blocks = [grid({"": shown[line]}, captions=numbers[line], least=least) for line in lines]
    return stack(blocks)


def grid(
    rows: Mapping[str, Any] | Sequence[Any],
    captions: Sequence[str] | None = None,
    gap: int | None = None,
    least: int = 64,
) -> np.ndarray:
    """Image of rows of frames with labels on the left and captions below the last row, uint8 (3, H, W).

    Args:
        rows: label -> frames (t, c, h, w), or a sequence of frames without labels; all of one frame size.
        captions: one per column.
        gap: space between frames, px; None depends on the frame size.
        least: smallest longer side of a frame, px; smaller frames are enlarged.
    """
    labelled = rows if isinstance(rows, Mapping) else {f"\0{i}": frames for i, frames in enumerate(rows)}
    if not labelled:
        raise UserError("expected at least one row of frames, got none")
    videos = {label: enlarge(frames, least) for label, frames in labelled.items()}
    sizes = {frames.shape[2:] for frames in videos.values()}
    if len(sizes) > 1:
        raise UserError(f"rows of one image must have one frame size, got {sorted(sizes)}; bring them to one size")
    height, width = sizes.pop()
    gap = max(2, width // 32) if gap is None else gap
    size = max(11, min(20, width // 7))
    labels = [label if not label.startswith("\0") else "" for label in videos]
    margin = max((_text_width(label, size) for label in labels if label), default=-8) + 8
    count = max(len(frames) for frames in videos.values())
    foot = _line_height(size) + 2 if captions else 0
    out = np.empty((3, len(videos) * (height + gap) + gap + foot, margin + count * (width + gap) + gap), np.uint8)
    out[...] = np.asarray(PAPER, np.uint8)[:, None, None]
    for line, (label, frames) in enumerate(zip(labels, videos.values(), strict=True)):
        top = gap + line * (height + gap)
        if label:
            out[:, top : top + height, gap : gap + margin - 8] = caption(label, margin - 8, height, size, "left")
        for column, frame in enumerate(frames):
            left = gap + margin + column * (width + gap)
            out[:, top : top + height, left : left + width] = frame
    for column, text in enumerate((captions or ())[:count]):
        left = gap + margin + column * (width + gap)
        out[:, -foot:, left : left + width] = caption(text, width, foot, size)
    return out


def stack(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Images (3, h, w) stacked vertically, left-aligned on white, uint8 (3, H, W)."""
    blocks = list(pictures)
    width = max(block.shape[2] for block in blocks)
    out = [
        np.concatenate([block, _blank(block.shape[1], width - block.shape[2])], axis=2)
        if width > block.shape[2]
        else block
        for block in blocks
    ]
    return np.concatenate(out, axis=1)


def caption(text: str, width: int, height: int, size: int = 16, align: str = "centre") -> np.ndarray:
    """One line of dark text on white, uint8 (3, height, width); long text is shrunk, then truncated with "…"."""
    while size > 10 and _text_width(text, size) > width:
        size -= 1
    if _text_width(text, size) > width:
        while text and _text_width(text + "…", size) > width:
            text = text[:-1]
        text += "…"
    image = Image.new("RGB", (width, height), PAPER)
    place = (width / 2, height / 2, "mm") if align == "centre" else (0, height / 2, "lm")
    ImageDraw.Draw(image).text(place[:2], text, fill=INK, font=ImageFont.load_default(size), anchor=place[2])
    return np.asarray(image).transpose(2, 0, 1)


def _blank(height: int, width: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(PAPER, np.uint8)[:, None, None], (3, height, width))


def _text_width(text: str, size: int) -> int:
    return int(np.ceil(ImageFont.load_default(size).getlength(text)))


def _line_height(size: int) -> int:
    return round(1.3 * size)
