"""`framecast data records`, `lerobot` and `view`: data written in other forms."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from framecast.cli.output import print_result, print_skipped, progress_bar
from framecast.cli.shared_flags import OutputFlags, RateFlag, SizeFlags, command_flags
from framecast.core.flags import PathName, parse


@command_flags
class RecordsFlags(RateFlag, SizeFlags, OutputFlags):
    """Conversion of any data to TFRecords, one record per video, in the schema of a published system.

    Example: framecast data records data/pushing --out records/pushing --schema robot-push
    """

    path: PathName
    """Packed store, video, folder of videos or of frames, .npy or .npz, TFRecords."""
    schema: Literal["published", "robot-push"] = "published"
    """Schema: published (of the hierarchical predictor's release, with all per-frame arrays) or robot-push."""
    length: int | None = None
    """Frames per record; whole videos if not given."""
    quality: int = 95
    """JPEG quality, 1 to 100."""
    per_file: int = 256
    """Maximum number of records per file."""


@command_flags
class LeRobotFlags(SizeFlags, OutputFlags):
    """Conversion of any data to a LeRobot dataset (format v3.0), one episode per video or per group of cameras.

    Example: framecast data lerobot data/pushing --out lerobot/pushing --task "push the block"
    """

    path: PathName
    """Packed store, video, folder of videos or of frames, .npy or .npz, TFRecords."""
    task: str = ""
    """Task text of videos without one."""


@command_flags
class ViewFlags(RateFlag, SizeFlags):
    """Video of what is read, with frame numbers, times, actions and cuts below the frames, and a contact sheet.

    Example: framecast data view holiday.mp4 --out view.mp4
    """

    path: PathName
    """Packed store, video, folder of videos or of frames, arrays, records or robot data."""
    out: str = "view.mp4"
    """Path of the video: .mp4, .webm, .gif, …; the contact sheet has the same name with .png."""
    video: str | None = None
    """Name of one video; all if not given."""
    frames: int = 300
    """Maximum number of frames of each video."""
    cuts: bool = True
    """Detection of shot cuts in videos."""


def write_records_of(argv: list[str]) -> None:
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


def write_lerobot_of(argv: list[str]) -> None:
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


def write_view_of(argv: list[str]) -> None:
    """Run `framecast data view`."""
    from framecast.data.inspect import write_sheet
    from framecast.data.open import open_path
    from framecast.data.view import write_view

    flags = parse(ViewFlags, argv, "data view")
    source, out = open_path(flags.path, read_options(flags)), Path(flags.out)
    print_skipped(source)
    film = write_view(source, out, flags.video, flags.frames, flags.cuts)
    sheet = write_sheet(source, out.with_suffix(".png"))
    print_result(flags.json, {"film": str(film), "sheet": str(sheet)}, f"film: {film}\nsheet: {sheet}")


def read_options(flags: Any) -> Any:
    """The reader settings among the parsed flags of a data command."""
    from framecast.data.options import ReadOptions

    given = {f.name: getattr(flags, f.name) for f in dataclasses.fields(ReadOptions) if hasattr(flags, f.name)}
    return ReadOptions.parse(given.pop("size", None), **given)
