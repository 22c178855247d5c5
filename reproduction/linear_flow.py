"""Baselines of every table, constant-velocity optical flow among them, on generated, game and filmed data.

    python -m reproduction.linear_flow --clips FOLDER     writes docs/results/linear-flow.json and .md

Packaged weights are compared on new recordings of the data that they were trained for. FOLDER holds bikes.mp4 and
carphone.mp4, which are not distributed. The coverage of the bootstrap intervals is measured on generated sets.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from framecast.evaluation.compare import compare
from framecast.evaluation.evaluate import evaluate
from framecast.evaluation.headline import best_baselines, headline_sentence
from framecast.metrics.scores import BASELINES, Scores
from framecast.metrics.skill import interval_rule, ratio_interval
from framecast.training.presets import preset
from framecast.training.train import train
from reproduction.results import WORK, Results, command, relative

DATA = WORK / "linear-flow"
#: Name -> words of `framecast data make`, packaged weights to compare, clips, horizon.
SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...], int, int]] = {
    "bouncing": (
        ("bouncing", "--videos", "24", "--frames", "80", "--seed", "7"),
        ("hierarchical-bouncing", "direct-any"),
        12,
        32,
    ),
    "ms_pacman": (
        ("atari", "--game", "ms_pacman", "--episodes", "8", "--max-frames", "120", "--seed", "7"),
        ("ms-pacman-c-ae",),
        8,
        32,
    ),
    "ball": (("ball", "--videos", "10", "--frames", "61"), ("dreams-ball", "direct-any"), 10, 32),
    "ms_pacman-skip4": (
        (
            *("atari", "--game", "ms_pacman", "--frame-skip", "4", "--episodes", "6", "--max-frames", "40"),
            *("--seed", "7"),
        ),
        ("multiscale-gan-pacman",),
        6,
        16,
    ),
    "shapes": (
        (*("shapes", "--train", "8", "--val", "4", "--test", "8", "--visualise", "0", "--size", "64", "--seed", "7"),),
        ("visual-dynamics-shapes",),
        20,
        1,
    ),
    "walking": (("walking", "--subjects", "2", "--takes", "3", "--cameras", "1", "--frames", "48"), (), 6, 32),
    "pushing": (
        ("pushing", "--train", "8", "--val", "2", "--test", "2", "--novel", "2", "--frames", "20"),
        (),
        8,
        14,
    ),
}
#: Name -> what a reader of the table has to know.
NOTES = {
    "ball": ["The ball's path is periodic: the clips are new videos, but show what `dreams-ball` was trained on.", ""]
}
FILMED, SHOWN = ("bikes", "carphone"), (1, 2, 4, 8, 16, 32, 64)
#: Videos of a set in the measurement of coverage, and the number of sets.
UNITS, REPEATS = (40, 9, 5, 3), 1000


def main() -> None:
    """Measure what is not yet in the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder with the two filmed clips")
    parser.add_argument("--again", action="store_true", help="measure again what is in the file")
    options = parser.parse_args()
    results = Results("linear-flow", page)
    results.part("coverage", coverage, options.again)
    for name, (words, packaged, clips, horizon) in SETS.items():
        results.part(name, lambda: generated(name, words, packaged, clips, horizon), options.again)  # noqa: B023
    for name in FILMED if options.clips else ():
        results.part(name, lambda: filmed(options.clips / f"{name}.mp4"), options.again)  # noqa: B023


def made(name: str, words: tuple[str, ...]) -> tuple[Path, str]:
    """A packed store of generated data, and the command that makes it."""
    folder, line = DATA / name, ("data", "make", *words, "--out", relative(DATA / name))
    if not (folder / "index.json").is_file():
        command(*line)
    return folder, " ".join(["framecast", *line])


def copying() -> Path:
    """A run of copy-last with four context frames, to evaluate data with nothing but baselines."""
    config = preset("copy-last", "default")
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, context=4))
    data, _ = made("bouncing", SETS["bouncing"][0])
    return train("copy-last", data, out=DATA / "copy-last", config=config, steps=1, tensorboard=False, quiet=True)


def generated(name: str, words: tuple[str, ...], packaged: tuple[str, ...], clips: int, horizon: int) -> dict[str, Any]:
    """Scores on generated data: with packaged weights a comparison, else the baselines alone."""
    data, line = made(name, words)
    if packaged:
        found, _ = compare(list(packaged), data, split="all", horizon=horizon, clips=clips, show=0, mmd=False)
        scores, after = found.scores, f"framecast compare {' '.join(packaged)} --data {relative(data)} --split all"
        return {**figures(scores), "commands": [line, f"{after} --horizon {horizon} --clips {clips}"]}
    split = "all" if name != "bouncing" else "test"
    scores, _ = evaluate(copying(), data, split=split, horizon=horizon, clips=clips, save=False)
    return {**figures(scores), "commands": [line]}


def filmed(path: Path) -> dict[str, Any]:
    """Scores of the baselines on a filmed clip, shorter side 128 px."""
    scores, _ = evaluate(copying(), path, split="all", horizon=16, clips=8, save=False)
    return {**figures(scores), "commands": []}


def figures(scores: Scores) -> dict[str, Any]:
    """What the page shows, as plain values."""
    p = scores.protocol
    rows = {}
    for name, summary in scores.summaries.items():
        by_frame = {m: scores.predictors[name][m].mean for m in ("skill", "skill_best", "psnr")}
        rows[name] = {
            **{key: getattr(summary, key) for key in ("useful_horizon", "false_motion", "blurred_from")},
            **{key: dict(getattr(summary, key)) for key in ("skill", "skill_best")},
            "ranges": [list(r) for r in summary.ranges],
            "by_frame": {m: {str(k): v[k - 1] for k in SHOWN if k <= p.horizon} for m, v in by_frame.items()},
        }
    sentence = headline_sentence(scores) if scores.main not in BASELINES else ""
    kept = ("clips", "videos", "context", "horizon", "height", "width", "fps", "baselines", "split")
    return {
        "sentence": sentence,
        "rows": rows,
        "best_baseline": list(scores.best_baseline),
        "missing": dict(scores.missing),
        "protocol": {key: getattr(p, key) for key in kept},
        "interval": interval_rule(p.clips, p.videos),
    }


def coverage() -> dict[str, Any]:
    """Share of generated sets whose 95 % interval contains the true skill, by the number of videos."""
    true, out = 1 - 0.7 * float(np.exp(0.08)), {}
    for units in UNITS:
        rng = np.random.default_rng(18)
        reference = rng.gamma(2.0, size=(units, REPEATS))
        low, high = ratio_interval(0.7 * reference * rng.lognormal(0, 0.4, (units, REPEATS)), reference, log=True)
        inside = (1 - high <= true) & (true <= 1 - low)
        out[str(units)] = {"coverage": float(inside.mean()), "width": float(np.median(high - low))}
    return {"true_skill": true, "sets": REPEATS, "by_videos": out}


# --------------------------------------------------------------------------------------------------------------- page


def page(found: dict[str, Any]) -> str:
    """The page's text."""
    results = found["results"]
    lines = [
        "# Results: the baselines, and optical flow among them",
        "",
        "Written by `reproduction/linear_flow.py` from [linear-flow.json](linear-flow.json). Skill is that over",
        "persistence (`copy-last`) on the whole frame, with its 95 % interval; the best baseline is chosen at",
        "every frame ([rules](../scores.md)). Packaged weights are scored on new recordings, without training on them.",
        "",
    ]
    for name, part in results.items():
        if name != "coverage":
            lines += [f"## {name}", "", *NOTES.get(name, []), *_table(part), *_commands(part)]
    return "\n".join([*lines, *_coverage(results.get("coverage"))]).rstrip() + "\n"


def _table(part: dict[str, Any]) -> list[str]:
    p = part["protocol"]
    shown = list(next(iter(part["rows"].values()))["by_frame"]["skill"])
    videos = "1 video" if p["videos"] == 1 else f"{p['videos']} videos"
    seen = "1 context frame" if p["context"] == 1 else f"{p['context']} context frames"
    lines = [
        f"{p['clips']} clips of {videos}, {p['height']}x{p['width']} at "
        f"{p['fps']:g} frames a second, {seen}, horizon {p['horizon']}; {part['interval']}.",
        "",
        "| | skill, whole horizon | over the best baseline | useful horizon | false motion | "
        + " | ".join(f"skill at {k}" for k in shown)
        + " |",
        "|---|---|---|---|---|" + "---|" * len(shown),
    ]
    ranked = sorted(part["rows"], key=lambda n: -(part["rows"][n]["skill"]["mean"] or 0.0))
    for name in ranked:
        row = part["rows"][name]
        share = "–" if row["false_motion"] is None else f"{row['false_motion']:.0%}"
        cells = [_interval(row["skill"]), _interval(row["skill_best"]), str(row["useful_horizon"]), share]
        cells += [_number(row["by_frame"]["skill"][k]) for k in shown]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    empty = " |" * (3 + len(shown))
    lines += [f"| `{name}` | {reason} |{empty}" for name, reason in part.get("missing", {}).items()]
    headline = "" if set(part["rows"]) <= set(BASELINES) else f" {part['sentence']}"
    return [*lines, "", f"{best_baselines(part['best_baseline'])}{headline}", ""]


def _commands(part: dict[str, Any]) -> list[str]:
    return ["```", *part["commands"], "```", ""] if part["commands"] else []


def _coverage(part: dict[str, Any] | None) -> list[str]:
    if part is None:
        return []
    lines = [
        "## Coverage of the intervals",
        "",
        f"{part['sets']:,} generated sets of videos with squared errors of a gamma distribution and a log-normal",
        f"ratio of the forecast's to the reference's, true skill {part['true_skill']:.3f}: share of intervals with it.",
        "",
        "| videos | coverage | median width |",
        "|---|---|---|",
    ]
    rows = part["by_videos"].items()
    return [*lines, *(f"| {n} | {row['coverage']:.1%} | {row['width']:.2f} |" for n, row in rows)]


def _interval(found: dict[str, Any]) -> str:
    if found["low"] is None:
        return _number(found["mean"])
    return f"{_number(found['mean'])} ({_number(found['low'])} to {_number(found['high'])})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


if __name__ == "__main__":
    main()
