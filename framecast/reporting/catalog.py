"""Catalogue of models with their parts and sizes, sources and packaged weights; drawing of a built model."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from framecast.core.config import to_dict
from framecast.core.io import read_file, write_text
from framecast.data import SOURCES
from framecast.data.registry import find_source
from framecast.models.base import Predictor, count_parameters
from framecast.models.registry import find_model
from framecast.reporting.figure import draw_model
from framecast.training.config import config_from_json
from framecast.training.presets import PRESETS, preset, profiles
from framecast.training.run_folder import packaged


def list_models() -> list[dict[str, Any]]:
    """One row per model: name, family, summary, paper, profiles, stochastic or not, use of actions."""
    return [_row(name, find_model(name)) for name in PRESETS]


def _row(name: str, model: type[Predictor]) -> dict[str, Any]:
    config = preset(name).model
    return {
        "name": name,
        "family": model.family or name,
        "summary": model.summary(config),
        "paper": model.paper,
        "profiles": list(profiles(name)),
        "context": model.request(config).context,
        "stochastic": model.is_stochastic(config),
        "actions": model.actions,
    }


def one_model(name: str, profile: str = "default") -> dict[str, Any]:
    """Parameters of every sub-network of a profile, built at its nominal clip."""
    config = preset(name, profile)
    model_class = find_model(name)
    model = model_class(config.model, config.spec)
    counts, total = count_parameters(model), model.count(model)
    if total > sum(counts.values()):
        counts["other"] = total - sum(counts.values())  # parameters outside any sub-network
    return {
        "name": config.name,
        "family": model_class.family or config.name,
        "profile": profile,
        "parameters": counts,
        "total": total,
    }


def figure(name: str, profile: str = "default") -> str:
    """SVG of the built model at its nominal clip: layer names, kernels and sizes."""
    config = preset(name, profile)
    return draw_model(find_model(name)(config.model, config.spec), config.spec, config.name.rpartition(":")[2])


def draw(name: str, profile: str, path: Path) -> None:
    """Write `figure` to a file.

    Raises:
        UserError: When the file cannot be written.
    """
    write_text(path, figure(name, profile))


def list_sources() -> list[dict[str, Any]]:
    """One row per source that can be generated: name, summary and default settings."""
    rows = []
    for name in SOURCES:
        source = find_source(name)
        rows.append({"name": name, "summary": _first_line(source), "settings": to_dict(source.Config())})
    return rows


def list_packaged() -> list[dict[str, Any]]:
    """One row per set of packaged weights: name, family, profile and bytes."""
    rows = []
    for name, folder in packaged().items():
        config = config_from_json(read_file(folder / "config.json"), folder)
        size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
        model = find_model(config.name)
        rows.append({"name": name, "family": model.family or config.name, "profile": config.profile, "bytes": size})
    return rows


def _first_line(thing: type) -> str:
    return (inspect.getdoc(thing) or "").split("\n")[0]
