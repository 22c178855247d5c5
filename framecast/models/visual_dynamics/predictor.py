"""Many futures of one picture, by cross convolution.

Paper: Xue, Wu, Bouman, Freeman, "Visual Dynamics: Probabilistic Future Frame Synthesis via Cross Convolutional
Networks", NIPS 2016, arXiv 1607.02586. A conditional variational autoencoder: a motion encoder sees two frames and
gives a Gaussian over a code z; a kernel decoder makes small convolution kernels of z; an image encoder turns the first
frame into feature maps at several scales; every map is convolved with a kernel of its own; a motion decoder makes a
difference image of the result, which is added to the first frame. To predict, z is drawn from the prior.

What deviates from the paper and from the published codes, and why, is said at each field of the config and in
docs/models/visual-dynamics.md. Frames are 0…1 at the door and -1…1 inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, ClipSpec, GradClip, Loss, Optimiser, Phase
from framecast.models.base import Frames, Predictor
from framecast.nn.conv import SameConv, SameTransposed, cross_convolve
from framecast.nn.precision import full_precision, widen

Rows = tuple[tuple[int, ...], ...]
Points = tuple[tuple[float, float], ...]
#: Samples of a preview, between the first frame and the true second one.
PREVIEW_SAMPLES = 6
#: Normalised activations: added to the variance, as published.
_EPS = 1e-5


# ------------------------------------------------------------------------------------------------ configuration


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How the network is trained: Adam, as published."""

    lr: float = 1e-3
    """Learning rate, above 0; published: constant 1e-3."""
    final_lr: float | None = None
    """Rate reached linearly after `decay_epochs`; None keeps the rate."""
    decay_epochs: float = 0.0
    """Epochs until the final rate is reached; needed where one is given."""
    decay_steps: int = 0
    """The same in steps; filled in when a run begins."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's two averages, each in 0…1."""
    eps: float = 1e-7
    """Added to Adam's denominator, above 0; 1e-7 is what the published framework has."""
    clip: float = 1.0
    """Bound of the norm of all gradients together; 0 for none, as published. The published curves jump off their scale
    in the first 16 epochs, when exp(log-variance) blows up; this and the clamp prevent it."""

    def __post_init__(self) -> None:
        for name in ("lr", "final_lr", "eps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"optim.{name} must be above 0, got {value}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"optim.betas must lie in 0…1, below 1, got {self.betas}")
        require_least(self, "optim.", clip=0, decay_epochs=0, decay_steps=0)
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
    """Height and width of the frames in px; every frame is brought to it. Which sizes fit a motion encoder is said when
    one does not."""
    # --- image encoder, one for each scale
    num_scales: int = 4
    """Images of the first frame, each half as large as the one before."""
    finest: int = 2
    """Side of the largest of them over the frame's: 2 in the tested form, 1 in the authors' own."""
    image: Rows = ((64, 5, 2), (64, 5, 1), (64, 5, 2), (32, 5, 1))
    """Its convolutions: feature maps, kernel, stride. Padded to keep size / stride."""
    image_slope: float = 0.2
    """Slope of its ReLU below 0, in 0…1."""
    # --- motion encoder
    motion: Rows = ((96, 5, 2, 1), (96, 5, 1, 1), (128, 5, 2, 0), (128, 5, 2, 0), (256, 5, 1, 0), (256, 5, 1, 0))
    """Its convolutions: feature maps, kernel, stride, padded (1) or not (0). The last gives mean and log-variance of z;
    its height and width must be those of the kernels, unless `pool`."""
    pool: bool = False
    """Average its last maps over height and width: z then says what moves how, not where, as in the last form of the
    authors' laboratory, and is laid out alike over the kernel decoder's input. Without it many places of z say the
    same, and draws from N(0, I), in which they contradict each other, move less than they should."""
    split: Literal["channel", "spatial"] = "channel"
    """Where the last output is cut into mean and log-variance: between channels, so that every number of z sees the
    whole pair; or "spatial", as the published code flattens it: the upper half of the picture and the lower."""
    start_logvar: float = 0.0
    """Log-variance of z before training; below 0 little noise hides z from the decoder at first. Only with
    split channel."""
    slope: float = 0.2
    """Slope of the ReLU of motion encoder and kernel decoder below 0, in 0…1."""
    # --- kernel decoder
    kernel_widths: tuple[int, ...] = (128,)
    """Feature maps of its hidden convolutions, which keep the size."""
    kernel_size: int = 5
    """Height and width of the kernels, odd; also of the decoder's own convolutions."""
    # --- motion decoder
    upsample: Literal["bilinear", "transposed", "subpixel"] = "bilinear"
    """How the maps of all scales come to one size: bilinear; by a 9x9 transposed convolution for each, as published,
    which leaves holes at stride 16 (81 of 256 cells are reached); or "subpixel", all at half the frame's size, whose
    last layer makes four pixels of one."""
    decoder: Rows = ((128, 5),)
    """Its hidden convolutions: feature maps, kernel."""
    decoder_last: int = 5
    """Kernel of its last convolution, odd."""
    decoder_slope: float = 0.2
    """Slope of its ReLU below 0, in 0…1."""
    # --- normalisation, starting values
    bn_momentum: float = 0.01
    """Share of a batch in the running statistics, in 0…1; published: 0.01 in the tested form, 0.1 in the other."""
    init_sd: float | None = 0.02
    """Standard deviation of the truncated normal that weights start from, as published; None is He et al. 2015, which
    suits narrow networks."""
    # --- loss
    kl_weights: Points = ((0, 0.005), (48, 0.02), (56, 0.05))
    """(epoch, weight) of the KL term, a mean over the numbers of z: from that epoch on this weight. Published: 0.005
    raised after epochs 48 and 56, at last 0.05; the value between is the geometric mean."""
    kl_between: Literal["step", "linear"] = "step"
    """Between two epochs of kl_weights: the earlier weight, or a straight line."""
    kl_steps: Points = ()
    """kl_weights with steps in place of epochs; filled in when a run begins."""
    logvar_clamp: float = 10.0
    """Log-variances are clamped to ± this."""
    # --- prior
    stored: int = 1000
    """Posteriors of training pairs that are kept with the weights, the latest; 0 keeps none."""
    prior: Literal["normal", "posterior"] = "normal"
    """Where z is drawn from to predict: N(0, I), or the posterior of a stored training pair chosen at random."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser."""

    def __post_init__(self) -> None:
        require_least(self, "model.", size=1, num_scales=1, finest=1, kernel_size=1, decoder_last=1)
        for name in ("image_slope", "slope", "decoder_slope", "bn_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"model.{name} must lie in 0…1, got {getattr(self, name)}")
        if self.kernel_size % 2 == 0 or self.decoder_last % 2 == 0:
            raise UserError(
                f"model.kernel_size and model.decoder_last must be odd, got {self.kernel_size}, {self.decoder_last}"
            )
        if self.stored < 0 or not self.logvar_clamp > 0 or (self.init_sd is not None and not self.init_sd > 0):
            raise UserError("model: stored must be at least 0, logvar_clamp and init_sd above 0")
        for name, allowed in (
            ("split", ("channel", "spatial")),
            ("upsample", ("bilinear", "transposed", "subpixel")),
            ("kl_between", ("step", "linear")),
            ("prior", ("normal", "posterior")),
        ):
            if getattr(self, name) not in allowed:
                raise UserError(f"model.{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        self._check_tables()
        self._check_kl("kl_weights", self.kl_weights)
        self._check_kl("kl_steps", self.kl_steps or ((0, 0),))
        self.check_size(self.size, self.size)
        self._check_grid()

    def _check_tables(self) -> None:
        for name, columns in (("image", 3), ("motion", 4), ("decoder", 2)):
            rows: Rows = getattr(self, name)
            if name != "decoder" and not rows:
                raise UserError(f"model.{name} needs at least one layer")
            for row in rows:
                if len(row) != columns or min(row[:3]) < 1 or (columns == 4 and row[3] not in (0, 1)):
                    told = "feature maps-kernel" + ("", "-stride", "-stride-padded (0 or 1)")[columns - 2]
                    raise UserError(f"model.{name}: every row must be {told}, got {'-'.join(map(str, row))}")
        if self.motion[-1][0] % 2:
            raise UserError(
                f"model.motion: the last layer is cut in two; give it an even width, not {self.motion[-1][0]}"
            )

    def _check_kl(self, name: str, points: Points) -> None:
        epochs = [epoch for epoch, _ in points]
        if not points or epochs[0] != 0 or epochs != sorted(set(epochs)) or min(w for _, w in points) < 0:
            raise UserError(f"model.{name} must begin at 0, rise, and have weights of at least 0, got {points}")

    def check_size(self, height: int, width: int) -> None:
        """Nothing, if frames of this size can be encoded as maps that nest.

        Raises: UserError saying which sizes can.
        """
        unit = self.unit
        if height % unit or width % unit or min(height, width) < unit:
            raise UserError(
                f"frames of {height}x{width} do not fit: the maps of {self.num_scales} scales nest only where both "
                f"sides are multiples of {unit}; set model.size to one, or use fewer scales"
            )

    @property
    def unit(self) -> int:
        """Sides of frames must be multiples of this: the coarsest map has whole cells then."""
        return max(2, self.reduction * (1 << self.num_scales - 1) // self.finest)

    @property
    def reduction(self) -> int:
        """An image over its feature maps, in height or width."""
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
                    f"frames of {self.size}x{self.size} do not fit: layer {number + 1} of model.motion has nothing "
                    "left to look at; take larger frames, fewer strides or padded layers (small is built for 64)"
                )
        if self.pool:
            if self.split == "spatial":
                raise UserError("model.split spatial cuts a grid; with model.pool there is none left: take channel")
        elif side != self.kernel_size:
            raise UserError(
                f"frames of {self.size}x{self.size} do not fit: model.motion makes a code of {side}x{side}, but "
                f"kernels are {self.kernel_size}x{self.kernel_size} and take its place one to one; change model.size, "
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
        """Weight of the KL term at a step; the first one where a run has not begun."""
        points = self.kl_steps or self.kl_weights[:1]
        after = next((i for i, (begin, _) in enumerate(points) if begin > step), len(points))
        begin, weight = points[after - 1]
        if self.kl_between == "step" or after == len(points):
            return weight
        end, target = points[after]
        return weight + (target - weight) * (step - begin) / (end - begin)


def default() -> VisualDynamicsConfig:
    """The published form that was tested, repaired: z is cut between channels, and no scale leaves holes."""
    return VisualDynamicsConfig()


def original() -> VisualDynamicsConfig:
    """The published form that was tested, literal; only clamp and clip against its outliers are off."""
    return VisualDynamicsConfig(split="spatial", upsample="transposed", optim=OptimConfig(clip=0.0))


def master() -> VisualDynamicsConfig:
    """The published form that came first; only its sampler, which took the variance for a deviation, is repaired."""
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


def small() -> VisualDynamicsConfig:
    """The same idea on frames of 64x64, narrower; learns within an hour on one CPU core."""
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
    "small": small,
    "tiny": tiny,
}


# -------------------------------------------------------------------------------------------------------- losses


@full_precision
def gaussian_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(logvar)) from N(0, 1), in nats, number by number.

    mean, logvar: float, equal shapes.  Returns: float of that shape; 0 where both are 0.
    Source: Kingma, Welling 2014 (arXiv 1312.6114), appendix B; here not summed.
    """
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


# ------------------------------------------------------------------------------------------------------- networks


def _activated(layer: nn.Conv2d, slope: float, momentum: float) -> list[nn.Module]:
    """A convolution, a (leaky) ReLU, and the normalisation after it, which is the published order."""
    activation = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
    return [layer, activation, nn.BatchNorm2d(layer.out_channels, eps=_EPS, momentum=momentum)]


class ImageEncoder(nn.Module):
    """Feature maps of the first frame at every scale, by networks that share nothing."""

    def __init__(self, config: VisualDynamicsConfig, channels: int):
        super().__init__()
        self.finest = config.finest
        self.scales = nn.ModuleList(self._scale(config, channels) for _ in range(config.num_scales))

    @staticmethod
    def _scale(config: VisualDynamicsConfig, channels: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for width, kernel, stride in config.image:
            layers += _activated(SameConv(channels, width, kernel, stride), config.image_slope, config.bn_momentum)
            channels = width
        return nn.Sequential(*layers[:-2])

    def forward(self, frame: Tensor) -> list[Tensor]:
        """Maps (b, maps, h_k, w_k), finest scale first.  frame: (b, c, h, w) in -1…1."""
        h, w = frame.shape[-2:]
        maps = []
        for k, scale in enumerate(self.scales):
            size = (self.finest * h // 2**k, self.finest * w // 2**k)
            image = frame if size == (h, w) else F.interpolate(frame, size, mode="bilinear", align_corners=False)
            maps.append(scale(image))
        return maps


class MotionEncoder(nn.Module):
    """Mean and log-variance of z from two frames."""

    def __init__(self, config: VisualDynamicsConfig, channels: int):
        super().__init__()
        self.split, self.clamp, self.pool = config.split, config.logvar_clamp, config.pool
        inputs, layers = 2 * channels, list[nn.Module]()
        for width, kernel, stride, padded in config.motion:
            make = SameConv if padded else nn.Conv2d
            layers += _activated(make(inputs, width, kernel, stride), config.slope, config.bn_momentum)
            inputs = width
        self.layers = nn.Sequential(*layers[:-2])

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """mean, logvar: (b, z) each.  first, second: frames (b, c, h, w) in -1…1."""
        x = widen(self.layers(torch.cat([first, second], 1)))
        if self.pool:
            x = x.mean((2, 3), keepdim=True)
        if self.split == "channel":
            mean, logvar = x.flatten(1).chunk(2, 1)
        else:  # channels last, then cut in the middle: the upper rows of the grid, and the lower
            flat = rearrange(x, "b c i j -> b (i j c)")
            height, width = x.shape[-2:]
            mean, logvar = (rearrange(half, "b (i j c) -> b (c i j)", i=height, j=width) for half in flat.chunk(2, 1))
        return mean, logvar.clamp(-self.clamp, self.clamp)


class KernelDecoder(nn.Module):
    """Kernels for every map of every scale from z."""

    def __init__(self, config: VisualDynamicsConfig):
        super().__init__()
        self.config = config
        inputs, layers = config.z_channels, list[nn.Module]()
        for width in (*config.kernel_widths, config.num_scales * config.maps):
            layers += _activated(SameConv(inputs, width, config.kernel_size), config.slope, config.bn_momentum)
            inputs = width
        self.layers = nn.Sequential(*layers[:-2])

    def forward(self, z: Tensor) -> list[Tensor]:
        """Kernels (b, maps, k, k), finest scale first.  z: (b, z)."""
        k, side = self.config.kernel_size, self.config.z_side
        x = self.layers(rearrange(z, "b (c i j) -> b c i j", i=side, j=side).expand(-1, -1, k, k))
        return list(x.chunk(self.config.num_scales, 1))


class MotionDecoder(nn.Module):
    """The difference image from the convolved maps of all scales."""

    def __init__(self, config: VisualDynamicsConfig, channels: int):
        super().__init__()
        self.upsample = config.upsample
        inputs = config.num_scales * config.maps
        self.enlarge: nn.ModuleList | None = None
        layers: list[nn.Module] = []
        if config.upsample == "transposed":
            first = config.reduction // config.finest
            self.enlarge = nn.ModuleList(
                SameTransposed(config.maps, config.maps, 9, first * 2**k) for k in range(config.num_scales)
            )
            layers.append(nn.BatchNorm2d(inputs, eps=_EPS, momentum=config.bn_momentum))
        for width, kernel in config.decoder:
            layers += _activated(SameConv(inputs, width, kernel), config.decoder_slope, config.bn_momentum)
            inputs = width
        outputs = 4 * channels if config.upsample == "subpixel" else channels
        layers.append(SameConv(inputs, outputs, config.decoder_last))
        self.layers = nn.Sequential(*layers)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """(b, c, h, w), in units of -1…1.  maps: (b, maps, h_k, w_k).  size: (h, w) of the frame."""
        if self.enlarge is not None:
            x = torch.cat([layer(each) for layer, each in zip(self.enlarge, maps, strict=True)], 1)
            return widen(self.layers(x))
        half = self.upsample == "subpixel"
        wanted = (size[0] // 2, size[1] // 2) if half else size
        x = torch.cat([_resized(each, wanted) for each in maps], 1)
        x = widen(self.layers(x))
        return F.pixel_shuffle(x, 2) if half else x


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)


# ------------------------------------------------------------------------------------------------------- predictor


class VisualDynamics(Predictor):
    """Many futures of one picture: cross convolutions with kernels made of a random code."""

    Config = VisualDynamicsConfig
    family = "cross convolutional networks"
    paper = (
        "Xue, Wu, Bouman, Freeman: Visual Dynamics: Probabilistic Future Frame Synthesis via Cross Convolutional "
        "Networks, NIPS 2016, arXiv 1607.02586"
    )
    stochastic = True
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
        # Half floats seen as whole numbers: the average of the weights leaves those alone, and must, because a mean of
        # posteriors of different pairs is the posterior of none.
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
        """Two frames, brought to the model's size."""
        return ClipRequest(context=1, future=1, resize=(config.size, config.size))

    @classmethod
    def resolve_schedules(cls, config: VisualDynamicsConfig, steps_per_epoch: int) -> VisualDynamicsConfig:
        """The schedules of KL weight and learning rate in steps."""
        steps = tuple((float(round(epoch * steps_per_epoch)), weight) for epoch, weight in config.kl_weights)
        optim = replace(config.optim, decay_steps=round(config.optim.decay_epochs * steps_per_epoch))
        return replace(config, kl_steps=steps, optim=optim)

    def phases(self) -> list[Phase]:
        """One phase that trains everything."""
        o = self.config.optim
        optimiser = Optimiser(lr=o.rate, betas=o.betas, eps=o.eps)
        clip = GradClip(kind="global", value=o.clip) if o.clip else GradClip()
        return [Phase(name="main", loss=self.loss, optimiser=optimiser, clip=clip)]

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Squared error of the difference image, in -1…1 units, plus the weighted KL divergence of z from N(0, I).

        Parts: l2, mean over clips, pixels and channels; kl, mean over clips and numbers of z, in nats.
        In training mode the pairs' posteriors are stored, the oldest making room.
        Source: equation 7 of the paper; means in place of sums and the weight as in the published code.
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
        """Difference images (s b, c, h, w).  maps: of b frames.  z: (s, b, z)."""
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

    # ---------------------------------------------------------------------------------------------------- prediction

    def draw(self, count: int, prior: str | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Codes to predict with, (count, z).

        prior: "normal" for N(0, I), "posterior" for the posteriors of stored training pairs; None as configured.
        Raises: UserError when posteriors are asked for and none are stored.
        """
        prior, device = prior or self.config.prior, self.num_stored.device
        place = generator.device if generator is not None else device
        noise = torch.randn(count, self.config.z_size, generator=generator, device=place).to(device)
        if prior == "normal":
            return noise
        if prior != "posterior":
            raise UserError(f"prior {prior!r} is not known; choose normal or posterior")
        known = min(int(self.num_stored), self.config.stored)
        if not known:
            raise UserError(
                "this run has no stored posteriors to sample from; train with model.stored above 0, or take the prior "
                "normal"
            )
        chosen = torch.randint(known, (count,), generator=generator, device=place).to(device)
        mean, logvar = self.posteriors[chosen].view(torch.float16).float().unbind(1)
        return mean + (0.5 * logvar).exp() * noise

    def predict(
        self,
        context: Frames,
        horizon: int,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The next `horizon` frames, each from the one before by a code of its own: (s, b, horizon, c, h, w) 0…1.

        Frames may be of any size whose maps nest (`VisualDynamicsConfig.check_size`); motions are learnt in pixels.
        For the first frame the image encoder runs once for all samples; the motion encoder does not run.
        """
        assert isinstance(context, Tensor)
        frame, frames = context[:, -1], []
        self.config.check_size(*frame.shape[-2:])
        b, copies = len(frame), samples
        for _ in range(horizon):
            z = self.draw(samples * b, generator=generator)
            frame = self._next(frame, rearrange(z, "(s b) z -> s b z", s=copies))
            copies = 1  # from now on every sample has a frame of its own
            frames.append(frame)
        return rearrange(torch.stack(frames, 1), "(s b) t c h w -> s b t c h w", s=samples)

    def _next(self, frame: Tensor, z: Tensor) -> Tensor:
        """Frames (s b, c, h, w) 0…1 that follow `frame` (b, c, h, w) under codes (s, b, z)."""
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

    # ----------------------------------------------------------------------------------------------- latent space

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the code of every motion, (b, t - 1, z) each.

        frames: (b, t, c, h, w) 0…1, t at least 2, of the model's own size; code i leads from frame i to frame i + 1.
        Raises: UserError for another size, or a single frame.
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
        """The mean code of every motion, (b, t - 1, z); see `posterior`."""
        return self.posterior(frames)[0]

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Frames (b, t, c, h, w) 0…1 that follow the context's last under codes z (b, t, z), one after the other.

        context: (b, t', c, h, w) 0…1.  Raises: UserError without it: a motion alone is no picture.
        """
        if context is None:
            raise UserError("a code of this model is a motion; give the frame it shall move")
        frame, frames = context[:, -1], []
        for code in z.unbind(1):
            frame = self._next(frame, code[None])
            frames.append(frame)
        return torch.stack(frames, 1)

    def features(self, frame: Tensor) -> list[Tensor]:
        """Feature maps (b, maps, h_k, w_k) of frames (b, c, h, w) 0…1, finest scale first."""
        maps: list[Tensor] = self.image_encoder(_inside(frame))
        return maps

    def kernels(self, z: Tensor) -> list[Tensor]:
        """Kernels (b, maps, k, k) of codes (b, z), finest scale first."""
        kernels: list[Tensor] = self.kernel_decoder(z)
        return kernels


def _inside(frames: Tensor) -> Tensor:
    """Frames (b, c, h, w) 0…1 as -1…1, channels last."""
    return frames.contiguous(memory_format=torch.channels_last) * 2 - 1
