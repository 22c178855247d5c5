"""Result files of the long runs: docs/results/FAMILY.json, the pages beside them, and the commands of the runs."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framecast.benchmark import job
from framecast.media.grid import GREEN, RED, border, side_by_side, strip
from framecast.media.images import to_uint8, write_image
from framecast.media.write import write_video
from reproduction import claims

ROOT, RESULTS = claims.ROOT, claims.RESULTS
WORK = ROOT / "runs" / "acceptance"
LOSSES = {
    "l2": ["--model.lp-exponent", "2", "--model.gdl-weight", "0", "--model.no-adversarial"],
    "l1": ["--model.lp-exponent", "1", "--model.gdl-weight", "0", "--model.no-adversarial"],
    "l1+gdl": ["--model.lp-exponent", "1", "--model.gdl-weight", "1", "--model.no-adversarial"],
    "adversarial+gdl": [
        *("--model.lp-exponent", "1", "--model.gdl-weight", "1"),
        *("--model.adversarial", "--model.adversarial-weight", "0.05"),  # the published weight
        *("--optim.discriminator-lr", "1e-4"),  # at 2e-5 it hardly learns within so few steps
    ],
}


class Results:
    """The results of one family, docs/results/FAMILY.json, and the page beside it, which `page` makes of them."""

    def __init__(self, family: str, page: Callable[[dict[str, Any]], str]) -> None:
        self.family, self.page, self.file = family, page, RESULTS / f"{family}.json"

    def load(self) -> dict[str, Any]:
        """What the file holds, or an empty one."""
        if not self.file.is_file():
            return {"format": 1, "family": self.family, "results": {}}
        found: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        return found

    def parts(self, makers: Mapping[str, Callable[[], dict[str, Any]]], options: argparse.Namespace) -> None:
        """The part of `--only`, or all of them; with --clip FILE the part "clip" alone, named after the file."""
        if getattr(options, "clip", None):
            self.part(f"clip-{slug(options.clip.stem)}", makers["clip"], options.again)
            return
        for name in [options.only] if options.only else [n for n in makers if n != "clip"]:
            self.part(name, makers[name], options.again)

    def part(self, name: str, make: Callable[[], dict[str, Any]], again: bool) -> None:
        """One result, kept under its name with versions and hardware; skipped when it is there."""
        if name in self.load()["results"] and not again:
            print(f"{name}: done before", flush=True)
            return
        print(f"{name} …", flush=True)
        found = {**make(), **circumstances()}
        done = self.load()  # only now: another part may have ended meanwhile
        done["results"][name] = found
        self.file.with_suffix(".md").write_text(self.page(stored(self.file, done)), encoding="utf-8")
        claims.write()
        print(f"{name}: {found.get('sentence', 'done')}", flush=True)


def arguments(about: str | None, parts: Sequence[str], clip: str = "") -> argparse.ArgumentParser:
    """Options that all long runs share. about: the script's docstring.  clip: what --clip does, where there is one."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=parts, help="one part instead of all")
    parser.add_argument("--again", action="store_true", help="run finished parts again")
    if clip:
        parser.add_argument("--clip", type=Path, help=clip)
    return parser


def stored(file: Path, done: dict[str, Any]) -> dict[str, Any]:
    """Write results; the content of the file, its numbers rounded, from which pages are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(dumped(done), encoding="utf-8")
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def dumped(done: dict[str, Any]) -> str:
    """JSON with one line a result, so that a new one is one line of difference; numbers to six digits."""

    def short(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.6g}")
        if isinstance(value, dict):
            return {k: short(v) for k, v in value.items()}
        return [short(v) for v in value] if isinstance(value, list) else value

    rows = [f"  {json.dumps(k)}: {json.dumps(short(v), allow_nan=False)}" for k, v in done["results"].items()]
    head = f'"format": {done["format"]}, "family": {json.dumps(done["family"])}'
    return f'{{{head}, "results": {{\n' + ",\n".join(rows) + "\n}}\n"


def circumstances() -> dict[str, Any]:
    """Versions and hardware of this run."""
    found = job.circumstances("cpu")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout
    hardware = {key: found["hardware"][key] for key in ("cpu", "cores", "torch_threads")}
    return {"versions": found["versions"], "hardware": hardware, "commit": commit.strip(), "date": found["date"]}


def slug(text: str) -> str:
    """A name for files."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def relative(path: Path) -> str:
    """The path as typed from the repository's root."""
    return str(path.relative_to(ROOT))


def command(*words: str) -> str:
    """Run `framecast …` and return the command as a user would type it."""
    line = " ".join(["framecast", *words])
    print(f"  {line}", flush=True)
    subprocess.run([sys.executable, "-m", "framecast", *words], check=True, cwd=ROOT)
    return line


def made(data: Path, *words: str) -> Path:
    """The store that `framecast data make WORDS` makes; one that is there is kept."""
    if not (data / "index.json").is_file():
        command("data", "make", *words, "--out", relative(data))
    return data


def record(name: str, skip: int) -> Path:
    """Fifty episodes of a game as a packed store: five of them are held out for the scores."""
    words = ("--frame-skip", str(skip), "--episodes", "50", "--max-frames", "300")
    return made(WORK / "data" / f"{name}-skip{skip}", "atari", "--game", name, *words)


def length(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Steps and seconds of a training, from the rows of its log."""
    seconds = round(max(row.get("seconds") or 0.0 for row in rows))
    return {"steps": rows[-1]["step"], "training_seconds": seconds}


def write_film(rows: Mapping[str, Any], path: Path, fps: float, shown: int | None = None) -> str:
    """Name of the written video of all rows side by side; a strip of every eighth part is written beside it as PNG.

    Args:
        rows: label -> frames (t, c, h, w), float in 0…1 or uint8; "truth" is one of them.
        path: file of the video, with suffix.
        fps: frame rate, Hz.
        shown: frames of the video; None takes all. The strip covers all frames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(side_by_side({k: v[:shown] for k, v in rows.items()}, least=160), path, fps)
    every = max(1, len(rows["truth"]) // 8)
    lines = [strip(border(to_uint8(v), GREEN if k == "truth" else RED), every=every) for k, v in rows.items()]
    width = max(line.shape[2] for line in lines)
    padded = [np.pad(line, ((0, 0), (0, 0), (0, width - line.shape[2])), constant_values=255) for line in lines]
    write_image(np.concatenate(padded, axis=1), path.with_suffix(".png"))
    return path.name
