"""Games played for real in the page, without a model, and the recording of one's own play into a store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, ClipSpec
from framecast.data.registry import find_source
from framecast.data.store import DatasetWriter
from framecast.data.synthetic.atari_screen import FIELDS
from framecast.data.synthetic.game import FPS, GameSource
from framecast.inference.starts import Start
from framecast.models.registry import find_model
from framecast.web.player import Player

#: Games drawn by this package.
OWN = ("paddle", "maze")

_SKIP = 2  # emulator frames per frame played: 30 frames/s
_BLOCK = 64  # frames read from disk at once


class RealGame(Protocol):
    """A game as the page plays it: a scene that starts again at will (see `data/base.py: World`)."""

    name: str
    fps: float
    actions: ActionSpec
    meta: dict[str, Any]

    def begin(self, seed: int) -> None:
        """Start a game with the given random seed."""

    def frame(self) -> np.ndarray:
        """The current frame, uint8 (3, h, w)."""

    def act(self, action: int) -> tuple[float, bool]:
        """One frame further: the reward, and whether the game has ended."""

    def save(self) -> Any:
        """The current state, for `restore`."""

    def restore(self, state: Any) -> None:
        """Return to a state of `save`."""

    def state(self) -> list[int] | None:
        """The exact state as recordings store it; None where they store none."""


class OwnGame:
    """A game drawn by this package."""

    def __init__(self, name: str) -> None:
        source: type[GameSource] = find_source(name)
        self.name, self.fps, self.game = name, FPS, source.game()
        self.actions = ActionSpec(kind="discrete", size=len(self.game.ACTIONS), names=self.game.ACTIONS)
        self.meta = source.described()
        self.frame, self.act, self.save, self.restore = (
            self.game.frame,
            self.game.act,
            self.game.save,
            self.game.restore,
        )

    def begin(self, seed: int) -> None:
        """Start a game with the given random seed."""
        self.game.reset(seed=seed)

    def state(self) -> list[int]:
        """The exact state."""
        return self.game.state()


class EmulatorGame:
    """A game of the emulator; those with a known field of play at palette level, cropped and at half size."""

    def __init__(self, name: str) -> None:
        self._source = find_source("atari")
        plain = self._source.Config(game=name, episodes=1, frame_skip=_SKIP)
        game = self._source(plain).console().game
        small = {"field": True, "reduce": 2, "deflicker": True} if game in FIELDS else {}
        self.config = replace(plain, game=game, **small)
        self.name, self.fps = game, 60.0 / _SKIP
        self.begin(0)
        names = tuple(action.name for action in self.console.legal)
        self.actions = ActionSpec(kind="discrete", size=len(names), names=names)
        self.meta = self._source(self.config).described()

    def begin(self, seed: int) -> None:
        """Start a game with the given random seed."""
        self.console = self._source(replace(self.config, seed=max(seed, 0))).console()

    def frame(self) -> np.ndarray:
        """The current frame, uint8 (3, h, w)."""
        frame: np.ndarray = self.console.frame()
        return frame

    def act(self, action: int) -> tuple[float, bool]:
        """One frame further: the reward, and whether this step ended the game."""
        before = self.console.over
        reward, over = self.console.act(action)
        return reward, over and not before

    def save(self) -> Any:
        """The console and its state: a state belongs to the console that made it."""
        return self.console, self.console.save()

    def restore(self, state: Any) -> None:
        """Return to a state of `save`."""
        self.console = state[0]
        self.console.restore(state[1])

    def state(self) -> None:
        """None: recordings of the emulator store no exact state."""
        return


def open_game(name: str) -> RealGame:
    """A game by its name: one of `OWN`, else one of the emulator.

    Raises:
        UserError: No such game, or the emulator is not installed.
    """
    if name in OWN:
        return OwnGame(name)
    try:
        return EmulatorGame(name)
    except UserError as error:
        raise UserError(f"{name!r} is not a game; {suggest(name, OWN)}, or a game of the emulator ({error})") from error


class GameStarts:
    """The one start of a real game: a new game."""

    def __init__(self, game: RealGame) -> None:
        self.names, self.fps, self.actions = ["new game"], game.fps, None
        game.begin(0)
        self._start = Start(
            name="new game",
            seen=game.frame()[None].copy(),
            actions=None,
            length=0,
            pairs=None,
            video=0,
            last=0,
            world=game,
            before=game.save(),
        )

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Start:
        return self._start


class GamePlayer(Player):
    """A real game instead of a model; its frames come from the game, and each reset begins a new one.

    Args:
        game: The game, shared by all browsers, each of which restores its own state.
        recorder: Store into which all play is recorded; None records nothing.
    """

    def __init__(self, game: RealGame, seed: int = 0, recorder: Recorder | None = None) -> None:
        starts = GameStarts(game)
        _, channels, height, width = starts[0].seen.shape
        spec = ClipSpec(channels=channels, height=height, width=width, fps=game.fps, actions=game.actions)
        title = "the game itself, recorded" if recorder is not None else "the game itself"
        # The page needs a predictor for its history of states; persistence holds none and is never stepped.
        still = find_model("copy-last")
        super().__init__(still(still.Config(), spec), starts, game.name, title, seed)  # type: ignore[arg-type]
        self.actions, self.game, self.recorder = game.actions, game, recorder

    def hello(self) -> dict[str, Any]:
        """First message to a page, as of a model; `real` is true."""
        return {**super().hello(), "real": True, "recorded": False}


class Recorder:
    """The store of one's own play: every game of every browser becomes a video.

    Args:
        game: The game that is played.
        folder: Folder of the store, which appears when the recorder is closed.
        overwrite: Replace an existing store.

    Raises:
        UserError: The folder cannot be written or is not empty.
    """

    def __init__(self, game: RealGame, folder: Path | str, overwrite: bool = False) -> None:
        meta = {"generator": "played", "version": 1, "game": game.name, **game.meta}
        self.game, self.count, self.takes = game, 0, list[Take]()
        self.writer = DatasetWriter(folder, game.fps, game.actions, meta, overwrite)

    def take(self) -> Take:
        """A take for one browser."""
        self.takes.append(Take(self))
        return self.takes[-1]

    def close(self) -> int:
        """Finish the store; the number of games recorded.

        Raises:
            UserError: Nothing was played.
        """
        for take in self.takes:
            take.finish()
        if not self.count:
            self.writer.abort()
            raise UserError(f"{self.writer.folder}: nothing was played, so no store was written; play in the page")
        self.writer.close()
        return self.count


class Take:
    """The game that one browser is playing: frames in a temporary file, and what was done between them."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the browser plays
        self.states: list[list[int] | None] = []
        self.done: list[tuple[int, float, bool]] = []
        self.shape: tuple[int, ...] = ()

    def start(self) -> None:
        """Finish the game before, and begin with the frame that the game shows."""
        self.finish()
        self._append()

    def add(self, number: int, action: int, reward: float, over: bool) -> None:
        """Append a step.

        Args:
            number: Frame reached; a number already recorded replaces it and all later ones.
            action: What was done at the frame before.
            reward: Reward of the step.
            over: Whether it ended the game.
        """
        del self.done[number - 1 :], self.states[number:]
        self.done.append((action, reward, over))
        self._append()

    def _append(self) -> None:
        frame = self.recorder.game.frame()
        self.shape = frame.shape
        self.file.seek(len(self.states) * frame.nbytes)
        self.file.write(frame.tobytes())
        self.states.append(self.recorder.game.state())

    def finish(self) -> None:
        """Write the game into the store; a single frame is left out."""
        if self.done:
            actions, rewards, over = zip(*self.done, (0, 0.0, False), strict=True)
            truncated = [False] * (len(self.done) - 1) + [not self.done[-1][2], False]
            recorder = self.recorder
            recorder.writer.add(
                self._frames(),
                actions=np.array(actions, np.int64),
                name=f"{recorder.game.name}-{recorder.count:05d}",
                axes="tchw",
                meta={"game": recorder.game.name},
                rewards=np.array(rewards, np.float32),
                terminated=np.array(over, np.bool_),
                truncated=np.array(truncated, np.bool_),
                states=None if self.states[0] is None else np.array(self.states, np.int16),
            )
            recorder.count += 1
        self.states, self.done = [], []

    def _frames(self) -> Iterator[np.ndarray]:
        size = int(np.prod(self.shape))
        self.file.seek(0)
        for first in range(0, len(self.states), _BLOCK):
            count = min(_BLOCK, len(self.states) - first)
            yield np.frombuffer(self.file.read(count * size), np.uint8).reshape(count, *self.shape)
