"""Weights that travel: config.json, model.safetensors and a model card, without a local path in any of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from framecast.engine.checkpoint import write_weights
from framecast.metrics.scores import Scores
from framecast.models.base import count_parameters
from framecast.run import Run
from framecast.types import UserError


def export(run: Run, folder: Path, half: bool = False) -> Path:
    """Write the run's EMA weights into `folder`, which must be new or empty; half: as float16.

    The folder appears when it is whole, and not before.
    Raises: UserError when the folder holds something, or cannot be written.
    """
    from safetensors import SafetensorError

    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"{folder}: is not an empty folder; choose another --out")
    model = run.model()
    scores = run.folder / "scores.json"
    told = Scores.load(scores) if scores.is_file() else None
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        unfinished.mkdir(parents=True)
        steps, seconds = run.trained
        config = {**run.config.to_json(local=False), "trained": {"steps": steps, "seconds": seconds}}
        write_weights(unfinished, model, config, half)
        if told is not None:
            told.save(unfinished / "scores.json")
        (unfinished / "README.md").write_text(_card(run, count_parameters(model), told), encoding="utf-8")
        os.replace(unfinished, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{folder}: cannot be written ({reason}); free some space or choose another --out") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _card(run: Run, counts: dict[str, int], scores: Scores | None) -> str:
    config, model = run.config, run.model_class
    spec = config.spec
    lines = [
        "---",
        "library_name: framecast",
        "tags: [video-prediction]",
        "---",
        f"# {config.name}, profile {config.profile}",
        "",
        model.paper or "A baseline.",
        "",
        f"Trained on {Path(config.data.path).name or 'data'}: frames of {spec.height}x{spec.width}, "
        f"{spec.channels} channels, {spec.fps:g} fps.",
        "",
        "| sub-network | parameters |",
        "|---|---|",
        *(f"| {name} | {count:,} |" for name, count in counts.items()),
        "",
        "```",
        "import framecast",
        "model = framecast.load('THIS_FOLDER')",
        "future = model.predict(context, horizon=16)",
        "```",
    ]
    if scores is not None:
        lines += ["", "## Scores", "", *_figures(scores), "", "## Protocol", "", *_protocol(scores.protocol.to_json())]
    return "\n".join(lines) + "\n"


def _figures(scores: Scores) -> list[str]:
    frames = scores.headline_frames
    lines = []
    for metric in scores.protocol.settings.names:
        lines += [f"| {metric} | " + " | ".join(f"frame {k}" for k in frames) + " |", "|---" * (len(frames) + 1) + "|"]
        for name, row in scores.headline(metric).items():
            cells = ("–" if row[k] is None else f"{row[k]:.4g}" for k in frames)
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def _protocol(card: dict[str, Any]) -> list[str]:
    return [f"- {name}: {value}" for name, value in card.items()]
