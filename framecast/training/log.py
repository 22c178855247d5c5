"""Log of a run: JSON lines, experiment trackers, a progress bar on the terminal."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import writing
from framecast.core.io import require_regular, write_text
from framecast.training.trackers import Trackers

METRICS = "metrics.jsonl"


class Log:
    """Writer of `metrics.jsonl` of a run folder and to its trackers, in the main process only.

    Args:
        folder: the run folder.
        step: step at which the run resumes; later rows are removed.
        trackers: names of trackers.
        ended: whether the run has ended, so that the row of its final validation stays.
        config: of the run, plain values for the trackers.

    Raises:
        UserError: a file cannot be written, or a tracker is not installed or has no account.
    """

    def __init__(
        self,
        folder: Path,
        step: int = 0,
        trackers: Sequence[str] = (),
        ended: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = folder / METRICS
        self.validated: dict[str, float] = {}
        with self._disk():
            _drop_rows_after(self.path, step, ended)
            self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (open during the run)
            self.trackers = Trackers(trackers, folder, step, config or {})

    def _disk(self) -> AbstractContextManager[None]:
        fix = "the last checkpoint is intact, free some space and run the same command again"
        return writing(self.path.parent, fix, "the log could not be written")

    def scalars(self, step: int, values: Mapping[str, float], board: bool = True, **extra: Any) -> None:
        """Write one row of named numbers; numbers that are not finite become null.

        Args:
            step: of the run.
            values: numbers by name.
            board: whether the trackers get them too.
            extra: further values of the JSON row.
        """
        clean = {k: v if math.isfinite(v) else None for k, v in values.items()}
        with self._disk():
            self.file.write(json.dumps({"step": step, **extra, **clean}) + "\n")
            self.file.flush()
            if board:
                self.trackers.scalars(step, values)
        self.validated = {k: v for k, v in values.items() if k.startswith("val/")} or self.validated

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Give an image, uint8 (c, h, w), to the trackers."""
        with self._disk():
            self.trackers.image(step, name, image)

    def video(self, step: int, name: str, path: Path) -> None:
        """Give a written video to the trackers."""
        with self._disk():
            self.trackers.video(step, name, path)

    def close(self, ended: bool = False) -> None:
        """Flush and close file and trackers, which get the last validation as final scores of a run that ended."""
        with self._disk():
            self.file.close()
            if ended and self.validated:
                self.trackers.scores(self.validated)
            self.trackers.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All valid rows of a run's metrics.jsonl; others are skipped, and their number is printed.

    Args:
        folder: the run folder.
    """
    rows, damaged = metrics_and_damage(folder)
    if damaged:
        words = "1 damaged row" if damaged == 1 else f"{damaged} damaged rows"
        print(f"{folder / METRICS}: {words} skipped", file=sys.stderr)
    return rows


def metrics_and_damage(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """The valid rows of a run's metrics.jsonl and the number of others, without a last line cut off by a kill.

    Args:
        folder: the run folder.
    """
    path, rows, damaged = folder / METRICS, [], 0
    require_regular(path)
    if not path.is_file():
        return [], 0
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            damaged += number < len(lines) - 1
            continue
        fine = isinstance(row, dict) and type(row.get("step")) is int and row["step"] >= 0
        fine = fine and all(v is None or isinstance(v, bool | int | float | str) for v in row.values())
        fine = fine and isinstance(row.get("seconds", 0.0), int | float)
        if fine:
            rows.append(row)
        else:
            damaged += 1
    return rows, damaged


def _drop_rows_after(path: Path, step: int, ended: bool) -> None:
    # after a kill the file may have rows of steps that will be trained again
    if path.is_file():
        found, damaged = metrics_and_damage(path.parent)
        if damaged:
            print(f"{path}: {damaged} damaged {'row was' if damaged == 1 else 'rows were'} removed", file=sys.stderr)
        rows = [r for r in found if r["step"] <= step and (ended or not r.get("last"))]
        write_text(path, "".join(json.dumps(r) + "\n" for r in rows))


class Progress:
    """A progress bar for a known number of steps or seconds; without a terminal, a line every 30 seconds.

    Args:
        label: name of the run.
        total: number of steps or seconds.
        unit: "steps" or "s".
        done: progress at the start.
        quiet: no output.
    """

    def __init__(self, label: str, total: float, unit: str, done: float = 0, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True, quiet=quiet)
        self.live = self.console.is_terminal and not quiet
        self.total, self.unit, self.label = total, unit, label
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.live,
        )
        self.task = self.bar.add_task(label, total=total, completed=int(done), note="")
        self._last = time.monotonic()

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def update(self, done: float, note: str = "") -> None:
        """Set the progress to `done`, with a short note such as the loss."""
        if self.live:
            self.bar.update(self.task, completed=min(done, self.total), note=note)
        elif time.monotonic() - self._last > 30:
            self._last = time.monotonic()
            self.console.print(f"{self.label}: {done:.0f} of {self.total:.0f} {self.unit}  {note}", highlight=False)

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text, highlight=False, soft_wrap=True)
