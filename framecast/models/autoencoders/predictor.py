"""Fourteen generative autoencoders that predict the frame five steps ahead, as four choices over one class.

Source: azeghost/Generative-Models-for-Video-Prediction (TensorFlow 2.1, commit 7332ae6, 2020), a thesis project without
a paper of its own; adversarial autoencoders after Makhzani et al. 2015, arXiv 1511.05644.

A name is four choices: trunk (convolutional or dense), memory (none, ConvLSTM, or one dense layer over all frames),
bottleneck (plain or variational) and adversary (of images, of latents, or both). Without memory a network maps one
frame to the frame `shift` later; with it, a clip to the clip `shift` later. Networks give logits; frames are their
sigmoid.

The published adversarial training cannot run and trains nothing adversarially where it does; here GA, IA and GIA are
minimax games in three stages. Further deviations are noted at the fields of the config and in
docs/models/autoencoders.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, ClipSpec, Loss, Phase, Stage, StopCondition
from framecast.models.autoencoders.config import AutoencoderConfig
from framecast.models.autoencoders.networks import (
    Decoder,
    Encoder,
    ImageDiscriminator,
    LatentDiscriminator,
    _check_size,
    kl_sampled,
    reconstruction,
    shares,
)
from framecast.models.base import Predictor, RolloutState
from framecast.models.seeds import Generators, next_tick, step_normal
from framecast.models.shrink import fit_shares, shrunk
from framecast.nn.keras import initialise
from framecast.nn.losses import bce
from framecast.nn.mixture import gaussian_kl
from framecast.nn.precision import autocast_off

#: Half a grey level: distance from black and white to which the base frame of a residual is clipped.
HALF_LEVEL = 1 / 512


class Autoencoder(Predictor):
    """Autoencoder that predicts the frame five steps ahead."""

    Config = AutoencoderConfig
    family = "generative autoencoders"
    paper = "azeghost: Generative-Models-for-Video-Prediction (code, 2020); no paper of its own"
    config: AutoencoderConfig
    shares: Tensor | None

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
        if config.residual:  # start as persistence
            last = self.decoder.last_layer()
            for p in last.parameters():
                nn.init.zeros_(p)
        self.calibration_horizon = config.shrink
        self.register_buffer("shares", torch.ones(config.shrink) if config.shrink else None)
        # Built last: with one seed, models with and without an adversary start from the same weights.
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
        """The training size: the latent's layers have one weight per pixel of the smallest map."""
        return spec.height, spec.width

    @property
    def num_context(self) -> int:
        """Number of frames that `predict` uses: the last `shift` without memory, a whole clip with it."""
        return self.config.shift if self.config.memory == "none" else self.config.episode

    @classmethod
    def is_stochastic(cls, config: AutoencoderConfig) -> bool:
        """Variational models, which sample their latents if several samples are requested."""
        return config.bottleneck == "variational"

    @classmethod
    def summary(cls, config: AutoencoderConfig) -> str:
        """The four choices in words."""
        words = ["Convolutional" if config.trunk == "conv" else "Fully connected"]
        words += ["variational"] if config.bottleneck == "variational" else []
        words += {"none": [], "lstm": ["ConvLSTM"], "time": ["time-distributed"]}[config.memory]
        judged = {"none": "", "image": ", an adversary of images", "latent": ", an adversary of latents"}
        judged["both"] = ", adversaries of images and latents"
        unit = "clip" if config.memory != "none" else "frame"
        return f"{' '.join(words)} autoencoder{judged[config.adversary]}: a {unit} to the {unit} {config.shift} later."

    @staticmethod
    def count(part: nn.Module) -> int:
        """Weights and, as the published tables count them, running statistics of batch norm."""
        statistics = [
            b for name, b in part.named_buffers() if name.rpartition(".")[2] in ("running_mean", "running_var")
        ]
        return sum(t.numel() for t in (*part.parameters(), *statistics))

    def _samples(self, frames: Tensor) -> Tensor:
        """Frames (b, t, c, h, w) as samples of the networks: single frames, or with memory clips."""
        return rearrange(frames, "b t c h w -> (b t) 1 c h w") if self.config.memory == "none" else frames

    def _moments(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """Latent, or its mean and log-variance, (n, z)."""
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

        Args:
            frames: (b, t, c, h, w) in 0…1, with memory t is `episode`.
            noise: normal (n, z) for sampled latents; None uses their mean.

        Returns:
            (b, t, c, h, w) float 0…1.
        """
        samples = self._samples(frames)
        mean, logvar = self._moments(samples)
        z = mean if noise is None or logvar is None else _drawn(mean, logvar, noise)
        return self._logits(z, samples).float().sigmoid().reshape(frames.shape)

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Reconstruction of the later frames, KL and activity terms; without the adversary.

        Parts: reconstruction, kl, activity; kl on its own scale, unweighted.
        """
        return self._loss(batch)[0]

    def _loss(self, batch: Batch) -> tuple[Loss, Tensor, Tensor]:
        """The loss, the latents (n, z) and the logits (n, t, c, h, w)."""
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
                parts["kl"] = gaussian_kl(mean, logvar).sum(1).mean()
                # The bound is a sum over values; where that is a mean, the KL is divided alike.
                values = math.prod(target.shape[1:]) if c.reduction == "mean" else 1
                total = total + c.beta / values * parts["kl"]
        if c.activity:
            outputs = [logits, mean] if logvar is None else [logits, mean, logvar]
            parts["activity"] = sum((_activity(x) for x in outputs), total.new_zeros(()))
            total = total + c.activity * parts["activity"]
        return Loss(total, {name: part.detach() for name, part in parts.items()}), z, logits

    def discriminator_loss(self, batch: Batch, step: int = 0) -> Loss:
        """Half cross-entropies of the discriminators: later frames against predicted ones, normals against latents.

        No gradient reaches encoder or decoder. Parts: image_real, image_fake, latent_real, latent_fake.

        Source:
            Goodfellow et al. 2014, equation 1; Makhzani et al. 2015, section 2.
        """
        samples, target = self._samples(batch.context), self._samples(batch.future)
        with torch.no_grad():
            z, logvar = self._moments(samples)
            if logvar is not None:
                z = _drawn(z, logvar, torch.randn_like(z))
            fakes = {"image": self._logits(z, samples).sigmoid(), "latent": z}
        reals = {"image": target, "latent": torch.randn_like(z)}
        parts: dict[str, Tensor] = {}
        for domain, discriminator in self._discriminators().items():
            real, fake = discriminator(torch.cat([reals[domain], fakes[domain].to(reals[domain].dtype)])).chunk(2)
            parts[f"{domain}_real"], parts[f"{domain}_fake"] = 0.5 * bce(real, 1.0), 0.5 * bce(fake, 0.0)
        return Loss(torch.stack(list(parts.values())).sum(), {k: v.detach() for k, v in parts.items()})

    def generator_loss(self, batch: Batch, step: int = 0) -> Loss:
        """(1-d)(1-g) loss + (1-d) g mean of the generator terms: what encoder and decoder minimise against the
        discriminators.

        Parts: those of `loss`, and image_generator, latent_generator.
        """
        plain, z, logits = self._loss(batch)
        share = shares(self.config)
        total, parts = share["reconstruction"] * plain.total, dict(plain.parts)
        fakes = {"image": logits.sigmoid(), "latent": z}
        for domain, discriminator in self._discriminators().items():
            term = bce(discriminator(fakes[domain]), 1.0)
            total = total + share["generator"] * term
            parts[f"{domain}_generator"] = term.detach()
        return Loss(total, parts)

    def _discriminators(self) -> dict[str, nn.Module]:
        """The discriminators by domain."""
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
            Phase(
                name="generator",
                seed_name="fool",  # former name; a new one would change the noise of every seed
                loss=self.generator_loss,
                modules=self._makers(),
                optimiser=rule,
            ),
        ]

    def _discriminator_phase(self) -> Phase:
        optim = self.config.optim
        names = tuple(f"{domain}_discriminator" for domain in self._discriminators())
        return Phase(
            name="discriminator",
            seed_name="judge",  # former name; a new one would change the noise of every seed
            loss=self.discriminator_loss,
            modules=names,
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
        """Clips, the true and predicted frames `shift` later; and images of random latents where latents are trained to
        be normal (elsewhere such images are meaningless)."""
        rows = {"context": batch.context, "truth": batch.future, "prediction": self(batch.context)}
        if self.config.bottleneck == "variational" or self.config.adversary in ("latent", "both"):
            generator = torch.Generator().manual_seed(0)
            count = self.config.shift if self.config.memory == "none" else 1
            z = torch.randn(batch.size, count, self.config.latent, generator=generator)
            rows["samples"] = self.decode(z.to(batch.context.device), batch.context)
        return rows

    def initial_state(
        self, frames: Tensor, actions: Tensor | None, samples: int, generator: Generators
    ) -> RolloutState:
        """That of each clip; one sample of a variational model takes the mean of latents, so it has no seeds."""
        state = super().initial_state(frames, actions, samples, generator)
        return state if samples > 1 else {k: v for k, v in state.items() if k not in ("seed", "tick")}

    def clip_state(self, frames: Tensor, actions: Tensor | None) -> RolloutState:
        """window: the last frames, true or predicted, (b, t, c, h, w) 0…1.  queue: predicted frames not yet returned,
        empty at first.  With shares also last: the last true frame, (b, c, h, w), and lead: frames returned, (b,)."""
        own = self.frame_size(self.config, self.spec)
        if tuple(frames.shape[-2:]) != own:
            raise ValueError(
                f"{type(self).__name__} was built for frames of {own[0]}x{own[1]}, got {frames.shape[-2]}x"
                f"{frames.shape[-1]}; resize them"
            )
        state = {"window": frames, "queue": frames[:, :0]}
        if self.shares is not None:
            state |= {"last": frames[:, -1], "lead": torch.zeros(len(frames), dtype=torch.int64, device=frames.device)}
        return state

    @torch.no_grad()
    def rollout_step(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The next state and frame; the networks run when the queue is empty, once per block of `shift` frames."""
        new = dict(state)
        if new["queue"].shape[1] == 0:
            noise = None
            if "seed" in state:
                each = self.num_context if self.config.memory == "none" else 1
                noise = step_normal(state, (each, self.config.latent)).flatten(0, 1)
                new = next_tick(state)
            new["queue"] = self(new["window"], noise)[:, -self.config.shift :]
            new["window"] = torch.cat([new["window"], new["queue"]], 1)[:, -self.num_context :]
        frame, new["queue"] = new["queue"][:, 0], new["queue"][:, 1:]
        if self.shares is None:
            return new, frame
        lead = new["lead"] + 1
        return {**new, "lead": lead}, shrunk(frame[:, None], new["last"], self.shares, lead)[:, 0]

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Set the shares of the change from the last true frame that are kept, from held-out clips."""
        if self.shares is not None:
            fit_shares(self, self.shares, batches)

    def encode(self, frames: Tensor) -> Tensor:
        """Latents (b, t, z) of frames (b, t, c, h, w), of variational models the mean; with memory one per whole clip,
        counted from the end."""
        if self.config.memory == "none":
            return rearrange(self._moments(self._samples(frames))[0], "(b t) z -> b t z", b=len(frames))
        n = frames.shape[1] // self.config.episode
        if n < 1:
            raise UserError(
                f"a latent encodes a clip of {self.config.episode} frames, got {frames.shape[1]}; pass more"
            )
        clips = rearrange(frames[:, -n * self.config.episode :], "b (n t) c h w -> (b n) t c h w", n=n)
        return rearrange(self._moments(clips)[0], "(b n) z -> b n z", n=n)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Frames (b, t, c, h, w) 0…1, `shift` after the frames with latents z (b, t, z); with memory a clip per latent.
        A residual model adds to the last frame of context (b, t, c, h, w); without it, to mid-grey."""
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
