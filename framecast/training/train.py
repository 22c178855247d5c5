"""Training a predictor: from names and settings to a finished run folder."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.io import read_file
from framecast.core.migration import migrate_run_folder
from framecast.core.random import seed_for
from framecast.data.base import Source
from framecast.data.cache import data_digest, open_data
from framecast.data.loader import Loader
from framecast.models import MODELS
from framecast.models.base import Predictor
from framecast.models.registry import find_model
from framecast.training.checkpoint import CHECKPOINT, check_format, load_matching, restore
from framecast.training.config import (
    CONFIG,
    RunConfig,
    TrainConfig,
    check_actions,
    check_resume,
    every_in_steps,
    model_spec,
    resolve_steps,
    write_config,
)
from framecast.training.device import Device, make_device
from framecast.training.presets import preset
from framecast.training.run_folder import open_run
from framecast.training.state import TrainState
from framecast.training.trainer import Trainer


def train(
    model: str | type[Predictor],
    data: str | Path | Source,
    *,
    out: str | Path | None = None,
    profile: str = "default",
    config: RunConfig | None = None,
    init_from: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    quiet: bool = False,
    **settings: Any,
) -> Path:
    """Train a predictor and return its run folder; called again with the same arguments it goes on where it stopped.

    model: a name (`framecast models`), "path/to/mine.py:Mine" or a Predictor subclass.  data: a path, a source's name
    or an object with the Source protocol.  out: the run folder, runs/<model>-<data> by default.  config: a whole
    RunConfig in place of the profile's.  settings: fields of TrainConfig, e.g. steps=, budget=, batch_size=, seed=.
    Raises: UserError for bad input; Interrupted after a signal, with everything saved.
    """
    known = [f.name for f in dataclasses.fields(TrainConfig)]
    for name in settings:
        if name not in known:
            raise UserError(f"train() has no setting {name!r}; {suggest(name, known)}")
    model_class = model if isinstance(model, type) else find_model(model)
    config = config or preset(model if isinstance(model, str) else model_class, profile)
    lengths = {"steps", "epochs", "budget"} & {k for k, v in settings.items() if v is not None}
    cleared = dict.fromkeys(("steps", "epochs", "budget")) if lengths else {}
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, **{**cleared, **settings}))
    place = make_device(device, devices, num_nodes, config.train.precision)
    if isinstance(data, str | Path):
        with place.main_first():  # it decodes a video into the cache, where the others find it
            source, found = open_data(dataclasses.replace(config.data, path=str(data)))
        config = dataclasses.replace(config, data=found)
    else:
        source = data
    folder = Path(out) if out else default_out(config.name, config.data.path)
    return fit(config, source, folder, model_class, place, init_from=init_from, overwrite=overwrite, quiet=quiet)


def default_out(name: str, data: str) -> Path:
    """runs/<model>-<data>."""
    return Path("runs") / f"{name.rsplit(':', 1)[-1]}-{Path(data).stem or 'data'}"


def settle(config: RunConfig, source: Source, model_class: type[Predictor]) -> RunConfig:
    """The config with what only the data can tell: frame spec, digest, epoch schedules as steps."""
    check_actions(model_class, source, config.data.path or "the data")
    request = model_class.request(config.model)
    splits = source.splits(request.source_length)
    loader = Loader(source, splits["train"], request, config.train.batch_size, config.train.seed)
    per_epoch = resolve_steps(config.train, loader.windows.count)[0]
    return dataclasses.replace(
        config,
        model=model_class.resolve_schedules(config.model, per_epoch),
        train=every_in_steps(config.train, per_epoch),
        data=dataclasses.replace(config.data, digest=data_digest(source)),
        spec=model_spec(source, request, splits["train"]),
    )


def fit(
    config: RunConfig,
    source: Source,
    folder: Path,
    model_class: type[Predictor],
    device: Device,
    init_from: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Train what `config` says on `source` into `folder`, or go on with what is there."""
    config = settle(config, source, model_class)
    _check_folder(folder, config, overwrite, init_from)
    torch.manual_seed(seed_for(config.train.seed, "weights"))  # the same in every process
    model = model_class(config.model, config.spec)
    fresh = overwrite or not (folder / CHECKPOINT).is_file()
    if fresh and init_from is not None:
        if Path(init_from).is_file():
            filled = model.import_weights(Path(init_from))
        else:
            filled = load_matching(model, open_run(init_from, None if config.name in MODELS else model_class).weights)
        if device.is_main and not quiet:
            print(f"{filled} of {len(model.state_dict())} tensors taken from {init_from}", file=sys.stderr)
    state = TrainState.create(_placed(model, device), config.train.seed, config.train.ema)
    if not fresh:
        migrate_run_folder(folder)
        restore(folder, state)
    if device.average({"step": float(state.step)})["step"] != state.step:
        raise UserError(f"{folder}: not every machine sees the same checkpoint; put --out on a disk they share")
    trainer = Trainer(config, source, folder, device, state, quiet)
    if fresh and init_from is None:
        trainer.initialize_from_batch()
    with device.main_first():  # only now, when nothing was found wrong
        if device.is_main:
            _make_folder(folder, overwrite)
            write_config(folder, config)  # on resume too, as steps and log settings may change
    trainer.run()
    return folder


def try_out(config: RunConfig, source: Source, model_class: type[Predictor], device: Device) -> float:
    """Seconds a training step takes, by two of them; what cannot be trained is refused as `fit` would, nothing written.

    Raises: UserError when data and model do not fit.
    """
    config = settle(config, source, model_class)
    torch.manual_seed(seed_for(config.train.seed, "weights"))
    state = TrainState.create(_placed(model_class(config.model, config.spec), device), config.train.seed)
    return Trainer(config, source, Path(), device, state, quiet=True).seconds_a_step()


def _placed(model: Predictor, device: Device) -> Predictor:
    if device.world > 1 and device.device.type == "cuda":
        # on CPUs each process keeps its own statistics
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    model = model.to(device.device)
    if device.device.type != "mps":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _check_folder(folder: Path, config: RunConfig, overwrite: bool, init_from: str | Path | None) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; --out names a folder")
    if (folder / CONFIG).is_file():
        if overwrite:  # a config.json alone does not make a run: other programs' folders have one too
            check_format(read_file(folder / CONFIG).get("format"), folder / CONFIG)
        else:
            check_resume(folder, config)
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty and holds no run; choose another --out")
    start = Path(init_from).resolve() if overwrite and init_from is not None else None
    if start is not None and folder.resolve() in (start, *start.parents):
        raise UserError(f"{folder}: --overwrite would delete what --init-from starts from; choose another --out")


def _make_folder(folder: Path, overwrite: bool) -> None:
    try:
        if overwrite and folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error
