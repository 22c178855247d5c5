"""Looking into a model's latent space: pictures to begin with, their codes, and what moving one number of a code does.

Works on any model that encodes and decodes (`models/base.py: Coder`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.types import ClipRequest
from framecast.data import SOURCES
from framecast.data.base import Segment, Source
from framecast.data.cache import open_data
from framecast.data.loader import Loader
from framecast.data.options import DataConfig
from framecast.evaluation.clips import check_fit, held_out_clips
from framecast.media.grid import grid, side_by_side
from framecast.media.images import is_image, read_image, write_image
from framecast.media.resize import resize_frames
from framecast.media.video import VIDEO_SUFFIXES
from framecast.media.write import write_video
from framecast.models.base import LatentModel, Predictor
from framecast.training.run_folder import Run

#: Pictures or clips beside a run's weights that its verbs begin with where nobody names others.
EXAMPLES = "examples"
#: Films of a moving coordinate show so many pictures a second.
TRAVERSE_FPS = 10.0


@dataclass(frozen=True)
class Told:
    """What a verb did: files by name, further facts as plain JSON, and lines for a person."""

    files: dict[str, Path]
    facts: dict[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data: files as text, then the facts."""
        return {"files": {name: str(path) for name, path in self.files.items()}, **self.facts}


def latent_model(run: Run, device: str = "cpu") -> Predictor:
    """The run's model, which encodes and decodes.

    Raises: UserError when it has no latent space.
    """
    model = run.model(device)
    if not isinstance(model, LatentModel):
        raise UserError(f"{run.folder}: {run.config.name} has no latent space; give a run of a model that encodes")
    return model


def out_folder(run: Run, out: str | Path | None) -> Path:
    """Where a verb writes: `out`, or a folder `latents` beside the run's other results."""
    folder = run.results / "latents" if out is None else Path(out)
    if folder.is_file():
        raise UserError(f"{folder}: is a file; --out names a folder")
    return folder


def clips(run: Run, source: str | Path | None = None, count: int = 8, seed: int = 0) -> Tensor:
    """Clips as long as the model's training window, uint8 (n, t, c, h, w) at the model's size, n at most `count`.

    source: picture (it stands still then), video, folder of frames, packed store or a source's name. None takes the
    folder `examples` in the run, else held-out clips of what the run was trained on.
    Raises: UserError when there is nothing of the kind, or the model cannot take it.
    """
    request = run.model_class.request(run.config.model)
    if source is None and (run.folder / EXAMPLES).is_dir():
        source = run.folder / EXAMPLES
    if source is not None:
        path = Path(source).expanduser()
        if path.is_file() and path.suffix.lower() not in VIDEO_SUFFIXES and is_image(path):
            return _standing(path, request, run)
        opened, _ = open_data(_like_training(run, source))
        check_fit(run, opened, str(source))
        return _windows(opened, request, count, seed)
    if not run.config.data.path or not (Path(run.config.data.path).exists() or run.config.data.path in SOURCES):
        raise UserError(f"{run.folder}: what it was trained on ({run.config.data.path!r}) is not here; give --input")
    opened, _ = open_data(run.config.data)
    future = max(1, request.length - request.context)
    held = held_out_clips(opened, request, "test", request.context, future, count, seed)
    return _stacked(held.loader, held.pairs, request)


def _like_training(run: Run, source: str | Path) -> DataConfig:
    trained = run.config.data
    return DataConfig(path=str(source), size=trained.size or trained.trained_size, fit=trained.fit, axes=trained.axes)


def _standing(path: Path, request: ClipRequest, run: Run) -> Tensor:
    frame = read_image(path)
    if run.config.spec.channels == 1:
        frame = np.round(frame.mean(axis=0, keepdims=True)).astype(np.uint8)
    if frame.shape[0] != run.config.spec.channels:
        raise UserError(
            f"{path}: is a colour picture but {run.folder} was trained on {run.config.spec.channels} channels"
        )
    size = request.resize or (run.config.spec.height, run.config.spec.width)
    frame = resize_frames(frame[None], size)[0]
    return torch.from_numpy(np.ascontiguousarray(frame))[None, None].repeat(1, request.length, 1, 1, 1)


def _windows(source: Source, request: ClipRequest, count: int, seed: int) -> Tensor:
    whole = [Segment(i, 0, int(n)) for i, n in enumerate(source.lengths)]
    loader = Loader(source, whole, _whole_frames(request), 1, seed)
    return _stacked(loader, loader.windows.fixed(count, seed), request)


def _whole_frames(request: ClipRequest) -> ClipRequest:
    future = max(0, request.length - request.context)
    return ClipRequest(context=request.context, future=future, stride=request.stride, resize=request.resize)


def _stacked(loader: Loader, pairs: Sequence[tuple[int, int]], request: ClipRequest) -> Tensor:
    batch = loader.gather(pairs)
    return torch.cat([batch.context, batch.future], 1)[:, : request.length]


def as_floats(model: Predictor, frames: Tensor) -> Tensor:
    """uint8 frames as float 0…1 on the model's device."""
    parameter = next(model.parameters(), None)
    return frames.to(parameter.device if parameter is not None else "cpu").float().div(255)


# ---------------------------------------------------------------------------------------------------------- traverse


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
) -> Told:
    """What one number of a code does: it goes from `low` to `high` while all others stay as a clip has them.

    source: see `clips`; the first clip is used, its last code.  dims: which numbers, counted from 0; none given are
    those that differ most between clips.  steps: pictures from `low` to `high`.
    Writes traverse.png (a row for each number) and traverse.gif, a tenth of a second a picture.
    Raises: UserError for a number the code has not, or a range of nothing.
    """
    if steps < 2 or not low < high:
        raise UserError(f"--low {low:g}, --high {high:g} and --steps {steps}: need low below high and at least 2 steps")
    model = latent_model(run, device)
    frames = as_floats(model, clips(run, source, 16))
    latents = model.encode(frames)[:, -1]  # type: ignore[operator]
    size = latents.shape[-1]
    if wrong := [d for d in dims if not 0 <= d < size]:
        raise UserError(f"--dims {wrong[0]}: codes of {run.folder} have {size} numbers; give 0…{size - 1}")
    chosen = list(dims) or _most_varied(latents)
    values = torch.linspace(low, high, steps, device=latents.device)
    context = frames[:1, : model.num_context]
    films: dict[str, Tensor] = {}
    for dim in chosen:
        moved = latents[0].repeat(steps, 1)
        moved[:, dim] = values
        pictures = model.decode(moved[:, None], context.expand(steps, -1, -1, -1, -1))  # type: ignore[operator]
        films[f"dim {dim}"] = pictures[:, -1].clamp(0, 1).cpu()
    folder = out_folder(run, out)
    shown = _spread(steps, 11)
    captions = [f"{float(values[i]):g}" for i in shown]
    files = {
        "sheet": write_image(grid({k: v[shown] for k, v in films.items()}, captions), folder / "traverse.png"),
        "film": write_video(side_by_side(films), folder / "traverse.gif", TRAVERSE_FPS),
    }
    return Told(files, {"dims": chosen, "values": [round(float(v), 6) for v in values]})


def _most_varied(latents: Tensor, count: int = 3) -> list[int]:
    """The numbers that differ most between clips; of a single clip, the largest."""
    spread = latents.std(0) if len(latents) > 1 else latents[0].abs()
    return [int(i) for i in spread.argsort(descending=True, stable=True)[:count]]


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of 0…count - 1, evenly spread, both ends among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})
