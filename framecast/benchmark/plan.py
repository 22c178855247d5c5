"""Plan of a benchmark (models, data, seeds and one training length) and the runs that it consists of.

A model is written as on the command line: [LABEL=]NAME[:PROFILE], followed by flags of `framecast train`; `all` and
`all:PROFILE` stand for every model. Data are written as [LABEL=]PATH, followed by --size, --fit and --axes.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from framecast.core.config import brief, differences, length_in_words, parse_duration
from framecast.core.errors import UserError
from framecast.core.flags import parse
from framecast.core.io import read_file, write_json
from framecast.core.types import FORMAT
from framecast.data import SOURCES
from framecast.media.resize import Fit
from framecast.metrics.scores import BASELINES
from framecast.models import MODELS, UNTRAINED
from framecast.training.checkpoint import check_format
from framecast.training.config import RunConfig
from framecast.training.flags import LENGTHS, train_config, train_flags
from framecast.training.presets import preset, profiles

PLAN = "plan.json"
#: Flags of `train` that are the same for all runs, and flags that do not apply to a run from scratch.
COMMON = (
    *("data", "out", "seed", "precision", "size", "fit", "axes", "device", "devices", "num-nodes", "train.clock"),
    *LENGTHS,
)
OWN = ("profile", "init-from", "overwrite", "config", "dry-run", "quiet", "json", "help")
#: Default flags of every run, which keep its folder small.
SMALL = {"--train.keep": ("--train.keep", "1"), "--train.no-tensorboard": ("--train.no-tensorboard",)}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model to train.

    Attributes:
        label: Name of its row.
        model: Name of the model.
        profile: Profile of its settings.
        flags: Flags of `framecast train`, beside those that all runs share.
    """

    label: str
    model: str
    profile: str = "default"
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataEntry:
    """One data set.

    Attributes:
        label: Name of its folder and table.
        path: Path or name of a source, as given by the user.
        size: Frame size; None is the data's own.
        fit: Resizing of frames of another shape.
        axes: Order of axes of .npy files.
        digest: Digest of its content; empty before it is opened.
    """

    label: str
    path: str
    size: str | None = None
    fit: Fit | None = None
    axes: str | None = None
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class DataFlags:
    """Flags after a path of --data."""

    size: str | None = None
    """Frame size: 128 (shorter side) or 96x128."""
    fit: Literal["crop", "pad", "squash"] | None = None
    """Resizing of frames to a size of another shape."""
    axes: str | None = None
    """Order of axes of .npy files."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run: a model trained on one data set from one seed.

    Attributes:
        entry: Model to train.
        data: Data set.
        seed: Random seed of weights and batches.
        row: Name in a comparison.
        folder: OUT/<data>.
        words: Arguments of `framecast train` after the model.
    """

    entry: Entry
    data: DataEntry
    seed: int
    row: str
    folder: Path
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the run folder and of the result file."""
        return f"{slug(self.entry.label)}-seed{self.seed}"

    @property
    def run(self) -> Path:
        """Run folder."""
        return self.folder / "runs" / self.name

    @property
    def result(self) -> Path:
        """Result file."""
        return self.folder / "results" / f"{self.name}.json"

    @property
    def config(self) -> RunConfig:
        """All settings of the run."""
        return entry_config(self.entry.model, self.entry.profile, self.words)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that identify the run, as plain values without paths."""
        words = list(self.words)
        at = words.index("--data")
        return {
            "model": self.entry.model,
            "seed": self.seed,
            "data": self.data.digest,
            "flags": words[:at] + words[at + 2 :],
        }

    @property
    def command(self) -> str:
        """Equivalent command line."""
        shown = [Path(self.data.path).name if w == self.data.path else w for w in self.words]
        return shlex.join(["framecast", "train", self.entry.model, *shown])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All runs of a benchmark.

    Attributes:
        entries: Models to train.
        data: Data sets.
        seeds: Random seeds; each gives one run per model and data set.
        steps: Optimiser steps of every run; None if `budget` is given.
        budget: Training time of every run, such as 4m; None if `steps` is given.
        precision: Autocast precision.
        clock: Time that `budget` counts, "wall" or "cpu".
    """

    entries: tuple[Entry, ...]
    data: tuple[DataEntry, ...]
    seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    budget: str | None = None
    precision: str = "auto"
    clock: str = "wall"

    @property
    def seconds(self) -> float | None:
        """Training time of a run in seconds; None if the length is given in steps."""
        return parse_duration(self.budget) if self.budget else None

    @property
    def length(self) -> str:
        """Training length of a run as text."""
        return length_in_words(self.steps, self.budget, self.clock)

    def trials(self, out: Path) -> list[Trial]:
        """Every run, ordered by data set, then seed: a stopped benchmark has complete tables of fewer seeds."""
        return [
            Trial(
                entry=entry,
                data=data,
                seed=seed,
                row=entry.label if len(self.seeds) == 1 else f"{entry.label} seed {seed}",
                folder=out / data.label,
                words=self._words(entry, data, seed),
            )
            for data in self.data
            for seed in self.seeds
            for entry in self.entries
        ]

    def _words(self, entry: Entry, data: DataEntry, seed: int) -> tuple[str, ...]:
        given = {w.split("=", 1)[0] for w in entry.flags}
        shared: dict[str, Any] = {
            "--profile": entry.profile,
            "--data": data.path,
            "--size": data.size,
            "--fit": data.fit,
        }
        shared |= {"--axes": data.axes, "--steps": self.steps, "--budget": self.budget, "--seed": seed}
        shared |= {"--precision": self.precision, "--train.clock": None if self.clock == "wall" else self.clock}
        words = [w for flag, value in shared.items() if value is not None for w in (flag, str(value))]
        words += [w for flag, small in SMALL.items() if flag not in given for w in small]
        return (*words, *entry.flags)

    def to_json(self) -> dict[str, Any]:
        """Plain values. Results with equal `settings` can be merged; `paths` may differ between machines."""
        return {
            "format": FORMAT,
            "kind": "benchmark plan",
            "settings": {
                "models": [
                    {"label": e.label, "model": e.model, "profile": e.profile, "flags": list(e.flags)}
                    for e in self.entries
                ],
                "data": [
                    {"label": d.label, "size": d.size, "fit": d.fit, "axes": d.axes, "digest": d.digest}
                    for d in self.data
                ],
                "seeds": list(self.seeds),
                "steps": self.steps,
                "budget": self.budget,
                "precision": self.precision,
                "clock": self.clock,
            },
            "paths": {d.label: d.path for d in self.data},
        }

    def save(self, out: Path) -> None:
        """Write plan.json."""
        write_json(out / PLAN, self.to_json())


def read_plan(folder: str | Path) -> tuple[Plan, dict[str, Any]]:
    """Plan of an output folder, and its settings as plain values.

    Args:
        folder: Output folder of `framecast benchmark`.

    Raises:
        UserError: The folder has no plan, or the plan is damaged.
    """
    path = Path(folder) / PLAN
    if not path.is_file():
        raise UserError(f"{folder}: has no {PLAN}; use output folders of framecast benchmark")
    stored = read_file(path)
    check_format(stored.get("format"), path)
    try:
        s, paths = {"clock": "wall", **stored["settings"]}, stored["paths"]
        plan = Plan(
            entries=tuple(Entry(**{**e, "flags": tuple(e["flags"])}) for e in s["models"]),
            data=tuple(DataEntry(**d, path=paths[d["label"]]) for d in s["data"]),
            seeds=tuple(s["seeds"]),
            steps=s["steps"],
            budget=s["budget"],
            precision=s["precision"],
            clock=s["clock"],
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: is damaged ({type(error).__name__}: {error}); copy it again") from error
    return plan, s


def refuse_other(here: Mapping[str, Any], there: Mapping[str, Any], what: str, remedy: str) -> None:
    """Check that settings are equal.

    Args:
        here: Expected settings.
        there: Settings of a stored result.
        what: Subject of the message.
        remedy: How to fix it.

    Raises:
        UserError: Settings differ; the message names the first difference.
    """
    changed = differences(dict(there), dict(here))
    if changed:
        name, (old, new) = next(iter(changed.items()))
        raise UserError(f"{what} has other settings ({name}: {brief(old, 90)} there, {brief(new, 90)} here); {remedy}")


# ------------------------------------------------------------------------------------------------------ from words


def read_entries(texts: Sequence[str]) -> tuple[Entry, ...]:
    """Entries of `--models`, with checked names, profiles and flags.

    Args:
        texts: [LABEL=]NAME[:PROFILE] with flags of `framecast train`, one text per model.

    Raises:
        UserError: Unknown model, profile or flag, or two rows of one name.
    """
    if not texts:
        raise UserError("no model given: use --models multiscale-gan:small c-ae:small, or --models all:small")
    found = [entry for text in texts for entry in _entries(text)]
    for entry in found:
        entry_config(entry.model, entry.profile, ("--data", "data", *entry.flags))
    _unlike([e.label for e in found], "--models")
    return tuple(found)


def _entries(text: str) -> Iterator[Entry]:
    label, words = _split(text, "--models")
    head, flags = words[0], tuple(words[1:])
    if ".py:" in head:
        file, _, rest = head.partition(".py:")
        kind, _, profile = rest.partition(":")
        name = f"{file}.py:{kind}"
    else:
        name, _, profile = head.partition(":")
    _check_flags(flags, head)
    if name == "all":
        if label is not None:
            raise UserError(f"--models {text}: all models cannot have one label; leave {label}= out")
        for model in (m for m in MODELS if m not in UNTRAINED):
            yield from _entries(" ".join([f"{model}:{profile}" if profile else model, shlex.join(flags)]).strip())
        return
    if name in BASELINES:
        raise UserError(f"--models {name}: is in every table by itself; leave it out")
    yield Entry(
        label=label or _label(" ".join([head.rsplit(".py:", 1)[-1], *flags])),
        model=name,
        profile=profile or "default",
        flags=flags,
    )


def _check_flags(flags: Sequence[str], head: str) -> None:
    for word in flags:
        flag = word.split("=", 1)[0].removeprefix("--").replace("_", "-")
        if not word.startswith("--") or flag not in (*COMMON, *OWN):
            continue
        if flag == "profile":
            raise UserError(f"--models {head}: write the profile behind the name, as NAME:PROFILE")
        if flag in COMMON:
            raise UserError(f"--models {head}: --{flag} is the same for all; leave it out of the model's own flags")
        raise UserError(f"--models {head}: --{flag} is not for a benchmark, whose runs all start from scratch")


@functools.cache
def entry_config(model: str, profile: str, words: tuple[str, ...]) -> RunConfig:
    """Settings of a run; kept, since parsing takes 0.2 s.

    Args:
        model: Name of the model.
        profile: Profile of its settings.
        words: Arguments of `framecast train MODEL`.
    """
    base = preset(model, profile)
    made: RunConfig = train_config(base, parse(train_flags(base, profiles(model)), words, f"train {model}"))
    return made


def read_data(texts: Sequence[str]) -> tuple[DataEntry, ...]:
    """Data sets of `--data`, not opened.

    Args:
        texts: [LABEL=]PATH with --size, --fit and --axes, one text per data set.

    Raises:
        UserError: Unknown flag after a path, or two data sets of one name.
    """
    if not texts:
        raise UserError("no data given: use --data PATH, or a source's name")
    found = []
    for text in texts:
        if Path(text).expanduser().exists() or text in SOURCES:
            label, words = None, [text]
        else:
            label, words = _split(text, "--data")
        flags = parse(DataFlags, words[1:], "benchmark --data") if words[1:] else DataFlags()
        name = label or _label(Path(words[0]).stem or "data")
        found.append(DataEntry(label=slug(name), path=words[0], size=flags.size, fit=flags.fit, axes=flags.axes))
    _unlike([d.label for d in found], "--data")
    return tuple(found)


def read_shard(text: str | None) -> tuple[int, int]:
    """(i, n) of "i/n"; (1, 1) of None."""
    if text is None:
        return 1, 1
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"--shard {text!r} is not understood; the first of three machines is --shard 1/3")
    return int(match[1]), int(match[2])


def slug(text: str) -> str:
    """Folder name of letters, digits, dots and single dashes."""
    return re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9._]+", "-", text)).strip("-.") or "data"


def _split(text: str, flag: str) -> tuple[str | None, list[str]]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{flag} {text!r} is not understood ({error}); fix its quotes") from error
    if not words or words[0].startswith("-"):
        raise UserError(f"{flag} {text!r} is not understood; flags stand behind the name, all in one pair of quotes")
    match = re.match(r"([\w.+ -]+)=(.+)", words[0])
    if match and not Path(words[0]).exists():
        return match[1], [match[2], *words[1:]]
    return None, words


def _label(text: str) -> str:
    """Name of a row, without slash and equals sign, which are syntax in a comparison."""
    return re.sub(r"\s+", " ", text.replace("/", " ").replace("=", " ")).strip()


def _unlike(labels: Sequence[str], flag: str) -> None:
    slugs = [slug(label) for label in labels]
    if doubled := [label for label, s in zip(labels, slugs, strict=True) if slugs.count(s) > 1]:
        raise UserError(f"{flag} {doubled[0]}: is named twice; give one of them a name of its own, e.g. other=…")
