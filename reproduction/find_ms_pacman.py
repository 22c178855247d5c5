"""Finding Ms. Pac-Man in frames that were shrunk to 64x64, where she is ten pixels of no clear colour.

Her place in a frame of the console's own size is known by colour (`framecast.metrics.objects`). A small network is
fitted to tell it from the same frame shrunk, on training frames, and then reads dreams as well as held-out ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from framecast.data.base import Source
from framecast.data.registry import replay
from framecast.metrics.objects import GAMES, find

#: Steps and frames a step of the fit.
_STEPS, _BATCH = 300, 24
#: How far from her place an answer may be to be right, px of the console's 160x210; she is some ten wide.
NEAR = 8.0
#: Frames for which a direction is held, and the least distance moved then, px of the console.
HELD, FAR = 10, 4.0


def console_place(frames: Tensor) -> Tensor:
    """Her place by colour in frames (n, 3, 210, 160) in 0…1: x, y px, float64 (n, 2), not-a-number without her."""
    return find(frames, GAMES["ms_pacman"]).place[:, 0]


@dataclass
class Finder:
    """net: map of how sure each pixel is.  ground: what a pixel mostly is, (3, h, w).  least: of the surest pixel, for
    her to be there."""

    net: nn.Module
    ground: Tensor
    least: float

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> Tensor:
        """Her place in frames (n, 3, h, w): x, y in px of the console, float64 (n, 2), not-a-number without her."""
        sure = self.net(frames - self.ground).flatten(1)
        best, at = sure.max(1)
        width, scale = frames.shape[-1], _scale(frames)
        place = (torch.stack([at % width, at // width], 1).double() + 0.5) * scale - 0.5
        return place.where((best >= self.least)[:, None], torch.nan)


def _scale(frames: Tensor) -> Tensor:
    return torch.tensor([160 / frames.shape[-1], 210 / frames.shape[-2]], dtype=torch.float64)


def fit(frames: Tensor, places: Tensor, seed: int = 0) -> Finder:
    """A finder fitted on frames (n, 3, h, w) and her places (n, 2), px of the console.

    The threshold lets 98 % of these frames pass.
    """
    generator = torch.Generator().manual_seed(seed)
    known = places.isfinite().all(1)
    frames, places = frames[known], places[known]
    ground = frames.median(0).values
    pixel = ((places + 0.5) / _scale(frames)).long()
    target = pixel[:, 1] * frames.shape[-1] + pixel[:, 0]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 1, 5, padding=2))
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    for step in range(_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 5e-3 * (1 - step / _STEPS)
        i = torch.randint(len(frames), (_BATCH,), generator=generator)
        sure = net(frames[i] - ground).flatten(1)
        loss = nn.functional.cross_entropy(sure, target[i]) + 0.01 * sure.logsumexp(1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        best = torch.cat([net(part - ground).flatten(1).amax(1) for part in frames.split(256)])
    return Finder(net.eval(), ground, float(best.quantile(0.02)))


def fitted_finder(source: Source, console: Source, context: int, every: int = 8) -> Finder:
    """Finder fitted on every eighth training frame."""
    frames, places = [], []
    for segment in source.splits(context + 1)["train"]:
        at = list(range(segment.start, segment.stop, every))
        frames.append(frames_of(source, segment.video, at))
        places.append(console_place(frames_of(console, segment.video, at)))
    return fit(torch.cat(frames), torch.cat(places))


def frames_of(source: Source, video: int, at: list[int]) -> Tensor:
    """Some frames of a video, float (n, c, h, w) in 0…1."""
    clip = source.clip(video, at[0], at[-1] + 1 - at[0]).frames
    return torch.from_numpy(np.ascontiguousarray(clip[[i - at[0] for i in at]])).float() / 255


def replayed(console: Source, video: int, frame: int, moves: list[int]) -> Tensor:
    """Where she is in the game itself after HELD frames of each action, (actions, 2)."""
    world = replay(console, video, frame)
    assert world is not None, "the game cannot be brought back; install the emulator it was recorded with"
    before, ends = world.save(), []
    for action in moves:
        world.restore(before)
        for _ in range(HELD):
            world.act(action)
        ends.append(torch.from_numpy(np.ascontiguousarray(world.frame())).float() / 255)
    return console_place(torch.stack(ends))
