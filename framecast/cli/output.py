"""Shared by all commands: printed results, progress bars, and flags as arguments."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def print_result(target: str | None, summary: Any, text: str) -> None:
    """Print the result of a command.

    Args:
        target: value of --json: a path for `summary` as JSON, "-" to print it instead of the text, or None.
        summary: plain data.
        text: lines for the user; "" for none.
    """
    if target == "-":
        print(json.dumps(summary, indent=2))
        return
    if text:
        print(text)
    if target is not None:
        from framecast.core.io import write_json

        write_json(Path(target), summary)
        print(f"json: {target}")


def print_skipped(source: Any) -> None:
    """Print to standard error what a source left out, and its notes."""
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


@contextlib.contextmanager
def progress_bar(label: str, quiet: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """Within: a callback (done, total) that shows a bar from its first call, or one line without a terminal.

    Args:
        label: text printed before the bar.
        quiet: no output; the callback is then None.
    """
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


def arguments(flags: Any, *leave_out: str) -> dict[str, Any]:
    """Flags by name, for a function whose arguments have the same names."""
    return {f.name: getattr(flags, f.name) for f in dataclasses.fields(flags) if f.name not in leave_out}


def open_run_of(flags: Any) -> Any:
    """The opened run of --run and --model-class."""
    from framecast.models.registry import find_model
    from framecast.training.run_folder import open_run

    return open_run(flags.run, find_model(flags.model_class) if flags.model_class else None)
