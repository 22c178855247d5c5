"""The runs behind docs/results/stability.md: what keeps 64 recursions of the multi-scale network stable.

    python -m reproduction.stability                    every part below; finished ones are kept
    python -m reproduction.stability --only cells       context noise and recursion in training, alone and together
    python -m reproduction.stability --only adversary   the run with both, trained further with and without adversary
    python -m reproduction.stability --only sprites     sprites without flicker, plain and adversarial, three seeds
    python -m reproduction.stability --only minute      a minute of training, three seeds
    python -m reproduction.stability --only clips --clip FILE FILE      filmed clips of your own, profile natural

The recording is that of `framecast demo`, Ms. Pac-Man at frame skip 4 in frames of 210x160, with the emulator's
memory, which knows where the sprites are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from framecast.evaluation.compare import compare
from framecast.evaluation.comparison import Comparison
from framecast.metrics.objects import ALL_THINGS
from framecast.metrics.scores import BASELINES
from framecast.training.log import read_metrics
from reproduction.pages import code, machine, opening, table, text
from reproduction.results import RESULTS, WORK, Results, arguments, command, length, made, relative, slug, write_film
from reproduction.stability_clips import clip_section, filmed
from reproduction.stability_sprites import section, sprites

#: Options of `stable` that each cell turns off.
CELLS = {
    "neither": ["--model.context-noise", "0", "--model.recursion", "1"],
    "noise": ["--model.recursion", "1"],
    "recursion": ["--model.context-noise", "0"],
    "both": [],
}
#: Discriminator of the adversarial run.
ADVERSARY = [*("--model.adversarial", "--model.spectral-norm"), *("--optim.discriminator-lr", "2e-4")]
#: A minute of processor time: what `stable` needs for stability costs gain at the first frames, and its gates keep
#: 64 frames stable alone (docs/log.md).
MINUTE = ["--model.context-noise", "0", "--model.recursion", "1", "--train.clock", "cpu"]
FRAMES = (1, 2, 4, 8, 16, 32, 64)
COPY = BASELINES[0]


def main() -> None:
    """Run the parts asked for."""
    parser = arguments(__doc__, ["cells", "adversary", "sprites", "minute", "clips"])
    parser.add_argument("--budget", default="5m", help="training time of a cell, on one core")
    parser.add_argument("--further", default="5m", help="training time with and without adversary after it")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="seeds of the cells")
    parser.add_argument("--clips", type=int, default=12, help="held-out clips of 64 frames")
    parser.add_argument("--sprite-clips", type=int, default=6, help="the same of the part sprites, one per episode")
    parser.add_argument("--minute-clips", type=int, default=20, help="the same of the part minute")
    parser.add_argument("--clip", type=Path, nargs="*", default=[], help="filmed clips of the part clips")
    parser.add_argument("--clip-budget", default="2m", help="processor time of training on each of them")
    options = parser.parse_args()
    if options.only == "clips" and not options.clip:
        parser.error("--only clips needs --clip FILE, one or more")
    if options.only in (None, "cells"):
        for seed in options.seeds:
            STABILITY.part(f"cells-{seed}", partial(cells, seed, options), options.again)
    if options.only in (None, "adversary"):
        STABILITY.part("adversary", partial(adversary, options), options.again)
    if options.only in (None, "sprites"):
        for seed in options.seeds:
            STABILITY.part(f"sprites-{seed}", partial(sprites, seed, options), options.again)
    if options.only in (None, "minute"):
        STABILITY.part("minute", partial(minute, options), options.again)
    for path in options.clip if options.only in (None, "clips") else []:
        STABILITY.part(f"clip-{slug(path.stem)}", partial(filmed, path, options.clip_budget), options.again)


def recording() -> Path:
    """Sixty episodes of 100 frames, of which six are held out."""
    words = ("--frame-skip", "4", "--episodes", "60", "--max-frames", "100", "--ram")
    return made(WORK / "data" / "ms_pacman-demo", "atari", *words)


def trained(name: str, budget: str, *flags: str) -> tuple[Path, str]:
    """The folder and the command of a run of profile `stable` with its last weights; a finished run is kept."""
    run, never = WORK / f"stability-{name}", "1000000"
    words = ["train", "multiscale-gan", "--profile", "stable", "--data", relative(recording()), "--out", relative(run)]
    words += ["--budget", budget, *flags, "--train.select", "last"]
    return run, command(*words, "--train.validate-every", never, "--train.preview-every", never)


def cells(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """All cells of the table of context noise and recursion, one seed."""
    runs = {name: trained(f"{name}-{seed}", options.budget, "--seed", str(seed), *more) for name, more in CELLS.items()}
    return compared(runs, f"stability-cells-{seed}", options.clips)


def adversary(options: argparse.Namespace) -> dict[str, Any]:
    """The first run with noise and recursion, trained further without and with a discriminator."""
    first = ["--init-from", relative(WORK / "stability-both-0"), "--optim.generator-lr", "5e-4"]
    variants: dict[str, list[str]] = {"plain": [], "adversarial": ADVERSARY}
    runs = {name: trained(name, options.further, *first, *more) for name, more in variants.items()}
    return compared(runs, "stability-adversary", options.clips)


def minute(options: argparse.Namespace) -> dict[str, Any]:
    """A minute of training of every seed, in the setting of the demo."""
    runs = {f"seed {seed}": trained(f"minute-{seed}", "60s", "--seed", str(seed), *MINUTE) for seed in options.seeds}
    return compared(runs, "stability-minute", options.minute_clips, copy=True)


def compared(runs: Mapping[str, tuple[Path, str]], film: str, clips: int, copy: bool = False) -> dict[str, Any]:
    """Figures of the runs over 64 frames of the same held-out clips, and a film of the median one.

    Args:
        runs: label -> folder and command.
        film: name of the film.
        clips: number of clips.
        copy: a film of truth, the first run and copy-last in place of one of all runs.
    """
    rows = [f"{name}={run}" for name, (run, _) in runs.items()]
    comparison, kept = compare(rows, recording(), split="test", horizon=64, clips=clips, mmd=False)
    scores, clip = comparison.scores, next((c for c in kept if c.role == "median"), kept[0])
    found = {name: {"command": line, **length(read_metrics(run))} for name, (run, line) in runs.items()}
    shown = [*list(runs)[:1], COPY] if copy else list(runs)
    last = ", ".join(f"{n} {number(scores.predictors[n]['skill'].mean[63])}" for n in runs)
    return {
        "sentence": f"skill over copy-last at frame 64: {last}",
        "protocol": scores.protocol.to_json(),
        "rows": {name: found.get(name, {}) | figures(comparison, name) for name in (*runs, COPY)},
        "film": write_film(
            {"truth": clip.truth, **{n: clip.predictions[n] for n in shown}}, RESULTS / f"{film}.webp", 15
        ),
    }


def figures(comparison: Comparison, name: str) -> dict[str, Any]:
    """Curves of one row at the shown frames, with its guards."""
    scores, objects = comparison.scores, comparison.extras["objects"]
    summary = scores.summaries[name]
    found = {"sharpness": at_frames(summary.sharpness_by_frame)}
    found |= {key: getattr(summary, key) for key in ("unstable_from", "blurred_from")}
    if name != COPY:
        skill = scores.predictors[name]["skill"]
        found |= {
            "skill": at_frames(skill.mean),
            "skill_low": at_frames(skill.low),
            "skill_high": at_frames(skill.high),
        }
        gain = scores.versus[name]["moving_psnr"]
        found |= {"gain": at_frames(gain.mean), "gain_low": at_frames(gain.low), "gain_high": at_frames(gain.high)}
    for key, thing in (("recall", ALL_THINGS), ("recall_her", "Ms. Pac-Man")):
        found[key] = at_frames(objects["rows"][name]["found"][thing]["mean"])
    return found


def at_frames(values: Any) -> dict[str, float | None]:
    """Values at the shown frames, by frame."""
    return {str(k): None if values[k - 1] is None else float(values[k - 1]) for k in FRAMES}


# ------------------------------------------------------------------------------------------------------------- page


def page(done: dict[str, Any]) -> str:
    """docs/results/stability.md."""
    results = done["results"]
    lines = ["# Stability of 64 recursions", "", "Written by `python -m reproduction.stability`; figures in"]
    lines += [
        "[stability.json](stability.json). The multi-scale network is trained on crops of 32x32 and then runs on its"
    ]
    lines += ["own output, on whole frames of held-out episodes of Ms. Pac-Man at frame skip 4. Options and equations:"]
    lines += ["[multi-scale adversarial prediction](../models/multiscale-gan.md#stability-of-recursion).", ""]
    seeds = [found for key, found in results.items() if key.startswith("cells-")]
    if seeds:
        lines += ["## Context noise and recursion in training", "", f"Seeds: {len(seeds)}.", ""]
        lines += _section(seeds)
    if "adversary" in results:
        lines += opening("Trained further with and without adversary", results["adversary"])
        lines += _section([results["adversary"]])
    steady = [found for key, found in results.items() if key.startswith("sprites-")]
    if steady:
        lines += section(steady)
    if "minute" in results:
        lines += _minute(results["minute"])
    return text(lines + clip_section({key: found for key, found in results.items() if key.startswith("clip-")}))


def _minute(found: dict[str, Any]) -> list[str]:
    """The minute of training: figures at frames 1 and 64 with intervals over clips, and the curves."""
    lines = ["## A minute of training in the setting of the demo", ""]
    lines += [
        "Ms. Pac-Man at 210x160 and frame skip 4, the recording of `framecast demo`, 60 s of processor time of one"
    ]
    lines += [
        "core, crops of 32x32. Intervals of 95 % over held-out clips; the film shows truth, seed 0 and copy-last.",
        "",
    ]
    rows = {name: row for name, row in found["rows"].items() if "command" in row}
    body = []
    for name, row in rows.items():
        cells = [between(row, key, k) for key, k in (("gain", 1), ("skill", 1), ("skill", 64))]
        flags = ["none" if row[key] is None else f"frame {row[key]}" for key in ("unstable_from", "blurred_from")]
        body.append([name, *cells, *flags])
    means = [
        number(_mean(row[key][k] for row in rows.values()))
        for key, k in (("gain", "1"), ("skill", "1"), ("skill", "64"))
    ]
    body.append(["mean", *means, "–", "–"])
    head = ["", "gain in the moving area at frame 1, dB", "skill at 1", "skill at 64", "unstable", "blurred"]
    return [*lines, *table(head, body), *_section([found], "Steps", ["seed 0", COPY])]


def between(row: Mapping[str, Any], key: str, frame: int) -> str:
    """A figure at a frame with its interval."""
    low, high = (row[f"{key}_{end}"][str(frame)] for end in ("low", "high"))
    return f"{row[key][str(frame)]:.2f} ({low:.2f} to {high:.2f})"


def _section(
    seeds: list[dict[str, Any]], steps: str = "Training of equal time, seed 0 in steps", film: Sequence[str] = ()
) -> list[str]:
    """Curves averaged over seeds, commands and film of the first.

    Args:
        seeds: results of a part.
        steps: what the numbers of steps are.
        film: rows of the film besides the truth; by default all that were trained.
    """
    first = seeds[0]
    protocol, rows = first["protocol"], first["rows"]
    counts = ", ".join(f"{row['steps']:,} ({name})" for name, row in rows.items() if "steps" in row)
    lines = [f"{steps}: {counts}. Scored on {protocol['clips']} clips of"]
    lines += [f"{protocol['videos']} held-out episodes.", ""]
    curves = {
        "skill": "skill over copy-last, whole frame",
        "gain": "gain in the moving area, dB",
        "sharpness": "sharpness ratio in the moving area",
        "recall": "object recall",
    }
    for key, label in curves.items():
        body = []
        for name in rows:
            known = [seed["rows"][name][key] for seed in seeds if key in seed["rows"][name]]
            if known:
                body.append([name, *(number(_mean(curve[str(k)] for curve in known)) for k in FRAMES)])
        lines += table([label, *(f"frame {k}" for k in FRAMES)], body)
    flags = []
    for name in rows:
        values = [[seed["rows"][name][key] for seed in seeds] for key in ("unstable_from", "blurred_from")]
        flags.append([name, *(" ".join("–" if v is None else str(v) for v in found) for found in values)])
    lines += table(["first frame, of each seed", "unstable", "blurred"], flags)
    lines += code(*(row["command"] for row in rows.values() if "command" in row))
    still = first["film"].rsplit(".", 1)[0] + ".png"
    shown = ", ".join(["truth", *(film or (name for name, row in rows.items() if "command" in row))])
    return [*lines, f"![{shown}]({first['film']})", "", f"![every eighth frame]({still})", "", *machine(first)]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def number(value: float | None) -> str:
    """A number with two decimals; a dash for None."""
    return "–" if value is None else f"{value:.2f}"


STABILITY = Results("stability", page)

if __name__ == "__main__":
    main()
