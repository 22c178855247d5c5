"""Agents trained in the learned world `world-paddle` and in the real game, scored in the real game.

python -m reproduction.agent                   five seeds of each; finished ones are kept
python -m reproduction.agent --only world-0    one of them

Needs the extras `env` and `agents`. The agent is that of examples/agent_in_a_world.py.
"""

from __future__ import annotations

import functools
import runpy
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import framecast
from framecast.nn.precision import resolve_precision
from reproduction.results import ROOT, Results, arguments

SEEDS = 5
#: Decisions of an agent in training, each held for four frames, and games of its score.
STEPS, GAMES = 10_000, 20
PLACES = ("world", "game", "random")

#: 97.5 % quantile of Student's t distribution with SEEDS - 1 degrees of freedom.
_QUANTILE = 2.7764


def main() -> None:
    """Train and score what is not done yet."""
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        f"{place}-{seed}": functools.partial(measured, place, seed) for seed in range(SEEDS) for place in PLACES
    }
    given = arguments(__doc__, list(makers)).parse_args()
    torch.set_num_threads(1)
    Results("agent", page).parts(makers, given)


def measured(place: str, seed: int, steps: int = STEPS, games: int = GAMES, max_steps: int = 3000) -> dict[str, Any]:
    """Score in the real game of one agent.

    Args:
        place: where it is trained: "world", "game", or "random" for an untrained player of random actions.
        seed: of agent and training.
        steps: decisions in training.
        games: of the score.
        max_steps: frames of a game at most.
    """
    example = runpy.run_path(str(ROOT / "examples" / "agent_in_a_world.py"))
    began = time.process_time()
    if place == "random":
        generator = np.random.default_rng(seed)
        points = example["score"](lambda seen: int(generator.integers(3)), games, max_steps)
        return {"points": points, "games": games, "sentence": f"{points:.2f} points a game"}
    import gymnasium

    precision = resolve_precision("auto", torch.device("cpu"))
    env = (
        framecast.make_env("world-paddle", precision=precision)
        if place == "world"
        else gymnasium.make("framecast/Paddle-v0", max_steps=1000)
    )
    agent = example["train"](example["Positions"](env), steps, seed)
    seconds = time.process_time() - began
    points = example["score"](lambda seen: int(agent.predict(seen, deterministic=True)[0]), games, max_steps)
    return {
        "points": points,
        "games": games,
        "decisions": steps,
        "cpu_seconds": seconds,
        **({"precision": precision} if place == "world" else {}),
        "sentence": f"{points:.2f} points a game",
    }


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % confidence interval over seeds by Student's t distribution."""
    mean, half = float(np.mean(values)), _QUANTILE * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return mean, mean - half, mean + half


def page(done: dict[str, Any]) -> str:
    """The page of results."""
    found = done["results"]
    lines = [
        "# Agents in a learned world",
        "",
        "Written by `python -m reproduction.agent` from `agent.json`. A small Q-learning agent (stable-baselines3)",
        "learns in the packaged world `world-paddle`, which was learned from recordings of scripted players, and",
        "is then scored in the real game; beside it the same agent trained in the real game, and random actions.",
        "The agent sees the positions of ball and paddles, and holds an action for four frames",
        "([example](../../examples/agent_in_a_world.py)). Points: those of the player less those of the opponent; a",
        "game ends when one of them has five.",
        "",
        "| trained in | points a game, 95 % interval over seeds | each seed |",
        "|---|---|---|",
    ]
    for place, words in (("world", "the learned world"), ("game", "the real game"), ("random", "random actions")):
        points = [row["points"] for name, row in found.items() if name.startswith(f"{place}-")]
        if len(points) == SEEDS:
            mean, low, high = interval(points)
            cell = f"{mean:.2f} ({low:.2f} to {high:.2f})"
        else:
            cell = f"{len(points)} of {SEEDS} seeds are done"
        lines.append(f"| {words} | {cell} | {', '.join(f'{p:.2f}' for p in points)} |")
    rows = [row for row in found.values() if "decisions" in row]
    if rows:
        lines += ["", f"{rows[0]['decisions']:,} decisions in training, scores over {rows[0]['games']} games."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
