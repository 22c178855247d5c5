"""Configuration of the fourteen autoencoders: their four choices, the choices of each name, and the profiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from framecast.core.config import require_above, require_choices, require_least, require_share
from framecast.core.errors import UserError
from framecast.core.types import Optimiser

Pair = tuple[int, int]
Kind = Literal["adam", "radam", "sgd"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimisers; published: RAdam with these settings, Adam for the four variational models."""

    kind: Kind = "radam"
    """Optimiser of all networks: radam, adam or sgd."""
    lr: float = 1e-3
    """Learning rate of encoder and decoder, above 0."""
    discriminator_lr: float = 1e-3
    """Learning rate of the discriminators, above 0."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the two averages of (R)Adam, each in 0…1."""
    eps: float = 1e-7
    """Constant added to their denominator, above 0; 1e-7 is TensorFlow's, 1e-8 torch's."""

    def __post_init__(self) -> None:
        require_choices(self, "optim.")
        require_above(self, "optim.", "lr", "discriminator_lr", "eps")
        require_share(self, "optim.", "betas", open_end=True)

    def optimiser(self, lr: float) -> Optimiser:
        """The optimiser of a phase.

        Args:
            lr: learning rate, above 0.
        """
        return Optimiser(kind=self.kind, lr=lr, betas=self.betas, eps=self.eps)


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Choices, networks, loss and stages. The model's name sets the first four fields; changing one gives another
    combination under the same name."""

    # --- the four choices
    trunk: Literal["conv", "dense"] = "conv"
    """Layers: convolutions, or dense layers over each pixel's channels and then over everything."""
    memory: Literal["none", "lstm", "time"] = "none"
    """Memory: none, one frame at a time; ConvLSTM layers over a clip; or one dense layer over the features of its
    frames."""
    bottleneck: Literal["plain", "variational"] = "plain"
    """Latent: the encoder's output, or a sample of a normal whose mean and log-variance have an encoder each."""
    adversary: Literal["none", "image", "latent", "both"] = "none"
    """Discriminators of predicted images (GA), of latents against a normal (IA), or both (GIA)."""
    # --- inputs and outputs
    geometry: Literal["native", "resized"] = "native"
    """Frame geometry. "native": original size, strides (2,2) and (3,2); sizes are multiples of 6 and 4. "resized", as
    published: every frame resized to 160 high and 210 wide, strides (2,2) and (2,3)."""
    shift: int = 5
    """Number of frames between input and target, at least 1; also the number predicted at once."""
    episode: int = 10
    """Number of consecutive frames of a training clip, at least 1: the number of pairs, or with memory one clip, at
    least `shift`."""
    stride: int = 1
    """Source frames per model frame, at least 1."""
    # --- networks
    latent: int = 30
    """Dimension of the latent, at least 1; published: 30, which cannot represent sprites."""
    residual: bool = False
    """Residual prediction on the last known frame (as logits), instead of generating every pixel from the latent."""
    shrink: int = 0
    """Frames of a roll-out at which the change from the last known frame is scaled, after training, by the share in
    0…1 that has the least squared error on validation clips; later frames have the last share. 0 is off."""
    widths: Pair = (30, 6)
    """Feature maps of the encoder's two layers; convolutional trunk."""
    decoder_widths: tuple[int, int, int] = (15, 6, 30)
    """Feature maps the decoder starts from, and of its two layers before the last; convolutional trunk."""
    strides: tuple[Pair, Pair] | None = None
    """Strides (down, across) of the encoder's layers; the decoder's are the same in reverse. None: the geometry's."""
    pixel_widths: tuple[int, ...] = (15, 15)
    """Units per pixel of the encoder's first layers; dense trunk. Published: two layers, one in GIA and IA."""
    hidden_widths: tuple[int, ...] = (30, 30)
    """Units of the decoder's first layers; dense trunk. Published: 30 and 30, in FC-AE 30 and 45."""
    activation: Literal["relu", "elu"] = "relu"
    """Between layers; the published adversarial stages switched to elu, on outputs too, which is not repeated."""
    latent_norm: bool = True
    """Batch norm on the latent."""
    logvar_start: float = 0.0
    """Initial log-variance of latents of a variational model. Batch norm keeps it near 0, where the noise is as large
    as the latent, until its shift is learned."""
    latent_dropout: float = 0.0
    """Fraction of the latent set to 0 in training, 0…1; published: 0.25."""
    output_tail: bool = False
    """Batch norm and 25 % dropout on the decoder's output logits, as published: speckles while training."""
    norm_momentum: float = 0.1
    """Weight of a batch in the running statistics of batch norm, 0…1; published (Keras): 0.01."""
    latent_judge: Literal["mlp", "decoder"] = "mlp"
    """Discriminator of latents: 128 and 128 units, or as published a clone of the decoder, which generates a whole
    image to score a latent."""
    # --- loss
    reduction: Literal["mean", "sum", "published"] = "mean"
    """Reduction of the reconstruction: mean per value, sum over a frame or clip, or as published: summed over frames
    and pixels, for clips averaged over channels. Next to sums the adversarial terms are negligible."""
    kl: Literal["elbo", "published"] = "elbo"
    """KL term. "elbo": closed form, summed over the latent, on the scale of the reconstruction; "published": the
    difference of log-densities at the sample, averaged over the latent, which is a thirtieth."""
    beta: float = 1.0
    """Weight of the KL term, at least 0."""
    activity: float = 0.0
    """Weight of sum |x| + sum x^2 of latents and logits over the batch size, at least 0; published: 1e-6."""
    generator_weight: float = 0.1
    """Weight g of the generator terms, in 0…1: together they get (1 - d) g, the reconstruction (1 - d) (1 - g)."""
    discriminator_weight: float = 0.001
    """Weight d of the discriminators in the published joint loss, in 0…1. Here they are trained in a separate phase."""
    # --- stages
    patience: int = 12
    """Number of validations without improvement that end a stage, at least 1; the best weights are kept."""
    pretrain_share: float = 0.6
    """Fraction of the run for reconstruction alone, 0…1, with an adversary."""
    warm_up_steps: int = 500
    """Number of steps for the discriminators alone after that, at most a twentieth of the run."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisers of the networks."""

    def __post_init__(self) -> None:
        require_choices(self, "model.")
        require_least(
            self,
            "model.",
            shift=1,
            episode=1,
            stride=1,
            latent=1,
            patience=1,
            warm_up_steps=1,
            beta=0,
            activity=0,
            shrink=0,
        )
        shares = ("latent_dropout", "norm_momentum", "generator_weight", "discriminator_weight", "pretrain_share")
        require_share(self, "model.", *shares, open_end=True)
        for name in ("widths", "decoder_widths", "pixel_widths", "hidden_widths"):
            if any(width < 1 for width in getattr(self, name)):
                raise UserError(f"model.{name} must hold numbers of at least 1, got {getattr(self, name)}")
        if self.strides is not None and any(not 1 <= s <= 3 for pair in self.strides for s in pair):
            raise UserError(f"model.strides must hold 1, 2 or 3 (the kernels have 3 pixels), got {self.strides}")
        if self.memory != "none" and self.episode < max(2, self.shift):
            raise UserError(
                f"model.episode must be at least model.shift ({self.shift}) and 2 with memory, got {self.episode}"
            )
        if self.memory == "lstm" and self.trunk == "dense":
            raise UserError("model.memory lstm needs images; use model.trunk conv")
        if self.memory != "none" and self.adversary != "none":
            raise UserError("model.adversary scores single frames; use model.memory none")

    @property
    def steps_of(self) -> tuple[Pair, Pair]:
        """Strides (down, across) of the encoder's two layers."""
        if self.strides is not None:
            return self.strides
        return ((2, 2), (3, 2)) if self.geometry == "native" else ((2, 2), (2, 3))


_CONV, _DENSE = AutoencoderConfig(), AutoencoderConfig(trunk="dense")
_SHALLOW = replace(_DENSE, pixel_widths=(15,))

#: The choices of the fourteen names. The dense ones differ in depth as published.
VARIANTS: dict[str, AutoencoderConfig] = {
    "c-ae": _CONV,
    "c-vae": replace(_CONV, bottleneck="variational"),
    "fc-ae": replace(_DENSE, hidden_widths=(30, 45)),
    "fc-vae": replace(_DENSE, bottleneck="variational"),
    "c-ga-ae": replace(_CONV, adversary="image"),
    "fc-ga-ae": replace(_DENSE, adversary="image"),
    "c-gia-ae": replace(_CONV, adversary="both"),
    "fc-gia-ae": replace(_SHALLOW, adversary="both"),
    "c-ia-ae": replace(_CONV, adversary="latent"),
    "fc-ia-ae": replace(_SHALLOW, adversary="latent"),
    # the ConvLSTM models' decoder widens first
    "c-lstm-ae": replace(_CONV, memory="lstm", decoder_widths=(15, 30, 6)),
    "c-lstm-vae": replace(_CONV, memory="lstm", decoder_widths=(15, 30, 6), bottleneck="variational"),
    "c-td-ae": replace(_CONV, memory="time"),
    "c-td-vae": replace(_CONV, memory="time", bottleneck="variational"),
}


def default(name: str) -> AutoencoderConfig:
    """The published architecture, repaired: no batch norm or dropout on output logits nor dropout on latents, means, an
    ELBO, a small discriminator of latents, RAdam throughout."""
    return VARIANTS[name]


def original(name: str) -> AutoencoderConfig:
    """The published code as far as it can run: layers, tails, sums, optimisers; one discriminator a domain."""
    config = VARIANTS[name]
    return replace(
        config,
        geometry="resized",
        latent_dropout=0.25,
        output_tail=True,
        norm_momentum=0.01,
        latent_judge="decoder",
        reduction="published",
        kl="published",
        activity=1e-6,
        optim=OptimConfig(kind="adam" if config.bottleneck == "variational" else "radam"),
    )


def small(name: str) -> AutoencoderConfig:
    """For minutes on a CPU, on frames of 84x64: a larger latent and residual prediction on the last known frame."""
    config = VARIANTS[name]
    # Dense layers see narrower pixels and widen where the published ones are a bottleneck.
    return replace(
        config,
        residual=True,
        shrink=64,
        # dense layers for whole clips would take half of every step
        latent=256 if config.memory == "none" else 64,
        widths=(12, 6) if config.memory == "lstm" else config.widths,
        pixel_widths=(4,) * len(config.pixel_widths),
        hidden_widths=(128, 128),
        episode=5,  # with memory: no target is among the input frames
        # The loss of a residual is a hundredth of that of a whole image: so are the other terms.
        beta=0.001,
        logvar_start=-5.0,
        generator_weight=0.002,
        warm_up_steps=100,
        optim=replace(config.optim, lr=2e-3),
    )


def tiny(name: str) -> AutoencoderConfig:
    """A few thousand weights, for frames of 32x32; for tests."""
    config = VARIANTS[name]
    return replace(
        config,
        shrink=4,
        latent=8,
        widths=(6, 4),
        decoder_widths=(4, 4, 6),
        strides=((2, 2), (2, 2)),
        pixel_widths=(4,) * len(config.pixel_widths),
        hidden_widths=(8, 8),
        episode=6,
        shift=3,
        warm_up_steps=4,
        optim=replace(config.optim, lr=4e-3),  # stable with so few weights, and tests are short
    )


PROFILES: dict[str, Callable[[str], AutoencoderConfig]] = {
    "default": default,
    "original": original,
    "small": small,
    "tiny": tiny,
}
