"""Base of the games drawn by this package: frames of few exact colours, actions, rewards and the exact state.

A game is a Python object with the interface of Gymnasium (`reset`, `step`), a restorable scene (`data/base.py: World`)
and, through `GameSource`, a source of recordings played by scripted players.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.core.types import ActionSpec
from framecast.data.synthetic.generator import Plan, SyntheticSource

SIDE = 80
FPS = 30.0

_BLOCK = 64  # frames converted to RGB at once


class Game:
    """A game of discrete actions, one frame per step. All of its state but the random generator is a list of integers.

    Randomness is drawn from `self.rng` only, so that the same seed and actions give the same frames.
    """

    #: Colours, RGB; the classes of `indices`.
    PALETTE: ClassVar[tuple[tuple[int, int, int], ...]]
    #: One name per action; the first is the idle action.
    ACTIONS: ClassVar[tuple[str, ...]]
    #: One name per entry of `state`.
    STATES: ClassVar[tuple[str, ...]]
    #: Sprites by name: palette index, least area in px, and the box (top, left, bottom, right) in which it is searched.
    SPRITES: ClassVar[Mapping[str, tuple[int, int, tuple[int, int, int, int]]]]
    #: Things with a fixed place, such as dots: name -> palette index when present, index of the ground, (row, column).
    MARKS: ClassVar[Mapping[str, tuple[int, int, Sequence[tuple[int, int]]]]] = {}

    def __init__(self) -> None:
        self.rng = random.Random(0)
        self.over = False
        self._colours = np.array(self.PALETTE, np.uint8).T.copy()
        self.reset(seed=0)

    # ---------------------------------------------------------------------------------------- defined by a game

    def begin(self) -> None:
        """Set the state to the start of a game."""
        raise TypeError(f"{type(self).__name__} must define begin()")

    def move(self, action: int) -> tuple[float, bool]:
        """Advance by one frame; the reward, and whether the game has ended."""
        raise TypeError(f"{type(self).__name__} must define move(action)")

    def indices(self) -> np.ndarray:
        """The current frame as indices into `PALETTE`, uint8 (h, w)."""
        raise TypeError(f"{type(self).__name__} must define indices()")

    def state(self) -> list[int]:
        """The state, one integer per name in `STATES`."""
        raise TypeError(f"{type(self).__name__} must define state()")

    def set_state(self, state: Sequence[int]) -> None:
        """Return to a state of `state`."""
        raise TypeError(f"{type(self).__name__} must define set_state(state)")

    def scripted(self, error: float) -> int:
        """The action of the scripted player at the current frame.

        Args:
            error: In -1…1, constant for some frames; the further from 0, the less exact the player.
        """
        raise TypeError(f"{type(self).__name__} must define scripted(error)")

    # ------------------------------------------------------------------------------------------------ Gymnasium

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a game.

        Args:
            seed: Of the game's random events, at least 0; if not given, they continue.
            options: Ignored; part of the interface of Gymnasium.

        Returns:
            Observation, uint8 (h, w, 3), and info with the exact state by name.
        """
        if seed is not None:
            self.rng.seed(int(seed))
        self.over = False
        self.begin()
        return self.render(), self.info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One frame further under an action.

        Args:
            action: Index into `ACTIONS`.

        Returns:
            Observation, uint8 (h, w, 3), reward, terminated, truncated (always False), and info.

        Raises:
            ValueError: No such action, or the game has ended.
        """
        if not 0 <= int(action) < len(self.ACTIONS):
            raise ValueError(f"action must be in 0…{len(self.ACTIONS) - 1}, got {action}")
        if self.over:
            raise ValueError("the game has ended; call reset()")
        reward, self.over = self.move(int(action))
        return self.render(), reward, self.over, False, self.info()

    def render(self) -> np.ndarray:
        """The current frame, uint8 (h, w, 3)."""
        return np.ascontiguousarray(self.frame().transpose(1, 2, 0))

    def info(self) -> dict[str, int]:
        """The exact state by name."""
        return dict(zip(self.STATES, self.state(), strict=True))

    def close(self) -> None:
        """Nothing to free; part of the interface of Gymnasium."""

    # ---------------------------------------------------------------------------------------------------- World

    def frame(self) -> np.ndarray:
        """The current frame, uint8 (3, h, w)."""
        return self._colours[:, self.indices()]

    def act(self, action: int) -> tuple[float, bool]:
        """One frame further as in recordings: after the end of a game the next frame is the start of another.

        Returns:
            Reward, and whether this step ended the game.
        """
        if self.over:
            self.over = False
            self.begin()
            return 0.0, False
        reward, self.over = self.move(int(action))
        return reward, self.over

    def save(self) -> Any:
        """State of the game and of its random generator, for `restore`."""
        return self.state(), self.over, self.rng.getstate()

    def restore(self, state: Any) -> None:
        """Return to a state of `save`."""
        values, self.over, generator = state
        self.set_state(values)
        self.rng.setstate(generator)


@dataclass(frozen=True, kw_only=True)
class GameConfig:
    """Settings of the recordings of a game; the same settings give the same bytes."""

    episodes: int = 30
    """Number of recordings; in each, game follows game."""
    frames: int = 1000
    """Frames per recording."""
    skill: float = 0.75
    """Share of the time in which the scripted player acts, 0…1; otherwise random actions are held."""
    hold_min: int = 3
    """Minimum frames of a held action, and of one error of the scripted player."""
    hold_max: int = 19
    """Maximum frames of a held action."""
    seed: int = 0
    """Random seed of game and players."""

    def __post_init__(self) -> None:
        require_least(self, "", episodes=1, frames=2, hold_min=1, seed=0)
        if self.hold_max < self.hold_min:
            raise UserError(f"hold_max {self.hold_max} is below hold_min {self.hold_min}; swap them")
        if not 0 <= self.skill <= 1:
            raise UserError(f"skill is a share in 0…1, got {self.skill}")


class GameSource(SyntheticSource):
    """Recordings of a game as a packed store; a subclass names its `game`.

    Per frame: `actions` (index; executed at frame i, leads to frame i + 1), `rewards`, `terminated` and `truncated` (of
    the transition from frame i to frame i + 1; 0 and False at the last frame), `states` (int16, the exact state; names
    in the store's meta).
    """

    game: ClassVar[type[Game]]

    def plan(self, folder: Path) -> Plan:
        config: GameConfig = self.config
        game = type(self).game
        per_frame = 3 * SIDE**2 + 14 + 2 * len(game.STATES)
        return Plan(
            total=config.episodes,
            size=config.episodes * config.frames * per_frame,
            fps=FPS,
            videos=self._videos(),
            meta=self.described(),
            actions=ActionSpec(kind="discrete", size=len(game.ACTIONS), names=game.ACTIONS),
        )

    @classmethod
    def described(cls) -> dict[str, Any]:
        """Entries of meta.json about the game: palette, names of the state's entries, objects and marks to detect."""
        game = cls.game
        palette = [list(colour) for colour in game.PALETTE]
        things = [
            {"name": name, "colours": [palette[index]], "least": least, "near": 4, "box": list(box)}
            for name, (index, least, box) in game.SPRITES.items()
        ]
        shown = {index for index, _, _ in game.SPRITES.values()}
        grounds = [colour for index, colour in enumerate(palette) if index not in shown]
        marks = {
            name: {
                "colours": [palette[index]] * len(places),
                "grounds": [palette[ground]],
                "places": [list(place) for place in places],
                "size": [SIDE, SIDE],
            }
            for name, (index, ground, places) in game.MARKS.items()
        }
        return {
            "palette": palette,
            "states": list(game.STATES),
            "objects": {"things": things, "size": [SIDE, SIDE], "grounds": grounds, "tolerance": 24.0},
            **({"marks": marks} if marks else {}),
        }

    def _videos(self) -> Generator[dict[str, Any], None, None]:
        config: GameConfig = self.config
        for episode in range(config.episodes):
            game = self.game()
            game.reset(seed=episode_seed(config.seed, episode))
            rng = np.random.default_rng([config.seed, episode])
            yield {
                **played(game, mixed_player(game, config, rng), config.frames),
                "name": f"{self.name}-{episode:05d}",
                "meta": {"game": self.name},
            }

    @classmethod
    def replay(cls, meta: Mapping[str, Any], name: str, actions: Sequence[int]) -> Game:
        """The game of a recording after the given actions.

        Args:
            meta: Meta of the store.
            name: Name of the recording in the store.
            actions: Indices of the actions up to the frame wanted.

        Raises:
            UserError: The meta holds no settings of this version.
        """
        parameters, episode = meta.get("parameters"), name.rpartition("-")[2]
        known = {f.name for f in fields(cls.Config)}  # type: ignore[attr-defined]
        if not isinstance(parameters, Mapping) or set(parameters) != known or not episode.isdecimal():
            raise UserError(f"{name}: the recording holds no settings of the game; record it again")
        game = cls.game()
        game.reset(seed=episode_seed(int(parameters["seed"]), int(episode)))
        for action in actions:
            game.act(int(action))
        return game

    @classmethod
    def at_state(cls, state: np.ndarray) -> Game:
        """The game at a recorded state; its later random events differ from those of the recording.

        Args:
            state: Row of the array `states`, int16 (n,).
        """
        game = cls.game()
        game.set_state(state.tolist())
        return game


def episode_seed(seed: int, episode: int) -> int:
    """Seed of the random events of one recording."""
    return int(np.random.SeedSequence([seed, episode]).generate_state(1)[0])


def mixed_player(game: Game, config: GameConfig, rng: np.random.Generator) -> Iterator[int]:
    """Action indices without end: the scripted player with a changing error, and between them random held actions."""
    while True:
        held = int(rng.integers(config.hold_min, config.hold_max + 1))
        if rng.random() < config.skill:
            error = float(rng.uniform(-1, 1))
            for _ in range(held):
                yield game.scripted(error)
        else:
            yield from repeat(int(rng.integers(len(game.ACTIONS))), held)


def played(game: Game, player: Iterator[int], frames: int) -> dict[str, Any]:
    """Frames and per-frame arrays of a recording, arguments of `DatasetWriter.add`.

    Args:
        game: At the first frame.
        player: Actions, each drawn when its frame is reached.
        frames: Number of frames.
    """
    shots = np.empty((frames, SIDE, SIDE), np.uint8)
    states = np.empty((frames, len(game.STATES)), np.int16)
    actions, rewards = np.zeros(frames, np.int64), np.zeros(frames, np.float32)
    terminated, truncated = np.zeros(frames, np.bool_), np.zeros(frames, np.bool_)
    for i in range(frames):
        shots[i], states[i] = game.indices(), game.state()
        if i < frames - 1:
            actions[i] = next(player)
            rewards[i], terminated[i] = game.act(int(actions[i]))
    truncated[-2] = not terminated[-2]
    palette = np.array(game.PALETTE, np.uint8)
    return {
        "frames": (palette[shots[i : i + _BLOCK]].transpose(0, 3, 1, 2) for i in range(0, frames, _BLOCK)),
        "axes": "tchw",
        "actions": actions,
        "states": states,
        "rewards": rewards,
        "terminated": terminated,
        "truncated": truncated,
    }
