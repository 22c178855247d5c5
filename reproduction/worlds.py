"""Worlds beside their true games; figures into docs/results/worlds.json, films beside it.

python -m reproduction.worlds                   all worlds; finished ones are kept
python -m reproduction.worlds --only paddle     one of them
python -m reproduction.worlds --again           measure finished ones again

The worlds of the package's own games come with it and are measured as they are; those of the emulator's games are
trained first, as by `framecast world`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framecast.cli.world import trained_world
from framecast.core.io import write_json
from framecast.data.registry import make_source
from framecast.data.store import Store
from framecast.evaluation.world_figures import WorldProtocol
from framecast.evaluation.world_games import GAMES
from framecast.evaluation.worlds import Recording, game_palette
from framecast.inference.load import load
from framecast.media.grid import side_by_side
from framecast.media.write import write_video
from framecast.nn.precision import resolve_precision
from reproduction.results import RESULTS, WORK, Results, arguments

#: What, path in the figures of the world and of the true game, at least.
Row = tuple[str, str, str, str]
_FREE, _TRUE = "random_held_actions.world.", "random_held_actions.true."


def _beside(what: str, name: str, least: str = "") -> Row:
    """A row of figures under random held actions."""
    return what, _FREE + name, _TRUE + name, least


_PADDLES: list[Row] = [
    _beside("dead worlds", "dead", "0"),
    _beside("frames with a ball", "ball_share", "± 0.05"),
    _beside("clean ball", "clean_ball"),
    _beside("both paddles", "both_paddles", "0.99"),
    (
        "player that follows the ball returns",
        *(f"ball_follower.{w}.player_return_rate" for w in ("world", "true")),
        "0.90",
    ),
    ("opponent returns to it", *(f"ball_follower.{w}.opponent_return_rate" for w in ("world", "true")), "0.80"),
    ("serves after the true pause", "serves_in_time.world", "serves_in_time.true", "0.90"),
    ("paddle obeys held actions", "obedience.obeyed", "", "0.95"),
    ("ball within 4 px at frame 4", "ball_within_4_px.4.share", "", ""),
    ("ball within 4 px at frame 16", "ball_within_4_px.16.share", "", "0.85"),
]
_LAST: list[Row] = [
    ("F1 of rewards", "outcomes.reward.f1", "", "0.90"),
    ("F1 of ends", "outcomes.terminated.f1", "", "0.90"),
    ("wrong pixels under wrong actions over right ones", "true_actions.action_shuffle_ratio", "", ""),
    ("frames/s on one core", "frames_per_second", "", "60"),
]
_STILL: list[Row] = [
    _beside("pixels that stand still do", "still_intact", "0.99"),
    _beside("at the last frame", "still_intact_last", "0.99"),
]
#: Rows of the table of each world.
ROWS: dict[str, list[Row]] = {
    "paddle": [*_PADDLES, *_LAST],
    "maze": [
        _beside("walls intact", "walls_intact", "0.99"),
        _beside("frames with a runner, to 64", "runner_to_64", "0.95 of the game's"),
        _beside("frames with a runner", "runner", "0.80 of the game's"),
        _beside("mean number of chasers", "chasers", "± 25 %"),
        ("runner obeys held actions", "obedience.obeyed", "", "0.80"),
        _beside("eaten dots stay eaten", "stay_eaten", "0.98"),
        _beside("dots that vanish away from the runner", "vanished_without_runner"),
        _beside("deaths per 1,000 frames", "deaths_per_1000_frames"),
        ("dots per 1,000 frames of a player", *(f"dot_eater.{w}.eaten_per_1000_frames" for w in ("world", "true")), ""),
        *_LAST,
    ],
    "pong": [*_PADDLES, *_LAST],
    "ms_pacman": [
        *_STILL,
        *(
            _beside(f"frames with {name}, to 64", f"shown_to_64.{name}", least)
            for name, least in (("Ms. Pac-Man", "0.95"),)
        ),
        *(
            _beside(f"frames with {name}", f"shown.{name}", least)
            for name, least in (("Ms. Pac-Man", "0.80"), ("Blinky", ""), ("Pinky", ""), ("Inky", ""), ("Sue", ""))
        ),
        _beside("mean number of sprites", "objects", "± 25 %"),
        ("she obeys held actions", "obedience.obeyed", "", "0.80"),
        _beside("eaten dots stay eaten", "stay_eaten", "0.98"),
        *_LAST,
    ],
    "freeway": [
        *_STILL,
        _beside("frames with the chicken", "shown.chicken"),
        _beside("mean number of cars", "cars"),
        _beside("cars within their lanes", "cars_in_lane"),
        _beside("cars of the true speed, of ten", "cars_of_true_speed", "10"),
        _beside("in the last 200 frames", "cars_of_true_speed_last_fifth", "10"),
        ("chicken obeys held actions", "obedience.obeyed", "", "0.95"),
        (
            "crossings per 1,000 frames of a player who always goes up",
            *(f"always_up.{w}.crossings_per_1000_frames" for w in ("world", "true")),
            "",
        ),
        *_LAST,
    ],
    "breakout": [
        _beside("dead worlds", "dead", "0"),
        _beside("frames with a ball", "ball_share", "± 0.05"),
        _beside("clean ball", "clean_ball"),
        _beside("frames with a paddle", "paddle", "0.99"),
        ("paddle obeys held actions", "obedience.obeyed", "", "0.95"),
        *(
            (what, *(f"ball_follower.{w}.{name}" for w in ("world", "true")), least)
            for what, name, least in (
                ("player that follows the ball returns", "return_rate", "0.90"),
                ("bricks that are hit vanish", "hit_vanish", "0.95"),
                ("bricks that have vanished stay away", "stay_away", "0.95"),
                ("frames in which no brick vanishes unhit", "frames_without_unhit", "0.99"),
                ("bricks that vanish for each hit", "bricks_per_hit", ""),
                ("bricks that vanish", "bricks_vanished", ""),
            )
        ),
        _beside("no brick vanishes unhit, random held actions", "frames_without_unhit", "0.99"),
        *_LAST,
    ],
}
#: Below the table of a world that was measured by an earlier version.
_OLDER = "Measured when frames after the end of the emulator's game, in which it stands still, counted in its column."
#: Worlds that come with the package.
PACKAGED = ("paddle", "maze")


def main() -> None:
    """Measure the worlds asked for."""
    options = arguments(__doc__, list(ROWS)).parse_args()
    torch.set_num_threads(1)
    part = Results("worlds", page).part
    for game in [options.only] if options.only else ROWS:
        part(game, lambda game=game: measured(game), options.again)  # type: ignore[misc]


def measured(game: str) -> dict[str, Any]:
    """Figures of a world, and its film."""
    folder = WORK / f"worlds-{game}"
    if game in PACKAGED:
        if not (folder / "index.json").is_file():
            make_source(game, folder, GAMES[game].settings)
        source, model = Store(folder), load(f"world-{game}")
    else:
        paths = trained_world(game, folder)
        source, model = Store(paths["data"]), load(paths["run"])
    protocol = WorldProtocol(precision=resolve_precision("auto", torch.device("cpu")))
    kept: dict[str, Recording] = {}
    figures = GAMES[game].figures(model, source, protocol, kept)
    if game not in PACKAGED:
        write_json(paths["figures"], figures)  # for the card of the packed world
    palette = game_palette(source, model)
    assert palette is not None
    film(game, palette.astype(np.uint8), kept)
    return {**figures, "protocol": asdict(protocol)}


def film(game: str, palette: np.ndarray, kept: dict[str, Recording], frames: int = 300) -> Path:
    """A film of one played world beside the true game under the same player or, without one, the same actions."""
    name = next(name for name in ("followed", "played", "held") if name in kept)
    rows = {
        label: palette[kept[key].frames[0, :frames]].transpose(0, 3, 1, 2)
        for label, key in (("world", name), ("true game", f"{name}_true"))
    }
    return write_video(side_by_side(rows), RESULTS / f"world-{game}.webp", 30)


def page(done: dict[str, Any]) -> str:
    """The page of the results."""
    lines = [
        "# Playable worlds",
        "",
        "Written by `python -m reproduction.worlds` from `worlds.json`. What is measured, and how, is in",
        "[categorical](../models/categorical.md#worlds).",
    ]
    for game, found in done["results"].items():
        protocol = found["protocol"]
        lines += [
            "",
            f"## {_title(game)}",
            "",
            *([f"![world-{game}](world-{game}.webp)", ""] if (RESULTS / f"world-{game}.webp").is_file() else []),
            f"{protocol['worlds']} starts of {protocol['frames']:,} frames under random held actions; "
            f"scripted players in {protocol['played_worlds']} starts of {protocol['played_frames']} frames; "
            f"{protocol['precision']}, speed in {found.get('frames_per_second_precision', protocol['precision'])}.",
            "",
            "| | world | true game | at least |",
            "|---|---|---|---|",
            *(
                f"| {what} | {cell(found, path)} | {cell(found, true)} | {least} |"
                for what, path, true, least in ROWS[game]
            ),
            *([] if game in PACKAGED or cell(found, f"{_TRUE}frames_of_games") != "–" else ["", _OLDER]),
        ]
    return "\n".join(lines) + "\n"


def _title(game: str) -> str:
    return f"world-{game}" if game in PACKAGED else f"{game}, made by `framecast world {game}`"


def cell(found: dict[str, Any], path: str) -> str:
    """Cell of a table: the figure at a path of names joined by points; a dash where there is none."""
    value = at(found, path) if path else None
    return "–" if value is None else f"{value:.3g}"


def at(found: Any, path: str) -> Any:
    """The value at a path of names joined by points, which names may contain; None where there is none."""
    if isinstance(found, dict):
        for name, value in found.items():
            if path == name:
                return value
            if path.startswith(f"{name}.") and (inner := at(value, path[len(name) + 1 :])) is not None:
                return inner
    return None


if __name__ == "__main__":
    main()
