"""An opponent for `direct`: all future frames in one go from one convolutional network, in the style of SimVP.

framecast train examples/models/one_go_convolutions.py:OneGo --data data/pacman --budget 4m --out runs/one-go
framecast compare runs/one-go runs/direct --data data/pacman --horizon 64

After Gao, Tan, Wu, Li, "SimVP: Simpler yet Better Video Prediction", CVPR 2022: an encoder of single frames, a
translator over the stacked features of all context frames made of grouped convolutions with several kernel sizes, and a
decoder of single frames with a skip from the encoder. Trained by mean squared error. Written from the paper's
description, at a width that trains in minutes on a CPU.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from framecast import Predictor
from framecast.core.schedules import Cosine
from framecast.core.types import Batch, ClipRequest, ClipSpec, GradClip, Loss, Optimiser, Phase


@dataclass(frozen=True, kw_only=True)
class OneGoConfig:
    """Settings of the model."""

    context: int = 10
    """Context frames."""
    horizon: int = 64
    """Frames predicted in one go; later ones come from predicted frames."""
    width: int = 16
    """Feature maps per frame."""
    hidden: int = 128
    """Feature maps of the translator."""
    depth: int = 4
    """Blocks of the translator."""
    lr: float = 2e-3
    """Largest learning rate."""


class Inception(nn.Module):
    """x plus the sum of grouped convolutions of sizes 3, 5 and 7."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 1)
        self.branches = nn.ModuleList(nn.Conv2d(width, width, k, padding=k // 2, groups=8) for k in (3, 5, 7))
        self.norm = nn.GroupNorm(8, width)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.leaky_relu(self.first(x), 0.2)
        return x + functional.leaky_relu(self.norm(sum(branch(y) for branch in self.branches)), 0.2)


class OneGo(Predictor):
    """All frames of the horizon in one go, from one network over the stacked context."""

    Config = OneGoConfig
    paper = "after Gao et al., SimVP, CVPR 2022"

    def __init__(self, config: OneGoConfig, spec: ClipSpec) -> None:
        super().__init__(config, spec)
        width, hidden = config.width, config.hidden
        self.encode = nn.Conv2d(spec.channels * 4, width, 3, padding=1)
        self.down = nn.Conv2d(width, width, 2, stride=2)
        self.inward = nn.Conv2d(width * config.context, hidden, 1)
        self.translate = nn.Sequential(*(Inception(hidden) for _ in range(config.depth)))
        self.outward = nn.Conv2d(hidden, width * config.horizon, 1)
        self.up = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.decode = nn.Conv2d(2 * width, spec.channels * 4, 3, padding=1)

    @classmethod
    def request(cls, config: OneGoConfig) -> ClipRequest:
        return ClipRequest(context=config.context, future=config.horizon)

    def phases(self) -> list[Phase]:
        optimiser = Optimiser(kind="adamw", lr=self.config.lr, warmup=50, schedule=Cosine())
        return [Phase(name="main", loss=self.loss, optimiser=optimiser, clip=GradClip(kind="global"))]

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        error = (self._frames(batch.context) - batch.future).square().mean()
        return Loss(10 * error, {"mse": error.detach()})

    def predict(self, context, horizon, actions=None, samples=1, generator=None):
        frames = context
        while frames.shape[1] < context.shape[1] + horizon:
            future = self._frames(frames[:, -self.config.context :]).clamp(0, 1)
            frames = torch.cat([frames, future], 1)
        future = frames[:, context.shape[1] : context.shape[1] + horizon]
        return future[None].expand(samples, -1, -1, -1, -1, -1)

    def _frames(self, context: Tensor) -> Tensor:
        """context (b, t, c, h, w) -> (b, horizon, c, h, w)."""
        (b, t), (h, w) = context.shape[:2], context.shape[-2:]
        edge = (0, -w % 4, 0, -h % 4)
        x = functional.pad(context.flatten(0, 1), edge, mode="replicate")
        skip = functional.leaky_relu(self.encode(functional.pixel_unshuffle(x, 2)), 0.2)
        x = functional.leaky_relu(self.down(skip), 0.2).unflatten(0, (b, t)).flatten(1, 2)
        x = self.outward(self.translate(self.inward(x))).unflatten(1, (self.config.horizon, -1)).flatten(0, 1)
        last = skip.unflatten(0, (b, t))[:, -1].repeat_interleave(self.config.horizon, 0)
        x = self.decode(torch.cat([functional.leaky_relu(self.up(x), 0.2), last], 1))
        x = functional.pixel_shuffle(x, 2)[..., :h, :w].unflatten(0, (b, -1))
        return context[:, -1:] + x  # as a change of the last frame
