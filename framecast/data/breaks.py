"""Places where a video does not continue: recorded pauses and cuts, and cuts that are searched for."""

from __future__ import annotations

from framecast.data.base import Source
from framecast.media.cuts import CutDetector

_BLOCK = 32  # frames decoded at a time in the search for cuts


def shot_cuts(source: Source, video: int, stop: int | None = None) -> list[int]:
    """Frames of a video that begin a new shot, ascending, found from its pictures.

    Args:
        source: Source of the video.
        video: Its number.
        stop: One past the last frame that is looked at; None for all.

    Raises:
        UserError: A frame cannot be read.
    """
    detector = CutDetector()
    length = int(source.lengths[video]) if stop is None else min(stop, int(source.lengths[video]))
    for start in range(0, length, _BLOCK):
        detector.add(source.clip(video, start, min(_BLOCK, length - start)).frames)
    return detector.cuts()


def breaks_of(source: Source, video: int) -> list[int]:
    """Frames of a video that do not continue the frame before them, ascending.

    Those that the source has recorded; a packed store has recorded the cuts of video files. In a video file that is not
    packed, cuts are searched for, which decodes all of it.

    Args:
        source: Source of the video.
        video: Its number.

    Raises:
        UserError: A frame cannot be read.
    """
    recorded = (getattr(source, "breaks", None) or {}).get(source.names[video], ())
    found = shot_cuts(source, video) if getattr(source, "may_have_cuts", False) else []
    return sorted({*map(int, recorded), *found})
