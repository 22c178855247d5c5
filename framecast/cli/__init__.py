"""The command line. Dispatch is by hand, so that `framecast --help` imports nothing and `train NAME` one model."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from framecast.core.errors import UserError

HELP = """\
framecast: predict the next frames of a video.

  framecast demo                                   record a game, train a minute, predict, report
  framecast models [MODEL]                         what can be trained; one model's parts and sizes
  framecast data make|import|inspect|…             where frames come from
  framecast train MODEL --data PATH                train a predictor; the same command again resumes
  framecast evaluate RUN                           scores on held-out clips, beside the baselines
  framecast predict RUN --input FILE --out FILM    a film of what happens next in your own video
  framecast play RUN                               the dream in your browser: watch it, steer it
  framecast report RUN                             one offline page: scores, curves, films
  framecast compare RUN RUN … --data PATH          any predictors on the same clips, ranked, on one page
  framecast benchmark --models … --data PATH       models trained equally long, then compared on one page
  framecast export RUN --out DIR                   weights that travel
  framecast latents VERB RUN                       look into a model's latent space

Two commands from a phone clip to its future:

  framecast train multiscale-gan --profile natural --data clip.mp4 --out runs/clip
  framecast predict runs/clip --input clip.mp4 --horizon 16 --out future.mp4

RUN is a run's folder, the name of packaged weights, or hf://organisation/name[@revision].
Each command has its own --help. Exit codes: 0 done, 2 the input is at fault, 1 our fault.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 2 the user's input is at fault, 1 our fault, 130 and 143 after a signal."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """The exit code of one command."""
    if len(argv) > 1 and argv[0] == "help":
        argv = [*argv[1:], "--help"]
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if argv[0] in ("--version", "-V"):
        from framecast import __version__

        print(f"framecast {__version__}")
        return 0
    try:
        if argv[0] not in COMMANDS:
            from framecast.core.config import suggest

            raise UserError(f"unknown command {argv[0]!r}; {suggest(argv[0], COMMANDS)}")
        COMMANDS[argv[0]](argv[1:])
        sys.stdout.flush()
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except UserError as error:
        return _say(str(error), 2)
    except KeyboardInterrupt:
        return _say("stopped", 130)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _other_fault(error)


def _say(text: str, code: int) -> int:
    print(f"framecast: {' '.join(text.split())}", file=sys.stderr)
    return code


#: What a disk may refuse that no program can help: no room, no permission, something else in the way.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_PLACE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def _other_fault(error: Exception) -> int:
    code = getattr(error, "code", None)
    if type(error).__name__ == "Interrupted" and isinstance(code, int):
        return code
    if type(error).__name__ == "NotFinite":
        return _say(str(error), 1)
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return _say("not enough memory; take a smaller --size or --batch-size, or fewer --clips", 2)
    if isinstance(error, OSError) and error.errno in _NO_ROOM + _NO_PLACE:
        remedy = "free some space or" if error.errno in _NO_ROOM else "mend that or"
        return _say(f"{error.filename or 'the disk'}: {error.strerror}; {remedy} choose another place", 2)
    traceback.print_exc()
    return _say("this is a fault of framecast, not of your input; please report it with the lines above", 1)


# ------------------------------------------------------------------------------------------------------ the commands


TRAIN_HELP = """\
framecast train MODEL --data PATH: train a predictor; the same command again resumes.

  framecast train multiscale-gan --data data/pacman --profile small --out runs/pacman
  framecast train multiscale-gan --data clip.mp4 --profile natural --budget 10m
  framecast train path/to/mine.py:Mine --data data/pacman --steps 5000

Models: {models}
All flags of one model: framecast train MODEL --help
"""


def _train(argv: list[str]) -> None:
    from framecast.core.flags import parse, peek
    from framecast.core.io import read_file
    from framecast.training.checkpoint import check_format
    from framecast.training.flags import from_file, train_config, train_flags
    from framecast.training.presets import PRESETS, preset, profiles

    if argv and argv[0] in ("-h", "--help"):
        print(TRAIN_HELP.format(models=", ".join(PRESETS)), end="")
        return
    if not argv or argv[0].startswith("-"):
        raise UserError("train: say which model first, e.g. framecast train multiscale-gan --data clip.mp4")
    name, argv = argv[0], argv[1:]
    file = peek(argv, "--config")
    given = read_file(file) if file else {}
    if file and "format" in given:
        check_format(given["format"], Path(file))
    base = preset(name, peek(argv, "--profile") or str(given.get("profile", "default")))
    if file:
        base = from_file(base, given, file)
    flags = parse(train_flags(base, profiles(name)), argv, f"train {name}")
    config = train_config(base, flags)
    if flags.dry_run:
        print(json.dumps(config.to_json(), indent=2))
        print("dry run: nothing was read or written", file=sys.stderr)
        return
    from framecast.training.train import default_out, train

    folder = Path(flags.out or default_out(config.name, config.data.path))
    source: Any = config.data.path
    if flags.devices * flags.num_nodes == 1 and "WORLD_SIZE" not in os.environ and "SLURM_NTASKS" not in os.environ:
        source, config = _opened(config, flags.quiet)  # with a bar; of several processes the first opens it, in `train`
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
        quiet=flags.quiet,
    )
    told = {"run": folder, "config": folder / "config.json", "checkpoint": folder / "checkpoint.pt"}
    told |= {"weights": folder / "weights", "metrics": folder / "metrics.jsonl"}
    _tell(
        flags.json,
        {k: str(v) for k, v in told.items()},
        f"run: {folder}\nnext: framecast evaluate {folder}\n      framecast report {folder}",
    )


def _opened(config: Any, quiet: bool) -> tuple[Any, Any]:
    """The data, decoded into the cache if need be, and the config with the frame size they have there."""
    from framecast.data.cache import cache_folder, open_data

    told = f"reading {config.data.path} once, into {cache_folder()}"
    with _progress(told, quiet) as progress:
        source, data = open_data(config.data, progress)
    if not quiet:
        _say_skipped(source)
    return source, dataclasses.replace(config, data=data)


def _evaluate(argv: list[str]) -> None:
    from framecast.cli.flags import EvaluateFlags
    from framecast.core.flags import parse
    from framecast.evaluation.scorer import describe

    flags = parse(EvaluateFlags, argv, "evaluate")
    run, scores, _ = _score(flags)
    folder = Path(flags.out) if flags.out else run.results
    _tell(flags.json, scores.to_json(), f"{describe(scores)}\n\nscores: {folder / 'scores.json'}")


def _report(argv: list[str]) -> None:
    from framecast.cli.flags import ReportFlags
    from framecast.core.flags import parse
    from framecast.reporting.report import report_run

    flags = parse(ReportFlags, argv, "report")
    run, scores, kept = _score(flags)
    page = report_run(run, scores, kept, folder=flags.out or run.results)
    _tell(flags.json, scores.to_json(), f"report: {page}\nscores: {page.parent / 'scores.json'}")


def _score(flags: Any) -> tuple[Any, Any, Any]:
    from framecast.evaluation.evaluate import evaluate

    run = _open(flags)
    scores, kept = evaluate(run, **_given(flags, "run", "model_class", "json"))
    return run, scores, kept


def _given(flags: Any, *leave_out: str) -> dict[str, Any]:
    """Flags by name, for a function whose arguments are called alike."""
    return {f.name: getattr(flags, f.name) for f in dataclasses.fields(flags) if f.name not in leave_out}


def _compare(argv: list[str]) -> None:
    from framecast.cli.flags import CompareFlags
    from framecast.core.flags import parse

    flags = parse(CompareFlags, argv, "compare")
    from framecast.evaluation.compare import compare
    from framecast.models.registry import find_model
    from framecast.reporting.compare_page import describe, write_comparison
    from framecast.training.device import make_device

    place = make_device(flags.device, flags.devices, 1, flags.precision)
    with _progress("comparing", flags.quiet or not place.is_main) as progress:
        found, kept = compare(
            **_given(flags, "device", "devices", "precision", "model_class", "json", "quiet"),
            device=place,
            model_class=find_model(flags.model_class) if flags.model_class else None,
            progress=progress,
        )
    if not place.is_main:
        return
    page = write_comparison(flags.out, found, kept)
    text = f"{describe(found)}\n\npage: {page}\nscores: {page.with_suffix('.json')}, {page.with_suffix('.csv')}"
    _tell(flags.json, found.to_json(), text)


def _benchmark(argv: list[str]) -> None:
    from framecast.cli.flags import BenchmarkFlags
    from framecast.core.flags import parse

    flags = parse(BenchmarkFlags, argv, "benchmark")
    from framecast.benchmark.runner import run_benchmark
    from framecast.reporting.benchmark_page import describe

    table = run_benchmark(**_given(flags, "json"))
    if table is not None:
        out = Path(flags.out)
        text = f"{describe(table)}\n\npage: {out / 'benchmark.html'}\ntable: {out / 'table.json'}, {out / 'table.csv'}"
        _tell(flags.json, table, text)


def _predict(argv: list[str]) -> None:
    from framecast.cli.flags import PredictFlags
    from framecast.core.flags import parse

    flags = parse(PredictFlags, argv, "predict")
    if flags.horizon < 1 or flags.samples < 1:
        raise UserError(f"--horizon and --samples must be at least 1, got {flags.horizon} and {flags.samples}")
    if (flags.input is None) != flags.from_noise:
        raise UserError("predict needs either --input FILE or --from-noise")
    from framecast.inference.predict import predict_file
    from framecast.nn.precision import resolve_precision
    from framecast.training.device import pick_device

    place = pick_device(flags.device)
    made = predict_file(
        _open(flags),
        flags.input,
        flags.out,
        flags.horizon,
        at=flags.at,
        samples=flags.samples,
        actions=flags.actions,
        size=flags.size,
        seed=flags.seed,
        views=flags.views,
        device=str(place),
        precision=resolve_precision(flags.precision, place),
    )
    views = {name: str(path) for name, path in made.views.items()}
    told = {"film": str(made.path), "context": made.context, "frames": made.frames}
    told |= {"size": list(made.size), "fps": made.fps, "note": made.note, "views": views}
    text = f"{made.context} frames seen, {made.frames} predicted, at {made.fps:g} fps; {made.note}"
    _tell(flags.json, told, "\n".join([text, f"film: {made.path}", *(f"{k}: {v}" for k, v in views.items())]))


def _play(argv: list[str]) -> None:
    from framecast.cli.flags import PlayFlags
    from framecast.core.flags import parse

    flags = parse(PlayFlags, argv, "play")
    from framecast.training.device import pick_device
    from framecast.web.play import prepare

    ready = prepare(
        _open(flags),
        flags.data,
        host=flags.host,
        port=flags.port,
        names=[name.strip() for name in (flags.names or "").split(",") if name.strip()],
        sessions=flags.sessions,
        size=flags.size,
        seed=flags.seed,
        device=str(pick_device(flags.device)),
        precision=flags.precision,
    )
    _tell(flags.json, {"url": ready.url, "port": ready.port}, f"playing {flags.run}: {ready.url}\nCtrl-C ends it")
    sys.stdout.flush()
    if flags.open:
        import webbrowser

        webbrowser.open(ready.url)
    ready.serve()


def _export(argv: list[str]) -> None:
    from framecast.cli.flags import ExportFlags
    from framecast.core.flags import parse
    from framecast.inference.export import export

    flags = parse(ExportFlags, argv, "export")
    folder = export(_open(flags), Path(flags.out), half=flags.half, inference_only=flags.inference_only)
    files = {p.name: p.stat().st_size for p in sorted(folder.iterdir())}
    megabytes = sum(files.values()) / 1e6
    told = {"weights": str(folder), "bytes": files}
    _tell(flags.json, told, f"weights: {folder}  ({megabytes:.1f} MB; framecast.load({str(folder)!r}))")


def _open(flags: Any) -> Any:
    from framecast.models.registry import find_model
    from framecast.training.run_folder import open_run

    return open_run(flags.run, find_model(flags.model_class) if flags.model_class else None)


def _models(argv: list[str]) -> None:
    from framecast.cli.flags import ModelsFlags
    from framecast.core.flags import parse

    flags = parse(ModelsFlags, argv, "models")
    if flags.figure and (not flags.model or not flags.figure.endswith(".svg")):
        raise UserError(f"--figure {flags.figure}: draws one model as .svg; name the model and end the file in .svg")
    from framecast.reporting.catalog import draw, list_models, list_packaged, one_model

    found: Any
    if flags.pretrained:
        found = list_packaged()
        lines = [f"{r['name']:<32}{r['family']:<36}{r['profile']:<12}{r['bytes'] / 1e6:.1f} MB" for r in found]
        text = "\n".join(lines) or "no packaged weights in this version"
    elif flags.model is None:
        found = list_models()
        text = "\n".join(_model_lines(row) for row in found)
    else:
        found = one_model(flags.model, flags.profile)
        rows = [*found["parameters"].items(), ("total", found["total"])]
        text = f"{found['name']} ({found['family']}), profile {found['profile']}, parameters:\n"
        text += "\n".join(f"  {part:<24}{count:>14,}" for part, count in rows)
    print(json.dumps(found, indent=2) if flags.json else text)
    if flags.figure:
        draw(flags.model, flags.profile, Path(flags.figure))
        print(f"figure: {flags.figure}", file=sys.stderr if flags.json else sys.stdout)


def _model_lines(row: dict[str, Any]) -> str:
    about = [row["paper"]] if row["paper"] else []
    kind = "stochastic" if row["stochastic"] else "one future"
    frames = "1 frame" if row["context"] == 1 else f"{row['context']} frames"
    about.append(f"{frames} of context; {kind}; actions: {row['actions']}")
    about.append(f"profiles: {', '.join(row['profiles'])}")
    return f"{row['name']:<16}{row['summary']}\n" + textwrap.indent("\n".join(about), " " * 16)


DATA_HELP = """\
framecast data: where frames come from.

  framecast data sources [--json]                        what can be generated
  framecast data make SOURCE --out DIR [flags]           generate it, e.g. data make atari --game pong --out data/pong
  framecast data import PATH --out DIR [--size 128]      videos, frames, .npy / .npz, TFRecords into a packed store
  framecast data records PATH --out DIR [--schema …]     any of them into TFRecords
  framecast data inspect PATH [--sheet FILE.png]         what is there, with a contact sheet
  framecast data download NAME --game G --out DIR        published data; says size and host before it asks
  framecast data clips --data PATH --out DIR             clips for any other program to forecast, to be compared

Each has its own --help.
"""


def _data(argv: list[str]) -> None:
    from framecast.core.config import suggest

    verbs: dict[str, Callable[[list[str]], None]] = {
        "sources": _data_sources,
        "make": _data_make,
        "import": _data_import,
        "records": _data_records,
        "inspect": _data_inspect,
        "download": _data_download,
        "clips": _data_clips,
    }
    if not argv or argv[0] in ("-h", "--help"):
        print(DATA_HELP, end="")
        return
    if argv[0] not in verbs:
        raise UserError(f"unknown command 'data {argv[0]}'; {suggest(argv[0], verbs)}")
    verbs[argv[0]](argv[1:])


def _data_sources(argv: list[str]) -> None:
    from framecast.cli.flags import SourcesFlags
    from framecast.core.flags import parse
    from framecast.reporting.catalog import list_sources

    flags = parse(SourcesFlags, argv, "data sources")
    found = list_sources()
    lines = [f"{r['name']:<16}{r['summary']}\n{'':16}framecast data make {r['name']} --help" for r in found]
    print(json.dumps(found, indent=2) if flags.json else "\n".join(lines))


def _data_make(argv: list[str]) -> None:
    from framecast.cli.flags import make_config, make_flags
    from framecast.core.flags import parse
    from framecast.data import SOURCES
    from framecast.data.registry import find_source

    if argv and argv[0] in ("-h", "--help"):
        print("Example: framecast data make atari --game pong --out data/pong\n")
        print(f"Sources: {', '.join(SOURCES)}; flags of one: framecast data make SOURCE --help")
        return
    if not argv or argv[0].startswith("-"):
        raise UserError(f"say what to make: framecast data make {' | '.join(SOURCES)}")
    name = argv[0]
    maker = find_source(name)
    flags = parse(make_flags(name, maker.Config), argv[1:], f"data make {name}")
    source, folder = maker(make_config(maker.Config, flags)), Path(flags.out)
    _check_target(folder, flags.overwrite)
    with _progress(f"making {folder}") as progress:
        source.prepare(folder, overwrite=flags.overwrite, progress=progress)
    _describe_store(folder, flags.json)


def _data_import(argv: list[str]) -> None:
    from framecast.cli.flags import ImportFlags
    from framecast.core.flags import parse
    from framecast.data.open import open_path
    from framecast.data.store import estimate, pack
    from framecast.data.writer import bytes_in_words

    flags = parse(ImportFlags, argv, "data import")
    options, folder = _read_options(flags), Path(flags.out)
    _check_target(folder, flags.overwrite)
    # scaled while decoding: a phone clip at full size would not fit into memory
    source = open_path(flags.path, options)
    need = bytes_in_words(estimate(source, options.size))
    print(f"{_counted(len(source), sum(source.lengths))}: {need} in {folder}", file=sys.stderr)
    with _progress(f"importing {flags.path}") as progress:
        pack(source, folder, options, progress, flags.overwrite)
    _describe_store(folder, flags.json)


def _data_records(argv: list[str]) -> None:
    from framecast.cli.flags import RecordsFlags
    from framecast.core.flags import parse
    from framecast.data.open import open_path
    from framecast.data.tfrecord_writer import write_records

    flags = parse(RecordsFlags, argv, "data records")
    options = _read_options(flags)
    # Joints and masks are resized with the frames, after reading.
    source = open_path(flags.path, dataclasses.replace(options, size=None))
    _say_skipped(source)
    with _progress(f"writing {flags.out}") as progress:
        files = write_records(
            source,
            flags.out,
            flags.schema,
            options=options,
            length=flags.length,
            quality=flags.quality,
            per_file=flags.per_file,
            overwrite=flags.overwrite,
            progress=progress,
        )
    told = {"records": str(flags.out), "files": {file.name: file.stat().st_size for file in files}}
    many = "1 file" if len(files) == 1 else f"{len(files)} files"
    _tell(flags.json, told, f"{many} of the {flags.schema} schema\nrecords: {flags.out}")


def _read_options(flags: Any) -> Any:
    """The reader settings among the parsed flags of a data command."""
    from framecast.data.options import ReadOptions

    given = {f.name: getattr(flags, f.name) for f in dataclasses.fields(ReadOptions) if hasattr(flags, f.name)}
    return ReadOptions.parse(given.pop("size", None), **given)


def _check_target(folder: Path, overwrite: bool) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"{folder}: is not empty; choose another --out or give --overwrite")


def _describe_store(folder: Path, target: str | None) -> None:
    from framecast.data.inspect import inspect
    from framecast.data.store import Store

    store = Store(folder)
    _say_skipped(store)
    told = {**inspect(store, None), "store": str(folder)}
    _tell(target, told, f"{_counted(told['videos'], told['frames'])}\nstore: {folder}")


def _counted(videos: int, frames: int) -> str:
    return f"{videos} {'video' if videos == 1 else 'videos'}, {frames} frames"


def _say_skipped(source: Any) -> None:
    meta = source.meta()
    skipped = meta.get("skipped") or []
    if skipped:
        more = ", …" if len(skipped) > 3 else ""
        files = "1 file" if len(skipped) == 1 else f"{len(skipped)} files"
        print(f"left out, cannot be read: {files} ({', '.join(map(str, skipped[:3]))}{more})", file=sys.stderr)
    for note in meta.get("notes") or []:
        print(note, file=sys.stderr)
    if lost := meta.get("lost_frames"):
        print(f"left out, after the damage of files cut short: {lost} frames", file=sys.stderr)


def _data_inspect(argv: list[str]) -> None:
    from framecast.cli.flags import InspectFlags
    from framecast.core.flags import parse
    from framecast.data.inspect import inspect
    from framecast.data.open import open_path

    flags = parse(InspectFlags, argv, "data inspect")
    source = open_path(flags.path, _read_options(flags))
    told = inspect(source, Path(flags.sheet) if flags.sheet else None)
    _say_skipped(source)
    lines = [f"{k}: {json.dumps(v) if isinstance(v, dict | list) else v}" for k, v in told.items() if v is not None]
    _tell(flags.json, told, "\n".join(lines))


def _data_download(argv: list[str]) -> None:
    from framecast.cli.download import download

    download(argv, _tell, _progress)


def _data_clips(argv: list[str]) -> None:
    from framecast.cli.flags import ClipsFlags
    from framecast.core.flags import parse
    from framecast.evaluation.external import make_clips

    flags = parse(ClipsFlags, argv, "data clips")
    _check_target(Path(flags.out), flags.overwrite)
    manifest = make_clips(**_given(flags, "json"))
    count = len(manifest.clips)
    text = f"{count} {'clip' if count == 1 else 'clips'}: {manifest.context} frames of context, "
    text += f"{manifest.horizon} to forecast\nclips: {flags.out}\n"
    text += f"next: forecast them with any program, then framecast compare DIR --data {flags.data}"
    _tell(flags.json, manifest.to_json(), text)


def _demo(argv: list[str]) -> None:
    from framecast.cli.flags import DemoFlags
    from framecast.core.flags import parse

    flags = parse(DemoFlags, argv, "demo")
    from framecast.cli.demo import demo

    # with --json - standard output is for the JSON alone
    quiet = contextlib.redirect_stdout(sys.stderr) if flags.json == "-" else contextlib.nullcontext()
    with quiet:
        page = demo(Path(flags.out), budget=flags.budget, seed=flags.seed, game=flags.game, tiny=flags.tiny)
    run = page.parent
    told = {"run": run, "report": page, "film": run / "forecast.mp4", "scores": run / "scores.json"}
    if flags.json:
        _tell(flags.json, {k: str(v) for k, v in told.items()}, "")


def _latents(argv: list[str]) -> None:
    from framecast.cli.latents import latents

    made = latents(argv)
    if made is not None:
        _tell(*made)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "demo": _demo,
    "models": _models,
    "data": _data,
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "play": _play,
    "report": _report,
    "compare": _compare,
    "benchmark": _benchmark,
    "export": _export,
    "latents": _latents,
}


# ------------------------------------------------------------------------------------------------------- what is said


def _tell(target: str | None, told: Any, text: str) -> None:
    """Print what was done; as JSON to a file or, with -, instead of the text."""
    if target == "-":
        print(json.dumps(told, indent=2))
        return
    if text:
        print(text)
    if target is not None:
        from framecast.core.io import write_json

        write_json(Path(target), told)
        print(f"json: {target}")


@contextlib.contextmanager
def _progress(label: str, quiet: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """A callback (done, total) that shows a bar, or where nobody watches one line, as soon as it is called."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if quiet:
        yield None
        return
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = None

        def progress(done: int, total: int) -> None:
            nonlocal task
            if task is None:
                console.print(label, highlight=False, markup=False, soft_wrap=True)
                task = bar.add_task("", total=total)
            bar.update(task, completed=done, total=total)

        yield progress
