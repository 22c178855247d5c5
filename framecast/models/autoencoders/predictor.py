"""Fourteen generative autoencoders that predict the frame five steps ahead, as one grammar.

Source: azeghost/Generative-Models-for-Video-Prediction (TensorFlow 2.1, commit 7332ae6, 2020), a thesis project without
a paper of its own; adversarial autoencoders after Makhzani et al. 2015, arXiv 1511.05644.

A name is four choices: trunk (convolutional or dense), memory (none, ConvLSTM, or one dense layer over all frames),
bottleneck (plain or variational) and adversary (of images, of codes, or both). Without memory a network maps one frame
to the frame `shift` later; with it, a clip to the clip `shift` later. Networks give logits; frames are their sigmoid.

The published adversarial training cannot run and trains nothing adversarially where it does; here GA, IA and GIA are
minimax games in three stages. What else deviates is said at the fields below and in docs/models/autoencoders.md.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, ClipSpec, Loss, Phase, Stage, StopCondition
from framecast.models.autoencoders.config import PROFILES, VARIANTS, AutoencoderConfig
from framecast.models.base import Frames, Predictor, RolloutState, as_frames
from framecast.nn.keras import ConvLSTM, SameConvT2d, initialise
from framecast.nn.losses import bce
from framecast.nn.precision import autocast_off, full_precision

__all__ = ["PROFILES", "VARIANTS", "Autoencoder", "AutoencoderConfig"]

#: Clip of target values in their entropy, as published.
ENTROPY_CLIP = 1e-6
#: Half a grey level: how near to black and white the frame that a residual starts from may come.
HALF_LEVEL = 1 / 512


# -------------------------------------------------------------------------------------------------------- losses


@full_precision
def reconstruction(logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Divergence of Bernoulli(sigmoid(logits)) from Bernoulli(target), in nats: R of the published code.

    Each value gives BCE(sigmoid(l), x) - H(clip(x)), 0 only where sigmoid(l) is x (up to the clip at 1e-6).
    logits: float (n, t, c, h, w).  target: 0…1, the same shape: the frames `shift` later.
    reduction: "mean" over everything; "sum" over all but clips, whose mean is taken; "published": the mean over clips
    and, with more than one frame, over channels, of the sum over the rest.
    Returns: scalar; ln 2 a value for black and white at logit 0.
    """
    p = target.clamp(ENTROPY_CLIP, 1 - ENTROPY_CLIP)
    entropy = torch.special.entr(p) + torch.special.entr(1 - p)
    divergence = F.softplus(logits) - logits * target - entropy
    if reduction == "mean":
        return torch.mean(divergence)
    clips, frames, channels = logits.shape[:3]
    return torch.sum(divergence) / (clips * (channels if reduction == "published" and frames > 1 else 1))


@full_precision
def kl_closed(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL from N(mean, exp(logvar)) to N(0, I), summed over the code, mean over the batch. mean, logvar: (n, z).

    Source: Kingma and Welling 2014 (arXiv 1312.6114), appendix B.
    """
    return torch.mean(0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1))


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


# ------------------------------------------------------------------------------------------------------ networks


def _act(config: AutoencoderConfig) -> nn.Module:
    return nn.ReLU(inplace=True) if config.activation == "relu" else nn.ELU(inplace=True)


class Encoder(nn.Module):
    """Samples of one frame, or of a clip, to codes. tail: batch norm and dropout on them."""

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
        """(n, t, c, h, w) in 0…1 -> codes (n, z)."""
        features = self.trunk(x if self.recurrent else _channels_last(rearrange(x, "n t c h w -> (n t) c h w")))
        z: Tensor = self.code(features.reshape(len(x), -1))
        z = z if self.norm is None else self.norm(z)
        return z if self.dropout is None else self.dropout(z)


class Decoder(nn.Module):
    """Codes to the logits of one frame, or of a clip. tail: batch norm and dropout on the logits."""

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
        """Codes (n, z) -> logits (n, t, c, h, w)."""
        x = self.dense(z).reshape(len(z) * self.frames, *self.shape)
        logits: Tensor = self.image(_channels_last(x))
        return rearrange(logits, "(n t) c h w -> n t c h w", n=len(z))

    def last_layer(self) -> nn.Module:
        """The layer that makes the logits."""
        made = [m for m in self.modules() if isinstance(m, nn.Linear | nn.ConvTranspose2d)]
        return made[-1]


class ImageDiscriminator(nn.Module):
    """A clone of the encoder and one unit: logits (n, 1) that frames (n, t, c, h, w) are true."""

    def __init__(self, config: AutoencoderConfig, spec: ClipSpec) -> None:
        super().__init__()
        self.encoder = Encoder(config, spec, tail=config.output_tail)
        self.score = nn.Linear(config.latent, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (n, t, c, h, w) -> logits (n, 1)."""
        logits: Tensor = self.score(self.encoder(frames))
        return logits


class LatentDiscriminator(nn.Module):
    """Logits (n, 1) that codes (n, z) come from a normal: a small network, or as published a clone of the decoder."""

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
        """Codes (n, z) -> logits (n, 1)."""
        logits: Tensor = self.layers(z)
        return logits


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _check_size(config: AutoencoderConfig, spec: ClipSpec) -> None:
    """Refuse frames that the strides do not divide: the decoder could not make them."""
    (a, b), (c, d) = config.steps_of
    down, across = a * c, b * d
    fits = spec.height % down == 0 and spec.width % across == 0 and spec.height >= 2 * down and spec.width >= 2 * across
    if config.trunk == "conv" and not fits:
        h, w = (max(2, round(size / step)) * step for size, step in ((spec.height, down), (spec.width, across)))
        raise UserError(
            f"frames of {spec.height}x{spec.width} cannot be drawn in strides of {down} down and {across} across; "
            f"bring them to --size {h}x{w}, or take --model.geometry resized"
        )


# ----------------------------------------------------------------------------------------------------- predictor


class Autoencoder(Predictor):
    """Autoencoder that predicts the frame five steps ahead."""

    Config = AutoencoderConfig
    family = "generative autoencoders"
    paper = "azeghost: Generative-Models-for-Video-Prediction (code, 2020); no paper of its own"
    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig, spec: ClipSpec):
        super().__init__(config, spec)
        _check_size(config, spec)
        if config.bottleneck == "plain":
            self.encoder = Encoder(config, spec)
        else:
            self.mean_encoder = Encoder(config, spec)
            self.logvar_encoder = Encoder(config, spec)
        self.decoder = Decoder(config, spec)
        initialise(self)
        if config.bottleneck == "variational" and config.logvar_start:
            nn.init.constant_((self.logvar_encoder.norm or self.logvar_encoder.code).bias, config.logvar_start)
        if config.residual:  # begin with the frame itself
            last = self.decoder.last_layer()
            for p in last.parameters():
                nn.init.zeros_(p)
        # After the rest: with the same seed a model with an adversary starts from the weights of that without.
        if config.adversary in ("image", "both"):
            self.image_discriminator = ImageDiscriminator(config, spec)
            initialise(self.image_discriminator)
        if config.adversary in ("latent", "both"):
            self.latent_discriminator = LatentDiscriminator(config, spec)
            initialise(self.latent_discriminator)

    @classmethod
    def request(cls, config: AutoencoderConfig) -> ClipRequest:
        """Clips of `episode` frames and the clips `shift` later, which overlap them; 160x210 where resized."""
        return ClipRequest(
            context=config.episode,
            future=config.episode,
            target_offset=config.shift - config.episode + 1,
            stride=config.stride,
            resize=(160, 210) if config.geometry == "resized" else None,
        )

    @classmethod
    def frame_size(cls, config: AutoencoderConfig, spec: ClipSpec) -> tuple[int, int]:
        """That of its training: the layers of the code have one weight a pixel of the smallest map."""
        return spec.height, spec.width

    @property
    def num_context(self) -> int:
        """Frames that `predict` looks at: the last `shift` of them without memory, a whole clip with it."""
        return self.config.shift if self.config.memory == "none" else self.config.episode

    @classmethod
    def is_stochastic(cls, config: AutoencoderConfig) -> bool:
        """Variational models draw their codes where several samples are asked for."""
        return config.bottleneck == "variational"

    @classmethod
    def summary(cls, config: AutoencoderConfig) -> str:
        """The four choices in words."""
        words = ["Convolutional" if config.trunk == "conv" else "Fully connected"]
        words += ["variational"] if config.bottleneck == "variational" else []
        words += {"none": [], "lstm": ["ConvLSTM"], "time": ["time-distributed"]}[config.memory]
        judged = {"none": "", "image": ", an adversary of images", "latent": ", an adversary of codes"}
        judged["both"] = ", adversaries of images and codes"
        unit = "clip" if config.memory != "none" else "frame"
        return f"{' '.join(words)} autoencoder{judged[config.adversary]}: a {unit} to the {unit} {config.shift} later."

    @staticmethod
    def count(part: nn.Module) -> int:
        """Weights and, as the published tables count them, running statistics of batch norm."""
        statistics = [b for b in part.buffers() if b.is_floating_point()]
        return sum(t.numel() for t in (*part.parameters(), *statistics))

    # ---------------------------------------------------------------------------------------------- one pass

    def _samples(self, frames: Tensor) -> Tensor:
        """Frames (b, t, c, h, w) as the networks take them: a frame, or with memory a clip, a sample."""
        return rearrange(frames, "b t c h w -> (b t) 1 c h w") if self.config.memory == "none" else frames

    def _moments(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """Code, or mean and log-variance of it, (n, z)."""
        if self.config.bottleneck == "plain":
            return self.encoder(samples), None
        return self.mean_encoder(samples), self.logvar_encoder(samples)

    def _logits(self, z: Tensor, samples: Tensor) -> Tensor:
        """Logits (n, t, c, h, w) of the frames `shift` after the samples."""
        logits: Tensor = self.decoder(z)
        if not self.config.residual:
            return logits
        t = samples.shape[1]  # of what is predicted, the first t - shift are among the samples already
        newest = [min(k + self.config.shift, t - 1) for k in range(t)]
        with autocast_off(logits):
            return logits.float() + torch.logit(samples[:, newest].float(), eps=HALF_LEVEL)

    def forward(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """The frames `shift` later.

        frames: (b, t, c, h, w) in 0…1, with memory t is `episode`.  noise: normal (n, z) for drawn codes; None takes
        their mean.
        Returns: (b, t, c, h, w) float 0…1.
        """
        samples = self._samples(frames)
        mean, logvar = self._moments(samples)
        z = mean if noise is None or logvar is None else _drawn(mean, logvar, noise)
        return self._logits(z, samples).float().sigmoid().reshape(frames.shape)

    # ---------------------------------------------------------------------------------------------- training

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Reconstruction of the later frames, and what bottleneck and tails add. The adversary is not asked.

        Parts: reconstruction, kl, activity; kl on its own scale, unweighted.
        """
        return self._loss(batch)[0]

    def _loss(self, batch: Batch) -> tuple[Loss, Tensor, Tensor]:
        """The loss, the codes (n, z) and the logits (n, t, c, h, w)."""
        c = self.config
        samples, target = self._samples(batch.context), self._samples(batch.future)
        mean, logvar = self._moments(samples)
        z = mean
        if logvar is not None and self.training:
            z = _drawn(mean, logvar, torch.randn_like(mean))
        logits = self._logits(z, samples)
        parts = {"reconstruction": reconstruction(logits, target, c.reduction)}
        total = parts["reconstruction"]
        if logvar is not None:
            if c.kl == "published":
                parts["kl"] = kl_sampled(z, mean, logvar)
                total = total + c.beta * parts["kl"]
            else:
                parts["kl"] = kl_closed(mean, logvar)
                # The bound is a sum over values; where that is a mean, the KL is divided alike.
                values = math.prod(target.shape[1:]) if c.reduction == "mean" else 1
                total = total + c.beta / values * parts["kl"]
        if c.activity:
            outputs = [logits, mean] if logvar is None else [logits, mean, logvar]
            parts["activity"] = sum((_activity(x) for x in outputs), total.new_zeros(()))
            total = total + c.activity * parts["activity"]
        return Loss(total, {name: part.detach() for name, part in parts.items()}), z, logits

    def discriminator_loss(self, batch: Batch, step: int = 0) -> Loss:
        """Half cross-entropies of the discriminators: later frames against predicted ones, normals against codes.

        No gradient reaches encoder or decoder. Parts: image_real, image_fake, latent_real, latent_fake.
        Source: Goodfellow et al. 2014, equation 1; Makhzani et al. 2015, section 2.
        """
        samples, target = self._samples(batch.context), self._samples(batch.future)
        with torch.no_grad():
            z, logvar = self._moments(samples)
            if logvar is not None:
                z = _drawn(z, logvar, torch.randn_like(z))
            fakes = {"image": self._logits(z, samples).sigmoid(), "latent": z}
        reals = {"image": target, "latent": torch.randn_like(z)}
        parts: dict[str, Tensor] = {}
        for domain, judge in self._judges().items():
            real, fake = judge(torch.cat([reals[domain], fakes[domain].to(reals[domain].dtype)])).chunk(2)
            parts[f"{domain}_real"], parts[f"{domain}_fake"] = 0.5 * bce(real, 1.0), 0.5 * bce(fake, 0.0)
        return Loss(torch.stack(list(parts.values())).sum(), {k: v.detach() for k, v in parts.items()})

    def generator_loss(self, batch: Batch, step: int = 0) -> Loss:
        """(1-d)(1-g) loss + (1-d) g mean of the generator terms: what encoder and decoder minimise against the judges.

        Parts: those of `loss`, and image_generator, latent_generator.
        """
        plain, z, logits = self._loss(batch)
        share = shares(self.config)
        total, parts = share["reconstruction"] * plain.total, dict(plain.parts)
        fakes = {"image": logits.sigmoid(), "latent": z}
        for domain, judge in self._judges().items():
            term = bce(judge(fakes[domain]), 1.0)
            total = total + share["generator"] * term
            parts[f"{domain}_generator"] = term.detach()
        return Loss(total, parts)

    def _judges(self) -> dict[str, nn.Module]:
        """The discriminators there are, by what they judge."""
        names = {"image": "image_discriminator", "latent": "latent_discriminator"}
        return {domain: self.get_submodule(name) for domain, name in names.items() if hasattr(self, name)}

    def phases(self) -> list[Phase]:
        """Of the last stage: reconstruction; with an adversary first its discriminators, on the same batch."""
        optim = self.config.optim
        rule = optim.optimiser(optim.lr)
        if self.config.adversary == "none":
            return [Phase(name="reconstruct", loss=self.loss, optimiser=rule)]
        return [
            self._discriminator_phase(),
            Phase(name="generator", seed_name="fool", loss=self.generator_loss, modules=self._makers(), optimiser=rule),
        ]

    def _discriminator_phase(self) -> Phase:
        optim = self.config.optim
        judges = tuple(f"{domain}_discriminator" for domain in self._judges())
        return Phase(
            name="discriminator",
            seed_name="judge",
            loss=self.discriminator_loss,
            modules=judges,
            optimiser=optim.optimiser(optim.discriminator_lr),
        )

    def _makers(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.named_children() if not name.endswith("_discriminator"))

    def stages(self) -> list[Stage]:
        """Early stopping on validation; with an adversary: reconstruction, its discriminators alone, then both."""
        c = self.config
        last = StopCondition(patience=c.patience, min_delta=1e-12)
        if c.adversary == "none":
            return [Stage(name="reconstruct", phases=self.phases(), until=last)]
        rule = c.optim.optimiser(c.optim.lr)
        alone = Phase(name="reconstruct", loss=self.loss, modules=self._makers(), optimiser=rule)
        return [
            Stage(name="reconstruct", phases=[alone], until=replace(last, max_fraction=c.pretrain_share)),
            Stage(
                name="discriminator",
                phases=[self._discriminator_phase()],
                until=StopCondition(steps=c.warm_up_steps, max_fraction=0.05),
            ),
            Stage(name="adversarial", phases=self.phases(), until=last),
        ]

    @torch.no_grad()
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Clips, what followed `shift` later, the prediction of that; and pictures of drawn codes where codes are
        trained to be normal (elsewhere such pictures mean nothing)."""
        rows = {"context": batch.context, "truth": batch.future, "prediction": self(batch.context)}
        if self.config.bottleneck == "variational" or self.config.adversary in ("latent", "both"):
            generator = torch.Generator().manual_seed(0)
            count = self.config.shift if self.config.memory == "none" else 1
            z = torch.randn(batch.size, count, self.config.latent, generator=generator)
            rows["samples"] = self.decode(z.to(batch.context.device), batch.context)
        return rows

    # -------------------------------------------------------------------------------------------- prediction

    def predict(
        self,
        context: Frames,
        horizon: int,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The next `horizon` frames, in blocks of `shift`: (s, b, horizon, c, h, w) float 0…1.

        One sample takes the mean of codes; of several, a variational model draws each.
        """
        carry, frames = self.rollout_init(context, samples=samples, generator=generator), []
        for _ in range(horizon):
            carry, frame = self.rollout_step(carry)
            frames.append(frame)
        return rearrange(torch.stack(frames, 1), "(s b) t c h w -> s b t c h w", s=samples)

    @torch.no_grad()
    def rollout_init(
        self,
        context: Frames,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> RolloutState:
        """window: the last frames, seen or predicted, (b, t, c, h, w) 0…1.  queue: predicted and not yet handed out,
        empty at first.  With several samples of a variational model also seed and tick, for the draws."""
        frames = as_frames(context, self)[:, -self.num_context :].repeat(samples, 1, 1, 1, 1)
        own = self.frame_size(self.config, self.spec)
        if tuple(frames.shape[-2:]) != own:
            raise ValueError(
                f"{type(self).__name__} was built for frames of {own[0]}x{own[1]}, got {frames.shape[-2]}x"
                f"{frames.shape[-1]}; bring them to that size"
            )
        carry = {"window": frames, "queue": frames[:, :0]}
        if samples > 1 and self.stochastic:
            at = generator.device if generator is not None else "cpu"
            seed = torch.randint(2**62, (1,), generator=generator, device=at).to(frames.device)
            carry |= {"seed": seed.repeat(len(frames)), "tick": torch.zeros_like(seed).repeat(len(frames))}
        return carry

    @torch.no_grad()
    def rollout_step(self, carry: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """One frame further; the networks run when the queue is empty, once for every block of `shift` frames."""
        new = dict(carry)
        if new["queue"].shape[1] == 0:
            noise = None
            if "seed" in carry:
                source = torch.Generator().manual_seed(int(carry["seed"][0]) + int(carry["tick"][0]))
                count = len(carry["window"]) * (self.num_context if self.config.memory == "none" else 1)
                noise = torch.randn(count, self.config.latent, generator=source).to(carry["window"].device)
                new["tick"] = carry["tick"] + 1
            new["queue"] = self(new["window"], noise)[:, -self.config.shift :]
            new["window"] = torch.cat([new["window"], new["queue"]], 1)[:, -self.num_context :]
        frame = new["queue"][:, 0]
        return {**new, "queue": new["queue"][:, 1:]}, frame

    # ---------------------------------------------------------------------------------------------- the code

    def encode(self, frames: Tensor) -> Tensor:
        """Codes (b, t, z) of frames (b, t, c, h, w); with memory one for every whole clip, counted from the end. Of
        variational models the mean."""
        if self.config.memory == "none":
            return rearrange(self._moments(self._samples(frames))[0], "(b t) z -> b t z", b=len(frames))
        n = frames.shape[1] // self.config.episode
        if n < 1:
            raise UserError(f"a code is of a clip of {self.config.episode} frames, got {frames.shape[1]}; give more")
        clips = rearrange(frames[:, -n * self.config.episode :], "b (n t) c h w -> (b n) t c h w", n=n)
        return rearrange(self._moments(clips)[0], "(b n) z -> b n z", n=n)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Frames (b, t, c, h, w) 0…1 that follow `shift` after what had the codes z (b, t, z); with memory a clip for
        each. context: (b, t, c, h, w), whose last frame a residual model adds to; without it, mid-grey."""
        latents = rearrange(z, "b t z -> (b t) z")
        logits: Tensor = self.decoder(latents).float()
        if self.config.residual and context is not None:
            last = context[:, -1:].repeat_interleave(z.shape[1], 0).float()
            logits = logits + torch.logit(last, eps=HALF_LEVEL)
        return rearrange(logits.sigmoid(), "(b n) t c h w -> b (n t) c h w", b=len(z))


def _drawn(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    with autocast_off(mean):
        return mean.float() + (logvar.float() / 2).exp() * noise


def _activity(x: Tensor) -> Tensor:
    """sum |x| + sum x^2 of a layer's output over the number of clips, as Keras regularises activities."""
    with autocast_off(x):
        x = x.float()
        return (x.abs().sum() + x.square().sum()) / len(x)
