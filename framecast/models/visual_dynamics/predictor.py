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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.schedules import Cosine
from framecast.core.types import Batch, ClipRequest, ClipSpec, GradClip, Loss, Optimiser, Phase, TargetBlocks
from framecast.models.base import Predictor, RolloutState
from framecast.models.inputs import Frames
from framecast.models.seeds import Generators, next_tick, step_normal, step_uniform
from framecast.models.shrink import fit_shares
from framecast.models.visual_dynamics.config import VisualDynamicsConfig
from framecast.models.visual_dynamics.networks import (
    ImageEncoder,
    KernelDecoder,
    MotionDecoder,
    MotionEncoder,
)
from framecast.nn.conv import cross_convolve
from framecast.nn.losses import gdl, lp
from framecast.nn.mixture import gaussian_kl
from framecast.nn.precision import autocast_off

#: Samples of a preview, between the first frame and the true second one.
PREVIEW_SAMPLES = 6
#: Frames of a best guess that are drawn at once.
_AT_ONCE = 8
#: Steps over which a rate that falls along a cosine rises first.
_WARMUP = 50


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
    shares: Tensor | None

    def __init__(self, config: VisualDynamicsConfig, spec: ClipSpec):
        super().__init__(config, spec)
        self.image_encoder = ImageEncoder(config, config.context * spec.channels)
        self.motion_encoder = MotionEncoder(config, spec.channels)
        self.kernel_decoder = KernelDecoder(config)
        self.motion_decoder = MotionDecoder(config, spec.channels)
        self._initialise()
        # Half floats stored as integers, which weight averaging skips: a mean of posteriors of different pairs is no
        # posterior of any.
        self.register_buffer("posteriors", torch.zeros(config.stored, 2, config.z_size, dtype=torch.int16))
        self.register_buffer("num_stored", torch.zeros((), dtype=torch.int64))
        shrinks = config.shrink and config.horizon > 1 and config.guess_weight > 0
        self.calibration_horizon = config.horizon if shrinks else 0
        self.register_buffer("shares", torch.ones(config.horizon) if shrinks else None)
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
        if c.output == "mixed":
            self.motion_decoder.start_as_copy()
        if c.output == "composed":
            self.motion_decoder.start_uncovered()
        self.image_encoder.start_independent()
        if c.decoder_frame:
            self.motion_decoder.start_without_frame()

    @classmethod
    def request(cls, config: VisualDynamicsConfig) -> ClipRequest:
        """The context and the next frame, or target frames up to the horizon, resized to the model's size if it has
        one."""
        blocks = TargetBlocks(length=1, count=config.targets, first=1.0) if config.horizon > 1 else None
        return ClipRequest(
            context=config.context,
            future=config.horizon,
            resize=(config.size, config.size) if config.resize else None,
            crop=None if config.crop is None else (config.crop, config.crop),
            crop_at_most=True,
            targets=blocks,
        )

    @classmethod
    def fit_to_data(cls, config: VisualDynamicsConfig, holds: Callable[[ClipRequest], bool]) -> VisualDynamicsConfig:
        """The config with the longest horizon, halved again and again, and then the longest context that the data have;
        of pairs one frame each."""
        while config.horizon > 1 and not holds(cls.request(config)):
            config = replace(config, horizon=config.horizon // 2)
        while config.context > 1 and not holds(cls.request(config)):
            config = replace(config, context=config.context - 1)
        return config

    @property
    def min_context(self) -> int:
        """One frame: before the first it is taken to have stood still."""
        return 1

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
        if o.cosine:
            optimiser = replace(optimiser, schedule=Cosine(), warmup=_WARMUP)
        clip = GradClip(kind="global", value=o.clip) if o.clip else GradClip()
        return [Phase(name="main", loss=self.loss, optimiser=optimiser, clip=clip)]

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Error of the change to the next frame, in -1…1 units, squared as published, plus the weighted KL divergence
        of its z from N(0, I), and with `guess_weight` the weighted error of the changes to all targets with z = 0.

        Parts: l2, mean over clips, pixels and channels, relative to copy-last as configured; kl, mean over clips and
        numbers of z, in nats; guess, as the error that is trained, and over targets; gdl, the gradient-difference loss.
        In training mode the pairs' posteriors are stored, replacing the oldest.

        Source:
            Equation 7 of the paper; means in place of sums and the weight as in the published code. The best guess is
            framecast's own.
        """
        c, t = self.config, batch.future.shape[1] if self.config.guess_weight else 1
        first, seconds = _inside(batch.context[:, -1]), _inside(batch.future[:, :t].transpose(0, 1).flatten(0, 1))
        second = seconds[: len(first)]  # the next frame is the first target
        mean, logvar = self.motion_encoder(self._padded(first), self._padded(second))
        if self.training:
            self._store(mean, logvar)
        z = (mean + (0.5 * logvar).exp() * torch.randn_like(mean))[None]
        leads = torch.ones_like(z[..., 0])
        if c.guess_weight:
            z = torch.cat([z, torch.zeros_like(z).expand(t, -1, -1)])
            leads = torch.cat([leads, leads if batch.lead_times is None else batch.lead_times.T.to(leads.dtype)])
        window = self._window(batch.context)
        changes = self._change(self._features(window), z, window, leads)
        change, *guesses = torch.split(
            changes, [len(first), len(changes) - len(first)] if c.guess_weight else len(first)
        )
        wanted = second - first
        error, kl = self._error(change, wanted), gaussian_kl(mean, logvar).mean()
        total, parts = error + c.kl_weight(step) * kl, {"l2": error.detach(), "kl": kl.detach()}
        if c.lp_exponent != 2:
            parts["l2"] = self._error(change.detach(), wanted, 2.0)
        if c.gdl_weight:
            edges = gdl(first + change, second)
            total, parts["gdl"] = total + c.gdl_weight * edges, edges.detach()
        if c.guess_weight:
            guess = self._error(guesses[0], seconds - first.repeat(t, 1, 1, 1))
            total, parts["guess"] = total + c.guess_weight * guess, guess.detach()
        return Loss(total, parts)

    def _error(self, change: Tensor, wanted: Tensor, exponent: float | None = None) -> Tensor:
        """Mean error of changes (n, c, h, w) in units of -1…1, relative to copy-last and to a power as configured."""
        exponent = exponent or self.config.lp_exponent
        if not self.config.relative:
            return (change - wanted).square().mean() if exponent == 2 else lp(change, wanted, exponent)
        with autocast_off(change):
            error, still = (x.float().abs().pow(exponent).mean((1, 2, 3)) for x in (change - wanted, wanted))
            return (error / (still + self.config.relative)).mean()

    def _window(self, frames: Tensor) -> Tensor:
        """The last context frames in -1…1, (b, n, c, h, w); the first is repeated where there are fewer."""
        n = self.config.context
        missing = n - frames.shape[1]
        if missing > 0:
            frames = torch.cat([frames[:, :1].expand(-1, missing, -1, -1, -1), frames], 1)
        return frames[:, -n:] * 2 - 1

    def _padded(self, x: Tensor) -> Tensor:
        """Images (b, c, h, w) with sides of whole cells; unchanged where frames are resized."""
        if self.config.resize:
            return x
        h, w = x.shape[-2:]
        height, width = self.config.padded(h, w)
        return x if (h, w) == (height, width) else F.pad(x, (0, width - w, 0, height - h), mode="replicate")

    def _features(self, window: Tensor) -> list[Tensor]:
        """Feature maps (b, maps, h_k, w_k) of a window."""
        stacked = window.flatten(1, 2).contiguous(memory_format=torch.channels_last)
        maps: list[Tensor] = self.image_encoder(self._padded(stacked))
        return maps

    def _change(self, maps: Sequence[Tensor], z: Tensor, window: Tensor, leads: Tensor | None = None) -> Tensor:
        """Changes of the last frame (s b, c, h, w), in units of -1…1.

        With mixed output that is the mean of the difference image and of the changes to the frames of the window, by
        softmax weights of every pixel; with composed output `_composed`.

        Args:
            maps: of b windows.
            z: (s, b, z).
            window: (b, n, c, h, w) in -1…1.
            leads: lead times (s, b) in frames; None is the next frame.
        """
        s, (h, w) = len(z), window.shape[-2:]
        kernels = self.kernel_decoder(
            z.flatten(0, 1), (torch.ones_like(z[..., 0]) if leads is None else leads).flatten()
        )
        moved = [
            cross_convolve(each, rearrange(kernel, "(s b) c i j -> s b c i j", s=s))
            for each, kernel in zip(maps, kernels, strict=True)
        ]
        size = (h, w) if self.config.resize else self.config.padded(h, w)
        output: Tensor = self.motion_decoder(moved, size, self._padded(window[:, -1]))
        output = output[..., :h, :w]
        if self.config.output == "difference":
            return output
        if self.config.output == "composed":
            return _composed(output, window[:, -1].repeat(s, 1, 1, 1))
        difference, logits = torch.split(output, [window.shape[2], self.config.context + 1], 1)
        with autocast_off(output):
            last = window[:, -1]
            *weights, drawn = logits.float().softmax(1).split(1, 1)  # type: ignore[no-untyped-call]
            change: Tensor = drawn * difference.float()
            for weight, frame in zip(weights[:-1], window[:, :-1].unbind(1), strict=True):
                change = change + weight * (frame - last).float().repeat(s, 1, 1, 1)
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
        """The next `horizon` frames, (s, b, horizon, c, h, w) 0…1.

        Each is made from the previous one by its own latent; of one sample, where that is trained, each is the best
        guess from the context.

        Frames that are not resized may have any size, others one whose maps nest (`VisualDynamicsConfig.check_size`);
        motions are learnt in pixels.
        Unlike in the default, the image encoder runs once for all samples of the first frame, and once for a whole best
        guess; the motion encoder does not run.
        """
        assert isinstance(context, Tensor)
        state, copies, frames = self.rollout_init(context, None, samples, generator), samples, []
        if "lead" in state:
            return self._guess(state["window"], horizon)[None].expand(samples, -1, -1, -1, -1, -1)
        window = state["window"][: len(context)]
        for _ in range(horizon):
            z = rearrange(self._drawn(state), "(s b) z -> s b z", s=copies)
            frame = self._next(window, z)
            window = torch.cat([window.repeat(copies, 1, 1, 1, 1)[:, 1:], frame[:, None]], 1)
            state, copies = next_tick(state), 1  # from now on every sample has its own frames
            frames.append(frame)
        return rearrange(torch.stack(frames, 1), "(s b) t c h w -> s b t c h w", s=samples)

    def _guess(self, window: Tensor, horizon: int) -> Tensor:
        """Best guesses (b, horizon, c, h, w) 0…1 of all frames after a window (b, n, c, h, w) in 0…1."""
        inside, b = window * 2 - 1, len(window)
        maps, frames = self._features(inside), []
        for part in torch.split(torch.arange(horizon, device=window.device), _AT_ONCE):
            leads = part[:, None].expand(-1, b)
            frames.append(self._guessed(window, maps, leads))
        return rearrange(torch.cat(frames), "t b c h w -> b t c h w")

    def _guessed(self, window: Tensor, maps: Sequence[Tensor], leads: Tensor) -> Tensor:
        """Best guesses (s, b, c, h, w) 0…1, each `leads` (s, b) frames after the next one, shrunk as calibrated."""
        s, b = leads.shape
        known = leads.clamp_max(self.config.horizon - 1)
        z = window.new_zeros(s, b, self.config.z_size)
        change = self._change(maps, z, window * 2 - 1, known.to(window.dtype) + 1)
        change = rearrange(change, "(s b) c h w -> s b c h w", s=s)
        last = window[:, -1]
        frames = (last + change.float() / 2).clamp(0, 1)
        return frames if self.shares is None else torch.lerp(last, frames, self.shares[known].view(s, b, 1, 1, 1))

    def initial_state(
        self, frames: Tensor, actions: Tensor | None, samples: int, generator: Generators
    ) -> RolloutState:
        """That of each clip. One sample is the best guess where that is trained: without seeds, and with a horizon its
        window stays the true context, of which the lead time is counted (lead, (b,))."""
        state = super().initial_state(frames, actions, samples, generator)
        if samples > 1 or not self.config.guess_weight:
            return state
        state = {"window": state["window"]}
        if self.config.horizon > 1:
            state["lead"] = torch.zeros(len(frames), dtype=torch.int64, device=frames.device)
        return state

    def clip_state(self, frames: Tensor, actions: Tensor | None) -> RolloutState:
        """window: the last frames, true or predicted, (b, n, c, h, w) 0…1."""
        if self.config.resize:
            self.config.check_size(*frames.shape[-2:])
        self._check_prior(self.config.prior)
        missing = self.config.context - frames.shape[1]
        return {"window": torch.cat([frames[:, :1].expand(-1, missing, -1, -1, -1), frames], 1) if missing else frames}

    @torch.no_grad()
    def rollout_step(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The next state and frame, by a latent of this step, or the best guess of this lead time."""
        window = state["window"]
        if "lead" in state:
            frame = self._guessed(window, self._features(window * 2 - 1), state["lead"][None])[0]
            return {**state, "lead": state["lead"] + 1}, frame
        frame = self._next(window, self._drawn(state)[None])
        return {**next_tick(state), "window": torch.cat([window[:, 1:], frame[:, None]], 1)}, frame

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Set the shares of the best guess's change from the last true frame that are kept, from held-out clips."""
        if self.shares is not None:
            fit_shares(self, self.shares, batches)

    def _drawn(self, state: RolloutState) -> Tensor:
        """Latents of this step, (s b, z); the mean of the prior N(0, I) for a best guess, which has no seeds."""
        if "seed" not in state:
            return state["window"].new_zeros(len(state["window"]), self.config.z_size)
        noise = step_normal(state, (self.config.z_size,))
        if self.config.prior == "normal":
            return noise
        return self._posterior_draw(noise, step_uniform(state, (), draw=1))

    def _next(self, window: Tensor, z: Tensor) -> Tensor:
        """Frames (s b, c, h, w) 0…1 that follow a window (b, n, c, h, w) 0…1 under latents (s, b, z)."""
        inside = window * 2 - 1
        change = self._change(self._features(inside), z, inside)
        return ((inside[:, -1].repeat(len(z), 1, 1, 1) + change + 1) / 2).clamp(0, 1)

    @torch.no_grad()
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """The last frame, six samples of the next along time, the true targets, and as the prediction the first sample,
        or the best guesses of the targets."""
        drawn = self.predict(batch.context, 1, samples=PREVIEW_SAMPLES)
        rows = {"context": batch.context[:, -1:], "samples": rearrange(drawn, "s b 1 c h w -> b s c h w")}
        guesses = {} if batch.lead_times is None else super().preview(batch)
        prediction = guesses.get("prediction", rows["samples"][:, :1])
        return {**rows, "truth": batch.future, "prediction": prediction}

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent of every motion, (b, t - 1, z) each.

        Args:
            frames: (b, t, c, h, w) 0…1, t at least 2, of the model's own size; latent i leads from frame i to frame i +
                1.

        Raises:
            UserError: for another size, or a single frame.
        """
        side = self.config.size
        if frames.shape[1] < 2 or (self.config.resize and tuple(frames.shape[-2:]) != (side, side)):
            raise UserError(
                f"a motion is encoded from at least two frames of {side}x{side}, got {frames.shape[1]} of "
                f"{frames.shape[-2]}x{frames.shape[-1]}"
            )
        b = len(frames)
        first, second = _inside(frames[:, :-1].flatten(0, 1)), _inside(frames[:, 1:].flatten(0, 1))
        mean, logvar = self.motion_encoder(self._padded(first), self._padded(second))
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
        window, frames = (self._window(context) + 1) / 2, []
        for latent in z.unbind(1):
            frames.append(self._next(window, latent[None]))
            window = torch.cat([window[:, 1:], frames[-1][:, None]], 1)
        return torch.stack(frames, 1)

    def features(self, frame: Tensor) -> list[Tensor]:
        """Feature maps (b, maps, h_k, w_k) of frames (b, c, h, w) 0…1, finest scale first."""
        return self._features(self._window(frame[:, None]))

    def kernels(self, z: Tensor) -> list[Tensor]:
        """Kernels (b, maps, k, k) of latents (b, z) for the next frame, finest scale first."""
        kernels: list[Tensor] = self.kernel_decoder(z, torch.ones_like(z[:, 0]))
        return kernels


def _composed(output: Tensor, last: Tensor) -> Tensor:
    """Changes (n, c, h, w) of last frames: new colours over the frame plus the difference image, by their opacity.

    Args:
        output: (n, 2 c + 1, h, w): difference image, new colours, logit of the opacity.
        last: (n, c, h, w) in -1…1.
    """
    c = last.shape[1]
    with autocast_off(output):
        difference, colours, logit = torch.split(output.float(), [c, c, 1], 1)
        return torch.lerp(difference, colours - last.float(), logit.sigmoid())


def _inside(frames: Tensor) -> Tensor:
    """Frames (b, c, h, w) 0…1 as -1…1, channels last."""
    return frames.contiguous(memory_format=torch.channels_last) * 2 - 1
