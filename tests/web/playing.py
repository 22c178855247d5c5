"""A player of small models on small data, for the tests of the page."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator

import torch
from small_models import Plain, Steered, TwoStage, small_config, write_store

from framecast.core.types import ActionSpec, ClipSpec
from framecast.inference.starts import Starts
from framecast.models.base import Predictor
from framecast.web.player import Player
from framecast.web.server import Gate, Limits, make_app

MOVES = ActionSpec(kind="discrete", size=3, names=("LEFT", "NOOP", "RIGHT"))
MODELS = {"plain": Plain, "codes": TwoStage, "steered": Steered}


def make_player(folder, kind="steered", videos=3, frames=40, side=12, model_class=None, **settings) -> Player:
    """A player of one of MODELS, on squares that move by recorded actions."""
    model_class = model_class or MODELS[kind]
    acts = model_class.actions != "none"
    store = write_store(folder, videos=videos, frames=frames, side=side, actions=acts)
    spec = ClipSpec(channels=1, height=side, width=side, fps=20, actions=MOVES if acts else None)
    torch.manual_seed(0)
    model: Predictor = model_class(small_config(model_class).model, spec).eval()
    request = model.request(model.config)
    segments = store.splits(request.source_length)["test"]
    starts = Starts(store, segments, request, request.length, spec.actions)
    return Player(model, starts, "run", f"{kind} (tiny)", **settings)


@contextlib.contextmanager
def serving(player: Player, gate: Gate | None = None, limits: Limits | None = None) -> Iterator[str]:
    """The address of a server in a thread of its own, as `framecast play` sets it up."""
    from framecast.web.play import server

    listener = socket.create_server(("127.0.0.1", 0))
    app = make_app(player, gate, limits)
    running = server(app)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(120)
        listener.close()


def limits(**changes) -> Limits:
    """The usual limits with some changed."""
    return dataclasses.replace(Limits(), **changes)
