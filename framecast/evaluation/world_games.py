"""Games that `framecast world` makes playable: what is recorded, how the world is trained, which figures it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from framecast.data.base import Source
from framecast.evaluation.paddle_world import Court
from framecast.evaluation.world_figures import WorldProtocol, maze_figures, object_figures, paddle_figures
from framecast.evaluation.worlds import Recording
from framecast.models.base import Predictor

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


#: Colours of Pong: ball, opponent, player.
_PONG = ((236, 236, 236), (213, 130, 74), (92, 186, 92))


def _pong(model: Predictor, source: Source, protocol: WorldProtocol, keep: dict[str, Recording]) -> dict[str, Any]:
    palette = np.array(source.meta()["palette"])
    ball, opponent, player = (int(np.abs(palette - colour).sum(1).argmin()) for colour in _PONG)
    actions = source.spec.actions
    names = list(actions.names) if actions is not None else []
    court = Court(
        ball=ball,
        opponent=opponent,
        player=player,
        ball_area=2,
        rows=(0, source.spec.height),
        opponent_columns=(6, 12),
        player_columns=(68, 74),
        up=names.index("RIGHT"),
        down=names.index("LEFT"),
    )
    return paddle_figures(model, source, protocol, keep, court)


GAMES: dict[str, WorldGame] = {
    "paddle": WorldGame(
        source="paddle",
        settings={"episodes": 60},
        model={"events": ("states:2", "states:3", "rewards")},
        figures=paddle_figures,
        provenance=_OWN,
        license="apache-2.0",
    ),
    "maze": WorldGame(
        source="maze",
        settings={"episodes": 60},
        # lives, blue chasers and the end of a game: dots are eaten all the time, and need no windows of their own
        model={
            "events": ("states:29", "states:7", "states:13", "terminated"),
            "event_share": 0.3,
            "reset_pixels": 60,
            "widths": (32, 64, 96),
        },
        figures=maze_figures,
        provenance=_OWN,
        license="apache-2.0",
    ),
    "pong": WorldGame(
        source="atari",
        settings={**_POLICY, "game": "pong", "reduce": 2},
        model={"events": ("rewards",)},
        figures=_pong,
    ),
    "breakout": WorldGame(
        source="atari", settings={**_POLICY, "game": "breakout", "reduce": 2}, model={"events": ("rewards",)}
    ),
    "freeway": WorldGame(source="atari", settings={**_POLICY, "game": "freeway", "reduce": 2}),
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
        model={"reset_pixels": 60},
    ),
}
