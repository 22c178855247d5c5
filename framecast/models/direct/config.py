"""Configuration and profiles of direct multi-horizon prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from framecast.core.config import require_least
from framecast.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with linear warm-up and a cosine over the elapsed share of the run."""

    lr: float = 2e-3
    """Largest learning rate, above 0."""
    final: float = 0.01
    """Share of the largest rate at the end of the run, in 0…1."""
    warmup: int = 50
    """Steps of linear warm-up."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the optimiser's two averages, each in 0…1."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    clip: float = 1.0
    """Bound of the norm of all gradients together; 0 is off."""

    def __post_init__(self) -> None:
        if not self.lr > 0 or not 0 <= self.final <= 1:
            raise UserError(f"optim.lr must be above 0 and optim.final in 0…1, got {self.lr} and {self.final}")
        require_least(self, "optim.", warmup=0, weight_decay=0, clip=0)


@dataclass(frozen=True, kw_only=True)
class DirectConfig:
    """Clip, networks, sources of the mixture and loss."""

    # --- clip
    context: int = 10
    """Context frames, 2 to 16; a forecast may be given fewer, then the first is repeated."""
    horizon: int = 64
    """Longest lead time in frames, a multiple of `block`; later frames are predicted from predicted ones."""
    block: int = 8
    """Frames that one call of the decoder gives; 1 where actions move large parts of the picture."""
    blocks_per_clip: int = 2
    """Blocks drawn per clip in a training step."""
    first_block: float = 0.3
    """Probability that the first of them is the block that follows the context."""
    target_stride: int = 2
    """Every n-th frame of a drawn block enters the loss, counted from another frame at each step."""
    crop: int | None = None
    """Side of the random square crops in training, in px, at most the frame's; None for whole frames."""
    use_actions: bool = False
    """Whether actions of the data condition the forecast. They were never shown to help on games within minutes."""
    short_contexts: float = 0.0
    """Share of training steps in which only 1 to `context` - 1 last frames are given."""
    augment: bool = False
    """Random flips, transposition of square clips and orders of the colour channels in training."""
    work_side: int = 160
    """Most px of the shorter side on which the networks work; weights and motion of larger frames are enlarged, colours
    are taken from the full frames."""
    # --- networks
    recent: int = 8
    """Last frames that the encoder sees, at most `context`; it also sees the mean of all."""
    widths: tuple[int, int, int] = (32, 64, 96)
    """Feature maps at the three scales."""
    depth: int = 2
    """Residual blocks of the decoder at the coarsest scale."""
    patch: int = 2
    """Side of the square of pixels that becomes one position of the finest scale."""
    # --- sources of the mixture
    kept: int = 4
    """Last frames whose pixels can be reused, at most `context`."""
    mean: bool = True
    """Whether the context's mean is a source."""
    new: bool = True
    """Whether new colours are a source."""
    flow: Literal["auto", "dis", "blocks", "none"] = "auto"
    """Optical flow whose warped last frame is a source: DIS of the extra `flow`, block matching of the package, DIS
    where it is installed (auto), or none."""
    velocity_steps: int = 3
    """Steps over which the second of the two velocities is averaged, at least 1; the first is that of the last step."""
    hindcasts: bool = True
    """Whether the network sees how well copying and both velocities forecast the context's own last frame."""
    shrink: bool = False
    """Whether the change from the last frame is scaled at every lead time, after training, by the share in 0…1 that has
    the least squared error on validation clips: below 1 where changes are predicted that mostly do not come. All
    profiles use it; configs without it are of before it came."""
    # --- loss
    loss: Literal["relative", "l2", "log", "charbonnier"] = "relative"
    """Loss of a block: its MSE divided by that of copy-last (plus `relative_floor`), 10 MSE, the logarithm of its MSE,
    or sqrt(error^2 + 1e-6)."""
    relative_floor: float = 1e-3
    """Added to copy-last's MSE in the relative loss, above 0, so that still clips do not dominate. At 1e-4 they do on
    games: the forecast ends at the mean of the context."""
    coverage: float = 0.9
    """Share of true values between the two bounds that the uncertainty's head learns, in 0…1."""
    bounds_weight: float = 0.1
    """Weight of the bounds' loss; it does not change the mean. 0 is off."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Settings of the optimiser."""

    def __post_init__(self) -> None:
        require_least(
            self,
            "model.",
            **{
                n: 1
                for n in (
                    "horizon",
                    "block",
                    "velocity_steps",
                    "blocks_per_clip",
                    "target_stride",
                    "recent",
                    "kept",
                    "depth",
                    "patch",
                )
            },
            work_side=8,
            bounds_weight=0,
        )
        if not 2 <= self.context <= 16:
            raise UserError(f"model.context must be 2 to 16 frames, got {self.context}")
        if self.horizon % self.block:
            raise UserError(f"model.horizon must be a multiple of model.block, got {self.horizon} and {self.block}")
        if self.target_stride > self.block:
            raise UserError(
                f"model.target_stride must be at most model.block, got {self.target_stride} and {self.block}"
            )
        if max(self.recent, self.kept) > self.context:
            raise UserError(
                f"model.recent and model.kept must be at most model.context, got {self.recent}, {self.kept} and "
                f"{self.context}"
            )
        if len(self.widths) != 3 or min(self.widths) < 1:
            raise UserError(f"model.widths must be three numbers of at least 1, got {self.widths}")
        if self.crop is not None and self.crop < 4 * self.patch:
            raise UserError(f"model.crop must be at least {4 * self.patch} px (4 patches), got {self.crop}")
        shares = (self.coverage, self.first_block, self.short_contexts)
        if not all(0 <= share <= 1 for share in shares) or self.coverage in (0, 1):
            raise UserError("model.coverage, model.first_block and model.short_contexts must lie in 0…1")
        if not self.relative_floor > 0:
            raise UserError(f"model.relative_floor must be above 0, got {self.relative_floor}")

    def fine_tuning(self, horizon: int) -> DirectConfig:
        """Settings of about a minute's training from weights that are nearly right, for forecasts of `horizon` frames.

        That is a few hundred steps, so they are small: many steps matter more than quiet gradients. The rate is half of
        that of the packaged weights' training, above that of a training from random weights.
        """
        return replace(
            self,
            crop=64,
            horizon=min(self.horizon, -(-horizon // self.block) * self.block),
            blocks_per_clip=1,
            target_stride=min(4, self.block),
            relative_floor=DirectConfig.relative_floor,
            short_contexts=0.0,
            augment=False,
            optim=replace(self.optim, lr=2.5e-3, warmup=10),
        )


#: Profile -> its configuration.
PROFILES: dict[str, Callable[[], DirectConfig]] = {
    "default": partial(DirectConfig, widths=(64, 128, 256), depth=6, crop=128, blocks_per_clip=4, shrink=True),
    "small": partial(DirectConfig, shrink=True),
    "natural": partial(DirectConfig, horizon=32, crop=96, shrink=True),
    "any": partial(
        DirectConfig,
        shrink=True,
        short_contexts=0.2,
        augment=True,
        blocks_per_clip=1,
        target_stride=4,
        optim=OptimConfig(lr=5e-3),
    ),
    "tiny": partial(
        DirectConfig,
        context=3,
        horizon=4,
        block=2,
        recent=2,
        kept=2,
        widths=(8, 8, 8),
        depth=1,
        blocks_per_clip=1,
        target_stride=1,
        use_actions=True,
        shrink=True,
    ),
}
