"""A video of what is read from a source: every frame with its video, number, time and action below it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.data.base import Source
from framecast.data.breaks import shot_cuts
from framecast.media.grid import as_rgb, caption, enlarge
from framecast.media.write import write_video

_BLOCK = 32  # frames read at a time
_MORE = 4  # frames after the last shown one in the search for cuts
_LEAST = 256  # smallest longer side of a shown frame, px
_LINE = 22  # height of a line of text, px


def write_view(source: Source, path: Path, video: str | None = None, most: int = 300, cuts: bool = True) -> Path:
    """The path of a video file of one or all videos of a source.

    Args:
        source: Source of the videos.
        path: File to write, .mp4, .gif or another suffix of `write_video`.
        video: Name of one video; all if not given.
        most: Maximum number of frames of each video.
        cuts: Mark shot cuts of video files.

    Raises:
        UserError: There is no video of that name, frames differ in size between the videos shown, or a file cannot be
            read or written.
    """
    if video is not None and video not in source.names:
        raise UserError(f"--video {video!r} is not in the data; {suggest(video, source.names)}")
    chosen = [i for i, name in enumerate(source.names) if video in (None, name)]
    return write_video(_labelled(source, chosen, most, cuts), path, source.spec.fps)


def _labelled(source: Source, videos: list[int], most: int, cuts: bool) -> Iterator[np.ndarray]:
    """Frames with their labels, uint8 (3, h, w), all of the size of the first video."""
    breaks = getattr(source, "breaks", None) or {}
    size: tuple[int, ...] = ()
    for index in videos:
        name, length = source.names[index], min(most, source.lengths[index])
        marks = set(breaks.get(name, ()))
        if cuts and getattr(source, "may_have_cuts", False):  # frames after the last shown tell a flash from a cut
            marks |= set(shot_cuts(source, index, length + _MORE))
        for start in range(0, length, _BLOCK):
            clip = source.clip(index, start, min(_BLOCK, length - start))
            shown, actions = enlarge(as_rgb(clip.frames), _LEAST), clip.arrays.get("actions")
            size = size or shown.shape[2:]
            if shown.shape[2:] != size:
                raise UserError(
                    f"video {name!r} has frames of another size than those before; give one video (--video), or one "
                    "size (--size)"
                )
            for offset, frame in enumerate(shown):
                number = start + offset
                text = f"{number} · {number / clip.fps:.2f} s" + (" · new shot" if number in marks else "")
                if actions is not None:
                    text += f" · action {np.array2string(np.asarray(actions[offset]), precision=2)}"
                lines = [caption(line, size[1], _LINE, 14) for line in (name, text)]
                yield np.concatenate([frame, *lines], axis=1)
