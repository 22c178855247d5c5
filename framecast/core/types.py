"""Types shared by data, models, training and evaluation.

Axes have the same names everywhere: `b` batch, `s` samples, `t` time, `c h w` one frame, `a` action, `z` latent. Frames
in every public function are `b t c h w`, floats in 0…1 (uint8 before `Batch.to`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from framecast.core.schedules import always

if TYPE_CHECKING:  # importing torch and numpy takes a second, which would slow down `framecast --help`
    import numpy as np
    import torch
    from torch import Tensor

#: Version written into configs, checkpoints, stores and scores. A newer one is refused, an older one migrated or not.
FORMAT = 1


# ---------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True, kw_only=True)
class ActionSpec:
    """Format of the actions of a source.

    Attributes:
        kind: "discrete" (an index, one-hot in a batch) or "continuous" (standardised in a batch by the training set).
        size: number of discrete actions, or of continuous dimensions.
        names: one per action or dimension.
        low: lower bounds of continuous actions, one per dimension.
        high: upper bounds of continuous actions, one per dimension.
        mean: means of continuous actions over the training set, one per dimension.
        std: standard deviations of continuous actions over the training set, one per dimension.
    """

    kind: Literal["discrete", "continuous"]
    size: int
    names: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 2**16:
            raise ValueError(f"ActionSpec.size must be at least 1 and at most {2**16}, got {self.size}")
        for name in ("names", "low", "high", "mean", "std"):
            values = getattr(self, name)
            if values and len(values) != self.size:
                raise ValueError(f"ActionSpec.{name} must have {self.size} entries, got {len(values)}")

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Lowest and highest value of each continuous dimension: as stated, else two standard deviations around the
        mean, else -1 and 1."""
        found = []
        for i in range(self.size):
            if self.low and self.high and math.isfinite(self.low[i]) and math.isfinite(self.high[i]):
                low, high = self.low[i], self.high[i]
            elif self.mean and self.std:
                low, high = self.mean[i] - 2 * self.std[i], self.mean[i] + 2 * self.std[i]
            else:
                low, high = -1.0, 1.0
            found.append((low, high) if low < high else (low - 1.0, low + 1.0))
        return found


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """Format of the frames of a source.

    Attributes:
        channels: 1 for grey, 3 for RGB; any other count is allowed.
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        fps: frames per second, > 0.
        actions: None for a source without actions.
        extras: shape per frame of every further per-frame array, by name.
    """

    channels: int
    height: int
    width: int
    fps: float = 30.0
    actions: ActionSpec | None = None
    extras: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("channels", "height", "width"):
            if not 1 <= getattr(self, name) <= 2**20:
                raise ValueError(f"ClipSpec.{name} must be at least 1, at most {2**20}, got {getattr(self, name)}")
        if not 0 < self.fps < 1e9:
            raise ValueError(f"ClipSpec.fps must be above 0 and below 1e9, got {self.fps}")

    @property
    def action_size(self) -> int:
        """Width of the action vector in a batch; 0 without actions."""
        return self.actions.size if self.actions else 0


@dataclass(kw_only=True)
class Clip:
    """Consecutive frames of one video.

    Attributes:
        frames: uint8 (t, c, h, w).
        arrays: named per-frame arrays (t, ...) such as actions, rewards, terminated, truncated, timestamps, states,
            pose, masks, ram. `arrays["actions"][i]` is the action between frame i and frame i + 1.
        name: of the video.
        fps: frames per second, after stride.
        meta: metadata of the whole video.
    """

    frames: np.ndarray
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    name: str = ""
    fps: float = 30.0
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MotionFilter:
    """Rejection sampling of crops that contain motion.

    Attributes:
        threshold: a crop is accepted if its movement score is strictly above (see data/windows.py: movement_score).
        bypass: probability in 0…1 of accepting the first crop without a test.
        tries: maximum number of crops; the last one is then accepted.

    Source:
        Clip generation of the published multi-scale adversarial system (threshold 100, 5 %, 100 tries).
    """

    threshold: float = 100.0
    bypass: float = 0.05
    tries: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.bypass <= 1:
            raise ValueError(f"MotionFilter.bypass must be a probability in 0…1, got {self.bypass}")
        if self.tries < 1:
            raise ValueError(f"MotionFilter.tries must be at least 1, got {self.tries}")


@dataclass(frozen=True, kw_only=True)
class TargetBlocks:
    """A random choice of target frames: blocks of consecutive ones, drawn independently for every clip.

    Attributes:
        length: frames of a block, at least 1.
        count: blocks per clip, at least 1; one block may be drawn more than once.
        first: probability in 0…1 that the first drawn block is the first of the future; all others are uniform.
    """

    length: int
    count: int
    first: float = 0.0

    def __post_init__(self) -> None:
        if self.length < 1 or self.count < 1:
            raise ValueError(f"TargetBlocks: length and count must be at least 1, got {self.length} and {self.count}")
        if not 0 <= self.first <= 1:
            raise ValueError(f"TargetBlocks.first must be a probability in 0…1, got {self.first}")


@dataclass(frozen=True, kw_only=True)
class ClipRequest:
    """The window of frames that a model requests from the data.

    Attributes:
        context: number of context frames.
        future: number of target frames in training.
        target_offset: steps from the last context frame to the first target; 1 is the next frame, and with 0 or less
            targets overlap the context.
        stride: source frames per model frame.
        resize: (h, w) of all frames; None leaves them unchanged.
        crop: (h, w) of random crops in training; None for whole frames.
        crop_at_most: whether frames smaller than the crop are used whole along that side; otherwise they are an error.
        motion_filter: filter of crops, only with `crop`.
        extras: names of further per-frame arrays in the batch.
        events: per-frame arrays whose changes are events, near which some training windows end; "states:2" is a column.
        event_share: probability in 0…1 that a training window has an event among its targets.
        targets: blocks of the future that are read as targets; None for all of it.
    """

    context: int
    future: int = 1
    target_offset: int = 1
    stride: int = 1
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    crop_at_most: bool = False
    motion_filter: MotionFilter | None = None
    extras: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    event_share: float = 0.0
    targets: TargetBlocks | None = None

    def __post_init__(self) -> None:
        for name, least in (("context", 1), ("future", 0), ("stride", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"ClipRequest.{name} must be at least {least}, got {getattr(self, name)}")
        if self.context + self.target_offset - 1 < 0:
            raise ValueError(f"ClipRequest.target_offset {self.target_offset} starts before the context's first frame")
        if self.targets is not None:
            if self.future < 1 or self.future % self.targets.length:
                raise ValueError(
                    f"ClipRequest.future must be a multiple of the {self.targets.length} frames of a block, "
                    f"got {self.future}"
                )
            if self.target_offset < 1:
                raise ValueError(f"ClipRequest.target_offset must be 1 or more with targets, got {self.target_offset}")

    def consecutive(self, context: int, future: int) -> ClipRequest:
        """The request of whole frames for a roll-out: `context` frames and the `future` frames that follow them."""
        whole = replace(self, crop=None, motion_filter=None, extras=(), events=(), targets=None)
        return replace(whole, context=context, future=future, target_offset=1)

    @property
    def length(self) -> int:
        """Model frames a window spans, context and future together."""
        return max(self.context, self.future_start + self.future) if self.future else self.context

    @property
    def future_start(self) -> int:
        """Index, within the window, of the first target frame."""
        return self.context + self.target_offset - 1

    @property
    def source_length(self) -> int:
        """Source frames a window spans: the first of each stride, up to and including the last model frame."""
        return (self.length - 1) * self.stride + 1


@dataclass(kw_only=True)
class Batch:
    """Windows of several clips, stacked.

    Attributes:
        context: (b, t, c, h, w), uint8 until `to`, then float 0…1.
        future: the targets, (b, t', c, h, w); with `ClipRequest.targets` the chosen blocks only.
        actions: (b, length - 1, a) over the whole window (ClipRequest.length), one-hot or standardised, or None.
        extras: named arrays (b, length, ...) over the whole window.
        latents: precomputed latents of a stage by name, (b, length, ...); frames are then empty along t.
        lead_times: with `ClipRequest.targets`, the distance of every target from the last context frame in frames,
            (b, t') int64; 1 is the frame after the context.
        elapsed: share of the stage's steps or budget that has passed, 0…1 (see `Stage`).
    """

    context: Tensor
    future: Tensor
    actions: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
    latents: dict[str, Tensor] = field(default_factory=dict)
    lead_times: Tensor | None = None
    elapsed: float = 0.0

    @property
    def size(self) -> int:
        """Number of clips."""
        return int(self.context.shape[0])

    def rows(self, chosen: Sequence[int] | slice) -> Batch:
        """A batch of the chosen clips."""
        return Batch(
            context=self.context[chosen],
            future=self.future[chosen],
            actions=None if self.actions is None else self.actions[chosen],
            extras={k: v[chosen] for k, v in self.extras.items()},
            latents={k: v[chosen] for k, v in self.latents.items()},
            lead_times=None if self.lead_times is None else self.lead_times[chosen],
            elapsed=self.elapsed,
        )

    def part(self, index: int, parts: int) -> Batch:
        """Micro-batch `index` of `parts`; every clip is in exactly one of them."""
        return self.rows(slice(self.size * index // parts, self.size * (index + 1) // parts))

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`, with frames as float 0…1; frames are transferred as uint8."""

        def frames(x: Tensor) -> Tensor:
            x = x.to(device, non_blocking=True)
            return x if x.is_floating_point() else x.float().div_(255)

        def move(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=True)

        return Batch(
            context=frames(self.context),
            future=frames(self.future),
            actions=None if self.actions is None else move(self.actions),
            extras={k: move(v) for k, v in self.extras.items()},
            latents={k: move(v) for k, v in self.latents.items()},
            lead_times=None if self.lead_times is None else move(self.lead_times),
            elapsed=self.elapsed,
        )


# ------------------------------------------------------------------------------------------------ training


@dataclass(frozen=True)
class Loss:
    """A loss and its terms.

    Attributes:
        total: scalar to minimise.
        parts: named terms, detached and unweighted, so that they are comparable between runs.
        reduction: whether total and parts are means or sums over the clips of the batch; gradients of micro-batches and
            processes are averaged or summed accordingly.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    reduction: Literal["mean", "sum"] = "mean"


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """Optimiser settings of a phase.

    Attributes:
        kind: adam, adamw (decoupled weight decay), radam or sgd.
        lr: learning rate, a number or a function of the stage's step.
        schedule: factor on the rate as a function of `Batch.elapsed`, such as `core.schedules.Cosine()`; None for 1.
        warmup: steps of the stage over which the rate rises linearly to its value; the first has 1 / warmup of it.
        betas: decay rates of adam, adamw and radam.
        eps: of adam, adamw and radam.
        momentum: of sgd.
        weight_decay: L2 penalty, or decay of adamw; 0 for none.
    """

    kind: Literal["adam", "adamw", "radam", "sgd"] = "adam"
    lr: float | Callable[[int], float] = 1e-3
    schedule: Callable[[float], float] | None = None
    warmup: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.0
    weight_decay: float = 0.0

    def rate(self, step: int, elapsed: float = 0.0) -> float:
        """Learning rate at `step` of the stage, of whose steps or budget the share `elapsed` has passed."""
        rate = self.lr(step) if callable(self.lr) else self.lr
        if step < self.warmup:
            rate *= (step + 1) / self.warmup
        return rate if self.schedule is None else rate * self.schedule(elapsed)


@dataclass(frozen=True, kw_only=True)
class GradClip:
    """Gradient clipping.

    Attributes:
        kind: none, global (norm of all gradients together) or tensor (norm of each tensor).
        value: upper bound of the norm.
    """

    kind: Literal["none", "global", "tensor"] = "none"
    value: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One loss, the modules it trains, and the optimiser. A GAN has two phases.

    Attributes:
        name: unique within the stage.
        loss: bound method (batch, step) -> Loss.
        modules: names of sub-modules as in `model.get_submodule`; "" is the whole model.
        optimiser: its settings.
        clip: gradient clipping.
        should_run: whether the phase runs at a step of the stage.
        stream: phases of one stream receive the same batch; each stream draws its own.
        group: phases of one group compute all gradients at the same weights before any of them updates; None for a
            phase on its own.
        seed_name: name in the seed of the phase's noise, None for `name`. It keeps the noise of a renamed phase.
    """

    name: str
    loss: Callable[[Batch, int], Loss]
    modules: tuple[str, ...] = ("",)
    optimiser: Optimiser = field(default_factory=Optimiser)
    clip: GradClip = field(default_factory=GradClip)
    should_run: Callable[[int], bool] = always
    stream: str = "main"
    group: str | None = None
    seed_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class StopCondition:
    """Conditions that end a stage, whichever comes first. Without any, the stage ends with the run.

    Attributes:
        steps: number of steps of the stage.
        patience: number of consecutive validations without an improvement; the best weights are then restored.
        min_delta: smallest decrease of the loss that counts as an improvement.
        max_fraction: fraction of the run's steps or budget for the stage, in 0…1.
    """

    steps: int | None = None
    patience: int | None = None
    min_delta: float = 0.0
    max_fraction: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A list of phases with a stop condition. One step is one pass over the list; steps count from the stage's start.

    `Batch.elapsed` counts from the stage's start too, and reaches 1 at the first of these: `until.steps`, the bound set
    by `until.max_fraction`, the end of the run. With one stage it is the share of the run.

    Attributes:
        name: unique within the model.
        phases: in the order of a step.
        until: stop condition.
        precompute_latents: (batch) -> named tensors (b, t, ...), called for all frames of the data at the start of the
            stage (as context, with an empty future). The result is memory-mapped, and windows of it are
            `Batch.latents`.
        request: window of this stage; None for that of the model.
        loss: validation loss, which `patience` monitors; None for the model's `loss`.
    """

    name: str = "main"
    phases: Sequence[Phase] = ()
    until: StopCondition = field(default_factory=StopCondition)
    precompute_latents: Callable[[Batch], dict[str, Tensor]] | None = None
    request: ClipRequest | None = None
    loss: Callable[[Batch, int], Loss] | None = None
