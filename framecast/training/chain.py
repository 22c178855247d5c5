"""Training of a chain: one command for several runs, each of which starts from the weights of the one before.

The folder of a chain is the run folder of its last link, so it is used as any run. The earlier links are run folders
below it, chain/1-NAME and so on, and are kept. chain.json names the links and the length of all together. The same
command resumes in the link that was reached; of a link that ended nothing is trained again. Settings of the user apply
to every link, except where a link sets its own.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from framecast.core.commit import own_files
from framecast.core.config import brief, differences, duration_in_words, parse_duration, to_dict
from framecast.core.errors import UserError, writing
from framecast.core.io import write_json
from framecast.core.types import FORMAT
from framecast.data.base import Source
from framecast.models.base import Predictor
from framecast.models.chain import Chain
from framecast.training.checkpoint import finished_step, has_checkpoint
from framecast.training.config import CONFIG, RunConfig, TrainConfig, check_resume
from framecast.training.device import Device
from framecast.training.flags import LENGTHS, SHORT
from framecast.training.presets import preset
from framecast.training.run_folder import CHAIN, LINKS, ChainFile, read_chain
from framecast.training.train import (
    ChainLink,
    check_run_folder,
    fit,
    only_writer,
    settle,
    steps_per_epoch,
    trial,
)

#: Steps that are timed for each link whose schedules in epochs must fit into a time budget.
TIMED_STEPS = 5


def link_configs(chain: Chain, config: RunConfig, model_class: type[Predictor]) -> list[RunConfig]:
    """The config of every link, before the data are read.

    Args:
        chain: of the profile.
        config: the profile's with the user's settings; its length is that of all links together.
        model_class: class of the model.

    Raises:
        UserError: a setting has no effect, since every link sets it, or does not fit the settings of a link.
    """
    changed = differences(to_dict(preset(config.name, config.profile)), to_dict(config))
    if lost := sorted(chain.fixed() & set(changed)):
        raise UserError(
            f"{_flag(lost[0])} has no effect: every link of profile {config.profile} sets it; leave it out, or train a "
            f"single run with --profile {chain.base}"
        )
    unit, amount = _length(config.train)
    same_unit = unit == chain.unit == "epochs"
    made = []
    for link, length in zip(chain.links, chain.lengths(unit, amount), strict=True):
        model = link.apply(config.model)
        if same_unit and amount != chain.total:
            model = model_class.scale_schedules(model, length / link.length)
        own: Any = f"{max(length, 0.001):.3f}s" if unit == "budget" else length
        train = dataclasses.replace(config.train, **{**dict.fromkeys(LENGTHS), **link.train, unit: own})
        made.append(dataclasses.replace(config, model=model, train=train))
    return made


def describe_chain(chain: Chain, config: RunConfig, model_class: type[Predictor]) -> dict[str, Any]:
    """The config of every link as plain data, for a dry run; schedules in epochs may still depend on the data."""
    configs = link_configs(chain, config, model_class)
    links = [{"name": n, "config": c.to_json()} for n, c in zip(chain.folders, configs, strict=True)]
    return {"name": config.name, "profile": config.profile, "links": links}


def _length(train: TrainConfig) -> tuple[str, float]:
    """Unit and amount of the length: steps, epochs, or budget in seconds."""
    for unit in ("steps", "epochs"):
        if (amount := getattr(train, unit)) is not None:
            return unit, amount
    if train.budget is None:
        raise UserError("no length of training; use --steps N, --epochs N or --budget 10m")
    return "budget", parse_duration(train.budget)


def _flag(name: str) -> str:
    """The flag of a setting: model.mode, model.optim.lr, train.batch_size."""
    section, _, field = name.removeprefix("model.optim.").rpartition(".")
    section = "optim" if name.startswith("model.optim.") else section
    short = section == "train" and field in SHORT
    return f"--{'' if short else f'{section}.'}{field}".replace("_", "-")


def fit_chain(
    chain: Chain,
    config: RunConfig,
    source: Source,
    folder: Path,
    model_class: type[Predictor],
    device: Device,
    init_from: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """The run folder of the last link after all were trained, from scratch or resumed.

    Args:
        chain: the links.
        config: the profile's with the user's settings.
        source: the data.
        folder: the folder.
        model_class: class of the model.
        device: of this process.
        init_from: initial weights of the first link.
        overwrite: whether to delete an existing chain or run.
        quiet: no progress output.

    Raises:
        UserError: folder, data, settings or initial weights do not suit a link.
        Interrupted: after a signal, with the checkpoint written.
    """
    configs = link_configs(chain, config, model_class)
    folders = [*(folder / LINKS / name for name in chain.folders[:-1]), folder]
    with only_writer(folder, device) as lease:
        stored = _stored(chain, config, configs[-1], folder, init_from, overwrite)
        speeds = dict(stored.seconds_per_step) if stored else {}
        configs = [
            with_schedules(chain, i, made, source, model_class, device, speeds) for i, made in enumerate(configs)
        ]
        reached = _reached(folders) if stored else 0
        for number, made in enumerate(configs):  # before anything is written or trained
            if stored and (folders[number] / CONFIG).is_file():
                check_resume(folders[number], settle(made, source, model_class))
            if number >= reached:
                trial(made, source, model_class, device)
        device.barrier(long=True)  # all have read the folder
        with device.main_first():
            if device.is_main and stored is None:
                _begin(folder, chain, config, speeds)
        for number in range(reached, len(configs)):
            start = init_from if number == 0 else folders[number - 1]
            label = chain.folders[number]
            if device.is_main and not quiet:
                print(_announcement(label, len(configs), configs[number].train), file=sys.stderr)
            last = number == len(configs) - 1
            link = ChainLink(label, last, lease)
            fit(configs[number], source, folders[number], model_class, device, start, quiet=quiet, link=link)
    return folder


def _stored(
    chain: Chain, config: RunConfig, last: RunConfig, folder: Path, init_from: str | Path | None, overwrite: bool
) -> ChainFile | None:
    """The chain that is resumed in the folder; None if a new one begins there.

    Raises:
        UserError: the folder holds something else.
    """
    found = None if overwrite else read_chain(folder)  # a damaged one is replaced
    if overwrite or found is None or found.clearing:
        if not overwrite and found is None and (folder / CONFIG).is_file():
            raise UserError(f"{folder}: holds a single run, no chain; choose another --out, or give --overwrite")
        check_run_folder(folder, last, overwrite or found is not None, init_from)
        return None
    now = ChainFile(config.name, config.profile, chain.folders, _length_given(config.train))
    for what, old, new in zip(("model", "profile", "links", "length"), found.key(), now.key(), strict=True):
        if old != new:
            raise UserError(
                f"{folder}: holds a chain with another {what} ({brief(old)}, now {brief(new)}), which is fixed when it "
                "begins; choose another --out, or give --overwrite"
            )
    return found


def _length_given(train: TrainConfig) -> dict[str, Any]:
    return {name: value for name in LENGTHS if (value := getattr(train, name)) is not None}


def _reached(folders: Sequence[Path]) -> int:
    """Number of the link that is trained next, or resumed; the folders of those before it may be gone."""
    begun = [number for number, folder in enumerate(folders) if has_checkpoint(folder)]
    if not begun:
        return 0
    ended = finished_step(folders[begun[-1]]) is not None
    return min(begun[-1] + ended, len(folders) - 1)


def _begin(folder: Path, chain: Chain, config: RunConfig, speeds: dict[str, float]) -> None:
    """Write chain.json; all else of an older run or chain is deleted first.

    chain.json is there before anything is deleted, so that a kill leaves a folder that the same command accepts.
    """
    made = ChainFile(config.name, config.profile, chain.folders, _length_given(config.train), speeds)
    with writing(folder):
        write_json(folder / CHAIN, {"format": FORMAT, **dataclasses.asdict(made), "clearing": True})
        for path in own_files(folder):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != CHAIN:
                path.unlink()
        write_json(folder / CHAIN, {"format": FORMAT, **dataclasses.asdict(made)})


def with_schedules(
    chain: Chain,
    number: int,
    config: RunConfig,
    source: Source,
    model_class: type[Predictor],
    device: Device,
    speeds: dict[str, float],
) -> RunConfig:
    """The config with schedules in epochs stretched to the link's length, where the data decide by how much.

    Args:
        chain: the links.
        number: of the link, from 0.
        config: of the link.
        source: the data.
        model_class: class of the model.
        device: of this process.
        speeds: link -> seconds per step, measured where a budget needs it and a resumed chain has none.
    """
    (unit, amount), link, label = _length(config.train), chain.links[number], chain.folders[number]
    if unit == chain.unit == "epochs" or model_class.scale_schedules(config.model, 2.0) == config.model:
        return config
    per_epoch = steps_per_epoch(config, source, model_class.request(config.model))
    if unit == "budget":
        if label not in speeds:
            measured = trial(config, source, model_class, device).seconds_a_step(TIMED_STEPS)
            speeds[label] = device.gather(measured)[0]
        amount = amount / speeds[label]
    epochs = amount if unit == "epochs" else amount / per_epoch
    declared = link.length if chain.unit == "epochs" else link.length / per_epoch
    return dataclasses.replace(config, model=model_class.scale_schedules(config.model, epochs / declared))


def _announcement(label: str, count: int, train: TrainConfig) -> str:
    number, _, name = label.partition("-")
    unit, amount = _length(train)
    words = f"{amount:,g} {unit.removesuffix('s') if amount == 1 else unit}"
    return f"link {number} of {count}, {name}: {duration_in_words(amount) if unit == 'budget' else words}"
