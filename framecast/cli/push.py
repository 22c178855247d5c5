"""`framecast push` and `framecast data push`: uploads to the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import tyro

from framecast.cli.output import arguments, open_run_of, print_result
from framecast.cli.shared_flags import ModelClassFlag, UploadFlags, WeightsFlags, command_flags
from framecast.core.flags import PathName, RunName, parse

Repository = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ORG/NAME")]


@command_flags
class PushFlags(WeightsFlags, UploadFlags, ModelClassFlag):
    """Upload of a run's weights with their model card to the Hugging Face Hub; without --yes a list of the files only.

    Example: framecast push runs/pacman my-name/pacman --license apache-2.0 --yes
    """

    run: RunName
    """Run folder, name of packaged weights, or hf://organisation/name[@revision]."""
    repository: Repository
    """Repository, organisation/name; created if missing."""


@command_flags
class DataPushFlags(UploadFlags):
    """Upload of a packed store as a data set to the Hugging Face Hub; without --yes a list of the files only.

    Example: framecast data push data/pacman my-name/pacman-frames --license cc-by-4.0 --yes
    """

    path: PathName
    """Packed store."""
    repository: Repository
    """Repository, organisation/name; created if missing."""


def run_push(argv: list[str]) -> None:
    """Upload weights, or list what would be uploaded."""
    flags = parse(PushFlags, argv, "push")
    from framecast.inference.hub import push_to_hub

    run = open_run_of(flags)
    made = push_to_hub(run, dry_run=not flags.yes, **arguments(flags, "run", "yes", "model_class", "json"))
    _print_upload(made, flags.json)


def push_data(argv: list[str]) -> None:
    """Run `framecast data push`."""
    flags = parse(DataPushFlags, argv, "data push")
    from framecast.inference.hub import push_store

    made = push_store(flags.path, dry_run=not flags.yes, **arguments(flags, "path", "yes", "json"))
    _print_upload(made, flags.json)


def _print_upload(made: Any, target: str | None) -> None:
    lines = [f"{size:>12,}  {name}" for name, size in made.files.items()]
    total = f"{sum(made.files.values()) / 1e6:.1f} MB in {len(made.files)} files"
    last = (
        f"uploaded: {made.address}"
        if made.address
        else f"dry run, nothing was uploaded to {made.repository}; add --yes"
    )
    print_result(target, asdict(made), "\n".join([*lines, total, last]))
