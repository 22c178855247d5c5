"""Flags that several commands have, as base classes of the dataclasses beside the commands."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeVar, dataclass_transform

from framecast.core.flags import RunName, Switch

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def command_flags(cls: type[T]) -> type[T]:
    """A frozen dataclass with keyword arguments; `--help` lists its own flags before the inherited ones."""
    made = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    names = dict.fromkeys(name for base in made.__mro__ for name in vars(base).get("__annotations__", ()))
    found = {f.name: f for f in dataclasses.fields(made)}  # type: ignore[arg-type]
    made.__dataclass_fields__ = {name: found[name] for name in names}  # type: ignore[attr-defined]
    return made


@command_flags
class JsonFlag:
    """Machine-readable result."""

    json: str | None = None
    """Path for the result as JSON; - for standard output."""


@command_flags
class QuietFlag(JsonFlag):
    """Progress output."""

    quiet: Switch = False
    """No progress output."""


@command_flags
class ModelClassFlag(JsonFlag):
    """Models outside the package."""

    model_class: str | None = None
    """Class of a model outside the package: path/to/mine.py:Mine."""


@command_flags
class RunFlag(ModelClassFlag):
    """A run and the class of its model."""

    run: RunName
    """Run folder, name of packaged weights, or hf://organisation/name[@revision]."""


@command_flags
class DeviceFlag:
    """Device of a command that uses one."""

    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:0 or mps."""


@command_flags
class ComputeFlags(DeviceFlag):
    """Device and precision."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Autocast precision."""


@command_flags
class ComparisonFlags(ComputeFlags, QuietFlag):
    """Protocol and ranking of a comparison."""

    context: int | None = None
    """Number of context frames in every clip; as many as the models use if not given."""
    horizon: int | None = None
    """Number of frames to forecast; if not given 64, or half of what the longest held-out video leaves."""
    samples: int = 1
    """Number of futures per clip, for stochastic models."""
    clips: int | None = None
    """Number of clips, one at a random position in each of equal parts of the split; 32 if not given."""
    rank_by: str | None = None
    """Metric of the ranking, such as skill_best, psnr or ssim; skill over copy-last if not given."""
    show: int = 3
    """Number of clips shown on the page of every comparison, from the hardest to the easiest."""


@command_flags
class ReadFlags(JsonFlag):
    """Settings of readers that any format may need."""

    axes: str | None = None
    """Axes of .npy files, such as nthwc."""
    skip_bad: Switch = False
    """Skipping of unreadable files, with a count."""


@command_flags
class SizeFlags(ReadFlags):
    """Settings of readers that resize."""

    size: str | None = None
    """Frame size, 128 (shorter side) or 96x128; unchanged if not given."""
    fit: Literal["crop", "pad", "squash"] = "crop"
    """Method for frames of another aspect ratio: crop, pad or squash."""


@command_flags
class RateFlag:
    """Frame rate of a reader."""

    fps: float | None = None
    """Frame rate to resample videos to; for frames and arrays, the rate they have (30 if not given)."""


@command_flags
class OutputFlags(JsonFlag):
    """Folder of what a command writes as a whole."""

    out: str
    """Output folder."""
    overwrite: Switch = False
    """Replacement of an existing output, after the new one is complete."""


@command_flags
class ServeFlags(JsonFlag):
    """A page served to browsers."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all, then the URL holds a token that every request needs."""
    port: int = 8765
    """Port to listen on; 0 selects a free one."""
    sessions: int = 4
    """Maximum number of concurrent browsers."""
    open: Switch = False
    """Opening of the page in this machine's browser."""


@command_flags
class WeightsFlags:
    """Form of exported weights."""

    half: Switch = False
    """Half precision for the stored weights, which halves the size."""
    inference_only: Switch = False
    """Weights for inference only, without modules that only training needs, such as a discriminator."""


@command_flags
class UploadFlags(JsonFlag):
    """An upload to the Hugging Face Hub."""

    yes: Switch = False
    """Upload, instead of a list of the files."""
    license: str | None = None
    """Licence on the card, such as apache-2.0; that of packaged weights, otherwise other, if not given."""
    private: Switch = False
    """Private repository, if it is created."""
    revision: str | None = None
    """Existing branch; the main one if not given."""
    message: str | None = None
    """Message of the commit."""
    endpoint: str | None = None
    """Address of another Hub; $HF_ENDPOINT or the public one if not given."""
