"""Clips for other programs to forecast, and their forecasts: folders of plain files with a manifest.

`framecast data clips` writes one:

    manifest.json     format, data and digest, split, seed, context, horizon, frame size, actions; every clip's id,
                      video and last context frame
    <id>.npz          context uint8 (t, c, h, w); actions (t + horizon - 1, …) if the data have any; truth on request

The forecasts are a folder with a copy of manifest.json and for every clip either

    <id>.npz          prediction, uint8 or float 0…1: (horizon, c, h, w) or (horizon, h, w, c), samples before it
    <id>/*.png        one image per frame in natural order; samples in folders of their own, <id>/<sample>/*.png

The copy may also contain "predictor": {"name", "parameters", "training_steps", "training_seconds", "stride"}; with a
stride k the frames are k, 2k, … of the horizon. Nothing here executes code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.core.commit import check_target, replaced_folder
from framecast.core.config import from_dict, require_least, to_dict
from framecast.core.errors import UserError, writing
from framecast.core.io import read_file, write_json
from framecast.core.types import FORMAT, ActionSpec, Batch
from framecast.data.base import Source
from framecast.data.cache import open_data
from framecast.data.digest import data_digest
from framecast.data.options import DataConfig
from framecast.data.readers.arrays import load_arrays
from framecast.evaluation.clips import split_segments, spread_clips, take_part
from framecast.evaluation.score_table import Forecaster
from framecast.media.images import IMAGE_SUFFIXES, natural_key, natural_order, read_image
from framecast.media.resize import Fit
from framecast.training.checkpoint import check_format

MANIFEST = "manifest.json"
_SLACK = 1e-3  # tolerance of floats outside 0…1


@dataclass(frozen=True, kw_only=True)
class ClipEntry:
    """One clip.

    Attributes:
        id: Name of its files.
        video: Name of the video.
        frame: Last context frame, of the video.
    """

    id: str
    video: str
    frame: int


@dataclass(frozen=True, kw_only=True)
class PredictorEntry:
    """Program that made the forecasts, as far as it is given.

    Attributes:
        name: In tables.
        parameters: Number of parameters.
        training_steps: Number of training steps.
        training_seconds: Training time.
        stride: Source frames per forecast frame.
    """

    name: str | None = None
    parameters: int | None = None
    training_steps: int | None = None
    training_seconds: float | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise UserError(f"predictor: stride must be at least 1, got {self.stride}")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Contents of a folder of clips or forecasts; other fields as in a protocol.

    Attributes:
        clips: In their order.
        size: Frame size of the opened data.
        fit: Resizing of the opened data.
        axes: Order of axes of the opened data.
        part: Part of the videos, "1/2".
        actions: Action specification of the data.
        truth: Whether the folder contains the true frames.
        predictor: Program that made the forecasts.
    """

    data: str
    data_digest: str
    split: str
    seed: int
    context: int
    horizon: int
    height: int
    width: int
    channels: int
    fps: float
    clips: tuple[ClipEntry, ...]
    size: str | None = None
    fit: Fit = "crop"
    axes: str | None = None
    part: str | None = None
    actions: ActionSpec | None = None
    truth: bool = False
    predictor: PredictorEntry = dataclasses.field(default_factory=PredictorEntry)

    def __post_init__(self) -> None:
        require_least(self, "", context=1, horizon=1, height=1, width=1, channels=1)
        ids = [clip.id for clip in self.clips]
        if not ids:
            raise UserError("lists no clips; write the clips again with framecast data clips")
        if len(set(ids)) < len(ids):
            raise UserError("contains a clip twice; write the clips again with framecast data clips")
        for clip in ids:  # part of a path
            if not clip.replace("-", "").replace("_", "").isalnum():
                raise UserError(f"clip id {clip!r} must consist of letters, digits, - and _")

    def to_json(self) -> dict[str, Any]:
        """Plain values, the format number first."""
        return {"format": FORMAT, "kind": "framecast-clips", **to_dict(self)}


def is_exchange(folder: Path) -> bool:
    """Whether a folder holds a manifest rather than a run."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        UserError: When the file is missing, damaged, newer or of another kind.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder}: has no {MANIFEST}; copy the one that framecast data clips wrote")
    data = read_file(path)
    check_format(data.pop("format", None), path)
    if data.pop("kind", None) != "framecast-clips":
        raise UserError(f"{path}: expected kind framecast-clips; copy the manifest that framecast data clips wrote")
    return from_dict(Manifest, data, str(path))


def write_clips(
    manifest: Manifest, source: Source, pairs: Sequence[tuple[int, int]], folder: Path, overwrite: bool = False
) -> Path:
    """Write contexts, actions and, if `manifest.truth`, true frames; the folder appears when it is complete.

    Args:
        pairs: (video, first context frame) of every clip, in the manifest's order.

    Raises:
        UserError: When the folder is not empty, or cannot be written.
    """
    check_target(folder, "clips", overwrite)
    with writing(folder, "free some space or choose another --out"), replaced_folder(folder) as part:
        _write_clips(manifest, source, pairs, part)
    return folder


def _write_clips(manifest: Manifest, source: Source, pairs: Sequence[tuple[int, int]], part: Path) -> None:
    for entry, (video, start) in zip(manifest.clips, pairs, strict=True):
        clip = source.clip(video, start, manifest.context + manifest.horizon)
        arrays: dict[str, Any] = {"context": clip.frames[: manifest.context]}
        if "actions" in clip.arrays:
            arrays["actions"] = clip.arrays["actions"][:-1]
        if manifest.truth:
            arrays["truth"] = clip.frames[manifest.context :]
        np.savez_compressed(part / f"{entry.id}.npz", **arrays)
    write_json(part / MANIFEST, manifest.to_json())


def make_clips(
    data: str | Path,
    out: str | Path,
    *,
    split: str = "test",
    context: int = 4,
    horizon: int | None = None,
    clips: int = 32,
    seed: int = 0,
    part: str | None = None,
    size: str | None = None,
    fit: Fit = "crop",
    axes: str | None = None,
    with_truth: bool = False,
    overwrite: bool = False,
) -> Manifest:
    """Choose clips as `compare` does and write them for other programs; returns the manifest.

    Args:
        data: As for `compare`.
        out: Folder to write.
        context: Source frames before the forecast.
        horizon: Source frames to forecast; None is 64, or half of what the longest held-out video leaves.
        with_truth: Write the true frames too.

    Raises:
        UserError: When the data cannot give such clips, or the folder cannot be written.
    """
    if min(n for n in (context, clips, horizon) if n is not None) < 1:
        raise UserError("--context, --horizon and --clips must be at least 1")
    config = DataConfig(path=str(data), size=size, fit=fit, axes=axes)
    source, _ = open_data(config)
    segments = take_part(source, split_segments(source, split, [context + 1]), part)
    chosen, ahead = spread_clips(source, segments, split, context, horizon, clips, seed)
    digits = len(str(len(chosen.pairs) - 1))
    manifest = Manifest(
        data=Path(data).name or "data",
        data_digest=data_digest(source),
        split=split,
        seed=seed,
        context=context,
        horizon=ahead,
        height=source.spec.height,
        width=source.spec.width,
        channels=source.spec.channels,
        fps=source.spec.fps,
        clips=tuple(
            ClipEntry(id=f"{i:0{digits}d}", video=source.names[video], frame=start + context - 1)
            for i, (video, start) in enumerate(chosen.pairs)
        ),
        size=size,
        fit=fit,
        axes=axes,
        part=part,
        actions=source.spec.actions,
        truth=with_truth,
    )
    write_clips(manifest, source, chosen.pairs, Path(out), overwrite)
    return manifest


# ------------------------------------------------------------------------------------------------------- forecasts


class Forecasts:
    """A folder of forecasts, read and checked clip by clip.

    Args:
        folder: With manifest.json and one .npz file or folder of images per clip.

    Attributes:
        samples: Futures per clip in the files.
        stride: Source frames per forecast frame.

    Raises:
        UserError: When a clip is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, read_manifest(folder)
        self.predictor = self.manifest.predictor
        self.stride = self.predictor.stride
        missing = [clip.id for clip in self.manifest.clips if self._file(clip.id) is None]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UserError(
                f"{folder}: holds no forecast of clip {missing[0]}{more}; every clip of {MANIFEST} needs "
                f"{missing[0]}.npz or a folder {missing[0]} of images"
            )
        self.samples = len(self._read(self.manifest.clips[0].id))

    def _file(self, clip: str) -> Path | None:
        for path in (self.folder / f"{clip}.npz", self.folder / clip):
            if path.is_file() if path.suffix else path.is_dir():
                return path
        return None

    def forecaster(self, name: str, horizon: int, samples: int) -> Forecaster:
        """The folder as a row of a table with this horizon, with at most the first `samples` futures of each clip."""
        frames = tuple(range(self.stride, horizon + 1, self.stride))
        kept = min(self.samples, samples)

        def forecast(batch: Batch, numbers: Sequence[int]) -> Tensor:
            clips = [self.read(number)[:kept, : len(frames)] for number in numbers]
            return torch.from_numpy(np.stack(clips, 1)).to(batch.context.device)

        return Forecaster(name=name, forecast=forecast, samples=kept, frames=frames)

    def read(self, number: int) -> np.ndarray:
        """Forecasts of one clip, float32 (s, frames, c, h, w) in 0…1.

        Raises:
            UserError: For a wrong shape, range or number of samples.
        """
        values = self._read(self.manifest.clips[number].id)
        if len(values) != self.samples:
            raise UserError(
                f"{self.folder / self.manifest.clips[number].id}: holds {len(values)} samples but the first clip has "
                f"{self.samples}; give every clip the same number"
            )
        return values

    def _read(self, clip: str) -> np.ndarray:
        path = self._file(clip)
        assert path is not None
        values = self._shaped(_prediction(path) if path.suffix else _images(path, self.manifest.channels), path)
        if values.dtype == np.uint8:
            return values.astype(np.float32) / 255
        if values.dtype.kind != "f":
            raise UserError(f"{path}: holds {values.dtype}; expected frames as uint8, or as floats in 0…1")
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise UserError(f"{path}: holds values that are not finite; check the program that wrote it")
        if values.min() < -_SLACK or values.max() > 1 + _SLACK:
            raise UserError(
                f"{path}: holds floats from {values.min():.3g} to {values.max():.3g}; scale them to 0…1 or save uint8"
            )
        return values.clip(0, 1)

    def _shaped(self, values: np.ndarray, path: Path) -> np.ndarray:
        """(s, frames, c, h, w) from any of the accepted shapes."""
        m = self.manifest
        count = m.horizon // self.stride
        first, last = (count, m.channels, m.height, m.width), (count, m.height, m.width, m.channels)
        if values.shape[-4:] == first and values.ndim in (4, 5):
            return values.reshape(-1, *first)
        if values.shape[-4:] == last and values.ndim in (4, 5):
            return np.moveaxis(values.reshape(-1, *last), -1, 2)
        raise UserError(
            f"{path}: holds an array of shape {values.shape}; expected {count} frames as {first} or {last}, "
            "samples first"
        )


def _prediction(path: Path) -> np.ndarray:
    arrays = load_arrays(path)
    for name in ("prediction", "predictions", "frames"):
        if name in arrays:
            return arrays[name]
    if len(arrays) == 1:
        return arrays.popitem()[1]
    raise UserError(f"{path}: holds no array called prediction, but {', '.join(arrays) or 'nothing'}; rename it")


def _images(folder: Path, channels: int) -> np.ndarray:
    """uint8 (s, frames, c, h, w)."""
    inner = sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: natural_key(p.name))
    samples = []
    for place in inner or [folder]:
        files = natural_order(p for p in place.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise UserError(f"{place}: holds no images; write one per forecast frame")
        frames = [read_image(file) for file in files]
        if len({frame.shape for frame in frames}) > 1:
            raise UserError(f"{place}: holds images of several sizes; write all in the size of the clips")
        samples.append(np.stack([frame if channels == 3 else frame[:channels] for frame in frames]))
    if len({sample.shape for sample in samples}) > 1:
        raise UserError(f"{folder}: its samples have different numbers of images; give each the same number")
    return np.stack(samples)
