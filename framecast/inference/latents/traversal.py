"""Traversal of single latent dimensions. Works on any `LatentModel` (`models/base.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.inference.latents.io import LatentResult, as_floats, clips, latent_model, out_folder
from framecast.media.grid import grid, side_by_side
from framecast.media.images import write_image
from framecast.media.write import write_video
from framecast.training.run_folder import Run

#: Frame rate of traversal videos, 1/s.
TRAVERSE_FPS = 10.0


@torch.no_grad()
def traverse(
    run: Run,
    source: str | Path | None = None,
    dims: Sequence[int] = (),
    *,
    low: float = -10.0,
    high: float = 10.0,
    steps: int = 21,
    out: str | Path | None = None,
    device: str = "cpu",
) -> LatentResult:
    """Decoded images along single latent dimensions, each moved from `low` to `high` while the others stay fixed.

    Writes traverse.png (one row per dimension) and traverse.gif (0.1 s per image).

    Args:
        run: trained run of a `LatentModel`.
        source: input clips, see `io.clips`; the last latent of the first clip is used.
        dims: dimensions, counted from 0; empty selects those with the largest std over clips.
        low: smallest value.
        high: largest value.
        steps: number of images from `low` to `high`, at least 2.
        out: output folder, see `io.out_folder`.
        device: torch device.

    Raises:
        UserError: a dimension does not exist, or the range is empty.
    """
    if steps < 2 or not low < high:
        raise UserError(f"--low {low:g}, --high {high:g} and --steps {steps}: expected low < high and at least 2 steps")
    model = latent_model(run, device)
    frames = as_floats(model, clips(run, source, 16))
    latents = model.encode(frames)[:, -1]  # type: ignore[operator]
    size = latents.shape[-1]
    if wrong := [d for d in dims if not 0 <= d < size]:
        raise UserError(f"--dims {wrong[0]}: latents of {run.label} have {size} dimensions; use 0…{size - 1}")
    chosen = list(dims) or _most_varied(latents)
    values = torch.linspace(low, high, steps, device=latents.device)
    context = frames[:1, : model.num_context]
    videos: dict[str, Tensor] = {}
    for dim in chosen:
        moved = latents[0].repeat(steps, 1)
        moved[:, dim] = values
        images = model.decode(moved[:, None], context.expand(steps, -1, -1, -1, -1))  # type: ignore[operator]
        videos[f"dim {dim}"] = images[:, -1].clamp(0, 1).cpu()
    folder = out_folder(run, out)
    shown = _spread(steps, 11)
    captions = [f"{float(values[i]):g}" for i in shown]
    files = {
        "sheet": write_image(grid({k: v[shown] for k, v in videos.items()}, captions), folder / "traverse.png"),
        "film": write_video(side_by_side(videos), folder / "traverse.gif", TRAVERSE_FPS),
    }
    return LatentResult(files, {"dims": chosen, "values": [round(float(v), 6) for v in values]})


def _most_varied(latents: Tensor, count: int = 3) -> list[int]:
    """Dimensions with the largest std over clips; of a single clip, those of largest magnitude."""
    spread = latents.std(0) if len(latents) > 1 else latents[0].abs()
    return [int(i) for i in spread.argsort(descending=True, stable=True)[:count]]


def _spread(count: int, most: int) -> list[int]:
    """At most `most` evenly spaced indices of 0…count - 1, including both ends."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})
