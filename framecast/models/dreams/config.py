"""Configuration and profiles of the dreams family (World Models)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from framecast.core.config import require_above, require_choices, require_least, require_share
from framecast.core.errors import UserError
from framecast.nn.mixture import Spread

Head = Literal["mdn", "gaussian", "linear", "softmax-mse", "softmax"]

HEADS = ("mdn", "gaussian", "linear", "softmax-mse", "softmax")

#: Heads whose output is a distribution to sample from.
DRAWING = ("mdn", "gaussian", "softmax")

#: Factor of the last enlargement of the decoder of a grid; sides of cells are multiples of it.
CELL_FACTOR = 4

#: Largest number of discrete codes of a cell.
_MOST_CODES = 4096


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Adam for both stages, as published (its older runs used rmsprop)."""

    vision_lr: float = 1e-3
    """Learning rate of the autoencoder, above 0; World Models has 1e-4."""
    memory_lr: float = 1e-3
    """Learning rate of the recurrent network, above 0."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's two averages, each in 0…1."""
    eps: float = 1e-8
    """Constant added to Adam's denominator, above 0; Keras has 1e-7."""
    clip: float | None = None
    """Bound on the norm of the memory's gradient, above 0; none as published. World Models bounds each value by 1."""

    warmup: int = 0
    """Steps of a stage over which its learning rate rises from 0, at least 0."""
    cosine: bool = False
    """Learning rates that fall along half a cosine over their stage; off: constant, as published."""

    def __post_init__(self) -> None:
        require_least(self, "optim.", warmup=0)
        require_above(self, "optim.", "vision_lr", "memory_lr", "eps", "clip")
        require_share(self, "optim.", "betas", open_end=True)


@dataclass(frozen=True, kw_only=True)
class DreamsConfig:
    """Autoencoder, memory, mixture, and how the two stages end."""

    # --- inputs
    context: int = 10
    """Number T of context latents before the first predicted one, at least 1; published runs have 4, 5, 10 and 24."""
    stride: int = 1
    """Source frames per model frame, at least 1."""
    use_actions: bool = True
    """Conditioning of the memory on actions where the data have them."""
    # --- vision
    code_size: int = 32
    """Dimension of the latent of a frame, at least 1."""
    encoder_widths: tuple[int, ...] = (32, 64, 64, 128)
    """Channels of the encoder's four convolutions; World Models has 32, 64, 128, 256."""
    decoder_widths: tuple[int, ...] = (64, 64, 32)
    """Channels of the decoder's first three transposed convolutions; World Models has 128, 64, 32."""
    kl_weight: float = 1.0
    """Weight of the KL term against the squared error summed over the frame, at least 0."""
    kl_floor: float = 0.0
    """Nats per frame below which the KL term has no gradient, at least 0; World Models has 0.5 per number, 16 in
    all."""
    start_at_mean: bool = True
    """Initial last biases of the decoder at the mean of the first batch; off: at 0, as published, from where on dark
    scenes the decoder stays at the mean image for long."""
    latent: Literal["frame", "grid"] = "frame"
    """Latent of a frame. "frame": one vector for the whole frame of 64x64, as published. "grid": one for every cell of
    a frame of any size that cells divide, `code_size` numbers each; for small objects that move."""
    cell_side: int = 8
    """Side of a cell of a grid, px, a multiple of 4."""
    code: Literal["gaussian", "discrete"] = "gaussian"
    """Code of a cell of a grid. "gaussian": `code_size` numbers with a variance each. "discrete": one of a finite
    number of codes, each of `code_size` numbers rounded to `levels` (finite scalar quantisation)."""
    levels: tuple[int, ...] = (8, 6, 5)
    """Levels of each number of a discrete code, at least 2; their product is the number of codes, at most 4,096."""
    grid_widths: tuple[int, int] = (112, 48)
    """Channels of the autoencoder of a grid, at the size of the grid and at a quarter of the frame's; at least 1."""
    change_weight: float = 20.0
    """Weight of what moves in the losses of a grid, at least 0: pixels count 1 + change_weight * difference from the
    still picture, moving cells 1 + change_weight."""
    background: Literal["still", "last"] = "still"
    """Background of the frames of a grid. "still": the still picture alone. "last": the last true frame, which
    remains wherever a gate, a function of the latents of both frames, is closed."""
    drawn_weight: float = 0.5
    """Weight of the error of the drawn frame alone, without the gate, beside that of the gated one, at least 0."""
    crop_cells: int = 5
    """Side, in cells, of the crops around what differs from the still picture on which the autoencoder of a grid is
    trained at first; 0 for whole frames throughout."""
    crop_share: float = 0.75
    """Share of the vision stage with crops, in 0…1; whole frames follow."""
    # --- memory
    cell: Literal["gru", "lstm"] = "gru"
    """Kind of the recurrent layers."""
    memory_sizes: tuple[int, ...] = (32, 64, 128)
    """Widths of the recurrent layers; World Models has one of 256."""
    memory_width: int = 96
    """Channels of the residual blocks of a memory over grids, at least 1; `memory_sizes` is then the width of its
    convolutional GRU."""
    memory_blocks: int = 1
    """Residual blocks before and after that GRU, or before and after the pooling of the U-Net; at least 1."""
    grid_memory: Literal["gru", "pictures"] = "gru"
    """Memory over grids. "gru": a convolutional GRU over their codes. "pictures": a U-Net over codes and decoded
    pictures of the last `memory_frames` grids of a window, and how long ago each cell changed; `memory_sizes` is its
    width at half the size of the grid."""
    picture_weight: float = 0.3
    """Weight of the squared error of the next picture, from whose code the memory over pictures predicts discrete
    codes, summed over a cell, at least 0."""
    memory_frames: int = 4
    """Last grids of a window that the memory over pictures sees, at least 1 and at most T."""
    recursion: int = 1
    """Predicted frames of a training window of a memory over grids without a carried state, at least 1: at last as
    many in a row follow the memory's own samples. 1 trains on true grids only."""
    recursion_ramp: float = 0.5
    """Fraction of the memory stage in which that number grows from 1 to `recursion`, in 0…1."""
    reset_cells: int = 7
    """A training window returns to the true grids once more cells than this are drawn visibly otherwise, at least 0; 0
    turns the return off."""
    recurrence: Literal["window", "carried"] = "window"
    """Use of the recurrent state. "window": reset for every frame, run over the last T latents and trained on the next
    latent, as published. "carried": kept from frame to frame, and every step of a sequence is trained, as in World
    Models."""
    sequence: int = 32
    """Number of latents of a training sequence with a carried state, at least T; World Models has 1,000."""
    head: Head = "mdn"
    """Output of the memory: mdn, a mixture of Gaussians; gaussian, a single one; linear, the latent by squared error;
    softmax-mse, the published first version, whose latents are positive and sum to 1; softmax, a probability of each
    discrete code."""
    compare: tuple[Head, ...] = ()
    """Further heads, each with its own memory, trained on the same batches of the same latents, to compare dreams with
    and without a mixture."""
    # --- mixture
    mixtures: int = 10
    """Number of components, at least 1; World Models has 5."""
    joint: bool = True
    """One choice of component for all dimensions of a latent, as published; off: one mixture per dimension, as in World
    Models."""
    spread: Spread = "elu"
    """Parametrisation of standard deviations: elu, ELU(x) + 1, or exp as in World Models."""
    sigma_floor: float = 1e-3
    """Constant added to every standard deviation, above 0; published 1e-8, which lets the likelihood spike."""
    # --- latents and sampling
    resample: bool = True
    """Resampling of a training latent from its Gaussian whenever it is used, with dreams that start from the mean, as
    in World Models; off: one sample is kept, and dreams start from a sample, as published."""
    weight_temperature: float = 1.0
    """Divisor of the mixture's logits, at least 0; 0 takes the most likely component."""
    sigma_temperature: float = 1.0
    """Factor of the variance of a sample, at least 0; 0 takes the component's mean."""
    sigma_is_variance: bool = False
    """Sigma as a variance when sampling, as the published code does by mistake: the noise becomes sqrt(sigma)."""
    shrink: int = 0
    """Frames of a roll-out at which the change from the last true frame is scaled, after training, by the share in 0…1
    that has the least squared error on validation clips; later frames have the last share. 0 is off."""
    # --- how the stages end
    vision_patience: int | None = 5
    """Validations without a better loss after which vision ends, its best weights restored; none: at the maximum
    fraction."""
    vision_share: float = 0.5
    """Maximum fraction of steps or budget for vision, above 0 and below 1."""
    memory_patience: int | None = 10
    """Validations without a better loss after which memory ends; the best weights are kept. none ends with the run."""
    # --- videos in the run folder
    reconstruction_frames: int = 1000
    """Maximum number of frames of the video original | reconstruction; 0 omits it."""
    dream_frames: int = 300
    """Number of frames of the video of a dream; 0 omits it."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisers of the two stages."""

    def __post_init__(self) -> None:
        require_least(self, "model.", context=1, stride=1, code_size=1, sequence=1, mixtures=1)
        require_least(self, "model.", kl_weight=0, kl_floor=0, weight_temperature=0, sigma_temperature=0)
        require_least(self, "model.", reconstruction_frames=0, dream_frames=0, shrink=0)
        require_least(self, "model.", change_weight=0, drawn_weight=0, crop_cells=0, memory_width=1, memory_blocks=1)
        for name, count in (("encoder_widths", 4), ("decoder_widths", 3)):
            if len(getattr(self, name)) != count or min(getattr(self, name)) < 1:
                raise UserError(f"model.{name} must be {count} numbers of at least 1, got {getattr(self, name)}")
        if not self.memory_sizes or min(self.memory_sizes) < 1:
            raise UserError(f"model.memory_sizes must be numbers of at least 1, got {self.memory_sizes}")
        require_choices(self, "model.")
        heads = (self.head, *self.compare)
        if len(set(heads)) != len(heads) or not set(heads) <= set(HEADS):
            raise UserError(f"model.compare must name heads other than {self.head}, each once, got {self.compare}")
        require_above(self, "model.", "sigma_floor")
        if not 0 < self.vision_share < 1:
            raise UserError(f"model.vision_share must lie between 0 and 1, got {self.vision_share}")
        for name in ("vision_patience", "memory_patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"model.{name} must be at least 1 or none, got {getattr(self, name)}")
        if self.recurrence == "carried" and self.sequence < self.context:
            raise UserError(
                f"model.sequence must be at least model.context ({self.context}) with a carried state, "
                f"got {self.sequence}"
            )
        if self.latent == "grid":
            self._check_grid()
        elif self.background == "last":
            raise UserError("model.background last needs model.latent grid, got frame")
        elif self.code == "discrete" or "softmax" in heads:
            raise UserError("model.code discrete and model.head softmax need model.latent grid, got frame")
        elif self.recursion != 1 or self.grid_memory != "gru":
            raise UserError("model.recursion and model.grid_memory need model.latent grid, got frame")

    def _check_grid(self) -> None:
        if self.cell_side < CELL_FACTOR or self.cell_side % CELL_FACTOR:
            raise UserError(f"model.cell_side must be a multiple of {CELL_FACTOR}, got {self.cell_side}")
        require_share(self, "model.", "crop_share")
        if len(self.grid_widths) != 2 or min(self.grid_widths) < 1:
            raise UserError(f"model.grid_widths must be 2 numbers of at least 1, got {self.grid_widths}")
        if len(self.memory_sizes) != 1 or self.cell != "gru":
            raise UserError(
                "model.latent grid has a memory of one convolutional GRU; use model.cell gru and one number in "
                f"model.memory_sizes, got {self.cell} and {self.memory_sizes}"
            )
        heads = {self.head, *self.compare}
        if not heads <= set(DRAWING) or not self.resample:
            raise UserError("model.latent grid needs heads mdn, gaussian or softmax, and model.resample")
        if (heads == {"softmax"}) != (self.code == "discrete") or (self.code == "gaussian" and "softmax" in heads):
            raise UserError(f"model.code discrete and model.head softmax need each other, got {self.code}, {self.head}")
        if self.code == "discrete" and (
            min(self.levels) < 2 or math.prod(self.levels) > _MOST_CODES or len(self.levels) != self.code_size
        ):
            raise UserError(
                f"model.levels must be model.code_size ({self.code_size}) numbers of at least 2 with a product of at "
                f"most {_MOST_CODES:,}, got {self.levels}"
            )
        self._check_memory()

    def _check_memory(self) -> None:
        require_least(self, "model.", recursion=1, memory_frames=1, reset_cells=0, picture_weight=0)
        require_share(self, "model.", "recursion_ramp")
        carried = self.recurrence == "carried"
        if carried and (self.recursion > 1 or self.grid_memory == "pictures"):
            raise UserError("model.recursion above 1 and model.grid_memory pictures need model.recurrence window")
        if self.grid_memory == "pictures" and self.memory_frames > self.context:
            raise UserError(
                f"model.memory_frames must be at most model.context ({self.context}), got {self.memory_frames}"
            )

    def components(self, head: Head) -> int:
        """Number of Gaussians in the output of a head."""
        return {"mdn": self.mixtures, "gaussian": 1}.get(head, 0)


def default() -> DreamsConfig:
    """The published networks, their sampling, noise floor and use of the posterior repaired."""
    return DreamsConfig()


def original() -> DreamsConfig:
    """The published code, literal: latents sampled once, sigma as a variance, a negligible noise floor."""
    return DreamsConfig(
        sigma_floor=1e-8,
        resample=False,
        sigma_is_variance=True,
        start_at_mean=False,
        memory_patience=None,
        optim=OptimConfig(eps=1e-7),
    )


def world_models() -> DreamsConfig:
    """The World Models networks: a wider autoencoder, an LSTM of 256, five one-dimensional mixtures a number."""
    return DreamsConfig(
        encoder_widths=(32, 64, 128, 256),
        decoder_widths=(128, 64, 32),
        kl_floor=16.0,
        cell="lstm",
        memory_sizes=(256,),
        recurrence="carried",
        mixtures=5,
        joint=False,
        spread="exp",
        optim=OptimConfig(vision_lr=1e-4, clip=1.0),
    )


def small() -> DreamsConfig:
    """Small cells over the last true frame as background, a narrow memory over the grid; for minutes on two cores."""
    return replace(
        grid(),
        cell_side=4,
        code_size=6,
        grid_widths=(48, 32),
        crop_cells=10,
        background="last",
        shrink=64,
        vision_share=0.3,  # the memory is what limits the forecast (docs/log.md)
        memory_sizes=(32,),
        memory_width=32,
    )


def narrow() -> DreamsConfig:
    """One latent for a frame; half the channels of the autoencoder, the published memory; for minutes on two cores."""
    return DreamsConfig(encoder_widths=(16, 32, 32, 64), decoder_widths=(32, 32, 16))


def tiny() -> DreamsConfig:
    """Narrow layers and short windows in the same shape; for tests."""
    return DreamsConfig(
        context=3,
        code_size=4,
        encoder_widths=(4, 8, 8, 8),
        decoder_widths=(8, 8, 8),
        memory_sizes=(16,),
        mixtures=2,
        vision_patience=None,
        memory_patience=None,
        reconstruction_frames=12,
        dream_frames=12,
        optim=OptimConfig(vision_lr=3e-3, memory_lr=1e-2),
    )


def grid() -> DreamsConfig:
    """A latent for every cell of 8x8 px, a convolutional memory with a carried state, losses weighted to what moves."""
    return DreamsConfig(
        latent="grid",
        code_size=16,
        kl_weight=0.002,
        memory_sizes=(64,),
        recurrence="carried",
        sequence=16,
        mixtures=5,
        spread="exp",
        weight_temperature=0.3,
        sigma_temperature=0.1,
        vision_patience=None,
        vision_share=0.4,
        memory_patience=None,
        optim=OptimConfig(vision_lr=2e-3, memory_lr=2e-3, clip=1.0, warmup=50, cosine=True),
    )


def tokens() -> DreamsConfig:
    """A discrete code for every cell of 4x4 px, a memory that sees decoded pictures and is trained on its own grids."""
    return replace(
        grid(),
        context=40,
        cell_side=4,
        code="discrete",
        code_size=3,
        levels=(8, 6, 5),
        grid_widths=(64, 32),
        crop_cells=10,
        grid_memory="pictures",
        memory_sizes=(64,),
        memory_width=48,
        memory_frames=3,
        recurrence="window",
        recursion=4,
        head="softmax",
        weight_temperature=0.0,
        vision_share=0.32,
    )


def tokens_tiny() -> DreamsConfig:
    """`tokens` with narrow layers and short windows; for tests."""
    return replace(
        tokens(),
        context=5,
        cell_side=8,
        grid_widths=(8, 8),
        memory_sizes=(8,),
        memory_width=8,
        memory_frames=2,
        recursion=3,
        reconstruction_frames=12,
        dream_frames=12,
    )


def grid_tiny() -> DreamsConfig:
    """`grid` with narrow layers and short sequences; for tests."""
    return replace(
        grid(),
        context=3,
        code_size=4,
        grid_widths=(8, 8),
        memory_sizes=(8,),
        memory_width=8,
        sequence=5,
        mixtures=2,
        reconstruction_frames=12,
        dream_frames=12,
    )


PROFILES: dict[str, Callable[[], DreamsConfig]] = {
    "default": default,
    "original": original,
    "world-models": world_models,
    "small": small,
    "narrow": narrow,
    "tiny": tiny,
    "grid": grid,
    "grid-tiny": grid_tiny,
    "tokens": tokens,
    "tokens-tiny": tokens_tiny,
}
