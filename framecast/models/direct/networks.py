"""Networks of direct multi-horizon prediction: one encoder per clip, one decoder call per block of lead times."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from framecast.nn.doubling import DoubledConvTranspose2d

#: Frequencies of the lead time's code.
FREQUENCIES = 16
#: Width of the vector that modulates the residual blocks.
CODE = 64


def lead_code(lead: Tensor) -> Tensor:
    """Sines and cosines of lead times.

    Args:
        lead: (n,) lead times in frames, fractions allowed.

    Returns:
        (n, 2 * FREQUENCIES), periods from 4 to 256 frames, whatever the horizon, so that weights fit any.
    """
    low, high = math.log(2 * math.pi / 4), math.log(2 * math.pi / 256)
    rates = torch.exp(torch.linspace(low, high, FREQUENCIES, device=lead.device))
    angles = lead.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


class Residual(nn.Module):
    """x + conv(relu(film(conv(relu(x))))); the second convolution starts at zero, so that the block is the identity.

    Args:
        width: feature maps.
        code: width of the modulating vector; 0 for none.
    """

    def __init__(self, width: int, code: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]
        self.film = nn.Linear(code, 2 * width) if code else None

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        """x (b, width, h, w), code (b, code) -> (b, width, h, w)."""
        y = self.first(functional.relu(x))
        if self.film is not None:
            scale, shift = self.film(code)[:, :, None, None].chunk(2, 1)
            y = y * (1 + scale) + shift
        out: Tensor = x + self.second(functional.relu(y))
        return out


class Encoder(nn.Module):
    """Features of a context at three scales: 1 / patch, 1 / (2 patch) and 1 / (4 patch) of the frame.

    Args:
        channels: of the stacked input.
        widths: feature maps of the three scales.
        patch: side of the square of pixels that becomes one position.
    """

    def __init__(self, channels: int, widths: tuple[int, int, int], patch: int) -> None:
        super().__init__()
        a, b, c = widths
        self.patch = patch
        self.stem = nn.Conv2d(channels * patch * patch, a, 3, padding=1)
        self.one = Residual(a)
        self.down_one = nn.Conv2d(a, b, 2, stride=2)
        self.two = Residual(b)
        self.down_two = nn.Conv2d(b, c, 2, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (b, channels, h, w), h and w multiples of 4 patch -> the three maps."""
        x = functional.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last)
        one = self.one(self.stem(x))
        two = self.two(self.down_one(one))
        return one, two, self.down_two(two)


class Decoder(nn.Module):
    """Features of blocks of lead times from those of their contexts.

    Args:
        widths: as in `Encoder`.
        depth: residual blocks at the coarsest scale.
        code: width of the modulating vector.
    """

    def __init__(self, widths: tuple[int, int, int], depth: int, code: int) -> None:
        super().__init__()
        a, b, c = widths
        self.deep = nn.ModuleList(Residual(c, code) for _ in range(depth))
        self.up_two = DoubledConvTranspose2d(c, b, 2)
        self.merge_two, self.skip_two = nn.Conv2d(b, b, 1), nn.Conv2d(b, b, 1, bias=False)
        self.two = Residual(b, code)
        self.up_one = DoubledConvTranspose2d(b, a, 2)
        self.merge_one, self.skip_one = nn.Conv2d(a, a, 1), nn.Conv2d(a, a, 1, bias=False)
        self.one = Residual(a, code)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor], code: Tensor) -> Tensor:
        """maps of n clips, code (n * blocks, code), clips first -> (n * blocks, widths[0], h / patch, w / patch)."""
        one, two, x = maps
        blocks = len(code) // len(x)

        def spread(y: Tensor) -> Tensor:
            return y if blocks == 1 else y.repeat_interleave(blocks, 0)

        skips = self.skip_one(one), self.skip_two(two)  # once per clip, whatever the number of blocks
        x = spread(x)
        for block in self.deep:
            x = block(x, code)
        x = self.two(self.merge_two(self.up_two(x)) + spread(skips[1]), code)
        return self.one(self.merge_one(self.up_one(x)) + spread(skips[0]), code)  # type: ignore[no-any-return]


class Head(nn.Module):
    """Maps of every frame of a block: mixture logits, new colours, motion, and bounds of the error.

    Args:
        width: feature maps of the decoder.
        outputs: maps per frame.
        frames: frames of a block.
        patch: as in `Encoder`.
        code: width of a modulating vector per frame; 0 for none.
    """

    def __init__(self, width: int, outputs: int, frames: int, patch: int, code: int = 0) -> None:
        super().__init__()
        self.outputs, self.frames, self.patch = outputs, frames, patch
        self.project = nn.Conv2d(width, outputs * frames * patch * patch, 1)
        self.film = nn.Linear(code, 2 * width) if code else None

    def forward(self, x: Tensor, codes: Tensor | None = None, chosen: slice = slice(None)) -> Tensor:
        """Maps of the chosen frames of a block.

        Args:
            x: (n, width, h, w).
            codes: (n, chosen frames, code) where the head is modulated.
            chosen: frames of the block.

        Returns:
            (n, chosen frames, outputs, h * patch, w * patch).
        """
        bias = self.project.bias
        assert bias is not None
        weight = torch.unflatten(self.project.weight, 0, (self.frames, -1))[
            chosen
        ]  # (frames, outputs * patch^2, width, 1, 1)
        bias = torch.unflatten(bias, 0, (self.frames, -1))[chosen]
        if self.film is None or codes is None:
            x, flat = functional.relu(x), weight.flatten(0, 1)
            if (
                torch.is_grad_enabled() and x.dtype == torch.float32
            ):  # its gradient as a convolution takes twice as long
                y = functional.linear(x.permute(0, 2, 3, 1), flat.flatten(1), bias.flatten()).permute(0, 3, 1, 2)
            else:
                y = functional.conv2d(x, flat, bias.flatten())
            return torch.unflatten(functional.pixel_shuffle(y, self.patch), 1, (len(bias), self.outputs))
        # one modulation per frame: frame k depends on the actions before it, and on none that lead to later frames
        scale, shift = self.film(codes)[..., None, None].chunk(2, 2)
        y = functional.relu(x[:, None] * (1 + scale) + shift)
        maps = [functional.conv2d(y[:, k], weight[k], bias[k]) for k in range(len(bias))]
        return functional.pixel_shuffle(torch.stack(maps, 1), self.patch)
