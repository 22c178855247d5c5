"""`framecast export --web`: a folder with the page, a model's graphs and the runtime, for any static file server."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from framecast.core.commit import replaced_folder
from framecast.core.errors import UserError
from framecast.core.io import read_json, write_json, write_text
from framecast.core.types import ActionSpec
from framecast.inference.export import check_out
from framecast.inference.onnx_export import GRAPHS, Agreement, check_installed, export_graphs
from framecast.inference.starts import FUTURE, Start, open_starts
from framecast.media.grid import as_rgb
from framecast.media.images import write_image
from framecast.training.run_folder import Run
from framecast.web.actions import idle
from framecast.web.play import page_title
from framecast.web.player import Player
from framecast.web.runtime import FILES, VERSION, runtime_folder

#: The server's page, and what replaces its connection to the server.
PAGES = (Path(__file__).parent / "page", Path(__file__).parent / "static_page")
#: As the server's policy, for a folder whose server sends none: nothing is loaded from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)

_README = """\
{name}: a world learned by framecast, played in the browser without a server program.

Serve this folder with any static file server, for example

    python -m http.server --directory .

and open the address it prints. (A browser refuses to run a page like this from file://.)

rollout_init.onnx, rollout_step.onnx   the model, as ONNX graphs
ort*                                   onnxruntime-web {version}, MIT licence
"""


def export_page(
    run: Run, folder: Path, data: str | None = None, half: bool = False, runtime: Path | None = None
) -> Agreement:
    """A folder with a page that plays a model in the browser; the write is atomic.

    Args:
        run: trained run.
        folder: output folder, new or empty.
        data: real frames to start from; by default the examples of the run, else held-out frames of its data.
        half: store large weights as float16.
        runtime: unpacked npm package onnxruntime-web; by default that of the cache, fetched by npm.

    Returns:
        How well the graphs agree with the model.

    Raises:
        UserError: a package is missing, the model has no graphs, or the folder is not empty.
    """
    check_installed()
    check_out(folder)
    runtime = runtime_folder(runtime)
    starts = open_starts(run, data)
    model, name = run.model(), run.label
    if starts[0].seen.shape[1] not in (1, 3):
        raise UserError(f"{name}: a page shows grey or RGB frames, these have {starts[0].seen.shape[1]} channels")
    player = Player(model, starts, page_title(run), f"{run.config.name} ({run.config.profile})")
    with replaced_folder(folder) as part:
        found = export_graphs(model, starts[0], part, name, half)
        for file in (*(p for pages in PAGES for p in sorted(pages.iterdir())), *(runtime / name for name in FILES)):
            shutil.copyfile(file, part / file.name)
        text = (part / "index.html").read_text(encoding="utf-8")
        policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        write_text(part / "index.html", text.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}', 1))
        write_text(part / "README.txt", _README.format(name=player.name, version=VERSION))
        (part / "starts").mkdir()
        described = [_write_start(starts[i], player.actions, part, f"starts/{i}.png") for i in range(len(starts))]
        write_json(part / "world.json", _world(player, read_json(part / GRAPHS), described))
    return found


def _world(player: Player, graphs: dict[str, Any], starts: list[dict[str, Any]]) -> dict[str, Any]:
    """Contents of world.json: what the worker needs beside the graphs."""
    spec = player.actions
    return {
        "format": graphs["format"],
        # bars of the latent need further graphs
        "hello": {**player.hello(), "sliders": [], "steerable": False, "local": True},
        "context": graphs["context"],
        "actions": graphs["actions"],
        "idle": None if spec is None else idle(spec),
        "bounds": None if spec is None else spec.bounds,
        "starts": starts,
    }


def _write_start(start: Start, spec: ActionSpec | None, folder: Path, name: str) -> dict[str, Any]:
    """One image of a start's frames, row by row, and of those recorded after it; its description."""
    frames, actions = [as_rgb(start.seen)], []
    if start.actions is not None and spec is not None:
        actions = [_plain(spec, row) for row in start.actions]
    for frame, action in _after(start):
        frames.append(as_rgb(frame[None]))
        actions += [] if action is None or spec is None else [_plain(spec, action[0])]
    pictures = np.concatenate(frames)
    columns = math.ceil(math.sqrt(len(pictures)))
    _, channels, height, width = pictures.shape
    image = np.zeros((channels, height * -(-len(pictures) // columns), width * columns), np.uint8)
    for i, picture in enumerate(pictures):
        top, left = height * (i // columns), width * (i % columns)
        image[:, top : top + height, left : left + width] = picture
    write_image(image, folder / name)
    return {"image": name, "count": len(pictures), "columns": columns, "context": len(start.seen), "actions": actions}


def _after(start: Start) -> Iterator[tuple[np.ndarray, Any]]:
    for number in range(1, min(start.length, FUTURE) + 1):
        found = start.after(number)
        if found is None:
            return
        yield found


def _plain(spec: ActionSpec, row: Tensor) -> int | list[float]:
    """An action as the page sends it, an index or a list of numbers, from the model's input (a,)."""
    if spec.kind == "discrete":
        return int(row.argmax())
    values = row.numpy() * (np.array(spec.std) if spec.mean else 1) + (np.array(spec.mean) if spec.mean else 0)
    return [round(float(value), 6) for value in values]
