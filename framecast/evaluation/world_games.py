"""Games that `framecast world` makes playable: what is recorded, how the world is trained, which figures it gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from framecast.data.base import Source
from framecast.evaluation.atari_worlds import freeway_figures, ms_pacman_figures, object_figures, pong_figures
from framecast.evaluation.clips import check_fit
from framecast.evaluation.evaluate import open_source
from framecast.evaluation.world_figures import WorldProtocol, maze_figures, paddle_figures
from framecast.evaluation.worlds import Recording
from framecast.models.base import Predictor
from framecast.nn.precision import resolve_precision
from framecast.training.run_folder import Run, open_run

_ATARI = "Game of the Atari 2600, recorded from the emulator of ale-py (GPL-2.0); not packaged."
_OWN = "Game drawn by this package; no other material."

_POLICY = {"policy": "follow", "frame_skip": 2, "field": True, "episodes": 40, "max_frames": 1500}

#: Figures of a world: (model, source, protocol, kept recordings) -> plain values.
Figures = Callable[[Predictor, Source, WorldProtocol, dict[str, Recording]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class WorldGame:
    """One game.

    Attributes:
        source: name of the source.
        settings: fields of the source's config.
        model: fields of the model's config.
        steps: training steps.
        figures: figures of the trained world.
        provenance: licence and origin, one sentence for the card.
        license: identifier of the Hub for the weights; None where the game is somebody else's.
    """

    source: str
    settings: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 2200
    figures: Figures = object_figures
    provenance: str = _ATARI
    license: str | None = None


GAMES: dict[str, WorldGame] = {
    "paddle": WorldGame(
        source="paddle",
        settings={"episodes": 120},
        model={"events": ("states:2", "states:3", "rewards"), "erase": 0.05, "reset_pixels": 7},  # a ball elsewhere: 8
        steps=8000,
        figures=paddle_figures,
        provenance=_OWN,
        license="apache-2.0",
    ),
    "maze": WorldGame(
        source="maze",
        settings={"episodes": 120},
        # lives, blue chasers and the end of a game: dots are eaten all the time, and need no windows of their own
        model={
            "events": ("states:29", "states:7", "states:13", "terminated"),
            "reset_pixels": 24,  # a chaser elsewhere: 38
            "reset_presence": False,
            "erase": 0.05,
            "widths": (32, 64, 88),
        },
        steps=6500,
        figures=maze_figures,
        provenance=_OWN,
        license="apache-2.0",
    ),
    "pong": WorldGame(
        source="atari",
        settings={**_POLICY, "game": "pong", "reduce": 2, "skip_start": 2},  # the first frame has other colours
        model={"events": ("rewards",), "erase": 0.05, "reset_pixels": 8},
        steps=6000,
        figures=pong_figures,
    ),
    "breakout": WorldGame(
        source="atari", settings={**_POLICY, "game": "breakout", "reduce": 2}, model={"events": ("rewards",)}
    ),
    "freeway": WorldGame(source="atari", settings={**_POLICY, "game": "freeway", "reduce": 2}, figures=freeway_figures),
    "ms_pacman": WorldGame(
        source="atari",
        settings={
            "game": "ms_pacman",
            "reduce": 2,
            "field": True,
            "frame_skip": 2,
            "deflicker": True,
            "episodes": 40,
            "max_frames": 1500,
        },
        model={"reset_pixels": 24, "reset_presence": False, "erase": 0.05},
        steps=6000,
        figures=ms_pacman_figures,
    ),
}


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
