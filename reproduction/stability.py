"""The runs behind docs/results/stability.md: what keeps 64 recursions of the multi-scale network stable.

    python -m reproduction.stability                    every part below; finished ones are kept
    python -m reproduction.stability --only cells       context noise and recursion in training, alone and together
    python -m reproduction.stability --only adversary   the run with both trained further with and without adversary
    python -m reproduction.stability --only demo        the demo's recording and a minute of training

All runs are of Ms. Pac-Man at frame skip 4, whole frames of 210x160, and are scored on held-out episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from framecast.evaluation.evaluate import evaluate
from framecast.metrics.objects import ALL_THINGS
from framecast.metrics.scores import BASELINES, Scores
from framecast.training.log import read_metrics
from reproduction.pages import code, machine, opening, table, text
from reproduction.results import (
    RESULTS,
    WORK,
    Results,
    arguments,
    command,
    length,
    made,
    relative,
    write_film,
)

#: Options of `stable` that each cell turns off.
CELLS = {
    "neither": ["--model.context-noise", "0", "--model.recursion", "1"],
    "noise": ["--model.recursion", "1"],
    "recursion": ["--model.context-noise", "0"],
    "both": [],
}
#: Discriminator of the adversarial run.
ADVERSARY = [
    *("--model.adversarial", "--model.spectral-norm", "--model.adversarial-weight", "0.005"),
    *("--optim.discriminator-lr", "2e-4"),
]
FRAMES = (1, 2, 4, 8, 16, 32, 64)
COPY = BASELINES[0]


def main() -> None:
    """Run the parts asked for."""
    parser = arguments(__doc__, ["cells", "adversary", "demo"])
    parser.add_argument("--steps", type=int, default=1500, help="training steps of each cell")
    parser.add_argument("--further", type=int, default=600, help="training steps with and without adversary after it")
    parser.add_argument("--demo-steps", type=int, default=400, help="training steps that a minute of one core gives")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="seeds of the cells")
    options, part = parser.parse_args(), STABILITY.part
    wanted = [options.only] if options.only else ["cells", "adversary", "demo"]
    if "cells" in wanted:
        for seed in options.seeds:
            for name in CELLS:
                part(f"{name}-{seed}", partial(cell, name, seed, options.steps), options.again)
    if "adversary" in wanted:
        part("adversary", partial(adversary, options.further), options.again)
    if "demo" in wanted:
        part("demo", partial(demo, options.demo_steps), options.again)


def recording(*more: str, name: str = "ms_pacman-deflickered") -> Path:
    """Sixty episodes of 100 frames, of which six are held out: the demo's, here with steady sprites."""
    words = ("--frame-skip", "4", "--episodes", "60", "--max-frames", "100")
    return made(WORK / "data" / name, "atari", *words, *(more or ("--deflicker", "--ram")))


def trained(name: str, data: Path, steps: int, *flags: str) -> tuple[Path, str]:
    """The folder and the command of a run of profile `stable` with its last weights; a finished run is kept."""
    run, never = WORK / f"stability-{name}", "1000000"
    words = ["train", "multiscale-gan", "--profile", "stable", "--data", relative(data), "--out", relative(run)]
    words += ["--steps", str(steps), *flags, "--train.select", "last"]
    return run, command(*words, "--train.validate-every", never, "--train.preview-every", never)


def cell(name: str, seed: int, steps: int) -> dict[str, Any]:
    """One cell and seed of the table of context noise and recursion."""
    run, line = trained(f"{name}-{seed}", recording(), steps, "--seed", str(seed), *CELLS[name])
    return scored(run, line)


def adversary(steps: int) -> dict[str, Any]:
    """The first run with noise and recursion, trained further without and with a discriminator; with films."""
    first, found, shown = WORK / "stability-both-0", {}, {}
    variants: dict[str, list[str]] = {"plain": [], "adversarial": ADVERSARY}
    for name, more in variants.items():
        flags = ["--init-from", relative(first), "--optim.generator-lr", "5e-4", *more]
        run, line = trained(name, recording(), steps, *flags)
        found[name] = scored(run, line)
        kept = evaluate(run, horizon=64, clips=1, save=False)[1][0]  # the same clip for both
        shown |= {"truth": kept.truth, name: kept.predictions[found[name]["main"]]}
    film = write_film(shown, RESULTS / "stability.webp", 15)
    recall, sharp = ([found[n][k]["64"] for n in ("adversarial", "plain")] for k in ("recall", "sharpness"))
    sentence = f"recall at frame 64 {percent(recall[0])} with adversary and {percent(recall[1])} without"
    sentence += f", sharpness ratio {number(sharp[0])} and {number(sharp[1])}"
    return {"sentence": sentence, "film": film, "runs": found}


def demo(steps: int) -> dict[str, Any]:
    """`stable` on what `framecast demo` records, without de-flickering, for about a minute."""
    run, line = trained("demo", recording("--no-deflicker", "--ram", name="ms_pacman-demo"), steps, "--seed", "0")
    return scored(run, line)


def scored(run: Path, line: str, clips: int = 12) -> dict[str, Any]:
    """Figures of a run over 64 frames of held-out episodes."""
    scores, _ = evaluate(run, horizon=64, clips=clips)
    name, summary = scores.main, scores.summaries[scores.main]
    skill, gain = scores.predictors[name]["skill"], scores.versus[name]["moving_psnr"]
    return {
        "sentence": f"skill over copy-last at frame 64 {number(skill.mean[63])}, moving-area gain at frame 1 "
        f"{number(gain.mean[0])} dB, unstable from frame {summary.unstable_from}",
        "command": line,
        "main": name,
        **length(read_metrics(run)),
        "protocol": scores.protocol.to_json(),
        "skill": at_frames(skill.mean),
        "skill_low": at_frames(skill.low),
        "skill_high": at_frames(skill.high),
        "gain": at_frames(gain.mean),
        "sharpness": at_frames(summary.sharpness_by_frame),
        "unstable_from": summary.unstable_from,
        "blurred_from": summary.blurred_from,
        **recalls(scores),
    }


def recalls(scores: Scores) -> dict[str, Any]:
    """Object recall of the model, of her alone, and of copy-last, by frame; empty for data without known objects."""
    if scores.objects is None:
        return {}
    rows = {"recall": (scores.main, ALL_THINGS), "recall_her": (scores.main, "Ms. Pac-Man")}
    rows["recall_copy"] = (COPY, ALL_THINGS)
    series = {k: scores.objects["rows"][row]["found"][thing] for k, (row, thing) in rows.items()}
    found = {k: at_frames(s["mean"]) for k, s in series.items()}
    return found | {f"recall_{side}": at_frames(series["recall"][side]) for side in ("low", "high")}


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
    lines += ["own output, on whole frames of held-out episodes of Ms. Pac-Man. Options and equations:"]
    lines += ["[multi-scale adversarial prediction](../models/multiscale-gan.md#stability-of-recursion).", ""]
    lines += _cells(results)
    if "adversary" in results:
        found = results["adversary"]
        lines += opening("Adversary", found)
        lines += _curves({name: [run] for name, run in found["runs"].items()})
        for run in found["runs"].values():
            lines += code(run["command"])
        lines += [f"![truth, plain, adversarial]({found['film']})", ""]
        lines += ["![every eighth frame](stability.png)", "", *machine(found)]
    if "demo" in results:
        found = results["demo"]
        lines += opening("A minute of training on the demo's recording", found) + code(found["command"])
        lines += [f"{found['steps']} steps in {found['training_seconds']} s.", "", *_curves({"stable": [found]})]
        lines += machine(found)
    return text(lines)


def _cells(results: Mapping[str, Any]) -> list[str]:
    cells = {name: [found for key, found in results.items() if key.rpartition("-")[0] == name] for name in CELLS}
    cells = {name: runs for name, runs in cells.items() if runs}
    if not cells:
        return []
    runs = next(iter(cells.values()))
    protocol = runs[0]["protocol"]
    lines = ["## Context noise and recursion in training", ""]
    lines += [
        f"{runs[0]['steps']:,} steps of each, {protocol['clips']} clips of {protocol['videos']} held-out episodes,"
    ]
    seeds = ", ".join(f"{name} {len(found)}" for name, found in cells.items())
    lines += [f"sprites de-flickered by the source. Means over seeds ({seeds}).", "", *_curves(cells)]
    flags = [" ".join(found[0]["command"].split()) for found in cells.values()]
    return [*lines, *code(*flags), *machine(runs[0])]


def _curves(rows: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Tables of every curve, rows of runs whose mean is shown."""
    lines = []
    curves = {
        "skill": "skill over copy-last, whole frame",
        "gain": "gain in the moving area, dB",
        "sharpness": "sharpness ratio in the moving area",
        "recall": "object recall",
    }
    for key, label in curves.items():
        shown = {name: [run[key] for run in runs if key in run] for name, runs in rows.items()}
        digits = 2 if key != "skill" else 3
        body = [
            [name, *(number(_mean(curve[str(k)] for curve in found), digits) for k in FRAMES)]
            for name, found in shown.items()
            if found
        ]
        lines += table([label, *(f"frame {k}" for k in FRAMES)], body)
    flags = [
        [name, *(" ".join(str(run[key] or "–") for run in runs) for key in ("unstable_from", "blurred_from"))]
        for name, runs in rows.items()
    ]
    return [*lines, *table(["first frame, by seed", "unstable", "blurred"], flags)]


def _mean(values: Any) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def number(value: float | None, digits: int = 2) -> str:
    """A number with its sign where it is below 0; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share in per cent; a dash for None."""
    return "–" if value is None else f"{value:.0%}"


STABILITY = Results("stability", page)

if __name__ == "__main__":
    main()
