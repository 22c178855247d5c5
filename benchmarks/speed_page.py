"""Writes docs/results/speed.md from benchmarks/results.jsonl, and nothing else.

python -m benchmarks.speed_page
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.row import RESULTS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results" / "speed.md"


def main() -> None:
    """Write the page from the rows that are there."""
    rows = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines() if line.strip()]
    PAGE.write_text(page(rows, PAGE.parent), encoding="utf-8")
    print(PAGE)


def page(rows: Sequence[dict[str, Any]], folder: Path) -> str:
    """The text: the newest row of every name on every machine, one table a machine."""
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if not row.get("tiny"):
            key = (_machine(row), row["name"])
            newest.pop(key, None)  # so that tables keep the order of the last run
            newest[key] = row
    lines = [
        "# Speed",
        "",
        "Written by `benchmarks/speed_page.py` from `benchmarks/results.jsonl`, which `make bench` appends to. Beside",
        "every figure stands what the machine can do at best, measured in the same run. Times the floor: how many",
        "times longer the work takes than that, or for rates how many times more a second were possible; 1 is the",
        "limit, and more is worse. Rows below 1 stand beside a comparison that is no limit, such as the memory of",
        "another way.",
        "",
        "A training step of layers with few channels cannot reach the rate of large matrices. Such rows have a second",
        "floor, the time of the step's convolutions and matrix products as they are called; the number in parentheses",
        "is how many times longer the whole step takes.",
        "",
    ]
    for machine in dict.fromkeys(machine for machine, _ in newest):
        found = [row for (of, _), row in newest.items() if of == machine]
        lines += [
            f"## {machine}",
            "",
            "| what | figure | at best | times the floor | goal | GEMM fp32 | date |",
            "|---" * 7 + "|",
        ]
        lines += [_line(row) for row in found]
        lines.append("")
    if (folder / "precision-curves.svg").is_file():
        lines += ["![losses of 200 steps in fp32 and in bf16](precision-curves.svg)", ""]
    return "\n".join(lines).rstrip() + "\n"


def _machine(row: dict[str, Any]) -> str:
    made = row["hardware"]
    device = "" if made["device"] == "cpu" else f"{made['device']}, "
    return f"{device}{made['cpu']}, {made['cores']} cores, {made['torch_threads']} threads, torch {made['torch']}"


def _line(row: dict[str, Any]) -> str:
    unit = row["unit"]
    goal, alone = "–", row.get("details", {}).get("times_the_layers_alone")
    if "goal" in row:
        asked = f"{_text(row['goal'])} {unit}" if row["goal_is"] == "figure" else f"{_times(row, row['goal'])} times"
        goal = f"{asked}: {'reached' if row['reached'] else 'not reached'}"
    cells = (
        row["name"],
        f"{_text(row['figure'])} {unit}",
        f"{_text(row['ceiling'])} {unit} ({row['against']})",
        _times(row, row["ratio"]) + (f" ({_text(alone)} its layers alone)" if alone else ""),
        goal,
        f"{_text(row['machine']['gemm_fp32_gflops'])} GFLOP/s",
        row["hardware"]["date"][:10],
    )
    return "| " + " | ".join(cells) + " |"


def _times(row: dict[str, Any], ratio: float) -> str:
    """Times the floor, of figure / ceiling: its inverse where more is better, which units a second are."""
    if not row["unit"].endswith("/s"):
        return _text(ratio)
    return _text(1 / ratio) if ratio else "∞"


def _text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    main()
