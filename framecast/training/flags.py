"""Flags of `framecast train`: built from the config of a profile, and applied to it."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import tyro

from framecast.core.config import overlay
from framecast.core.errors import UserError
from framecast.core.flags import Switch, documented, field_docs, fields_of
from framecast.core.migration import migrate_config
from framecast.data.base import RecordSettings
from framecast.training.device import STEP_TIMEOUT

LENGTHS = ("steps", "epochs", "budget")

#: Fields of TrainConfig that have a flag without "train." before it.
SHORT = ("batch_size", "grad_accum_steps", "seed", "precision", "compile", "deterministic", "log")


def train_flags(base: Any, profiles: Sequence[str]) -> type:
    """The flags of `train` for one model: the common ones, then --model, --optim and --train.

    Args:
        base: the RunConfig of the profile with the values of the config file; its values are the defaults.
        profiles: names of the model's profiles, for the help.

    Returns:
        A dataclass for `framecast.core.flags.parse`.
    """
    data = base.data
    fields: list[tuple[str, Any, Any]] = [
        (
            "data",
            str,
            documented(
                "Packed store, video, folder of videos or frames, .npy or .npz, TFRecords, or a source's name.",
                data.path or dataclasses.MISSING,
            ),
        ),
        ("out", str | None, documented(f"Run folder; runs/{base.name.rsplit(':', 1)[-1]}-<data> if not given.", None)),
        ("profile", str, documented(f"Profile: {', '.join(profiles)}.", base.profile)),
        *_length_and_short(base.train),
        (
            "config",
            str | None,
            documented("YAML or JSON file with fields of the config; flags override it.", None),
        ),
        (
            "init_from",
            str | None,
            documented("Initial weights: a run, packaged weights, or a file.", None),
        ),
        ("overwrite", Switch, documented("Deletion of the existing run, and a start from scratch.", False)),
        (
            "size",
            str | None,
            documented("Frame size, 128 (shorter side) or 96x128; if none, 128 for videos, else unchanged.", data.size),
        ),
        (
            "fit",
            Literal["crop", "pad", "squash"],
            documented("Method for frames of another aspect ratio.", data.fit),
        ),
        ("axes", str | None, documented("Axes of .npy files, such as nthwc.", data.axes)),
        ("skip_bad", bool, documented("Skipping of unreadable files, with a count.", data.skip_bad)),
        ("cuts", bool, documented("Detection of shot cuts in videos, which clips then do not cross.", data.cuts)),
        ("device", str, documented("Device: auto, cpu, cuda, cuda:0 or mps.", "auto")),
        ("devices", int, documented("Number of processes on this machine.", 1)),
        ("num_nodes", int, documented("Number of machines.", 1)),
        ("timeout", str, documented("Longest wait for another process in a step; then the job ends.", STEP_TIMEOUT)),
        ("dry_run", Switch, documented("Output of the resolved config only.", False)),
        ("quiet", Switch, documented("No progress output, only the last line.", False)),
        ("json", str | None, documented("Path for a summary of the output as JSON; - for standard output.", None)),
        *_section("records", data.records or RecordSettings()),
        *_section("model", base.model, ("optim",)),
    ]
    if dataclasses.is_dataclass(getattr(base.model, "optim", None)):
        fields += _section("optim", base.model.optim)
    fields += _section("train", base.train, (*LENGTHS, *SHORT))
    made = dataclasses.make_dataclass("TrainFlags", fields, frozen=True, kw_only=True)
    made.__doc__ = (
        f"Train {base.name}; the same command again resumes.\n\n"
        f"Example: framecast train {base.name} --data clip.mp4 --out runs/clip"
    )
    return made


def _length_and_short(train: Any) -> list[tuple[str, Any, Any]]:
    """The flags of training settings without "train." before them."""
    hints, docs = typing.get_type_hints(type(train)), field_docs(type(train))
    length = next((f"{getattr(train, n)} {n}" for n in LENGTHS if getattr(train, n) is not None), None)
    note = f" Default of the profile: {length}." if length else " One of --steps, --epochs and --budget is required."
    return [
        ("steps", int | None, documented(f"Number of training steps.{note.replace(' budget.', '.')}", None)),
        ("epochs", float | None, documented("Number of passes over the clips, instead of --steps.", None)),
        ("budget", str | None, documented("Training time, instead of --steps: 90s, 10m or 1.5h.", None)),
        *((name, hints[name], documented(docs[name], getattr(train, name))) for name in SHORT),
    ]


def _section(name: str, value: Any, leave_out: Sequence[str] = ()) -> list[tuple[str, Any, Any]]:
    """One group of flags with a prefix; none for a dataclass without fields."""
    inner = fields_of(value, leave_out)
    if not inner:
        return []
    made = dataclasses.make_dataclass(type(value).__name__, inner, frozen=True, kw_only=True)
    made.__doc__ = " ".join((type(value).__doc__ or "").split("\n\n")[0].split())
    return [(name, Annotated[made, tyro.conf.arg(name=name)], dataclasses.field(default_factory=made))]


def train_config(base: Any, flags: Any) -> Any:
    """`base` with the values of the parsed flags of `train_flags`.

    Raises:
        UserError: more than one of --steps, --epochs and --budget, or a value that a config refuses.
    """
    given = {name: getattr(flags, name) for name in LENGTHS if getattr(flags, name) is not None}
    if len(given) > 1:
        raise UserError(f"expected one of --steps, --epochs and --budget, got {len(given)} of them")
    model = _filled(base.model, getattr(flags, "model", None))
    if hasattr(flags, "optim"):
        model = dataclasses.replace(model, optim=_filled(model.optim, flags.optim))
    data = dataclasses.replace(
        base.data,
        path=flags.data,
        size=flags.size,
        fit=flags.fit,
        axes=flags.axes,
        skip_bad=flags.skip_bad,
        cuts=flags.cuts,
    )
    records = _filled(data.records or RecordSettings(), flags.records)
    # None for the defaults, as in runs of versions without these settings
    data = dataclasses.replace(data, records=None if records == RecordSettings() else records)
    cleared = dict.fromkeys(LENGTHS) if given else {}
    inner = {f.name: getattr(flags.train, f.name) for f in dataclasses.fields(flags.train)}
    short = {name: getattr(flags, name) for name in SHORT}
    train = dataclasses.replace(base.train, **{**inner, **short, **cleared, **given})
    return dataclasses.replace(base, model=model, train=train, data=data)


def _filled(config: Any, flags: Any) -> Any:
    if flags is None:
        return config
    try:
        return dataclasses.replace(config, **{f.name: getattr(flags, f.name) for f in dataclasses.fields(flags)})
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"--model: {error}") from error


def from_file(base: Any, given: Mapping[str, Any], where: str) -> Any:
    """`base` with the values of a config file, which may be a run's own config.json.

    Args:
        base: RunConfig of a profile.
        given: content of the file.
        where: name of the file, for errors.

    Raises:
        UserError: an unknown key, a wrong type, or the file of another model.
    """
    given = {k: v for k, v in migrate_config(given).items() if k not in ("format", "version", "spec", "profile")}
    name = given.pop("name", base.name)
    if name != base.name:
        raise UserError(f"{where}: is a config of {name}; expected one of {base.name}")
    if isinstance(data := given.get("data"), Mapping):  # computed from the data
        given["data"] = {k: v for k, v in data.items() if k not in ("digest", "trained_size")}
    train = given.get("train")
    if isinstance(train, Mapping) and any(train.get(n) is not None for n in LENGTHS):
        base = dataclasses.replace(base, train=dataclasses.replace(base.train, **dict.fromkeys(LENGTHS)))
    return overlay(base, given, where)
