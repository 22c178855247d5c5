"""Networks of hierarchical long-term prediction, arXiv 1806.04768.

Structure vectors: their encoder and the recurrent network that continues them. Visual analogy: the network that draws
frames from them, and the critic of sequences. All are built at any width and frame size; the published width is d = 64
at 64x64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from framecast.nn.colour import to_grey
from framecast.nn.doubling import DoubledConvTranspose2d
from framecast.nn.norm import LayerNorm
from framecast.nn.peephole import PeepholeCell, RolledCell
from framecast.nn.precision import full_precision, widen
from framecast.nn.vgg import Convention, VGGTrunk

#: Width of the noise input.
NOISE_SIZE = 100

#: Side of square frames, or height and width, px.
Size = int | tuple[int, int]


def _both(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


class Encoder(nn.Module):
    """Encoder of a frame as a structure vector: the convolutions of VGG, dropout, one linear layer.

    Starts from He's weights: with the published start, a normal of std 0.01, the encodings of different frames would
    differ by 1e-9.

    Args:
        size: of the encoding, E.
        side: of the frames, px.
        widths: see `VGGTrunk`.
        convention: see `VGGTrunk`.
        keep: probability of keeping a feature while training.
        grey: use luminance only.
        normalise: encodings of length 1.
    """

    def __init__(
        self,
        size: int,
        side: Size,
        channels: int,
        widths: Sequence[Sequence[int]],
        convention: Convention,
        keep: float = 1.0,
        grey: bool = False,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = VGGTrunk(widths, channels, convention)
        self.keep = nn.Dropout(1 - keep)
        self.out = nn.Linear(widths[-1][-1] * math.prod(s // 2 ** len(widths) for s in _both(side)), size)
        self.grey, self.normalise = grey and channels == 3, normalise
        for layer in self.trunk.convolutions:
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.trunc_normal_(self.out.weight, std=1e-4, a=-2e-4, b=2e-4)
        nn.init.zeros_(self.out.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(b, c, h, w) in 0…1 to (b, E) float32."""
        features = self.keep(self.trunk(to_grey(images) if self.grey else images).flatten(1))
        return self._out(features)

    @full_precision
    def _out(self, features: Tensor) -> Tensor:
        encoding: Tensor = self.out(features)
        return F.normalize(encoding, dim=-1, eps=1e-12) if self.normalise else encoding


class StructurePredictor(nn.Module):
    """Recurrent predictor of the next encoding from the current one and the action: cells with shortcuts, in float32.

    Args:
        size: of encodings, E.
        actions: numbers in an action; all layers have n = E + actions units.
        depth: cells above the first; every second one has a layer norm. What the cell two below the top held at the
            step before goes back into the first one.
        noise: std of the 100 noise inputs.
        state_noise: std of the noise added to the states in training, as a fraction of theirs.
        normalise: encodings of length 1.
        change: what comes out is added to the encoding that went in.

    Source:
        The published code of Wichers et al. 2018 (21 cells, the 19th fed back).
    """

    def __init__(
        self,
        size: int,
        actions: int,
        depth: int = 20,
        noise: float = 0.0,
        state_noise: float = 0.0,
        normalise: bool = False,
        change: bool = False,
    ) -> None:
        super().__init__()
        n = size + actions
        self.pre = nn.Linear(n, n)
        self.noise = nn.Linear(NOISE_SIZE, n) if noise else None
        self.feedback = nn.Parameter(torch.empty(2 * n))
        inputs = [3 * n] + [n if k % 2 else 2 * n for k in range(1, depth + 1)]
        self.cells = nn.ModuleList(PeepholeCell(width, n) for width in inputs)
        self.norms = nn.ModuleList(LayerNorm(n) for _ in inputs[::2])
        self.out = nn.Linear(n, size)
        self.normalise, self.change, self.noise_sd, self.state_sd = normalise, change, noise, state_noise
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif not name.startswith("norms"):
                nn.init.trunc_normal_(p, std=1e-2, a=-2e-2, b=2e-2)

    def start(self, batch: int) -> Tensor:
        """States before the first step, (b, cells + 1, 2n): zeros, then what is fed back into cell 0, learned."""
        cells = self.feedback.new_zeros(batch, len(self.cells), len(self.feedback))
        return torch.cat([cells, self.feedback.expand(batch, 1, -1)], 1)

    def rolled(self) -> list[RolledCell] | None:
        """The cells for one roll-out with gradients; None where there are none, or where the loss is compiled."""
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None
        return [RolledCell(cell) for cell in self.cells if isinstance(cell, PeepholeCell)]

    @full_precision
    def forward(
        self,
        encoding: Tensor,
        action: Tensor,
        states: Tensor,
        noise: Tensor | None = None,
        cells: list[RolledCell] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            encoding: (b, E).
            action: (b, a).
            states: (b, cells + 1, 2n).
            noise: (b, NOISE_SIZE) of N(0, 1), where the predictor has any; None draws it by torch's global generator.
            cells: of `rolled`, for steps of one roll-out.

        Returns:
            (b, E), new states.
        """
        pre = self.pre(torch.cat([encoding, action], -1))
        if self.noise is not None:
            noise = torch.randn(len(pre), NOISE_SIZE, device=pre.device) if noise is None else noise
            pre = pre + self.noise(self.noise_sd * noise)
        pre = F.relu(pre)
        before, new = states.unbind(1), []
        p = torch.cat([pre, before[-1]], -1)
        steps: Sequence[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = cells or list(self.cells)
        for k, cell in enumerate(steps):
            out, state = cell(torch.cat([p, pre], -1) if k and k % 2 == 0 else p, before[k])
            out = out if k % 2 else self.norms[k // 2](out)
            p = p + out if k else out
            new.append(state)
        found = torch.stack(new, 1)
        if self.training and self.state_sd:
            size = found.std(-1).mean(0)[:, None]
            found = found + nn.init.trunc_normal_(torch.empty_like(found)) * size * self.state_sd
        back = found[:, -3:-2]  # the cell two below the top, from the step before
        encoding = encoding + self.out(p) if self.change else self.out(p)
        encoding = F.normalize(encoding, dim=-1, eps=1e-12) if self.normalise else encoding
        return encoding, torch.cat([found, back], 1)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3 at one size. Stride-1 transposed convolutions are these too: only the order of stored weights differs."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class DoublingConv(DoubledConvTranspose2d):
    """3x3 transposed convolution to twice the size, aligned as TensorFlow's SAME: the last row and column go."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, cropped=1)


class JoiningConv(nn.Conv2d):
    """3x3 convolution of two maps joined on channels, the first of which stays the same for many of the second: its
    share is computed once.

    Args:
        channels: of either map, and of what comes out.
    """

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

    Args:
        size: of encodings, E.
        side: of the frames, px, a multiple of 16.
        d: width, see `AnalogyNetwork`.
    """

    def __init__(self, size: int, side: Size, d: int) -> None:
        super().__init__()
        h, w = (s // 16 for s in _both(side))
        self.dense = nn.Sequential(nn.Linear(size, d * h * w), nn.ReLU(), LayerNorm(d * h * w))
        self.maps = nn.Sequential(nn.Unflatten(1, (d, h, w)), _conv(d, d), nn.ReLU(), LayerNorm(d))
        self.tap = nn.Sequential(DoublingConv(d, 2 * d), nn.ReLU())
        self.last = nn.Sequential(_conv(2 * d, 2 * d), nn.ReLU(), LayerNorm(2 * d), _conv(2 * d, 4 * d), nn.ReLU())

    def forward(self, encoding: Tensor) -> tuple[Tensor, Tensor]:
        """(b, E) to (b, 2d, s/8, s/8), the inner tap, and (b, 4d, s/8, s/8). Negative entries count as 0."""
        inner = self.tap(self.maps(self.dense(F.relu(encoding))))
        return inner, self.last(inner)


class Drawn(NamedTuple):
    """What a VAN draws of encodings.

    Attributes:
        frames: blended with the background, (b, t, c, h, w), not clipped.
        mask: share of the new frames in every pixel, (b, t, 1, h, w) in 0…1.
        new: the new frames alone, (b, t, c, h, w), not clipped.
    """

    frames: Tensor
    mask: Tensor
    new: Tensor


class AnalogyNetwork(nn.Module):
    """Visual analogy network: the frame whose relation to an encoding is that of the anchor frame to its own.

    Args:
        size: of encodings, E.
        side: of the frames, px, multiples of 16.
        d: feature maps at the frames' own size, twice and four times as many below.
        keep: probability of keeping a value in dropouts while training.
        leak: slope below 0 of the decoder's rectifications; 0 as published.
        first: access to the anchor frame; without it frames are drawn from an encoding alone.
        scene: true frames of the background; 1 is the anchor frame alone, as published.
        mixed: background between the last of these frames and their mean, by a second mask.
        skips: maps of these frames are added to the decoder's at a quarter, half and all of the resolution.
        mask_bias: first bias of the mask; 0 as published.

    Source:
        Wichers et al. 2018 (arXiv 1806.04768), equations 2 to 4, with the published code's convolution of the target's
        maps; Reed et al. 2015.
    """

    def __init__(
        self,
        size: int,
        side: Size,
        channels: int,
        d: int = 64,
        keep: float = 1.0,
        leak: float = 0.0,
        first: bool = True,
        scene: int = 1,
        mixed: bool = False,
        skips: bool = False,
        mask_bias: float = 0.0,
    ) -> None:
        super().__init__()
        n, self.first, self.channels, self.mixed = channels + first + mixed, first, channels, mixed

        def drop() -> nn.Module:
            return nn.Dropout(1 - keep)

        def relu() -> nn.Module:
            return nn.ReLU(inplace=True)

        def leaky() -> nn.Module:
            return nn.LeakyReLU(leak, inplace=True)

        # ReLU after the pool: the same values and gradients, on a quarter of the numbers
        image = (
            *(_conv(channels, d), relu(), LayerNorm(d), _conv(d, d), nn.MaxPool2d(2), relu(), drop(), LayerNorm(d)),
            *(_conv(d, 2 * d), relu(), _conv(2 * d, 2 * d), nn.MaxPool2d(2), relu(), drop(), LayerNorm(2 * d)),
            *(_conv(2 * d, 4 * d), relu(), _conv(4 * d, 4 * d), relu(), _conv(4 * d, 4 * d), nn.MaxPool2d(2), relu()),
        )
        if first:
            self.image = nn.Sequential(*image)
        self.structure = StructureEncoder(size, side, d)
        if first:
            self.difference = nn.Sequential(_conv(4 * d, 4 * d), relu())
            self.target = nn.Sequential(_conv(4 * d, 4 * d), relu())
            self.join = JoiningConv(4 * d)
            last = (_conv(4 * d, 4 * d), relu(), _conv(4 * d, 4 * d), relu())
            self.analogy = nn.Sequential(relu(), LayerNorm(4 * d), *last)
        full = d if skips else n  # with skips the decoder keeps its width at full resolution
        self.decoder = nn.Sequential(
            *(DoublingConv(4 * d, 4 * d), leaky(), drop(), LayerNorm(4 * d), _conv(4 * d, 4 * d), leaky(), drop()),
            *(_conv(4 * d, 2 * d), leaky(), drop(), LayerNorm(2 * d), DoublingConv(2 * d, 2 * d), leaky(), drop()),
            *(_conv(2 * d, d), leaky(), drop(), LayerNorm(d), DoublingConv(d, full), leaky(), drop(), _conv(full, n)),
        )
        self.detail = Detail(scene * channels, d) if skips else None
        glorot(self)
        if mask_bias:
            output = self.decoder[-1]
            assert isinstance(output, nn.Conv2d)
            assert output.bias is not None
            nn.init.constant_(output.bias[channels : channels + 1], mask_bias)

    def anchor(self, frame: Tensor, encoding: Tensor) -> Tensor:
        """The anchor frame's share of the analogy, needed once per clip: (b, 4d, h/8, w/8); (b, 0) without access to
        it.

        Args:
            frame: (b, c, h, w) in 0…1, or all frames of the background, (b, k, c, h, w), of which it is the last.
            encoding: its own, (b, E).
        """
        if not self.first:
            return encoding.new_zeros(len(encoding), 0)
        frame = frame if frame.ndim == 4 else frame[:, -1]
        return self.join.share(self.difference(self.image(frame) - self.structure(encoding)[1]))

    def forward(self, frame: Tensor, anchor: Tensor, encodings: Tensor) -> Drawn:
        """Frames and masks of encodings (b, t, E).

        Args:
            frame: the anchor frame, (b, c, h, w), or all frames of the background, (b, k, c, h, w).
            anchor: of it.
        """
        t = encodings.shape[1]
        maps = self.structure(encodings.flatten(0, 1))[1]
        if not self.first:
            alone = rearrange(widen(self.decoder(maps)), "(b t) c h w -> b t c h w", t=t)
            return Drawn(alone, torch.ones_like(alone[:, :, :1]), alone)
        joined = self.join(self.target(maps), anchor.repeat_interleave(t, 0))
        made = widen(self._decoded(maps + self.analogy(joined), frame, t))
        return blend(rearrange(made, "(b t) c h w -> b t c h w", t=t), frame, self.mixed)

    def _decoded(self, maps: Tensor, frame: Tensor, t: int) -> Tensor:
        """Output of the decoder, ((b t), n, h, w), with the maps of the true frames where it has skips."""
        if self.detail is None:
            found: Tensor = self.decoder(maps)
            return found
        added = iter(self.detail(frame.flatten(1, -3)))
        for layer in self.decoder:
            maps = layer(maps)
            if isinstance(layer, DoublingConv):
                maps = maps + next(added).repeat_interleave(t, 0)
        return maps


class Detail(nn.Module):
    """Maps of true frames, to be added to those of a decoder.

    Args:
        channels: of all frames together.
        d: maps at full resolution; twice and four times as many at a half and a quarter.
    """

    def __init__(self, channels: int, d: int) -> None:
        super().__init__()
        self.full = nn.Sequential(_conv(channels, d), nn.ReLU(), _conv(d, d), nn.ReLU())
        self.halved = nn.Sequential(nn.AvgPool2d(2), _conv(d, 2 * d), nn.ReLU())
        self.quartered = nn.Sequential(nn.AvgPool2d(2), _conv(2 * d, 4 * d), nn.ReLU())

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, channels, h, w) in 0…1 to (b, 4d, h/4, w/4), (b, 2d, h/2, w/2) and (b, d, h, w)."""
        full = self.full(frames)
        half = self.halved(full)
        return self.quartered(half), half, full


def blend(made: Tensor, frame: Tensor, mixed: bool = False) -> Drawn:
    """mask * new + (1 - mask) * background, the mask the sigmoid of the channel after the colours. Equation 3 of the
    paper.

    Args:
        made: (b, t, c + 1, h, w), mixed: (b, t, c + 2, h, w).
        frame: the background (b, c, h, w), or (b, k, c, h, w), of which it is the last frame.
        mixed: the background is share * last + (1 - share) * mean of the k frames, share the sigmoid of the last
            channel.
    """
    frames = frame if frame.ndim == 5 else frame[:, None]
    colours = frames.shape[2]
    background, new = frames[:, -1:], made[:, :, :colours]
    if mixed:
        share = torch.sigmoid(made[:, :, colours + 1 :])
        background = share * background + (1 - share) * frames.mean(1, keepdim=True)
    mask = torch.sigmoid(made[:, :, colours : colours + 1])
    return Drawn(mask * new + (1 - mask) * background, mask, new)


class Discriminator(nn.Module):
    """One score for a sequence of structures: convolutions on the maps, four recurrent layers, the last step counts.

    Args:
        e: size of encodings.
        side: of the frames, px, a multiple of 32.
        d: width of the analogy network. In float32.
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
