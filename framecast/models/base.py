"""Predictor, the base class of all models. A model is a config, its networks and a subclass of `Predictor`.

A model knows no device, path, logger, loader or optimiser and never sets its own mode: engine and `rollout.py` do that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipRequest, ClipSpec, Loss, Phase, Stage
from framecast.models.hub import HubMethods
from framecast.models.inputs import Frames, as_frames, checked
from framecast.models.seeds import Generators, new_seed, next_tick, step_generators

#: Everything a rollout needs between two frames: a flat dict of tensors with a batch axis, so that it can be stored.
RolloutState = dict[str, Tensor]


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


class Predictor(nn.Module, HubMethods):
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
    #: Whether an own `predict` takes a list of generators, one of each clip, as the default does; else one clip a call.
    clip_generators: ClassVar[bool] = False
    #: Use of actions: "none", "optional" or "required"; "optional" is settled when the model is built.
    actions: str = "none"
    #: Frames that one call of the networks in `predict` yields; a roll-out without actions makes one call per block.
    block: int = 1
    #: Frames after the context of the validation clips that `calibrate` gets; 0 where it has nothing to adjust.
    calibration_horizon: int = 0

    config: Any
    spec: ClipSpec

    def __init__(self, config: Any, spec: ClipSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.stochastic = self.is_stochastic(config)
        if self.actions == "optional" and not spec.action_size:
            self.actions = "none"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "predict" in cls.__dict__:  # also in models outside the package
            cls.predict = checked(cls.__dict__["predict"])  # type: ignore[method-assign]

    # ------------------------------------------------------------------------------------ what a model must define

    @classmethod
    def request(cls, config: Any) -> ClipRequest:
        """Frames that the model needs from the data. Called before the model is built."""
        raise TypeError(f"{cls.__name__} must define request(config), the frames it is trained on")

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Adjust, after training, what only held-out clips can show.

        Args:
            batches: validation clips of `calibration_horizon` frames, or the half of it, a quarter, … that they have.
        """

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
        generator: Generators = None,
    ) -> Tensor:
        """The next `horizon` frames. Default: `rollout_init`, then a step for every frame, all drawn at the end.

        Args:
            context: (b, t, c, h, w) or (t, c, h, w), uint8 or float 0…1; at least `num_context` frames, of which the
                last are used.
            horizon: number of frames, at least 1.
            actions: (b, context + horizon - 1, a), as in `Batch`; actions[i] leads from frame i to frame i + 1.
            samples: futures per clip.
            generator: source of randomness of a stochastic model; with a list, one of each clip, the futures of a clip
                are the same in every batch.

        Returns:
            (s, b, horizon, c, h, w) float 0…1, without gradients.

        Raises:
            ValueError: for a shape that the model cannot take.
        """
        if not self._has("rollout_step", "rollout_latent"):
            raise TypeError(f"{type(self).__name__} must define predict(context, horizon, …)")
        return _predict_by_steps(self, context, horizon, actions, samples, generator)

    def _has(self, *names: str) -> bool:
        """Whether the model defines one of these methods of the base class itself."""
        return any(getattr(type(self), name) is not getattr(Predictor, name) for name in names)

    def _unrolled(
        self, context: Tensor, horizon: int, actions: Tensor | None, copies: int, generator: Generators
    ) -> tuple[RolloutState, Tensor]:
        """The state after `horizon` steps, and what they are drawn from, ((s b), horizon, …).

        Args:
            context: (b, num_context, c, h, w).
            horizon: number of steps.
            actions: (b, num_context + horizon - 1, a), or None.
            copies: futures per clip.
            generator: source of randomness.
        """
        lead, led = self.num_context - 1, None if actions is None else actions.repeat(copies, 1, 1)
        state = self.rollout_init(context, None if actions is None else actions[:, :lead], copies, generator)
        latents = []
        for k in range(horizon):
            state, latent = self.rollout_latent(state, None if led is None else led[:, lead + k])
            latents.append(latent)
        return state, torch.stack(latents, 1)

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
    def scale_schedules(cls, config: Any, factor: float) -> Any:
        """The config with schedules in epochs stretched by a factor, for links of a chain. Default: unchanged."""
        return config

    @classmethod
    def config_from_data(cls, config: Any, data: TrainingData) -> Any:
        """The config completed from the training data, such as a palette, before the model is built. Default: as is.

        Raises:
            UserError: the data do not suit the model.
        """
        return config

    @classmethod
    def fit_to_data(cls, config: Any, holds: Callable[[ClipRequest], bool]) -> Any:
        """The config adapted to what the data hold, before anything else is done with it. Default: unchanged.

        Args:
            config: of the model.
            holds: whether the splits for training and validation have a window of a request.
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

    def check_initial_weights(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse initial weights of another run that fit in part only and are of no use then. Default: none.

        Args:
            shapes: shape of each tensor of the other run by name.

        Raises:
            UserError: the weights are refused.
        """

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

    @property
    def min_context(self) -> int:
        """Least number of context frames that `predict` accepts. Default: `num_context`."""
        return self.num_context

    def controls(self) -> tuple[Control, ...]:
        """Entries of the state that may be changed between frames, such as temperatures. Default: none."""
        return ()

    # ------------------------------------------------------------------------------------------ frame by frame

    def rollout_init(
        self,
        context: Frames,
        actions: Frames | None = None,
        samples: int = 1,
        generator: Generators = None,
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
            past, keep = past[None] if past.ndim == 2 else past, frames.shape[1] - 1
            if past.shape[1] < keep and self.actions != "none":
                raise ValueError(f"{type(self).__name__} needs the {keep} actions of its context, got {past.shape[1]}")
            past = past[:, max(past.shape[1] - keep, 0) :]
        with torch.no_grad():
            return self.initial_state(frames, past, samples, generator)

    def initial_state(
        self, frames: Tensor, actions: Tensor | None, samples: int, generator: Generators
    ) -> RolloutState:
        """The state after the context. Default: that of each clip (`clip_state`) for every sample, and seeds.

        Args:
            frames: (b, num_context, c, h, w) float 0…1.
            actions: (b, num_context - 1, a), or None.
            samples: futures per clip, to be folded into the batch axis.
            generator: source of randomness.
        """
        state = {k: v.repeat(samples, *[1] * (v.ndim - 1)) for k, v in self.clip_state(frames, actions).items()}
        return {**state, **new_seed(len(frames) * samples, generator, frames)} if self.stochastic else state

    def clip_state(self, frames: Tensor, actions: Tensor | None) -> RolloutState:
        """What all futures of a clip start from. Default: the window of frames and actions that `predict` needs.

        With `block` above 1 it also has a "queue" (b, n, c, h, w), the n predicted frames that were not returned yet.

        Args:
            frames: (b, num_context, c, h, w) float 0…1.
            actions: (b, num_context - 1, a), or None.
        """
        state = {"context": frames} if actions is None else {"context": frames, "actions": actions}
        return {**state, "queue": frames[:, :0]} if self.block > 1 else state

    def rollout_step(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The next state and frame. Default: `rollout_latent`, drawn; else `predict` on a sliding window, `block`
        frames at a time without actions.

        Args:
            state: from `rollout_init` or the previous step; it is not changed.
            action: ((s b), a), the action at the last frame. Actions are known one by one, so frames are predicted so.

        Returns:
            The new state and the frame, ((s b), c, h, w) 0…1.
        """
        if self._has("rollout_latent"):
            with torch.no_grad():
                state, latent = self.rollout_latent(state, action)
                return state, self.draw_frames(state, latent[:, None])[:, 0]
        actions = None
        if action is not None:
            past = state.get("actions", action.new_zeros(len(action), self.num_context - 1, action.shape[-1]))
            actions = torch.cat([past, action[:, None]], dim=1)
        ahead = state.get("queue") if action is None else None
        if ahead is None or not ahead.shape[1]:
            generator = step_generators(state) if self.stochastic else None
            count = self.block if action is None else 1
            ahead = self.predict(state["context"], count, actions=actions, generator=generator)[0]
        frame = ahead[:, 0]
        new = {**next_tick(state), "context": torch.cat([state["context"][:, 1:], frame[:, None]], 1)}
        if actions is not None:
            new["actions"] = actions[:, 1:]
        if self.block > 1:
            new["queue"] = ahead[:, 1:]
        return new, frame

    def rollout_latent(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The next state and what its frame is drawn from, ((s b), …), of a model that predicts in a latent space.

        `predict` draws all frames at once by `draw_frames`. Default: `rollout_step`, the frame itself.

        Args:
            state: from `rollout_init` or the previous step; it is not changed.
            action: ((s b), a), the action at the last frame.
        """
        return self.rollout_step(state, action)

    def draw_frames(self, state: RolloutState, latents: Tensor) -> Tensor:
        """Frames ((s b), t, c, h, w) 0…1 of the latents of consecutive steps, ((s b), t, …). Default: the latents.

        Args:
            state: after the last of the steps.
            latents: from `rollout_latent`, stacked along time.
        """
        return latents


@functools.partial(checked, clip_generators=True)
def _predict_by_steps(
    model: Predictor,
    context: Frames,
    horizon: int,
    actions: Frames | None,
    samples: int,
    generator: Generators,
) -> Tensor:
    assert isinstance(context, Tensor)  # checked by the wrapper
    assert actions is None or isinstance(actions, Tensor)
    copies = samples if model.stochastic else 1
    frames = model.draw_frames(*model._unrolled(context, horizon, actions, copies, generator))
    return rearrange(frames, "(s b) t c h w -> s b t c h w", s=copies).expand(samples, -1, -1, -1, -1, -1)


def count_parameters(model: Predictor) -> dict[str, int]:
    """Number of parameters of each sub-network, by name, as the model counts them."""
    return {name: model.count(part) for name, part in model.subnetworks().items()}
