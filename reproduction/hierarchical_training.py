"""Trainings of hierarchical prediction, of which some start from the weights of others, and the data they use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from framecast.training.checkpoint import finished_step
from framecast.training.log import read_metrics
from framecast.training.run_folder import earlier_links
from reproduction.results import WORK, command, length, made, relative

#: A loss of encodings that counts what moves within clips, at full weight from the start.
_MOVES = "--model.encoding-loss relative --model.alpha 0.003 --model.alpha-delay 0"
#: Encoder and VAN learn on clips of which the predictor sees the first frames only and four are drawn.
_DRAWING = f"{_MOVES} --model.rolled 6 --model.drawn 4 --optim.all-lr"
_DRAWN = f"{_DRAWING} 1.5e-3"
#: Then the predictor alone, on encodings made once.
_RELATIVE = "--model.encoding-loss relative --model.mode predictor --batch-size 64 --optim.predictor-lr"
_ROLLED, _SETTLED = f"{_RELATIVE} 1e-3", f"{_RELATIVE} 2e-4"
_TEN = "--model.context 10 --model.future 22 --model.stride 2"
_PEOPLE = "--model.context 5 --model.future 27 --model.stride 2"


def _val(every: int, batches: int = 2) -> str:
    """Flags for validation on some held-out batches, and a checkpoint, at a fixed interval of steps."""
    return f"--train.val-batches {batches} --train.validate-every {every} --train.save-every {every}"


#: The profile that is a chain of trainings, and the name here of its first link, from whose weights others start.
CHAIN, FIRST_LINK = "bouncing", "bouncing-drawn"
#: Trainings of `small` beside --data, --out and --init-from: the one whose weights it starts from, and its flags.
TRAINING: dict[str, tuple[str, str]] = {
    "eight": ("", f"{_DRAWN} --model.future 16 --batch-size 8 --steps 2500 {_val(500)}"),
    **{
        f"delay-{name}": (
            "",
            "--model.alpha 0.1 --model.future 16 --model.rolled 6 --model.drawn 4 --optim.all-lr 1.5e-3 "
            f"--batch-size 16 --steps 2000 --train.stats-every 10 {_val(500)} --model.alpha-delay {delay}",
        )
        for name, delay in (("schedule", 1000), ("at-once", 0))
    },
    # From the weights that draw bouncing shapes: 23.8 dB from true encodings after 500 steps, 21.1 from scratch.
    "pushing-drawn": (
        "bouncing-drawn",
        f"{_DRAWN} --model.future 18 --batch-size 16 --steps 3000 {_val(100)}",
    ),
    "pushing-rolled": ("pushing-drawn", f"{_ROLLED} --model.future 18 --steps 4000 {_val(500)}"),
    "pushing-settled": ("pushing-rolled", f"{_SETTLED} --model.future 18 --steps 1500 {_val(500)}"),
    "walking-drawn": ("bouncing-drawn", f"{_DRAWN} {_PEOPLE} --batch-size 8 --steps 5000 {_val(500, 4)}"),
    "walking-drawn-2": (
        "walking-drawn",
        f"{_DRAWING} 4e-4 {_PEOPLE} --batch-size 8 --steps 3000 {_val(500, 4)}",
    ),
    "walking-epva": ("walking-drawn-2", f"{_ROLLED} {_PEOPLE} --steps 3000 {_val(500, 4)}"),
    "walking-ten": ("walking-drawn-2", f"{_ROLLED} {_TEN} --steps 3000 {_val(500, 4)}"),
    "walking-e2e": (
        "walking-drawn-2",
        f"--model.mode e2e {_PEOPLE} --model.drawn 4 --optim.all-lr 5e-4 --batch-size 8 --steps 1200 {_val(400, 4)}",
    ),
    "walking-epva-gan": (
        "walking-epva",
        f"--model.mode epva-gan --model.encoding-loss relative --model.alpha 10 {_PEOPLE} --optim.predictor-lr 1e-4 "
        f"--optim.van-lr 1e-4 --optim.discriminator-lr 1e-4 --batch-size 4 --steps 2400 {_val(600, 4)}",
    ),
}


def shapes(name: str, videos: int, frames: int, seed: int) -> Path:
    """One saturated shape bouncing on grey, 3 to 6 pixels a frame; the same bytes everywhere."""
    flags = ("--videos", str(videos), "--frames", str(frames), "--shapes", "1", "--seed", str(seed))
    look = ("--palette", "saturated", "--speed-min", "3", "--speed-max", "6")
    return made(WORK / "data" / name, "bouncing", *flags, *look)


#: What each training is on, or all of its part.
DATA: dict[str, Callable[[], Path]] = {
    "bouncing": lambda: shapes("bouncing-train", 1000, 40, 0),
    "eight": lambda: shapes("bouncing-eight", 10, 18, 3),  # of which eight are to be trained on
    "delay": lambda: shapes("bouncing-train", 1000, 40, 0),
    "pushing-drawn": lambda: made(WORK / "data/pushing", "pushing", "--train", "600", "--test", "64", "--novel", "64"),
    # its first 600 clips are those of the above
    "pushing": lambda: made(
        *(WORK / "data/pushing-2000", "pushing", "--train", "2000", "--val", "32", "--test", "128", "--novel", "128")
    ),
    "walking": lambda: made(
        WORK / "data/walking-28", "walking", "--subjects", "28", "--held-out", "4", "--cameras", "2"
    ),
}


def trained(name: str) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A finished run, and the command, steps, time and validations of every run of its part it took, first to last.

    A run of another part whose weights it starts from is reported there.
    """
    if name in (CHAIN, FIRST_LINK):
        return chain(name)
    before, flags = TRAINING[name]
    part = name.split("-")[0]
    data = DATA.get(name, DATA[part])()
    run, words = WORK / f"hierarchical-{name}", flags.split()
    start, earlier = trained(before) if before else (None, {})
    if start is not None:
        words += ["--init-from", relative(start)]
    begin = ("train", "hierarchical", "--profile", "narrow", "--data", relative(data), "--out", relative(run))
    ours = {name: {"command": command(*begin, *words), **curves(run)}}
    return run, {**{k: v for k, v in earlier.items() if k.split("-")[0] == part}, **ours}


def chain(name: str) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The run of the chain, or of its first link, which is not trained again; one command made all links."""
    run = WORK / f"hierarchical-{CHAIN}"
    first = run / "chain" / "1-drawn"
    if name == FIRST_LINK and finished_step(first) is not None:
        return first, {}
    data = DATA[CHAIN]()
    flags = ("--profile", CHAIN, "--data", relative(data), "--out", relative(run))
    line = command("train", "hierarchical", *flags)
    links = {f"{CHAIN}-{link.name}": link for link in earlier_links(run)} | {f"{CHAIN}-far": run}
    return (first if name == FIRST_LINK else run), {k: {"command": line, **curves(v)} for k, v in links.items()}


def curves(run: Path) -> dict[str, Any]:
    """Steps, time and the validations of a run."""
    rows = read_metrics(run)
    names = ("val/psnr_forecast", "val/psnr_on_enc_forecast", "val/psnr_first_forecast", "val/enc_pred")
    seen = [{"step": r["step"], **{n: r[n] for n in names if n in r}} for r in rows if "val/loss" in r]
    return {
        "seed": 0,
        **length(rows),
        "validations": [seen[i] for i in sorted({*range(0, len(seen), max(1, len(seen) // 8)), len(seen) - 1})],
    }
