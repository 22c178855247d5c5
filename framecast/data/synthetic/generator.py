"""Base class of generated sources: a plan of the videos, written into a packed store with progress reports."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from framecast.core.types import ActionSpec
from framecast.data.store import DatasetWriter, require_space


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Videos of one store before any of them is drawn."""

    total: int
    """Number of videos."""
    size: int
    """Estimated size of the store, bytes."""
    fps: float
    """Frames per second."""
    videos: Generator[dict[str, Any], None, None]
    """Arguments of `DatasetWriter.add`, one video after another."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Entries of meta.json beside generator, version and parameters."""
    actions: ActionSpec | None = None
    """Action space of all videos."""


class SyntheticSource:
    """A source of generated videos; a subclass names its `Config` and plans its videos.

    Args:
        config: Settings; the defaults of `Config` if not given.
    """

    #: Name in `data.SOURCES`.
    name: ClassVar[str]
    #: Videos between two progress reports.
    report_every: ClassVar[int] = 1

    def __init__(self, config: Any = None) -> None:
        self.config: Any = type(self).Config() if config is None else config  # type: ignore[attr-defined]

    def plan(self, folder: Path) -> Plan:
        """The videos to be written into `folder`, which are drawn one by one."""
        raise TypeError(f"{type(self).__name__} must define plan(folder)")

    def prepare(
        self, folder: Path | str, overwrite: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """A packed store in `folder`; the same settings give the same bytes.

        Args:
            folder: Folder of the store.
            overwrite: Replace an existing store.
            progress: Called with the number of videos written and the total.

        Raises:
            UserError: The folder is taken, disk space is too small, or a required package is missing.
        """
        plan = self.plan(Path(folder))
        require_space(folder, plan.size)
        meta = {"generator": self.name, "version": 1, "parameters": asdict(self.config), **plan.meta}
        with (
            DatasetWriter(folder, plan.fps, plan.actions, meta, overwrite) as writer,
            closing(plan.videos) as videos,
        ):
            for done, video in enumerate(videos, 1):
                writer.add(**video)
                if progress is not None and (done % self.report_every == 0 or done == plan.total):
                    progress(done, plan.total)
