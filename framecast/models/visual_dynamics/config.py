"""Configuration and profiles of cross convolutional networks (Visual Dynamics)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from framecast.core.config import require_above, require_choices, require_least, require_share
from framecast.core.errors import UserError
from framecast.models.chain import Chain, Link

Rows = tuple[tuple[int, ...], ...]

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Adam, as published."""

    lr: float = 1e-3
    """Learning rate, above 0; published: constant 1e-3."""
    final_lr: float | None = None
    """Learning rate reached linearly after `decay_epochs`; None keeps it constant."""
    decay_epochs: float = 0.0
    """Number of epochs until the final rate is reached; required with a final rate."""
    decay_steps: int = 0
    """Number of steps until the final rate is reached; set when a run starts."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's two averages, each in 0…1."""
    eps: float = 1e-7
    """Constant added to Adam's denominator, above 0; the published framework has 1e-7."""
    cosine: bool = False
    """Learning rate falling along a cosine over the run, however long it is, after 50 steps of warm-up; in place of
    `final_lr`."""
    clip: float = 1.0
    """Bound of the norm of all gradients together; 0 for none, as published. The published curves diverge in the first
    16 epochs, when exp(log-variance) overflows; this and the clamp prevent it."""

    def __post_init__(self) -> None:
        require_above(self, "optim.", "lr", "final_lr", "eps")
        require_share(self, "optim.", "betas", open_end=True)
        require_least(self, "optim.", clip=0, decay_epochs=0, decay_steps=0)
        if self.cosine and self.final_lr is not None:
            raise UserError("optim.cosine and optim.final_lr exclude each other; use one of them")
        if self.final_lr is not None and not (self.decay_epochs or self.decay_steps):
            raise UserError("optim.decay_epochs must be above 0 where optim.final_lr is given")

    def rate(self, step: int) -> float:
        """Learning rate at a step."""
        if self.final_lr is None:
            return self.lr
        share = min(step / self.decay_steps, 1.0) if self.decay_steps else 0.0
        return self.lr + (self.final_lr - self.lr) * share


@dataclass(frozen=True, kw_only=True)
class VisualDynamicsConfig:
    """Architecture, loss and prior. Layers of tables are rows of numbers, first layer first."""

    size: int = 128
    """Height and width of the frames in px; with `resize` every frame is resized to it. The motion encoder decides
    which sizes fit."""
    resize: bool = True
    """Resizing of frames to `size`. Without it frames keep their size, and the networks get them padded at the right
    and at the bottom to sides of whole cells; only with `pool`."""
    crop: int | None = None
    """Side of random training crops in px, at least 1, of frames that are not resized and larger; None takes them
    whole."""
    context: int = 1
    """Last frames that the image encoder gets, at least 1; published: 1, which does not show where things move."""
    horizon: int = 1
    """Longest lead time of a target frame, at least 1. Above 1 the kernels depend on the lead time too, and the best
    guess of every frame up to this one comes from the true context."""
    targets: int = 1
    """Target frames of each training clip, at least 1: the next one, the others at random lead times up to `horizon`;
    with a horizon of 1 the next one only."""
    # --- image encoder, one for each scale
    num_scales: int = 4
    """Number of scales of the first frame, each half as large as the one before."""
    finest: int = 2
    """Size of the largest scale relative to the frame: 2 in the tested form, 1 in the authors' own."""
    image: Rows = ((64, 5, 2), (64, 5, 1), (64, 5, 2), (32, 5, 1))
    """Convolutions of the image encoder: feature maps, kernel, stride; padded to size / stride."""
    image_down: bool = False
    """Maps of the next coarser scale as a further input of each scale's second layer, so that an edge's maps depend on
    the whole shape; the published scales are independent."""
    image_slope: float = 0.2
    """Negative slope of its ReLU, in 0…1."""
    # --- motion encoder
    motion: Rows = ((96, 5, 2, 1), (96, 5, 1, 1), (128, 5, 2, 0), (128, 5, 2, 0), (256, 5, 1, 0), (256, 5, 1, 0))
    """Convolutions of the motion encoder: feature maps, kernel, stride, padded (1) or not (0). The last gives mean and
    log-variance of z; its height and width must be those of the kernels, unless `pool`."""
    pool: bool = False
    """Average of the motion encoder's last maps over height and width: z then describes which motion, not its position,
    as in the last form of the authors' laboratory, and is repeated over the kernel decoder's input. Without it many
    positions of z are redundant, and samples from N(0, I), in which they are inconsistent, move too little."""
    split: Literal["channel", "spatial"] = "channel"
    """Split of the last output into mean and log-variance: between channels, so that every number of z depends on the
    whole pair; or "spatial", as the published code flattens it: the upper half of the image and the lower."""
    start_logvar: float = 0.0
    """Initial log-variance of z; below 0 there is little noise at first. Only with split channel."""
    slope: float = 0.2
    """Negative slope of the ReLU of motion encoder and kernel decoder, in 0…1."""
    # --- kernel decoder
    kernel_widths: tuple[int, ...] = (128,)
    """Feature maps of the kernel decoder's hidden convolutions, which keep the size."""
    kernel_size: int = 5
    """Height and width of the kernels, odd; also of the decoder's own convolutions."""
    # --- motion decoder
    upsample: Literal["bilinear", "transposed", "subpixel"] = "bilinear"
    """Upsampling of the maps of all scales to one size: bilinear; by a 9x9 transposed convolution for each, as
    published, which leaves holes at stride 16 (81 of 256 cells are reached); or "subpixel", to half the frame's size,
    with a last layer that makes four pixels of one."""
    decoder: Rows = ((128, 5),)
    """Hidden convolutions of the motion decoder: feature maps, kernel."""
    decoder_last: int = 5
    """Kernel size of the motion decoder's last convolution, odd."""
    decoder_frame: bool = False
    """Last frame as a further input of the motion decoder's first layer, so that it can erase what moved away; the
    published decoder gets moved maps only."""
    decoder_slope: float = 0.2
    """Negative slope of its ReLU, in 0…1."""
    output: Literal["difference", "mixed", "composed"] = "difference"
    """Change of the last frame: the difference image, as published; "mixed", a mean of the difference image and of
    the changes to the other context frames and to none, by weights that the motion decoder gives every pixel; or
    "composed", new colours that cover the frame plus the difference image with an opacity given for every pixel."""
    # --- normalisation, starting values
    bn_momentum: float = 0.01
    """Weight of a batch in the running statistics, in 0…1; published: 0.01 in the tested form, 0.1 in the other."""
    init_sd: float | None = 0.02
    """Standard deviation of the truncated normal of initial weights, as published; None uses He et al. 2015, which
    suits narrow networks."""
    # --- loss
    lp_exponent: float = 2.0
    """Exponent of the pixel error, at least 1, below which the gradient of an exact pixel is infinite: 2 is the squared
    error, as published; 1 is l1."""
    gdl_weight: float = 0.0
    """Weight of the gradient-difference loss of the next frame, at least 0, which compares the strength of edges; 0
    omits it, as published."""
    kl_weights: Points = ((0, 0.005), (48, 0.02), (56, 0.05))
    """Schedule of the KL term's weight, as (epoch, weight from there on); the term is a mean over the numbers of z.
    Published: 0.005 raised after epochs 48 and 56, at last 0.05; the value between is the geometric mean."""
    kl_between: Literal["step", "linear"] = "step"
    """Interpolation between two epochs of kl_weights: the earlier weight, or a straight line."""
    kl_steps: Points = ()
    """Schedule of kl_weights in steps; set when a run starts."""
    logvar_clamp: float = 10.0
    """Bound of log-variances, which are clamped to ± this."""
    guess_weight: float = 0.0
    """Weight of the error of the forecast with z = 0, at least 0. Above 0 a single requested sample is that
    forecast, the best guess; several samples are drawn."""
    relative: float = 0.0
    """Errors of each target are divided by that of the last frame plus this (in units of -1…1), so that a target that
    hardly differs from the last frame has as much weight as others; 0 divides by nothing, as published."""
    shrink: bool = False
    """Scaling of the best guess's change from the last true frame, after training, by the share in 0…1 that has the
    least squared error on validation clips at each lead time; only with a `horizon` above 1."""
    # --- prior
    stored: int = 1000
    """Number of latest posteriors of training pairs that are stored with the weights; 0 stores none."""
    prior: Literal["normal", "posterior"] = "normal"
    """Distribution of z in prediction: N(0, I), or the posterior of a random stored training pair."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Settings of the optimiser."""

    def __post_init__(self) -> None:
        require_least(self, "model.", context=1, horizon=1, targets=1, guess_weight=0, relative=0)
        require_least(self, "model.", lp_exponent=1, gdl_weight=0)
        if self.crop is not None and (self.crop < 1 or self.resize):
            raise UserError(f"model.crop must be at least 1, and None with model.resize, got {self.crop}")
        require_least(self, "model.", size=1, num_scales=1, finest=1, kernel_size=1, decoder_last=1)
        require_share(self, "model.", "image_slope", "slope", "decoder_slope", "bn_momentum")
        if self.kernel_size % 2 == 0 or self.decoder_last % 2 == 0:
            raise UserError(
                f"model.kernel_size and model.decoder_last must be odd, got {self.kernel_size}, {self.decoder_last}"
            )
        if self.stored < 0 or not self.logvar_clamp > 0 or (self.init_sd is not None and not self.init_sd > 0):
            raise UserError("model: stored must be at least 0, logvar_clamp and init_sd above 0")
        require_choices(self, "model.")
        self._check_tables()
        if not self.decoder and (self.decoder_frame or self.output == "composed"):
            raise UserError("model.decoder needs at least one layer with decoder_frame, or with output composed")
        if self.image_down and min(len(self.image), self.num_scales) < 2:
            raise UserError("model.image needs at least two layers, and model.num_scales at least 2, with image_down")
        self._check_kl("kl_weights", self.kl_weights)
        self._check_kl("kl_steps", self.kl_steps or ((0, 0),))
        self.check_size(self.size, self.size)
        self._check_grid()
        if not (self.resize or self.pool):
            raise UserError("model.resize off needs model.pool: a grid of latents has the size of one frame size only")

    def _check_tables(self) -> None:
        for name, columns in (("image", 3), ("motion", 4), ("decoder", 2)):
            rows: Rows = getattr(self, name)
            if name != "decoder" and not rows:
                raise UserError(f"model.{name} needs at least one layer")
            for row in rows:
                if len(row) != columns or min(row[:3]) < 1 or (columns == 4 and row[3] not in (0, 1)):
                    expected = "feature maps-kernel" + ("", "-stride", "-stride-padded (0 or 1)")[columns - 2]
                    raise UserError(f"model.{name}: every row must be {expected}, got {'-'.join(map(str, row))}")
        if self.motion[-1][0] % 2:
            raise UserError(
                f"model.motion: the last layer is split in two; its width must be even, got {self.motion[-1][0]}"
            )

    def _check_kl(self, name: str, points: Points) -> None:
        epochs = [epoch for epoch, _ in points]
        if not points or epochs[0] != 0 or epochs != sorted(set(epochs)) or min(w for _, w in points) < 0:
            raise UserError(f"model.{name} must start at 0, increase, and have weights of at least 0, got {points}")

    def check_size(self, height: int, width: int) -> None:
        """Check that frames of this size can be encoded as maps that nest.

        Raises:
            UserError: saying which sizes can.
        """
        unit = self.unit
        if height % unit or width % unit or min(height, width) < unit:
            raise UserError(
                f"frames of {height}x{width} do not fit: the maps of {self.num_scales} scales nest only where both "
                f"sides are multiples of {unit}; set model.size to one, or use fewer scales"
            )

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Sides of whole cells, at least those of the frame, of which the motion encoder's layers leave something."""
        least = 1
        for _, kernel, stride, padded in reversed(self.motion):
            least = (least - 1) * stride + (1 if padded else kernel)
        unit = self.unit
        return (-(-max(height, least) // unit) * unit, -(-max(width, least) // unit) * unit)

    @property
    def unit(self) -> int:
        """Sides of frames must be multiples of this: the coarsest map has whole cells then."""
        return max(2, self.reduction * (1 << self.num_scales - 1) // self.finest)

    @property
    def reduction(self) -> int:
        """Ratio of an image to its feature maps, in height or width."""
        found = 1
        for _, _, stride in self.image:
            found *= stride
        return found

    def _check_grid(self) -> None:
        side = self.size
        for number, (_, kernel, stride, padded) in enumerate(self.motion):
            side = -(-side // stride) if padded else (side - kernel) // stride + 1
            if side < 1:
                raise UserError(
                    f"frames of {self.size}x{self.size} do not fit: layer {number + 1} of model.motion has no "
                    "input left; use larger frames, fewer strides or padded layers (small is built for 64)"
                )
        if self.pool:
            if self.split == "spatial":
                raise UserError("model.split spatial cuts a grid; with model.pool there is none: use channel")
        elif side != self.kernel_size:
            raise UserError(
                f"frames of {self.size}x{self.size} do not fit: model.motion makes latents of {side}x{side}, but "
                f"kernels are {self.kernel_size}x{self.kernel_size} and must have the same size; change model.size, "
                "model.motion or model.kernel_size (the published layers are built for 128)"
            )

    @property
    def z_channels(self) -> int:
        """Channels of z, which has the height and width of the kernels, or 1x1 with `pool`."""
        return self.motion[-1][0] // 2

    @property
    def z_size(self) -> int:
        """Numbers of z."""
        return self.z_channels * self.z_side**2

    @property
    def z_side(self) -> int:
        """Height and width of z."""
        return 1 if self.pool else self.kernel_size

    @property
    def maps(self) -> int:
        """Feature maps of each scale."""
        return self.image[-1][0]

    def kl_weight(self, step: int) -> float:
        """Weight of the KL term at a step; the first one before a run starts."""
        points = self.kl_steps or self.kl_weights[:1]
        after = next((i for i, (begin, _) in enumerate(points) if begin > step), len(points))
        begin, weight = points[after - 1]
        if self.kl_between == "step" or after == len(points):
            return weight
        end, target = points[after]
        return weight + (target - weight) * (step - begin) / (end - begin)


def default() -> VisualDynamicsConfig:
    """The published form that was tested, repaired: z is split between channels, and no scale leaves holes."""
    return VisualDynamicsConfig()


def original() -> VisualDynamicsConfig:
    """The published form that was tested, literal; only clamp and clip against its outliers are off."""
    return VisualDynamicsConfig(split="spatial", upsample="transposed", optim=OptimConfig(clip=0.0))


def master() -> VisualDynamicsConfig:
    """The published form that came first; only its sampler, which used the variance as a standard deviation, is
    repaired."""
    return VisualDynamicsConfig(
        image_slope=0.0,
        split="spatial",
        decoder=((128, 9), (128, 1)),
        decoder_last=1,
        decoder_slope=0.0,
        bn_momentum=0.1,
        kl_weights=((0, 0.005),),
        optim=OptimConfig(clip=0.0),
    )


def pairs() -> VisualDynamicsConfig:
    """The same idea on pairs of frames of 64x64, narrower; learns within an hour on one CPU core."""
    return VisualDynamicsConfig(
        size=64,
        finest=1,
        image=((16, 3, 2), (24, 3, 1), (16, 3, 1)),
        motion=((32, 5, 2, 1), (48, 5, 2, 1), (64, 3, 2, 1), (64, 4, 1, 0)),
        pool=True,
        start_logvar=-4.0,
        kernel_widths=(64,),
        upsample="subpixel",
        decoder=((48, 1), (32, 3)),
        decoder_last=3,
        bn_momentum=0.1,
        init_sd=None,
        kl_weights=((0, 0.001), (3, 0.003), (6, 0.02)),
        kl_between="linear",
        optim=OptimConfig(lr=2e-3, final_lr=1e-4, decay_epochs=9),
    )


def medium() -> VisualDynamicsConfig:
    """Pairs of frames of 128x128 with the published depth of the image encoder at a third of its width, and a decoder
    that sees the frame. Not trained to its end so far (docs/log.md)."""
    return replace(
        pairs(),
        size=128,
        image=((24, 5, 2), (24, 3, 1), (24, 3, 1), (16, 3, 1)),
        motion=((32, 5, 2, 1), (48, 5, 2, 1), (64, 3, 2, 1), (96, 3, 2, 1), (64, 4, 1, 0)),
        output="composed",
        decoder_frame=True,
    )


def small() -> VisualDynamicsConfig:
    """The networks of `pairs` on video of any size, with four frames of context, a mixture of them and new pixels, and
    a best guess of 64 frames (docs/log.md)."""
    return replace(
        pairs(),
        resize=False,
        crop=128,
        context=4,
        horizon=64,
        targets=3,
        output="mixed",
        guess_weight=1.0,
        relative=2e-3,
        shrink=True,
        kl_weights=((0, 0.3),),
        kl_between="step",
        optim=OptimConfig(lr=2e-3, cosine=True),
    )


def tiny() -> VisualDynamicsConfig:
    """A few thousand weights in the same shape; for tests."""
    return VisualDynamicsConfig(
        size=32,
        image=((8, 3, 2), (4, 3, 2)),
        motion=((8, 5, 2, 1), (8, 3, 2, 1), (8, 4, 1, 0)),
        kernel_widths=(8,),
        decoder=((8, 3),),
        decoder_last=3,
        bn_momentum=0.1,
        init_sd=None,
        kl_weights=((0, 0.5),),
        stored=16,
    )


PROFILES: dict[str, Callable[[], VisualDynamicsConfig]] = {
    "default": default,
    "original": original,
    "master": master,
    "medium": medium,
    "small": small,
    "pairs": pairs,
    "tiny": tiny,
}


def _link(name: str, epochs: float, weights: Points, lr: float = 1.5e-3, pool: bool = True, **model: Any) -> Link:
    """A training over which the learning rate falls; `model` has further settings."""
    own = {"pool": pool, "kl_weights": weights, "optim.lr": lr, "optim.decay_epochs": epochs}
    return Link(name=name, length=epochs, model={**own, **model})


#: Against outlines that stay where shapes were (docs/log.md). Codes of N(0, I) lie between those of true motions too,
#: hence the prior; fewer are stored, so that the weights are not larger with the layers that are added.
_ERASING: dict[str, Any] = {
    "output": "composed",
    "decoder_frame": True,
    "image_down": True,
    "stored": 700,
    "prior": "posterior",
}


CHAINS: dict[str, Chain] = {
    # The first link has a code of 5x5 places, whose values turned out to be alike (docs/log.md); the second pools them
    # into one and keeps all other weights. Off-axis errors and the spread of sampled motions keep improving long after
    # the loss is constant, hence two of 4.8 epochs. The last has further layers, without influence at first.
    "staged": Chain(
        base="pairs",
        unit="epochs",
        links=(
            _link("places", 5, ((0, 0.01), (0.5, 0.05), (1.5, 0.2), (3, 0.6), (4.5, 1)), lr=2e-3, pool=False),
            _link("pooled", 2.4, ((0, 0.001), (0.3, 0.003), (1.2, 0.02))),
            _link("third", 2.4, ((0, 0.012),)),
            _link("fourth", 4.8, ((0, 0.012), (1, 0.008))),
            _link("last", 4.8, ((0, 0.008),)),
            _link("erasing", 1.6, ((0, 0.008),), lr=1e-3, **_ERASING),
        ),
    ),
}
