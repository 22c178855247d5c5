"""Configuration and profiles of hierarchical long-term prediction, with their deviations from the published ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from framecast.core.config import require_above, require_choices, require_least
from framecast.core.errors import UserError
from framecast.core.types import ClipSpec
from framecast.models.chain import Chain, Link
from framecast.nn.vgg import VGG16

Mode = Literal["e2e", "epva", "epev", "individual", "e2e-pose", "epva-gan", "epev-gan", "predictor"]

# ------------------------------------------------------------------------------------------------ configuration


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Adam for every network, at constant rates above 0; the mode decides which rates are used."""

    all_lr: float = 1e-4
    """Learning rate of all networks in modes e2e, epva and e2e-pose. Published: 1e-5 on 32 asynchronous workers, 1e-4
    on one GPU."""
    encoder_lr: float = 1e-5
    """Learning rate of the encoder in mode individual, and in e2e-pose with an optimiser for each network."""
    predictor_lr: float = 3e-4
    """Learning rate of the predictor in these modes and in mode predictor; of encoder and predictor in epva-gan."""
    van_lr: float = 3e-5
    """Learning rate of the VAN in mode individual; of encoder and VAN in epva-gan."""
    discriminator_lr: float = 1e-2
    """Learning rate of the critic in epva-gan."""
    clip: float = 0.01
    """Bound on the norm of each tensor's gradient, not of all together; not for the discriminator. 0 is off."""

    def __post_init__(self) -> None:
        require_above(self, "optim.", "all_lr", "encoder_lr", "predictor_lr", "van_lr", "discriminator_lr")
        require_least(self, "optim.", clip=0)


@dataclass(frozen=True, kw_only=True)
class HierarchicalConfig:
    """Mode, clip, networks, noise and losses. Defaults are the published values unless noted."""

    mode: Mode = "epva"
    """Training mode. e2e: all networks on frames drawn from predicted encodings. epva (also epev): VAN on true
    encodings, predictor on encodings. individual: each network on poses. e2e-pose: e2e and pose losses. epva-gan: epva
    with a critic. predictor: only the predictor, on precomputed encodings of the encoder given by --init-from; not
    published."""
    # --- inputs and outputs
    size: int = 64
    """Side of the square frames in pixels; other frames are resized to it, as published. A multiple of 16 and of the
    encoder's pooling. 0 takes frames of any one size as they are; inside, their edges are repeated up to such a
    multiple."""
    context: int = 2
    """Number of frames encoded before predicted encodings are used, at least 1; published: 2 robot, 5 humans."""
    future: int = 18
    """Number of frames predicted in training, at least 1; published: 18 robot, 27 humans."""
    stride: int = 1
    """Source frames per model frame; published: 1 robot, 2 humans."""
    blank_actions: int = 5
    """Number of zeros used as action where the data have none, as published for humans; 0 omits them."""
    # --- encoder
    encoding_size: int = 64
    """Dimension of an encoding, E; published: 12 to 64. In mode individual it is the size of a pose."""
    encoder_widths: tuple[tuple[int, ...], ...] = VGG16
    """Feature maps of the encoder's convolutions, one row per block that halves the frame."""
    encoder_input: Literal["auto", "slim", "torchvision"] = "auto"
    """Normalisation of input frames: that of the weights given by --init-from (slim without), or one convention."""
    grey_encoder: bool = False
    """Luminance-only input of the encoder."""
    encoder_keep: float = 0.65
    """Probability of keeping a feature in training, above 0 to 1; all are kept otherwise."""
    normalise: bool = False
    """Normalisation of true and predicted encodings to length 1."""
    # --- predictor
    predictor_depth: int = 20
    """Number of recurrent cells above the first, at least 2; the cell two below the top feeds back into the first."""
    predictor_noise: float = 0.0
    """Standard deviation of the predictor's 100 noise inputs, resampled at every step, also in prediction; above 0 the
    model is stochastic."""
    state_noise: float = 0.0
    """Noise added to the predictor's states in training, as a fraction of their standard deviation."""
    predict_change: bool = False
    """Residual output of the predictor: the change of an encoding; published: the next encoding itself."""
    # --- visual analogy network
    van_width: int = 64
    """Feature maps of the VAN at full resolution; twice and four times as many below."""
    van_keep: float = 0.9
    """Probability of keeping a value in the VAN's dropouts in training."""
    van_leak: float = 0.0
    """Negative slope of the VAN decoder's ReLU; published: 0, with which narrow decoders lose feature maps, and colours
    with them."""
    first_frame: bool = True
    """Access of the VAN to the first frame, as published: to its features, for the analogy, and to its pixels, where
    the mask is closed. Without it frames are drawn from an encoding alone, and there is no mask."""
    background: Literal["first", "last", "mixed"] = "first"
    """Scene behind the mask. first: the first frame, as published. last: the last context frame, to whose encoding the
    analogy then refers. mixed: that frame and the mean of the context, in shares drawn per pixel by a second mask."""
    skips: bool = False
    """Addition of maps of the background's frames to the decoder's maps at a quarter, half and all of the resolution;
    published: off."""
    mask_bias: float = 0.0
    """First bias of the mask; below 0 most of the background is kept at the start. Published: 0."""
    drawn: int = 0
    """Number of random frames of a clip drawn at a training step; 0 draws all, as published."""
    rolled: int = 0
    """Number of first frames of a clip that the predictor is trained on in epva, at least 2; of the others only those
    that are drawn are encoded. 0 uses all, as published."""
    encoding_noise: float = 0.0
    """Standard deviation of the noise on true encodings before they are drawn, in training."""
    # --- losses
    change_weight: float = 0.0
    """Weight of what changes in the squared error of pixels, at least 0: a pixel counts 1 + change_weight * its largest
    difference, over channels, from the last frame of the background. 0 counts all alike, as published."""
    new_weight: float = 0.0
    """Weight of the squared error of the new frames without their background, at least 0; above 0 they are trained also
    where the mask is closed. Published: 0."""
    encoding_loss: Literal["l2", "l1", "relative", "whitened"] = "l2"
    """Loss between predicted and true encodings. relative: squared error divided by the variance of encodings within
    clips, so that shrinking encodings does not lower it. whitened: squared error weighted by the inverse covariance of
    encodings within clips, so that small motions count like large ones. Both are not published."""
    alpha: float = 1.0
    """Maximum weight of the encoding loss in epva; its constant weight in epva-gan. Published: 1 robot, 0.1 humans, 10
    GAN."""
    alpha_delay: int = 20_000
    """Steps until half of alpha is reached, on a sigmoid a tenth as wide; 0 is full weight from the start."""
    hue: bool = False
    """Random rotation of the hue of each training clip."""
    pose: tuple[str, ...] = ("joints", "states")
    """Per-frame arrays that form a pose, in modes individual and e2e-pose; its last five numbers are x, y, z, pitch and
    yaw."""
    pose_weight: float = 1.0
    """Weight of the pose losses in e2e-pose with one optimiser."""
    pose_optimisers: Literal["one", "each"] = "one"
    """Optimisers of e2e-pose: one on the sum of losses, or further ones for the pose losses of encoder and
    predictor."""
    either_sign: bool = False
    """Equality of a rotation's two quaternions; published: off."""
    # --- critic of epva-gan
    critic_steps: int = 5
    """Critic steps after each step of the other networks, at least 0."""
    critic_context: int = 1
    """Number of true encodings at the head of a generated sequence, at least 1."""
    critic: Literal["wgan-gp", "gan"] = "wgan-gp"
    """Critic loss: Wasserstein with gradient penalty, or cross-entropy with smoothed labels."""
    penalty: float = 10.0
    """Weight of the gradient penalty."""
    shrink: int = 0
    """Number of lead times for which, after training, the share of the predicted change from the last true frame with
    the least squared error on validation clips is computed and applied; later ones take the last share. 0 is off, as
    published."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Learning rates and clipping."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", self.mode.replace("epev", "epva"))  # the name of the first release
        require_choices(self, "model.")
        require_least(self, "model.", size=0, shrink=0, new_weight=0)
        require_least(self, "model.", context=1, future=1, stride=1, encoding_size=1, van_width=1)
        require_least(
            self,
            "model.",
            critic_context=1,
            blank_actions=0,
            drawn=0,
            alpha_delay=0,
            critic_steps=0,
            van_leak=0,
            change_weight=0,
        )
        require_least(
            self, "model.", predictor_noise=0, state_noise=0, encoding_noise=0, alpha=0, pose_weight=0, penalty=0
        )
        for name in ("encoder_keep", "van_keep"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"model.{name} must be a probability above 0, up to 1, got {getattr(self, name)}")
        if self.rolled == 1 or self.rolled < 0:
            raise UserError(f"model.rolled must be 0 or at least 2, got {self.rolled}")
        require_least(self, "model.", predictor_depth=2)
        if not self.encoder_widths or any(not row or min(row) < 1 for row in self.encoder_widths):
            raise UserError(f"model.encoder_widths must hold rows of numbers of at least 1, got {self.encoder_widths}")
        if self.size % self.step:
            raise UserError(f"model.size must be a multiple of {self.step} for these networks, got {self.size}")
        if self.mode == "epva-gan" and not self.size:
            raise UserError(f"model.size must be a multiple of {self.step} in mode epva-gan, got 0")
        if self.background != "first" and not self.first_frame:
            raise UserError(f"model.background must be first without model.first_frame, got {self.background}")
        if 0 < self.rolled < self.scene:
            raise UserError(f"model.rolled must be at least model.context, {self.context}, got {self.rolled}")
        if self.critic_context >= self.context + self.future:
            raise UserError(
                f"model.critic_context must be below the {self.context + self.future} frames of a clip, "
                f"got {self.critic_context}"
            )

    @property
    def step(self) -> int:
        """Number of pixels of which heights and widths of the networks' frames are multiples."""
        return math.lcm(2 ** len(self.encoder_widths), 32 if self.mode == "epva-gan" else 16)

    @property
    def scene(self) -> int:
        """Number of true frames of the background; the analogy refers to the last of them."""
        return 1 if self.background == "first" else self.context

    @property
    def posed(self) -> bool:
        """Whether the mode needs poses."""
        return self.mode in ("individual", "e2e-pose")

    def check_pose(self, spec: ClipSpec) -> None:
        """Check that the data have the poses of a posed mode, and that encodings can hold them.

        Raises:
            UserError: otherwise.
        """
        if missing := [name for name in self.pose if name not in spec.extras]:
            raise UserError(
                f"mode {self.mode} trains on poses, but the data have no {' and no '.join(missing)} per frame; "
                "use data that do, name other arrays with model.pose, or use mode epva"
            )
        size = sum(math.prod(spec.extras[name]) for name in self.pose)
        if size < 5 or self.encoding_size < size or (self.mode == "individual" and self.encoding_size != size):
            least = "as many numbers as" if self.mode == "individual" else "at least"
            raise UserError(
                f"mode {self.mode} needs encodings of {least} the {size} of a pose ({', '.join(self.pose)}), "
                f"which must be at least 5; set model.encoding_size, now {self.encoding_size}, to {max(size, 5)}"
            )

    def weight(self, step: int) -> float:
        """alpha * sigmoid((step - D) / (D / 10)), D = max(alpha_delay, 1), of optimiser steps; alpha in epva-gan."""
        delay = max(self.alpha_delay, 1)
        x = math.inf if self.mode == "epva-gan" else 10.0 * (step - delay) / delay
        return self.alpha / (1 + math.exp(-x)) if x > -500 else 0.0


_ROBOT = HierarchicalConfig(alpha_delay=600_000, optim=OptimConfig(all_lr=1e-5))
_HUMANS = replace(_ROBOT, context=5, future=27, stride=2)
_NARROW = HierarchicalConfig(
    future=16,
    blank_actions=0,
    encoding_size=32,
    encoder_widths=(
        (8,),
        (16,),
        (32,),
    ),  # 2,048 features as published, but at 8x8: positions are easier to decode from them
    # values near 1: with Slim's, 58 times as large, encodings are unstable at rates near 1e-3
    encoder_input="torchvision",
    encoder_keep=1.0,
    predictor_depth=4,
    predict_change=True,  # constants, such as a colour, need not be learnt
    van_width=8,
    van_keep=1.0,
    van_leak=0.2,
    drawn=4,
    alpha=0.003,
    alpha_delay=500,
    optim=OptimConfig(all_lr=1e-3),
)
PROFILES: dict[str, Callable[[], HierarchicalConfig]] = {
    # Robot clips with the settings that the authors give for one GPU.
    "default": HierarchicalConfig,
    # The five published commands. Rates and delay are for 32 asynchronous workers.
    "robot-e2e": lambda: replace(_ROBOT, mode="e2e", encoding_size=16),
    "robot-epva": lambda: replace(_ROBOT, encoding_size=32),
    "robot-individual": lambda: replace(_ROBOT, mode="individual", encoding_size=12, encoder_keep=0.75, van_keep=1.0),
    "humans-e2e": lambda: replace(_HUMANS, mode="e2e"),
    "humans-epva": lambda: replace(_HUMANS, alpha=0.1),
    # The authors' settings for one GPU, and their adversarial run, which starts from it.
    "single-gpu": lambda: replace(_HUMANS, alpha=0.1, alpha_delay=20_000, optim=OptimConfig(all_lr=1e-4)),
    "humans-epva-gan": lambda: replace(
        _HUMANS,
        mode="epva-gan",
        alpha=10.0,
        normalise=True,
        predictor_noise=1.0,
        optim=OptimConfig(predictor_lr=1e-6, van_lr=3e-6, discriminator_lr=3e-6),
    ),
    "narrow": lambda: _NARROW,
    "small": lambda: replace(
        _NARROW,
        size=0,
        context=8,  # their mean is free of what blinks
        future=64,
        mode="e2e",
        background="mixed",
        skips=True,
        mask_bias=-1.0,
        new_weight=0.1,
        shrink=64,
    ),
    "tiny": lambda: replace(
        _NARROW,
        size=16,
        future=3,
        encoding_size=6,
        encoder_widths=((4,), (8,), (8,)),
        predictor_depth=2,
        van_width=4,
        alpha_delay=10,
        optim=OptimConfig(all_lr=3e-3, clip=0),
    ),
}


# ------------------------------------------------------------------------------------------------------- chains

#: A loss of encodings that counts what moves within clips, at full weight from the start. Encoder and VAN learn on
#: clips of which the predictor is trained on the first frames only and four are drawn.
_DRAWN = {
    "mode": "epva",
    "encoding_loss": "relative",
    "alpha": 0.003,
    "alpha_delay": 0,
    "rolled": 6,
    "drawn": 4,
    "context": 2,
    "future": 16,
    "optim.all_lr": 1.5e-3,
}


def _rolled(loss: str, rate: float, context: int = 5, future: int = 16) -> dict[str, object]:
    """The predictor alone, on encodings made once."""
    return {
        "mode": "predictor",
        "encoding_loss": loss,
        "context": context,
        "future": future,
        "optim.predictor_lr": rate,
    }


def _every(steps: int, batch_size: int) -> dict[str, int]:
    return {"batch_size": batch_size, "val_batches": 2, "validate_every": steps, "save_every": steps}


CHAINS: dict[str, Chain] = {
    # One shape on grey. After the first links every direction of the encodings is counted alike (whitened), since one
    # that is written small may be a whole axis; the last link trains on longer futures, so that shapes are still there
    # after 1,000 frames. Seconds are measured on one core.
    "bouncing": Chain(
        base="narrow",
        unit="steps",
        links=(
            Link(name="drawn", length=2000, seconds=648, model=_DRAWN, train=_every(200, 16)),
            Link(
                name="rolled",
                length=2950,
                seconds=222,
                model=_rolled("relative", 1e-3, context=2),
                train=_every(500, 64),
            ),
            Link(name="five", length=1500, seconds=115, model=_rolled("relative", 1e-3), train=_every(500, 64)),
            Link(name="whitened", length=1800, seconds=180, model=_rolled("whitened", 1e-3), train=_every(300, 64)),
            Link(name="whitened-2", length=8000, seconds=774, model=_rolled("whitened", 1e-3), train=_every(500, 64)),
            Link(name="whitened-3", length=12000, seconds=1199, model=_rolled("whitened", 1e-3), train=_every(500, 64)),
            Link(name="settled", length=5000, seconds=720, model=_rolled("whitened", 2e-4), train=_every(500, 64)),
            Link(
                name="far", length=5000, seconds=710, model=_rolled("whitened", 3e-4, future=35), train=_every(500, 64)
            ),
        ),
    ),
}
