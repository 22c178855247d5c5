"""The runs behind docs/results/direct-ablation.md: what parts of `direct` are worth, and an opponent at equal budget.

    python -m reproduction.direct_ablation                   every part below
    python -m reproduction.direct_ablation --only no-flow    one of them

Ms. Pac-Man at 84x64 and 60 frames a second. Rows of the ablation train for about a minute of one core from three seeds
and are scored on validation clips; the opponent and its pair train for four minutes and are scored on test clips.
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
    "pretrained": ("from the packaged weights", ["--init-from", "direct-any", "--model.target-stride", "4"]),
}
#: Name -> model and flags of a run of four minutes.
PAIR = {
    "direct, 4 minutes": ["direct", "--profile", "small"],
    "opponent, 4 minutes": ["examples/models/one_go_convolutions.py:OneGo"],
}


def main() -> None:
    """Run the parts asked for."""
    parser = arguments(__doc__, [*ROWS, *PAIR])
    options = parser.parse_args()
    makers = {name: partial(row, name) for name in ROWS} | {name: partial(four_minutes, name) for name in PAIR}
    Results("direct-ablation", page).parts(makers, options)


def row(name: str) -> dict[str, Any]:
    """One row: a training per seed, and its scores on validation clips."""
    store, found = recording("ms_pacman"), []
    about, flags = ROWS[name]
    words = ["--data", relative(store), "--size", "84x64", *flags, "--steps", str(STEPS), *_LAST]
    line = ""
    for seed in SEEDS:
        run = WORK / f"ablation-{name}-{seed}"
        line = command("train", "direct", "--profile", "small", *words, "--seed", str(seed), "--out", relative(run))
        scores, _ = evaluate(run, split="val", horizon=64, clips=CLIPS, save=False)
        main_row = next(iter(rows_of(scores).values()))
        found.append({key: main_row[key] for key in ("skill", "skill_best", "moving_gain", "moving_gain_first")})
        found[-1]["first"], found[-1]["last"] = main_row["by_frame"]["1"][0], main_row["by_frame"]["64"][0]
    return {"about": about, "command": line, "seeds": found}


def four_minutes(name: str) -> dict[str, Any]:
    """A run of four minutes of one core from random weights, on test clips."""
    run = WORK / f"pair-{name.split(',')[0]}"
    words = ["--data", relative(recording("ms_pacman")), "--size", "84x64", "--budget", "4m", *_LAST]
    line = command("train", *PAIR[name], *words, "--out", relative(run))
    scores, _ = evaluate(run, horizon=64, clips=27, save=False)
    return {"command": line, "rows": rows_of(scores)}


#: Weights of the last step: validation in between would cost a part of the minute.
_LAST = ["--train.select", "last", "--train.validate-every", "100000"]


def page(done: dict[str, Any]) -> str:
    """docs/results/direct-ablation.md."""
    results = done["results"]
    lines = ["# Parts of `direct`", ""]
    lines += ["Written by `python -m reproduction.direct_ablation`; figures in direct-ablation.json.", ""]
    lines += [f"Ms. Pac-Man, 84x64, 60 frames/s, horizon 64; {STEPS} steps, about a minute of one core, seeds"]
    lines[-1] += f" {', '.join(map(str, SEEDS))}; {CLIPS} clips of validation episodes. Skill is that over copy-last on"
    lines[-1] += " the whole frame; the difference is to the first row, mean and range over seeds."
    lines += ["", "| row | changed | skill over 64 frames | difference | frame 1 | frame 64 | moving gain, dB |"]
    lines += ["|" + "---|" * 7]
    base = _skills(results["all"]) if "all" in results else None
    for name in ROWS:
        if name not in results:
            continue
        seeds, skills = results[name]["seeds"], _skills(results[name])
        gap = "" if base is None or name == "all" else _range(skills - base)
        cells = [name, results[name]["about"], _range(skills), gap]
        cells += [_range(np.array([s[key] for s in seeds])) for key in ("first", "last", "moving_gain")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, *_opponent(results)]) + "\n"


def _opponent(results: dict[str, Any]) -> list[str]:
    pairs = [n for n in PAIR if n in results]
    if not pairs:
        return []
    lines = ["", "## An opponent at equal budget", ""]
    lines += ["An encoder of single frames, a translator over all of them and a decoder, trained by squared error, in"]
    lines[-1] += " the style of SimVP (examples/models/one_go_convolutions.py); four minutes of one core each, the"
    lines[-1] += " same data, 27 test clips."
    lines += [
        "",
        "| model | skill over 64 frames | frame 1 | frame 64 | moving gain, dB | PSNR, dB |",
        "|" + "---|" * 6,
    ]
    for name in pairs:
        found = next(iter(results[name]["rows"].values()))
        skill, by_frame = found["skill"], found["by_frame"]
        cells = [name, f"{skill['mean']:+.3f} ({skill['low']:+.3f} to {skill['high']:+.3f})"]
        cells += [f"{by_frame[k][0]:+.3f}" for k in ("1", "64")]
        lines.append("| " + " | ".join([*cells, f"{found['moving_gain']:+.2f}", f"{found['psnr']:.2f}"]) + " |")
    return lines


def _skills(result: dict[str, Any]) -> np.ndarray:
    return np.array([seed["skill"]["mean"] for seed in result["seeds"]])


def _range(values: np.ndarray) -> str:
    return f"{values.mean():+.3f} ({values.min():+.3f} to {values.max():+.3f})"


if __name__ == "__main__":
    main()
