"""`framecast data`: generate, import, convert, inspect, download and cut data."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from framecast.cli.data_export import read_options, write_lerobot_of, write_records_of, write_view_of
from framecast.cli.output import arguments, print_result, print_skipped, progress_bar
from framecast.cli.push import push_data
from framecast.cli.shared_flags import (
    JsonFlag,
    OutputFlags,
    RateFlag,
    ReadFlags,
    ServeFlags,
    SizeFlags,
    command_flags,
)
from framecast.core.commit import check_target
from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.flags import PathName, SetName, Switch, fields_of, parse
from framecast.core.remote import parse_bytes
from framecast.data.base import RecordSettings

HELP = """\
framecast data: generate, import, convert and inspect data.

  framecast data sources [--json]                        list of the sources
  framecast data make SOURCE --out DIR [flags]           generate it, e.g. data make atari --game pong --out data/pong
  framecast data import PATH --out DIR [--size 128]      videos, frames, .npy / .npz, TFRecords to a packed store
  framecast data push STORE ORG/NAME                     upload to the Hugging Face Hub
  framecast data records PATH --out DIR [--schema …]     any of them to TFRecords
  framecast data lerobot PATH --out DIR [--task TEXT]    any of them to a LeRobot dataset, format v3.0
  framecast data inspect PATH [--sheet FILE.png]         summary, with a contact sheet
  framecast data view PATH --out FILE.mp4                video of what is read, with frame numbers, and a contact sheet
  framecast data download NAME --game G --out DIR        published data; shows size and host and asks first
  framecast data clips --data PATH --out DIR             clips for another program to forecast, for a comparison
  framecast data record --source maze --out DIR          your own play in the browser

Each has its own --help.
"""


@command_flags
class SourcesFlags:
    """List of the sources for `framecast data make`.

    Example: framecast data sources --json
    """

    json: Switch = False
    """JSON output only."""


@command_flags
class ContentFlags:
    """Settings of readers of videos and of TFRecords."""

    records: RecordSettings = dataclasses.field(default_factory=RecordSettings)
    """Reader settings for TFRecords."""
    cuts: bool = True
    """Detection of shot cuts in videos, which training clips then do not cross; every frame is decoded."""


@command_flags
class ImportFlags(RateFlag, ContentFlags, SizeFlags, OutputFlags):
    """Conversion of videos, folders of frames, .npy, .npz or TFRecords to a packed store, the fastest training input.

    Example: framecast data import holiday.mp4 --out data/holiday --size 128
    """

    path: PathName
    """Video, folder of videos or of frames, .npy or .npz, TFRecords."""
    shards: str | None = None
    """Largest size of a shard, such as 512MiB, for store format 2: for object storage and data larger than memory."""
    workers: int = 1
    """Number of processes, which write shards."""
    cluster: str | None = None
    """Ray cluster that does the work: auto or an address; input and output must be on a disk that its nodes share."""


@command_flags
class InspectFlags(ContentFlags, ReadFlags):
    """Summary of a store, video or folder: videos, frames, sizes, actions, splits; with a contact sheet.

    Example: framecast data inspect data/pacman --sheet pacman.png
    """

    path: PathName
    """Packed store, video, folder of videos or of frames, .npy or .npz, TFRecords."""
    sheet: str | None = None
    """Path (.png) for a contact sheet."""


@command_flags
class DownloadFlags(JsonFlag):
    """Download of a published data set. Shows size and host and asks first; the same command resumes.

    Example: framecast data download agc --game mspacman --out data/agc
    """

    name: SetName
    """Name of the data set: agc, the Atari Grand Challenge."""
    out: str | None = None
    """Folder to unpack into, required; not for sets that are fetched by hand, whose instructions are printed."""
    game: str = "all"
    """Game: mspacman, qbert, pinball, revenge, spaceinvaders or all; trajectories for the trajectories alone."""
    sha256: str | None = None
    """Expected SHA-256 of the file, 64 hex digits; any other file is refused."""
    allow_http: Switch = False
    """Permission for addresses without encryption (http://)."""
    url: str | None = None
    """Alternative address with the same files, such as a mirror."""
    yes: Switch = False
    """Consent, instead of a question."""
    keep_archive: Switch = False
    """Preservation of the archive after unpacking."""


@command_flags
class ClipsFlags(OutputFlags):
    """Clips for another program to forecast: contexts, actions and a manifest; true futures only on request.

    Example: framecast data clips --data data/pacman --out clips/pacman --context 4 --horizon 64
    """

    data: str
    """Packed store, video, folder of videos or frames, .npy or .npz, or a source's name."""
    split: str = "test"
    """Split: train, val or test, a named part of one such as test/novel, or all."""
    context: int = 4
    """Number of context frames in every clip; at least as many as the models of the later comparison use."""
    horizon: int | None = None
    """Number of frames to forecast; if not given 64, or half of what the longest held-out video leaves."""
    clips: int = 32
    """Number of clips, spread over the split: one at a random position in each of equal parts."""
    seed: int = 0
    """Random seed for clip selection."""
    part: str | None = None
    """Share of the videos, such as 1/2; 1/2 and 2/2 have no video in common."""
    size: str | None = None
    """Frame size, 128 (shorter side) or 96x128; if not given 128 for videos, unchanged for other data."""
    fit: Literal["crop", "pad", "squash"] = "crop"
    """Method for frames of another aspect ratio: crop, pad or squash."""
    axes: str | None = None
    """Axes of .npy files, such as nthwc."""
    with_truth: Switch = False
    """True futures, written next to the contexts."""


@command_flags
class RecordFlags(ServeFlags, OutputFlags):
    """Recording of one's own play in the browser as a packed store, with actions, rewards and ends. Ctrl-C ends it.

    Example: framecast data record --source maze --out data/mine
    """

    out: str
    """Folder of the store, written when the server ends."""
    source: str = "maze"
    """Game: paddle, maze or a game of the emulator, such as pong."""
    seed: int = 0
    """Random seed of the first game."""


def make_flags(name: str, config: type) -> type:
    """The flags of `data make NAME`: output folder, and the fields of the source's config."""
    own = fields_of(config())
    made = dataclasses.make_dataclass("MakeFlags", own, bases=(OutputFlags,), frozen=True, kw_only=True)
    made.__doc__ = f"Generate {name} as a packed store.\n\nExample: framecast data make {name} --out data/{name}"
    return made


def make_config(config: type, flags: Any) -> Any:
    """The source's config from parsed `make_flags`."""
    return config(**{f.name: getattr(flags, f.name) for f in dataclasses.fields(config)})


def run_data(argv: list[str]) -> None:
    """Run one verb of `framecast data`."""
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP, end="")
        return
    if argv[0] not in VERBS:
        raise UserError(f"unknown command 'data {argv[0]}'; {suggest(argv[0], VERBS)}")
    VERBS[argv[0]](argv[1:])


def _sources(argv: list[str]) -> None:
    from framecast.reporting.catalog import list_sources

    flags = parse(SourcesFlags, argv, "data sources")
    found = list_sources()
    lines = [f"{r['name']:<16}{r['summary']}\n{'':16}framecast data make {r['name']} --help" for r in found]
    print(json.dumps(found, indent=2) if flags.json else "\n".join(lines))


def _make(argv: list[str]) -> None:
    from framecast.data import SOURCES
    from framecast.data.registry import find_source

    if argv and argv[0] in ("-h", "--help"):
        print("Example: framecast data make atari --game pong --out data/pong\n")
        print(f"Sources: {', '.join(SOURCES)}; flags of one: framecast data make SOURCE --help")
        return
    if not argv or argv[0].startswith("-"):
        raise UserError(f"data make: expected a source first: framecast data make {' | '.join(SOURCES)}")
    name = argv[0]
    maker = find_source(name)
    flags = parse(make_flags(name, maker.Config), argv[1:], f"data make {name}")
    source, folder = maker(make_config(maker.Config, flags)), Path(flags.out)
    check_target(folder, "store", flags.overwrite)
    with progress_bar(f"making {folder}") as progress:
        source.prepare(folder, overwrite=flags.overwrite, progress=progress)
    _describe_store(folder, flags.json)


def _import(argv: list[str]) -> None:
    from framecast.data.open import open_path
    from framecast.data.parallel_pack import pack_parallel
    from framecast.data.store import estimate, pack
    from framecast.data.writer import SHARD_BYTES, bytes_in_words

    flags = parse(ImportFlags, argv, "data import")
    size = SHARD_BYTES if flags.shards is None else parse_bytes(flags.shards, "--shards")
    if flags.workers < 1:
        raise UserError(f"--workers must be at least 1, got {flags.workers}")
    options, folder = read_options(flags), Path(flags.out)
    check_target(folder, "store", flags.overwrite)
    # scaled while decoding: a phone clip at full size would not fit into memory
    source = open_path(flags.path, options)
    need = bytes_in_words(estimate(source, options.size))
    print(f"{_counts(len(source), sum(source.lengths))}: {need} in {folder}", file=sys.stderr)
    with progress_bar(f"importing {flags.path}") as progress:
        if flags.shards is None and flags.workers == 1 and flags.cluster is None:
            pack(source, folder, options, progress, flags.overwrite)
        else:
            work = (flags.workers, flags.cluster)
            pack_parallel(flags.path, folder, options, size, *work, progress, flags.overwrite)
    _describe_store(folder, flags.json)


def _inspect(argv: list[str]) -> None:
    from framecast.data.inspect import inspect
    from framecast.data.open import open_path

    flags = parse(InspectFlags, argv, "data inspect")
    source = open_path(flags.path, read_options(flags))
    summary = inspect(source, Path(flags.sheet) if flags.sheet else None, cuts=flags.cuts)
    print_skipped(source)
    lines = [f"{k}: {json.dumps(v) if isinstance(v, dict | list) else v}" for k, v in summary.items() if v is not None]
    print_result(flags.json, summary, "\n".join(lines))


def _download(argv: list[str]) -> None:
    flags = parse(DownloadFlags, argv, "data download")
    from framecast.data.download import SETS, fetch, file_hash, find, offer, unpack

    address = find(flags.name, flags.game, flags.url, flags.allow_http)
    if flags.out is None:
        raise UserError("data download: --out is missing; see framecast data download --help")
    wanted, folder = offer(address), Path(flags.out)
    if folder.is_file():
        raise UserError(f"{folder}: is a file; --out must be a folder")
    print(f"{SETS[flags.name].about}\n{wanted.words}, into {folder}", file=sys.stderr)
    if not flags.yes and not _confirmed():
        raise UserError("nothing was fetched; answer y, or give --yes")
    with progress_bar(f"fetching {wanted.name}") as progress:
        archive = fetch(wanted, folder, progress, flags.sha256)
    sha256 = file_hash(archive)
    with progress_bar(f"unpacking {wanted.name}") as progress:
        count = unpack(archive, folder, progress)
    if not flags.keep_archive:
        archive.unlink()
    summary = {"folder": str(folder), "files": count, "address": wanted.address, "bytes": wanted.size, "sha256": sha256}
    text = f"{count:,} files in {folder}\nSHA-256 of {wanted.name}: {sha256}\n"
    text += f"next: framecast data import {folder} --out {folder}-store"
    print_result(flags.json, summary, text)


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise UserError("standard input is not a terminal, so the question cannot be answered; use --yes to fetch")
    print("fetch it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _clips(argv: list[str]) -> None:
    from framecast.evaluation.external import make_clips

    flags = parse(ClipsFlags, argv, "data clips")
    check_target(Path(flags.out), "clips", flags.overwrite)
    manifest = make_clips(**arguments(flags, "json"))
    count = len(manifest.clips)
    text = f"{count} {'clip' if count == 1 else 'clips'}: {manifest.context} frames of context, "
    text += f"{manifest.horizon} to forecast\nclips: {flags.out}\n"
    text += f"next: forecast them with any program, then framecast compare DIR --data {flags.data}"
    print_result(flags.json, manifest.to_json(), text)


def _record(argv: list[str]) -> None:
    from framecast.web.play import prepare_game

    flags = parse(RecordFlags, argv, "data record")
    folder = Path(flags.out)
    check_target(folder, "store", flags.overwrite)
    ready = prepare_game(flags.source, flags.out, **arguments(flags, "source", "out", "open", "json"))
    print(f"playing {flags.source}: {ready.url}\nCtrl-C ends it and writes {folder}", file=sys.stderr)
    if flags.open:
        import webbrowser

        webbrowser.open(ready.url)
    ready.serve()
    _describe_store(folder, flags.json)


VERBS: dict[str, Callable[[list[str]], None]] = {
    "sources": _sources,
    "make": _make,
    "import": _import,
    "records": write_records_of,
    "lerobot": write_lerobot_of,
    "inspect": _inspect,
    "view": write_view_of,
    "download": _download,
    "clips": _clips,
    "record": _record,
    "push": push_data,
}


def _describe_store(folder: Path, target: str | None) -> None:
    from framecast.data.inspect import inspect
    from framecast.data.store import Store

    store = Store(folder)
    print_skipped(store)
    summary = {**inspect(store, None), "store": str(folder)}
    print_result(target, summary, f"{_counts(summary['videos'], summary['frames'])}\nstore: {folder}")


def _counts(videos: int, frames: int) -> str:
    return f"{videos} {'video' if videos == 1 else 'videos'}, {frames} frames"
