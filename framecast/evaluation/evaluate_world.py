"""A run measured as a playable world beside its true game: `framecast evaluate RUN --world`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from framecast.data.base import Source
from framecast.evaluation.atari_worlds import object_figures
from framecast.evaluation.clips import check_fit
from framecast.evaluation.evaluate import open_source
from framecast.evaluation.world_figures import WorldProtocol
from framecast.evaluation.world_games import GAMES, Figures
from framecast.nn.precision import resolve_precision
from framecast.training.run_folder import Run, open_run


def evaluate_world(
    run: str | Path | Run, data: str | Path | Source | None = None, precision: str = "auto", **protocol: int
) -> dict[str, Any]:
    """A run as a playable world: its figures beside those of the true game.

    Presence of objects over a long free run under random held actions, what a scripted player reaches, obedience to
    held actions, the frames under recorded actions, rewards and ends one step ahead, frames per second; which of them
    depends on the game. The last are of the processor.

    Args:
        run: folder, packaged weights or hf:// name of a model with actions.
        data: recordings of the game, by path, name of a source or as a source; None are those of the training.
        precision: autocast precision: auto, fp32 or bf16.
        protocol: fields of `WorldProtocol`, such as worlds and frames.

    Raises:
        UserError: a run without actions, or data whose scenes cannot be continued.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    source = open_source(opened, data)
    check_fit(opened, source, str(opened.config.data.path if data is None else getattr(data, "folder", data)))
    chosen = WorldProtocol(precision=resolve_precision(precision, torch.device("cpu")), **protocol)
    return game_figures(source)(opened.model("cpu"), source, chosen, {})


def game_figures(source: Source) -> Figures:
    """The figures of the game that a source holds; those of any game where it is none of `GAMES`."""
    meta = source.meta()
    parameters = meta.get("parameters")
    name = parameters.get("game") if isinstance(parameters, Mapping) and "game" in parameters else meta.get("generator")
    known = GAMES.get(str(name))
    return known.figures if known is not None and known.source == meta.get("generator") else object_figures


def figure_lines(figures: Mapping[str, Any]) -> str:
    """The figures as a table: name, world, true game; figures of the world alone have no third column."""
    rows = list(_rows(figures))
    width = max((len(row[0]) for row in rows), default=0)
    head = f"{'':{width}}  {'world':>10}  {'true game':>10}"
    return "\n".join([head, *(f"{name:{width}}  {world:>10}  {true:>10}".rstrip() for name, world, true in rows)])


def _rows(figures: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str, str]]:
    if figures.keys() == {"world", "true"}:
        world, true = figures["world"], figures["true"]
        if isinstance(world, Mapping):
            for key, value in world.items():
                yield from _rows({"world": value, "true": true.get(key)}, f"{name} {key}")
            return
        if not isinstance(world, list):
            yield name.strip().replace("_", " "), _short(world), _short(true)
        return
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{name} {key}")
        elif not isinstance(value, list):
            yield f"{name} {key}".strip().replace("_", " "), _short(value), ""


def _short(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}"
