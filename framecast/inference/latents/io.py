"""Inputs and outputs shared by the latent commands: model, clips, output folder, result."""

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
from framecast.media.images import is_image, read_image
from framecast.media.resize import resize_frames
from framecast.media.video import VIDEO_SUFFIXES
from framecast.models.base import Predictor
from framecast.models.latent import LatentModel
from framecast.training.run_folder import Run

#: Folder in a run with images or clips that the commands use by default.
EXAMPLES = "examples"


@dataclass(frozen=True)
class LatentResult:
    """Output of a `framecast latents` command."""

    files: dict[str, Path]
    """Written files by name."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Further results as plain JSON values."""
    lines: tuple[str, ...] = ()
    """Lines for the terminal."""

    def to_json(self) -> dict[str, Any]:
        """Files as text, then the facts."""
        return {"files": {name: str(path) for name, path in self.files.items()}, **self.facts}


def latent_model(run: Run, device: str = "cpu") -> Predictor:
    """The run's model, a `LatentModel`.

    Raises:
        UserError: the model has no latent space.
    """
    model = run.model(device)
    if not isinstance(model, LatentModel):
        raise UserError(f"{run.label}: {run.config.name} has no latent space; use a run of a model with an encoder")
    return model


def out_folder(run: Run, out: str | Path | None) -> Path:
    """Output folder of a command: `out`, by default `latents` in the results folder of the run."""
    folder = run.results / "latents" if out is None else Path(out)
    if folder.is_file():
        raise UserError(f"{folder}: is a file; --out must be a folder")
    return folder


def clips(run: Run, source: str | Path | None = None, count: int = 8, seed: int = 0) -> Tensor:
    """Clips of the model's training length and frame size, uint8 (n, t, c, h, w).

    Args:
        source: image (repeated to a still clip), video, folder of frames, packed store or name of a source. None uses
            the folder `examples` in the run, otherwise held-out clips of the training data.
        count: largest number n of clips.
        seed: random seed for clip selection.

    Raises:
        UserError: there are no such clips, or the model cannot take them.
    """
    request = run.model_class.request(run.config.model)
    if source is None and (run.folder / EXAMPLES).is_dir():
        source = run.folder / EXAMPLES
    if source is not None:
        path = Path(source).expanduser()
        if path.is_file() and path.suffix.lower() not in VIDEO_SUFFIXES and is_image(path):
            return _still_clip(path, request, run)
        opened, _ = open_data(_training_data_config(run, source))
        check_fit(run, opened, str(source))
        return _windows(opened, request, count, seed)
    if not run.config.data.path or not (Path(run.config.data.path).exists() or run.config.data.path in SOURCES):
        raise UserError(f"{run.label}: training data {run.config.data.path!r} not found; use --input")
    opened, _ = open_data(run.config.data)
    future = max(1, request.length - request.context)
    held = held_out_clips(opened, request, "test", request.context, future, count, seed)
    return _gathered(held.loader, held.pairs, request)


def _training_data_config(run: Run, source: str | Path) -> DataConfig:
    trained = run.config.data
    return DataConfig(path=str(source), size=trained.size or trained.trained_size, fit=trained.fit, axes=trained.axes)


def _still_clip(path: Path, request: ClipRequest, run: Run) -> Tensor:
    frame = read_image(path)
    if run.config.spec.channels == 1:
        frame = np.round(frame.mean(axis=0, keepdims=True)).astype(np.uint8)
    if frame.shape[0] != run.config.spec.channels:
        raise UserError(
            f"{path}: colour image with 3 channels, but {run.label} was trained on {run.config.spec.channels}"
        )
    size = request.resize or (run.config.spec.height, run.config.spec.width)
    frame = resize_frames(frame[None], size)[0]
    return torch.from_numpy(np.ascontiguousarray(frame))[None, None].repeat(1, request.length, 1, 1, 1)


def _windows(source: Source, request: ClipRequest, count: int, seed: int) -> Tensor:
    whole = [Segment(i, 0, int(n)) for i, n in enumerate(source.lengths)]
    loader = Loader(source, whole, _whole_frames(request), 1, seed)
    return _gathered(loader, loader.windows.fixed(count, seed), request)


def _whole_frames(request: ClipRequest) -> ClipRequest:
    future = max(0, request.length - request.context)
    return ClipRequest(context=request.context, future=future, stride=request.stride, resize=request.resize)


def _gathered(loader: Loader, pairs: Sequence[tuple[int, int]], request: ClipRequest) -> Tensor:
    batch = loader.gather(pairs)
    return torch.cat([batch.context, batch.future], 1)[:, : request.length]


def as_floats(model: Predictor, frames: Tensor) -> Tensor:
    """uint8 frames as float 0…1 on the model's device."""
    parameter = next(model.parameters(), None)
    return frames.to(parameter.device if parameter is not None else "cpu").float().div(255)
