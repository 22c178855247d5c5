"""The runs behind docs/results/worlds-ablation.md: what each part of `categorical` is worth.

    python -m reproduction.worlds_ablation                    every part below
    python -m reproduction.worlds_ablation --only no-clock    one of them

The game `paddle` by the profile `small`: a short training, so that the parts are compared and not the best world.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from framecast.evaluation.evaluate_world import evaluate_world
from reproduction.results import WORK, Results, arguments, command, made, relative
from reproduction.worlds import cell

#: Training steps of a row; worlds, and frames of each, in which it is measured.
STEPS, WORLDS, FRAMES = 1000, 32, 500
_ALL = "--model.events states:2 states:3 rewards --model.erase 0.05"
#: Name -> what it changes, flags of training.
ROWS: dict[str, tuple[str, str]] = {
    "all": ("the profile `small`, with windows near events and erased objects", _ALL),
    "no-traces": ("no traces of where each colour has been", f"{_ALL} --model.traces"),
    "no-clock": ("no clock of how long each colour has been away or there", f"{_ALL} --model.clock 0"),
    "no-positions": ("no learned maps of position", f"{_ALL} --model.no-positions"),
    "no-recursion": ("trained on true frames only", f"{_ALL} --model.recursion 1"),
    "no-reset": (
        "samples that have left the truth continue",
        f"{_ALL} --model.reset-pixels 0 --model.no-reset-presence",
    ),
    "no-weight": ("all pixels weigh the same", f"{_ALL} --model.change-weight 0"),
    "no-flips": ("no pixels of random colour in the context", f"{_ALL} --model.flips 0"),
    "no-events": ("windows anywhere", "--model.erase 0.05"),
    "no-erase": ("no erased objects", "--model.events states:2 states:3 rewards"),
    "argmax": (
        "the most probable colour of every pixel in place of the expected area",
        f"{_ALL} --model.decoding argmax",
    ),
}
#: Heading, path in the figures.
COLUMNS = (
    ("dead of 32", "random_held_actions.world.dead"),
    ("ball", "random_held_actions.world.ball_share"),
    ("clean ball", "random_held_actions.world.clean_ball"),
    ("both paddles", "random_held_actions.world.both_paddles"),
    ("obeys", "obedience.obeyed"),
    ("player returns", "ball_follower.world.player_return_rate"),
    ("opponent returns", "ball_follower.world.opponent_return_rate"),
    ("serves in time", "serves_in_time.world"),
    ("ball within 4 px at 8", "ball_within_4_px.8.share"),
)


def main() -> None:
    """Run the parts asked for."""
    options = arguments(__doc__, [*ROWS]).parse_args()
    Results("worlds-ablation", page).parts({name: partial(row, name) for name in ROWS}, options)


def row(name: str) -> dict[str, Any]:
    """One row: a training, and its figures as a world."""
    about, flags = ROWS[name]
    data = made(WORK / "worlds-ablation", "paddle", "--episodes", "60")
    run = WORK / f"worlds-ablation-{name}"
    words = ["--data", relative(data), *flags.split(), "--steps", str(STEPS), *_LAST, "--out", relative(run)]
    line = command("train", "categorical", "--profile", "small", *words)
    figures = evaluate_world(run, worlds=WORLDS, frames=FRAMES)
    return {"about": about, "command": line, "figures": figures}


#: Weights of the last step, no validation in between.
_LAST = ["--train.select", "last", "--train.validate-every", "100000"]


def page(done: dict[str, Any]) -> str:
    """docs/results/worlds-ablation.md."""
    results = done["results"]
    lines = ["# Parts of `categorical`", ""]
    lines += ["Written by `python -m reproduction.worlds_ablation`; figures in worlds-ablation.json.", ""]
    lines += [f"Game `paddle`, profile `small`, {STEPS:,} steps, one seed: differences of a few hundredths are chance."]
    lines += [
        f"{WORLDS} starts of {FRAMES} frames under random held actions; shares of frames, balls, pauses or starts."
    ]
    lines += ["", "| row | changed | " + " | ".join(head for head, _ in COLUMNS) + " |"]
    lines += ["|" + "---|" * (len(COLUMNS) + 2)]
    for name in ROWS:
        if name in results:
            figures = results[name]["figures"]
            cells = [name, results[name]["about"], *(cell(figures, path) for _, path in COLUMNS)]
            lines.append("| " + " | ".join(cells) + " |")
    if "all" in results:
        cells = ["true game", "", *(cell(results["all"]["figures"], _true(path)) for _, path in COLUMNS)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _true(path: str) -> str:
    parts = path.split(".")
    return ".".join("true" if part == "world" else part for part in parts) if "world" in parts else ""


if __name__ == "__main__":
    main()
