"""Sprites of Ms. Pac-Man anywhere in a frame, by colour and size: what is left of her and the ghosts in a forecast.

Where a sprite is 64 frames ahead cannot be known, so its place is not asked for. The objects and colours are those of
`framecast.metrics.objects`; here their pixels must also lie together, so that wide areas of a drifting colour and
scattered pixels are no sprite.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from framecast.metrics.objects import GAMES, Things, owners

#: Ms. Pac-Man and the ghosts.
THINGS = GAMES["ms_pacman"]
#: Side of the square that holds a sprite, and of the one around it, px; sprites are 8 to 10 px wide, 8 to 13 high.
INSIDE, AROUND = 13, 25
#: Least share of a sprite's own area within the square, and largest within the square around it.
LEAST, MOST = 0.5, 2.5
#: Smallest areas of the drawn sprites, px: she with her mouth open, and a ghost without its eyes.
AREAS = {"Ms. Pac-Man": 31.0, "Blinky": 60.0, "Pinky": 60.0, "Inky": 60.0, "Sue": 60.0}
#: Distance between a sprite's places four frames apart that counts as a move, px: at frame skip 4 a sprite covers
#: about 4 px a frame; further away is another sprite of the same colour.
MOVED, STEPS = (3.0, 24.0), 4


def sprites(frames: Tensor, things: Things = THINGS) -> tuple[Tensor, Tensor]:
    """Sprites in frames of the console's size.

    Args:
        frames: float (…, 3, 210, 160) in 0…1.
        things: objects to find, of the areas in `AREAS`.

    Returns:
        bool (…, things), and the centres of the squares, x and y px, float (…, things, 2), NaN where there is none.
    """
    lead, (height, width) = frames.shape[:-3], frames.shape[-2:]
    found, places = [], []
    for part in torch.split(frames.reshape(-1, 3, height, width), 64):
        owner = owners(part, things)
        maps = torch.stack([owner == k for k in range(len(things.things))], 1)
        for k, thing in enumerate(things.things):
            if thing.box is not None:
                maps[:, k, thing.box[2] :] = False
        count, at = _sums(maps, INSIDE).flatten(2).max(2)
        around = _sums(maps, AROUND).flatten(2).gather(2, at[..., None])[..., 0]
        area = torch.tensor([AREAS[thing.name] for thing in things.things])
        seen = (count >= LEAST * area) & (around <= MOST * area)
        found.append(seen)
        places.append(_centres(maps, at).where(seen[..., None], torch.nan))
    return torch.cat(found).reshape(*lead, -1), torch.cat(places).reshape(*lead, len(things.things), 2)


def _sums(maps: Tensor, side: int) -> Tensor:
    """Sums of bool (n, k, h, w) over squares around every pixel, int32 of the same shape."""
    before, after = side // 2 + 1, side // 2
    total = F.pad(maps.to(torch.int32), (before, after, before, after))
    total = total.cumsum(3, dtype=torch.int32)
    total = (total[..., side:] - total[..., :-side]).cumsum(2, dtype=torch.int32)
    return total[..., side:, :] - total[..., :-side, :]


def _centres(maps: Tensor, at: Tensor) -> Tensor:
    """Centroids of the pixels in the squares around the flat positions (n, k), x and y, float (n, k, 2).

    They stay where several squares hold all of a sprite.
    """
    padded = F.pad(maps, (INSIDE // 2,) * 4)
    n, k = at.shape
    rows = (at // maps.shape[3])[..., None] + torch.arange(INSIDE)
    columns = (at % maps.shape[3])[..., None] + torch.arange(INSIDE)
    one, two = torch.arange(n).view(n, 1, 1, 1), torch.arange(k).view(1, k, 1, 1)
    inside = padded[one, two, rows[..., None], columns[..., None, :]].float()
    total = inside.sum((2, 3)).clamp(min=1)
    centre = torch.stack([(inside.sum(2) * columns).sum(2), (inside.sum(3) * rows).sum(2)], -1) / total[..., None]
    return centre - INSIDE // 2


def presence(forecast: Tensor, truth: Tensor) -> dict[str, list[list[float]]]:
    """Sprites of forecasts beside those of the true frames, both (clips, frames, 3, 210, 160) in 0…1.

    Returns:
        Of every clip and frame: "any", she or any ghost is there; "share" of the sprites in the true frame that are
        there; "moving", she or any ghost is there and was elsewhere four frames before, where the forecast reaches
        that far back; NaN where it is undefined.
    """
    there, place = sprites(forecast)
    real, _ = sprites(truth)
    share = there.double().where(real, torch.nan).nanmean(-1)
    moving = torch.full(there.shape[:2], torch.nan, dtype=torch.float64)
    distance = (place[:, STEPS:] - place[:, :-STEPS]).norm(dim=-1)
    moving[:, STEPS:] = ((distance >= MOVED[0]) & (distance <= MOVED[1])).any(-1).double()
    return {"any": there.any(-1).double().tolist(), "share": share.tolist(), "moving": moving.tolist()}
