"""Configuration and profiles of multi-scale adversarial prediction, with the choices of the paper and its two codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from framecast.core.config import require_above, require_choices, require_least, require_share
from framecast.core.errors import UserError
from framecast.core.schedules import Cosine, Decay
from framecast.core.types import GradClip, Optimiser
from framecast.nn.init import Init
from framecast.nn.losses import Border, LogBase, Reduction
from framecast.nn.scales import pyramid_sizes

Rows = tuple[tuple[int, ...], ...]
Kind = Literal["adam", "radam", "sgd"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimisers of the two networks. The paper uses SGD for both at 0.04 (lowered to 0.005) and 0.02; those rates
    are reported to diverge with summed losses, so the defaults are the last ones of the published repair."""

    generator: Kind = "adam"
    """Optimiser of the generator: adam, radam or sgd."""
    generator_lr: float = 4e-5
    """Its learning rate, above 0."""
    generator_final_lr: float | None = None
    """Learning rate reached at the end of `decay_steps`; None keeps it constant."""
    generator_clip: float | None = None
    """Upper bound of the norm of the generator's gradient, above 0; None for none."""
    discriminator: Kind = "adam"
    """Optimiser of the discriminator: adam, radam or sgd."""
    discriminator_lr: float = 2e-5
    """Its learning rate, above 0."""
    discriminator_final_lr: float | None = None
    """Learning rate reached at the end of `decay_steps`; None keeps it constant."""
    decay_steps: int = 0
    """Number of steps until the final rates are reached linearly; 0 reaches them at the end of training, along half a
    cosine over its steps or budget."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's two averages, each in 0…1."""
    eps: float = 1e-8
    """Constant added to Adam's denominator, above 0."""
    momentum: float = 0.0
    """Momentum of sgd, in 0…1; the published codes use none."""

    def __post_init__(self) -> None:
        require_choices(self, "optim.")
        rates = ("generator_lr", "discriminator_lr", "generator_final_lr", "discriminator_final_lr")
        require_above(self, "optim.", *rates, "generator_clip", "eps")
        require_share(self, "optim.", "betas", "momentum", open_end=True)
        require_least(self, "optim.", decay_steps=0)

    def optimiser(self, network: Literal["generator", "discriminator"]) -> Optimiser:
        """The optimiser of one network's phase."""
        lr: float = getattr(self, f"{network}_lr")
        final: float | None = getattr(self, f"{network}_final_lr")
        return Optimiser(
            kind=getattr(self, network),
            lr=lr if final is None or not self.decay_steps else Decay(lr, final, self.decay_steps),
            schedule=None if final is None or self.decay_steps else Cosine(final / lr),
            betas=self.betas,
            eps=self.eps,
            momentum=self.momentum,
        )

    @property
    def clip(self) -> GradClip:
        """Clipping of the generator's gradient."""
        return GradClip() if self.generator_clip is None else GradClip(kind="global", value=self.generator_clip)


@dataclass(frozen=True, kw_only=True)
class MultiscaleGANConfig:
    """Architecture, loss and training clips. Tables have one row per scale, coarse to fine; with fewer scales than rows
    the finest rows are used."""

    # --- inputs and outputs
    context: int = 4
    """Number of context frames, at least 1; published: 4, and 8 for the second model."""
    future: int = 1
    """Number of frames predicted at once, at least 1; published: 1, and 8 for the second model."""
    num_scales: int = 4
    """Number of images in the pyramid, at least 1; 1 is the single-scale ablation."""
    # --- generator
    generator_widths: Rows = ((128, 256, 128), (128, 256, 128), (128, 256, 512, 256, 128), (128, 256, 512, 256, 128))
    """Feature maps of the hidden convolutions."""
    generator_kernels: Rows = ((3, 3, 3, 3), (5, 3, 3, 5), (5, 3, 3, 3, 3, 5), (7, 5, 5, 5, 5, 7))
    """Odd kernel sizes in pixels, one more per row than widths: the last layer generates the image."""
    residual: bool = True
    """Residual prediction: the upsampled coarser prediction is added before tanh, as in the paper's code; off: it is
    only an input, as in the TensorFlow code."""
    output: Literal["frame", "change", "gated"] = "frame"
    """Output of a scale: the "frame", through tanh as published; the "change" since the last context frame, which
    starts at 0, so that static areas are right from the first step; or "gated": the last context frame, replaced by
    the new frame by a share m in 0…1 of every pixel, so that static areas are copied exactly where m is 0."""
    generator_slope: float = 0.0
    """Negative slope of the generator's ReLU, in 0…1; published: 0, with which units of networks of changes die."""
    tanh: Literal["plain", "scaled"] = "plain"
    """Output function: tanh(x), as published; or 1.7159 tanh(2 x / 3) (LeCun et al. 1998, section 4.4), which reaches
    black and white at finite x with a gradient. Plain tanh saturates permanently on dark scenes."""
    start_at_mean: bool = False
    """Initial output of every scale at the mean colour of the first batch instead of grey; no effect on "change"."""
    # --- discriminator
    discriminator_widths: Rows = ((64,), (64, 128, 128), (128, 256, 256), (128, 256, 512, 128))
    """Feature maps of the discriminator's convolutions, which use no padding."""
    discriminator_kernels: Rows = ((3,), (3, 3, 3), (5, 5, 5), (7, 7, 5, 5))
    """Kernel sizes of these convolutions in pixels."""
    discriminator_hidden: Rows = ((512, 256), (1024, 512), (1024, 512), (1024, 512))
    """Widths of the fully connected layers before the score."""
    conditioned: bool = True
    """Context as a further input of the discriminator, as in the paper; off: the predicted frame alone, as in the
    TensorFlow code, whose author called this an oversight."""
    pool: Literal["finest", "every"] = "finest"
    """Scales with a 2x2 max pool after the convolutions: the finest (paper) or every one (TensorFlow code)."""
    leaky_slope: float = 0.01
    """Negative slope of the discriminator's ReLU, in 0…1. The paper has 0, with which gradients vanish."""
    spectral_norm: bool = False
    """Spectral normalisation of the discriminator's layers (Miyato et al. 2018); none is published."""
    r1_weight: float = 0.0
    """Weight of the discriminator's squared gradient at true frames (R1, Mescheder et al. 2018, who use 10), at least
    0; 0 is off. None is published for this model. No effect without a discriminator."""
    # --- loss
    lp_weight: float = 1.0
    """Weight of the pixel loss, at least 0."""
    foreground_weight: float = 0.0
    """Further weight in the pixel loss of pixels that differ from the temporal median of their clip, at least 0: things
    that move are few pixels, and fade where their next place is uncertain. 0 is off."""
    lp_exponent: float = 1.0
    """Exponent p of the pixel loss, at least 1: 1 is l1, 2 is l2."""
    gdl_weight: float = 1.0
    """Weight of the gradient-difference loss, at least 0; 0 omits it."""
    gdl_exponent: float = 1.0
    """Exponent of the gradient-difference loss, at least 1."""
    gdl_border: Border = "crop"
    """Border of the gradient-difference loss: "crop" compares pixels inside the image; "zero" also its last row and
    column with zeros, as the TensorFlow code does, which penalises the brightness of the edge."""
    adversarial: bool = True
    """Training with a discriminator; off: the model has none."""
    adversarial_weight: float = 0.05
    """Weight of the adversarial term, at least 0."""
    adversarial_gradient: bool = True
    """Gradient of the adversarial term in the generator; off: none, as in the TensorFlow code, where scores were
    constants."""
    adversarial_over_scales: Literal["sum", "mean"] = "sum"
    """Reduction of the adversarial terms over scales: sum (paper) or mean (TensorFlow code). Pixel terms are
    averaged."""
    adversarial_frame: Literal["first", "last"] = "first"
    """Frame that the discriminator gets of those predicted in training: the first, or the last of the recursion. Its
    context are the true frames in both."""
    new_weight: float = 0.5
    """Weight of the losses of the new frame alone in output "gated", at least 0; with 0 the gates may close for good,
    because a new frame that is not used is not improved. No effect on other outputs."""
    gate_weight: float = 0.01
    """Weight of the mean of the gates m in output "gated", at least 0: it closes them in static areas, where errors of
    the new frame would be fed back. No effect on other outputs."""
    reduction: Reduction = "mean"
    """Reduction of losses: "mean" over clips, pixels and channels, or their "sum" as published: next to sums over
    pixels the adversarial term contributes under 0.3 %."""
    log_base: LogBase = "e"
    """Logarithm of the adversarial terms: "e", or "10" as in the TensorFlow code."""
    probability_clip: float = 0.0
    """Bound of the discriminator's probability, clipped to [clip, 1 - clip], 0…0.5; the TensorFlow code has 0.1, which
    stops the gradient wherever the discriminator is confident. 0 computes on logits."""
    extra_pairs: bool = False
    """Further negative pairs for the discriminator: real frames after another clip's context, the paper code's
    "advExt"."""
    # --- stability of recursion
    context_noise: float = 0.0
    """Greatest standard deviation of Gaussian noise on the context in training, on frames in 0…1, at least 0. It is
    uniform in 0…context_noise for every clip and, divided by this, a further input of the generator; 0 is off."""
    noise_free: float = 0.3
    """Share of clips whose context gets exactly no noise and no mixing, 0…1; no effect without them."""
    context_mix: float = 0.0
    """Greatest share of an earlier context frame in each context frame in training, at least 0, below 1; 0 is off. What
    moves is then dim and smeared, as in a forecast that begins to dissolve, and the network learns to restore it. A
    share `noise_free` of clips is left as it is."""
    recursion: int = 1
    """Greatest number of times that the generator runs on its own output in training, at least 1, which is off. It is
    uniform in 1…recursion for every batch; the largest in validation. Clips have as many target frames."""
    recursion_gradient: Literal["last", "all"] = "last"
    """Gradient of recursion: through the "last" run alone, whose frames alone have a loss; or through "all", each with
    a loss, of which the mean is taken."""
    palette: Rows = ()
    """Colours, 0…255 per channel, as rows such as 0-28-136,228-111-111: fed-back frames take the nearest one in every
    pixel, with the gradient of no change, so that small errors vanish. For pictures of few colours, such as games; with
    none it is off."""
    round_feedback: bool = False
    """Rounding of frames that are fed back to 256 levels, with the gradient of no rounding; they are clamped to 0…1 in
    any case."""
    # --- training clips
    patch: int = 32
    """Side of the square training crops in pixels; published: 32, then 64. It is the input size of the
    discriminator."""
    stride: int = 1
    """Source frames per model frame, at least 1."""
    motion_threshold: float | None = 100.0
    """Minimum motion of crops: summed squared change in -1…1 units; 100 in a 32x32 RGB clip of 5 frames is an RMS of
    11.5 grey levels. None accepts every crop."""
    motion_bypass: float = 0.05
    """Fraction of crops accepted without this test, 0…1."""
    motion_tries: int = 100
    """Maximum number of crops tried before the last one is kept."""
    augment: bool = False
    """Random mirroring, rotation, time reversal and colour exchange of training clips, for short videos."""
    init: Init = "scaled"
    """Initial weights. "truncated": normal of std 0.01, biases 0.1, as in the TensorFlow code; the signal then fades
    with every narrow layer. "scaled": He et al. 2015, which keeps its size at any width."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisers of the two networks."""

    def __post_init__(self) -> None:
        require_least(self, "model.", context=1, future=1, num_scales=1, stride=1, motion_tries=1)
        require_least(self, "model.", lp_weight=0, gdl_weight=0, adversarial_weight=0, new_weight=0, gate_weight=0)
        require_least(self, "model.", context_noise=0, recursion=1, lp_exponent=1, gdl_exponent=1)
        require_least(self, "model.", foreground_weight=0, r1_weight=0)
        require_share(self, "model.", "context_mix", open_end=True)
        if self.output == "change" and self.residual:
            raise UserError(
                "model.output change adds to the last frame, not to the coarser prediction; use --model.no-residual"
            )
        require_share(self, "model.", "leaky_slope", "generator_slope", "motion_bypass", "noise_free")
        if not 0 <= self.probability_clip < 0.5:
            raise UserError(
                "model.probability_clip must be below 0.5, where every probability is the same, and at least 0, got "
                f"{self.probability_clip}"
            )
        adversarial = self.adversarial and self.adversarial_gradient and self.adversarial_weight
        if not (self.lp_weight or self.gdl_weight or adversarial):
            raise UserError("model: no loss is left to train the generator; set lp_weight or gdl_weight above 0")
        if self.extra_pairs and not self.conditioned:
            raise UserError("model.extra_pairs needs contexts as inputs of the discriminator; use model.conditioned")
        require_choices(self, "model.")
        first_only = self.adversarial_frame == "first" and self.recursion_gradient == "last"
        if adversarial and self.recursion > 1 and first_only:
            raise UserError(
                "model.adversarial_frame first has no gradient where the last run of the recursion alone has one; "
                "use --model.adversarial-frame last or --model.recursion-gradient all"
            )
        self._check_tables()

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
                raise UserError(
                    f"model.{name} has {len(rows)} rows for {self.num_scales} scales; expected one per scale"
                )
            if any(value < 1 for row in rows for value in row):
                raise UserError(f"model.{name} must hold numbers of at least 1, got {rows}")
        for kernels, widths, more in (
            ("generator_kernels", "generator_widths", 1),
            ("discriminator_kernels", "discriminator_widths", 0),
        ):
            for row, (k, w) in enumerate(zip(self.rows(kernels), self.rows(widths), strict=True)):
                if len(k) != len(w) + more:
                    raise UserError(
                        f"model.{kernels} row {row} has {len(k)} kernels for {len(w)} widths; expected {len(w) + more}"
                    )
        if any(not 0 <= value <= 255 for row in self.palette for value in row):
            raise UserError(f"model.palette must hold colours of 0…255, got {self.palette}")
        if any(k % 2 == 0 for row in self.generator_kernels for k in row):
            raise UserError(f"model.generator_kernels must be odd to keep the size, got {self.generator_kernels}")
        pyramid_sizes(self.patch, self.patch, self.num_scales)

    def rows(self, name: str) -> Rows:
        """The rows of a table that are used: the finest `num_scales`."""
        table: Rows = getattr(self, name)
        return table[len(table) - self.num_scales :]


def default() -> MultiscaleGANConfig:
    """The paper's 4-frame model, repaired: means, natural log, a true adversarial gradient, Adam."""
    return MultiscaleGANConfig()


def original() -> MultiscaleGANConfig:
    """The published TensorFlow code, literal: its behaviour, not its constants. Only the resizer differs."""
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
    """The reduced networks of the paper's own script, for minutes on two CPU cores. They need higher rates and a
    negative slope; the coarser prediction as input only and little gradient difference more than double their gain;
    gates keep what stands still (docs/log.md)."""
    return MultiscaleGANConfig(
        residual=False,
        output="gated",
        generator_slope=0.1,
        tanh="scaled",
        start_at_mean=True,
        lp_exponent=2.0,
        gdl_weight=0.1,
        adversarial_weight=0.005,
        gate_weight=0.0,  # 0.01 closes all gates where frames differ by few pixels
        generator_widths=((16, 32, 16), (16, 32, 16), (16, 32, 64, 32, 16), (16, 32, 64, 32, 16)),
        discriminator_widths=((32,), (32, 32, 64), (32, 32, 64), (32, 32, 64, 128)),
        discriminator_hidden=((256, 128), (256, 128), (256, 128), (256, 128)),
        optim=OptimConfig(
            generator_lr=1.5e-3, generator_final_lr=1e-4, decay_steps=20_000, discriminator_lr=2e-5, betas=(0.9, 0.99)
        ),
    )


def stable() -> MultiscaleGANConfig:
    """`small` trained to run on its own output: gated new frames, noise on the context, recursion with its whole
    gradient, rounded feedback, more crops without motion; no adversary, which `--model.adversarial` adds."""
    return replace(
        small(),
        context_noise=0.05,
        recursion=3,
        recursion_gradient="all",
        round_feedback=True,
        motion_bypass=0.1,
        adversarial=False,
        adversarial_frame="last",
        gate_weight=0.01,
        optim=replace(small().optim, decay_steps=0, generator_clip=1.0),
    )


def natural() -> MultiscaleGANConfig:
    """`small` for natural video of seconds or minutes, in which most is static: gated new frames, the published
    losses, a lower rate, augmented clips; no adversary, which would take two thirds of a short training."""
    return replace(
        small(),
        adversarial=False,
        lp_exponent=1.0,
        gdl_weight=1.0,
        adversarial_weight=0.05,
        gate_weight=0.01,
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
        output="frame",
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
    "stable": stable,
    "natural": natural,
    "eight": eight,
    "tiny": tiny,
}
