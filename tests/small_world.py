"""A run of a tiny untrained categorical world with actions, rewards and ends, and its recordings."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from framecast.core.types import ActionSpec, ClipSpec
from framecast.data.options import DataConfig
from framecast.data.store import DatasetWriter
from framecast.models.categorical.config import tiny
from framecast.models.categorical.predictor import Categorical
from framecast.training.checkpoint import write_weights
from framecast.training.config import RunConfig, write_config

SIDE = 16
MOVES = ActionSpec(kind="discrete", size=3, names=("NOOP", "UP", "DOWN"))
COLOURS = ((10, 20, 30), (250, 250, 250))
REWARDS = (-1.0, 0.0, 1.0)


def write_recordings(folder, videos=3, frames=12):
    """A store of a bright square that moves, with random actions."""
    rng = np.random.default_rng(0)
    palette = np.array(COLOURS, np.uint8)
    with DatasetWriter(folder, fps=20, actions=MOVES) as writer:
        for v in range(videos):
            shots = np.zeros((frames, SIDE, SIDE), np.int64)
            for t in range(frames):
                shots[t, 2 + v : 4 + v, t % 14 : t % 14 + 2] = 1
            writer.add(palette[shots].transpose(0, 3, 1, 2), actions=rng.integers(3, size=frames))
    return folder


def write_world(folder, outcomes=True, **settings):
    """A run folder with random weights, and its recordings beside it in `data`."""
    data = write_recordings(folder / "data")
    usual = {
        "palette": COLOURS,
        "areas": (256, 4),
        "least_areas": (248, 4),
        "extents": ((16, 16), (2, 2)),
        "reward_values": REWARDS if outcomes else (),
        "flags": ("terminated",) if outcomes else (),
        "outcomes": "auto" if outcomes else "none",
    }
    config = dataclasses.replace(tiny(), **{**usual, **settings})
    spec = ClipSpec(channels=3, height=SIDE, width=SIDE, fps=20, actions=MOVES)
    run = RunConfig(name="categorical", profile="tiny", model=config, data=DataConfig(path=str(data)), spec=spec)
    weights = folder / "run" / "weights" / "step-1"
    weights.mkdir(parents=True)
    torch.manual_seed(0)
    model = Categorical(config, spec)
    for parameter in model.parameters():  # heads start at zero, and would predict the last frame for ever
        torch.nn.init.normal_(parameter, std=0.3)
    for parameter in model.outcomes.parameters() if model.outcomes is not None else ():
        torch.nn.init.zeros_(parameter)  # no end at a probability of one half, and the first reward
    write_config(folder / "run", run)
    write_weights(weights, model, run.to_json())
    return folder / "run"
