"""Statistics of the training frames, against which a forecast is called unstable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from framecast.core.errors import UserError
from framecast.data.base import Source
from framecast.evaluation.clips import ALL, split_segments
from framecast.evaluation.summaries import STATISTICS
from framecast.media.resize import resize_frames
from framecast.metrics.frames import sharpness

#: Training frames that are measured, spread over the split.
FRAMES = 256


def training_limits(
    source: Source, split: str, windows: Sequence[int], size: tuple[int, int]
) -> dict[str, tuple[float, float]] | None:
    """Lowest and highest mean, variance and sharpness of training frames, a tenth of their range wider on each side.

    Args:
        source: Data that is scored.
        split: Of the scored clips; split `all` has no training frames.
        windows: Source frames of a training clip, one per model.
        size: (h, w) of the compared frames.

    Returns:
        Statistic -> (lowest, highest) on 0…1; None for data without training frames, or of one pixel a side.
    """
    if split == ALL or min(size) < 2:
        return None
    try:
        segments = split_segments(source, "train", windows)
    except UserError:
        return None
    ends = np.cumsum([s.stop - s.start for s in segments])
    if not len(ends):
        return None
    values: dict[str, list[float]] = {name: [] for name in STATISTICS}
    for place in np.unique(np.linspace(0, ends[-1] - 1, FRAMES).round().astype(int)):
        i = int(np.searchsorted(ends, place, "right"))
        frames = source.clip(segments[i].video, int(segments[i].stop - ends[i] + place), 1).frames
        image = torch.tensor(resize_frames(frames, size)[0]).double() / 255
        found = (image.mean(), image.var(correction=0), sharpness(image))
        for name, value in zip(STATISTICS, found, strict=True):
            values[name].append(float(value))
    return {name: _widened(min(v), max(v)) for name, v in values.items()}


def _widened(low: float, high: float) -> tuple[float, float]:
    # one fiftieth of the value more: in a game with a still background the range itself is nearly nothing
    more = 0.1 * (high - low) + 0.02 * high
    return low - more, high + more
