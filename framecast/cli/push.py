"""`framecast push` and `framecast data push`: uploads to the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import tyro

from framecast.cli.output import arguments, open_run_of, print_result
from framecast.core.flags import PathName, RunName, Switch, parse

Repository = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ORG/NAME")]


@dataclass(frozen=True, kw_only=True)
class PushFlags:
    """Upload of a run's weights with their model card to the Hugging Face Hub; without --yes a list of the files only.

    Example: framecast push runs/pacman my-name/pacman --license apache-2.0 --yes
    """

    run: RunName
    """Run folder, name of packaged weights, or hf://organisation/name[@revision]."""
    repository: Repository
    """Repository, organisation/name; created if missing."""
    yes: Switch = False
    """Upload, instead of a list of the files."""
    license: str | None = None
    """Licence on the card, such as apache-2.0; that of packaged weights, otherwise other, if not given."""
    private: Switch = False
    """Private repository, if it is created."""
    half: Switch = False
    """Half precision for the stored weights, which halves the size."""
    inference_only: Switch = False
    """Weights for inference only, without modules that only training needs, such as a discriminator."""
    revision: str | None = None
    """Existing branch; the main one if not given."""
    message: str | None = None
    """Message of the commit."""
    endpoint: str | None = None
    """Address of another Hub; $HF_ENDPOINT or the public one if not given."""
    model_class: str | None = None
    """Class of a model outside the package: path/to/mine.py:Mine."""
    json: str | None = None
    """Path for the list as JSON; - for standard output."""


@dataclass(frozen=True, kw_only=True)
class DataPushFlags:
    """Upload of a packed store as a data set to the Hugging Face Hub; without --yes a list of the files only.

    Example: framecast data push data/pacman my-name/pacman-frames --license cc-by-4.0 --yes
    """

    path: PathName
    """Packed store."""
    repository: Repository
    """Repository, organisation/name; created if missing."""
    yes: Switch = False
    """Upload, instead of a list of the files."""
    license: str | None = None
    """Licence on the card, such as cc-by-4.0; other if not given."""
    private: Switch = False
    """Private repository, if it is created."""
    revision: str | None = None
    """Existing branch; the main one if not given."""
    message: str | None = None
    """Message of the commit."""
    endpoint: str | None = None
    """Address of another Hub; $HF_ENDPOINT or the public one if not given."""
    json: str | None = None
    """Path for the list as JSON; - for standard output."""


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
