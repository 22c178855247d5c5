"""`framecast train`: flags from the model's config, then training."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from framecast.cli.output import print_result, print_skipped, progress_bar
from framecast.core.errors import UserError
from framecast.core.flags import parse, peek
from framecast.models import DEFAULT_MODEL, DEFAULT_RUN

HELP = """\
framecast train [MODEL] --data PATH: train a predictor; the same command again resumes.

Without MODEL it is direct, from the packaged weights direct-any; --from-scratch starts from random ones.

  framecast train --data clip.mp4 --budget 4m
  framecast train multiscale-gan --data data/pacman --profile small --out runs/pacman
  framecast train multiscale-gan --data clip.mp4 --profile natural --budget 10m
  framecast train path/to/mine.py:Mine --data data/pacman --steps 5000

Models: {models}
All flags of one model: framecast train MODEL --help
"""


def run_train(argv: list[str]) -> None:
    """Train a model, or print its config with --dry-run."""
    from framecast.training.presets import PRESETS

    if argv and argv[0] in ("-h", "--help"):
        print(HELP.format(models=", ".join(PRESETS)), end="")
        return
    if not argv or argv[0].startswith("-"):  # no model: the default one, from its packaged weights
        scratch = "--from-scratch" in argv
        argv = [DEFAULT_MODEL, *(word for word in argv if word != "--from-scratch")]
        if not scratch and peek(argv, "--init-from") is None:
            argv += ["--init-from", DEFAULT_RUN]
        if peek(argv, "--profile") is None and peek(argv, "--config") is None:
            argv += ["--profile", "natural"]
    name = argv[0]
    config, flags = _configure(name, argv[1:])
    if flags.dry_run:
        print(json.dumps(_planned(config, name), indent=2))
        print("dry run: no data was read, no file was written", file=sys.stderr)
        return
    from framecast.training.trackers import check_trackers
    from framecast.training.train import default_out, train

    check_trackers(config.train.log)
    folder = Path(flags.out or default_out(config.name, config.data.path))
    source: Any = config.data.path
    if flags.devices * flags.num_nodes == 1 and "WORLD_SIZE" not in os.environ and "SLURM_NTASKS" not in os.environ:
        source, config = _open_data(config, flags.quiet)  # with several processes, `train` opens it in the first one
    train(
        name,
        source,
        out=folder,
        config=config,
        init_from=flags.init_from,
        overwrite=flags.overwrite,
        device=flags.device,
        devices=flags.devices,
        num_nodes=flags.num_nodes,
        timeout=flags.timeout,
        quiet=flags.quiet,
    )
    paths = {"run": folder, "config": folder / "config.json", "checkpoint": folder / "checkpoint.pt"}
    paths |= {"weights": folder / "weights", "metrics": folder / "metrics.jsonl"}
    print_result(
        flags.json,
        {k: str(v) for k, v in paths.items()},
        f"run: {folder}\nnext: framecast evaluate {folder}\n      framecast report {folder}",
    )


def _configure(name: str, argv: list[str]) -> tuple[Any, Any]:
    """The RunConfig from profile, config file and flags, in increasing priority; and the parsed flags."""
    from framecast.core.io import read_file
    from framecast.core.migration import migrate_config
    from framecast.training.checkpoint import check_format
    from framecast.training.flags import from_file, train_config, train_flags
    from framecast.training.presets import chains, preset, profiles

    file = peek(argv, "--config")
    given = read_file(file) if file else {}
    if file and "format" in given:
        check_format(given["format"], Path(file))
    given = migrate_config(given)
    base = preset(name, peek(argv, "--profile") or str(given.get("profile", "default")))
    if file and "version" in given and base.profile in chains(base.name):
        raise UserError(
            f"{file}: is the config of one training, but profile {base.profile} is a chain of several; leave --config "
            "out, or give another --profile"
        )
    if file:
        base = from_file(base, given, file)
    flags = parse(train_flags(base, profiles(name)), argv, f"train {name}")
    return train_config(base, flags), flags


def _planned(config: Any, name: str) -> dict[str, Any]:
    """The config as plain data; of a chain that of every link."""
    from framecast.models.registry import find_model
    from framecast.training.chain import describe_chain
    from framecast.training.presets import chains

    chain = chains(config.name).get(config.profile)
    planned: dict[str, Any] = config.to_json() if chain is None else describe_chain(chain, config, find_model(name))
    return planned


def _open_data(config: Any, quiet: bool) -> tuple[Any, Any]:
    """The data, decoded into the cache if necessary, and the config with the frame size they have there."""
    from framecast.data.cache import cache_folder, open_data

    with progress_bar(f"reading {config.data.path} once, into {cache_folder()}", quiet) as progress:
        source, data = open_data(config.data, progress)
    if not quiet:
        print_skipped(source)
    return source, dataclasses.replace(config, data=data)
