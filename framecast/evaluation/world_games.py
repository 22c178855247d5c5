"""Games that `framecast world` makes playable: what is recorded, how the world is trained, which figures it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from framecast.data.base import Source
from framecast.evaluation.atari_worlds import ms_pacman_figures, object_figures, pong_figures
from framecast.evaluation.breakout_world import breakout_figures
from framecast.evaluation.freeway_world import freeway_figures
from framecast.evaluation.world_figures import WorldProtocol, maze_figures, paddle_figures
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
            "background": True,  # dots below chasers
            "widths": (32, 64, 88),
        },
        steps=6500,
        figures=maze_figures,
        provenance=_OWN,
        license="apache-2.0",
    ),
    "pong": WorldGame(
        source="atari",
        # the first frame has other colours; byte 18 of the memory changes where the ball turns
        settings={**_POLICY, "game": "pong", "reduce": 2, "skip_start": 2, "ram": True},
        model={"events": ("rewards", "ram:18"), "erase": 0.05, "reset_pixels": 8},
        steps=6000,
        figures=pong_figures,
    ),
    "breakout": WorldGame(
        source="atari",
        settings={**_POLICY, "game": "breakout", "reduce": 2, "ram": True},
        model={
            # bricks of the uppermost row and the paddle have the ball's colour
            "regions": ((200, 72, 72, 12, 0, 15, 72), (200, 72, 72, 78, 0, 81, 72)),
            "events": ("rewards", "ram:107"),  # byte 107 of the memory changes where the ball turns
            "erase": 0.05,
            "reset_pixels": 6,
        },
        steps=5000,
        figures=breakout_figures,
    ),
    "freeway": WorldGame(
        source="atari",
        settings={**_POLICY, "game": "freeway", "reduce": 2},
        model={
            # the middle of the road and the second chicken have the first one's colour
            "regions": ((252, 252, 84, 43, 0, 45, 76), (252, 252, 84, 84, 46, 88, 56)),
            "events": ("rewards",),
            "event_share": 0.25,
            "erase": 0.05,
        },
        steps=3000,
        figures=freeway_figures,
    ),
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
            "ram": True,
        },
        # byte 123 of the memory holds the lives
        model={
            "events": ("ram:123", "terminated"),
            "event_share": 0.25,
            "background": True,  # dots below ghosts
            "reset_pixels": 24,  # a ghost elsewhere: 44
            "reset_presence": False,
            "erase": 0.05,
        },
        steps=6000,
        figures=ms_pacman_figures,
    ),
}
