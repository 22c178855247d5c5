"""`framecast demo`: a recorded game, a trained predictor, a video of its forecast and its score."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import sys
from pathlib import Path

from framecast.cli.output import print_result
from framecast.cli.shared_flags import JsonFlag, command_flags
from framecast.core.config import parse_duration
from framecast.core.errors import UserError
from framecast.core.flags import Switch, parse
from framecast.data.base import Source
from framecast.data.registry import find_source
from framecast.data.store import Store
from framecast.evaluation.evaluate import evaluate
from framecast.evaluation.headline import describe
from framecast.evaluation.scorer import KeptClip
from framecast.media.grid import side_by_side
from framecast.media.write import write_video
from framecast.reporting.report import report_run
from framecast.training.config import RunConfig, short_run
from framecast.training.presets import preset
from framecast.training.run_folder import open_run
from framecast.training.train import train

HORIZON = 64


@command_flags
class DemoFlags(JsonFlag):
    """Demonstration: records a game, trains for about a minute, predicts 64 frames, writes a report.

    Example: framecast demo --out runs/demo
    """

    out: str = "runs/demo"
    """Folder for data, run, video and report."""
    budget: str = "65s"
    """Training time."""
    seed: int = 0
    """Random seed."""
    game: str = "ms_pacman"
    """Game of the emulator."""
    tiny: Switch = False
    """Smoke test: a few steps on little data, without a useful forecast."""


def run_demo(argv: list[str]) -> None:
    """Run the demonstration and print where its files are."""
    flags = parse(DemoFlags, argv, "demo")
    # with --json - standard output holds the JSON alone
    output = contextlib.redirect_stdout(sys.stderr) if flags.json == "-" else contextlib.nullcontext()
    with output:
        page = demo(Path(flags.out), budget=flags.budget, seed=flags.seed, game=flags.game, tiny=flags.tiny)
    run = page.parent
    paths = {"run": run, "report": page, "film": run / "forecast.mp4", "scores": run / "scores.json"}
    if flags.json:
        print_result(flags.json, {k: str(v) for k, v in paths.items()}, "")


def demo(out: Path, budget: str = "65s", seed: int = 0, game: str = "ms_pacman", tiny: bool = False) -> Path:
    """The path of the report of a small run: recorded, trained, evaluated and reported into `out`.

    Args:
        out: folder for data, run, video and report.
        budget: training time, such as "65s".
        seed: random seed of everything.
        game: game of the emulator; without the emulator, bouncing shapes are used.
        tiny: a few steps on little data, for tests.

    Raises:
        UserError: `out` holds something else.
    """
    parse_duration(budget)
    folder = out / "data"
    source = record(folder, game, seed, tiny)
    run = train("direct", folder, out=out / "run", config=demo_config(budget, seed, tiny))
    print(f"predicting {HORIZON if not tiny else 4} frames on held-out episodes …", file=sys.stderr)
    horizon, clips = (4, 2) if tiny else (HORIZON, 6)
    scores, kept = evaluate(run, source, horizon=horizon, clips=clips, seed=seed)
    page = report_run(open_run(run), scores, kept)
    video = write_forecast(kept, run / "forecast.mp4", source.spec.fps)
    print(describe(scores))
    print()
    print(f"report  {page}")
    print(f"video   {video}   (truth | prediction | copy-last)")
    print(f"scores  {run / 'scores.json'}")
    print("Skill: 1 for the true frames, 0 for a forecast no better than the last frame repeated, below 0 worse.")
    return page


def record(folder: Path, game: str, seed: int, tiny: bool) -> Source:
    """Episodes of the game, or bouncing shapes without the emulator. An existing store is used again."""
    if (folder / "index.json").is_file():
        return Store(folder)
    if folder.exists():
        raise UserError(f"{folder}: holds something that is not a packed store; choose another --out")
    if importlib.util.find_spec("ale_py") is None:
        print('the emulator is not installed (pip install "framecast[atari]"): using bouncing shapes', file=sys.stderr)
        maker = find_source("bouncing")
        settings = maker.Config(videos=12 if not tiny else 4, frames=200 if not tiny else 24, seed=seed)
    else:
        print(f"recording {game} …", file=sys.stderr)
        maker = find_source("atari")
        frames, episodes = (40, 4) if tiny else (100, 60)  # a tenth is held out: six games
        settings = maker.Config(game=game, episodes=episodes, max_frames=frames, frame_skip=4, seed=seed)
    maker(settings).prepare(folder)
    return Store(folder)


def demo_config(budget: str, seed: int, tiny: bool) -> RunConfig:
    """The config of direct multi-horizon prediction for the budget, from random weights: on this game they are ahead of
    the packaged ones after a minute (docs/log.md)."""
    config = preset("direct", "tiny" if tiny else "small")
    if tiny:
        return dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed, steps=4, val_batches=1))
    settings = short_run(config.train, budget, seed)
    tuned = config.model.fine_tuning(HORIZON)
    # two blocks a clip and the full rate: chosen by skill on val
    model = dataclasses.replace(
        tuned, blocks_per_clip=2, optim=dataclasses.replace(tuned.optim, lr=config.model.optim.lr)
    )
    return dataclasses.replace(config, model=model, train=settings)


def write_forecast(kept: list[KeptClip], path: Path, fps: float) -> Path:
    """A video of the median clip: truth | prediction | copy-last."""
    clip = next((c for c in kept if c.role == "median"), kept[0])
    name = next(iter(clip.predictions))
    rows = {"truth": clip.truth, "prediction": clip.predictions[name], "copy-last": clip.predictions["copy-last"]}
    return write_video(side_by_side(rows), path, fps)
