"""Categorical next-frame prediction: a class per pixel over a palette, conditioned on actions, for playable worlds.

Games have few colours. A class per pixel, trained by cross entropy and fed back as a decoded frame of exact colours,
has no blur that could accumulate: a roll-out can stay sharp for as long as it is played. The network is a small U-Net
over the last frames, traces of where each colour has been, and clocks of how long each colour has been away; actions
condition it by FiLM. It is trained on its own decoded frames, and returns to the true ones where it has left them.

Related: Oh et al., "Action-Conditional Video Prediction using Deep Networks in Atari Games", 2015, arXiv 1507.08750;
Perez et al., "FiLM", 2018, arXiv 1709.07871; Ronneberger et al., "U-Net", 2015, arXiv 1505.04597.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from framecast.core.errors import UserError
from framecast.core.schedules import Cosine
from framecast.core.types import Batch, ClipRequest, ClipSpec, GradClip, Loss, Optimiser, Phase
from framecast.models.base import Control, Predictor, RolloutState, TrainingData
from framecast.models.categorical.config import CategoricalConfig
from framecast.models.categorical.decoding import RareColours, expected_area, most_likely, sample
from framecast.models.categorical.erasing import choose, erased, ground_colours
from framecast.models.categorical.networks import History, Network, Outcomes
from framecast.models.categorical.palette import default_palette, find_palette, lookup_table, nearest
from framecast.models.categorical.regions import divide, impossible, owners
from framecast.models.seeds import Generators, new_seed, next_tick, step_uniform
from framecast.nn.precision import autocast_off

#: Training frames, at most, of which the palette is made.
_PALETTE_FRAMES = 8000

#: Largest number of different rewards.
_REWARDS = 32

_TEMPERATURE = "Randomness of each pixel's colour: at 0 the frame is decoded without chance."

#: Entries of the rollout state that are fields of a History.
_FIELDS = ("frames", "since", "present", "actions")

#: Tensors of the rare colours, buffers of the model.
_RARE = ("names", "others", "sizes")


class Categorical(Predictor):
    """Categorical next-frame prediction over a palette of colours, with actions; for playable worlds."""

    Config = CategoricalConfig
    family = "categorical next-frame prediction"
    paper = "after Oh et al., 2015, arXiv 1507.08750; Perez et al. (FiLM), 2018, arXiv 1709.07871"
    actions = "optional"
    config: CategoricalConfig
    palette: Tensor
    table: Tensor
    rewards: Tensor
    impossible: Tensor

    def __init__(self, config: CategoricalConfig, spec: ClipSpec) -> None:
        super().__init__(config, spec)
        if spec.channels not in (1, 3):
            raise ValueError(f"categorical takes grey or RGB frames, got {spec.channels} channels")
        palette = torch.tensor(config.palette or default_palette(config.colours), dtype=torch.float32) / 255
        if spec.channels == 1:
            palette = palette[:, :1]
        self._colours = len(palette)
        self.register_buffer("table", lookup_table(palette), persistent=False)
        self._owned = owners(config.palette, config.regions) if config.palette else (0,) * len(config.regions)
        palette = torch.cat([palette, palette[list(self._owned)]])  # a region has the colour of its pixels
        k = len(palette)
        self.register_buffer("palette", palette, persistent=False)
        if config.regions:
            never = impossible(config.regions, self._owned, self._colours, spec.height, spec.width)
            self.register_buffer("impossible", never, persistent=False)
        nothing = (0,) * k
        self._rare = RareColours.of(
            config.areas or nothing,
            config.least_areas or nothing,
            config.extents or ((0, 0),) * k,
            config.rare_area,
            config.usual_areas,
        )
        self._grounds = ground_colours(config.areas or nothing, spec.height * spec.width)
        for name in _RARE:
            self.register_buffer(f"rare_{name}", getattr(self._rare, name), persistent=False)
        self.register_buffer("rewards", torch.tensor(config.reward_values), persistent=False)
        self.network = Network(config, k, spec.height, spec.width, spec.action_size)
        outputs = len(config.reward_values) + len(config.flags)
        first, _, bottom = config.widths
        features = 2 * bottom + 2 * first + config.condition
        self.outcomes = Outcomes(features, len(config.reward_values), len(config.flags)) if outputs else None
        self.actions = "required" if spec.action_size else "none"
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def request(cls, config: CategoricalConfig) -> ClipRequest:
        """The history and the frames of the recursion, with the arrays that the outcomes are learned from."""
        extras = (("rewards",) if config.reward_values else ()) + config.flags
        return ClipRequest(
            context=config.history,
            future=config.recursion,
            extras=extras,
            events=config.events,
            event_share=config.event_share,
        )

    @classmethod
    def config_from_data(cls, config: CategoricalConfig, data: TrainingData) -> CategoricalConfig:
        """The config with palette, areas, rewards and flags of the training data, where they are not given.

        Raises:
            UserError: the scene has too many colours, or a region lies outside its frames.
        """
        height, width = data.spec.height, data.spec.width
        if any(bottom > height or right > width for *_, bottom, right in config.regions):
            raise UserError(f"model.regions: a box ends outside the frames of {height}x{width} px")
        found = find_palette(data.frames(_PALETTE_FRAMES), config.colours, config.palette, config.regions)
        if found.error > config.palette_error:
            raise UserError(
                f"the data have {found.distinct:,} colours, and the best palette of {len(found.colours)} differs from "
                f"them by {found.error:.0f} of 255 levels on average, at most {config.palette_error:g} are allowed; "
                "raise --model.colours (up to 64), or use another model for such scenes"
            )
        if found.distinct > len(found.colours):
            warnings.warn(
                f"{found.distinct:,} colours are snapped to a palette of {len(found.colours)}, at a mean distance of "
                f"{found.error:.2f} of 255 levels",
                stacklevel=2,
            )
        completed = replace(config, palette=found.colours, areas=config.areas or found.areas)
        completed = replace(
            completed,
            least_areas=config.least_areas or found.least,
            usual_areas=config.usual_areas or found.usual,
            extents=config.extents or found.extents,
            presence=config.presence or (found.presence if config.background else ()),
        )
        if config.outcomes == "none":
            return completed
        extras = data.spec.extras
        rewards = config.reward_values
        if not rewards and extras.get("rewards") == ():
            rewards = tuple(float(v) for v in np.unique(data.array("rewards")))
        if len(rewards) > _REWARDS:
            raise UserError(
                f"the data have {len(rewards)} different rewards, at most {_REWARDS} can be predicted; "
                "use --model.outcomes none"
            )
        flags = config.flags or tuple(n for n in ("terminated", "truncated") if extras.get(n) == ())
        return replace(completed, reward_values=rewards if len(rewards) > 1 else (), flags=flags)

    @classmethod
    def frame_size(cls, config: CategoricalConfig, spec: ClipSpec) -> tuple[int, int]:
        """The size of training: the learned maps of position have it."""
        return spec.height, spec.width

    @classmethod
    def is_stochastic(cls, config: CategoricalConfig) -> bool:
        """Whether frames are sampled."""
        return config.temperature > 0

    def phases(self) -> list[Phase]:
        """One phase by AdamW with warm-up and cosine decay."""
        optim = self.config.optim
        optimiser = Optimiser(
            kind="adamw",
            lr=optim.lr,
            betas=optim.betas,
            weight_decay=optim.weight_decay,
            schedule=Cosine(),
            warmup=optim.warmup,
        )
        return [Phase(name="main", loss=self.loss, optimiser=optimiser, clip=GradClip(kind="global", value=optim.clip))]

    # ------------------------------------------------------------------------------------------------------- training

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        """Weighted cross entropy of every pixel of T frames, each after the model's own decoded ones.

        Args:
            batch: history and T frames.
            step: of the stage; the length of the recursion follows `Batch.elapsed`.
        """
        config, steps = self.config, batch.future.shape[1]
        past = self.indices(batch.context)
        truths = self.indices(batch.future)
        lead = past.shape[1] - 1
        led = None if batch.actions is None or self.actions == "none" else batch.actions
        true = own = History.of(past, None if led is None else led[:, :lead], len(self.palette), config, self._width)
        if self.training and config.flips:
            own = replace(own, frames=self._flipped(own.frames))
        depth = self._depth(batch.elapsed, steps)
        erasing = past.new_full((len(past),), -1)
        totals: dict[str, list[Tensor]] = {"cross_entropy": [], "weighted": [], "wrong": [], "reset": []}
        outcomes: list[dict[str, Tensor]] = []
        for k in range(steps):
            action = past.new_zeros((len(past), 0), dtype=torch.float32) if led is None else led[:, lead + k]
            logits, features = self._logits(own, action)
            rows = logits.permute(0, 2, 3, 1).flatten(0, 2)  # without a copy where channels come last
            entropy = functional.cross_entropy(rows, truths[:, k].flatten(), reduction="none").view_as(truths[:, k])
            weights = 1 + config.change_weight * self._changing(own.frames, truths[:, k])
            totals["weighted"].append((weights * entropy).mean())
            totals["cross_entropy"].append(entropy.detach().mean())
            outcomes.append(self._outcome_losses(features, batch, lead + k))
            with torch.no_grad():
                decoded = self.decode(logits.detach())
                wrong = (decoded != truths[:, k]).flatten(1).sum(1)
                true = true.advance(truths[:, k], action)
                following = own.advance(decoded, action)
                left = self._left(following, true, wrong)
                if self.training and config.erase and self._grounds:
                    erasing = choose(decoded, erasing, config.erase, self._grounds, len(self.palette))
                    following = own.advance(erased(decoded, own.since, erasing, self._grounds), action)
                own = true if (k + 1) % depth == 0 else true.where(left, following)
                totals["wrong"].append(wrong.float().mean())
                totals["reset"].append(left.float().mean())
        parts = {name: torch.stack(values).mean() for name, values in totals.items()}
        total = parts.pop("weighted")
        for name in outcomes[0]:
            parts[name] = torch.stack([found[name] for found in outcomes]).mean()
            total = total + config.outcome_weight * parts[name]
        return Loss(total, {name: value.detach() for name, value in parts.items()})

    def _left(self, own: History, true: History, wrong: Tensor) -> Tensor:
        """Whether each sample has left the truth, (b,) bool; wrong: number of its wrong pixels."""
        left = torch.zeros_like(wrong, dtype=torch.bool)
        if self.config.reset_pixels:
            left = wrong > self.config.reset_pixels
        if self.config.reset_presence:
            left = left | ((own.present > 0) != (true.present > 0)).any(1)
        return left

    def _depth(self, elapsed: float, steps: int) -> int:
        """Number of own frames in a row, less one, at a share of the run; all of them in validation."""
        ramp = self.config.recursion_ramp
        if not self.training or ramp == 0:
            return steps
        return min(steps, 1 + int(elapsed / ramp * steps))

    def _changing(self, frames: Tensor, truth: Tensor) -> Tensor:
        """Mask (b, h, w) of what changed lately or in the target, dilated by 3x3 at half size.

        A weight on the target's change alone would depend on the outcome, and bias the odds of rare events.
        """
        seen = torch.cat([frames, truth[:, None]], 1)
        moved = (seen[:, 1:] != seen[:, :-1]).any(1)[:, None].float()
        h, w = moved.shape[2:]
        half = functional.max_pool2d(moved, 2, ceil_mode=True)
        wide = functional.max_pool2d(half, 3, stride=1, padding=1)
        return functional.interpolate(wide, scale_factor=2.0, mode="nearest")[:, 0, :h, :w]

    def _flipped(self, frames: Tensor) -> Tensor:
        """The frames with a few pixels of random colour in half of the clips."""
        some = torch.rand(frames.shape, device=frames.device) < self.config.flips
        half = torch.rand(len(frames), 1, 1, 1, device=frames.device) < 0.5
        return torch.where(some & half, torch.randint_like(frames, len(self.palette)), frames)

    def _outcome_losses(self, features: Tensor, batch: Batch, index: int) -> dict[str, Tensor]:
        """Cross entropies of reward and flags of the transition from frame `index` to the next, by name."""
        if self.outcomes is None:
            return {}
        found: dict[str, Tensor] = {}
        with autocast_off(features):
            rewards, flags = self.outcomes(features)
            if rewards.shape[1]:
                truth = batch.extras["rewards"][:, index].float()
                nearest_value = (truth[:, None] - self.rewards).abs().argmin(1)
                found["reward"] = functional.cross_entropy(rewards, nearest_value)
            for i, name in enumerate(self.config.flags):
                truth = batch.extras[name][:, index].float()
                found[name] = functional.binary_cross_entropy_with_logits(flags[:, i], truth)
        return found

    # ------------------------------------------------------------------------------------------------------- palette

    def indices(self, frames: Tensor) -> Tensor:
        """Palette indices (..., h, w), int64, of frames (..., c, h, w) 0…1; regions follow the colours."""
        found = nearest(frames, self.palette[: self._colours], self.table)
        return divide(found, self.config.regions, self._owned, self._colours)

    def _logits(self, history: History, action: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (b, k, h, w) and features of the scene; of a class that a pixel cannot have the logit is -10,000."""
        logits, features = self.network(history, action)
        return (logits.masked_fill(self.impossible, -1e4) if self.config.regions else logits), features

    def _check_palette(self, frames: Tensor, found: Tensor) -> None:
        """Refuse a context of another game; it reads from the device, so only the start of a forecast is checked.

        Raises:
            ValueError: the newest frame is further from the palette than `palette_error`.
        """
        if torch.compiler.is_compiling():  # an exported graph holds no errors
            return
        error = 255 * float((self.colours(found[-1, -1]) - frames[-1, -1]).abs().mean())
        if error > self.config.palette_error:
            raise ValueError(
                f"frames differ from the palette of {self._colours} colours by {error:.0f} of 255 levels on "
                f"average, at most {self.config.palette_error:g} are allowed; use frames of the game "
                "that the model was trained on"
            )

    def colours(self, frames: Tensor) -> Tensor:
        """Frames (..., c, h, w) 0…1 of palette indices (..., h, w)."""
        return self.palette[frames].movedim(-1, -3)

    def decode(self, logits: Tensor) -> Tensor:
        """The frame of logits (b, k, h, w) without chance, palette indices (b, h, w)."""
        if self.config.decoding == "argmax":
            return most_likely(logits)
        on_device = {name: getattr(self, f"rare_{name}") for name in _RARE}
        return expected_area(logits, replace(self._rare, **on_device))

    # ------------------------------------------------------------------------------------------------- frame by frame

    def controls(self) -> tuple[Control, ...]:
        """The temperature."""
        return (Control(name="temperature", label="Temperature", low=0.0, high=1.5, description=_TEMPERATURE),)

    def initial_state(
        self, frames: Tensor, actions: Tensor | None, samples: int, generator: Generators
    ) -> RolloutState:
        """The history of the context, the last outcomes (0), temperature and seed."""
        led = actions if self.actions != "none" else None
        past = self.indices(frames)
        self._check_palette(frames, past)
        history = History.of(past, led, len(self.palette), self.config, self._width)
        state = {name: getattr(history, name) for name in _FIELDS}
        zeros = frames.new_zeros(len(frames))
        state |= {name: zeros for name in self.outcome_names}
        # on the host, so that whether to sample is known without reading the device
        state["temperature"] = torch.full((len(frames),), float(self.config.temperature))
        state = {name: value.repeat(samples, *[1] * (value.ndim - 1)) for name, value in state.items()}
        return {**state, **new_seed(len(frames) * samples, generator, frames)}

    def rollout_step(self, state: RolloutState, action: Tensor | None = None) -> tuple[RolloutState, Tensor]:
        """The next state and frame; see `Predictor.rollout_step`."""
        frame, features = self._next(state, action)
        return self._advanced(state, action, frame, features), self.colours(frame)

    def observe(self, state: RolloutState, frame: Tensor, action: Tensor | None = None) -> RolloutState:
        """The next state where the true next frame is known, with the outcomes that were predicted for this step.

        Args:
            state: from `rollout_init` or an earlier step.
            frame: the true frame, (b, c, h, w) 0…1.
            action: (b, a), the action that led to it.
        """
        _, features = self._next(state, action)
        return self._advanced(state, action, self.indices(frame), features)

    @torch.no_grad()
    def _next(self, state: RolloutState, action: Tensor | None) -> tuple[Tensor, Tensor]:
        """Palette indices of the next frame, and features of the scene."""
        logits, features = self._logits(self._history(state), self._action(state, action))
        frame, hot = self.decode(logits), state["temperature"]
        if torch.compiler.is_compiling():  # an exported graph branches by an operation of its own
            operands = (frame, logits, hot, state["seed"], state["tick"])
            return torch.cond((hot > 0).any(), _sampled, _unsampled, operands), features
        if max(hot.tolist()) > 0:
            hot = hot.to(logits.device, non_blocking=True)
            frame = _sampled(frame, logits, hot, state["seed"], state["tick"])
        return frame, features

    @torch.no_grad()
    def _advanced(self, state: RolloutState, action: Tensor | None, frame: Tensor, features: Tensor) -> RolloutState:
        after = self._history(state).advance(frame, self._action(state, action))
        new = {name: getattr(after, name) for name in _FIELDS}
        return {**next_tick(state), **new, **self._outcomes(features)}

    def _history(self, state: RolloutState) -> History:
        return History(*(state[name] for name in _FIELDS))

    def _action(self, state: RolloutState, action: Tensor | None) -> Tensor:
        if action is None or self.actions == "none":
            return state["since"].new_zeros(len(state["since"]), self._width)
        return action.float()

    @property
    def outcome_names(self) -> tuple[str, ...]:
        """Entries of the state with the last step's outcomes: reward (its value) and probabilities of flags."""
        return (("reward",) if self.config.reward_values else ()) + self.config.flags

    def _outcomes(self, features: Tensor) -> RolloutState:
        if self.outcomes is None:
            return {}
        with autocast_off(features):
            rewards, flags = self.outcomes(features)
        found = {name: flags[:, i].sigmoid() for i, name in enumerate(self.config.flags)}
        return {"reward": self.rewards[rewards.argmax(1)], **found} if rewards.shape[1] else found

    @property
    def _width(self) -> int:
        return self.spec.action_size if self.actions != "none" else 0


def _sampled(frame: Tensor, logits: Tensor, temperature: Tensor, seed: Tensor, tick: Tensor) -> Tensor:
    """The decoded frame (b, h, w), where the temperature (b,) is above 0 a sampled one."""
    uniform = step_uniform({"seed": seed, "tick": tick}, tuple(logits.shape[1:]))
    drawn = sample(logits, temperature.clamp(min=1e-3), uniform)
    return torch.where((temperature > 0).view(-1, 1, 1), drawn, frame)


def _unsampled(frame: Tensor, *_: Tensor) -> Tensor:
    return frame.clone()  # a branch of `torch.cond` must not return its operand
