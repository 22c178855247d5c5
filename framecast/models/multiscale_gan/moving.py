"""Things that move through clips of the multi-scale network: dimmed in the context, weighted, in their own colours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from framecast.core.errors import UserError

#: Frames of a clip that its temporal median needs: a sprite covers a pixel in fewer than half of them.
FRAMES = 9

#: Difference to the temporal median above which a pixel belongs to the foreground, of frames in 0…1.
DIFFERENT = 0.1


def mixed(context: Tensor, most: float, free: float) -> Tensor:
    """Context frames that are mixed with an earlier one: X_t + b (X_max(t - s, 0) - X_t).

    What moved is dimmer where it is and shows faintly where it was, as in a forecast that begins to dissolve. s is
    uniform in 1…T - 1 for every clip, b uniform in 0…most for every frame, and 0 for a share of clips.

    Args:
        context: (b, T, c, h, w), oldest first.
        most: greatest share b, below 1.
        free: share of clips that are left as they are.
    """
    b, frames = context.shape[:2]
    if frames == 1:
        return context
    shift = torch.randint(1, frames, (b, 1), device=context.device)
    share = most * torch.rand(b, frames, device=context.device)
    share = share * (torch.rand(b, 1, device=context.device) >= free)
    at = (torch.arange(frames, device=context.device) - shift).clamp(min=0)
    earlier = context[torch.arange(b, device=context.device)[:, None], at]
    return torch.lerp(context, earlier, share.view(b, frames, 1, 1, 1))


def foreground(context: Tensor, future: Tensor) -> Tensor:
    """Where the frames after the context differ from the temporal median of the whole clip, float (b, t', 1, h, w).

    Args:
        context: (b, t, c, h, w) in 0…1.
        future: (b, t', c, h, w) in 0…1.
    """
    still = torch.cat([context, future], 1).median(1, keepdim=True).values
    return ((future - still).abs().amax(2, keepdim=True) > DIFFERENT).to(future.dtype)


def palette_of(colours: Sequence[Sequence[int]], channels: int) -> Tensor:
    """Colours of 0…255 as values of -1…1, float (colours, channels).

    Raises:
        UserError: For a colour of another number of channels than the frames.
    """
    if any(len(colour) != channels for colour in colours):
        raise UserError(f"model.palette must have {channels} values per colour for these frames, got {colours}")
    return torch.tensor(colours, dtype=torch.float32) / 127.5 - 1


@torch.no_grad()
def nearest_colours(x: Tensor, palette: Tensor) -> Tensor:
    """The nearest colour of a palette in every pixel.

    Args:
        x: float (b, t c, h, w).
        palette: (colours, c), of the same range.
    """
    b, _, h, w = x.shape
    palette = palette.to(x)
    colours, channels = palette.shape
    pixels = x.reshape(b, -1, channels, h, w)
    # |x|^2 is the same for all colours
    distance = palette.square().sum(1).view(1, 1, colours, 1, 1) - 2 * torch.einsum("btchw,kc->btkhw", pixels, palette)
    found = palette[distance.argmin(2)]  # (b, t, h, w, c)
    return found.movedim(-1, 2).reshape(x.shape)
