"""Objects that are taken out of a fed-back frame in training, so that the network learns to bring them back.

A world that loses an object once, and has never seen a frame without it, continues without it. See
`CategoricalConfig.erase`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from framecast.models.categorical.networks import NEVER

#: Largest share of a frame that a colour of objects covers; colours of more pixels are ground.
_MINOR = 0.1
#: Side of the square from which an object is taken, and of the one in which the ground around it is looked up, px.
_BOX, _AROUND = 9, 5
#: Probability that the same colour is erased in the next frame too.
_AGAIN = 0.5


def ground_colours(areas: Sequence[int], pixels: int) -> tuple[int, ...]:
    """Palette indices of colours that cover more than a tenth of a frame of `pixels` pixels."""
    return tuple(k for k, area in enumerate(areas) if area > _MINOR * pixels)


def choose(frame: Tensor, before: Tensor, share: float, grounds: Sequence[int], colours: int) -> Tensor:
    """Colour to be erased from each frame, (b,) int64, -1 for none.

    Args:
        frame: palette indices (b, h, w).
        before: colours erased from the frames before, (b,).
        share: fraction of the frames in which an erasure begins.
        grounds: of `ground_colours`.
        colours: size of the palette.
    """
    shown = torch.zeros(len(frame), colours, device=frame.device)
    shown.scatter_(1, frame.flatten(1), 1.0)
    shown[:, list(grounds)] = 0.0
    score = torch.rand(shown.shape, device=frame.device) * shown
    some = score.amax(1) > 0
    random = torch.rand(2, len(frame), device=frame.device)
    new = torch.where((random[0] < share) & some, score.argmax(1), -1)
    return torch.where((before >= 0) & (random[1] < _AGAIN), before, new)


def erased(frame: Tensor, since: Tensor, chosen: Tensor, grounds: Sequence[int]) -> Tensor:
    """The frames without an object of the chosen colour: its pixels within 9x9 px around one of them show the ground.

    The ground at a pixel is the ground colour that was last there, or the most frequent one around it.

    Args:
        frame: palette indices (b, h, w).
        since: steps since each pixel had each colour, (b, k, h, w), before this frame.
        chosen: of `choose`; -1 leaves a frame as it is.
        grounds: of `ground_colours`, at least one.
    """
    h, w = frame.shape[1:]
    own = frame == chosen.view(-1, 1, 1)
    score = torch.rand(frame.shape, device=frame.device) * own
    centre = score.flatten(1).argmax(1)
    rows, columns = torch.arange(h, device=frame.device), torch.arange(w, device=frame.device)
    reach = _BOX // 2
    inside = ((rows - (centre // w)[:, None]).abs() <= reach)[:, :, None] & (
        (columns - (centre % w)[:, None]).abs() <= reach
    )[:, None, :]
    names = torch.tensor(list(grounds), device=frame.device)
    age, last = since[:, names].min(1)
    shown = (frame[:, None] == names.view(1, -1, 1, 1)).float()
    wide = functional.avg_pool2d(shown, _AROUND, stride=1, padding=_AROUND // 2)
    ground = names[torch.where(age < NEVER, last, wide.max(1).indices)]
    return torch.where(own & inside, ground, frame)
