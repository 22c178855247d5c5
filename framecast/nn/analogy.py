"""Drawing by visual analogy, and the critic that judges sequences of the structures it draws from.

Both are built at any width and frame size; the published one is d = 64 at 64x64.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from framecast.nn.norm import LayerNorm
from framecast.nn.peephole import PeepholeCell
from framecast.nn.precision import full_precision, widen


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3 at one size. Stride-1 transposed convolutions are these too: only the order of stored weights differs."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class DoublingConv(nn.ConvTranspose2d):
    """3x3 transposed convolution to twice the size, aligned as TensorFlow's SAME: the last row and column go."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(b, inputs, h, w) to (b, outputs, 2h, 2w)."""
        return super().forward(x)[..., :-1, :-1]


class JoiningConv(nn.Conv2d):
    """3x3 convolution of two maps joined on channels, the first of which stays the same for many of the second: its
    share is computed once.  channels: of either map, and of what comes out."""

    def __init__(self, channels: int) -> None:
        super().__init__(2 * channels, channels, 3, padding=1)

    def share(self, first: Tensor) -> Tensor:
        """What the first map (b, channels, h, w) adds."""
        return F.conv2d(first, self.weight[:, : self.out_channels], padding=1)

    def forward(self, second: Tensor, share: Tensor) -> Tensor:  # type: ignore[override]
        """The convolution of both, (b, channels, h, w)."""
        return F.conv2d(second, self.weight[:, self.out_channels :], self.bias, padding=1) + share


class StructureEncoder(nn.Module):
    """Maps of an encoding, for the analogy and, inner ones too, for the critic.

    size: of encodings, E.  side: of the frames, px, a multiple of 16.  d: width, see `AnalogyNetwork`.
    """

    def __init__(self, size: int, side: int, d: int) -> None:
        super().__init__()
        side //= 16
        self.dense = nn.Sequential(nn.Linear(size, d * side**2), nn.ReLU(), LayerNorm(d * side**2))
        self.maps = nn.Sequential(nn.Unflatten(1, (d, side, side)), _conv(d, d), nn.ReLU(), LayerNorm(d))
        self.tap = nn.Sequential(DoublingConv(d, 2 * d), nn.ReLU())
        self.last = nn.Sequential(_conv(2 * d, 2 * d), nn.ReLU(), LayerNorm(2 * d), _conv(2 * d, 4 * d), nn.ReLU())

    def forward(self, encoding: Tensor) -> tuple[Tensor, Tensor]:
        """(b, E) to (b, 2d, s/8, s/8), the inner tap, and (b, 4d, s/8, s/8). Negative entries count as 0."""
        inner = self.tap(self.maps(self.dense(F.relu(encoding))))
        return inner, self.last(inner)


class AnalogyNetwork(nn.Module):
    """The frame that stands to an encoding as the first frame stands to its own.

    size: of encodings, E.  side: of the square frames, px, a multiple of 16.  d: feature maps at the frames' own size,
    twice and four times as many below.  keep: probability of keeping a value in dropouts while training.  leak:
    slope below 0 of the decoder's rectifications; 0 as published.
    Source: Wichers et al. 2018 (arXiv 1806.04768), equations 2 to 4, with the published code's convolution of the
    target's maps; Reed et al. 2015.
    """

    def __init__(self, size: int, side: int, channels: int, d: int = 64, keep: float = 1.0, leak: float = 0.0) -> None:
        super().__init__()
        n = channels + 1

        def drop() -> nn.Module:
            return nn.Dropout(1 - keep)

        def relu() -> nn.Module:
            return nn.ReLU(inplace=True)

        def leaky() -> nn.Module:
            return nn.LeakyReLU(leak, inplace=True)

        self.image = nn.Sequential(
            *(_conv(channels, d), relu(), LayerNorm(d), _conv(d, d), relu(), nn.MaxPool2d(2), drop(), LayerNorm(d)),
            *(_conv(d, 2 * d), relu(), _conv(2 * d, 2 * d), relu(), nn.MaxPool2d(2), drop(), LayerNorm(2 * d)),
            *(_conv(2 * d, 4 * d), relu(), _conv(4 * d, 4 * d), relu(), _conv(4 * d, 4 * d), relu(), nn.MaxPool2d(2)),
        )
        self.structure = StructureEncoder(size, side, d)
        self.difference = nn.Sequential(_conv(4 * d, 4 * d), relu())
        self.target = nn.Sequential(_conv(4 * d, 4 * d), relu())
        self.join = JoiningConv(4 * d)
        self.analogy = nn.Sequential(relu(), LayerNorm(4 * d), _conv(4 * d, 4 * d), relu(), _conv(4 * d, 4 * d), relu())
        self.decoder = nn.Sequential(
            *(DoublingConv(4 * d, 4 * d), leaky(), drop(), LayerNorm(4 * d), _conv(4 * d, 4 * d), leaky(), drop()),
            *(_conv(4 * d, 2 * d), leaky(), drop(), LayerNorm(2 * d), DoublingConv(2 * d, 2 * d), leaky(), drop()),
            *(_conv(2 * d, d), leaky(), drop(), LayerNorm(d), DoublingConv(d, n), leaky(), drop(), _conv(n, n)),
        )
        glorot(self)

    def anchor(self, frame: Tensor, encoding: Tensor) -> Tensor:
        """The first frame's share of the analogy, needed once per clip: (b, 4d, s/8, s/8).

        frame: (b, c, h, w) in 0…1.  encoding: its own, (b, E).
        """
        return self.join.share(self.difference(self.image(frame) - self.structure(encoding)[1]))

    def forward(self, frame: Tensor, anchor: Tensor, encodings: Tensor) -> tuple[Tensor, Tensor]:
        """Frames and masks of encodings (b, t, E): (b, t, c, h, w), not clipped, and (b, t, 1, h, w) in 0…1.

        frame: the first one, (b, c, h, w).  anchor: of it.
        """
        t = encodings.shape[1]
        maps = self.structure(encodings.flatten(0, 1))[1]
        joined = self.join(self.target(maps), anchor.repeat_interleave(t, 0))
        drawn = widen(self.decoder(maps + self.analogy(joined)))
        return blend(rearrange(drawn, "(b t) c h w -> b t c h w", t=t), frame)


def blend(drawn: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """mask * drawn + (1 - mask) * first frame, and the mask, the sigmoid of the last channel. Equation 3 of the paper.

    drawn: (b, t, c + 1, h, w).  frame: (b, c, h, w).
    """
    mask = torch.sigmoid(drawn[:, :, -1:])
    return mask * drawn[:, :, :-1] + (1 - mask) * frame[:, None], mask


class Discriminator(nn.Module):
    """One score for a sequence of structures: convolutions on the maps, four recurrent layers, the last step counts.

    e: size of encodings.  side: of the frames, px, a multiple of 32.  d: width of the analogy network.  In float32.
    """

    def __init__(self, e: int, side: int, d: int = 64) -> None:
        super().__init__()
        self.shapes = [(e,), (2 * d, side // 8, side // 8), (4 * d, side // 8, side // 8)]

        def halve(inputs: int, outputs: int) -> list[nn.Module]:  # SAME at stride 2 pads after, not before
            return [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(inputs, outputs, 3, stride=2), nn.ReLU()]

        self.inner = nn.Sequential(*halve(2 * d, d), *halve(d, d), LayerNorm(d), nn.Flatten())
        self.outer = nn.Sequential(*halve(4 * d, 2 * d), *halve(2 * d, d), LayerNorm(d), nn.Flatten())
        sizes = [2 * e + 2 * d * (side // 32) ** 2, 4 * e, 4 * e, 2 * e, e]
        self.cells = nn.ModuleList(PeepholeCell(a, b) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(LayerNorm(size) for size in sizes[1:])
        self.widths = sizes[1:]
        self.score = nn.Linear(e, 1)
        glorot(self)

    @full_precision
    def forward(self, structures: Tensor) -> Tensor:
        """(b, t, E + both taps, flat) to (b,)."""
        b, t = structures.shape[:2]
        flat = torch.split(structures.flatten(0, 1), [math.prod(s) for s in self.shapes], -1)
        encoding, inner, outer = (x.reshape(-1, *s) for x, s in zip(flat, self.shapes, strict=True))
        seen = torch.cat([encoding, self.inner(inner), self.outer(outer)], -1).reshape(b, t, -1)
        states = [seen.new_zeros(b, 2 * width) for width in self.widths]
        out = seen.new_zeros(b, encoding.shape[-1])
        for k in range(t):
            out = torch.cat([seen[:, k], out], -1)
            for i, (cell, norm) in enumerate(zip(self.cells, self.norms, strict=True)):
                out, states[i] = cell(out, states[i])
                out = norm(out)
        score: Tensor = self.score(out)
        return score[:, 0]


def glorot(module: nn.Module) -> None:
    """Glorot's uniform for every kernel below `module`, also for peepholes; biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, PeepholeCell):
            bound = math.sqrt(3 / part.units)
            for peep in (part.peep_input, part.peep_forget, part.peep_output):
                nn.init.uniform_(peep, -bound, bound)
