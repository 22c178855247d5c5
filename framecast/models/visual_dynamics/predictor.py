"""Many futures of one image, by cross convolution.

Paper: Xue, Wu, Bouman, Freeman, "Visual Dynamics: Probabilistic Future Frame Synthesis via Cross Convolutional
Networks", NIPS 2016, arXiv 1607.02586. A conditional variational autoencoder: a motion encoder sees two frames and
gives a Gaussian over a latent z; a kernel decoder makes small convolution kernels of z; an image encoder turns the
first frame into feature maps at several scales; every map is convolved with its own kernel; a motion decoder makes a
difference image of the result, which is added to the first frame. In prediction, z is sampled from the prior.

Deviations from the paper and the published codes, with reasons, are noted at each field of the config and in
docs/models/visual-dynamics.md. Frames are 0…1 outside and -1…1 inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, ClipSpec, GradClip, Loss, Optimiser, Phase
from framecast.models.base import Predictor, RolloutState
from framecast.models.inputs import Frames
from framecast.models.seeds import Generators, next_tick, step_normal, step_uniform
from framecast.models.visual_dynamics.config import VisualDynamicsConfig
from framecast.models.visual_dynamics.networks import (
    ImageEncoder,
    KernelDecoder,
    MotionDecoder,
    MotionEncoder,
)
from framecast.nn.conv import cross_convolve
from framecast.nn.mixture import gaussian_kl

#: Samples of a preview, between the first frame and the true second one.
PREVIEW_SAMPLES = 6


class VisualDynamics(Predictor):
    """Many futures of one image: cross convolutions with kernels made from a random latent."""

    Config = VisualDynamicsConfig
    family = "cross convolutional networks"
    paper = (
        "Xue, Wu, Bouman, Freeman: Visual Dynamics: Probabilistic Future Frame Synthesis via Cross Convolutional "
        "Networks, NIPS 2016, arXiv 1607.02586"
    )
    stochastic = True
    clip_generators = True
    config: VisualDynamicsConfig
    posteriors: Tensor
    num_stored: Tensor

    def __init__(self, config: VisualDynamicsConfig, spec: ClipSpec):
        super().__init__(config, spec)
        self.image_encoder = ImageEncoder(config, spec.channels)
        self.motion_encoder = MotionEncoder(config, spec.channels)
        self.kernel_decoder = KernelDecoder(config)
        self.motion_decoder = MotionDecoder(config, spec.channels)
        self._initialise()
        # Half floats stored as integers, which weight averaging skips: a mean of posteriors of different pairs is no
        # posterior of any.
        self.register_buffer("posteriors", torch.zeros(config.stored, 2, config.z_size, dtype=torch.int16))
        self.register_buffer("num_stored", torch.zeros((), dtype=torch.int64))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _initialise(self) -> None:
        c = self.config
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                if c.init_sd is None:
                    nn.init.kaiming_normal_(layer.weight, a=c.slope)
                else:
                    nn.init.trunc_normal_(layer.weight, std=c.init_sd, a=-2 * c.init_sd, b=2 * c.init_sd)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        if c.split == "channel":
            last = self.motion_encoder.layers[-1]
            assert isinstance(last, nn.Conv2d)
            assert last.bias is not None
            nn.init.constant_(last.bias[c.z_channels :], c.start_logvar)

    @classmethod
    def request(cls, config: VisualDynamicsConfig) -> ClipRequest:
        """Two frames, resized to the model's size."""
        return ClipRequest(context=1, future=1, resize=(config.size, config.size))

    @classmethod
    def resolve_schedules(cls, config: VisualDynamicsConfig, steps_per_epoch: int) -> VisualDynamicsConfig:
        """The schedules of KL weight and learning rate in steps; of weights of the same step the last one counts."""
        steps = tuple({float(round(epoch * steps_per_epoch)): weight for epoch, weight in config.kl_weights}.items())
        optim = replace(config.optim, decay_steps=round(config.optim.decay_epochs * steps_per_epoch))
        return replace(config, kl_steps=steps, optim=optim)

    @classmethod
    def scale_schedules(cls, config: VisualDynamicsConfig, factor: float) -> VisualDynamicsConfig:
        """The epochs of the KL weights and of the learning rate's decay, times `factor`."""
        weights = tuple((epoch * factor, weight) for epoch, weight in config.kl_weights)
        optim = replace(config.optim, decay_epochs=config.optim.decay_epochs * factor)
        return replace(config, kl_weights=weights, optim=optim)

    def phases(self) -> list[Phase]:
        """One phase that trains everything."""
        o = self.config.optim
        optimiser = Optimiser(lr=o.rate, betas=o.betas, eps=o.eps)
        clip = GradClip(kind="global", value=o.clip) if o.clip else GradClip()
        return [Phase(name="main", loss=self.loss, optimiser=optimiser, clip=clip)]

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Squared error of the difference image, in -1…1 units, plus the weighted KL divergence of z from N(0, I).

        Parts: l2, mean over clips, pixels and channels; kl, mean over clips and numbers of z, in nats.
        In training mode the pairs' posteriors are stored, replacing the oldest.

        Source:
            Equation 7 of the paper; means in place of sums and the weight as in the published code.
        """
        first, second = _inside(batch.context[:, -1]), _inside(batch.future[:, 0])
        mean, logvar = self.motion_encoder(first, second)
        if self.training:
            self._store(mean, logvar)
        z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
        change = self._change(self.image_encoder(first), z[None], first.shape[-2:])
        l2 = (change - (second - first)).square().mean()
        kl = gaussian_kl(mean, logvar).mean()
        return Loss(l2 + self.config.kl_weight(step) * kl, {"l2": l2.detach(), "kl": kl.detach()})

    def _change(self, maps: Sequence[Tensor], z: Tensor, size: Sequence[int]) -> Tensor:
        """Difference images (s b, c, h, w).

        Args:
            maps: of b frames.
            z: (s, b, z).
        """
        s = len(z)
        kernels = self.kernel_decoder(z.flatten(0, 1))
        moved = [
            cross_convolve(each, rearrange(kernel, "(s b) c i j -> s b c i j", s=s))
            for each, kernel in zip(maps, kernels, strict=True)
        ]
        change: Tensor = self.motion_decoder(moved, (size[0], size[1]))
        return change

    @torch.no_grad()
    def _store(self, mean: Tensor, logvar: Tensor) -> None:
        room = self.config.stored
        if not room:
            return
        new = torch.stack([mean, logvar], 1)[-room:].half().view(torch.int16)
        at = (self.num_stored + torch.arange(len(new), device=new.device)) % room
        self.posteriors[at] = new
        self.num_stored += len(new)

    def draw(self, count: int, prior: str | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Random latents for prediction, (count, z).

        Args:
            prior: "normal" for N(0, I), "posterior" for the posteriors of stored training pairs; None as configured.

        Raises:
            UserError: if posteriors are asked for and none are stored.
        """
        prior, device = prior or self.config.prior, self.num_stored.device
        place = generator.device if generator is not None else device
        noise = torch.randn(count, self.config.z_size, generator=generator, device=place).to(device)
        if prior == "normal":
            return noise
        self._check_prior(prior)
        return self._posterior_draw(noise, torch.rand(count, generator=generator, device=place).to(device))

    def _check_prior(self, prior: str) -> None:
        """Raises: UserError for an unknown prior, or posteriors where none are stored."""
        if prior not in ("normal", "posterior"):
            raise UserError(f"prior {prior!r} is unknown; use normal or posterior")
        if prior == "posterior" and not min(int(self.num_stored), self.config.stored):
            raise UserError(
                "this run has no stored posteriors to sample from; train with model.stored above 0, or use the prior "
                "normal"
            )

    def _posterior_draw(self, noise: Tensor, share: Tensor) -> Tensor:
        """Latents (n, z) from noise of N(0, 1), (n, z), and stored posteriors chosen by uniform numbers, (n,)."""
        known = self.num_stored.clamp(max=self.config.stored)
        chosen = (share * known).long().clamp(max=known - 1)
        mean, logvar = self.posteriors[chosen].view(torch.float16).float().unbind(1)
        return mean + (0.5 * logvar).exp() * noise

    def predict(
        self,
        context: Frames,
        horizon: int,
        actions: Frames | None = None,
        samples: int = 1,
        generator: Generators = None,
    ) -> Tensor:
        """The next `horizon` frames, each from the previous one by its own latent: (s, b, horizon, c, h, w) 0…1.

        Frames may be of any size whose maps nest (`VisualDynamicsConfig.check_size`); motions are learnt in pixels.
        Unlike in the default, the image encoder runs once for all samples of the first frame; the motion encoder does
        not run.
        """
        assert isinstance(context, Tensor)
        frame, frames, copies = context[:, -1], [], samples
        state = self.rollout_init(context, None, samples, generator)
        for _ in range(horizon):
            z = rearrange(self._drawn(state), "(s b) z -> s b z", s=copies)
            frame, state = self._next(frame, z), next_tick(state)
            copies = 1  # from now on every sample has its own frame
            frames.append(frame)
        return rearrange(torch.stack(frames, 1), "(s b) t c h w -> s b t c h w", s=samples)

    def clip_state(self, frames: Tensor, actions: Tensor | None) -> RolloutState:
        """The last frame, (b, c, h, w) 0…1."""
        self.config.check_size(*frames.shape[-2:])
        self._check_prior(self.config.prior)
        return {"frame": frames[:, -1]}

    @torch.no_grad()
    def rollout_step(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The next state and frame, by a latent of this step."""
        frame = self._next(state["frame"], self._drawn(state)[None])
        return {**next_tick(state), "frame": frame}, frame

    def _drawn(self, state: RolloutState) -> Tensor:
        """Latents of this step, (s b, z)."""
        noise = step_normal(state, (self.config.z_size,))
        if self.config.prior == "normal":
            return noise
        return self._posterior_draw(noise, step_uniform(state, (), draw=1))

    def _next(self, frame: Tensor, z: Tensor) -> Tensor:
        """Frames (s b, c, h, w) 0…1 that follow `frame` (b, c, h, w) under latents (s, b, z)."""
        first = _inside(frame)
        change = self._change(self.image_encoder(first), z, first.shape[-2:])
        return ((first.repeat(len(z), 1, 1, 1) + change + 1) / 2).clamp(0, 1)

    @torch.no_grad()
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """The first frame, six samples along time, the true second frame, and the first sample as the prediction."""
        samples = rearrange(self.predict(batch.context, 1, samples=PREVIEW_SAMPLES), "s b 1 c h w -> b s c h w")
        return {
            "context": batch.context[:, -1:],
            "samples": samples,
            "truth": batch.future,
            "prediction": samples[:, :1],
        }

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent of every motion, (b, t - 1, z) each.

        Args:
            frames: (b, t, c, h, w) 0…1, t at least 2, of the model's own size; latent i leads from frame i to frame i +
                1.

        Raises:
            UserError: for another size, or a single frame.
        """
        side = self.config.size
        if frames.shape[1] < 2 or tuple(frames.shape[-2:]) != (side, side):
            raise UserError(
                f"a motion is encoded from at least two frames of {side}x{side}, got {frames.shape[1]} of "
                f"{frames.shape[-2]}x{frames.shape[-1]}"
            )
        b = len(frames)
        first, second = _inside(frames[:, :-1].flatten(0, 1)), _inside(frames[:, 1:].flatten(0, 1))
        mean, logvar = self.motion_encoder(first, second)
        return mean.unflatten(0, (b, -1)), logvar.unflatten(0, (b, -1))

    def encode(self, frames: Tensor) -> Tensor:
        """The mean latent of every motion, (b, t - 1, z); see `posterior`."""
        return self.posterior(frames)[0]

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Frames (b, t, c, h, w) 0…1 that follow the last context frame under latents z (b, t, z).

        Args:
            context: (b, t', c, h, w) 0…1.

        Raises:
            UserError: without context.
        """
        if context is None:
            raise UserError("a latent of this model is a motion; pass the context frame that it moves")
        frame, frames = context[:, -1], []
        for latent in z.unbind(1):
            frame = self._next(frame, latent[None])
            frames.append(frame)
        return torch.stack(frames, 1)

    def features(self, frame: Tensor) -> list[Tensor]:
        """Feature maps (b, maps, h_k, w_k) of frames (b, c, h, w) 0…1, finest scale first."""
        maps: list[Tensor] = self.image_encoder(_inside(frame))
        return maps

    def kernels(self, z: Tensor) -> list[Tensor]:
        """Kernels (b, maps, k, k) of latents (b, z), finest scale first."""
        kernels: list[Tensor] = self.kernel_decoder(z)
        return kernels


def _inside(frames: Tensor) -> Tensor:
    """Frames (b, c, h, w) 0…1 as -1…1, channels last."""
    return frames.contiguous(memory_format=torch.channels_last) * 2 - 1
