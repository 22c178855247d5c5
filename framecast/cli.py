"""The command line. Dispatch is by hand, so that `framecast --help` imports nothing and `train NAME` one model."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import sys
import textwrap
import traceback
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from framecast.types import UserError

HELP = """\
framecast: predict the next frames of a video.

  framecast demo                                   record a game, train a minute, predict, report
  framecast models [NAME]                          what can be trained; one model's parts and sizes
  framecast data sources|make|import|inspect       where frames come from
  framecast train MODEL --data PATH                train a predictor; the same command again resumes
  framecast evaluate RUN                           scores on held-out clips, beside the baselines
  framecast predict RUN --input FILE --out FILM    a film of what happens next in your own video
  framecast report RUN                             one offline page: scores, curves, films
  framecast export RUN --out DIR                   weights that travel

Two commands from a phone clip to its future:

  framecast train multiscale-gan --profile small --data clip.mp4 --out runs/clip
  framecast predict runs/clip --input clip.mp4 --horizon 16 --out future.mp4

Each command has its own --help. Exit codes: 0 done, 2 the input is at fault, 1 our fault.
"""


# -------------------------------------------------------------------------------------------------------- the flags


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """Scores of a run on held-out clips, beside copy-last and temporal-mean; writes RUN/scores.json.

    Example: framecast evaluate runs/pacman --horizon 64 --clips 32
    """

    data: str | None = None
    """What to score on; what it was trained on if not given."""
    split: Literal["train", "val", "test"] = "test"
    """Which part of the data."""
    context: int | None = None
    """Frames before the forecast; the model's own number if not given."""
    horizon: int | None = None
    """Frames to predict; 64, or as many as the clips allow, if not given."""
    samples: int = 1
    """Futures drawn per clip by a stochastic model."""
    clips: int = 32
    """Clips, evenly spread over the split."""
    seed: int = 0
    """Of clip choice and samples."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the matrix work."""
    model_class: str | None = None
    """For a model outside the package: path/to/mine.py:Mine."""
    json: str | None = None
    """Also write the scores there; - for standard output."""


@dataclass(frozen=True, kw_only=True)
class PredictFlags:
    """A film of what happens next in a video: what was seen in a green border, the forecast in a red one.

    Example: framecast predict runs/pacman --input clip.mp4 --horizon 32 --out future.mp4
    """

    input: str
    """Video file or folder of frames."""
    out: str
    """.gif, .webp, .mp4, .avi, .mov, .mkv, .webm, or a folder for PNGs."""
    horizon: int = 32
    """Frames to predict."""
    at: str = "end"
    """Where the forecast begins: end, a frame number, or seconds such as 2.5s."""
    samples: int = 1
    """Futures side by side."""
    actions: str | None = None
    """JSON, CSV or .npy with what is done at each frame, for models with actions."""
    size: str | None = None
    """Bring frames to this size, 128 (shorter side) or 96x128; as in training if not given."""
    seed: int = 0
    """Of the samples."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the matrix work."""
    model_class: str | None = None
    """For a model outside the package: path/to/mine.py:Mine."""
    json: str | None = None
    """Also write what was made there; - for standard output."""


@dataclass(frozen=True, kw_only=True)
class ReportFlags:
    """One offline HTML page: scores, curves with intervals, films of the worst, median and best clip, loss curves.

    Example: framecast report runs/pacman
    """

    data: str | None = None
    """What to score on; what it was trained on if not given."""
    split: Literal["train", "val", "test"] = "test"
    """Which part of the data."""
    horizon: int | None = None
    """Frames to predict; 64, or as many as the clips allow, if not given."""
    samples: int = 1
    """Futures drawn per clip by a stochastic model."""
    clips: int = 32
    """Clips, evenly spread over the split."""
    seed: int = 0
    """Of clip choice and samples."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the matrix work."""
    model_class: str | None = None
    """For a model outside the package: path/to/mine.py:Mine."""
    json: str | None = None
    """Also write the scores there; - for standard output."""


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """config.json, model.safetensors and a model card, without any local path.

    Example: framecast export runs/pacman --out pacman-weights --half
    """

    out: str
    """Folder to write; it must not exist yet or be empty."""
    half: bool = False
    """Store weights in half precision: half the size."""
    model_class: str | None = None
    """For a model outside the package: path/to/mine.py:Mine."""


@dataclass(frozen=True, kw_only=True)
class DemoFlags:
    """From nothing to a forecast: records a game, trains about a minute, predicts 64 frames, writes a report.

    Example: framecast demo --out runs/demo
    """

    out: str = "runs/demo"
    """Folder for data, run, film and report."""
    budget: str = "70s"
    """Training time."""
    seed: int = 0
    """Of everything."""
    game: str = "ms_pacman"
    """Which game the emulator plays."""
    tiny: bool = False
    """A few steps on little data: to see that everything runs, not to get a good forecast."""


@dataclass(frozen=True, kw_only=True)
class ImportFlags:
    """Videos, folders of frames, .npy or .npz into a packed store.

    Example: framecast data import holiday.mp4 --out data/holiday --size 128
    """

    out: str
    """Folder to write."""
    size: str | None = None
    """128 (shorter side) or 96x128; as it is if not given."""
    fit: Literal["crop", "pad", "squash"] = "crop"
    """How frames meet a size of another shape."""
    axes: str | None = None
    """Axes of .npy files, such as nthwc."""
    skip_bad: bool = False
    """Leave out what cannot be read, and count it."""
    overwrite: bool = False
    """Replace what is there."""
    json: str | None = None
    """Also write what was made there; - for standard output."""


@dataclass(frozen=True, kw_only=True)
class InspectFlags:
    """What is in a store, video or folder: videos, frames, sizes, actions, splits; with a contact sheet.

    Example: framecast data inspect data/pacman --sheet pacman.png
    """

    sheet: str | None = None
    """Where to write a contact sheet (.png)."""
    axes: str | None = None
    """Axes of .npy files, such as nthwc."""
    json: str | None = None
    """Also write it there; - for standard output."""


# ------------------------------------------------------------------------------------------------------ the commands


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 2 the user's input is at fault, 1 our fault, 130 and 143 after a signal."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """The exit code of one command."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if argv[0] in ("--version", "-V"):
        from framecast import __version__

        print(f"framecast {__version__}")
        return 0
    try:
        if argv[0] not in COMMANDS:
            from framecast.config import suggest

            raise UserError(f"unknown command {argv[0]!r}; {suggest(argv[0], COMMANDS)}")
        return COMMANDS[argv[0]](argv[1:]) or 0
    except SystemExit as stop:
        return int(stop.code or 0)
    except UserError as error:
        print(f"framecast: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("framecast: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        return _our_fault(error)


def _our_fault(error: Exception) -> int:
    code = getattr(error, "code", None)
    if type(error).__name__ == "Interrupted" and isinstance(code, int):
        return code
    if type(error).__name__ == "NotFinite":
        print(f"framecast: {error}", file=sys.stderr)
        return 1
    traceback.print_exc()
    print(
        "framecast: this is a fault of framecast, not of your input; please report it with the lines above",
        file=sys.stderr,
    )
    return 1


def _train(argv: list[str]) -> None:
    from framecast.config import overlay, read_file
    from framecast.presets import PRESETS, preset, profiles

    if not argv or argv[0].startswith("-"):
        if argv and argv[0] in ("-h", "--help"):
            print(TRAIN_HELP.format(models=", ".join(PRESETS)), end="")
            return
        raise UserError("say which model to train, e.g. framecast train multiscale-gan --data clip.mp4")
    name, argv = argv[0], argv[1:]
    profile = _peek(argv, "--profile") or "default"
    base = preset(name, profile)
    if (file := _peek(argv, "--config")) is not None:
        given = read_file(file)
        given = {k: v for k, v in given.items() if k not in ("format", "version", "spec")}
        base = overlay(base, given, file)
    flags = _parse(_train_flags(base, profiles(name)), argv, f"framecast train {name}")
    config = _train_config(base, flags)
    if flags.dry_run:
        _show_plan(config, flags)
        return
    from framecast.train import default_out, train

    out = flags.out or default_out(config.name, config.data.path)
    folder = train(
        name,
        config.data.path,
        out=out,
        config=config,
        init_from=flags.init_from,
        overwrite=flags.overwrite,
        device=flags.device,
        devices=flags.devices,
        num_nodes=flags.num_nodes,
        quiet=flags.quiet,
    )
    done = {"run": str(folder), "checkpoint": str(folder / "checkpoint.pt"), "metrics": str(folder / "metrics.jsonl")}
    _tell(flags.json, done, f"run: {folder}  (next: framecast evaluate {folder}; framecast report {folder})")


TRAIN_HELP = """\
framecast train MODEL --data PATH: train a predictor; the same command again resumes.

  framecast train multiscale-gan --data data/pacman --profile small --out runs/pacman
  framecast train multiscale-gan --data clip.mp4 --profile small --budget 10m
  framecast train path/to/mine.py:Mine --data data/pacman --steps 5000

Models: {models}
All flags of one model: framecast train MODEL --help
"""


def _train_flags(base: Any, profiles: Sequence[str]) -> type:
    """The flags of `train` for one model: the common ones, and --model, --optim, --train with the preset's values."""
    from framecast.run import DataConfig, TrainConfig

    data: DataConfig = base.data
    lengths = ("steps", "epochs", "budget", "batch_size", "accumulate", "seed", "precision")
    hints = typing.get_type_hints(TrainConfig)
    fields: list[tuple[str, Any, Any]] = [
        (
            "data",
            str,
            _said(
                data.path or dataclasses.MISSING,
                "Packed store, video, folder of videos or frames, .npy, or a source's name.",
            ),
        ),
        ("out", str | None, _said(None, "Run folder; runs/<model>-<data> if not given.")),
        ("profile", str, _said(base.profile, f"One of {', '.join(profiles)}.")),
        ("config", str | None, _said(None, "YAML or JSON with fields of the run's config; flags win over it.")),
        ("init_from", str | None, _said(None, "Start from the weights of this run.")),
        ("overwrite", bool, _said(False, "Delete the run that is there and start anew.")),
        (
            "size",
            str | None,
            _said(data.size, "128 (shorter side) or 96x128; videos 128, all else as it is if not given."),
        ),
        ("fit", Literal["crop", "pad", "squash"], _said(data.fit, "How frames meet a size of another shape.")),
        ("axes", str | None, _said(data.axes, "Axes of .npy files, such as nthwc.")),
        ("skip_bad", bool, _said(data.skip_bad, "Leave out files that cannot be read, and count them.")),
        *((n, hints[n] | None, _said(None, f"Short for --train.{n.replace('_', '-')}.")) for n in lengths),
        ("device", str, _said("auto", "auto, cpu, cuda, cuda:0 or mps.")),
        ("devices", int, _said(1, "Processes on this machine.")),
        ("num_nodes", int, _said(1, "Machines.")),
        ("dry_run", bool, _said(False, "Print the finished config and stop.")),
        ("quiet", bool, _said(False, "No progress, only the last line.")),
        ("json", str | None, _said(None, "Also write what was made there; - for standard output.")),
    ]
    model = base.model
    for section, value in _sections(model, base.train).items():
        fields.append((section, type(value), dataclasses.field(default=value)))
    made = dataclasses.make_dataclass("TrainFlags", fields, frozen=True, kw_only=True)
    made.__doc__ = (
        f"Train {base.name}; the same command again resumes.\n\nExample: framecast train {base.name} --data clip.mp4"
    )
    return made


def _sections(model: Any, train: Any) -> dict[str, Any]:
    """--model, --optim and --train; optimiser settings live in the model's config but have a flag of their own."""
    optim = getattr(model, "optim", None)
    sections = {"model": model}
    if dataclasses.is_dataclass(optim):
        sections["optim"] = optim
    return {**sections, "train": train}


def _said(default: Any, text: str) -> Any:
    return (
        dataclasses.field(default=default, metadata={"help": text})
        if default is not dataclasses.MISSING
        else dataclasses.field(metadata={"help": text})
    )


def _train_config(base: Any, flags: Any) -> Any:
    model = flags.model
    if hasattr(flags, "optim"):
        model = dataclasses.replace(model, optim=flags.optim)
    given = {
        n: getattr(flags, n)
        for n in ("steps", "epochs", "budget", "batch_size", "accumulate", "seed", "precision")
        if getattr(flags, n) is not None
    }
    lengths = {"steps", "epochs", "budget"}
    if len(lengths & set(given)) > 1:
        raise UserError("give one of --steps, --epochs and --budget, not several")
    cleared = dict.fromkeys(lengths) if lengths & set(given) else {}
    data = dataclasses.replace(
        base.data, path=flags.data, size=flags.size, fit=flags.fit, axes=flags.axes, skip_bad=flags.skip_bad
    )
    train = dataclasses.replace(flags.train, **{**cleared, **given})
    return dataclasses.replace(base, model=model, train=train, data=data)


def _show_plan(config: Any, flags: Any) -> None:
    print(json.dumps(config.to_json(), indent=2))


def _evaluate(argv: list[str]) -> None:
    from framecast.evaluate import describe
    from framecast.held_out import evaluate

    name, flags = _named(EvaluateFlags, argv, "evaluate", "RUN")
    run = _open(name, flags.model_class)
    scores, _ = evaluate(
        run,
        flags.data,
        split=flags.split,
        context=flags.context,
        horizon=flags.horizon,
        samples=flags.samples,
        clips=flags.clips,
        seed=flags.seed,
        device=flags.device,
        precision=flags.precision,
    )
    _tell(flags.json, scores.to_json(), f"{describe(scores)}\n\nscores: {run.folder / 'scores.json'}")


def _predict(argv: list[str]) -> None:
    from framecast.engine.device import pick_device, resolve_precision
    from framecast.predict import predict_file

    name, flags = _named(PredictFlags, argv, "predict", "RUN")
    if flags.horizon < 1 or flags.samples < 1:
        raise UserError(f"--horizon and --samples must be at least 1, got {flags.horizon} and {flags.samples}")
    place = pick_device(flags.device)
    made = predict_file(
        _open(name, flags.model_class),
        flags.input,
        flags.out,
        flags.horizon,
        at=flags.at,
        samples=flags.samples,
        actions=flags.actions,
        size=flags.size,
        seed=flags.seed,
        device=str(place),
        precision=resolve_precision(flags.precision, place),
    )
    told = {"film": str(made.path), "frames": made.frames, "size": list(made.size), "fps": made.fps, "note": made.note}
    _tell(flags.json, told, f"{made.frames} frames at {made.fps:g} fps; {made.note}\nfilm: {made.path}")


def _report(argv: list[str]) -> None:
    from framecast.held_out import evaluate
    from framecast.report import report_run

    name, flags = _named(ReportFlags, argv, "report", "RUN")
    run = _open(name, flags.model_class)
    scores, kept = evaluate(
        run,
        flags.data,
        split=flags.split,
        horizon=flags.horizon,
        samples=flags.samples,
        clips=flags.clips,
        seed=flags.seed,
        device=flags.device,
        precision=flags.precision,
    )
    page = report_run(run, scores, kept)
    _tell(flags.json, scores.to_json(), f"report: {page}")


def _export(argv: list[str]) -> None:
    from framecast.export import export

    name, flags = _named(ExportFlags, argv, "export", "RUN")
    folder = export(_open(name, flags.model_class), Path(flags.out), half=flags.half)
    size = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
    print(f"weights: {folder}  ({size:.1f} MB; framecast.load({str(folder)!r}))")


def _models(argv: list[str]) -> None:
    from framecast.catalog import figure, list_models, list_packaged, one_model

    name = argv[0] if argv and not argv[0].startswith("-") else None
    argv = argv[1:] if name else argv
    as_json, packaged = _take(argv, "--json"), _take(argv, "--pretrained")
    profile, drawing = _take_value(argv, "--profile") or "default", _take_value(argv, "--figure")
    if _take(argv, "--help") or _take(argv, "-h"):
        print("framecast models [NAME] [--profile P] [--json] [--figure FILE.svg] [--pretrained]\n")
        print("Example: framecast models multiscale-gan --profile small --figure small.svg")
        return
    _nothing_left(argv, "models", ["--json", "--pretrained", "--profile", "--figure", "--help"])
    if packaged:
        found = list_packaged()
        lines = [f"{r['name']:<32}{r['family']:<20}{r['profile']:<12}{r['bytes'] / 1e6:.1f} MB" for r in found]
        print(json.dumps(found, indent=2) if as_json else "\n".join(lines) or "no packaged weights in this version")
    elif name is None:
        table = list_models()
        if as_json:
            print(json.dumps(table, indent=2))
        else:
            for row in table:
                print(f"{row['name']:<16}{row['summary']}")
                print(textwrap.indent(f"profiles: {', '.join(row['profiles'])}   {row['paper']}".rstrip(), " " * 16))
    else:
        told = one_model(name, profile)
        if drawing:
            Path(drawing).write_text(figure(name, profile), encoding="utf-8")
        if as_json:
            print(json.dumps(told, indent=2))
        else:
            print(f"{told['name']} ({told['family']}), profile {told['profile']}")
            for part, count in told["parameters"].items():
                print(f"  {part:<20}{count:>14,}")
            print(f"  {'total':<20}{told['total']:>14,}")
        if drawing:
            print(f"figure: {drawing}", file=sys.stderr if as_json else sys.stdout)


DATA_HELP = """\
framecast data: where frames come from.

  framecast data sources [--json]                        what can be generated
  framecast data make SOURCE --out DIR [flags]           generate it, e.g. data make atari --game pong --out data/pong
  framecast data import PATH --out DIR [--size 128]      videos, folders of frames, .npy / .npz into a packed store
  framecast data inspect PATH [--sheet FILE.png]         what is there, with a contact sheet
"""


def _data(argv: list[str]) -> None:
    from framecast.config import suggest

    verbs: dict[str, Callable[[list[str]], None]] = {
        "sources": _data_sources,
        "make": _data_make,
        "import": _data_import,
        "inspect": _data_inspect,
    }
    if not argv or argv[0] in ("-h", "--help"):
        print(DATA_HELP, end="")
        return
    if argv[0] not in verbs:
        raise UserError(f"unknown command 'data {argv[0]}'; {suggest(argv[0], verbs)}")
    verbs[argv[0]](argv[1:])


def _data_sources(argv: list[str]) -> None:
    from framecast.catalog import list_sources

    as_json = _take(argv, "--json")
    _nothing_left(argv, "data sources", ["--json"])
    found = list_sources()
    print(json.dumps(found, indent=2) if as_json else "\n".join(f"{r['name']:<16}{r['summary']}" for r in found))


def _data_make(argv: list[str]) -> None:
    from framecast.data import SOURCES
    from framecast.run import find_source

    if not argv or argv[0].startswith("-"):
        raise UserError(f"say what to make: framecast data make {' | '.join(SOURCES)}")
    maker = find_source(argv[0])
    config = maker.Config
    flags = dataclasses.make_dataclass(
        "MakeFlags",
        [
            ("out", str, _said(dataclasses.MISSING, "Folder to write.")),
            ("overwrite", bool, _said(False, "Replace what is there.")),
            ("json", str | None, _said(None, "Also write what was made there; - for standard output.")),
        ],
        frozen=True,
        kw_only=True,
    )
    flags.__doc__ = (
        f"Generate {argv[0]} into a packed store.\n\nExample: framecast data make {argv[0]} --out data/{argv[0]}"
    )
    both = _parse_two(flags, config, argv[1:], f"framecast data make {argv[0]}")
    common, settings = both
    folder = Path(common.out)
    _clear(folder, common.overwrite)
    maker(settings).prepare(folder)
    _describe_store(folder, common.json)


def _data_import(argv: list[str]) -> None:
    from framecast.data.open import open_path
    from framecast.data.store import pack
    from framecast.media.resize import parse_size

    name, flags = _named(ImportFlags, argv, "data import", "PATH")
    source = open_path(Path(name), axes=flags.axes, skip_bad=flags.skip_bad)
    folder = Path(flags.out)
    _clear(folder, flags.overwrite)
    size = parse_size(flags.size) if flags.size else None
    pack(source, folder, size=size, fit=flags.fit, skip_bad=flags.skip_bad)
    _describe_store(folder, flags.json)


def _clear(folder: Path, overwrite: bool) -> None:
    import shutil

    if folder.is_file():
        raise UserError(f"{folder}: is a file; --out names a folder")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise UserError(f"{folder}: is not empty; choose another --out or give --overwrite")
        if not (folder / "index.json").is_file():
            raise UserError(f"{folder}: holds something that is not a packed store; choose another --out")
        shutil.rmtree(folder)


def _describe_store(folder: Path, target: str | None) -> None:
    from framecast.data.inspect import inspect
    from framecast.data.store import Store

    told = inspect(Store(folder), None)
    _tell(target, told, f"{told['videos']} videos, {told['frames']} frames\nstore: {folder}")


def _data_inspect(argv: list[str]) -> None:
    from framecast.data.inspect import inspect
    from framecast.data.open import open_path

    name, flags = _named(InspectFlags, argv, "data inspect", "PATH")
    told = inspect(open_path(Path(name), axes=flags.axes), Path(flags.sheet) if flags.sheet else None)
    lines = "\n".join(f"{k}: {json.dumps(v) if isinstance(v, dict | list) else v}" for k, v in told.items())
    _tell(flags.json, told, lines + (f"\nsheet: {flags.sheet}" if flags.sheet else ""))


def _demo(argv: list[str]) -> None:
    from framecast.demo import demo

    flags = _parse(DemoFlags, argv, "framecast demo")
    demo(Path(flags.out), budget=flags.budget, seed=flags.seed, game=flags.game, tiny=flags.tiny)


COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "demo": _demo,
    "models": _models,
    "data": _data,
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "report": _report,
    "export": _export,
}


# ---------------------------------------------------------------------------------------------------------- parsing


def _named(flags: type, argv: list[str], command: str, what: str) -> tuple[str, Any]:
    """The one positional argument of a command, and its flags."""
    if argv and argv[0] in ("-h", "--help"):
        _parse(flags, argv, f"framecast {command} {what}")
    if not argv or argv[0].startswith("-"):
        raise UserError(f"framecast {command} needs {what} first; see framecast {command} --help")
    return argv[0], _parse(flags, argv[1:], f"framecast {command} {what}")


def _open(name: str, model_class: str | None) -> Any:
    from framecast.run import find_model, open_run

    return open_run(name, find_model(model_class) if model_class else None)


def _parse(flags: type, argv: list[str], program: str) -> Any:
    """Flags parsed by tyro; what it refuses becomes one sentence."""
    import tyro

    known = _flag_names(flags)
    _check_names(argv, known, program)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), _rows():
            return tyro.cli(flags, args=argv, prog=program, config=(tyro.conf.FlagCreatePairsOff,) if False else ())
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(f"{program}: {_sentence(complaint.getvalue())}; see --help") from None


def _parse_two(first: type, second: type, argv: list[str], program: str) -> tuple[Any, Any]:
    """Two dataclasses whose fields are flags of one level."""
    fields = []
    for part in (first, second):
        hints = typing.get_type_hints(part)
        for f in dataclasses.fields(part):
            fields.append((f.name, hints[f.name], _copy_field(f)))
    joined = dataclasses.make_dataclass("Flags", fields, frozen=True, kw_only=True)
    joined.__doc__ = first.__doc__
    parsed = _parse(joined, argv, program)

    def pick(part: type) -> Any:
        return part(**{f.name: getattr(parsed, f.name) for f in dataclasses.fields(part)})

    return pick(first), pick(second)


def _copy_field(f: Any) -> Any:
    if f.default is not dataclasses.MISSING:
        return dataclasses.field(default=f.default, metadata=f.metadata)
    if f.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=f.default_factory, metadata=f.metadata)
    return dataclasses.field(metadata=f.metadata)


@contextlib.contextmanager
def _rows() -> typing.Iterator[None]:
    """Within: tyro reads tables such as ((16, 32), (8,)) from text "16-32,8"."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def table(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type != tuple[tuple[int, ...], ...]:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="16-32-16,16-32-16",
            instance_from_str=lambda args: tuple(tuple(int(v) for v in row.split("-")) for row in args[0].split(",")),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [",".join("-".join(map(str, row)) for row in value)],
        )

    with registry:
        yield


def _flag_names(cls: type, prefix: str = "--") -> list[str]:
    names = ["--help"] if prefix == "--" else []
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        name, hint = f.name.replace("_", "-"), hints[f.name]
        inner = [a for a in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(a)]
        names += [flag for a in inner for flag in _flag_names(typing.cast(type, a), f"{prefix}{name}.")]
        names += [f"{prefix}{name}"]
        if hint is bool:
            names.append(f"{prefix}no-{name}")
    return names


def _check_names(argv: Sequence[str], known: Sequence[str], program: str) -> None:
    from framecast.config import suggest

    for word in argv:
        flag = word.split("=", 1)[0].replace("_", "-")
        if flag.startswith("--") and flag not in known:
            raise UserError(f"{program}: unknown flag {word.split('=', 1)[0]}; {suggest(flag, known)}")
        if re.fullmatch(r"-[A-Za-z]\w*", word) and word != "-h":
            raise UserError(f"{program}: unknown flag {word}; flags begin with two dashes")


def _sentence(box: str) -> str:
    """The words of a framed message, in one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    words = re.sub(r"[│╭╮╰╯─┃━]+", " ", plain).split()
    text = " ".join(words)
    text = re.sub(r"^(Parsing error|Missing from .*?|Required options)\s+", "", text)
    return text.split(" For full helptext")[0].strip(" .") or "the flags are not understood"


def _peek(argv: Sequence[str], flag: str) -> str | None:
    for i, word in enumerate(argv):
        if word == flag and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1]
    return None


def _take(argv: list[str], flag: str) -> bool:
    found = flag in argv
    if found:
        argv.remove(flag)
    return found


def _take_value(argv: list[str], flag: str) -> str | None:
    value = _peek(argv, flag)
    if value is not None:
        if f"{flag}={value}" in argv:
            argv.remove(f"{flag}={value}")
        else:
            at = argv.index(flag)
            del argv[at : at + 2]
    return value


def _nothing_left(argv: list[str], command: str, known: Sequence[str]) -> None:
    from framecast.config import suggest

    if argv:
        raise UserError(f"framecast {command}: {argv[0]!r} is not understood; {suggest(argv[0], known)}")


def _tell(target: str | None, told: Any, text: str) -> None:
    """Print what was done; as JSON to a file or, with -, instead of the text."""
    if target == "-":
        print(json.dumps(told, indent=2))
        return
    if target is not None:
        from framecast.config import write_json

        write_json(Path(target), told)
    print(text)
