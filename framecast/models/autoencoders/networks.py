"""Networks and losses of the fourteen generative autoencoders."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.types import ClipSpec
from framecast.models.autoencoders.config import AutoencoderConfig
from framecast.nn.keras import ConvLSTM, SameConvT2d
from framecast.nn.precision import full_precision

#: Clip of target values in their entropy, as published.
ENTROPY_CLIP = 1e-6


@full_precision
def reconstruction(logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Divergence of Bernoulli(sigmoid(logits)) from Bernoulli(target), in nats: R of the published code.

    Each value gives BCE(sigmoid(l), x) - H(clip(x)), 0 only where sigmoid(l) is x (up to the clip at 1e-6).

    Args:
        logits: float (n, t, c, h, w).
        target: 0…1, the same shape: the frames `shift` later.
        reduction: "mean" over everything; "sum" over all but clips, whose mean is taken; "published": the mean over
            clips and, with more than one frame, over channels, of the sum over the rest.

    Returns:
        Scalar; ln 2 a value for black and white at logit 0.
    """
    p = target.clamp(ENTROPY_CLIP, 1 - ENTROPY_CLIP)
    entropy = torch.special.entr(p) + torch.special.entr(1 - p)
    divergence = F.softplus(logits) - logits * target - entropy
    if reduction == "mean":
        return torch.mean(divergence)
    clips, frames, channels = logits.shape[:3]
    return torch.sum(divergence) / (clips * (channels if reduction == "published" and frames > 1 else 1))


@full_precision
def kl_sampled(z: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """log q(z) - log p(z) of a sample z, mean over batch and code: the published estimate of the KL term."""
    return torch.mean(0.5 * (z.square() - (z - mean).square() * (-logvar).exp() - logvar))


def shares(config: AutoencoderConfig) -> dict[str, float]:
    """The published weights: reconstruction (1-d)(1-g), each generator term (1-d) g / their number, each discriminator
    term (real or fake, before its half) d / their number."""
    g, d = config.generator_weight, config.discriminator_weight
    domains = {"none": 0, "image": 1, "latent": 1, "both": 2}[config.adversary]
    return {
        "reconstruction": (1 - d) * (1 - g),
        "generator": (1 - d) * g / max(domains, 1),
        "discriminator": d / max(2 * domains, 1),
    }


def _act(config: AutoencoderConfig) -> nn.Module:
    return nn.ReLU(inplace=True) if config.activation == "relu" else nn.ELU(inplace=True)


class Encoder(nn.Module):
    """Encoder of samples of one frame, or of a clip, to latents. tail: batch norm and dropout on them."""

    def __init__(self, config: AutoencoderConfig, spec: ClipSpec, tail: bool = True) -> None:
        super().__init__()
        h, w, channels = spec.height, spec.width, spec.channels
        layers: list[nn.Module] = []
        if config.trunk == "dense":
            for width in config.pixel_widths:  # a dense layer over channels is a 1x1 convolution
                layers += [nn.Conv2d(channels, width, 1), _act(config)]
                channels = width
        for width, stride in zip(config.widths, config.steps_of, strict=True) if config.trunk == "conv" else ():
            recurrent = config.memory == "lstm"
            layers += [ConvLSTM(channels, width, stride)] if recurrent else []
            layers += [] if recurrent else [nn.Conv2d(channels, width, 3, stride), _act(config)]
            channels, h, w = width, (h - 3) // stride[0] + 1, (w - 3) // stride[1] + 1
        self.recurrent = config.memory == "lstm"
        self.trunk = nn.Sequential(*layers)
        frames = config.episode if config.memory != "none" else 1
        self.code = nn.Linear(frames * channels * h * w, config.latent)
        self.norm: nn.BatchNorm1d | None = None
        if tail and config.latent_norm:
            self.norm = nn.BatchNorm1d(config.latent, eps=1e-3, momentum=config.norm_momentum)
        self.dropout = nn.Dropout(config.latent_dropout) if tail and config.latent_dropout else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, c, h, w) in 0…1 -> latents (n, z)."""
        features = self.trunk(x if self.recurrent else _channels_last(rearrange(x, "n t c h w -> (n t) c h w")))
        z: Tensor = self.code(features.reshape(len(x), -1))
        z = z if self.norm is None else self.norm(z)
        return z if self.dropout is None else self.dropout(z)


class Decoder(nn.Module):
    """Decoder of latents to the logits of one frame, or of a clip, with batch norm and dropout if configured."""

    def __init__(self, config: AutoencoderConfig, spec: ClipSpec) -> None:
        super().__init__()
        self.frames = config.episode if config.memory != "none" else 1
        first, second = config.steps_of
        rows, columns = spec.height // (first[0] * second[0]), spec.width // (first[1] * second[1])
        layers: list[nn.Module] = []
        if config.trunk == "conv":
            start, one, two = config.decoder_widths
            self.shape = (start, rows, columns)
            self.dense = nn.Sequential(nn.Linear(config.latent, self.frames * start * rows * columns), _act(config))
            layers += [SameConvT2d(start, one, second), _act(config)]
            layers += [SameConvT2d(one, two, first), _act(config)]
            layers += [SameConvT2d(two, spec.channels, (1, 1))]
        else:
            self.shape = (spec.channels, spec.height, spec.width)
            units, dense = config.latent, list[nn.Module]()
            for width in config.hidden_widths:
                dense += [nn.Linear(units, width), _act(config)]
                units = width
            self.dense = nn.Sequential(*dense, nn.Linear(units, self.frames * math.prod(self.shape)))
        if config.output_tail:
            layers += [nn.BatchNorm2d(spec.channels, eps=1e-3, momentum=config.norm_momentum), nn.Dropout(0.25)]
        self.image = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (n, z) -> logits (n, t, c, h, w)."""
        x = self.dense(z).reshape(len(z) * self.frames, *self.shape)
        logits: Tensor = self.image(_channels_last(x))
        return rearrange(logits, "(n t) c h w -> n t c h w", n=len(z))

    def last_layer(self) -> nn.Module:
        """The layer that makes the logits."""
        made = [m for m in self.modules() if isinstance(m, nn.Linear | nn.ConvTranspose2d)]
        return made[-1]


class ImageDiscriminator(nn.Module):
    """Discriminator of frames: a clone of the encoder and one unit."""

    def __init__(self, config: AutoencoderConfig, spec: ClipSpec) -> None:
        super().__init__()
        self.encoder = Encoder(config, spec, tail=config.output_tail)
        self.score = nn.Linear(config.latent, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (n, t, c, h, w) -> logits (n, 1)."""
        logits: Tensor = self.score(self.encoder(frames))
        return logits


class LatentDiscriminator(nn.Module):
    """Discriminator of latents against a normal: a small network, or as published a clone of the decoder."""

    def __init__(self, config: AutoencoderConfig, spec: ClipSpec) -> None:
        super().__init__()
        if config.latent_judge == "decoder":
            pixels = spec.channels * spec.height * spec.width
            self.layers = nn.Sequential(Decoder(config, spec), nn.Flatten(), nn.Linear(pixels, 1))
        else:
            slope = [nn.LeakyReLU(0.2), nn.LeakyReLU(0.2)]
            self.layers = nn.Sequential(
                nn.Linear(config.latent, 128), slope[0], nn.Linear(128, 128), slope[1], nn.Linear(128, 1)
            )

    def forward(self, z: Tensor) -> Tensor:
        """Latents (n, z) -> logits (n, 1)."""
        logits: Tensor = self.layers(z)
        return logits


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _check_size(config: AutoencoderConfig, spec: ClipSpec) -> None:
    """Reject frames that the strides do not divide: the decoder could not generate them."""
    (a, b), (c, d) = config.steps_of
    down, across = a * c, b * d
    fits = spec.height % down == 0 and spec.width % across == 0 and spec.height >= 2 * down and spec.width >= 2 * across
    if config.trunk == "conv" and not fits:
        h, w = (max(2, round(size / step)) * step for size, step in ((spec.height, down), (spec.width, across)))
        raise UserError(
            f"frames of {spec.height}x{spec.width} cannot be generated with strides of {down} down and "
            f"{across} across; use --size {h}x{w}, or --model.geometry resized"
        )
