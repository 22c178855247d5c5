"""Multi-scale adversarial next-frame prediction.

Paper: Mathieu, Couprie, LeCun, "Deep multi-scale video prediction beyond mean square error", ICLR 2016,
arXiv 1511.05440. A fully convolutional generator predicts the next frames at four scales, each scale from the shrunken
context and the enlarged guess of the coarser one; a discriminator per scale, used in training only, judges patches.
No noise, no actions. Longer futures come from feeding predictions back.

What deviates from the paper and from the two published codes, and why, is said at each field of the config and in
docs/models/multiscale-gan.md. Frames are 0…1 at the door and -1…1 inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args, get_origin, get_type_hints

import torch
from einops import rearrange
from torch import Tensor, nn

from framecast.models.base import Carry, Frames, Predictor, as_frames
from framecast.nn.augment import augment
from framecast.nn.init import Init, initialise
from framecast.nn.losses import Border, LogBase, Reduction, bce, gdl, lp
from framecast.nn.precision import widen
from framecast.nn.scales import enlarge, pyramid, pyramid_sizes
from framecast.types import Batch, ClipRequest, ClipSpec, Decay, Loss, MotionFilter, Optimiser, Phase, UserError

Rows = tuple[tuple[int, ...], ...]

#: What a network of changes puts out counts this much: Adam's first steps are as large for small errors as for large
#: ones, and at full size they would shake a picture that was nearly right.
CHANGE = 0.1
Kind = Literal["adam", "radam", "sgd"]


# ------------------------------------------------------------------------------------------------ configuration


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How the two networks are trained. The paper uses SGD for both at 0.04 (lowered to 0.005) and 0.02; those rates
    are reported to diverge with summed losses, so the defaults are the last ones of the published repair."""

    generator: Kind = "adam"
    """Rule for the generator: adam, radam or sgd."""
    generator_lr: float = 4e-5
    """Its learning rate, above 0."""
    generator_final_lr: float | None = None
    """Rate reached linearly after `decay_steps`; None keeps the rate."""
    discriminator: Kind = "adam"
    """Rule for the discriminator: adam, radam or sgd."""
    discriminator_lr: float = 2e-5
    """Its learning rate, above 0."""
    discriminator_final_lr: float | None = None
    """Rate reached linearly after `decay_steps`; None keeps the rate."""
    decay_steps: int = 0
    """Steps until the final rates are reached; needed where one is given."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's two averages, each in 0…1."""
    eps: float = 1e-8
    """Added to Adam's denominator, above 0."""
    momentum: float = 0.0
    """Momentum of sgd, in 0…1; the published codes use none."""

    def __post_init__(self) -> None:
        for name in ("generator", "discriminator"):
            if getattr(self, name) not in ("adam", "radam", "sgd"):
                raise UserError(f"optim.{name} must be adam, radam or sgd, got {getattr(self, name)!r}")
        for name in ("generator_lr", "discriminator_lr", "generator_final_lr", "discriminator_final_lr", "eps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"optim.{name} must be above 0, got {value}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"optim.betas must lie in 0…1, below 1, got {self.betas}")
        if not 0 <= self.momentum < 1:
            raise UserError(f"optim.momentum must lie in 0…1, below 1, got {self.momentum}")
        if self.decay_steps < 1 and (self.generator_final_lr or self.discriminator_final_lr):
            raise UserError("optim.decay_steps must be at least 1 where a final learning rate is given")

    def optimiser(self, network: Literal["generator", "discriminator"]) -> Optimiser:
        """The rule of one network, as a phase wants it."""
        lr: float = getattr(self, f"{network}_lr")
        final: float | None = getattr(self, f"{network}_final_lr")
        return Optimiser(
            kind=getattr(self, network),
            lr=lr if final is None else Decay(lr, final, self.decay_steps),
            betas=self.betas,
            eps=self.eps,
            momentum=self.momentum,
        )


@dataclass(frozen=True, kw_only=True)
class MultiscaleGANConfig:
    """Architecture, loss and training clips. Tables have one row a scale, coarse to fine; with fewer scales than rows
    the finest rows count."""

    # --- what goes in and out
    context: int = 4
    """Frames seen, at least 1; published: 4, and 8 for the second model."""
    future: int = 1
    """Frames predicted at once, at least 1; published: 1, and 8 for the second model."""
    num_scales: int = 4
    """Images in the pyramid, at least 1; 1 is the single-scale ablation."""
    # --- generator
    generator_widths: Rows = ((128, 256, 128), (128, 256, 128), (128, 256, 512, 256, 128), (128, 256, 512, 256, 128))
    """Feature maps of the hidden convolutions."""
    generator_kernels: Rows = ((3, 3, 3, 3), (5, 3, 3, 5), (5, 3, 3, 3, 3, 5), (7, 5, 5, 5, 5, 7))
    """Odd kernel sizes in pixels, one more a row than widths: the last makes the image."""
    residual: bool = True
    """Add the enlarged coarser guess before tanh, as the paper's code does; off, the guess is only an input, as in the
    TensorFlow code."""
    output: Literal["frame", "change"] = "frame"
    """What a scale makes: the "frame", through tanh as published; or the "change" since the last context frame, which
    starts at none, so that what stands still is right from the first step. For clips of the real world."""
    generator_slope: float = 0.0
    """Slope of the generator's ReLU below 0, in 0…1; published: 0, with which networks of changes die."""
    # --- discriminator
    discriminator_widths: Rows = ((64,), (64, 128, 128), (128, 256, 256), (128, 256, 512, 128))
    """Feature maps of its convolutions, which use no padding."""
    discriminator_kernels: Rows = ((3,), (3, 3, 3), (5, 5, 5), (7, 7, 5, 5))
    """Their kernel sizes in pixels."""
    discriminator_hidden: Rows = ((512, 256), (1024, 512), (1024, 512), (1024, 512))
    """Widths of the fully connected layers before the score."""
    conditioned: bool = True
    """Judge the predicted frames together with the context, as the paper does; the TensorFlow code shows the predicted
    frame alone, which its author called an oversight."""
    pool: Literal["finest", "every"] = "finest"
    """Where a 2x2 max pool follows the convolutions: at the finest scale (paper) or at every one (TensorFlow code)."""
    leaky_slope: float = 0.01
    """Slope of the discriminator's ReLU below 0, in 0…1. The paper has 0; with it, gradients die."""
    # --- loss
    lp_weight: float = 1.0
    """Weight of the pixel loss, at least 0."""
    lp_exponent: float = 1.0
    """Exponent p of the pixel loss, above 0: 1 is l1, 2 is l2."""
    gdl_weight: float = 1.0
    """Weight of the gradient-difference loss, at least 0; 0 leaves it out."""
    gdl_exponent: float = 1.0
    """Exponent of the gradient-difference loss, above 0."""
    gdl_border: Border = "crop"
    """"crop" compares pixels inside the image; "zero" also its last row and column with zeros, as the TensorFlow code
    does, which punishes the brightness of the edge."""
    adversarial: bool = True
    """Train the discriminator at all; off is the plain run, without a discriminator in the model."""
    adversarial_weight: float = 0.05
    """Weight of the adversarial term, at least 0."""
    adversarial_gradient: bool = True
    """Let the term's gradient reach the generator; off is as the TensorFlow code, where scores were constants."""
    adversarial_over_scales: Literal["sum", "mean"] = "sum"
    """The adversarial terms of the scales are summed (paper) or averaged (TensorFlow code). Pixel terms are
    averaged."""
    reduction: Reduction = "mean"
    """"mean" over clips, pixels and channels, or their "sum" as published: beside sums over pixels the adversarial term
    weighs under 0.3 %."""
    log_base: LogBase = "e"
    """Logarithm of the adversarial terms: "e", or "10" as in the TensorFlow code."""
    probability_clip: float = 0.0
    """Clip the discriminator's probability to [clip, 1 - clip], 0…0.5; the TensorFlow code has 0.1, which stops the
    gradient wherever the discriminator is sure. 0 computes on logits."""
    extra_pairs: bool = False
    """Show the discriminator also real frames after another clip's context as false, the paper code's "advExt"."""
    # --- training clips
    patch: int = 32
    """Side of the square training crops in pixels; published: 32, then 64. The discriminator is built for it."""
    stride: int = 1
    """Source frames a model frame, at least 1."""
    motion_threshold: float | None = 100.0
    """Crops must move more than this: summed squared change in -1…1 units, 100 in a 32x32 RGB clip of 5 frames is an
    RMS of 11.5 grey levels. None takes every crop."""
    motion_bypass: float = 0.05
    """Share of crops taken unseen, 0…1."""
    motion_tries: int = 100
    """Crops drawn at most before the last one is kept."""
    augment: bool = False
    """Mirror, turn and reverse training clips and exchange their colours at random: for short films."""
    init: Init = "scaled"
    """"truncated": normal of sd 0.01, biases 0.1, as in the TensorFlow code; the signal then fades with every narrow
    layer. "scaled": He et al. 2015, which holds its size at any width."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisers of the two networks."""

    def __post_init__(self) -> None:
        for name in ("context", "future", "num_scales", "stride", "motion_tries"):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lp_weight", "gdl_weight", "adversarial_weight"):
            if not getattr(self, name) >= 0:
                raise UserError(f"model.{name} must be at least 0, got {getattr(self, name)}")
        for name in ("lp_exponent", "gdl_exponent"):
            if not getattr(self, name) > 0:
                raise UserError(f"model.{name} must be above 0, got {getattr(self, name)}")
        if self.output == "change" and self.residual:
            raise UserError("model.output change adds to the last frame, not to the guess; give --model.no-residual")
        for name, top in (
            ("leaky_slope", 1.0),
            ("generator_slope", 1.0),
            ("probability_clip", 0.5),
            ("motion_bypass", 1.0),
        ):
            if not 0 <= getattr(self, name) <= top:
                raise UserError(f"model.{name} must lie in 0…{top:g}, got {getattr(self, name)}")
        if self.probability_clip == 0.5:
            raise UserError("model.probability_clip must be below 0.5: at 0.5 every probability is the same")
        fooling = self.adversarial and self.adversarial_gradient and self.adversarial_weight
        if not (self.lp_weight or self.gdl_weight or fooling):
            raise UserError("model: no loss is left to train the generator; give lp_weight or gdl_weight above 0")
        if self.extra_pairs and not self.conditioned:
            raise UserError("model.extra_pairs shows the discriminator other contexts; it needs model.conditioned")
        self._check_choices()
        self._check_tables()

    def _check_choices(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind):
                allowed = " or ".join(get_args(kind))
                raise UserError(f"model.{name} must be {allowed}, got {getattr(self, name)!r}")

    def _check_tables(self) -> None:
        for name in (
            "generator_widths",
            "generator_kernels",
            "discriminator_widths",
            "discriminator_kernels",
            "discriminator_hidden",
        ):
            rows: Rows = getattr(self, name)
            if len(rows) < self.num_scales:
                raise UserError(f"model.{name} has {len(rows)} rows for {self.num_scales} scales; give one a scale")
            if any(value < 1 for row in rows for value in row):
                raise UserError(f"model.{name} must hold numbers of at least 1, got {rows}")
        for kernels, widths, more in (
            ("generator_kernels", "generator_widths", 1),
            ("discriminator_kernels", "discriminator_widths", 0),
        ):
            for row, (k, w) in enumerate(zip(self.rows(kernels), self.rows(widths), strict=True)):
                if len(k) != len(w) + more:
                    raise UserError(
                        f"model.{kernels} row {row} has {len(k)} kernels for {len(w)} widths; give {len(w) + more}"
                    )
        if any(k % 2 == 0 for row in self.generator_kernels for k in row):
            raise UserError(f"model.generator_kernels must be odd to keep the size, got {self.generator_kernels}")
        pyramid_sizes(self.patch, self.patch, self.num_scales)

    def rows(self, name: str) -> Rows:
        """The rows of a table that count: the finest `num_scales`."""
        table: Rows = getattr(self, name)
        return table[len(table) - self.num_scales :]


def default() -> MultiscaleGANConfig:
    """The paper's 4-frame model, repaired: means, natural log, a true adversarial gradient, Adam."""
    return MultiscaleGANConfig()


def original() -> MultiscaleGANConfig:
    """The published TensorFlow code, literal: what it did, not what its constants say. Only the resizer is ours."""
    return MultiscaleGANConfig(
        residual=False,
        conditioned=False,
        pool="every",
        leaky_slope=0.0,
        lp_exponent=2.0,
        gdl_exponent=2.0,
        gdl_border="zero",
        adversarial_weight=1.0,
        adversarial_gradient=False,
        adversarial_over_scales="mean",
        reduction="sum",
        log_base="10",
        probability_clip=0.1,
        init="truncated",
        optim=OptimConfig(discriminator="sgd", discriminator_lr=0.02),
    )


def small() -> MultiscaleGANConfig:
    """The reduced networks of the paper's own script, for minutes on two CPU cores. They need higher rates and a slope
    below 0; a guess as input only and little gradient difference more than double what they gain (docs/log.md)."""
    return MultiscaleGANConfig(
        residual=False,
        generator_slope=0.1,
        lp_exponent=2.0,
        gdl_weight=0.1,
        adversarial_weight=0.005,
        generator_widths=((16, 32, 16), (16, 32, 16), (16, 32, 64, 32, 16), (16, 32, 64, 32, 16)),
        discriminator_widths=((32,), (32, 32, 64), (32, 32, 64), (32, 32, 64, 128)),
        discriminator_hidden=((256, 128), (256, 128), (256, 128), (256, 128)),
        optim=OptimConfig(
            generator_lr=1.5e-3, generator_final_lr=1e-4, decay_steps=20_000, discriminator_lr=2e-5, betas=(0.9, 0.99)
        ),
    )


def natural() -> MultiscaleGANConfig:
    """`small` for filmed scenes of seconds or minutes, in which most must stay as it is: networks of changes, the
    published losses, a lower rate, augmented clips."""
    return replace(
        small(),
        output="change",
        lp_exponent=1.0,
        gdl_weight=1.0,
        adversarial_weight=0.05,
        augment=True,
        optim=replace(small().optim, generator_lr=5e-4, decay_steps=8000),
    )


def eight() -> MultiscaleGANConfig:
    """The paper's second model: 8 frames in, 8 frames out."""
    return MultiscaleGANConfig(
        context=8,
        future=8,
        generator_widths=((16, 32, 64), (16, 32, 64), (32, 64, 128), (32, 64, 128, 128)),
        generator_kernels=((3, 3, 3, 3), (5, 3, 3, 3), (5, 5, 5, 5), (7, 5, 5, 5, 5)),
        discriminator_widths=((16,), (16, 32, 32), (32, 64, 64), (32, 64, 128, 128)),
        discriminator_hidden=((128, 64), (256, 128), (256, 128), (256, 128)),
        optim=OptimConfig(generator_lr=1e-3, discriminator_lr=2e-4),
    )


def tiny() -> MultiscaleGANConfig:
    """A few thousand weights in the same shape; for tests."""
    return replace(
        small(),
        generator_widths=((8,), (8,), (8,), (8, 8)),
        generator_kernels=((3, 3), (3, 3), (3, 3), (5, 3, 3)),
        discriminator_widths=((8,), (8,), (8,), (8, 8)),
        discriminator_kernels=((3,), (3,), (3,), (5, 5)),
        discriminator_hidden=((8,), (8,), (8,), (8,)),
    )


PROFILES: dict[str, Callable[[], MultiscaleGANConfig]] = {
    "default": default,
    "original": original,
    "small": small,
    "natural": natural,
    "eight": eight,
    "tiny": tiny,
}


# ----------------------------------------------------------------------------------------------------- networks


class GeneratorScale(nn.Module):
    """One scale of the generator: convolutions that keep the size, ReLU between them, tanh or a change at the end."""

    def __init__(self, inputs: int, row: int, outputs: int, config: MultiscaleGANConfig):
        super().__init__()
        channels = (inputs, *config.rows("generator_widths")[row], outputs)
        layers: list[nn.Module] = []
        for a, b, kernel in zip(channels[:-1], channels[1:], config.rows("generator_kernels")[row], strict=True):
            layers += [nn.Conv2d(a, b, kernel, padding=kernel // 2), rectifier(config.generator_slope)]
        self.layers = nn.Sequential(*layers[:-1])
        self.residual, self.output = config.residual, config.output

    def forward(self, context: Tensor, guess: Tensor | None, last: Tensor) -> Tensor:
        """Frames at this scale, (b, outputs, h, w) in -1…1, or near it where changes are added.

        context: (b, t c, h, w) at this scale.  guess: the coarser prediction, enlarged to this scale.
        last: the last context frame, repeated for every output frame, (b, outputs, h, w).
        """
        x: Tensor = self.layers(context if guess is None else torch.cat([context, guess], 1))
        x = widen(x)  # tanh in bf16 would cost a quarter of a grey level at every recursion
        if self.output == "change":
            return last + CHANGE * x
        return torch.tanh(x + guess if self.residual and guess is not None else x)


class Generator(nn.Module):
    """Predicts the next frames at every scale, each from the context and the next coarser prediction."""

    def __init__(self, config: MultiscaleGANConfig, channels: int):
        super().__init__()
        inputs, outputs = config.context * channels, config.future * channels
        self.channels, self.future = channels, config.future
        self.scales = nn.ModuleList(
            GeneratorScale(inputs + (outputs if k else 0), k, outputs, config) for k in range(config.num_scales)
        )

    def forward(self, contexts: Sequence[Tensor]) -> list[Tensor]:
        """Predictions at every scale, (b, t' c, h, w) in -1…1.  contexts: (b, t c, h, w) a scale; coarse to fine."""
        predictions: list[Tensor] = []
        for scale, context in zip(self.scales, contexts, strict=True):
            h, w = context.shape[-2:]
            guess = enlarge(predictions[-1], (h, w)) if predictions else None
            last = context[:, -self.channels :].repeat(1, self.future, 1, 1)
            predictions.append(scale(context, guess, last))
        return predictions


def rectifier(slope: float) -> nn.Module:
    """ReLU, with a slope below 0 or without."""
    return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)


class DiscriminatorScale(nn.Sequential):
    """One scale of the discriminator: unpadded convolutions, maybe a 2x2 max pool, fully connected layers, a logit."""

    def __init__(
        self,
        inputs: int,
        side: int,
        widths: Sequence[int],
        kernels: Sequence[int],
        hidden: Sequence[int],
        pool: bool,
        slope: float,
    ):
        layers: list[nn.Module] = []
        patch = side
        for width, kernel in zip(widths, kernels, strict=True):
            layers += [nn.Conv2d(inputs, width, kernel), rectifier(slope)]
            inputs, side = width, side - kernel + 1
        if pool:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        if side < 1:
            raise UserError(
                f"the discriminator's kernels {tuple(kernels)} do not fit its {patch}x{patch} patch; "
                "use a larger model.patch, smaller model.discriminator_kernels or fewer scales"
            )
        layers.append(nn.Flatten())
        inputs *= side * side
        for width in hidden:
            layers += [nn.Linear(inputs, width), rectifier(slope)]
            inputs = width
        super().__init__(*layers, nn.Linear(inputs, 1))


class Discriminator(nn.Module):
    """Judges patches at every scale, by one network each."""

    def __init__(self, config: MultiscaleGANConfig, channels: int):
        super().__init__()
        inputs = channels * (config.future + (config.context if config.conditioned else 0))
        sides = [side for side, _ in pyramid_sizes(config.patch, config.patch, config.num_scales)]
        tables = zip(
            sides,
            config.rows("discriminator_widths"),
            config.rows("discriminator_kernels"),
            config.rows("discriminator_hidden"),
            strict=True,
        )
        self.scales = nn.ModuleList(
            DiscriminatorScale(
                inputs,
                side,
                widths,
                kernels,
                hidden,
                pool=config.pool == "every" or k == config.num_scales - 1,
                slope=config.leaky_slope,
            )
            for k, (side, widths, kernels, hidden) in enumerate(tables)
        )

    def forward(self, patches: Sequence[Tensor]) -> list[Tensor]:
        """Logits that the frames are real, (b, 1) a scale.  patches: (b, channels, side, side), coarse to fine."""
        return [scale(patch) for scale, patch in zip(self.scales, patches, strict=True)]


# ---------------------------------------------------------------------------------------------------- predictor


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
        if config.output == "change":  # no change at first
            for scale in self.generator.scales:
                for last in list(scale.parameters())[-2:]:
                    nn.init.zeros_(last)
        self.discriminator: Discriminator | None = None
        if config.adversarial:  # after the generator: a plain run with the same seed starts from the same weights
            self.discriminator = Discriminator(config, spec.channels)
            initialise(self.discriminator, config.init, config.leaky_slope)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def request(cls, config: MultiscaleGANConfig) -> ClipRequest:
        """Square crops in which something moves."""
        motion = None
        if config.motion_threshold is not None:
            motion = MotionFilter(
                threshold=config.motion_threshold, bypass=config.motion_bypass, tries=config.motion_tries
            )
        return ClipRequest(
            context=config.context,
            future=config.future,
            stride=config.stride,
            crop=(config.patch, config.patch),
            motion_filter=motion,
        )

    def subnetworks(self) -> dict[str, nn.Module]:
        """generator, and discriminator where there is one."""
        parts: dict[str, nn.Module] = {"generator": self.generator}
        if self.discriminator is not None:
            parts["discriminator"] = self.discriminator
        return parts

    # ------------------------------------------------------------------------------------------------ training

    def phases(self) -> list[Phase]:
        """The discriminator on batches of its own, then the generator; only the latter in a plain run."""
        generator = Phase(
            name="generator",
            loss=self.generator_loss,
            modules=("generator",),
            optimiser=self.config.optim.optimiser("generator"),
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

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """The generator's loss. Frames that are not of the patch's size, which the discriminator cannot judge, are
        scored without the adversarial term."""
        return self._generator_loss(batch, judged=tuple(batch.future.shape[-2:]) == (self.config.patch,) * 2)

    def generator_loss(self, batch: Batch, step: int = 0) -> Loss:
        """lp_weight Lp + gdl_weight Lgdl + adversarial_weight Ladv over all scales, of patches.

        Parts: lp, gdl, adversarial, each unweighted.
        Raises: UserError when the frames are not patches and a discriminator must judge them.
        Source: equation 9 of the paper; reductions as in the config.
        """
        return self._generator_loss(batch, judged=True)

    def discriminator_loss(self, batch: Batch, step: int = 0) -> Loss:
        """Cross-entropy of real patches against 1 and predicted ones against 0, over all scales.

        The predictions are made from this batch, by a generator that is only run forward.
        Parts: real, fake, and other for real frames after another clip's context.
        Raises: UserError when the frames are not patches.
        Source: equation 4 of the paper.
        """
        c = self.config
        contexts, truths = self._pyramids(batch)
        with torch.no_grad():
            predictions = self.generator(contexts)
        pairs = {"real": (contexts, truths), "fake": (contexts, predictions)}
        if c.extra_pairs:
            if batch.size < 2:
                raise UserError("model.extra_pairs needs batches of at least 2 clips, to take a context from another")
            pairs["other"] = ([context.roll(1, 0) for context in contexts], truths)
        # One pass over everything judged: the fully connected layers read their weights once.
        parts_in = [self._judged(*pair) for pair in pairs.values()]
        logits = self._judge([torch.cat(patches) for patches in zip(*parts_in, strict=True)])
        chunks = [score.chunk(len(pairs)) for score in logits]
        parts = {
            name: self._adversarial([chunk[i] for chunk in chunks], label=float(name == "real"))
            for i, name in enumerate(pairs)
        }
        # the second pair brings the real one once more
        total = sum(parts.values(), parts["real"] if c.extra_pairs else parts["real"].new_zeros(()))
        return Loss(total, {name: part.detach() for name, part in parts.items()})

    def _generator_loss(self, batch: Batch, judged: bool) -> Loss:
        c = self.config
        contexts, truths = self._pyramids(batch)
        predictions = self.generator(contexts)
        pairs = list(zip(predictions, truths, strict=True))
        parts = {
            "lp": _mean([lp(y_hat, y, c.lp_exponent, c.reduction) for y_hat, y in pairs]),
            "gdl": _mean([gdl(y_hat, y, c.gdl_exponent, c.gdl_border, c.reduction) for y_hat, y in pairs]),
        }
        if judged and self.discriminator is not None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and c.adversarial_gradient):
                logits = self._judge(self._judged(contexts, predictions))
                parts["adversarial"] = self._adversarial(logits, label=1.0)
        # A term of weight 0 stays out altogether: the run without it must come out the same to the bit.
        weights = {"lp": c.lp_weight, "gdl": c.gdl_weight, "adversarial": c.adversarial_weight}
        total = sum((weights[name] * part for name, part in parts.items() if weights[name]), parts["lp"].new_zeros(()))
        return Loss(total, {name: part.detach() for name, part in parts.items()})

    def _pyramids(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Context stacks and truths at every scale, (b, t c, h, w) in -1…1, coarse to fine."""
        n, context, future = self.config.num_scales, batch.context, batch.future
        if self.config.augment and self.training:
            clips = augment(torch.cat([context, future], 1))
            context, future = clips[:, : context.shape[1]], clips[:, context.shape[1] :]
        return pyramid(_stack(context), n), pyramid(_stack(future), n)

    def _judged(self, contexts: Sequence[Tensor], frames: Sequence[Tensor]) -> list[Tensor]:
        """What the discriminator sees: frames, after their context where it is conditioned."""
        if not self.config.conditioned:
            return list(frames)
        return [torch.cat([context, frame], 1) for context, frame in zip(contexts, frames, strict=True)]

    def _judge(self, patches: list[Tensor]) -> list[Tensor]:
        assert self.discriminator is not None, "a plain run has no discriminator"
        h, w = patches[-1].shape[-2:]
        if (h, w) != (self.config.patch,) * 2:
            raise UserError(
                f"the discriminator judges patches of {self.config.patch}x{self.config.patch}, got frames of {h}x{w}; "
                "set model.patch to the side of square frames, or train on crops"
            )
        logits: list[Tensor] = self.discriminator(patches)
        return logits

    def _adversarial(self, logits: Sequence[Tensor], label: float) -> Tensor:
        c = self.config
        terms = [bce(score, label, c.log_base, c.probability_clip, c.reduction) for score in logits]
        return torch.stack(terms).sum() if c.adversarial_over_scales == "sum" else _mean(terms)

    @torch.no_grad()
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """What the generator makes of a batch at every scale, beside the truth.

        Returns: context, truth and prediction at full size, then scale0_prediction, scale0_truth, scale1_prediction, …
        of the coarser scales; (b, t, c, h, w) float 0…1.
        """
        contexts, truths = self._pyramids(batch)
        predictions = self.generator(contexts)
        images = {"context": batch.context, "truth": batch.future, "prediction": self._frames(predictions[-1])}
        for k, (y_hat, y) in enumerate(zip(predictions[:-1], truths[:-1], strict=True)):
            images[f"scale{k}_prediction"] = self._frames(y_hat)
            images[f"scale{k}_truth"] = self._frames(y)
        return images

    # ---------------------------------------------------------------------------------------------- prediction

    def predict(
        self,
        context: Frames,
        horizon: int,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The next `horizon` frames, by feeding predictions back: (s, b, horizon, c, h, w) float 0…1.

        Any frame size from 2^(num_scales - 1) pixels a side. The model is deterministic: all samples are equal.
        """
        carry, frames = self.begin(context), []
        for _ in range(horizon):
            carry, frame = self.advance(carry)
            frames.append(frame)
        return torch.stack(frames, 1).expand(samples, -1, -1, -1, -1, -1)

    @torch.no_grad()
    def begin(
        self,
        context: Frames,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Carry:
        """window: the last frames, stacked (b, t c, h, w) in -1…1.  queue: predicted and not yet handed out,
        (b, t', c, h, w) 0…1, empty at first."""
        frames = as_frames(context, self)[:, -self.num_context :].repeat(samples, 1, 1, 1, 1)
        return {"window": _stack(frames), "queue": frames[:, :0]}

    @torch.no_grad()
    def advance(self, carry: Carry, action: Tensor | None = None) -> tuple[Carry, Tensor]:
        """One frame further; the generator runs when the queue is empty, once for every block of `future` frames.

        What is fed back is the network's own output, not rounded to 256 levels.
        """
        window, queue = carry["window"], carry["queue"]
        if queue.shape[1] == 0:
            block = self.generator(pyramid(window, self.config.num_scales))[-1].clamp(-1, 1)  # changes may leave it
            window = torch.cat([window, block], 1)[:, -window.shape[1] :]
            window = window.contiguous(memory_format=torch.channels_last)
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
