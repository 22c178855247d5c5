"""Training of a predictor from names and settings to a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from framecast.core.commit import LEASE, clear_leftovers, folder_kind, own_files, temporary_path
from framecast.core.config import suggest
from framecast.core.errors import UserError, writing
from framecast.core.lease import Lease, one_writer
from framecast.core.memory import kept_memory
from framecast.core.migration import migrate_run_folder
from framecast.core.random import seed_for
from framecast.core.types import ClipRequest
from framecast.data.base import Source
from framecast.data.cache import open_data
from framecast.data.digest import data_digest
from framecast.data.events import TrainingVideos
from framecast.data.loader import Loader
from framecast.data.windows import split_at_breaks
from framecast.models import MODELS
from framecast.models.base import Predictor
from framecast.models.registry import find_model
from framecast.training.checkpoint import has_checkpoint, load_matching, restore, weight_shapes
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
from framecast.training.device import STEP_TIMEOUT, Device, deterministic, fast_kernels, make_device
from framecast.training.mirror import MIRROR, open_mirror, restore_run
from framecast.training.presets import chains, preset
from framecast.training.run_folder import CHAIN, LINKS, open_run
from framecast.training.state import TrainState
from framecast.training.trackers import check_trackers
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
    timeout: str = STEP_TIMEOUT,
    quiet: bool = False,
    **settings: Any,
) -> Path:
    """The run folder of a trained predictor; a second call with the same arguments resumes the run.

    A profile that is a chain trains one run after another (see `training/chain.py`).

    Args:
        model: a name (`framecast models`), "path/to/mine.py:Mine" or a Predictor subclass.
        data: a path, a source's name or an object with the Source protocol.
        out: the run folder, runs/<model>-<data> by default.
        profile: of the model.
        config: a whole RunConfig instead of the profile's.
        init_from: initial weights: a run, packaged weights, or a file of the model.
        overwrite: whether to delete an existing run and start from scratch.
        device: auto, cpu, cuda, cuda:0 or mps.
        devices: number of processes on this machine.
        num_nodes: number of machines.
        timeout: longest wait for another process in a step, such as 90s, 10m or 1.5h; then the job ends.
        quiet: no progress output.
        settings: fields of TrainConfig, e.g. steps=, budget=, batch_size=, seed=.

    Raises:
        UserError: invalid input.
        Interrupted: after a signal, with the checkpoint written.
        ProcessLost: another process of the job ended or does not answer.
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
    check_trackers(config.train.log)  # before data are read, which may take long
    process = make_device(device, devices, num_nodes, config.train.precision, timeout)
    if isinstance(data, str | Path):
        with process.local_first():  # it decodes a video into the cache of its machine, which the others read
            source, found = open_data(dataclasses.replace(config.data, path=str(data)))
        config = dataclasses.replace(config, data=found)
    else:
        source = data
    folder = Path(out) if out else default_out(config.name, config.data.path)
    if (chain := chains(config.name).get(config.profile)) is not None:
        from framecast.training.chain import fit_chain

        return fit_chain(chain, config, source, folder, model_class, process, init_from, overwrite, quiet)
    return fit(config, source, folder, model_class, process, init_from=init_from, overwrite=overwrite, quiet=quiet)


@dataclass(frozen=True)
class ChainLink:
    """The link of a chain that a run belongs to.

    Attributes:
        label: its number and name, such as 3-five.
        last: whether it is the last, whose run folder is that of the chain.
        lease: of the chain's folder, which the caller holds.
    """

    label: str
    last: bool
    lease: Lease | None


def default_out(name: str, data: str) -> Path:
    """The default run folder, runs/<model>-<data>."""
    return Path("runs") / f"{name.rsplit(':', 1)[-1]}-{Path(data).stem or 'data'}"


def settle(config: RunConfig, source: Source, model_class: type[Predictor]) -> RunConfig:
    """The config completed from the data: frame spec, digest, epoch schedules as steps.

    Raises:
        UserError: the data do not suit the model.
    """
    check_actions(model_class, source, config.data.path or "the data")
    config = dataclasses.replace(config, model=model_class.fit_to_data(config.model, partial(_holds, source)))
    splits = source.splits(model_class.request(config.model).source_length)
    completed = model_class.config_from_data(config.model, TrainingVideos(source, splits["train"]))
    config = dataclasses.replace(config, model=completed)
    request = model_class.request(config.model)
    per_epoch = steps_per_epoch(config, source, request)
    return dataclasses.replace(
        config,
        model=model_class.resolve_schedules(config.model, per_epoch),
        train=every_in_steps(config.train, per_epoch),
        data=dataclasses.replace(config.data, digest=data_digest(source)),
        spec=model_spec(source, request, splits["train"]),
    )


def steps_per_epoch(config: RunConfig, source: Source, request: ClipRequest) -> int:
    """Training steps of a pass over the clips of a request."""
    splits = source.splits(request.source_length)
    loader = Loader(source, splits["train"], request, config.train.batch_size, config.train.seed)
    return resolve_steps(config.train, loader.windows.count)[0]


def _holds(source: Source, request: ClipRequest) -> bool:
    """Whether train and val have a window of the request, which crosses no shot cut and no pause."""
    need = request.source_length
    try:
        splits = source.splits(need)
    except UserError:  # no video is as long
        return False
    parts = {split: split_at_breaks(splits[split], source) for split in ("train", "val")}
    return all(any(s.stop - s.start >= need for s in found) for found in parts.values())


def fit(
    config: RunConfig,
    source: Source,
    folder: Path,
    model_class: type[Predictor],
    device: Device,
    init_from: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    link: ChainLink | None = None,
) -> Path:
    """The run folder after training, from scratch or resumed.

    Args:
        config: of the run, without the values that `settle` adds.
        source: the data.
        folder: the run folder.
        model_class: class of the model.
        device: of this process.
        init_from: initial weights, see `train`.
        overwrite: whether to delete an existing run.
        quiet: no progress output.
        link: of a chain that the run belongs to.

    Raises:
        UserError: folder, data or initial weights do not suit the run.
        Interrupted: after a signal, with the checkpoint written.
    """
    config = settle(config, source, model_class)
    if link and not link.last:
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, mirror=""))
    held = contextlib.nullcontext(link.lease) if link and link.last else only_writer(folder, device)
    repeatable = config.train.deterministic
    keeping = kept_memory(device.device.type == "cpu")
    with held as lease, deterministic(repeatable), fast_kernels(device, repeatable), keeping:
        with device.main_first():
            if device.is_main and (mirror := config.train.mirror):
                if overwrite:
                    open_mirror(mirror).exists(MIRROR)  # refused before the old run is deleted
                elif restore_run(folder, mirror):
                    print(f"{folder}: resumed from {mirror}", file=sys.stderr)
        check_run_folder(folder, config, overwrite, init_from, link)
        _fit(config, source, folder, model_class, device, init_from, overwrite, quiet, lease, link)
    return folder


def _fit(
    config: RunConfig,
    source: Source,
    folder: Path,
    model_class: type[Predictor],
    device: Device,
    init_from: str | Path | None,
    overwrite: bool,
    quiet: bool,
    lease: Lease | None,
    link: ChainLink | None,
) -> None:
    torch.manual_seed(seed_for(config.train.seed, "weights"))  # the same in every process
    model = model_class(config.model, config.spec)
    fresh = overwrite or not has_checkpoint(folder)
    if fresh and init_from is not None:
        if Path(init_from).is_file():
            filled = model.import_weights(Path(init_from))
        else:
            weights = open_run(init_from, None if config.name in MODELS else model_class).weights
            model.check_initial_weights(weight_shapes(weights))
            filled = load_matching(model, weights)
        if device.is_main and not quiet:
            print(f"{filled} of {len(model.state_dict())} tensors taken from {init_from}", file=sys.stderr)
    state = TrainState.create(_placed(model, device), config.train.seed, config.train.ema)
    if not fresh:
        migrate_run_folder(folder)
        restore(folder, state)
    if device.average({"step": float(state.step)})["step"] != state.step:
        raise UserError(f"{folder}: the machines read different checkpoints; use a shared disk for --out")
    trainer = Trainer(config, source, folder, device, state, quiet)
    trainer.lease = lease
    trainer.link = link.label if link else ""
    if fresh and init_from is None:
        trainer.initialize_from_batch()
    with device.main_first():  # after all checks
        if device.is_main:
            _write_config(folder, config, overwrite)  # also when resuming, as steps and log settings may change
    trainer.run()


def trial(config: RunConfig, source: Source, model_class: type[Predictor], device: Device) -> Trainer:
    """A trainer that was not started and that writes nothing, for checks and measurements.

    Raises:
        UserError: data and model do not fit, as for `fit`.
    """
    config = settle(config, source, model_class)
    torch.manual_seed(seed_for(config.train.seed, "weights"))
    state = TrainState.create(_placed(model_class(config.model, config.spec), device), config.train.seed)
    return Trainer(config, source, Path(), device, state, quiet=True)


def try_out(config: RunConfig, source: Source, model_class: type[Predictor], device: Device) -> float:
    """Seconds per training step, measured without writing anything.

    Raises:
        UserError: data and model do not fit, as for `fit`.
    """
    with fast_kernels(device, config.train.deterministic), kept_memory(device.device.type == "cpu"):
        return trial(config, source, model_class, device).seconds_a_step()


def _placed(model: Predictor, device: Device) -> Predictor:
    if device.world > 1 and device.device.type == "cuda":
        # on CPUs each process normalises by its own clips, and running statistics are averaged at every step
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    model = model.to(device.device)
    if device.device.type != "mps":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


@contextlib.contextmanager
def only_writer(folder: Path, device: Device) -> Iterator[Lease | None]:
    """Within: the lease of the run folder, in the main process; a folder made for it is removed if it stays empty."""
    if not device.is_main:
        yield None
        return
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(f"{folder}: is a file or a broken link; --out must be a folder")
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with contextlib.ExitStack() as stack:
            with writing(folder, failed="cannot be created"):
                folder.mkdir(parents=True, exist_ok=True)
                lease = stack.enter_context(one_writer(folder / LEASE, "this run", say=_report))
            yield lease
    finally:
        with contextlib.suppress(OSError):  # not empty
            for place in made:
                place.rmdir()


def _report(text: str) -> None:
    print(text, file=sys.stderr)


def check_run_folder(
    folder: Path, config: RunConfig, overwrite: bool, init_from: str | Path | None, link: ChainLink | None = None
) -> None:
    """Check that a run may be written to a folder, or resumed in it.

    Args:
        folder: the run folder.
        config: of the run, complete.
        overwrite: whether an existing run is deleted.
        init_from: initial weights.
        link: of a chain that the run belongs to.

    Raises:
        UserError: it may not.
    """
    chain = (folder / CHAIN).is_file()
    beside = (CHAIN, LINKS) if chain and (link or (overwrite and folder_kind(folder) == "run")) else ()
    if (folder / CONFIG).is_file():
        if not overwrite:
            check_resume(folder, config)
        elif folder_kind(folder) != "run":  # folders of other programs may have a config.json too
            raise UserError(f"{folder}: holds no run of framecast, so it is not replaced; choose another --out")
    elif chain and not beside:
        raise UserError(f"{folder}: holds a chain of trainings; choose another --out, or give --overwrite")
    elif any(path.name not in beside for path in own_files(folder)):
        raise UserError(f"{folder}: is not empty and has no run; choose another --out")
    start = Path(init_from).resolve() if overwrite and init_from is not None else None
    if start is not None and folder.resolve() in (start, *start.parents):
        raise UserError(f"{folder}: --overwrite would delete the weights of --init-from; choose another --out")


def _write_config(folder: Path, config: RunConfig, overwrite: bool) -> None:
    """Write config.json; with `overwrite`, in place of the old one after all else of the old run was set aside.

    The folder holds a config at any time, so that a kill leaves a folder that the same command accepts.
    """
    old = temporary_path(folder / "run")
    try:
        with writing(folder):
            clear_leftovers(folder / "run")
            if overwrite and ((folder / CONFIG).is_file() or (folder / CHAIN).is_file()):
                old.mkdir()
                for path in folder.iterdir():
                    if path.name != CONFIG and path != old and not path.name.startswith(LEASE):
                        os.replace(path, old / path.name)
            write_config(folder, config)
    finally:
        shutil.rmtree(old, ignore_errors=True)
