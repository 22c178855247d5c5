"""The runs behind docs/results/direct-ablation.md: what each part of `direct` is worth.

    python -m reproduction.direct_ablation                   every part below
    python -m reproduction.direct_ablation --only no-flow    one of them

Ms. Pac-Man at 84x64 and 60 frames a second. Every row trains for about a minute of one core from three seeds and is
scored on validation clips. Rows whose name ends in -long train for four minutes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from framecast.evaluation.evaluate import evaluate
from reproduction.direct import recording, rows_of
from reproduction.results import WORK, Results, arguments, command, relative

#: Steps of a row of the ablation, seeds, and clips of the validation episodes.
STEPS, SEEDS, CLIPS = 275, (0, 1, 2), 18
#: Steps of a row whose name ends in -long: those of the results of the profile.
LONG_STEPS = 1100
#: Name -> what it changes, flags of training.
ROWS: dict[str, tuple[str, list[str]]] = {
    "all": ("the profile `small`", []),
    "no-flow": ("no optical flow, as input or as source", ["--model.flow", "none"]),
    "one-velocity": ("both velocities are that of the last step", ["--model.velocity-steps", "1"]),
    "no-hindcasts": ("no hindcasts", ["--model.no-hindcasts"]),
    "no-mean": ("the context's mean is no source", ["--model.no-mean"]),
    "no-new": ("new colours are no source", ["--model.no-new"]),
    "one-frame": ("one last frame as source in place of four", ["--model.kept", "1"]),
    "l2": ("mean squared error, not relative to copy-last's", ["--model.loss", "l2"]),
    "block-2": ("two lead times per call of the decoder in place of eight", ["--model.block", "2"]),
    "pretrained": (
        "from the packaged weights, every fourth frame of a block in the loss",
        ["--init-from", "direct-any", "--model.target-stride", "4"],
    ),
    "with-mean-long": ("the context's mean is a source", ["--model.mean"]),
    "no-mean-long": ("the context's mean is no source", ["--model.no-mean"]),
}
#: First row of each of the two tables.
BASES = {"all": STEPS, "with-mean-long": LONG_STEPS}


def main() -> None:
    """Run the parts asked for."""
    parser = arguments(__doc__, [*ROWS])
    options = parser.parse_args()
    makers = {name: partial(row, name) for name in ROWS}
    Results("direct-ablation", page).parts(makers, options)


def row(name: str) -> dict[str, Any]:
    """One row: a training per seed, and its scores on validation clips."""
    store, found = recording("ms_pacman"), []
    about, flags = ROWS[name]
    words = ["--data", relative(store), "--size", "84x64", *flags, "--steps", str(_steps(name)), *_LAST]
    line = ""
    for seed in SEEDS:
        run = WORK / f"ablation-{name}-{seed}"
        line = command("train", "direct", "--profile", "small", *words, "--seed", str(seed), "--out", relative(run))
        scores, _ = evaluate(run, split="val", horizon=64, clips=CLIPS, save=False)
        main_row = next(iter(rows_of(scores).values()))
        found.append({key: main_row[key] for key in ("skill", "skill_best", "moving_gain", "moving_gain_first")})
        found[-1]["first"], found[-1]["last"] = main_row["by_frame"]["1"][0], main_row["by_frame"]["64"][0]
    return {"about": about, "command": line, "seeds": found}


#: Weights of the last step, as validation in between would cost a part of the minute; and no shares from validation
#: clips, on which the rows are scored.
_LAST = ["--model.no-shrink", "--train.select", "last", "--train.validate-every", "100000"]


def _steps(name: str) -> int:
    return LONG_STEPS if name.endswith("-long") else STEPS


def page(done: dict[str, Any]) -> str:
    """docs/results/direct-ablation.md."""
    results = done["results"]
    lines = ["# Parts of `direct`", ""]
    lines += ["Written by `python -m reproduction.direct_ablation`; figures in direct-ablation.json.", ""]
    lines += [f"Ms. Pac-Man, 84x64, 60 frames/s, horizon 64; {STEPS} steps, about a minute of one core, seeds"]
    lines[-1] += f" {', '.join(map(str, SEEDS))}; {CLIPS} clips of validation episodes. Skill is that over copy-last on"
    lines[-1] += " the whole frame, without shares found on those clips; the difference is to the first row, mean and"
    lines[-1] += " range over seeds."
    for base, steps in BASES.items():
        names = [name for name in ROWS if name in results and _steps(name) == steps]
        if base in names:
            lines += [] if steps == STEPS else ["", f"The same with {steps:,} steps, about four minutes of one core:"]
            lines += _rows({name: results[name] for name in names}, base)
    return "\n".join(lines) + "\n"


def _rows(results: dict[str, Any], base: str) -> list[str]:
    lines = ["", "| row | changed | skill over 64 frames | difference | frame 1 | frame 64 | moving gain, dB |"]
    lines += ["|" + "---|" * 7]
    for name, result in results.items():
        seeds, skills = result["seeds"], _skills(result)
        gap = "" if name == base else _range(skills - _skills(results[base]))
        cells = [name, result["about"], _range(skills), gap]
        cells += [_range(np.array([s[key] for s in seeds])) for key in ("first", "last", "moving_gain")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _skills(result: dict[str, Any]) -> np.ndarray:
    return np.array([seed["skill"]["mean"] for seed in result["seeds"]])


def _range(values: np.ndarray) -> str:
    return f"{values.mean():+.3f} ({values.min():+.3f} to {values.max():+.3f})"


if __name__ == "__main__":
    main()
