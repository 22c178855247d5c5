"""Flags of `framecast train`: built from the config of a profile, and applied to it."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import tyro

from framecast.core.config import overlay
from framecast.core.errors import UserError
from framecast.core.flags import Switch, field_docs, fields_of, said
from framecast.data.base import RecordSettings

LENGTHS = ("steps", "epochs", "budget")


#: Fields of TrainConfig that have a flag without "train." before it.
SHORT = ("batch_size", "grad_accum_steps", "seed", "precision")


def train_flags(base: Any, profiles: Sequence[str]) -> type:
    """The flags of `train` for one model: the common ones, then --model, --optim and --train with the values of `base`.

    base: the RunConfig of the profile, with the config file's values over it.
    """
    data, train = base.data, base.train
    hints, docs = typing.get_type_hints(type(train)), field_docs(type(train))
    length = next((f"{getattr(train, n)} {n}" for n in LENGTHS if getattr(train, n) is not None), None)
    otherwise = f" The profile says {length}." if length else " One of --steps, --epochs and --budget is needed."
    otherwise = otherwise.replace(" budget.", ".")
    fields: list[tuple[str, Any, Any]] = [
        (
            "data",
            str,
            said(
                "Packed store, video, folder of videos or frames, .npy or .npz, TFRecords, or a source's name.",
                data.path or dataclasses.MISSING,
            ),
        ),
        ("out", str | None, said(f"Run folder; runs/{base.name.rsplit(':', 1)[-1]}-<data> if not given.", None)),
        ("profile", str, said(f"One of {', '.join(profiles)}.", base.profile)),
        ("steps", int | None, said(f"Train so many steps.{otherwise}", None)),
        ("epochs", float | None, said("Train so many passes over the clips instead.", None)),
        ("budget", str | None, said("Train so long instead: 90s, 10m or 1.5h.", None)),
        *((name, hints[name], said(docs[name], getattr(train, name))) for name in SHORT),
        ("config", str | None, said("YAML or JSON with fields of the run's config; flags win over it.", None)),
        (
            "init_from",
            str | None,
            said("Start from the weights of this run, of packaged ones, or of a file where a model can use one.", None),
        ),
        ("overwrite", Switch, said("Delete the run that is there and start anew.", False)),
        ("size", str | None, said("128 (shorter side) or 96x128; videos 128, all else as it is if none.", data.size)),
        ("fit", Literal["crop", "pad", "squash"], said("How frames meet a size of another shape.", data.fit)),
        ("axes", str | None, said("Axes of .npy files, such as nthwc.", data.axes)),
        ("skip_bad", bool, said("Leave out files that cannot be read, and count them.", data.skip_bad)),
        ("device", str, said("auto, cpu, cuda, cuda:0 or mps.", "auto")),
        ("devices", int, said("Processes on this machine.", 1)),
        ("num_nodes", int, said("Machines.", 1)),
        ("dry_run", Switch, said("Print the finished config and stop.", False)),
        ("quiet", Switch, said("No progress, only the last line.", False)),
        ("json", str | None, said("Also write what was made there; - for standard output.", None)),
        *_section("records", data.records or RecordSettings()),
        *_section("model", base.model, ("optim",)),
    ]
    if dataclasses.is_dataclass(getattr(base.model, "optim", None)):
        fields += _section("optim", base.model.optim)
    fields += _section("train", train, (*LENGTHS, *SHORT))
    made = dataclasses.make_dataclass("TrainFlags", fields, frozen=True, kw_only=True)
    made.__doc__ = (
        f"Train {base.name}; the same command again resumes.\n\n"
        f"Example: framecast train {base.name} --data clip.mp4 --out runs/clip"
    )
    return made


def _section(name: str, value: Any, leave_out: Sequence[str] = ()) -> list[tuple[str, Any, Any]]:
    """One group of flags with a prefix; none where the dataclass has nothing to set."""
    inner = fields_of(value, leave_out)
    if not inner:
        return []
    made = dataclasses.make_dataclass(type(value).__name__, inner, frozen=True, kw_only=True)
    made.__doc__ = " ".join((type(value).__doc__ or "").split("\n\n")[0].split())
    return [(name, Annotated[made, tyro.conf.arg(name=name)], dataclasses.field(default_factory=made))]


def train_config(base: Any, flags: Any) -> Any:
    """`base` with what the parsed flags of `train_flags` say."""
    given = {name: getattr(flags, name) for name in LENGTHS if getattr(flags, name) is not None}
    if len(given) > 1:
        raise UserError(f"give one of --steps, --epochs and --budget, not {len(given)} of them")
    model = _filled(base.model, getattr(flags, "model", None))
    if hasattr(flags, "optim"):
        model = dataclasses.replace(model, optim=_filled(model.optim, flags.optim))
    data = dataclasses.replace(
        base.data, path=flags.data, size=flags.size, fit=flags.fit, axes=flags.axes, skip_bad=flags.skip_bad
    )
    records = _filled(data.records or RecordSettings(), flags.records)
    # none unless something is set, as in runs made before there was anything to set
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
    """`base` with the values of a config file over it, also of a run's own config.json.

    Raises: UserError for an unknown key, a wrong type, or a file of another model.
    """
    given = {k: v for k, v in given.items() if k not in ("format", "version", "spec", "profile")}
    name = given.pop("name", base.name)
    if name != base.name:
        raise UserError(f"{where}: is for {name}, not for {base.name}; train that model with it")
    if isinstance(data := given.get("data"), Mapping):  # what is found out anew from the data
        given["data"] = {k: v for k, v in data.items() if k not in ("digest", "trained_size")}
    train = given.get("train")
    if isinstance(train, Mapping) and any(train.get(n) is not None for n in LENGTHS):
        base = dataclasses.replace(base, train=dataclasses.replace(base.train, **dict.fromkeys(LENGTHS)))
    return overlay(base, given, where)
