"""Multi-scale adversarial next-frame prediction.

Paper: Mathieu, Couprie, LeCun, "Deep multi-scale video prediction beyond mean square error", ICLR 2016, arXiv
1511.05440. A fully convolutional generator predicts the next frames at four scales, each scale from the downsampled
context and the upsampled prediction of the coarser one; a discriminator per scale, used in training only, scores
patches. No noise, no actions. Longer futures come from feeding predictions back.

Deviations from the paper and the two published codes, with reasons, are noted at each field of the config, in
config.py, and in docs/models/multiscale-gan.md. Frames are 0…1 outside and -1…1 inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, ClipSpec, Loss, MotionFilter, Phase
from framecast.models.base import Predictor, RolloutState
from framecast.models.multiscale_gan.config import MultiscaleGANConfig
from framecast.models.multiscale_gan.moving import FRAMES, foreground, mixed, nearest_colours, palette_of
from framecast.models.multiscale_gan.networks import Discriminator, Generator, GeneratorScale, ScaleOutput
from framecast.nn.augment import augment
from framecast.nn.init import initialise
from framecast.nn.losses import bce, gdl, lp
from framecast.nn.precision import autocast_off
from framecast.nn.scales import pyramid


@dataclass(frozen=True)
class _Run:
    """One run of the generator in training, coarse to fine.

    Attributes:
        outputs: at every scale.
        truths: the true frames, (b, t' c, h, w) in -1…1.
        weights: of their pixels in the pixel loss, (b, t' c, h, w); one None for every scale where all weigh the same.
    """

    outputs: list[ScaleOutput]
    truths: list[Tensor]
    weights: list[Tensor] | list[None]

    @property
    def predictions(self) -> list[Tensor]:
        """Predicted frames at every scale."""
        return [output.frame for output in self.outputs]


class MultiscaleGAN(Predictor):
    """Multi-scale generator, trained with pixel, gradient-difference and adversarial losses."""

    Config = MultiscaleGANConfig
    family = "multi-scale adversarial prediction"
    paper = (
        "Mathieu, Couprie, LeCun: Deep multi-scale video prediction beyond mean square error, ICLR 2016, "
        "arXiv 1511.05440"
    )
    config: MultiscaleGANConfig

    def __init__(self, config: MultiscaleGANConfig, spec: ClipSpec):
        super().__init__(config, spec)
        self.generator = Generator(config, spec.channels)
        initialise(self.generator, config.init, config.generator_slope)
        for scale in self._scales():
            scale.begin_gates()
        if config.output == "change":  # no change at first
            for scale in self._scales():
                for last in list(scale.parameters())[-2:]:
                    nn.init.zeros_(last)
        self.palette = palette_of(config.palette, spec.channels) if config.palette else None
        self.discriminator: Discriminator | None = None
        if config.adversarial:  # after the generator: with one seed, runs without it start from the same weights
            self.discriminator = Discriminator(config, spec.channels)
            initialise(self.discriminator, config.init, config.leaky_slope)
            if config.spectral_norm:
                self.discriminator.normalise()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def request(cls, config: MultiscaleGANConfig) -> ClipRequest:
        """Square crops with motion."""
        motion = None
        if config.motion_threshold is not None:
            motion = MotionFilter(
                threshold=config.motion_threshold, bypass=config.motion_bypass, tries=config.motion_tries
            )
        future = config.future * config.recursion
        if config.foreground_weight:
            future = max(future, FRAMES - config.context)
        return ClipRequest(
            context=config.context,
            future=future,
            stride=config.stride,
            crop=(config.patch, config.patch),
            motion_filter=motion,
        )

    @classmethod
    def inference_only(cls, config: MultiscaleGANConfig) -> MultiscaleGANConfig:
        """The config without the discriminator, unless that is its only loss."""
        return replace(config, adversarial=False) if config.lp_weight or config.gdl_weight else config

    def subnetworks(self) -> dict[str, nn.Module]:
        """generator, and discriminator where there is one."""
        parts: dict[str, nn.Module] = {"generator": self.generator}
        if self.discriminator is not None:
            parts["discriminator"] = self.discriminator
        return parts

    def phases(self) -> list[Phase]:
        """The discriminator on its own batches, then the generator; only the latter without a discriminator."""
        generator = Phase(
            name="generator",
            loss=self.generator_loss,
            modules=("generator",),
            optimiser=self.config.optim.optimiser("generator"),
            clip=self.config.optim.clip,
        )
        if self.discriminator is None:
            return [generator]
        discriminator = Phase(
            name="discriminator",
            loss=self.discriminator_loss,
            modules=("discriminator",),
            optimiser=self.config.optim.optimiser("discriminator"),
            stream="discriminator",
        )
        return [discriminator, generator]

    def initialize_from_batch(self, batch: Batch) -> None:
        """Set the generator's last biases so that every scale starts with the mean colour of the batch."""
        if not self.config.start_at_mean or self.config.output == "change":
            return
        frames = torch.cat([batch.context, batch.future], 1)
        mean = (2 * frames.mean((0, 1, 3, 4)) - 1).repeat(self.config.future)
        for k, scale in enumerate(self._scales()):
            scale.begin_at(mean, guessed=k > 0)

    def _scales(self) -> list[GeneratorScale]:
        return [scale for scale in self.generator.scales if isinstance(scale, GeneratorScale)]

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """The generator's loss, without the adversarial term for frames that are not of the patch size."""
        return self._generator_loss(batch, adversarial=tuple(batch.future.shape[-2:]) == (self.config.patch,) * 2)

    def generator_loss(self, batch: Batch, step: int = 0) -> Loss:
        """lp_weight Lp + gdl_weight Lgdl + adversarial_weight Ladv over all scales, of patches.

        Lp and Lgdl are means over the runs of the recursion that have a gradient. With output "gated" the same losses
        of the new frames alone are added with weight `new_weight`, and the gates' mean with `gate_weight`.
        Parts: lp, gdl, adversarial, new, gate, each unweighted; new is that weighted sum of the new frames' lp and gdl.

        Raises:
            UserError: if the frames are not patches and there is a discriminator.

        Source:
            Equation 9 of the paper; reductions as in the config.
        """
        return self._generator_loss(batch, adversarial=True)

    def discriminator_loss(self, batch: Batch, step: int = 0) -> Loss:
        """Cross-entropy of real patches against 1 and predicted ones against 0, over all scales, + r1_weight R1.

        The predictions are made from this batch, without a gradient in the generator, with the same noise and
        recursion as in its own loss. Both pairs have the true frames before the first prediction as context.
        Parts: real, fake, other for real frames after another clip's context, and r1, the penalty without its weight.

        Raises:
            UserError: if the frames are not patches.

        Source:
            Equation 4 of the paper; r1: Mescheder, Geiger, Nowozin: Which training methods for GANs do actually
            converge?, ICML 2018, section 4.1.
        """
        c = self.config
        context, future = self._clips(batch)
        with torch.no_grad():
            runs = self._runs(context, future)
        contexts = pyramid(_stack(context), c.num_scales)
        run = runs[0 if c.adversarial_frame == "first" else -1]
        pairs = {"real": (contexts, run.truths), "fake": (contexts, run.predictions)}
        if c.extra_pairs:
            if batch.size < 2:
                raise UserError("model.extra_pairs needs batches of at least 2 clips, to take a context from another")
            pairs["other"] = ([x.roll(1, 0) for x in contexts], run.truths)
        # One pass over all pairs: the fully connected layers load their weights once.
        parts_in = [self._inputs(*pair) for pair in pairs.values()]
        logits = self._scores([torch.cat(patches) for patches in zip(*parts_in, strict=True)])
        chunks = [score.chunk(len(pairs)) for score in logits]
        parts = {
            name: self._adversarial([chunk[i] for chunk in chunks], label=float(name == "real"))
            for i, name in enumerate(pairs)
        }
        # each negative pair is balanced by the real one
        total = sum(parts.values(), parts["real"] if c.extra_pairs else parts["real"].new_zeros(()))
        if c.r1_weight:
            parts["r1"] = self._r1(contexts, run.truths)
            total = total + c.r1_weight * parts["r1"]
        return Loss(total, {name: part.detach() for name, part in parts.items()}, c.reduction)

    def _generator_loss(self, batch: Batch, adversarial: bool) -> Loss:
        c = self.config
        context, future = self._clips(batch)
        runs = self._runs(context, future)
        pairs = [pair for run in runs for pair in zip(run.outputs, run.truths, run.weights, strict=True)]
        parts = self._pixel_losses([(output.frame, truth, weight) for output, truth, weight in pairs])
        if adversarial and self.discriminator is not None:
            run = runs[0 if c.adversarial_frame == "first" else -1]
            with torch.set_grad_enabled(torch.is_grad_enabled() and c.adversarial_gradient):
                logits = self._scores(self._inputs(pyramid(_stack(context), c.num_scales), run.predictions))
                parts["adversarial"] = self._adversarial(logits, label=1.0)
        # A term of weight 0 is omitted, so that a run without it is bit-identical.
        weights = {"lp": c.lp_weight, "gdl": c.gdl_weight, "adversarial": c.adversarial_weight, "new": c.new_weight}
        weights["gate"] = c.gate_weight
        if c.output == "gated":
            new = self._pixel_losses([(output.new, truth, weight) for output, truth, weight in pairs])
            parts["new"] = c.lp_weight * new["lp"] + c.gdl_weight * new["gdl"]
            gates = [output.gate for output, _, _ in pairs]
            parts["gate"] = _mean([gate.mean() if c.reduction == "mean" else gate.sum() for gate in gates])
        total = sum((weights[name] * part for name, part in parts.items() if weights[name]), parts["lp"].new_zeros(()))
        return Loss(total, {name: part.detach() for name, part in parts.items()}, c.reduction)

    def _pixel_losses(self, pairs: Sequence[tuple[Tensor, Tensor, Tensor | None]]) -> dict[str, Tensor]:
        """lp and gdl, the means over (prediction, truth, weights of lp's pixels), without the weights of the terms."""
        c = self.config
        return {
            "lp": _mean([lp(y_hat, y, c.lp_exponent, c.reduction, weight) for y_hat, y, weight in pairs]),
            "gdl": _mean([gdl(y_hat, y, c.gdl_exponent, c.gdl_border, c.reduction) for y_hat, y, _ in pairs]),
        }

    def _clips(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Context and future (b, t, c, h, w) in 0…1, augmented in training where the config wants it."""
        context, future = batch.context, batch.future
        if self.config.augment and self.training:
            clips = augment(torch.cat([context, future], 1))
            context, future = clips[:, : context.shape[1]], clips[:, context.shape[1] :]
        return context, future

    def _runs(self, context: Tensor, future: Tensor) -> list[_Run]:
        """The runs of the generator on a context and then on its own output; those with a loss, first to last.

        In training the context has noise and the number of runs is random, both by the config.
        """
        c, level = self.config, None
        window = _stack(mixed(context, c.context_mix, c.noise_free) if self.training and c.context_mix else context)
        weights = 1 + c.foreground_weight * foreground(context, future) if c.foreground_weight else None
        count = c.recursion
        if self.training and c.recursion > 1:
            count = int(torch.randint(1, c.recursion + 1, ()))
        if future.shape[1] < count * c.future:
            raise UserError(
                f"model.recursion {c.recursion} needs {c.recursion * c.future} target frames, got {future.shape[1]}; "
                "use longer clips or a smaller recursion"
            )
        if self.training and c.context_noise:
            window, level = self._noised(window)
        runs: list[_Run] = []
        outputs: list[ScaleOutput] = []
        differentiable = torch.is_grad_enabled()
        for k in range(count):
            has_loss = k == count - 1 or c.recursion_gradient == "all"
            with torch.set_grad_enabled(differentiable and has_loss):
                if k:
                    window = self._fed_back(window, outputs[-1].frame)[0]
                outputs = self.generator(pyramid(window, c.num_scales), level)
            if has_loss:
                block = slice(k * c.future, (k + 1) * c.future)
                truths = pyramid(_stack(future[:, block]), c.num_scales)
                runs.append(_Run(outputs, truths, self._weights(weights, block)))
        return runs

    def _weights(self, weights: Tensor | None, block: slice) -> list[Tensor] | list[None]:
        """Weights of the pixels of a block of target frames at every scale, from those of all (b, t, 1, h, w)."""
        n = self.config.num_scales
        if weights is None:
            return [None] * n
        return pyramid(weights[:, block].repeat_interleave(self.spec.channels, 2).flatten(1, 2), n)

    def _noised(self, window: Tensor) -> tuple[Tensor, Tensor]:
        """The window with Gaussian noise, and its level in 0…1 of the greatest, (b,)."""
        c, b = self.config, len(window)
        noised = torch.rand(b, device=window.device) >= c.noise_free
        level = torch.rand(b, device=window.device) * noised
        std = 2 * c.context_noise * level  # of values in -1…1
        return window + std.view(b, 1, 1, 1) * torch.randn_like(window), level

    def _fed_back(self, window: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
        """The next window, and the predicted block (b, t' c, h, w) as it is fed back: clamped, maybe rounded or in the
        palette's colours."""
        block = block.clamp(-1, 1)  # changes may leave it
        if self.palette is not None:
            block = block + (nearest_colours(block, self.palette) - block).detach()
        elif self.config.round_feedback:
            block = block + (((block + 1) * 127.5).round() / 127.5 - 1 - block).detach()
        window = torch.cat([window, block], 1)[:, -window.shape[1] :]
        return window.contiguous(memory_format=torch.channels_last), block

    def _inputs(self, contexts: Sequence[Tensor], frames: Sequence[Tensor]) -> list[Tensor]:
        """Inputs of the discriminator: frames, after their context where it is conditioned."""
        if not self.config.conditioned:
            return list(frames)
        return [torch.cat([context, frame], 1) for context, frame in zip(contexts, frames, strict=True)]

    def _scores(self, patches: list[Tensor]) -> list[Tensor]:
        assert self.discriminator is not None, "this model has no discriminator"
        h, w = patches[-1].shape[-2:]
        if (h, w) != (self.config.patch,) * 2:
            raise UserError(
                f"the discriminator takes patches of {self.config.patch}x{self.config.patch}, got frames of {h}x{w}; "
                "set model.patch to the side of square frames, or train on crops"
            )
        logits: list[Tensor] = self.discriminator(patches)
        return logits

    def _r1(self, contexts: Sequence[Tensor], truths: Sequence[Tensor]) -> Tensor:
        """Half the squared norm of the gradient of the logits with respect to the true frames in -1…1, per clip; the
        context is a condition. Reduced over clips and scales as the other terms are."""
        wanted = torch.is_grad_enabled()
        with torch.enable_grad(), autocast_off(truths[-1]):
            frames = [truth.detach().requires_grad_() for truth in truths]
            logits = self._scores(self._inputs(contexts, frames))
            slopes = torch.autograd.grad([score.sum() for score in logits], frames, create_graph=wanted)
        norms = [slope.square().flatten(1).sum(1) / 2 for slope in slopes]
        terms = torch.stack([x.mean() if self.config.reduction == "mean" else x.sum() for x in norms])
        return terms.sum() if self.config.adversarial_over_scales == "sum" else terms.mean()

    def _adversarial(self, logits: Sequence[Tensor], label: float) -> Tensor:
        c = self.config
        terms = [bce(score, label, c.log_base, c.probability_clip, c.reduction) for score in logits]
        return torch.stack(terms).sum() if c.adversarial_over_scales == "sum" else _mean(terms)

    @torch.no_grad()
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Predictions of a batch at every scale, with the true frames.

        Returns:
            Context, truth and prediction at full size, then scale0_prediction, scale0_truth, scale1_prediction, … of
            the coarser scales; (b, t, c, h, w) float 0…1.
        """
        n, future = self.config.num_scales, batch.future[:, : self.config.future]
        predictions = [output.frame for output in self.generator(pyramid(_stack(batch.context), n))]
        truths = pyramid(_stack(future), n)
        images = {"context": batch.context, "truth": future, "prediction": self._frames(predictions[-1])}
        for k, (y_hat, y) in enumerate(zip(predictions[:-1], truths[:-1], strict=True)):
            images[f"scale{k}_prediction"] = self._frames(y_hat)
            images[f"scale{k}_truth"] = self._frames(y)
        return images

    def clip_state(self, frames: Tensor, actions: Tensor | None) -> RolloutState:
        """window: the last frames, stacked (b, t c, h, w) in -1…1.  queue: predicted frames not yet returned,
        (b, t', c, h, w) 0…1, empty at first."""
        return {"window": _stack(frames), "queue": frames[:, :0]}

    @torch.no_grad()
    def rollout_step(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The next state and frame; the generator runs when the queue is empty, once per block of `future` frames.

        The network's output is fed back as it is returned: clamped, and rounded to 256 levels by `round_feedback`.
        """
        window, queue = state["window"], state["queue"]
        if queue.shape[1] == 0:
            outputs = self.generator(pyramid(window, self.config.num_scales))
            window, block = self._fed_back(window, outputs[-1].frame)
            queue = self._frames(block)
        return {"window": window, "queue": queue[:, 1:]}, queue[:, 0]

    def _frames(self, x: Tensor) -> Tensor:
        """(b, t c, h, w) in -1…1 as frames (b, t, c, h, w) in 0…1."""
        return rearrange((x.float() + 1) / 2, "b (t c) h w -> b t c h w", c=self.spec.channels).clamp(0, 1)


def _stack(frames: Tensor) -> Tensor:
    """Frames (b, t, c, h, w) in 0…1 stacked on channels, oldest first: (b, t c, h, w) in -1…1, channels last."""
    x = rearrange(frames, "b t c h w -> b (t c) h w")
    return x.contiguous(memory_format=torch.channels_last) * 2 - 1


def _mean(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(terms)).mean()
