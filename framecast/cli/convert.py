"""`framecast data import`, `records` and `lerobot`: data of any kind as a packed store, TFRecords or LeRobot data."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from framecast.cli.output import print_result, print_skipped, progress_bar
from framecast.core.errors import UserError
from framecast.core.flags import PathName, Switch, parse
from framecast.data.base import RecordSettings


@dataclass(frozen=True, kw_only=True)
class ImportFlags:
    """Conversion of videos, folders of frames, .npy, .npz or TFRecords to a packed store, the fastest training input.

    Example: framecast data import holiday.mp4 --out data/holiday --size 128
    """

    path: PathName
    """Video, folder of videos or of frames, .npy or .npz, TFRecords."""
    out: str
    """Output folder."""
    size: str | None = None
    """Frame size, 128 (shorter side) or 96x128; unchanged if not given."""
    fit: Literal["crop", "pad", "squash"] = "crop"
    """Method for frames of another aspect ratio: crop, pad or squash."""
    fps: float | None = None
    """Frame rate to resample videos to; for frames and arrays, the rate they have (30 if not given)."""
    axes: str | None = None
    """Axes of .npy files, such as nthwc."""
    records: RecordSettings = dataclasses.field(default_factory=RecordSettings)
    """Reader settings for TFRecords."""
    cuts: bool = True
    """Detection of shot cuts in videos, which training clips then do not cross."""
    skip_bad: Switch = False
    """Skipping of unreadable files, with a count."""
    overwrite: Switch = False
    """Replacement of an existing store, after the new one is complete."""
    json: str | None = None
    """Path for a summary of the output as JSON; - for standard output."""


@dataclass(frozen=True, kw_only=True)
class RecordsFlags:
    """Conversion of any data to TFRecords, one record per video, in the schema of a published system.

    Example: framecast data records data/pushing --out records/pushing --schema robot-push
    """

    path: PathName
    """Packed store, video, folder of videos or of frames, .npy or .npz, TFRecords."""
    out: str
    """Output folder."""
    schema: Literal["published", "robot-push"] = "published"
    """Schema: published (of the hierarchical predictor's release, with all per-frame arrays) or robot-push."""
    size: str | None = None
    """Frame size, 128 (shorter side) or 96x128; unchanged if not given."""
    fit: Literal["crop", "pad", "squash"] = "crop"
    """Method for frames of another aspect ratio: crop, pad or squash."""
    length: int | None = None
    """Frames per record; whole videos if not given."""
    quality: int = 95
    """JPEG quality, 1 to 100."""
    per_file: int = 256
    """Maximum number of records per file."""
    fps: float | None = None
    """Frame rate to resample videos to; for frames and arrays, the rate they have (30 if not given)."""
    axes: str | None = None
    """Axes of .npy files, such as nthwc."""
    skip_bad: Switch = False
    """Skipping of unreadable files, with a count."""
    overwrite: Switch = False
    """Replacement of existing records, after the new ones are complete."""
    json: str | None = None
    """Path for a summary of the output as JSON; - for standard output."""


@dataclass(frozen=True, kw_only=True)
class LeRobotFlags:
    """Conversion of any data to a LeRobot dataset (format v3.0), one episode per video or per group of cameras.

    Example: framecast data lerobot data/pushing --out lerobot/pushing --task "push the block"
    """

    path: PathName
    """Packed store, video, folder of videos or of frames, .npy or .npz, TFRecords."""
    out: str
    """Output folder."""
    task: str = ""
    """Task text of videos without one."""
    size: str | None = None
    """Frame size, 128 (shorter side) or 96x128; unchanged if not given."""
    fit: Literal["crop", "pad", "squash"] = "crop"
    """Method for frames of another aspect ratio: crop, pad or squash."""
    axes: str | None = None
    """Axes of .npy files, such as nthwc."""
    skip_bad: Switch = False
    """Skipping of unreadable files, with a count."""
    overwrite: Switch = False
    """Replacement of an existing dataset, after the new one is complete."""
    json: str | None = None
    """Path for a summary of the output as JSON; - for standard output."""


def run_import(argv: list[str]) -> None:
    """Run `framecast data import`."""
    from framecast.data.open import open_path
    from framecast.data.store import estimate, pack
    from framecast.data.writer import bytes_in_words

    flags = parse(ImportFlags, argv, "data import")
    options, folder = read_options(flags), Path(flags.out)
    check_target(folder, flags.overwrite)
    # scaled while decoding: a phone clip at full size would not fit into memory
    source = open_path(flags.path, options)
    need = bytes_in_words(estimate(source, options.size))
    print(f"{counts(len(source), sum(source.lengths))}: {need} in {folder}", file=sys.stderr)
    with progress_bar(f"importing {flags.path}") as progress:
        pack(source, folder, options, progress, flags.overwrite)
    describe_store(folder, flags.json)


def run_records(argv: list[str]) -> None:
    """Run `framecast data records`."""
    from framecast.data.open import open_path
    from framecast.data.tfrecord_writer import write_records

    flags = parse(RecordsFlags, argv, "data records")
    options = read_options(flags)
    # joints and masks are resized with the frames, after reading
    source = open_path(flags.path, dataclasses.replace(options, size=None))
    print_skipped(source)
    with progress_bar(f"writing {flags.out}") as progress:
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
    summary = {"records": str(flags.out), "files": {file.name: file.stat().st_size for file in files}}
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    print_result(flags.json, summary, f"{count} of the {flags.schema} schema\nrecords: {flags.out}")


def run_lerobot(argv: list[str]) -> None:
    """Run `framecast data lerobot`."""
    from framecast.data.lerobot_writer import write_lerobot
    from framecast.data.open import open_path

    flags = parse(LeRobotFlags, argv, "data lerobot")
    options = read_options(flags)
    source = open_path(flags.path, dataclasses.replace(options, size=None))  # labels are resized with the frames
    print_skipped(source)
    with progress_bar(f"writing {flags.out}") as progress:
        folder = write_lerobot(source, flags.out, options, flags.task, flags.overwrite, progress)
    print_result(flags.json, {"dataset": str(folder)}, f"dataset: {folder}")


def read_options(flags: Any) -> Any:
    """The reader settings among the parsed flags of a data command."""
    from framecast.data.options import ReadOptions

    given = {f.name: getattr(flags, f.name) for f in dataclasses.fields(ReadOptions) if hasattr(flags, f.name)}
    return ReadOptions.parse(given.pop("size", None), **given)


def check_target(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that is not empty, unless it may be overwritten."""
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"{folder}: is not empty; choose another --out or give --overwrite")


def describe_store(folder: Path, target: str | None) -> None:
    """Print what a packed store holds; `target` is the value of --json."""
    from framecast.data.inspect import inspect
    from framecast.data.store import Store

    store = Store(folder)
    print_skipped(store)
    summary = {**inspect(store, None), "store": str(folder)}
    print_result(target, summary, f"{counts(summary['videos'], summary['frames'])}\nstore: {folder}")


def counts(videos: int, frames: int) -> str:
    """Number of videos and of frames, in words."""
    return f"{videos} {'video' if videos == 1 else 'videos'}, {frames} frames"
