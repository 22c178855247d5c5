"""Every reader of files and messages, with a valid file each: what the mutations start from."""

import asyncio
import contextlib
import functools
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from small_models import Acting, small_config, write_store

from framecast.benchmark.plan import read_plan
from framecast.core.errors import UserError
from framecast.core.io import read_file, write_json
from framecast.core.types import ActionSpec
from framecast.data.download import unpack
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.tfrecord_writer import write_records
from framecast.evaluation.external import Forecasts, make_clips
from framecast.inference.check import check_folder
from framecast.inference.predict import read_actions
from framecast.media.images import read_image, write_image
from framecast.media.write import write_video
from framecast.metrics.scores import Scores
from framecast.training.checkpoint import load_checkpoint, restore
from framecast.training.config import config_from_json
from framecast.training.latents import _stored
from framecast.training.log import read_metrics
from framecast.training.run_folder import open_run
from framecast.training.state import TrainState
from framecast.training.train import train
from framecast.web.server import ClientDisconnected, Connection, Gate, _parsed
from framecast.web.session import Complaint, Session
from tests.fuzz import mutations as m
from tests.web.playing import make_player


@dataclass(frozen=True)
class Target:
    """A reader: the folder or file it opens, the file in it that is changed, how, and what reads it."""

    name: str
    seed: Path
    file: str
    mutate: Callable
    read: Callable


def clips_of(path, **options):
    """Open a path as data and read a few frames of each video."""
    source = open_path(path, ReadOptions(**options))
    source.meta()
    for index, length in list(enumerate(source.lengths))[:3]:
        source.clip(index, 0, min(3, length))
    return source


def run_of(folder):
    """Open a run as `evaluate`, `train` and `check` do."""
    run = open_run(folder, Acting)
    assert run.trained is not None
    read_metrics(folder)
    model = run.model()
    restore(folder, TrainState.create(model.requires_grad_(True)))
    load_checkpoint(folder)


def unpacked(path):
    """Unpack an archive beside it; nothing may be written elsewhere."""
    before = sorted(path.parent.parent.iterdir())
    try:
        unpack(path, path.parent / "out")
    finally:
        assert sorted(path.parent.parent.iterdir()) == before


@functools.cache
def seeds() -> Path:
    """A folder with one valid instance of everything."""
    root = Path(tempfile.mkdtemp(prefix="framecast-fuzz-"))
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, size=(8, 3, 16, 16), dtype=np.uint8)
    np.save(root / "a.npy", frames)
    np.savez_compressed(root / "a.npz", frames=frames, actions=np.arange(8) % 3)
    for name in ("a.png", "a.jpg", "a.bmp", "a.tif", "a.webp", "a.gif", "a.dds", "a.avif", "a.jp2", "a.tga", "a.ico"):
        with contextlib.suppress(UserError, OSError, KeyError):  # formats that this build of Pillow lacks
            write_image(frames[0], root / name)
    for name in ("film.mp4", "film.mkv", "film.avi", "film.webm", "film.gif", "film.webp"):
        write_video(frames, root / name, 10)
    write_video(frames, root / "folder")
    np.save(root / "folder" / "actions.npy", np.arange(8) % 3)
    (root / "folder" / "joints.csv").write_text("x0,y0\n" + "0.1,0.2\n" * 8)
    store = write_store(root / "store", actions=True)
    write_records(store, root / "records")
    train(Acting, store, config=small_config(Acting, steps=2), out=root / "run", quiet=True)
    make_clips(root / "store", root / "clips", context=2, horizon=3, clips=2, with_truth=True)
    for path in (root / "clips").glob("*.npz"):
        with np.load(path) as arrays:
            truth = arrays["truth"]
        np.savez(path, prediction=truth)
    write_json(root / "latents.json", {"step": 3, "names": ["z"]})
    write_json(root / "actions.json", [0, 1, 2, 1, 0])
    (root / "actions.csv").write_text("0\n1\n2\n1\n0\n")
    np.save(root / "actions.npy", np.arange(5) % 3)
    (root / "config.yaml").write_text(json.dumps(small_config(Acting, steps=2).to_json()))
    scores = Path(__file__).parents[2] / "framecast/pretrained/dreams-ball/scores.json"
    shutil.copy(scores, root / "scores.json")
    entry = {"label": "a", "model": "copy-last", "profile": "default", "flags": []}
    settings = {"models": [entry], "data": [{"label": "d", "digest": "x"}], "seeds": [0], "steps": 3, "budget": None}
    plan = {"format": 1, "settings": {**settings, "precision": "auto"}, "paths": {"d": "d"}}
    (root / "plan").mkdir()
    write_json(root / "plan" / "plan.json", plan)
    with tarfile.open(root / "a.tar.gz", "w:gz") as tar:
        tar.add(root / "a.png", "x/a.png")
        tar.add(root / "a.npy", "x/a.npy")
    return root


ACTIONS = ActionSpec(kind="discrete", size=3, names=("a", "b", "c"))


def targets() -> list[Target]:
    """All readers."""
    root, found = seeds(), []

    def add(name, seed, file, mutate, read):
        if (root / seed).exists():
            found.append(Target(name, root / seed, file, mutate, read))

    add("npy", "a.npy", "", m.npy, functools.partial(clips_of, axes="tchw"))
    add("npz", "a.npz", "", m.archive, clips_of)
    add("zip named npy", "a.npz", "as.npy", m.any_bytes, clips_of)
    for path in sorted(root.glob("a.*")):
        if path.suffix not in (".npy", ".npz", ".gz"):
            add(path.suffix, path.name, "", m.png if path.suffix == ".png" else m.any_bytes, read_image)
    for path in sorted(root.glob("film.*")):
        add(path.name, path.name, "", m.any_bytes, clips_of)
        add(f"{path.name} at 30 fps", path.name, "", m.any_bytes, functools.partial(clips_of, fps=30.0))
    for file, mutate in (("000001.png", m.png), ("actions.npy", m.npy), ("joints.csv", m.any_bytes)):
        add(f"folder/{file}", "folder", file, mutate, clips_of)
    for path in sorted((root / "records").glob("[!.]*")):
        add(f"records/{path.name}", "records", path.name, m.records, clips_of)
    for path in sorted((root / "store").iterdir()):
        mutate = m.npy if path.suffix == ".npy" else m.json_text
        add(f"store/{path.name}", "store", path.name, mutate, clips_of)
        add(f"check store/{path.name}", "store", path.name, mutate, check_folder)
    for path in sorted(p for p in (root / "run").rglob("*") if p.is_file() and p.suffix != ".png"):
        by_suffix = {".json": m.json_text, ".jsonl": m.json_lines, ".safetensors": m.tensors, ".pt": changed_checkpoint}
        file = path.relative_to(root / "run").as_posix()
        add(f"run/{file}", "run", file, by_suffix.get(path.suffix, m.any_bytes), run_of)
        add(f"check run/{file}", "run", file, by_suffix.get(path.suffix, m.any_bytes), check_folder)
    for file in ("manifest.json", "0.npz"):
        mutate = m.json_text if file.endswith("json") else m.archive
        add(f"clips/{file}", "clips", file, mutate, lambda p: Forecasts(p).read(0))
    add("plan", "plan", "plan.json", m.json_text, read_plan)
    add("scores", "scores.json", "", m.json_text, Scores.load)
    add("latents", "latents.json", "", m.json_text, _stored)
    add("config", "config.yaml", "", m.yaml_text, lambda p: config_from_json(read_file(p), p, Acting))
    for suffix, mutate in (("json", m.json_text), ("csv", m.any_bytes), ("npy", m.npy)):
        add(f"actions.{suffix}", f"actions.{suffix}", "", mutate, lambda p: read_actions(p, ACTIONS, 5))
    add("archive", "a.tar.gz", "", m.any_bytes, unpacked)
    return found


def changed_checkpoint(rng, data):
    """A checkpoint with a value of another type, as torch writes it; its stored checksum is left out."""
    import io

    if rng.integers(3) == 0:
        return m.any_bytes(rng, data)
    saved = torch.load(io.BytesIO(data), weights_only=True)
    inside = saved
    while True:
        keys = list(inside)
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(inside[key], dict) and inside[key] and rng.integers(3):
            inside = inside[key]
            continue
        inside[key] = m.ABSURD[int(rng.integers(len(m.ABSURD)))]
        break
    out = io.BytesIO()
    torch.save(saved, out)
    return out.getvalue()


# ---------------------------------------------------------------------------------------------------------- websocket


class Browser:
    """The socket of a browser that takes everything."""

    async def send_json(self, data):
        json.dumps(data)

    async def send_bytes(self, data):
        assert data


class Shared:
    """State of a server whose model is computed at once."""

    def __init__(self, player):
        self.player = player

    async def compute(self, work):
        return work()


MESSAGES = [
    *({"type": "act", "action": 1}, {"type": "play", "on": False}, {"type": "speed", "fps": 20}),
    *({"type": "turn", "name": "x", "value": 0.5}, {"type": "follow", "on": True}, {"type": "step"}),
    *({"type": "go", "frame": 1}, {"type": "reset", "start": 0, "again": True}, {"type": "pin", "values": {"0": 0.5}}),
    *({"type": "free", "indices": [0]}, {"type": "drawn", "frame": 1}, {"type": "step", "id": 3}),
]


@functools.cache
def player():
    """A player of a small steered model."""
    return make_player(Path(tempfile.mkdtemp(prefix="framecast-fuzz-")) / "d", frames=20)


def message(rng) -> bytes:
    """A message of a browser, changed."""
    text = json.dumps(MESSAGES[int(rng.integers(len(MESSAGES)))]).encode()
    if rng.integers(3) == 0:
        text = text.replace(b"1", b"9" * int(rng.choice([20, 400, 4000, 5000])))
    return m.json_text(rng, text)


def websocket(rng) -> None:
    """Send a few changed messages to a session; it may refuse them and close."""

    async def talk():
        connection = Connection(Shared(player()), Browser())
        connection.session = Session(player())
        for _ in range(4):
            text = message(rng).decode("utf-8", errors="replace")
            connection.inbox.append(_parsed(text))
            await connection._answer_all()
            await connection._show()

    with contextlib.suppress(ClientDisconnected, Complaint):
        asyncio.run(talk())


def gate(rng) -> None:
    """Decide about absurd headers."""
    headers = [
        b"[x]",
        b"[",
        b"localhost:99999999999",
        b"http://[",
        b"\xff\xfe",
        b"",
        b"127.0.0.1",
        b"[::1]:80",
        b"a" * 9000,
    ]
    host, origin, token = (
        m.any_bytes(rng, headers[int(rng.integers(len(headers)))]).decode("latin-1") for _ in range(3)
    )
    Gate(token="t").problem(host, origin if rng.integers(2) else None, token, live=bool(rng.integers(2)))
    Gate().problem(headers[int(rng.integers(len(headers)))].decode("latin-1"), "http://[", None, live=True)


@functools.cache
def targets_once() -> tuple[Target, ...]:
    """`targets`, made once."""
    return tuple(targets())
