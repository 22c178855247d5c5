"""A run of a tiny untrained categorical world with actions, rewards and ends, and its recordings."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os

import numpy as np
import pytest
import torch

from framecast.core.types import ActionSpec, ClipSpec
from framecast.data.options import DataConfig
from framecast.data.store import DatasetWriter
from framecast.inference import onnx_export
from framecast.models.categorical.config import tiny
from framecast.models.categorical.predictor import Categorical
from framecast.training.checkpoint import write_weights
from framecast.training.config import RunConfig, write_config

SIDE = 16
MOVES = ActionSpec(kind="discrete", size=3, names=("NOOP", "UP", "DOWN"))
COLOURS = ((10, 20, 30), (250, 250, 250))
REWARDS = (-1.0, 0.0, 1.0)
#: Settings of a world with a region: the bright colour of the upper half is a colour of its own.
REGIONS = {
    "regions": ((*COLOURS[1], 0, 0, 8, SIDE),),
    "areas": (256, 4, 4),
    "least_areas": (248, 4, 4),
    "extents": ((16, 16), (2, 2), (2, 2)),
}


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


@pytest.fixture(scope="session")
def traced_once(tmp_path_factory):
    """Folder of graphs that are traced once for all workers; within `graphs_of`."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "traced-graphs"
    folder.mkdir(exist_ok=True)
    return folder


@contextlib.contextmanager
def graphs_of(folder):
    """Within: the graph of a network with the same weights, inputs and outputs is traced once, which takes seconds."""
    import fcntl

    import onnx

    trace = onnx_export._graph

    def once(module, inputs, names, outputs, run):
        weights = b"".join(v.numpy().tobytes() for v in module.state_dict().values())
        kind = repr((type(module), module.model.config, names, outputs)).encode()
        path = folder / f"{hashlib.sha256(kind + weights).hexdigest()}.onnx"
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.is_file():
                onnx.save(trace(module, inputs, names, outputs, run), str(path))
        return onnx.load(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "_graph", once)
        yield
