"""Predictor: the one base class. A model is one file with a config, its networks and a subclass of this.

A model never sees a device name, a path, a logger, a loader or an optimiser object, and never switches itself to
eval: the engine and `rollout.py` do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, ClipSpec, Loss, Phase, Stage

RolloutState = dict[str, Tensor]
Frames = Tensor | np.ndarray


@dataclass(frozen=True, kw_only=True)
class Control:
    """A number that can be turned while a dream goes on: an entry of the carry, (b,) floats, read at every `advance`.

    name: its key; `begin` puts the config's value there.  label: what people call it.  low, high: the range worth
    offering.  says: in one sentence, what it does.
    """

    name: str
    label: str
    low: float
    high: float
    says: str = ""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"Control {self.name}: low {self.low:g} must be below high {self.high:g}")


class Predictor(nn.Module):
    """Predicts the next frames of a video. Built as `Model(config, spec)`.

    config: the paper's choices, a frozen dataclass of the model's file.  spec: what frames and actions look like.

    A subclass must give `loss`, `predict` and `request`; the rest has defaults. `predict` written in a subclass takes
    float tensors; the door around it (see `__init_subclass__`) lets callers pass uint8, NumPy or a clip without batch
    axis, turns gradients off and answers a wrong shape with a sentence.
    """

    #: The frozen dataclass that configures this model.
    Config: ClassVar[type]
    #: Family name, as `framecast models` shows it; empty takes the model's own name.
    family: ClassVar[str] = ""
    #: Paper, in one line; empty for baselines.
    paper: ClassVar[str] = ""
    #: Whether two samples of one context differ; where the config decides, see `draws`, or say so when it is built.
    stochastic: bool = False
    #: "none", "optional" or "required": what the model does with actions; "optional" is settled when it is built.
    actions: str = "none"

    config: Any
    spec: ClipSpec

    def __init__(self, config: Any, spec: ClipSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.stochastic = self.is_stochastic(config)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "predict" in cls.__dict__:  # every model gets the same door, also one written outside the package
            cls.predict = _door(cls.__dict__["predict"])  # type: ignore[method-assign]

    # ------------------------------------------------------------------------------------ what a model must give

    @classmethod
    def request(cls, config: Any) -> ClipRequest:
        """What the model needs from the data. Asked before the model is built."""
        raise TypeError(f"{cls.__name__} must define request(config): which frames it wants")

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Training loss of one batch; validation reports it. `step` is the stage's, for annealing only."""
        raise TypeError(f"{type(self).__name__} must define loss(batch, step)")

    def predict(
        self,
        context: Frames,
        horizon: int,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The next `horizon` frames.

        context: (b, t, c, h, w) or (t, c, h, w), uint8 or float 0…1; at least `request(config).context` frames, of
        which the last are used.  actions: (b, context + horizon - 1, a), as in `Batch`; actions[i] leads from frame i
        to frame i + 1.  samples: futures per clip.  generator: for the draws of a stochastic model.
        Returns: (s, b, horizon, c, h, w) float 0…1, no gradients.
        Raises: ValueError for a shape the model cannot take.
        """
        raise TypeError(f"{type(self).__name__} must define predict(context, horizon, …)")

    # ---------------------------------------------------------------------------------------------- with defaults

    def phases(self) -> list[Phase]:
        """Default: one phase that trains every parameter with `loss` by Adam."""
        return [Phase(name="main", loss=self.loss)]

    def stages(self) -> list[Stage]:
        """Default: one stage holding `phases()`, ending with the run."""
        return [Stage(phases=self.phases())]

    @classmethod
    def resolve_schedules(cls, config: Any, steps_per_epoch: int) -> Any:
        """The config with schedules in epochs turned into steps; asked before the model is built. Default: as is."""
        return config

    @classmethod
    def frame_size(cls, config: Any, spec: ClipSpec) -> tuple[int, int] | None:
        """The one size (h, w) of frames that the model takes once it is built; None where it takes any.

        Default: what it wants its data brought to, its request's `resize`.
        """
        return cls.request(config).resize

    @classmethod
    def inference_only(cls, config: Any) -> Any:
        """The config of the same predictor without the parts that only training needs, such as a discriminator.

        What is left must have the same names and predict the same. Default: as it is.
        """
        return config

    def import_weights(self, path: Path) -> int:
        """Fill parts of a new model from a weights file that another program wrote; how many tensors were filled.

        Asked for by `--init-from FILE`, once, before training. Default: there is nothing such a file could fill.
        Raises: UserError, naming the file, when it cannot be read or does not fit.
        """
        raise UserError(f"{path}: {type(self).__name__} takes no weights file; --init-from wants a run of this model")

    @classmethod
    def is_stochastic(cls, config: Any) -> bool:
        """Whether two samples of one context differ under this config. Default: what the class says."""
        return cls.stochastic

    @classmethod
    def summary(cls, config: Any) -> str:
        """What the model is, in one line, for the list of models. Default: the first line of the class's docstring."""
        return (cls.__doc__ or "").strip().partition("\n")[0]

    @staticmethod
    def count(part: nn.Module) -> int:
        """How many numbers of a part count as its size. Default: its parameters."""
        return sum(p.numel() for p in part.parameters())

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Pictures for the training log, named rows (b, t, c, h, w) 0…1. Default: context, truth, prediction."""
        count = batch.future.shape[1]
        prediction = self.predict(batch.context, count, actions=self._actions(batch, count))[0]
        return {"context": batch.context, "truth": batch.future, "prediction": prediction}

    def views(
        self, context: Frames, horizon: int, actions: Frames | None = None, known: Frames | None = None
    ) -> dict[str, Tensor]:
        """What else there is to see of a forecast: films by name, (b, t, c, h, w) in 0…1, t at most `horizon`, with as
        many channels as frames have, or 1. Default: none.

        context, horizon, actions: as in `predict`.  known: true frames after the context, (b, k, c, h, w), k of 0 to
        `horizon`; None without.
        """
        return {}

    def initialize_from_batch(self, batch: Batch) -> None:
        """Set starting values from the first training batch, once, before the first step. Default: nothing.

        Not asked where weights are taken over from another run. The batch is that of all processes together.
        """

    def final_videos(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        """Films to be left in the run folder when training ends, by name, (t, c, h, w) 0…1. Default: none.

        frames: consecutive held-out frames (t, c, h, w) 0…1 at the model's size, at least as many as a training window
        has.  actions: (t - 1, a) where the data have them, as in `Batch`.
        """
        return {}

    def _actions(self, batch: Batch, horizon: int) -> Tensor | None:
        if batch.actions is None or self.actions == "none":
            return None
        return batch.actions[:, : batch.context.shape[1] + horizon - 1]

    def subnetworks(self) -> dict[str, nn.Module]:
        """Named parts for counting and drawing. Default: the direct children."""
        return dict(self.named_children())

    @property
    def num_context(self) -> int:
        """Frames of context that `predict` looks at."""
        return self.request(self.config).context

    def controls(self) -> tuple[Control, ...]:
        """Entries of the carry that may be changed between frames, such as temperatures. Default: none."""
        return ()

    def rollout_init(
        self,
        context: Frames,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> RolloutState:
        """State for going on frame by frame: a flat dict of tensors with a batch axis, samples folded into it, `(s b)`.

        context: (b, t, c, h, w).  actions: (b, t - 1, a), those that led through the context.
        """
        frames = as_frames(context, self)[:, -self.num_context :].repeat(samples, 1, 1, 1, 1)
        device = frames.device
        carry = {"context": frames, "tick": torch.zeros(len(frames), dtype=torch.int64, device=device)}
        # Noise of step k is drawn from a generator seeded with seed + k: a carry holds tensors only, and can be stored.
        source = generator.device if generator is not None else "cpu"
        seed = torch.randint(2**62, (1,), generator=generator, device=source)
        carry["seed"] = seed.to(device).expand(len(frames)).clone()
        if actions is not None:
            past = torch.as_tensor(actions, dtype=torch.float32, device=device)
            past = past[None] if past.ndim == 2 else past
            keep = self.num_context - 1
            if past.shape[1] < keep:
                raise ValueError(f"{type(self).__name__} needs the {keep} actions of its context, got {past.shape[1]}")
            carry["actions"] = past[:, past.shape[1] - keep :].repeat(samples, 1, 1)
        return carry

    def rollout_step(self, carry: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """One frame further.

        action: ((s b), a), what is done at the last frame.  Returns: the new carry and the frame, ((s b), c, h, w) 0…1.
        Default: a sliding window over `predict`.
        """
        actions = None
        if action is not None:
            past = carry.get("actions", action.new_zeros(len(action), self.num_context - 1, action.shape[-1]))
            actions = torch.cat([past, action[:, None]], dim=1)
        generator = None
        if self.stochastic:
            generator = torch.Generator(carry["context"].device)
            generator.manual_seed(int(carry["seed"][0]) + int(carry["tick"][0]))
        frame = self.predict(carry["context"], 1, actions=actions, generator=generator)[0, :, 0]
        new = {**carry, "context": torch.cat([carry["context"][:, 1:], frame[:, None]], 1), "tick": carry["tick"] + 1}
        if actions is not None:
            new["actions"] = actions[:, 1:]
        return new, frame


@runtime_checkable
class LatentModel(Protocol):
    """A model with a latent space, for `latents` and `play`."""

    def encode(self, frames: Tensor) -> Tensor:
        """(b, t, c, h, w) 0…1 -> z (b, t, z)."""

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """z (b, t, z) -> frames (b, t, c, h, w) 0…1; context where the decoder needs a picture to start from."""


@runtime_checkable
class EditableLatent(LatentModel, Protocol):
    """A coder that dreams in its codes: the code of the last frame is read off the carry, and another put there.

    The frame that `advance` gave is `decode` of what `code_of` says, so a dream can go on from a code made by hand.
    """

    def get_latent(self, carry: RolloutState) -> Tensor:
        """The code of the last frame, (b, z)."""

    def with_latent(self, carry: RolloutState, z: Tensor) -> RolloutState:
        """The carry as if the last frame had the code z (b, z); the one given stays as it is."""


@runtime_checkable
class MotionLatentModel(LatentModel, Protocol):
    """A coder whose codes are motions between two frames, for `latents sample`, `transfer` and `dims`.

    `encode` gives (b, t - 1, z), a code for every step; `decode` moves the context's last frame.
    """

    def draw(self, count: int, prior: str | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Codes to predict with, (count, z). prior: "normal" or "posterior"; None as the model is configured."""

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of every motion's code, (b, t - 1, z) each.  frames: (b, t, c, h, w) 0…1."""

    def features(self, frame: Tensor) -> list[Tensor]:
        """Maps (b, maps, h_k, w_k) of frames (b, c, h, w) 0…1, which codes move."""

    def kernels(self, z: Tensor) -> list[Tensor]:
        """Kernels (b, maps, k, k) of codes (b, z), which move them."""


def count_parameters(model: Predictor) -> dict[str, int]:
    """Number of parameters of each sub-network, by name, as the model counts them."""
    return {name: model.count(part) for name, part in model.subnetworks().items()}


def as_frames(x: Frames, model: Predictor) -> Tensor:
    """Frames of any accepted kind as float (b, t, c, h, w) in 0…1 on the model's device.

    Raises: ValueError when axes or channels do not fit the model.
    """
    name = type(model).__name__
    if isinstance(x, np.ndarray) and not x.flags.writeable:  # a view of a store: torch has no read-only tensors
        x = x.copy()
    x = torch.as_tensor(x)
    if x.ndim == 4:
        x = x[None]
    if x.ndim != 5:
        raise ValueError(f"{name}: context must have axes (b, t, c, h, w) or (t, c, h, w), got shape {tuple(x.shape)}")
    if x.shape[2] != model.spec.channels:
        raise ValueError(
            f"{name}: frames have {x.shape[2]} channels but the model was built for {model.spec.channels}; "
            "frames are (b, t, c, h, w), channels before height"
        )
    parameter = next(model.parameters(), None)
    x = x.to(parameter.device if parameter is not None else x.device)
    if x.dtype == torch.uint8:
        return x.float().div_(255)
    if not x.is_floating_point():
        raise ValueError(f"{name}: frames must be uint8 (0…255) or float (0…1), got {x.dtype}")
    return x.float()


def _door(predict: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(predict)
    @torch.no_grad()
    def checked(
        self: Predictor,
        context: Frames,
        horizon: int,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        name, need = type(self).__name__, self.num_context
        frames = as_frames(context, self)
        if frames.shape[1] < need:
            raise ValueError(f"{name} needs {need} context frames, got {frames.shape[1]}; give a longer clip")
        if horizon < 1 or samples < 1:
            raise ValueError(f"{name}: horizon and samples must be at least 1, got {horizon} and {samples}")
        if actions is not None:
            actions = torch.as_tensor(actions, dtype=torch.float32, device=frames.device)
            actions = actions[None] if actions.ndim == 2 else actions
            want = (frames.shape[0], frames.shape[1] + horizon - 1, self.spec.action_size)
            if tuple(actions.shape) != want:
                raise ValueError(
                    f"{name}: actions must be (b, context + horizon - 1, a) = {want}, got {tuple(actions.shape)}"
                )
            actions = actions[:, frames.shape[1] - need :]
        elif self.actions == "required":
            raise ValueError(f"{name} predicts from actions: pass actions (b, context + horizon - 1, a)")
        return predict(self, frames[:, -need:], horizon, actions, samples, generator)

    return checked
