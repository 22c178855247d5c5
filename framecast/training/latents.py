"""Precomputed latents: the data encoded at the start of a stage, memory-mapped and split like the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from framecast.core.errors import UserError, writing
from framecast.core.io import read_json, write_json
from framecast.core.npy import map_npy
from framecast.core.random import seed_for
from framecast.core.types import Batch, ClipRequest
from framecast.data.base import Source
from framecast.media.resize import resize_frames
from framecast.training.device import Device

#: Frames per encoded batch.
CHUNK = 64


def resizer(request: ClipRequest) -> Callable[[np.ndarray], np.ndarray]:
    """A function that resizes uint8 frames (t, c, h, w) to the size of the request."""
    size = request.resize
    return (lambda frames: frames) if size is None else (lambda frames: resize_frames(frames, size, "squash"))


@torch.no_grad()
def precompute_all(
    encode: Callable[[Batch], dict[str, Tensor]],
    model: nn.Module,
    source: Source,
    resize: Callable[[np.ndarray], np.ndarray],
    device: Device,
    folder: Path,
    step: int,
    seed: int = 0,
) -> dict[str, list[np.ndarray]]:
    """Latents of every frame by name, one memory-mapped array (frames, …) per video.

    Args:
        encode: (batch with the frames as context) -> named tensors (b, t, …).
        model: the model of `encode`.
        source: the data.
        resize: uint8 frames -> uint8 frames of the model's size.
        device: of this process; each process encodes its share of the videos.
        folder: of the arrays, shared by all processes.
        step: step of the run at the start of the stage; stored latents of the same step are used again, so that a
            resumed run equals an unbroken run.
        seed: of the run, for sampled latents.

    Raises:
        UserError: the latents cannot be written.
    """
    done = folder / "latents.json"
    known = device.is_main and done.is_file() and _stored(done)[0] == step
    if not device.any(known):
        folder.mkdir(parents=True, exist_ok=True)
        if device.is_main:
            done.unlink(missing_ok=True)
        names, failure = list[str](), ""
        was_training = model.training
        model.eval()
        try:
            for video in range(device.rank, len(source.lengths), device.world):
                torch.manual_seed(seed_for(seed, "codes", step, video))
                names = _encode(encode, source, video, resize, device, folder)
        except UserError as error:
            failure = str(error)
        finally:
            model.train(was_training)
        found = device.gather((names, failure))
        if failures := [text for _, text in found if text]:
            raise UserError(failures[0])
        if device.is_main:
            write_json(done, {"step": step, "names": sorted({name for own, _ in found for name in own})})
    device.barrier()
    names = _stored(done)[1]
    return {n: [map_npy(folder / f"{n}-{v}.npy") for v in range(len(source.lengths))] for n in names}


def _stored(path: Path) -> tuple[int | None, list[str]]:
    """Step and names in latents.json; no step if the file is damaged, so that the latents are computed again."""
    try:
        data = read_json(path)
    except UserError:
        return None, []
    step, names = data.get("step"), data.get("names")
    if not isinstance(names, list) or not all(isinstance(n, str) and "/" not in n for n in names):
        return None, []
    return (step, names) if type(step) is int else (None, [])


def _encode(
    encode: Callable[[Batch], dict[str, Tensor]],
    source: Source,
    video: int,
    resize: Callable[[np.ndarray], np.ndarray],
    device: Device,
    folder: Path,
) -> list[str]:
    """Write the latents of one video, and return their names."""
    length, parts = int(source.lengths[video]), dict[str, list[np.ndarray]]()
    for start in range(0, length, CHUNK):
        clip = source.clip(video, start, min(CHUNK, length - start))
        frames = torch.from_numpy(np.array(resize(clip.frames)))[None]  # a copy: views of a store are read-only
        batch = Batch(context=frames, future=frames[:, :0]).to(device.device)
        with device.autocast():
            found = encode(batch)
        for name, value in found.items():
            parts.setdefault(name, []).append(value[0].float().cpu().numpy())
    with writing(folder, "free some space and run the same command again", "the latents could not be written"):
        for name, arrays in parts.items():
            np.save(folder / f"{name}-{video}.npy", np.concatenate(arrays))
    return sorted(parts)
