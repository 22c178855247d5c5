"""Flags of the verbs of `framecast data`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from framecast.core.flags import PathName, SetName, Switch
from framecast.data.base import RecordSettings


@dataclass(frozen=True, kw_only=True)
class SourcesFlags:
    """List of the sources for `framecast data make`.

    Example: framecast data sources --json
    """

    json: Switch = False
    """JSON output only."""


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


@dataclass(frozen=True, kw_only=True)
class InspectFlags:
    """Summary of a store, video or folder: videos, frames, sizes, actions, splits; with a contact sheet.

    Example: framecast data inspect data/pacman --sheet pacman.png
    """

    path: PathName
    """Packed store, video, folder of videos or of frames, .npy or .npz, TFRecords."""
    sheet: str | None = None
    """Path (.png) for a contact sheet."""
    axes: str | None = None
    """Axes of .npy files, such as nthwc."""
    records: RecordSettings = dataclasses.field(default_factory=RecordSettings)
    """Reader settings for TFRecords."""
    cuts: bool = True
    """Detection of shot cuts in videos, for which every frame is decoded."""
    skip_bad: Switch = False
    """Skipping of unreadable files, with a count."""
    json: str | None = None
    """Path for the description as JSON; - for standard output."""


@dataclass(frozen=True, kw_only=True)
class ViewFlags:
    """Film of what is read, with frame numbers, times, actions and cuts below the frames, and a contact sheet.

    Example: framecast data view holiday.mp4 --out view.mp4
    """

    path: PathName
    """Packed store, video, folder of videos or of frames, arrays, records or robot data."""
    out: str = "view.mp4"
    """Path of the film: .mp4, .webm, .gif, …; the contact sheet has the same name with .png."""
    video: str | None = None
    """Name of one video; all if not given."""
    frames: int = 300
    """Maximum number of frames of each video."""
    size: str | None = None
    """Frame size, 128 (shorter side) or 96x128; unchanged if not given."""
    fit: Literal["crop", "pad", "squash"] = "crop"
    """Method for frames of another aspect ratio: crop, pad or squash."""
    fps: float | None = None
    """Frame rate to resample videos to; for frames and arrays, the rate they have (30 if not given)."""
    axes: str | None = None
    """Axes of .npy files, such as nthwc."""
    cuts: bool = True
    """Detection of shot cuts in videos."""
    skip_bad: Switch = False
    """Skipping of unreadable files, with a count."""
    json: str | None = None
    """Path for a summary of the output as JSON; - for standard output."""


@dataclass(frozen=True, kw_only=True)
class DownloadFlags:
    """Download of a published data set. Shows size and host and asks first; the same command resumes.

    Example: framecast data download agc --game mspacman --out data/agc
    """

    name: SetName
    """Name of the data set: agc, the Atari Grand Challenge."""
    out: str
    """Folder to unpack into."""
    game: str = "all"
    """Game: mspacman, qbert, pinball, revenge, spaceinvaders or all; trajectories for the trajectories alone."""
    url: str | None = None
    """Alternative address with the same files, such as a mirror."""
    sha256: str | None = None
    """Expected SHA-256 of the file, 64 hex digits; any other file is refused."""
    allow_http: Switch = False
    """Permission for addresses without encryption (http://)."""
    yes: Switch = False
    """Consent, instead of a question."""
    keep_archive: Switch = False
    """Preservation of the archive after unpacking."""
    json: str | None = None
    """Path for a summary of the output as JSON; - for standard output."""


@dataclass(frozen=True, kw_only=True)
class ClipsFlags:
    """Clips for another program to forecast: contexts, actions and a manifest; true futures only on request.

    Example: framecast data clips --data data/pacman --out clips/pacman --context 4 --horizon 64
    """

    data: str
    """Packed store, video, folder of videos or frames, .npy or .npz, or a source's name."""
    out: str
    """Output folder."""
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
    overwrite: Switch = False
    """Replacement of an existing folder, after the new one is complete."""
    json: str | None = None
    """Path for the manifest as JSON; - for standard output."""


@dataclass(frozen=True, kw_only=True)
class RecordFlags:
    """Recording of one's own play in the browser as a packed store, with actions, rewards and ends. Ctrl-C ends it.

    Example: framecast data record --source maze --out data/mine
    """

    out: str
    """Folder of the store, written when the server ends."""
    source: str = "maze"
    """Game: paddle, maze or a game of the emulator, such as pong."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all, then the URL holds a token that every request needs."""
    port: int = 8765
    """Port to listen on; 0 selects a free one."""
    sessions: int = 4
    """Maximum number of concurrent browsers."""
    seed: int = 0
    """Random seed of the first game."""
    open: Switch = False
    """Opening of the page in this machine's browser."""
    overwrite: Switch = False
    """Replacement of an existing store, after the new one is complete."""
    json: str | None = None
    """Path for a summary of the output as JSON; - for standard output."""
