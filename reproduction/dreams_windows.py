"""The softmax head on the ball, by the length of its window: with four latents as published it stands still."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.data.synthetic.ball import COLOUR, RADIUS, painted, places
from framecast.inference.load import load
from framecast.models.dreams.networks import Memory, glorot
from framecast.models.dreams.predictor import Dreams
from reproduction.dream_metrics import change

#: Windows T compared; 4 is the published one for the ball. Steps of training, batch and frames of data of each.
WINDOWS, STEPS, BATCH, FRAMES = (4, 10, 16), 300, 32, 340
#: Frames of a dream, and its start that is left out.
LENGTH, SKIPPED = 300, 100


def windows() -> dict[str, Any]:
    """Movement and period of dreams through a softmax, its memory trained on the packaged autoencoder of the ball."""
    begun, model = time.process_time(), load("dreams-ball")
    assert isinstance(model, Dreams)
    frames = torch.stack([torch.from_numpy(painted((x, 32), RADIUS, COLOUR)) for x in islice(places(), FRAMES)])
    frames = frames.float() / 255
    with torch.no_grad():
        mean, logvar = model.vae.encode(frames)
    found = {str(t): dreamt(model, frames, mean, logvar, t) for t in WINDOWS}
    still, other = found["4"], found["10"]
    sentence = (
        f"through a softmax the ball stands still with the published window of 4 ({still['movement']:.3f} of the "
        f"data's movement) and flickers with one of 10 ({other['movement']:.2f}), once in {other['period']:.0f} frames"
    )
    return {
        "command": "python -m reproduction.dreams --only windows",
        "steps": STEPS,
        "vision_steps": 0,
        "training_seconds": round(time.process_time() - begun),
        "seed": 0,
        "windows": found,
        "sentence": sentence,
    }


def dreamt(model: Dreams, frames: Tensor, mean: Tensor, logvar: Tensor, t: int) -> dict[str, float | None]:
    """Train a memory with a window of t latents and let it dream from real ones.

    Returns:
        movement of the frames over the data's; period of the alternation of the two largest numbers of the latent,
        frames, None without any; norm of the latents, dreamt and of the data.
    """
    torch.manual_seed(0)
    memory = Memory(replace(model.config, head="softmax-mse"), model.config.code_size, "softmax-mse")
    glorot(memory)
    optimiser = torch.optim.Adam(memory.parameters(), 1e-3)
    starts = np.random.default_rng(0).integers(0, FRAMES - t - 1, (STEPS, BATCH))
    for row in starts:
        drawn = mean + (logvar / 2).exp() * torch.randn_like(mean)
        window = torch.stack([drawn[i : i + t] for i in row])
        target = torch.stack([drawn[i + t] for i in row])
        loss = (memory(window)[0][:, -1].softmax(-1) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    latents = mean[None, 17 : 17 + t]
    with torch.no_grad():
        for _ in range(LENGTH):
            latents = torch.cat([latents, memory(latents[:, -t:])[0][:, -1:].softmax(-1)], 1)
        dream = latents[0, t + SKIPPED :]
        moved = change(model.vae.decode(dream)) / change(frames[:136])
    first, second = dream.mean(0).topk(2).indices
    above = dream[:, first] > dream[:, second]
    turns = int((above[1:] != above[:-1]).sum())
    return {
        "movement": float(moved),
        "period": 2 * len(dream) / turns if turns else None,
        "norm": float(dream.norm(dim=1).mean()),
        "norm_data": float(mean.norm(dim=1).mean()),
    }
