"""The packaged worlds beside their true games; figures into docs/results/worlds.json, films beside it.

python -m reproduction.worlds                   both worlds; finished ones are kept
python -m reproduction.worlds --only paddle     one of them
python -m reproduction.worlds --again           measure finished ones again
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framecast.data.registry import make_source
from framecast.data.store import Store
from framecast.evaluation.world_figures import WorldProtocol
from framecast.evaluation.world_games import GAMES
from framecast.evaluation.worlds import Recording
from framecast.inference.load import load
from framecast.media.grid import side_by_side
from framecast.media.write import write_video
from framecast.nn.precision import resolve_precision
from reproduction.results import RESULTS, WORK, Results, arguments

#: World -> rows of the table: what, path in the figures of the world and of the true game, at least.
ROWS: dict[str, list[tuple[str, str, str, str]]] = {
    "paddle": [
        ("dead worlds", "random_held_actions.world.dead", "random_held_actions.true.dead", "0"),
        ("frames with a ball", "random_held_actions.world.ball_share", "random_held_actions.true.ball_share", "± 0.05"),
        ("clean ball", "random_held_actions.world.clean_ball", "random_held_actions.true.clean_ball", ""),
        ("both paddles", "random_held_actions.world.both_paddles", "random_held_actions.true.both_paddles", "0.99"),
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
        ("F1 of rewards", "outcomes.reward.f1", "", "0.90"),
        ("F1 of ends", "outcomes.terminated.f1", "", "0.90"),
        ("frames/s on one core", "frames_per_second", "", "60"),
    ],
    "maze": [
        ("walls intact", "random_held_actions.world.walls_intact", "random_held_actions.true.walls_intact", "0.99"),
        (
            "frames with a runner, to 64",
            *(f"random_held_actions.{w}.runner_to_64" for w in ("world", "true")),
            "0.95 of the game's",
        ),
        ("frames with a runner", *(f"random_held_actions.{w}.runner" for w in ("world", "true")), "0.80 of the game's"),
        ("mean number of chasers", *(f"random_held_actions.{w}.chasers" for w in ("world", "true")), "± 25 %"),
        ("runner obeys held actions", "obedience.obeyed", "", "0.80"),
        ("eaten dots stay eaten", *(f"random_held_actions.{w}.stay_eaten" for w in ("world", "true")), "0.98"),
        ("dots per 1,000 frames of a player", *(f"dot_eater.{w}.eaten_per_1000_frames" for w in ("world", "true")), ""),
        ("F1 of rewards", "outcomes.reward.f1", "", "0.90"),
        ("F1 of ends", "outcomes.terminated.f1", "", "0.90"),
        ("frames/s on one core", "frames_per_second", "", "60"),
    ],
}


def main() -> None:
    """Measure the worlds asked for."""
    options = arguments(__doc__, list(ROWS)).parse_args()
    torch.set_num_threads(1)
    part = Results("worlds", page).part
    for game in [options.only] if options.only else ROWS:
        part(game, lambda game=game: measured(game), options.again)  # type: ignore[misc]


def measured(game: str) -> dict[str, Any]:
    """Figures of a packaged world, and its film."""
    folder = WORK / f"worlds-{game}"
    if not (folder / "index.json").is_file():
        make_source(game, folder, GAMES[game].settings)
    precision = resolve_precision("auto", torch.device("cpu"))
    source, protocol = Store(folder), WorldProtocol(precision=precision)
    kept: dict[str, Recording] = {}
    figures = GAMES[game].figures(load(f"world-{game}"), source, protocol, kept)
    film(game, np.array(source.meta()["palette"], np.uint8), kept)
    return {**figures, "protocol": asdict(protocol)}


def film(game: str, palette: np.ndarray, kept: dict[str, Recording], frames: int = 240) -> Path:
    """A film of one played world beside the true game under the same player."""
    name = "followed" if game == "paddle" else "played"
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
            f"## world-{game}",
            "",
            *([f"![world-{game}](world-{game}.webp)", ""] if (RESULTS / f"world-{game}.webp").is_file() else []),
            f"{protocol['worlds']} starts of {protocol['frames']:,} frames under random held actions; "
            f"scripted players in {protocol['played_worlds']} starts of {protocol['played_frames']} frames; "
            f"{protocol['precision']}, speed in {found.get('frames_per_second_precision', protocol['precision'])}.",
            "",
            "| | world | true game | at least |",
            "|---|---|---|---|",
            *(
                f"| {what} | {_value(found, path)} | {_value(found, true)} | {least} |"
                for what, path, true, least in ROWS[game]
            ),
        ]
    return "\n".join(lines) + "\n"


def _value(found: dict[str, Any], path: str) -> str:
    value: Any = found if path else None
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return "–" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
