"""What pages of results share: Markdown tables, what was run, on which machine, and writing a page from its file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from reproduction.claims import RESULTS


def line(cells: Iterable[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(cells) + " |"


def table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a table and the empty line below it; without rows none."""
    lines = [line(cells) for cells in rows]
    return [line(head).replace("|  |", "| |"), "|---" * len(head) + "|", *lines, ""] if lines else []


def opening(head: str, found: dict[str, Any]) -> list[str]:
    """Heading of a section, and the result in a sentence."""
    return [f"## {head}", "", f"{found['sentence'][0].upper()}{found['sentence'][1:]}.", ""]


def code(*lines: str) -> list[str]:
    """Lines of a block of commands, and the empty line below it."""
    return ["```", *lines, "```", ""]


def machine(found: dict[str, Any]) -> list[str]:
    """Versions, hardware and date of a result, and the empty line below them."""
    versions, hardware = found["versions"], found["hardware"]
    return [
        f"framecast {versions['framecast']} ({found['commit']}), torch {versions['torch']}, {hardware['cpu']}, "
        f"{hardware['cores']} core(s), {hardware['torch_threads']} torch thread(s), {found['date']}.",
        "",
    ]


def text(lines: Iterable[str]) -> str:
    """The page's text."""
    return "\n".join(lines).rstrip() + "\n"


def rewrite(name: str, page: Callable[[dict[str, Any], Path], str]) -> None:
    """Write docs/results/NAME.md from NAME.json, and nothing else."""
    file = RESULTS / f"{name}.json"
    file.with_suffix(".md").write_text(page(json.loads(file.read_text(encoding="utf-8")), RESULTS), encoding="utf-8")
