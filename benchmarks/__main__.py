"""All benchmarks, one after another, each in a process of its own so that none inherits another's memory or caches.

python -m benchmarks [--tiny] [--out FILE] [--only NAME …]
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.row import argument_parser

#: The scripts, in the order they run.
SCRIPTS = (
    "training_step",
    "small_steps",
    "processes",
    "hierarchical",
    "autoencoders",
    "full_frame",
    "loader",
    "shards",
    "metrics",
    "comparing",
    "recording",
    "playing",
    "static_page",
    "scenes",
    "precision_curves",
    "dreams",
    "visual_dynamics",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; returns how many failed."""
    parser = argument_parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS, metavar="NAME", help=", ".join(SCRIPTS))
    given = parser.parse_args(arguments)
    options = ["--device", given.device, *(["--tiny"] if given.tiny else [])]
    for name in ("out", "charts"):
        if (path := getattr(given, name)) is not None:
            options += [f"--{name}", str(path.resolve())]
    failed = []
    for script in given.only:
        print(f"--- {script}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{script}", *options]
        if subprocess.run(command, cwd=Path(__file__).parents[1]).returncode:
            failed.append(script)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
