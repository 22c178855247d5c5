"""Predictor, the base class of all models. A model is a config, its networks and a subclass of `Predictor`.

A model knows no device name, path, logger, data loader or optimiser object, and never switches itself to eval mode:
the training engine and `rollout.py` do that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, ClipSpec, Loss, Phase, Stage

#: Everything a rollout needs between two frames: a flat dict of tensors with a batch axis, so that it can be stored.
RolloutState = dict[str, Tensor]
Frames = Tensor | np.ndarray


@dataclass(frozen=True, kw_only=True)
class Control:
    """A number that may be changed during a rollout: an entry of the state, (b,) floats, read at every step."""

    name: str
    """Key of the entry; `rollout_init` fills it with the value of the config."""
    label: str
    """Name shown to people."""
    low: float
    """Lowest value worth offering."""
    high: float
    """Highest value worth offering."""
    description: str = ""
    """Effect, in one sentence."""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"Control {self.name}: low {self.low:g} must be below high {self.high:g}")


class TrainingData(Protocol):
    """What a model may read of the training videos before it is built."""

    @property
    def spec(self) -> ClipSpec:
        """Format of frames, actions and further arrays."""

    def frames(self, most: int) -> Iterator[np.ndarray]:
        """At most `most` single frames, uint8 (c, h, w), evenly spaced over all training videos."""

    def array(self, name: str) -> np.ndarray:
        """A per-frame array of all training videos, one after another, (frames, …)."""


def _checked(predict: Callable[..., Tensor]) -> Callable[..., Tensor]:
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


class Predictor(nn.Module):
    """Predictor of the next frames of a video. Built as `Model(config, spec)`.

    A subclass must define `request`, `loss` and either `predict` or the pair `initial_state` and `rollout_step`; each
    of the two forms has a default built on the other. `predict` of a subclass receives checked float tensors: the
    wrapper that `__init_subclass__` adds accepts uint8, NumPy arrays and clips without batch axis, turns gradients off
    and rejects wrong shapes.

    Args:
        config: choices of the paper, a frozen dataclass.
        spec: shape of frames and actions.
    """

    #: The frozen dataclass that configures this model.
    Config: ClassVar[type]
    #: Family name, as `framecast models` shows it; empty takes the model's own name.
    family: ClassVar[str] = ""
    #: Paper, in one line; empty for baselines.
    paper: ClassVar[str] = ""
    #: Whether two samples of one context differ; see `is_stochastic` where the config decides.
    stochastic: bool = False
    #: Use of actions: "none", "optional" or "required"; "optional" is settled when the model is built.
    actions: str = "none"
    #: Frames that one call of the networks in `predict` yields; a roll-out without actions calls it once per so many.
    block: int = 1

    config: Any
    spec: ClipSpec

    def __init__(self, config: Any, spec: ClipSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.stochastic = self.is_stochastic(config)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "predict" in cls.__dict__:  # also in models outside the package
            cls.predict = _checked(cls.__dict__["predict"])  # type: ignore[method-assign]

    # ------------------------------------------------------------------------------------ what a model must define

    @classmethod
    def request(cls, config: Any) -> ClipRequest:
        """Frames that the model needs from the data. Called before the model is built."""
        raise TypeError(f"{cls.__name__} must define request(config), the frames it is trained on")

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Training loss of one batch, which validation reports too.

        Args:
            batch: clips as `request` describes them.
            step: step of the current stage, for annealing only.
        """
        raise TypeError(f"{type(self).__name__} must define loss(batch, step)")

    def predict(
        self,
        context: Frames,
        horizon: int,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The next `horizon` frames. Default: `rollout_init`, then `rollout_step` for every frame.

        Args:
            context: (b, t, c, h, w) or (t, c, h, w), uint8 or float 0…1; at least `num_context` frames, of which the
                last are used.
            horizon: number of frames, at least 1.
            actions: (b, context + horizon - 1, a), as in `Batch`; actions[i] leads from frame i to frame i + 1.
            samples: futures per clip.
            generator: source of randomness of a stochastic model.

        Returns:
            (s, b, horizon, c, h, w) float 0…1, without gradients.

        Raises:
            ValueError: for a shape that the model cannot take.
        """
        if type(self).rollout_step is Predictor.rollout_step:
            raise TypeError(f"{type(self).__name__} must define predict(context, horizon, …)")
        return self._predict_by_steps(context, horizon, actions, samples, generator)

    @_checked
    def _predict_by_steps(
        self,
        context: Frames,
        horizon: int,
        actions: Frames | None,
        samples: int,
        generator: torch.Generator | None,
    ) -> Tensor:
        copies, lead = samples if self.stochastic else 1, self.num_context - 1
        led = None if actions is None else torch.as_tensor(actions).repeat(copies, 1, 1)
        state = self.rollout_init(context, None if actions is None else actions[:, :lead], copies, generator)
        frames = []
        for k in range(horizon):
            state, frame = self.rollout_step(state, None if led is None else led[:, lead + k])
            frames.append(frame)
        found = rearrange(torch.stack(frames, 1), "(s b) t c h w -> s b t c h w", s=copies)
        return found.expand(samples, -1, -1, -1, -1, -1)

    # ---------------------------------------------------------------------------------------------- with defaults

    def phases(self) -> list[Phase]:
        """Optimisation phases. Default: one that trains every parameter with `loss` by Adam, if there are any."""
        return [Phase(name="main", loss=self.loss)] if any(True for _ in self.parameters()) else []

    def stages(self) -> list[Stage]:
        """Training stages. Default: one with `phases()`, as long as the run."""
        return [Stage(phases=self.phases())]

    @classmethod
    def resolve_schedules(cls, config: Any, steps_per_epoch: int) -> Any:
        """The config with schedules in epochs converted to steps, before the model is built. Default: unchanged."""
        return config

    @classmethod
    def config_from_data(cls, config: Any, data: TrainingData) -> Any:
        """The config completed from the training data, such as a palette, before the model is built. Default: unchanged.

        Raises:
            UserError: the data do not suit the model.
        """
        return config

    @classmethod
    def frame_size(cls, config: Any, spec: ClipSpec) -> tuple[int, int] | None:
        """The only size (h, w) of frames that a built model accepts; None if it accepts any. Default: the request's."""
        return cls.request(config).resize

    @classmethod
    def inference_only(cls, config: Any) -> Any:
        """The config without parts that only training needs, such as a discriminator. Default: unchanged.

        The remaining parameters must keep their names and the predictions must be the same.
        """
        return config

    def import_weights(self, path: Path) -> int:
        """Number of tensors filled from a weights file of another program, for `--init-from FILE`. Default: an error.

        Args:
            path: the file; it is read once, before training.

        Raises:
            UserError: if the file cannot be read or does not fit.
        """
        raise UserError(
            f"{path}: {type(self).__name__} takes no weights file; use a run of this model with --init-from"
        )

    @classmethod
    def is_stochastic(cls, config: Any) -> bool:
        """Whether two samples of one context differ under this config. Default: the class attribute."""
        return cls.stochastic

    @classmethod
    def summary(cls, config: Any) -> str:
        """One line for the list of models. Default: the first line of the class docstring."""
        return (cls.__doc__ or "").strip().partition("\n")[0]

    @staticmethod
    def count(part: nn.Module) -> int:
        """Size of a part. Default: the number of its parameters."""
        return sum(p.numel() for p in part.parameters())

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """Images for the training log, (b, t, c, h, w) 0…1 by name. Default: context, truth and prediction."""
        leads = batch.lead_times
        count = batch.future.shape[1] if leads is None else int(leads.max())
        prediction = self.predict(batch.context, count, actions=self.batch_actions(batch, count))[0]
        if leads is not None:
            prediction = prediction[torch.arange(len(leads), device=leads.device)[:, None], leads - 1]
        return {"context": batch.context, "truth": batch.future, "prediction": prediction}

    def views(
        self, context: Frames, horizon: int, actions: Frames | None = None, known: Frames | None = None
    ) -> dict[str, Tensor]:
        """Further videos that explain a forecast, by name. Default: none.

        Args:
            context: as in `predict`.
            horizon: as in `predict`.
            actions: as in `predict`.
            known: true frames after the context, (b, k, c, h, w), k of 0 to `horizon`.

        Returns:
            (b, t, c, h, w) in 0…1 each, t at most `horizon`, with the channels of frames or one.
        """
        return {}

    def initialize_from_batch(self, batch: Batch) -> None:
        """Set initial values from the first training batch, once, before the first step. Default: nothing.

        Not called where weights come from another run. The batch is that of all processes together.
        """

    def final_videos(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        """Videos saved in the run folder when training ends, (t, c, h, w) 0…1 by name. Default: none.

        Args:
            frames: consecutive held-out frames (t, c, h, w) 0…1 at the model's size, at least one training window.
            actions: (t - 1, a) where the data have them, as in `Batch`.
        """
        return {}

    def batch_actions(self, batch: Batch, horizon: int) -> Tensor | None:
        """The actions (b, context + horizon - 1, a) of a batch for `predict`; None where there are none to use."""
        if batch.actions is None or self.actions == "none":
            return None
        return batch.actions[:, : batch.context.shape[1] + horizon - 1]

    def subnetworks(self) -> dict[str, nn.Module]:
        """Named parts for counting and drawing. Default: the direct children."""
        return dict(self.named_children())

    @property
    def num_context(self) -> int:
        """Number of context frames that `predict` uses."""
        return self.request(self.config).context

    def controls(self) -> tuple[Control, ...]:
        """Entries of the state that may be changed between frames, such as temperatures. Default: none."""
        return ()

    # ------------------------------------------------------------------------------------------ frame by frame

    def rollout_init(
        self,
        context: Frames,
        actions: Frames | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> RolloutState:
        """State of a frame-by-frame rollout, with samples folded into the batch axis, `(s b)`. See `initial_state`.

        Args:
            context: (b, t, c, h, w) or (t, c, h, w), uint8 or float 0…1; the last `num_context` frames are used.
            actions: (b, t - 1, a), from each context frame to the next.
            samples: futures per clip.
            generator: source of randomness.

        Raises:
            ValueError: for frames of wrong axes, or fewer actions than the context needs.
        """
        frames, past = as_frames(context, self)[:, -self.num_context :], None
        if actions is not None:
            past = torch.as_tensor(actions, dtype=torch.float32, device=frames.device)
            past, keep = past[None] if past.ndim == 2 else past, self.num_context - 1
            if past.shape[1] < keep and self.actions != "none":
                raise ValueError(f"{type(self).__name__} needs the {keep} actions of its context, got {past.shape[1]}")
            past = past[:, max(past.shape[1] - keep, 0) :]
        with torch.no_grad():
            return self.initial_state(frames, past, samples, generator)

    def initial_state(
        self, frames: Tensor, actions: Tensor | None, samples: int, generator: torch.Generator | None
    ) -> RolloutState:
        """The state after the context. Default: the window of frames and actions that `predict` needs, and a seed.

        With `block` above 1 it also has a "queue" (b, n, c, h, w), the n predicted frames that were not returned yet.

        Args:
            frames: (b, num_context, c, h, w) float 0…1.
            actions: (b, num_context - 1, a), or None.
            samples: futures per clip, to be folded into the batch axis.
            generator: source of randomness.
        """
        state = {"context": frames.repeat(samples, 1, 1, 1, 1), **new_seed(len(frames) * samples, generator, frames)}
        if actions is not None:
            state["actions"] = actions.repeat(samples, 1, 1)
        if self.block > 1:
            state["queue"] = state["context"][:, :0]
        return state

    def rollout_step(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The next state and frame. Default: `predict` on a sliding window, `block` frames at a time without actions.

        Args:
            state: from `rollout_init` or the previous step; it is not changed.
            action: ((s b), a), the action at the last frame. Actions are known one by one, so frames are predicted so.

        Returns:
            The new state and the frame, ((s b), c, h, w) 0…1.
        """
        actions = None
        if action is not None:
            past = state.get("actions", action.new_zeros(len(action), self.num_context - 1, action.shape[-1]))
            actions = torch.cat([past, action[:, None]], dim=1)
        ahead = state.get("queue") if action is None else None
        if ahead is None or not ahead.shape[1]:
            generator = step_generator(state, state["context"].device) if self.stochastic else None
            count = self.block if action is None else 1
            ahead = self.predict(state["context"], count, actions=actions, generator=generator)[0]
        frame = ahead[:, 0]
        new = {**state, "context": torch.cat([state["context"][:, 1:], frame[:, None]], 1), "tick": state["tick"] + 1}
        if actions is not None:
            new["actions"] = actions[:, 1:]
        if self.block > 1:
            new["queue"] = ahead[:, 1:]
        return new, frame


def new_seed(rows: int, generator: torch.Generator | None, like: Tensor) -> RolloutState:
    """Entries `seed` and `tick` of a rollout state, (rows,) int64 each: one random seed, and 0 steps.

    Step k is seeded by seed + k, because a state holds tensors only and must be storable.
    """
    source = generator.device if generator is not None else "cpu"
    seed = torch.randint(2**62, (1,), generator=generator, device=source).to(like.device)
    return {"seed": seed.repeat(rows), "tick": torch.zeros(rows, dtype=torch.int64, device=like.device)}


def step_generator(state: RolloutState, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of the step that follows `state`, on `device`."""
    return torch.Generator(device).manual_seed(int(state["seed"][0]) + int(state["tick"][0]))


@runtime_checkable
class LatentModel(Protocol):
    """A model with a latent space, for `latents` and `play`."""

    def encode(self, frames: Tensor) -> Tensor:
        """Latents (b, t, z) of frames (b, t, c, h, w) 0…1."""

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Frames (b, t, c, h, w) of latents (b, t, z); context where the decoder starts from a frame."""


@runtime_checkable
class EditableLatent(LatentModel, Protocol):
    """A model that predicts in latent space: the latent of the last frame can be read from the state and replaced.

    `decode` of that latent is the frame that `rollout_step` returned, so a rollout can continue from an edited latent.
    """

    def get_latent(self, state: RolloutState) -> Tensor:
        """Latent of the last frame, (b, z)."""

    def with_latent(self, state: RolloutState, z: Tensor) -> RolloutState:
        """A copy of the state in which the last frame has the latent z (b, z)."""


@runtime_checkable
class MotionLatentModel(LatentModel, Protocol):
    """A model whose latents are motions between two frames, for `latents sample`, `transfer` and `dims`.

    `encode` returns (b, t - 1, z), one latent per step; `decode` moves the last context frame.
    """

    def draw(self, count: int, prior: str | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Random latents, (count, z).

        Args:
            count: number of latents.
            prior: "normal" or "posterior"; None takes the configured one.
            generator: source of randomness.
        """

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent of every motion in frames (b, t, c, h, w) 0…1, (b, t - 1, z) each."""

    def features(self, frame: Tensor) -> list[Tensor]:
        """Feature maps (b, maps, h_k, w_k) of frames (b, c, h, w) 0…1, which latents move."""

    def kernels(self, z: Tensor) -> list[Tensor]:
        """Kernels (b, maps, k, k) of latents (b, z), which move the feature maps."""


def count_parameters(model: Predictor) -> dict[str, int]:
    """Number of parameters of each sub-network, by name, as the model counts them."""
    return {name: model.count(part) for name, part in model.subnetworks().items()}


def as_frames(x: Frames, model: Predictor) -> Tensor:
    """Frames of any accepted kind as float (b, t, c, h, w) in 0…1 on the model's device.

    Args:
        x: (b, t, c, h, w) or (t, c, h, w), uint8 0…255 or float 0…1.
        model: the model that receives them.

    Raises:
        ValueError: if axes, channels or dtype do not fit the model.
    """
    name = type(model).__name__
    if isinstance(x, np.ndarray) and not x.flags.writeable:  # torch has no read-only tensors
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
