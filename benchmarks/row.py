"""One measured figure as a row: printed, and appended to a file as a line of JSON."""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.ceiling import Ceiling, beside, count_flops, median_seconds
from framecast.training.device import pick_device

CPU = torch.device("cpu")

#: Default of `--out`, the file of rows.
RESULTS = Path(__file__).parent / "results.jsonl"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A figure beside its ceiling.

    figure, ceiling: in `unit`; the ceiling is the floor where less is better, and `against` describes it.
    goal: the ratio to reach (or, with `goal_is` "figure", the figure itself), at least where more is better and at
    most where less is.  machine: GEMM and copy rates of the same run.  flops: operations of one unit of work, counted.
    details: what else was measured.
    """

    name: str
    figure: float
    unit: str
    ceiling: float
    against: str
    machine: Ceiling
    device: torch.device = CPU
    better: Literal["less", "more"] = "less"
    precision: str = ""
    flops: float | None = None
    goal: float | None = None
    goal_is: Literal["ratio", "figure"] = "ratio"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """figure / ceiling: 1 is what the machine can do at best; above it for times, below it for rates."""
        return self.figure / self.ceiling

    @property
    def reached(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        found = self.ratio if self.goal_is == "ratio" else self.figure
        return found <= self.goal if self.better == "less" else found >= self.goal

    def to_json(self, tiny: bool) -> dict[str, Any]:
        """Plain data, with the hardware it was measured on; tiny rows say that they are."""
        found: dict[str, Any] = {
            "name": self.name,
            "figure": _short(self.figure),
            "unit": self.unit,
            "ceiling": _short(self.ceiling),
            "against": self.against,
            "ratio": _short(self.ratio),
        }
        if self.precision:
            found["precision"] = self.precision
        if self.flops is not None:
            found["flops"] = int(self.flops)
        if self.goal is not None:
            found |= {"goal": _short(self.goal), "goal_is": self.goal_is, "reached": self.reached}
        if self.details:
            found["details"] = {k: _short(v) if isinstance(v, float) else v for k, v in self.details.items()}
        machine = self.machine
        found["machine"] = {
            "gemm_bf16_gflops": _short(machine.bf16),
            "gemm_fp32_gflops": _short(machine.fp32),
            "copy_gbs": _short(machine.copy),
        }
        found["hardware"] = hardware(self.device)
        return found | ({"tiny": True} if tiny else {})

    def line(self) -> str:
        """The row as a person reads it."""
        sign = {"less": "<=", "more": ">="}[self.better]
        parts = [f"{self.name}: {_formatted(self.figure)} {self.unit}"]
        if self.flops is not None:
            parts.append(f"{self.flops / 1e9:,.1f} GFLOP")
        parts.append(f"beside {_formatted(self.ceiling)} {self.unit} ({self.against})")
        parts.append(f"ratio {self.ratio:.3g}")
        if self.goal is not None:
            parts.append(
                f"goal {self.goal_is} {sign} {_formatted(self.goal)}: {'reached' if self.reached else 'NOT reached'}"
            )
        parts += [f"{k.replace('_', ' ')} {_formatted(v)}" for k, v in self.details.items()]
        return " | ".join(parts)


def hardware(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on, and when, and with which code."""
    from framecast.benchmark.job import circumstances  # only now: what it imports would count in a measured memory

    found = circumstances(str(device))
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {**found["hardware"], "torch": found["versions"]["torch"], "date": date, "commit": _commit()}


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _commit() -> str:
    """The checkout's commit, with a plus when the package differs from it; "unknown" outside a checkout."""
    root = Path(__file__).parents[1]
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--", "framecast", "benchmarks/*.py"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")


@dataclass(frozen=True)
class Settings:
    """Settings of every script.

    Attributes:
        device: Device to measure on.
        tiny: Sizes so small that a script takes seconds; the figures are meaningless.
        charts: Folder of charts; None writes none.
    """

    device: torch.device
    tiny: bool = False
    charts: Path | None = None

    def repeats(self, full: int) -> int:
        """How often to measure."""
        return 1 if self.tiny else full


def against_gemm(
    settings: Settings,
    name: str,
    work: Callable[[], object],
    *,
    frames: int = 0,
    precision: str = "fp32",
    flops: float | None = None,
    repeats: int = 5,
    warm_up: int = 1,
    goal: float | None = None,
    goal_is: Literal["ratio", "figure"] = "ratio",
    details: Callable[[float, float], dict[str, Any]] | None = None,
) -> Row:
    """The row of a call beside the time its operations take as plain matrix products.

    frames: that a call makes; the figure is then frames per second, else seconds.  flops: of a call, counted where not
    given.  details: (seconds, flops) of a call -> what else to
    say.
    """
    flops = count_flops(work) if flops is None else flops
    seconds, machine = beside(
        lambda: median_seconds(work, settings.repeats(repeats), settings.device, settings.repeats(warm_up)),
        settings.device,
        settings.tiny,
    )
    row = floor_row(settings, f"{name}, {precision}", seconds, flops, precision, machine)
    row = replace(row, goal=goal, goal_is=goal_is, details=details(seconds, flops) if details else {})
    if not frames:
        return row
    against = f"ceiling: its operations at the GEMM rate of {precision}"
    rate = {"figure": frames / seconds, "ceiling": frames / row.ceiling, "flops": flops / frames}
    return replace(row, **rate, unit="frames/s", against=against, better="more")


def floor_row(
    settings: Settings, name: str, seconds: float, flops: float, precision: str, machine: Ceiling, **more: Any
) -> Row:
    """The row of a measured time beside that of its operations as plain matrix products.

    name: of the row.  flops: of the work.  machine: its ceiling, measured at the same time.  more: fields of the row.
    """
    return Row(
        name=name,
        figure=seconds,
        unit="s",
        ceiling=machine.floor(flops, precision),
        against=f"floor: its operations at the GEMM rate of {precision}",
        machine=machine,
        device=settings.device,
        precision=precision,
        flops=flops,
        **more,
    )


def run_script(
    run: Callable[[Settings], Iterable[Row]], about: str | None, arguments: Sequence[str] | None = None
) -> list[Row]:
    """The command line of one script: measure, print each row, append it to the file. Returns the rows.

    run: yields rows as they are measured, so that an interrupted run keeps those it has.
    """
    parser = argument_parser(about)
    given = parser.parse_args(arguments)
    out = given.out or (None if given.tiny else RESULTS)
    if not given.tiny:
        torch.set_num_threads(cores())
    settings = Settings(pick_device(given.device), given.tiny, given.charts)
    rows = []
    for row in run(settings):
        row = replace(row, name=f"tiny: {row.name}", goal=None) if given.tiny else row
        print(row.line(), flush=True)
        rows.append(row)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row.to_json(given.tiny), allow_nan=False) + "\n")
    if rows:
        machine, device = rows[-1].machine, rows[-1].device
        print(
            f"  on {hardware(device)['cpu']}, {cores()} cores, {torch.get_num_threads()} torch threads, {device.type}: "
            f"GEMM bf16 {machine.bf16:.0f}, fp32 {machine.fp32:.0f} GFLOP/s, copy {machine.copy:.1f} GB/s"
            + (f"; rows appended to {out}" if out else "; nothing kept")
        )
    return rows


def argument_parser(about: str | None) -> argparse.ArgumentParser:
    """The options all scripts share. about: the script's docstring."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes; figures mean nothing")
    parser.add_argument("--out", type=Path, help=f"file to append rows to (default {RESULTS.name} here; tiny: none)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:0 or mps")
    parser.add_argument("--charts", type=Path, help="folder for pictures (default docs/results; tiny: none)")
    return parser


def _short(value: float) -> float:
    """Six significant digits: more is noise."""
    return float(f"{value:.6g}")


def _formatted(value: Any) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
