"""Configuration of a run: model, data and training settings, with conversion to and from JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

import framecast
from framecast.core.config import brief, differences, from_dict, parse_duration, to_dict
from framecast.core.errors import UserError
from framecast.core.io import read_file, write_json
from framecast.core.migration import complete_data, complete_train, migrate_config
from framecast.core.types import FORMAT, ClipRequest, ClipSpec
from framecast.data.base import Segment, Source
from framecast.data.digest import same_data
from framecast.data.options import DataConfig
from framecast.models import MODELS
from framecast.models.base import Predictor
from framecast.models.registry import find_model
from framecast.training.checkpoint import check_format
from framecast.training.trackers import tracker_names

CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of training. Exactly one of steps, epochs and budget ends the run."""

    steps: int | None = None
    """Number of training steps."""
    epochs: float | None = None
    """Number of passes over the clips."""
    budget: str | None = None
    """Training time, such as 90s, 10m or 1.5h."""
    clock: Literal["wall", "cpu"] = "wall"
    """Time that a budget counts: wall-clock, or processor time of this process, whatever else the machine does."""
    batch_size: int = 8
    """Number of clips per step, over all processes."""
    grad_accum_steps: int = 1
    """Micro-batches per step (gradient accumulation), to save memory."""
    seed: int = 0
    """Random seed for weights, clip selection and noise."""
    ema: float = 0.999
    """Decay of the exponential moving average of the weights, which is evaluated and saved; 0 turns it off."""
    order: Literal["random", "epoch", "shards"] = "random"
    """Order of clips: random draws with replacement, first the video, then the start; epoch uses each once; shards, for
    stores of format 2 larger than memory, too, but reads few shards at a time."""
    shuffle_shards: int = 8
    """Number of shards that a batch is drawn from, with --train.order shards; a multiple of the processes."""
    steps_per_epoch: int = 0
    """Steps per epoch under random order; 0 for clips / batch-size."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Autocast precision; auto selects bf16 on hardware that supports it."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compilation of the losses by torch.compile; auto is on with a GPU and off on a CPU."""
    cuda_graph: bool = False
    """Recording of losses and gradients as CUDA graphs, where shapes are static; ignored on a CPU."""
    deterministic: bool = False
    """Deterministic algorithms only: a GPU repeats a run bit for bit, slower; an error where there is none."""
    stats_every: int = 10
    """Steps between losses written to metrics.jsonl."""
    summary_every: int = 100
    """Steps between scalars written for TensorBoard."""
    preview_every: int = 1000
    """Steps between preview images."""
    validate_every: int = 1000
    """Steps between validations."""
    save_every: int = 1000
    """Steps between checkpoints."""
    every: Literal["steps", "epochs"] = "steps"
    """Unit of the three frequencies above."""
    val_batches: int = 8
    """Number of batches per validation."""
    select: Literal["last", "loss", "skill"] = "last"
    """Weights saved by the last stage: the last ones, or those with the best validation loss or skill of a roll-out."""
    select_horizon: int = 0
    """Frames of a roll-out at validations, which logs val/skill; 0 for none, or for the targets if skill selects."""
    validate_train: bool = False
    """Validation on as many training batches too, with the same weights, for comparison (overfitting)."""
    prefetch: int | None = None
    """Batches that a thread makes ahead of the step; 0 for no thread. By default 2 on a GPU and 0 on a CPU."""
    keep: int = 3
    """Number of weight snapshots to keep."""
    tensorboard: bool = True
    """Log files for TensorBoard."""
    mirror: str = ""
    """Address that every checkpoint is copied to, such as s3://bucket/runs/name; a run that is missing here resumes
    from it."""
    log: str = ""
    """Further experiment trackers, separated by commas: wandb, mlflow, trackio."""

    def __post_init__(self) -> None:
        tracker_names(self.log, self.tensorboard)
        for name in ("batch_size", "grad_accum_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        for name in (
            "stats_every",
            "summary_every",
            "preview_every",
            "validate_every",
            "save_every",
            "val_batches",
            "keep",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"--train.{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if self.select_horizon < 0:
            raise UserError(f"--train.select-horizon must be at least 0, got {self.select_horizon}")
        if self.steps_per_epoch < 0:
            raise UserError(
                f"--train.steps-per-epoch must be at least 1, or 0 for all clips, got {self.steps_per_epoch}"
            )
        if self.prefetch is not None and self.prefetch < 0:
            raise UserError(f"--train.prefetch must be at least 0, got {self.prefetch}")
        if not 0 <= self.ema < 1:
            raise UserError(f"--train.ema must be a decay in 0…1 (below 1), got {self.ema}")
        if sum(v is not None for v in (self.steps, self.epochs, self.budget)) > 1:
            raise UserError("expected one of --steps, --epochs and --budget, got several")
        if self.budget is not None:
            parse_duration(self.budget)
        for name in ("steps", "epochs"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"--{name} must be above 0, got {value}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything needed to repeat a run.

    Attributes:
        name: of the model.
        profile: of the model.
        model: the model's config.
        train: training settings.
        data: data settings.
        spec: format of the model's frames.
    """

    name: str
    profile: str = "default"
    model: Any = None
    train: TrainConfig = field(default_factory=TrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
    spec: ClipSpec = field(default_factory=lambda: ClipSpec(channels=3, height=32, width=32))

    def to_json(self, local: bool = True) -> dict[str, Any]:
        """Plain data for config.json.

        Args:
            local: False removes local paths, for exported weights.
        """
        data = to_dict(self)
        if not local:
            data["data"]["path"] = Path(self.data.path).name
            data["train"]["mirror"] = ""
            data["name"] = self.name.rsplit("/", 1)[-1]
        return {"format": FORMAT, "version": framecast.__version__, **data}


def config_from_json(data: Mapping[str, Any], where: Path, model_class: type[Predictor] | None = None) -> RunConfig:
    """A RunConfig from the result of `RunConfig.to_json`.

    Args:
        data: plain data of this or an older version.
        where: the file, for errors.
        model_class: class of a model outside the package; a config never names code to run.

    Raises:
        UserError: `data` is invalid, or an outside model without `model_class`.
    """
    check_format(data.get("format"), where)
    data = migrate_config(data)
    fields = {k: v for k, v in data.items() if k not in ("format", "version", "model", "trained")}
    if model_class is None:
        name = data.get("name", "")
        if name not in MODELS:
            raise UserError(
                f"{where}: belongs to the outside model {name!r}; give its class, e.g. --model-class mine.py:Mine"
            )
        model_class = find_model(name)
    config = from_dict(RunConfig, fields, str(where))
    return dataclasses.replace(config, model=from_dict(model_class.Config, data.get("model", {}), f"{where}: model"))


def short_run(train: TrainConfig, budget: str, seed: int = 0) -> TrainConfig:
    """Settings of a training of about a minute: a budget, and no validation, preview or checkpoint before its end."""
    never = 10**9
    return dataclasses.replace(
        train,
        steps=None,
        epochs=None,
        budget=budget,
        seed=seed,
        select="last",
        validate_every=never,
        preview_every=never,
        save_every=never,
    )


def check_actions(model_class: type[Predictor], source: Source, where: str | Path = "the data") -> None:
    """Check that the data have actions if the model requires them.

    Raises:
        UserError: they have none.
    """
    if model_class.actions == "required" and source.spec.actions is None:
        raise UserError(
            f"{where}: has no actions but {model_class.__name__} requires them; use data with actions, "
            "such as framecast data make atari"
        )


def model_spec(source: Source, request: ClipRequest, train: list[Segment]) -> ClipSpec:
    """Format of the model's frames: after resizing, and with mean and std of continuous actions over `train`."""
    spec = source.spec
    if request.resize is not None:
        spec = dataclasses.replace(spec, height=request.resize[0], width=request.resize[1])
    if spec.actions is not None and spec.actions.kind == "continuous":
        from framecast.data.loader import action_statistics

        spec = dataclasses.replace(spec, actions=action_statistics(source, train))
    return dataclasses.replace(spec, extras=dict(spec.extras))


def every_in_steps(train: TrainConfig, steps_per_epoch: int) -> TrainConfig:
    """The settings with frequencies in steps instead of epochs."""
    if train.every == "steps":
        return train
    names = ("preview_every", "validate_every", "save_every")
    return dataclasses.replace(train, every="steps", **{n: getattr(train, n) * steps_per_epoch for n in names})


def resolve_steps(train: TrainConfig, num_clips: int) -> tuple[int, int | None]:
    """(steps per epoch, steps of the whole run or None under a time budget)."""
    per_epoch = train.steps_per_epoch or math.ceil(num_clips / train.batch_size)
    if train.steps is not None:
        return per_epoch, train.steps
    if train.epochs is not None:
        return per_epoch, max(1, round(train.epochs * per_epoch))
    return per_epoch, None


def resolve_length(train: TrainConfig, num_clips: int, device: torch.device) -> tuple[int | None, float | None]:
    """(steps, seconds) of the whole run; one of the two is None.

    Raises:
        UserError: the run has no length, or the clock does not count the time of the device.
    """
    total, budget = resolve_steps(train, num_clips)[1], parse_duration(train.budget) if train.budget else None
    if total is None and budget is None:
        raise UserError("no length of training; use --steps N, --epochs N or --budget 10m")
    if budget is not None and train.clock == "cpu" and device.type != "cpu":
        raise UserError(f"--train.clock cpu counts no time of {device}; use --train.clock wall")
    return total, budget


#: Settings that may differ between the first command and the one that resumes it.
CHANGEABLE = (
    "train.steps",
    "train.epochs",
    "train.budget",
    "train.grad_accum_steps",
    "train.compile",
    "train.cuda_graph",
    "train.stats_every",
    "train.summary_every",
    "train.preview_every",
    "train.save_every",
    "train.prefetch",
    "train.keep",
    "train.mirror",
    "train.tensorboard",
    "train.log",
    "data.path",
    "data.skip_bad",
)


def check_resume(folder: Path, config: RunConfig) -> None:
    """Check that a run is resumed with its stored settings, except those in `CHANGEABLE`.

    Raises:
        UserError: other settings differ.
    """
    stored = migrate_config(read_file(folder / CONFIG))
    check_format(stored.get("format"), folder / CONFIG)
    stored["train"] = complete_train(stored.get("train", {}))
    stored["data"] = complete_data(stored.get("data", {}))
    stored["model"] = _completed(config.model, stored.get("model", {}))
    new = json.loads(json.dumps(config.to_json()))
    changed = differences(stored, new)
    if same_data(*(str(value) for value in changed.get("data.digest", ("", "")))):
        changed.pop("data.digest", None)  # a digest of an older version, of the same data
    refused = {k: v for k, v in changed.items() if k not in CHANGEABLE and k not in ("version", "format")}
    if refused:
        listed = "; ".join(
            f"{k} was {brief(old)} and is now {brief(new)}" for k, (old, new) in list(refused.items())[:3]
        )
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise UserError(
            f"{folder}: holds a run with other settings ({listed}{more}); choose another --out, or give --overwrite"
        )


def _completed(model: Any, stored: Any) -> Any:
    """A model's stored config; settings that its version lacked have their defaults, which repeat older runs."""
    if not isinstance(stored, Mapping) or not dataclasses.is_dataclass(model):
        return stored
    found = dict(stored)
    for f in dataclasses.fields(model):
        if f.name in found:
            found[f.name] = _completed(getattr(model, f.name), found[f.name])
        elif f.default is not dataclasses.MISSING:
            found[f.name] = json.loads(json.dumps(to_dict(f.default)))
    return found


def write_config(folder: Path, config: RunConfig) -> None:
    """Write the run's config.json."""
    write_json(folder / CONFIG, config.to_json())
