"""`framecast world`: a game recorded, learned, measured and packed as a playable world."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framecast.cli.output import print_result, progress_bar
from framecast.cli.shared_flags import DeviceFlag, JsonFlag, command_flags
from framecast.core.errors import UserError
from framecast.core.flags import SetName, Switch, parse


@command_flags
class WorldFlags(DeviceFlag, JsonFlag):
    """Playable world of a game, by one command: records, trains, evaluates and packs it. A second call resumes.

    Example: framecast world maze --out worlds/maze
    """

    game: SetName
    """Game: paddle, maze, pong, breakout, freeway or ms_pacman (the last four need the emulator)."""
    out: str | None = None
    """Folder of data, run, figures and packed world; worlds/GAME if not given."""
    steps: int | None = None
    """Training steps; those of the game if not given."""
    seed: int = 0
    """Random seed of recording, training and evaluation."""
    tiny: Switch = False
    """Smoke test: little data, a few steps, no useful world."""


def run_world(argv: list[str]) -> None:
    """Make a playable world."""
    flags = parse(WorldFlags, argv, "world")
    paths = make_world(
        flags.game, Path(flags.out or f"worlds/{flags.game}"), flags.steps, flags.seed, flags.device, flags.tiny
    )
    lines = [f"{name:8} {path}" for name, path in paths.items()]
    print_result(
        flags.json,
        {k: str(v) for k, v in paths.items()},
        "\n".join([*lines, f"play it: framecast play {paths['world']}"]),
    )


def make_world(
    game: str, out: Path, steps: int | None = None, seed: int = 0, device: str = "auto", tiny: bool = False
) -> dict[str, Path]:
    """Paths of recorded data, run, figures and packed world.

    Args:
        game: name in `GAMES`.
        out: folder of everything; what it already holds is used again.
        steps: training steps, those of the game by default.
        seed: random seed.
        device: torch device.
        tiny: little data and few steps, for tests.

    Raises:
        UserError: unknown game, missing emulator, or a folder that holds something else, such as a recording with
            other settings.
    """
    from framecast.core.io import read_json, write_json
    from framecast.data.store import Store
    from framecast.evaluation.world_games import GAMES
    from framecast.inference.load import load

    paths = _paths(game, out)
    if game in GAMES and _is_whole(paths, steps, seed):
        return paths
    trained_world(game, out, steps, seed, device, tiny)
    chosen, source = GAMES[game], Store(paths["data"])
    if not paths["figures"].is_file():
        print("measuring the world beside the true game …", file=sys.stderr)
        figures = chosen.figures(load(paths["run"]), source, _protocol(seed, tiny), {})
        write_json(paths["figures"], figures)
    if not paths["world"].is_dir():
        figures = read_json(paths["figures"])
        pack_world(paths["run"], source, paths["world"], game, chosen.provenance, figures, license=chosen.license)
    return paths


def trained_world(
    game: str, out: Path, steps: int | None = None, seed: int = 0, device: str = "auto", tiny: bool = False
) -> dict[str, Path]:
    """The first half of `make_world`, which measures and packs what this records and trains; the same paths."""
    from framecast.core.config import suggest
    from framecast.data.registry import make_source
    from framecast.evaluation.world_games import GAMES
    from framecast.training.presets import preset
    from framecast.training.train import train

    if game not in GAMES:
        raise UserError(f"unknown game {game!r}; {suggest(game, GAMES)}")
    chosen = GAMES[game]
    paths = _paths(game, out)
    settings = {**chosen.settings, "seed": seed, **(_tiny_settings(chosen.settings) if tiny else {})}
    if (paths["data"] / "index.json").is_file():
        _check_recording(paths["data"], settings)
    else:
        with progress_bar(f"recording {game}") as progress:
            make_source(chosen.source, paths["data"], settings, progress)
    config = preset("categorical", "tiny" if tiny else "default")
    changes = {k: v for k, v in chosen.model.items() if not tiny or k in ("reset_pixels", "regions")}
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, **changes, **({"colours": 16} if tiny else {}))
    )
    length = steps or (4 if tiny else chosen.steps)
    train("categorical", paths["data"], out=paths["run"], config=config, steps=length, seed=seed, device=device)
    return paths


def _paths(game: str, out: Path) -> dict[str, Path]:
    return {"data": out / "data", "run": out / "run", "figures": out / "figures.json", "world": out / f"world-{game}"}


def _is_whole(paths: Mapping[str, Path], steps: int | None, seed: int) -> bool:
    """Whether nothing is left to be done, perhaps by an earlier version whose games had other settings."""
    from framecast.training.run_folder import open_run

    if not (paths["figures"].is_file() and paths["world"].is_dir() and paths["run"].is_dir()):
        return False
    train = open_run(paths["run"]).config.train
    return train.seed == seed and steps in (None, train.steps)


def _check_recording(data: Path, settings: Mapping[str, Any]) -> None:
    """Raise UserError for a recording with other settings, such as that of an earlier version."""
    from framecast.data.store import Store

    found = Store(data).meta().get("parameters")
    known = found if isinstance(found, Mapping) else {}
    for name, wanted in settings.items():
        if name in known and known[name] != wanted:
            raise UserError(
                f"{data} was recorded with {name} {known[name]}, where {wanted} is asked for; choose another --out, "
                "or delete the folder"
            )


def _tiny_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    length = "max_frames" if "max_frames" in settings else "frames"
    return {"episodes": 4, length: 120}


def _protocol(seed: int, tiny: bool) -> Any:
    from framecast.evaluation.world_figures import WorldProtocol

    if not tiny:
        return WorldProtocol(seed=seed)
    return WorldProtocol(
        worlds=2,
        frames=20,
        played_worlds=2,
        played_frames=20,
        recorded=2,
        horizon=20,
        followed_frames=10,
        timed_frames=5,
        seed=seed,
    )


def pack_world(
    run: Path,
    source: Any,
    folder: Path,
    game: str,
    provenance: str,
    figures: Mapping[str, Any],
    hardware: str = "",
    starts_packed: int = 8,
    license: str | None = None,
) -> Path:
    """Weights in half precision, real starts and a card with figures.

    Args:
        run: trained run.
        source: recordings, whose held-out starts are packed.
        folder: new folder.
        game: name of the game.
        provenance: licence and origin.
        figures: of the evaluation.
        hardware: machine of the training, for the card.
        starts_packed: number of real starts.
        license: of the card, an identifier of the Hub; None states none.

    Raises:
        UserError: the folder is not empty, or cannot be written.
    """
    import numpy as np

    from framecast.evaluation.worlds import Starts
    from framecast.inference.export import export
    from framecast.inference.latents.io import EXAMPLES
    from framecast.training.run_folder import open_run

    opened = open_run(run)
    export(opened, folder, half=True, inference_only=True, license=license)
    request = opened.model_class.request(opened.config.model)
    context, length = request.context, request.length + 2  # the page takes a training window, and the frame after it
    palette = np.array(opened.config.model.palette)
    starts = Starts(source, context, count=starts_packed, future=length - context, palette=palette)
    batch = starts.batch
    frames = np.concatenate([batch.context.numpy(), batch.future.numpy()], 1)
    assert batch.actions is not None
    actions = batch.actions.argmax(2).numpy()
    actions = np.concatenate([actions, np.zeros((len(actions), 1), actions.dtype)], 1)
    (folder / EXAMPLES).mkdir()
    for i, (video, first) in enumerate(starts.places):
        arrays = source.clip(video, first, length).arrays
        states = {"states": arrays["states"]} if "states" in arrays else {}  # restore the true game beside the world
        np.savez_compressed(folder / EXAMPLES / f"{game}-{i}.npz", frames=frames[i], actions=actions[i], **states)
    card = folder / "README.md"
    card.write_text(card.read_text() + _card(game, provenance, opened.config, figures, hardware), encoding="utf-8")
    return folder


def _card(game: str, provenance: str, config: Any, figures: Mapping[str, Any], hardware: str) -> str:
    lines = [
        "",
        "## A playable world",
        "",
        f"Made by `framecast world {game} --seed {config.train.seed}{_length(config.train)}`.",
        f"Provenance: {provenance}",
        *([f"Hardware: {hardware}"] if hardware else []),
        "",
        "```",
        f"framecast play world-{game}",
        "```",
        "",
        "Figures (the true game's beside each, where there is one):",
        "",
        "```json",
        json.dumps(_short(figures), indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)


def _length(train: Any) -> str:
    """The flag of the training's length, where `framecast world` has one for it."""
    return f" --steps {train.steps}" if train.steps is not None else ""


def _short(values: Any) -> Any:
    """The figures with four significant digits, without curves."""
    if isinstance(values, Mapping):
        return {k: _short(v) for k, v in values.items() if not k.startswith("wrong_pixels")}
    if isinstance(values, list):
        return [_short(v) for v in values]
    return float(f"{values:.4g}") if isinstance(values, float) else values
