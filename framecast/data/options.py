"""How data is read: path, frame size and the settings of readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from framecast.data.base import RecordSettings


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which frames. path: as the user gave it.  size: "128" (shorter side), "96x128" (height x width) or none.

    trained_size: what frames were brought to, so that a forecast does the same.
    fit: how frames meet a size of another shape.  axes: of .npy files, e.g. "nthwc".  skip_bad: leave out files that
    cannot be read, and count them.  records: how TFRecords are read; None is as `RecordSettings` has it.  digest: of
    names, lengths and origin, so that a run is not resumed on other data.
    """

    path: str = ""
    size: str | None = None
    trained_size: str | None = None
    fit: Literal["crop", "pad", "squash"] = "crop"
    axes: str | None = None
    skip_bad: bool = False
    records: RecordSettings | None = None
    digest: str = ""
