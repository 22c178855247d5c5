"""`framecast models`: the models of the package, their parts, sizes and packaged weights."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from framecast.cli.shared_flags import command_flags
from framecast.core.errors import UserError
from framecast.core.flags import ModelName, Switch, parse


@command_flags
class ModelsFlags:
    """List of all models, or the parts and sizes of one; `--figure` draws it with layer names and sizes.

    Example: framecast models multiscale-gan --profile small --figure small.svg
    """

    model: ModelName = None
    """Name of a listed model, or path/to/mine.py:Mine; all models are listed if not given."""
    profile: str = "default"
    """Profile of the model."""
    figure: str | None = None
    """Path (.svg) for a drawing of the built model."""
    pretrained: Switch = False
    """List of the packaged weights instead of the models."""
    json: Switch = False
    """JSON output only."""


def run_models(argv: list[str]) -> None:
    """List models or packaged weights, or describe one model."""
    flags = parse(ModelsFlags, argv, "models")
    if flags.figure and (not flags.model or not flags.figure.endswith(".svg")):
        raise UserError(f"--figure {flags.figure}: expected a model and a path ending in .svg; name the model")
    from framecast.reporting.catalog import draw, list_models, list_packaged, one_model

    found: Any
    if flags.pretrained:
        found = list_packaged()
        lines = [f"{r['name']:<32}{r['family']:<36}{r['profile']:<12}{r['bytes'] / 1e6:.1f} MB" for r in found]
        text = "\n".join(lines) or "no packaged weights in this version"
    elif flags.model is None:
        found = list_models()
        text = "\n".join(_model_lines(row) for row in found)
    else:
        found = one_model(flags.model, flags.profile)
        rows = [*found["parameters"].items(), ("total", found["total"])]
        text = f"{found['name']} ({found['family']}), profile {found['profile']}, parameters:\n"
        text += "\n".join(f"  {part:<24}{count:>14,}" for part, count in rows)
    print(json.dumps(found, indent=2) if flags.json else text)
    if flags.figure:
        draw(flags.model, flags.profile, Path(flags.figure))
        print(f"figure: {flags.figure}", file=sys.stderr if flags.json else sys.stdout)


def _model_lines(row: dict[str, Any]) -> str:
    about = [row["paper"]] if row["paper"] else []
    kind = "stochastic" if row["stochastic"] else "deterministic"
    frames = "1 frame" if row["context"] == 1 else f"{row['context']} frames"
    about.append(f"{frames} of context; {kind}; actions: {row['actions']}")
    about.append(f"profiles: {', '.join(row['profiles'])}")
    return f"{row['name']:<16}{row['summary']}\n" + textwrap.indent("\n".join(about), " " * 16)
