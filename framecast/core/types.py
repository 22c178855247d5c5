"""The words of the house: what passes between data, models, engine and evaluation.

Axes are named once and everywhere the same: `b` batch, `s` samples, `t` time, `c h w` one frame, `a` action,
`z` latent. Frames at every door are `b t c h w`, floats in 0…1 (uint8 before `Batch.to`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # torch and numpy take a second to import; `framecast --help` must not pay for it
    import numpy as np
    import torch
    from torch import Tensor

#: Version written into configs, checkpoints, stores and scores. A newer one is refused, an older one migrated or
#: refused.
FORMAT = 1


# ---------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True, kw_only=True)
class ActionSpec:
    """What an action is.

    kind: "discrete" (stored as an index, one-hot in the batch) or "continuous" (floats, standardised in the batch
    with the training set's mean and sd).  size: number of discrete actions, or of continuous dimensions.
    names: one per action or dimension.  low, high, mean, sd: continuous only, one per dimension.
    """

    kind: Literal["discrete", "continuous"]
    size: int
    names: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"ActionSpec.size must be at least 1, got {self.size}")
        for name in ("names", "low", "high", "mean", "std"):
            values = getattr(self, name)
            if values and len(values) != self.size:
                raise ValueError(f"ActionSpec.{name} has {len(values)} entries for {self.size} actions; give one each")


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """What frames look like, read off a source so that nobody types it twice.

    channels, height, width: of one frame (1 grey, 3 RGB, any other count allowed).  fps: frames per second, > 0.
    actions: None where the source has none.  extras: shape per frame of every further per-frame array, by name.
    """

    channels: int
    height: int
    width: int
    fps: float = 30.0
    actions: ActionSpec | None = None
    extras: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("channels", "height", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"ClipSpec.{name} must be at least 1, got {getattr(self, name)}")
        if not self.fps > 0:
            raise ValueError(f"ClipSpec.fps must be above 0, got {self.fps}")

    @property
    def action_size(self) -> int:
        """Width of the action vector in a batch; 0 without actions."""
        return self.actions.size if self.actions else 0


@dataclass(kw_only=True)
class Clip:
    """Consecutive frames of one video.

    frames: uint8 (t, c, h, w).  arrays: named per-frame arrays (t, ...) such as actions, rewards, terminals,
    timestamps, states, pose, masks, ram.  name: the video's.  fps: after stride.  meta: what holds for the whole video.
    `arrays["actions"][i]` is what was done at frame i and leads to frame i + 1.
    """

    frames: np.ndarray
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    name: str = ""
    fps: float = 30.0
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MotionFilter:
    """Draw crops until something moves in them.

    threshold: a crop is taken when its movement score is strictly above (see data/windows.py: movement_score).
    bypass: probability of taking the first crop unseen.  tries: crops drawn at most; then the last one is kept.
    Source: the published multi-scale adversarial system's clip generation (threshold 100, 5 %, 100 tries).
    """

    threshold: float = 100.0
    bypass: float = 0.05
    tries: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.bypass <= 1:
            raise ValueError(f"MotionFilter.bypass is a probability in 0…1, got {self.bypass}")
        if self.tries < 1:
            raise ValueError(f"MotionFilter.tries must be at least 1, got {self.tries}")


@dataclass(frozen=True, kw_only=True)
class ClipRequest:
    """What a model asks of the data, in its own frames.

    context: frames it looks at.  future: frames it is trained to produce.  target_offset: steps from the last context
    frame to the first target; 1 is the next frame, 0 or less lets targets overlap the context.  stride: source frames
    per model frame.  resize: (h, w) every frame is brought to, None as it is.  crop: (h, w) cut at random while
    training, None whole frames.  motion_filter: only with crop.  extras: per-frame arrays wanted in the batch.
    """

    context: int
    future: int = 1
    target_offset: int = 1
    stride: int = 1
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    motion_filter: MotionFilter | None = None
    extras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("context", 1), ("future", 0), ("stride", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"ClipRequest.{name} must be at least {least}, got {getattr(self, name)}")
        if self.context + self.target_offset - 1 < 0:
            raise ValueError(f"ClipRequest.target_offset {self.target_offset} starts before the context's first frame")

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

    context: (b, t, c, h, w), uint8 until `to`, then float 0…1.  future: (b, t', c, h, w), the targets.
    actions: (b, length - 1, a) over the whole window (ClipRequest.length), one-hot or standardised; None without.
    extras: named arrays (b, length, ...) over the whole window.  codes: what a stage's encode_once left, windows
    (b, length, ...) by name; frames are then empty along t.
    """

    context: Tensor
    future: Tensor
    actions: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
    latents: dict[str, Tensor] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of clips."""
        return int(self.context.shape[0])

    def rows(self, chosen: Sequence[int] | slice) -> Batch:
        """The batch of some of the clips."""
        return Batch(
            context=self.context[chosen],
            future=self.future[chosen],
            actions=None if self.actions is None else self.actions[chosen],
            extras={k: v[chosen] for k, v in self.extras.items()},
            latents={k: v[chosen] for k, v in self.latents.items()},
        )

    def part(self, index: int, parts: int) -> Batch:
        """Micro-batch `index` of `parts`: every clip in exactly one of them."""
        return self.rows(slice(self.size * index // parts, self.size * (index + 1) // parts))

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`, frames as float 0…1. uint8 travels, so a quarter of the bytes do."""

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
        )


# ------------------------------------------------------------------------------------------------ training


@dataclass(frozen=True)
class Loss:
    """total: scalar to minimise.  parts: named terms, detached and unweighted, so that runs compare."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Decay:
    """A learning rate that goes linearly from `start` to `end` in `steps` steps and stays there."""

    start: float
    end: float
    steps: int

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """Which rule moves a phase's weights.

    kind: adam, radam or sgd.  lr: a number, or a function of the stage's step.  betas, eps: adam and radam.
    momentum: sgd.  weight_decay: L2, 0 for none.
    """

    kind: Literal["adam", "radam", "sgd"] = "adam"
    lr: float | Callable[[int], float] = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.0
    weight_decay: float = 0.0

    def rate(self, step: int) -> float:
        """Learning rate at `step` of the stage."""
        return self.lr(step) if callable(self.lr) else self.lr


@dataclass(frozen=True, kw_only=True)
class GradClip:
    """kind: none, global (the norm of all gradients together) or tensor (each tensor's own norm).  value: the bound."""

    kind: Literal["none", "global", "tensor"] = "none"
    value: float = 1.0


def always(step: int) -> bool:
    """Due at every step."""
    return True


@dataclass(frozen=True)
class every:
    """Due at steps `offset`, `offset + n`, …; a pure function of the stage's step, so resuming needs no state."""

    n: int
    offset: int = 0

    def __call__(self, step: int) -> bool:
        return step >= self.offset and (step - self.offset) % self.n == 0


@dataclass(frozen=True)
class between:
    """Due at all steps but those of `every(n)`: the n - 1 turns of a critic after each of the others."""

    n: int

    def __call__(self, step: int) -> bool:
        return step % self.n != 0


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One loss, the modules it trains and how. A GAN is two of these.

    loss: a bound method (batch, step) -> Loss.  modules: names of sub-modules as in `model.get_submodule`; "" is all.
    due: at which steps of the stage it runs.  stream: phases of one stream see the same batch, another stream draws
    its own.  group: phases of one group take all gradients at the same weights before any of them steps; None alone.
    seed_name: what the noise of the phase is seeded by; None is its name. It keeps the noise of a renamed phase.
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
    """When a stage ends: whichever comes first. Without any, with the run.

    steps: so many steps of the stage.  patience: so many validations in a row without a better value; the best
    weights are restored.  min_delta: what counts as better.  share: of the run's steps or budget the stage may use.
    """

    steps: int | None = None
    patience: int | None = None
    min_delta: float = 0.0
    max_fraction: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A list of phases with an end. One step is one pass over the list; `due` and `step` count from the stage's start.

    encode_once: (batch) -> named tensors (b, t, ...), run over all frames of the data when the stage begins (context
    holds the frames, future is empty); the engine keeps the result memory-mapped and feeds windows of it as
    `Batch.codes`.  request: the window of this stage; None is the model's.  loss: what validation reports and
    patience looks at; None is the model's `loss`.
    """

    name: str = "main"
    phases: Sequence[Phase] = ()
    until: StopCondition = field(default_factory=StopCondition)
    precompute_latents: Callable[[Batch], dict[str, Tensor]] | None = None
    request: ClipRequest | None = None
    loss: Callable[[Batch, int], Loss] | None = None


# ---------------------------------------------------------------------------------------------- prediction


@dataclass(frozen=True, kw_only=True)
class OutcomeDistribution:
    """How a clip may go on, where its source knows it: for asking whether samples are drawn as often as they should.

    outcomes: names of what can happen.  probabilities: of each, at least 0, with sum 1.  tell: future frames, uint8
    (t, c, h, w) at the source's size -> number of the outcome they show, or None where they show none of them.
    """

    outcomes: tuple[str, ...]
    probabilities: tuple[float, ...]
    classify: Callable[[np.ndarray], int | None]

    def __post_init__(self) -> None:
        if not self.outcomes or len(self.outcomes) != len(self.probabilities):
            raise ValueError(f"{len(self.probabilities)} probabilities for {len(self.outcomes)} outcomes")
        if min(self.probabilities) < 0 or abs(sum(self.probabilities) - 1) > 1e-6:
            raise ValueError(f"probabilities must be at least 0 with sum 1, got {self.probabilities}")
