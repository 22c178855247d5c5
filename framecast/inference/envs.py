"""Gymnasium environments: learned worlds, one or a batch of them, and the games of this package.

Importing this module registers `framecast/World-v0`, `framecast/Paddle-v0` and `framecast/Maze-v0`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.types import ActionSpec
from framecast.data.loader import standardise
from framecast.data.registry import find_source
from framecast.data.synthetic.game import FPS, SIDE, Game
from framecast.inference.starts import open_starts
from framecast.media.grid import as_rgb
from framecast.media.images import to_uint8
from framecast.models.base import Predictor
from framecast.models.rollout import RolloutSession
from framecast.nn.precision import resolve_precision
from framecast.training.device import pick_device
from framecast.training.run_folder import Run, open_run

try:
    import gymnasium
    from gymnasium.error import ResetNeeded
    from gymnasium.spaces import Box, Discrete
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space
except ImportError as error:
    raise UserError('environments need gymnasium; install it: pip install "framecast[env]"') from error

Frame = np.ndarray
#: Probability of the end of a game from which it has ended.
_ENDS = 0.5
_GAMES = ("paddle", "maze")


class Worlds:
    """Rows of one batch, each an own roll-out of a learned world.

    Args:
        run: run folder, packaged weights, hf:// name, or an opened run; None is refused, with what to give.
        rows: number of roll-outs.
        data: real frames to start from; by default the examples of the run, else held-out frames of its data.
        starts: largest number of different starts, evenly spaced over these frames.
        device: torch device, or "auto".
        precision: "fp32" or "bf16" (autocast), or "auto".

    Raises:
        UserError: no run is given, it cannot be opened or predicts without actions, the frames do not suit it, or a
            setting is impossible.
    """

    def __init__(
        self, run: str | Path | Run | None, rows: int, data: str | None, starts: int, device: str, precision: str
    ) -> None:
        if not isinstance(run, str | Path | Run):
            given = "no run is given" if run is None else f"run must be a folder or a name, got {run!r}"
            raise UserError(f'{given}; give run=RUN, for example run="world-paddle"')
        if data is not None and not isinstance(data, str):
            raise UserError(f"data must be a path or the name of a source, as text, got {data!r}")
        _check_count("starts", starts)
        place = pick_device(device)
        opened = run if isinstance(run, Run) else open_run(run)
        name = opened.label
        self.model: Predictor = opened.model(str(place))
        if self.model.actions == "none" or self.model.spec.actions is None:
            raise UserError(f"{name}: predicts without actions, so it is no environment; use a run with actions")
        self.actions: ActionSpec = self.model.spec.actions
        self.starts = open_starts(opened, data, most=starts)
        self.rows, self.precision = rows, resolve_precision(precision, place)
        self._contexts: dict[int, tuple[np.ndarray, Tensor]] = {}
        height, width = self.starts[0].seen.shape[2:]
        self.observation_space = Box(0, 255, (height, width, self.model.spec.channels), np.uint8)
        self.action_space = _action_space(self.actions)
        self.session = self._begun(0, 0)
        state = self.session.carry
        missing = [words for key, words in (("reward", "reward"), ("terminated", "end")) if key not in state]
        if missing:
            warnings.warn(
                f"{name} predicts no {' and no '.join(missing)}: "
                + "; ".join({"reward": "the reward is 0", "end": "episodes end at max_steps"}[m] for m in missing),
                stacklevel=4,
            )
        self.session.carry = {k: v.repeat(rows, *[1] * (v.ndim - 1)) for k, v in state.items()}
        self.frames = np.zeros((rows, *self.observation_space.shape), np.uint8)

    def reset(self, row: int, generator: np.random.Generator, start: int | None = None) -> str:
        """Begin a roll-out in a row from a real context; the name of its start.

        Args:
            row: index of the roll-out.
            generator: chooses the start and the seed of a stochastic model.
            start: index of the start; None draws one.
        """
        chosen = int(generator.integers(len(self.starts))) if start is None else start
        begun = self._begun(chosen, int(generator.integers(2**31)))
        carry = {k: v.clone() for k, v in self.session.carry.items()}
        for key, value in begun.carry.items():
            carry[key][row] = value[0]
        self.session.carry = carry
        self.frames[row] = self.starts[chosen].seen[-1].transpose(1, 2, 0)
        return self.starts.names[chosen]

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray]:
        """One frame further in every row: rewards (rows,) float64, and whether games have ended, (rows,) bool.

        Args:
            actions: indices (rows,), or floats (rows, a).
        """
        frame = self.session.step(self._vectors(np.asarray(actions)))
        self.frames[:] = to_uint8(frame.cpu()).transpose(0, 2, 3, 1)
        state, zeros = self.session.carry, torch.zeros(self.rows)
        rewards = state.get("reward", zeros).double().cpu().numpy()
        return rewards, (state.get("terminated", zeros) > _ENDS).cpu().numpy()

    def _begun(self, start: int, seed: int) -> RolloutSession:
        context, past = self._context(start)
        return RolloutSession(self.model, context, past, torch.Generator().manual_seed(seed), self.precision)

    def _context(self, start: int) -> tuple[np.ndarray, Tensor]:
        """Frames and actions (1, t - 1, a) of a start, read once."""
        if start not in self._contexts:
            found = self.starts[start]
            assert found.actions is not None
            self._contexts[start] = found.seen, found.actions[None]
        return self._contexts[start]

    def _vectors(self, actions: np.ndarray) -> Tensor:
        """Model input (rows, a) of actions as agents give them."""
        device = next(self.model.parameters()).device
        if self.actions.kind == "discrete":
            if actions.shape != (self.rows,) or not all(_is_index(action, self.actions.size) for action in actions):
                raise UserError(
                    f"actions must be whole numbers from 0 to {self.actions.size - 1}, got {actions.tolist()}"
                )
            indices = torch.from_numpy(actions.astype(np.int64)).to(device)
            return torch.nn.functional.one_hot(indices, self.actions.size).float()
        numbers = np.issubdtype(actions.dtype, np.number)
        if actions.size != self.rows * self.actions.size or not numbers or not np.isfinite(actions).all():
            raise UserError(f"an action must be {self.actions.size} finite numbers, got {actions.tolist()}")
        clipped = np.clip(actions.reshape(self.rows, -1), self.action_space.low, self.action_space.high)
        return torch.from_numpy(standardise(clipped, self.actions)).to(device)


class WorldEnv(gymnasium.Env[Frame, Any]):
    """A learned world. Observations are frames, uint8 (h, w, c); actions those of the run's data.

    The reward and the end of a game are those that the model predicts; without such outputs the reward is 0 and
    episodes are truncated only. An episode begins with a real context; `reset(options={"start": i})` chooses it.

    Args:
        run, data, starts, device, precision: as in `Worlds`.
        max_steps: frames after which an episode is truncated.
        render_mode: "rgb_array", or None.

    Raises:
        UserError: as in `Worlds`, or an unknown setting.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(
        self,
        run: str | Path | Run | None = None,  # optional, so that gymnasium.make without it gets our sentence
        *,
        data: str | None = None,
        max_steps: int = 1000,
        starts: int = 64,
        device: str = "cpu",
        precision: str = "fp32",
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        _check_settings(type(self), unknown, max_steps, render_mode)
        self.worlds = Worlds(run, 1, data, starts, device, precision)
        self.observation_space, self.action_space = self.worlds.observation_space, self.worlds.action_space
        self.max_steps, self.render_mode, self.steps, self.over = max_steps, render_mode, 0, True
        self.metadata = {**self.metadata, "render_fps": self.worlds.starts.fps}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frame, dict[str, Any]]:
        """The last frame of a real context, and its name as `start`."""
        super().reset(seed=seed)
        name = self.worlds.reset(0, self.np_random, _start(options, len(self.worlds.starts)))
        self.steps, self.over = 0, False
        return self.worlds.frames[0].copy(), {"start": name}

    def step(self, action: Any) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        """The next frame, its reward, whether the game ended, whether `max_steps` is reached, and info.

        Raises:
            ResetNeeded: the episode has ended.
        """
        if self.over:
            raise ResetNeeded("the episode has ended; call reset()")
        rewards, ended = self.worlds.step(np.asarray(action)[None])
        self.steps += 1
        terminated, truncated = bool(ended[0]), self.steps >= self.max_steps
        self.over = terminated or truncated
        return self.worlds.frames[0].copy(), float(rewards[0]), terminated, truncated, {}

    def render(self) -> Any:
        """The current frame, uint8 (h, w, 3), with render mode "rgb_array"."""
        return None if self.render_mode is None else _rgb(self.worlds.frames[0])


class VectorWorldEnv(VectorEnv[np.ndarray, Any, np.ndarray]):
    """Several roll-outs of one learned world, predicted as one batch.

    A row that has ended is reset by the next step (autoreset mode NEXT_STEP), whose action it ignores.

    Args:
        run, data, starts, device, precision: as in `Worlds`.
        num_envs: number of roll-outs.
        max_steps, render_mode: as in `WorldEnv`.

    Raises:
        UserError: as in `Worlds`, an unknown setting, or num_envs below 1.
    """

    metadata: dict[str, Any] = {**WorldEnv.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        run: str | Path | Run | None = None,
        num_envs: int = 1,
        *,
        data: str | None = None,
        max_steps: int = 1000,
        starts: int = 64,
        device: str = "cpu",
        precision: str = "fp32",
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        _check_settings(type(self), unknown, max_steps, render_mode)
        _check_count("num_envs", num_envs)
        self.worlds = worlds = Worlds(run, num_envs, data, starts, device, precision)
        self.num_envs, self.max_steps, self.render_mode = num_envs, max_steps, render_mode
        self.single_observation_space, self.single_action_space = worlds.observation_space, worlds.action_space
        self.observation_space = batch_space(worlds.observation_space, num_envs)
        self.action_space = batch_space(worlds.action_space, num_envs)
        self.metadata = {**self.metadata, "render_fps": worlds.starts.fps}
        self.steps, self.over = np.zeros(num_envs, np.int64), np.ones(num_envs, np.bool_)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The last frames of real contexts.

        Args:
            seed: of the first row, those of the others following; or a list with one of each row.
            options: {"start": i} chooses the start of all rows.
        """
        seeds = (
            [None if seed is None else seed + i for i in range(self.num_envs)]
            if not isinstance(seed, Sequence)
            else list(seed)
        )
        if len(seeds) != self.num_envs:
            raise UserError(f"expected {self.num_envs} seeds, got {len(seeds)}")
        if any(s is not None for s in seeds) or not hasattr(self, "generators"):
            self.generators = [np.random.default_rng(s) for s in seeds]
        start = _start(options, len(self.worlds.starts))
        names = [self.worlds.reset(i, self.generators[i], start) for i in range(self.num_envs)]
        self.steps[:], self.over[:] = 0, False
        return self.worlds.frames.copy(), {"start": np.array(names, dtype=object)}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """The next frames, rewards, which games ended, which reached `max_steps`, and info."""
        if not hasattr(self, "generators"):
            raise ResetNeeded("call reset() before step()")
        before = self.over.copy()
        rewards, terminated = self.worlds.step(actions)
        self.steps += 1
        for i in np.flatnonzero(before):
            self.worlds.reset(int(i), self.generators[i])
        rewards[before], terminated[before], self.steps[before] = 0.0, False, 0
        truncated = self.steps >= self.max_steps
        self.over = terminated | truncated
        return self.worlds.frames.copy(), rewards, terminated, truncated, {}

    def render(self) -> Any:
        """The current frames, a tuple of uint8 (h, w, 3), with render mode "rgb_array"."""
        return None if self.render_mode is None else tuple(_rgb(frame) for frame in self.worlds.frames)


class GameEnv(gymnasium.Env[Frame, Any]):
    """A game of this package itself, with the observations and actions of the worlds learned from it.

    Args:
        game: "paddle" or "maze".
        max_steps: frames after which an episode is truncated.
        render_mode: "rgb_array", or None.

    Raises:
        UserError: an unknown game, or a setting that is unknown or impossible.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": FPS}

    def __init__(self, game: str, *, max_steps: int = 10_000, render_mode: str | None = None, **unknown: Any) -> None:
        _check_settings(type(self), unknown, max_steps, render_mode)
        if game not in _GAMES:
            raise UserError(f"unknown game {game!r}; {suggest(str(game), _GAMES)}")
        self.game: Game = find_source(game).game()
        self.observation_space: Any = Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        self.action_space: Any = Discrete(len(self.game.ACTIONS))
        self.max_steps, self.render_mode, self.steps, self.over = max_steps, render_mode, 0, True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frame, dict[str, Any]]:
        """The first frame of a new game, and its exact state."""
        super().reset(seed=seed)
        self.steps, self.over = 0, False
        return self.game.reset(seed=int(self.np_random.integers(2**31)))

    def step(self, action: Any) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        """The next frame, its reward, whether the game ended, whether `max_steps` is reached, and the exact state.

        Raises:
            ResetNeeded: the episode has ended.
        """
        if self.over:
            raise ResetNeeded("the episode has ended; call reset()")
        if not _is_index(action, len(self.game.ACTIONS)):
            raise UserError(f"actions must be whole numbers from 0 to {len(self.game.ACTIONS) - 1}, got {action}")
        frame, reward, terminated, _, info = self.game.step(int(action))
        self.steps += 1
        truncated = self.steps >= self.max_steps
        self.over = terminated or truncated
        return frame, reward, terminated, truncated, info

    def render(self) -> Any:
        """The current frame, uint8 (h, w, 3), with render mode "rgb_array"."""
        return None if self.render_mode is None else self.game.render()


@overload
def make_env(run: str | Path | Run, num_envs: None = None, **settings: Any) -> WorldEnv: ...


@overload
def make_env(run: str | Path | Run, num_envs: int, **settings: Any) -> VectorWorldEnv: ...


def make_env(
    run: str | Path | Run | None = None, num_envs: int | None = None, **settings: Any
) -> WorldEnv | VectorWorldEnv:
    """A learned world as a Gymnasium environment.

    Args:
        run: run folder, name of packaged weights, hf:// name, or an opened run.
        num_envs: number of roll-outs of a vector environment; None makes a single environment.
        settings: data, max_steps, starts, device, precision and render_mode of `WorldEnv`.

    Raises:
        UserError: no run is given, it cannot be opened or has no actions, or a setting is unknown or impossible.
    """
    return WorldEnv(run, **settings) if num_envs is None else VectorWorldEnv(run, num_envs, **settings)


def register() -> None:
    """Register the environments of this module with Gymnasium, once."""
    here = __name__
    known: list[tuple[str, str, dict[str, Any], str | None]] = [
        ("framecast/World-v0", f"{here}:WorldEnv", {}, f"{here}:VectorWorldEnv"),
        ("framecast/Paddle-v0", f"{here}:GameEnv", {"game": "paddle"}, None),
        ("framecast/Maze-v0", f"{here}:GameEnv", {"game": "maze"}, None),
    ]
    for name, entry, settings, batched in known:
        if name not in gymnasium.registry:
            gymnasium.register(name, entry, kwargs=settings, vector_entry_point=batched)


def _action_space(spec: ActionSpec) -> Any:
    if spec.kind == "discrete":
        return Discrete(spec.size)
    low, high = zip(*spec.bounds, strict=True)
    return Box(np.array(low, np.float32), np.array(high, np.float32))


def _start(options: dict[str, Any] | None, count: int) -> int | None:
    """The start that is chosen in the options of `reset`."""
    start = (options or {}).get("start")
    if start is None:
        return None
    if not isinstance(start, int | np.integer) or not 0 <= start < count:
        raise UserError(f"start must be in 0…{count - 1}, got {start!r}")
    return int(start)


def _check_settings(kind: type, unknown: Mapping[str, Any], max_steps: int, render_mode: str | None) -> None:
    """Require known and possible settings: gymnasium.make would report others as a TypeError of its own."""
    known = [name for name, p in inspect.signature(kind).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for name in unknown:
        raise UserError(f"unknown setting {name!r} of an environment; {suggest(name, known)}")
    _check_count("max_steps", max_steps)
    if render_mode not in (None, "rgb_array"):
        raise UserError(f'render_mode must be "rgb_array" or None, got {render_mode!r}')


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int | np.integer):
        raise UserError(f"{name} must be a whole number, got {value!r}")
    if value < 1:
        raise UserError(f"{name} must be at least 1, got {value}")


def _is_index(action: Any, size: int) -> bool:
    """Whether an action is a whole number in 0…size - 1, of whatever numeric type."""
    number = np.asarray(action)
    return number.ndim == 0 and np.issubdtype(number.dtype, np.number) and number in range(size)


def _rgb(frame: np.ndarray) -> np.ndarray:
    """A frame (h, w, c) as uint8 (h, w, 3)."""
    return np.ascontiguousarray(as_rgb(frame.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0))


register()
