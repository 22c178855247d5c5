"""Networks and losses of hierarchical long-term prediction, arXiv 1806.04768.

Structure vectors: their encoder and the recurrent network that continues them. Visual analogy: the network that draws
frames from them, and the critic of sequences. All are built at any width and frame size; the published width is d = 64
at 64x64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from framecast.core.types import Loss
from framecast.nn.colour import to_grey
from framecast.nn.losses import bce
from framecast.nn.norm import LayerNorm
from framecast.nn.peephole import PeepholeCell
from framecast.nn.precision import full_precision, widen
from framecast.nn.vgg import Convention, VGGTrunk


def psnr(prediction: Tensor, truth: Tensor, pooled: bool = False) -> Tensor:
    """PSNR in dB of images in 0…1, scalar: the mean over images, or as published, pooled over the batch and averaged
    over time.

    Args:
        prediction: (b, t, c, h, w). Capped at 100 dB.
        truth: (b, t, c, h, w). Capped at 100 dB.
    """
    error = (widen(prediction) - truth).square().mean((2, 3, 4))
    error = error.mean(0) if pooled else error
    return -10 * error.clamp_min(1e-10).log10().mean()


def encoding_loss(predicted: Tensor, target: Tensor, kind: str) -> Tensor:
    """Distance of predicted and true encodings; the true ones are not detached, so they become predictable too.

    Args:
        predicted: (b, t, E).
        target: true encodings of the same frames, (b, t, E).
        kind: "l2", "l1", "relative" or "whitened", see `HierarchicalConfig.encoding_loss`.
    """
    difference = predicted - target
    moves = (target - target.mean(1, keepdim=True)).flatten(0, 1)
    if kind == "relative":
        return difference.square().mean() / moves.square().mean().clamp_min(1e-8)
    if kind == "whitened":
        covariance = moves.T @ moves / len(moves)
        least = 1e-3 * covariance.diagonal().mean().clamp_min(1e-8)
        covariance = covariance + least * torch.eye(len(covariance), device=covariance.device)
        flat = difference.flatten(0, 1)
        counted: Tensor = torch.linalg.solve(covariance, flat.T)
        return (flat * counted.T).mean()
    return difference.square().mean() if kind == "l2" else difference.abs().mean()


def psnr_parts(name: str, images: Tensor, truth: Tensor, head: int) -> dict[str, Tensor]:
    """PSNR in dB of images, by name: of the forecast, pooled over the batch, and of the context if it has frames.

    Args:
        name: prefix of the names.
        images: (b, t, c, h, w) in 0…1.
        truth: the true images, of the same shape.
        head: number of images that belong to the context.
    """
    found = {
        f"{name}_forecast": psnr(images[:, head:], truth[:, head:]),
        f"{name}_pooled": psnr(images, truth, pooled=True),
    }
    return {**found, f"{name}_context": psnr(images[:, :head], truth[:, :head])} if head else found


def as_loss(total: Tensor | None = None, **parts: Tensor) -> Loss:
    """A loss and its terms; a single term is the total."""
    found = next(iter(parts.values())) if total is None else total
    return Loss(found, {name: part.detach() for name, part in parts.items()})


def critic_sequences(structure: nn.Module, encodings: Tensor, predicted: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """True and generated sequences of structures, (b, t, E + both taps) each.

    Args:
        structure: the `StructureEncoder` that makes the taps.
        encodings: true encodings, (b, t, E).
        predicted: predicted encodings of frames 1 to t - 1.
        context: true encodings at the head of the generated sequence.
    """
    fake = torch.cat([encodings[:, :context], predicted[:, context - 1 :]], 1)
    b = len(encodings)
    flat = torch.cat([encodings, fake]).flatten(0, 1)
    maps = [widen(tap).flatten(1) for tap in structure(flat)]
    both = torch.cat([flat, *maps], -1).reshape(2 * b, encodings.shape[1], -1)
    return both[:b], both[b:]


def critic_gap(critic: nn.Module, real: Tensor, fake: Tensor, kind: str) -> Tensor:
    """Loss of the critic without its penalty.

    Args:
        critic: scores (b,) of sequences (b, t, features).
        real: true sequences.
        fake: generated sequences.
        kind: "wgan-gp", or "gan" for the cross-entropy with true labels smoothed to 0.875.
    """
    r, f = critic(torch.cat([real, fake])).chunk(2)
    if kind == "gan":
        return bce(r, 0.875) + bce(f, 0.0)
    gap: Tensor = f.mean() - r.mean()
    return gap


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (|gradient of the score| - 1)^2 at a random point between each pair of sequences (b, t, features).

    Source:
        Gulrajani et al. 2017 (arXiv 1704.00028), equation 3.
    """
    share = torch.rand(len(real), 1, 1, device=real.device)
    point = (real + share * (fake - real)).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(point).sum(), point, create_graph=True)
    return ((slope.square().sum((1, 2)) + 1e-10).sqrt() - 1).square().mean()


@full_precision
def pose_loss(prediction: Tensor, truth: Tensor, either_sign: bool = False) -> Tensor:
    """MSE of joints + MSE of position + mean of 1 - <q, q'>, q the unit quaternions of pitch and yaw.

    Args:
        prediction: (..., p), the last five x, y, z, pitch, yaw (radians), the others joints.
        truth: (..., p), the last five x, y, z, pitch, yaw (radians), the others joints.
        either_sign: 1 - |<q, q'>|; as published, q and -q, which are the same rotation, are 2 apart.

    Source:
        The published code's loss on the robot's pose.
    """
    ours, theirs = _quaternion(prediction[..., -2:]), _quaternion(truth[..., -2:])
    cosine = (ours * theirs).sum(-1)
    turned = 1 - (cosine.abs() if either_sign else cosine)
    joints = F.mse_loss(prediction[..., :-5], truth[..., :-5]) if truth.shape[-1] > 5 else 0.0
    return joints + F.mse_loss(prediction[..., -5:-2], truth[..., -5:-2]) + turned.mean()


def _quaternion(angles: Tensor) -> Tensor:
    """Unit quaternion (..., 4) of Euler angles (0, pitch, yaw)."""
    p, y = (angles / 2).unbind(-1)
    return torch.stack([-p.sin() * y.sin(), p.sin() * y.cos(), p.cos() * y.sin(), p.cos() * y.cos()], -1)


#: Width of the noise input.
NOISE_SIZE = 100


class Encoder(nn.Module):
    """Encoder of a frame as a structure vector: the convolutions of VGG, dropout, one linear layer.

    Starts from He's weights: with the published start, a normal of std 0.01, the encodings of different frames would
    differ by 1e-9.

    Args:
        size: of the encoding, E.
        side: of the square frames, px.
        widths: see `VGGTrunk`.
        convention: see `VGGTrunk`.
        keep: probability of keeping a feature while training.
        grey: use luminance only.
        normalise: encodings of length 1.
    """

    def __init__(
        self,
        size: int,
        side: int,
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
        self.out = nn.Linear(widths[-1][-1] * (side // 2 ** len(widths)) ** 2, size)
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

    @full_precision
    def forward(
        self, encoding: Tensor, action: Tensor, states: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            encoding: (b, E).
            action: (b, a).
            states: (b, cells + 1, 2n).
            noise: (b, NOISE_SIZE) of N(0, 1), where the predictor has any; None draws it by torch's global generator.

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
        for k, cell in enumerate(self.cells):
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


class DoublingConv(nn.ConvTranspose2d):
    """3x3 transposed convolution to twice the size, aligned as TensorFlow's SAME: the last row and column go."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(b, inputs, h, w) to (b, outputs, 2h, 2w)."""
        return super().forward(x)[..., :-1, :-1]


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
    """Visual analogy network: the frame whose relation to an encoding is that of the first frame to its own.

    Args:
        size: of encodings, E.
        side: of the square frames, px, a multiple of 16.
        d: feature maps at the frames' own size, twice and four times as many below.
        keep: probability of keeping a value in dropouts while training.
        leak: slope below 0 of the decoder's rectifications; 0 as published.
        first: access to the first frame; without it frames are drawn from an encoding alone.

    Source:
        Wichers et al. 2018 (arXiv 1806.04768), equations 2 to 4, with the published code's convolution of the target's
        maps; Reed et al. 2015.
    """

    def __init__(
        self, size: int, side: int, channels: int, d: int = 64, keep: float = 1.0, leak: float = 0.0, first: bool = True
    ) -> None:
        super().__init__()
        n, self.first = channels + first, first

        def drop() -> nn.Module:
            return nn.Dropout(1 - keep)

        def relu() -> nn.Module:
            return nn.ReLU(inplace=True)

        def leaky() -> nn.Module:
            return nn.LeakyReLU(leak, inplace=True)

        image = (
            *(_conv(channels, d), relu(), LayerNorm(d), _conv(d, d), relu(), nn.MaxPool2d(2), drop(), LayerNorm(d)),
            *(_conv(d, 2 * d), relu(), _conv(2 * d, 2 * d), relu(), nn.MaxPool2d(2), drop(), LayerNorm(2 * d)),
            *(_conv(2 * d, 4 * d), relu(), _conv(4 * d, 4 * d), relu(), _conv(4 * d, 4 * d), relu(), nn.MaxPool2d(2)),
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
        self.decoder = nn.Sequential(
            *(DoublingConv(4 * d, 4 * d), leaky(), drop(), LayerNorm(4 * d), _conv(4 * d, 4 * d), leaky(), drop()),
            *(_conv(4 * d, 2 * d), leaky(), drop(), LayerNorm(2 * d), DoublingConv(2 * d, 2 * d), leaky(), drop()),
            *(_conv(2 * d, d), leaky(), drop(), LayerNorm(d), DoublingConv(d, n), leaky(), drop(), _conv(n, n)),
        )
        glorot(self)

    def anchor(self, frame: Tensor, encoding: Tensor) -> Tensor:
        """The first frame's share of the analogy, needed once per clip: (b, 4d, s/8, s/8); (b, 0) without access to it.

        Args:
            frame: (b, c, h, w) in 0…1.
            encoding: its own, (b, E).
        """
        if not self.first:
            return encoding.new_zeros(len(encoding), 0)
        return self.join.share(self.difference(self.image(frame) - self.structure(encoding)[1]))

    def forward(self, frame: Tensor, anchor: Tensor, encodings: Tensor) -> tuple[Tensor, Tensor]:
        """Frames and masks of encodings (b, t, E): (b, t, c, h, w), not clipped, and (b, t, 1, h, w) in 0…1.

        Args:
            frame: the first one, (b, c, h, w).
            anchor: of it.
        """
        t = encodings.shape[1]
        maps = self.structure(encodings.flatten(0, 1))[1]
        if not self.first:
            alone = rearrange(widen(self.decoder(maps)), "(b t) c h w -> b t c h w", t=t)
            return alone, torch.ones_like(alone[:, :, :1])
        joined = self.join(self.target(maps), anchor.repeat_interleave(t, 0))
        drawn = widen(self.decoder(maps + self.analogy(joined)))
        return blend(rearrange(drawn, "(b t) c h w -> b t c h w", t=t), frame)


def blend(drawn: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """mask * drawn + (1 - mask) * first frame, and the mask, the sigmoid of the last channel. Equation 3 of the paper.

    Args:
        drawn: (b, t, c + 1, h, w).
        frame: (b, c, h, w).
    """
    mask = torch.sigmoid(drawn[:, :, -1:])
    return mask * drawn[:, :, :-1] + (1 - mask) * frame[:, None], mask


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
