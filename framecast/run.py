"""A run: what is trained on what and how. Names become objects here and nowhere else."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import framecast
from framecast.config import brief, differences, from_dict, parse_duration, read_file, suggest, to_dict, write_json
from framecast.data import SOURCES
from framecast.data.base import RecordSettings, Segment, Source, World
from framecast.engine.checkpoint import check_format, load_weights, snapshots
from framecast.engine.log import read_metrics
from framecast.models import MODELS
from framecast.models.base import Predictor
from framecast.types import FORMAT, ClipRequest, ClipSpec, UserError

#: A video is decoded once, with its shorter side brought to this many pixels.
VIDEO_SIZE = "128"

CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which frames. path: as the user gave it.  size: "128" (shorter side), "96x128" (height x width) or none.

    trained_size: what frames were brought to, so that a forecast does the same.
    fit: how frames meet a size of another shape.  axes: of .npy files, e.g. "nthwc".  skip_bad: leave out files that
    cannot be read, and count them.  records: how TFRecords are read; None is as `RecordSettings` has it.  digest: of
    names, lengths and origin, so that a run is not resumed on other data.
    """

    path: str = ""
    size: str | None = None
    trained_size: str | None = None
    fit: Literal["crop", "pad", "squash"] = "crop"
    axes: str | None = None
    skip_bad: bool = False
    records: RecordSettings | None = None
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how fast, how often. Exactly one of steps, epochs and budget ends the run."""

    steps: int | None = None
    """Optimiser steps."""
    epochs: float | None = None
    """Passes over the clips."""
    budget: str | None = None
    """Wall-clock, such as 90s, 10m or 1.5h."""
    batch_size: int = 8
    """Clips per step, over all processes."""
    accumulate: int = 1
    """Micro-batches a step is split into, to save memory."""
    seed: int = 0
    """Of everything: weights, clips, noise."""
    ema: float = 0.999
    """Decay of the weights' running average, which is what is evaluated and saved; 0 turns it off."""
    order: Literal["random", "epoch"] = "random"
    """random draws clips with replacement, the video first, then the start; epoch visits each once per pass."""
    steps_per_epoch: int = 0
    """What an epoch means under random order; 0 takes clips / batch-size."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the matrix work; auto takes bf16 where the hardware has it."""
    stats_every: int = 10
    """Steps between losses written to metrics.jsonl."""
    summary_every: int = 100
    """Steps between scalars written for TensorBoard."""
    preview_every: int = 1000
    """Steps between pictures."""
    validate_every: int = 1000
    """Steps between validations."""
    save_every: int = 1000
    """Steps between checkpoints."""
    every: Literal["steps", "epochs"] = "steps"
    """What the three above count."""
    val_batches: int = 8
    """Batches per validation."""
    validate_train: bool = False
    """Validate on as many training batches too, with the same weights, so that the two compare."""
    keep: int = 3
    """Snapshots of the weights that are kept."""
    tensorboard: bool = True
    """Write files for TensorBoard."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate"):
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
        if self.steps_per_epoch < 0:
            raise UserError(
                f"--train.steps-per-epoch must be at least 1, or 0 for all clips, got {self.steps_per_epoch}"
            )
        if not 0 <= self.ema < 1:
            raise UserError(f"--train.ema is a decay in 0…1 (below 1), got {self.ema}")
        if sum(v is not None for v in (self.steps, self.epochs, self.budget)) > 1:
            raise UserError("give one of --steps, --epochs and --budget, not several")
        if self.budget is not None:
            parse_duration(self.budget)
        for name in ("steps", "epochs"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"--{name} must be above 0, got {value}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything needed to rebuild a run. name: of the model.  model: its config.  spec: of the frames it sees."""

    name: str
    profile: str = "default"
    model: Any = None
    train: TrainConfig = field(default_factory=TrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
    spec: ClipSpec = field(default_factory=lambda: ClipSpec(channels=3, height=32, width=32))

    def to_json(self, local: bool = True) -> dict[str, Any]:
        """Plain data for config.json. local: False leaves the data's path out, for weights that travel."""
        data = to_dict(self)
        if not local:
            data["data"]["path"] = Path(self.data.path).name
            data["name"] = self.name.rsplit("/", 1)[-1]
        return {"format": FORMAT, "version": framecast.__version__, **data}


def config_from_json(data: Mapping[str, Any], where: Path, model_class: type[Predictor] | None = None) -> RunConfig:
    """A RunConfig from what `to_json` gave.

    model_class: of a model outside the package; a config never names code to run.
    """
    check_format(data.get("format"), where)
    fields = {k: v for k, v in data.items() if k not in ("format", "version", "model", "trained")}
    if model_class is None:
        name = data.get("name", "")
        if name not in MODELS:
            raise UserError(
                f"{where}: was made by the outside model {name!r}; name its class too, e.g. --model-class mine.py:Mine"
            )
        model_class = find_model(name)
    config = from_dict(RunConfig, fields, str(where))
    return dataclasses.replace(config, model=from_dict(model_class.Config, data.get("model", {}), f"{where}: model"))


# ------------------------------------------------------------------------------------------------- names to objects


def find_model(name: str) -> type[Predictor]:
    """The class behind a model's name, or behind "path/to/mine.py:Mine"."""
    if ".py:" in name:
        return _outside_model(*name.rsplit(":", 1))
    name = ALIASES.get(name, name)
    if name not in MODELS:
        raise UserError(unknown_model(name))
    module, attribute = MODELS[name]
    found: type[Predictor] = getattr(importlib.import_module(module), attribute)
    return found


#: Second names of models.
ALIASES: dict[str, str] = {"vae-mdn-rnn": "dreams"}


def unknown_model(name: str) -> str:
    """The sentence for a name that is no model's."""
    if name.endswith(".py"):
        return f"{name}: name the class in it too, e.g. {name}:Mine"
    return f"unknown model {name!r}; {suggest(name, MODELS)}"


def _outside_model(path: str, attribute: str) -> type[Predictor]:
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{path}: no such file; a model outside the package is named path/to/mine.py:Mine")
    spec = importlib.util.spec_from_file_location(f"framecast_outside_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code may fail in any way
        del sys.modules[spec.name]
        raise UserError(f"{path}: cannot be imported ({type(error).__name__}: {error}); mend it") from error
    found = getattr(module, attribute, None)
    if not (isinstance(found, type) and issubclass(found, Predictor)):
        names = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Predictor)]
        raise UserError(f"{path}: holds no Predictor called {attribute!r}; {suggest(attribute, names)}")
    if not dataclasses.is_dataclass(getattr(found, "Config", None)):
        raise UserError(f"{path}: {attribute} needs a class attribute Config, a frozen dataclass of its settings")
    return found


def find_source(name: str) -> Any:
    """The class behind a source's name."""
    if name not in SOURCES:
        raise UserError(f"unknown source {name!r}; {suggest(name, SOURCES)}")
    module, attribute = SOURCES[name]
    return getattr(importlib.import_module(module), attribute)


def make_source(
    name: str,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Generate source `name` into `folder` and open it. progress: called with parts done and in all."""
    from framecast.data.store import Store

    maker = find_source(name)
    config = from_dict(maker.Config, settings or {}, f"source {name}")
    maker(config).prepare(folder, progress=progress)
    return Store(folder)


def replay(source: Source, video: int, frame: int) -> World | None:
    """The scene of a generated video as it stood at `frame`, to go on with under other actions.

    None where the source's generator cannot bring it back, or what it shows then is not the recorded frame (another
    version of an emulator, say).
    """
    meta = source.meta()
    name = str(meta.get("generator"))
    bring_back = getattr(find_source(name), "replay", None) if name in SOURCES else None
    if source.spec.actions is None or bring_back is None:
        return None
    clip = source.clip(video, 0, frame + 1)
    try:
        world: World = bring_back(meta, source.names[video], clip.arrays["actions"][:frame].tolist())
    except UserError:  # the emulator is not installed here: there is the recording, and no more
        return None
    recorded = clip.frames[frame]
    return world if bool((fitted(world, recorded.shape, meta) == recorded).all()) else None


def fitted(world: World, shape: Sequence[int], meta: Mapping[str, Any]) -> Any:
    """What a world shows, uint8, at the size (c, h, w) of a store's frames, as packing brings it there.

    meta: the store's.
    """
    from framecast.media.resize import Fit, resize_frames

    packed = meta.get("packed")
    fit: Fit = "crop"
    if isinstance(packed, Mapping) and packed.get("fit") in ("squash", "pad"):
        fit = packed["fit"]
    return resize_frames(world.frame()[None], (int(shape[1]), int(shape[2])), fit)[0]


# -------------------------------------------------------------------------------------------------------------- data


def cache_folder() -> Path:
    """Where decoded videos and generated sets are kept: $FRAMECAST_CACHE, else the user's cache folder."""
    if set_by_user := os.environ.get("FRAMECAST_CACHE"):
        return Path(set_by_user)
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "framecast"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home)) / "framecast" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME", home / ".cache")) / "framecast"


def open_data(data: DataConfig, progress: Callable[[int, int], None] | None = None) -> tuple[Source, DataConfig]:
    """The source behind `data.path`: packed store, video, folder of videos or frames, arrays, records, a source's name.

    Videos and folders of frames are decoded once, into the cache; stores, .npy files and TFRecords are read in place.
    progress: called, while that is done, with parts done and in all.
    Returns: the source, and the config with the size that frames were brought to.
    """
    from framecast.data.open import open_path
    from framecast.data.store import Store, pack
    from framecast.media.resize import parse_size

    path = Path(data.path).expanduser()
    if data.path in SOURCES and not path.exists():
        folder = (
            cache_folder() / f"{data.path}-{_digest(framecast.__version__, to_dict(find_source(data.path).Config()))}"
        )
        if not (folder / "index.json").is_file():
            make_source(data.path, folder, progress=progress)
        return Store(folder), data
    if not path.exists() and not path.suffix and "/" not in data.path:
        near = suggest(data.path, [*SOURCES, *(p.name for p in Path().iterdir() if not p.name.startswith("."))])
        raise UserError(f"--data {data.path}: neither a file or folder nor a source's name; {near}")
    asked = parse_size(data.size) if data.size else None
    source = open_path(path, axes=data.axes, size=asked, fit=data.fit, skip_bad=data.skip_bad, records=data.records)
    kind = type(source).__name__
    size = data.size or (VIDEO_SIZE if kind == "Videos" else None)
    if kind == "TFRecords":
        return source, dataclasses.replace(data, trained_size=size)
    if kind in ("Store", "Arrays") and size is None:
        return source, data
    wanted = parse_size(size) if size else None
    folder = (
        cache_folder() / f"{path.stem}-{_digest(_signature(path), size, data.fit, data.axes, framecast.__version__)}"
    )
    if not (folder / "index.json").is_file():
        if kind == "Videos":  # scaled while decoding: a phone clip at full size would not fit into memory
            source = open_path(path, size=wanted, fit=data.fit, skip_bad=data.skip_bad)
        pack(source, folder, size=wanted, fit=data.fit, skip_bad=data.skip_bad, progress=progress)
    return Store(folder), dataclasses.replace(data, trained_size=size)


def check_actions(model_class: type[Predictor], source: Source, where: str | Path = "the data") -> None:
    """Refuse data without actions for a model that predicts from them.

    Raises: UserError naming the data.
    """
    if model_class.actions == "required" and source.spec.actions is None:
        raise UserError(
            f"{where}: holds no actions but {model_class.__name__} predicts from them; take data that has them, "
            "such as framecast data make atari"
        )


def data_digest(source: Source) -> str:
    """Sixteen hex digits that change when the videos, their lengths or their origin do."""
    origin = {k: v for k, v in source.meta().items() if k not in ("path", "folder")}
    return _digest(list(source.names), [int(n) for n in source.lengths], origin)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _signature(path: Path) -> list[Any]:
    """What tells one state of a file or folder from another without reading it: names, sizes, times."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [str(path.resolve()), [[str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns] for f in files]]


def model_spec(source: Source, request: ClipRequest, train: list[Segment]) -> ClipSpec:
    """What the model will see: the source's spec after resizing, continuous actions with mean and sd of `train`."""
    spec = source.spec
    if request.resize is not None:
        spec = dataclasses.replace(spec, height=request.resize[0], width=request.resize[1])
    if spec.actions is not None and spec.actions.kind == "continuous":
        from framecast.data.loader import action_statistics

        spec = dataclasses.replace(spec, actions=action_statistics(source, train))
    return dataclasses.replace(spec, extras=dict(spec.extras))


def every_in_steps(train: TrainConfig, steps_per_epoch: int) -> TrainConfig:
    """The settings with what happens every so many epochs said in steps."""
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


# -------------------------------------------------------------------------------------------------------- run folder


@dataclass
class Run:
    """An opened run folder: its config, and where its weights are.

    name: as the user gave it.  own: it is a folder of the user's; packaged and downloaded weights are only read.
    """

    folder: Path
    config: RunConfig
    model_class: type[Predictor]
    name: str = ""
    own: bool = True

    @property
    def results(self) -> Path:
        """Where scores and reports go: the run folder; NAME-results in the current one for weights only read."""
        return self.folder if self.own else Path(f"{self.name.partition('@')[0].rsplit('/', 1)[-1]}-results")

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """The one size (h, w) of frames that the run's model takes; None where it takes any."""
        return self.model_class.frame_size(self.config.model, self.config.spec)

    @property
    def trained(self) -> tuple[int | None, float | None]:
        """Steps and seconds of training: of its log, or, for weights that travelled, what their config says."""
        kept = snapshots(self.folder)
        rows = read_metrics(self.folder)
        if not kept and not rows:
            path = self.folder / CONFIG
            told = read_file(path).get("trained") if path.is_file() else None
            told = told if isinstance(told, dict) else {}
            steps, seconds = told.get("steps"), told.get("seconds")
            return steps if isinstance(steps, int) else None, seconds if isinstance(seconds, int | float) else None
        steps = int(kept[-1].name[5:]) if kept else int(rows[-1]["step"])
        return steps, next((float(row["seconds"]) for row in reversed(rows) if "seconds" in row), None)

    @property
    def weights(self) -> Path:
        """The newest weights file.

        Raises: UserError when the run has none yet.
        """
        kept = snapshots(self.folder)
        path = (kept[-1] if kept else self.folder) / "model.safetensors"
        if not path.is_file():
            raise UserError(f"{self.folder}: holds no weights yet; train it first (framecast train)")
        return path

    def model(self, device: str = "cpu") -> Predictor:
        """The predictor with its EMA weights, in eval mode."""
        import torch

        model = self.model_class(self.config.model, self.config.spec)
        if list(model.state_dict()):
            load_weights(model, self.weights)
        return model.to(torch.device(device)).eval().requires_grad_(False)


def open_run(name: str | Path, model_class: type[Predictor] | None = None) -> Run:
    """The run behind a folder, the name of packaged weights or `hf://org/name[@revision]`.

    Raises: UserError when there is none, or it is not a run folder.
    """
    folder, own = _resolve_run(str(name))
    path = folder / CONFIG
    if not path.is_file():
        kept = snapshots(folder)
        if not kept:
            raise UserError(f"{folder}: has no {CONFIG}, so it is not a run folder; make one with framecast train")
        path = kept[-1] / CONFIG
    config = config_from_json(read_file(path), path, model_class)
    return Run(folder, config, model_class or find_model(config.name), name=str(name), own=own)


def packaged() -> dict[str, Path]:
    """Weights that came with the package, by name."""
    root = Path(__file__).parent / "pretrained"
    return {p.parent.name: p.parent for p in sorted(root.glob("*/config.json"))}


def _resolve_run(name: str) -> tuple[Path, bool]:
    """The run's folder, and whether it is the user's own. A path that does not exist is never fetched from anywhere."""
    folder = Path(name).expanduser()
    known = packaged()
    if folder.is_dir():
        return folder, folder.resolve() not in [p.resolve() for p in known.values()]
    if name in known:
        return known[name], False
    if name.startswith("hf://"):
        return _from_hub(name), False
    if folder.is_file():
        raise UserError(f"{name}: is a file; give the run's folder")
    parent = folder.parent if folder.parent.is_dir() else Path()
    near = [str(p) for p in parent.iterdir() if (p / CONFIG).is_file() or snapshots(p)] + list(known)
    raise UserError(f"{name}: no such run folder or packaged weights; {suggest(name, near)}")


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.removeprefix("hf://").partition("@")
    if repository.count("/") != 1:
        raise UserError(f"{name}: write hf://organisation/name or hf://organisation/name@revision")
    try:
        patterns = ["config.json", "model.safetensors", "README.md", "scores.json"]
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{name}: cannot be fetched ({type(error).__name__}); check name, revision and network, or give a folder"
        ) from error


def load(name: str | Path, device: str = "cpu", model: type[Predictor] | None = None) -> Predictor:
    """The predictor of a run, in eval mode with EMA weights.

    name: run folder, packaged weights or hf:// name.  model: the class, for a model outside the package.
    Raises: UserError when there is no such run or it is damaged.
    """
    return open_run(name, model).model(device)


#: What may change between the first command and the one that resumes it.
CHANGEABLE = (
    "train.steps",
    "train.epochs",
    "train.budget",
    "train.accumulate",
    "train.stats_every",
    "train.summary_every",
    "train.preview_every",
    "train.save_every",
    "train.keep",
    "train.tensorboard",
    "data.path",
    "data.skip_bad",
)


def check_resume(folder: Path, config: RunConfig) -> None:
    """Refuse to go on with a run under other settings, saying what differs; steps, budget and log settings may."""
    stored = read_file(folder / CONFIG)
    check_format(stored.get("format"), folder / CONFIG)
    new = json.loads(json.dumps(config.to_json()))
    changed = differences(stored, new)
    refused = {k: v for k, v in changed.items() if k not in CHANGEABLE and k not in ("version", "format")}
    if refused:
        said = "; ".join(f"{k} was {brief(old)} and is now {brief(new)}" for k, (old, new) in list(refused.items())[:3])
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise UserError(
            f"{folder}: holds a run with other settings ({said}{more}); choose another --out, or give --overwrite"
        )


def write_config(folder: Path, config: RunConfig) -> None:
    """Write the run's config.json."""
    write_json(folder / CONFIG, config.to_json())
