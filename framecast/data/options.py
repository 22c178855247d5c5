"""How data are read: path, frame size and the settings of readers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from framecast.core.errors import UserError
from framecast.data.base import RecordSettings
from framecast.media.resize import Fit, Size, parse_size


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Settings of `open_path` and of every reader; a reader uses those that apply to its format."""

    size: Size = None
    """Size frames are resized to, see `media.resize`; None keeps the stored size."""
    fit: Fit = "crop"
    """How frames reach a size of another aspect ratio."""
    fps: float | None = None
    """Rate videos are resampled to, or the rate of frames and arrays (30 if None), frames per second."""
    axes: str | None = None
    """Axes of .npy and .npz files, such as "nthwc"; None guesses them."""
    skip_bad: bool = False
    """Leave out files that cannot be read; the source's `meta()` lists them."""
    cuts: bool = True
    """Find shot cuts of videos when they are packed or inspected; clips do not cross them."""
    records: RecordSettings = field(default_factory=RecordSettings)
    """How TFRecords are read."""

    def __post_init__(self) -> None:
        if self.fps is not None and not self.fps > 0:
            raise UserError(f"fps must be above 0, got {self.fps}")

    @classmethod
    def parse(cls, size: str | None, **settings: Any) -> ReadOptions:
        """Options with a size as the user writes it: "128" (shorter side), "96x128" (height x width) or none."""
        return cls(size=parse_size(size), **settings)

    def meta(self) -> dict[str, Any]:
        """Size and fit as JSON, for the meta of a source."""
        return {"size": list(self.size) if isinstance(self.size, tuple) else self.size, "fit": self.fit}


#: Frames as they are stored.
AS_STORED = ReadOptions()


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data of a run, as stored in its config.json."""

    path: str = ""
    """Path as given by the user."""
    size: str | None = None
    """Frame size: "128" (shorter side), "96x128" (height x width) or none."""
    trained_size: str | None = None
    """Size frames were resized to in training, which a forecast repeats."""
    fit: Literal["crop", "pad", "squash"] = "crop"
    """How frames reach a size of another aspect ratio."""
    axes: str | None = None
    """Axes of .npy files, such as "nthwc"."""
    skip_bad: bool = False
    """Leave out files that cannot be read, and count them."""
    cuts: bool = True
    """Find shot cuts of videos, which clips do not cross."""
    records: RecordSettings | None = None
    """How TFRecords are read; None is the default of `RecordSettings`."""
    digest: str = ""
    """Digest of names, lengths, origin and content (see data/digest.py), so that a run is not resumed on other data."""

    def options(self) -> ReadOptions:
        """Settings of readers, with the size parsed."""
        return ReadOptions.parse(
            self.size,
            fit=self.fit,
            axes=self.axes,
            skip_bad=self.skip_bad,
            cuts=self.cuts,
            records=self.records or RecordSettings(),
        )
