"""The demo: from nothing to a trained predictor, a film of its forecast and an honest score."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import time
from pathlib import Path

from framecast.core.config import parse_duration
from framecast.core.errors import UserError
from framecast.data.base import Source
from framecast.data.loader import Loader
from framecast.data.registry import find_source
from framecast.data.store import Store
from framecast.evaluation.evaluate import evaluate
from framecast.evaluation.scorer import KeptClip, describe
from framecast.media.grid import side_by_side
from framecast.media.write import write_video
from framecast.models.registry import find_model
from framecast.reporting.report import report_run
from framecast.training.config import CONFIG, RunConfig
from framecast.training.device import make_device
from framecast.training.presets import preset
from framecast.training.run_folder import open_run
from framecast.training.state import TrainState
from framecast.training.step import train_step
from framecast.training.train import train

HORIZON = 64


def demo(out: Path, budget: str = "65s", seed: int = 0, game: str = "ms_pacman", tiny: bool = False) -> Path:
    """Record, train, predict, report into `out`; prints where everything is. Returns the report's path.

    budget: of training.  tiny: a few steps on little data, for tests.  Without the emulator: `bouncing`, and says so.
    Raises: UserError when `out` holds something else.
    """
    parse_duration(budget)
    folder = out / "data"
    source = record(folder, game, seed, tiny)
    begun = (out / "run" / CONFIG).is_file()  # its number of steps was timed then; a second call goes on with it
    config = open_run(out / "run").config if begun else demo_config(budget, seed, tiny, source)
    run = train("multiscale-gan", folder, out=out / "run", config=config)
    print(f"predicting {HORIZON if not tiny else 4} frames on held-out episodes …", file=sys.stderr)
    horizon, clips = (4, 2) if tiny else (HORIZON, 6)
    scores, kept = evaluate(run, source, horizon=horizon, clips=clips, seed=seed)
    page = report_run(open_run(run), scores, kept)
    film = write_film(kept, run / "forecast.mp4", source.spec.fps)
    print(describe(scores))
    print()
    print(f"report  {page}")
    print(f"film    {film}   (truth | prediction | copy-last)")
    print(f"scores  {run / 'scores.json'}")
    print("The score is PSNR in decibels where something moves: the higher, the closer to what really happened;")
    print("copy-last, which only repeats the last frame, is what every predictor has to beat.")
    return page


def record(folder: Path, game: str, seed: int, tiny: bool) -> Source:
    """Episodes of the game, or bouncing shapes where the emulator is missing. What is there is used again."""
    if (folder / "index.json").is_file():
        return Store(folder)
    if folder.exists():
        raise UserError(f"{folder}: holds something that is not a packed store; choose another --out")
    if importlib.util.find_spec("ale_py") is None:
        print('the emulator is not installed (pip install "framecast[atari]"): taking bouncing shapes', file=sys.stderr)
        maker = find_source("bouncing")
        settings = maker.Config(videos=12 if not tiny else 4, frames=200 if not tiny else 24, seed=seed)
    else:
        print(f"recording {game} …", file=sys.stderr)
        maker = find_source("atari")
        frames, episodes = (40, 4) if tiny else (100, 60)  # a tenth is held out: six games
        settings = maker.Config(game=game, episodes=episodes, max_frames=frames, frame_skip=4, seed=seed)
    maker(settings).prepare(folder)
    return Store(folder)


def demo_config(budget: str, seed: int, tiny: bool, source: Source) -> RunConfig:
    """The small networks without an adversary: what learns most in a minute on two cores.

    The learning rate has to fall while it trains, so the budget is turned into steps by timing a few.
    """
    config = preset("multiscale-gan", "tiny" if tiny else "small")
    model = dataclasses.replace(config.model, adversarial=False)
    settings = dataclasses.replace(config.train, seed=seed, steps=4, batch_size=4, val_batches=2)
    config = dataclasses.replace(config, model=model, train=settings)
    if tiny:
        return config
    steps = max(50, round(parse_duration(budget) / seconds_a_step(config, source)))
    quarter = max(10, steps // 4)
    optim = dataclasses.replace(model.optim, decay_steps=steps)
    settings = dataclasses.replace(
        settings, steps=steps, validate_every=quarter, preview_every=quarter, save_every=quarter
    )
    return dataclasses.replace(config, model=dataclasses.replace(model, optim=optim), train=settings)


def seconds_a_step(config: RunConfig, source: Source, count: int = 30) -> float:
    """Mean time of a training step on this machine, after ten to warm up."""
    model_class = find_model(config.name)
    request = model_class.request(config.model)
    loader = Loader(source, source.splits(request.source_length)["train"], request, config.train.batch_size)
    device = make_device(precision=config.train.precision)
    model = model_class(config.model, source.spec).to(device.device)
    state = TrainState.create(model)
    for step in range(10 + count):
        if step == 10:
            began = time.perf_counter()
        train_step(state, lambda stream, _: loader.batch(state.step, stream).to(device.device), device)
    return (time.perf_counter() - began) / count


def write_film(kept: list[KeptClip], path: Path, fps: float) -> Path:
    """The median clip as truth | prediction | copy-last."""
    clip = next((c for c in kept if c.role == "median"), kept[0])
    name = next(iter(clip.predictions))
    rows = {"truth": clip.truth, "prediction": clip.predictions[name], "copy-last": clip.predictions["copy-last"]}
    return write_video(side_by_side(rows), path, fps)
