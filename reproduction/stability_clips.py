"""Filmed clips in docs/results/stability.md: profile `natural`, trained on the start of a clip, scored on its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from framecast.evaluation.evaluate import evaluate
from framecast.metrics.scores import BASELINES
from framecast.training.log import read_metrics
from reproduction.pages import code, machine, table
from reproduction.results import WORK, command, length, relative, slug, write_film

HORIZON, COPY = 16, BASELINES[0]
#: Flags of a forecast.
FLAGS = {"unstable_from": "unstable", "blurred_from": "blurred"}
NEVER = "1000000"


def filmed(path: Path, budget: str, clips: int = 32) -> dict[str, Any]:
    """Skill at every frame with its interval, of `natural` trained on the clip for a budget of processor time.

    Args:
        path: the film.
        budget: processor time, such as 2m.
        clips: scored windows of its held-out end.
    """
    run = WORK / f"stability-clip-{slug(path.stem)}"
    words = ["train", "multiscale-gan", "--profile", "natural", "--data", str(path), "--out", relative(run)]
    words += ["--budget", budget, "--train.clock", "cpu", "--seed", "0"]
    line = command(*words, "--train.validate-every", NEVER, "--train.preview-every", NEVER)
    scores, kept = evaluate(run, horizon=HORIZON, clips=clips, save=False)
    skill = scores.predictors[scores.main]["skill"]
    clip = next((c for c in kept if c.role == "median"), kept[0])
    # a filmed clip is somebody's: its film stays in the folder of the run
    rows = {"truth": clip.truth, "forecast": clip.predictions[scores.main], COPY: clip.predictions[COPY]}
    write_film(rows, run / "forecast.webp", scores.protocol.fps)
    curves = {name: [float(v) for v in getattr(skill, name)] for name in ("mean", "low", "high")}
    least = int(np.argmin(curves["mean"]))
    return {
        "sentence": f"smallest skill over copy-last {curves['mean'][least]:+.3f}, at frame {least + 1} of {HORIZON}",
        "clip": path.stem,
        "command": line.replace(str(path), path.name),
        "seed": 0,
        "protocol": scores.protocol.to_json(),
        "skill": curves,
        "flags": {name: {key: getattr(scores.summaries[name], key) for key in FLAGS} for name in (scores.main, COPY)},
        **length(read_metrics(run)),
    }


def clip_section(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of docs/results/stability.md on the filmed clips."""
    if not found:
        return []
    lines = ["## Filmed clips, profile `natural`", ""]
    lines += [
        "One run of each clip, its held-out end, skill over copy-last on the whole frame with its 95 % interval over"
    ]
    lines += ["the scored windows. The films stay with whoever runs it.", ""]
    names = [f"{clip['clip']}, {clip['protocol']['clips']} windows" for clip in found.values()]
    body = []
    for k in range(HORIZON):
        cells = []
        for clip in found.values():
            mean, low, high = (clip["skill"][name][k] for name in ("mean", "low", "high"))
            cells.append(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})")
        body.append([str(k + 1), *cells])
    lines += table(["frame", *names], body)
    for clip in found.values():
        flags = "; ".join(f"{name}: {_flags(found)}" for name, found in clip["flags"].items())
        lines.append(f"- {clip['clip']}: {clip['steps']:,} steps in {clip['training_seconds']} s; {clip['sentence']}")
        lines[-1] += f"; {flags}."
    lines += ["", *code(*(clip["command"] for clip in found.values()))]
    return [*lines, *machine(dict(next(iter(found.values()))))]


def _flags(found: Mapping[str, int | None]) -> str:
    return ", ".join(f"{FLAGS[key]} from frame {k}" for key, k in found.items() if k is not None) or "no flag"
