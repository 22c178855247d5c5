"""Playable worlds run as games: many roll-outs at once under players' actions, and the true game under the same.

Frames are indices into the game's own palette, uint8 (n, h, w), so that objects are found by exact colour in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from framecast.core.errors import UserError
from framecast.core.random import seed_for
from framecast.core.types import ClipRequest
from framecast.data.base import Source, World
from framecast.data.loader import Loader
from framecast.data.registry import replay
from framecast.data.windows import Windows
from framecast.models.base import Predictor
from framecast.models.rollout import RolloutSession

#: Frames (n, h, w) -> actions (n,), indices.
Player = Callable[[np.ndarray], np.ndarray]


class Running(Protocol):
    """Several worlds that are played at once."""

    frames: np.ndarray
    """The current frames, palette indices (n, h, w)."""
    over: np.ndarray
    """Whether the last step ended each game, (n,) bool; a game that stays over stands still."""

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Advance every world by its action (n,); the rewards, (n,)."""


@dataclass(frozen=True)
class Recording:
    """What happened in several worlds.

    Attributes:
        frames: palette indices (n, t + 1, h, w), uint8; the first is the start.
        actions: indices (n, t).
        rewards: (n, t), of the transition from frame i to frame i + 1.
        lengths: (n,) number of frames of each world up to the one with which its game ended for good; None for all.
    """

    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    lengths: np.ndarray | None = None

    def lasting(self) -> list[np.ndarray]:
        """Frames (t, h, w) of each world while its game lasts, the start first."""
        lengths = [self.frames.shape[1]] * len(self.frames) if self.lengths is None else self.lengths.tolist()
        return [frames[:length] for frames, length in zip(self.frames, lengths, strict=True)]


class Starts:
    """Held-out starts of a game: contexts for a model, and the true game at the same frame.

    Args:
        source: Store of the game.
        context: Frames of a context.
        count: Number of starts.
        future: Recorded frames that each start must have after it.
        seed: Random seed of the choice.
        palette: Colours (k, 3), 0…255, in which frames are compared; by default those that the store names.

    Raises:
        UserError: There is no palette, or the store has no discrete actions.
    """

    def __init__(
        self,
        source: Source,
        context: int,
        count: int,
        future: int = 0,
        seed: int = 0,
        palette: np.ndarray | None = None,
    ) -> None:
        named, actions = source.meta().get("palette"), source.spec.actions
        palette = np.array(named) if palette is None and isinstance(named, list) else palette
        if palette is None or actions is None or actions.kind != "discrete":
            raise UserError("worlds are measured on recordings of a game with a palette and discrete actions")
        self.source, self.context, self.size = source, context, actions.size
        self.palette = palette.astype(np.int64)
        request = ClipRequest(context=context, future=future)
        segments = source.splits(request.source_length)["test"]
        self.places = Windows(source, segments, request).fixed(count, seed)
        self.batch = Loader(source, segments, request, 1).gather(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def model_world(self, model: Predictor, precision: str = "fp32") -> ModelWorld:
        """The model's worlds after these contexts."""
        return ModelWorld(model, self.batch.context, self.batch.actions, self.palette, self.context, precision)

    def true_game(self) -> TrueGame:
        """The true game at the last frame of each context.

        Raises:
            UserError: the game cannot be restored.
        """
        worlds = [replay(self.source, video, start + self.context - 1) for video, start in self.places]
        if any(world is None for world in worlds):
            raise UserError(
                f"{self.source.meta().get('generator')}: the recorded scenes cannot be restored; "
                "record the store again with this version"
            )
        return TrueGame([world for world in worlds if world is not None], self.palette)

    def recorded(self) -> np.ndarray:
        """The recorded frames after each context, palette indices (n, future, h, w)."""
        return np.stack([to_indices(clip, self.palette) for clip in self.batch.future.numpy()])

    def recorded_actions(self) -> np.ndarray:
        """The recorded actions from the last frame of each context on, (n, future)."""
        assert self.batch.actions is not None
        found: np.ndarray = self.batch.actions[:, self.context - 1 :].argmax(2).numpy()
        return found


def game_palette(source: Source, model: Predictor) -> np.ndarray | None:
    """Colours (k, 3), 0…255, of a game: those that its store names, else those of the model; None without either."""
    named, own = source.meta().get("palette"), getattr(model, "palette", None)
    if isinstance(named, list):
        return np.array(named)
    return None if own is None else (own * 255).round().long().cpu().numpy()


class ModelWorld:
    """Roll-outs of a model as worlds."""

    def __init__(
        self,
        model: Predictor,
        context: Tensor,
        actions: Tensor | None,
        palette: np.ndarray,
        length: int,
        precision: str = "fp32",
    ) -> None:
        if model.spec.actions is None or model.actions == "none":
            raise UserError("a world needs actions, and this model was trained without any; train it on a game")
        self.size, self.palette = model.spec.action_size, palette
        past = None if actions is None else actions[:, : length - 1]
        generator = torch.Generator().manual_seed(seed_for("world"))
        self.session = RolloutSession(model, context, past, generator, precision)
        self.frames = to_indices(context[:, -1].numpy(), palette)
        self.over = np.zeros(len(self.frames), np.bool_)  # a world has no end

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Advance every world by its action (n,); the predicted rewards, (n,)."""
        made = self.session.step(functional.one_hot(torch.from_numpy(actions), self.size).float())
        self.frames = to_indices((made * 255).round().to(torch.uint8).numpy(), self.palette)
        reward = self.session.carry.get("reward")
        return np.zeros(len(actions)) if reward is None else reward.numpy().astype(np.float64)


class TrueGame:
    """The game itself, restored at several frames."""

    def __init__(self, worlds: Sequence[World], palette: np.ndarray) -> None:
        self.worlds, self.palette = worlds, palette
        self.frames = self._shown()
        self.over = np.zeros(len(worlds), np.bool_)

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Advance every game by its action (n,); the rewards, (n,)."""
        results: list[Any] = [world.act(int(action)) for world, action in zip(self.worlds, actions, strict=True)]
        self.frames = self._shown()
        self.over = np.array([isinstance(result, tuple) and bool(result[1]) for result in results])
        return np.array([result[0] if isinstance(result, tuple) else 0.0 for result in results])

    def _shown(self) -> np.ndarray:
        return to_indices(np.stack([world.frame() for world in self.worlds]), self.palette)


def play(world: Running, player: Player, frames: int) -> Recording:
    """Several worlds played for some frames."""
    shown, acted, gained, over = [world.frames], [], [], []
    for _ in range(frames):
        actions = player(world.frames)
        gained.append(world.step(actions))
        acted.append(actions)
        shown.append(world.frames)
        over.append(world.over)
    still = np.cumprod(np.stack(over[::-1], 1), 1).sum(1)  # steps at the end at which a game was over
    return Recording(np.stack(shown, 1), np.stack(acted, 1), np.stack(gained, 1), frames + 1 - np.maximum(still - 1, 0))


def held_actions(count: int, size: int, seed: int, shortest: int = 3, longest: int = 19) -> Player:
    """A player of random actions, each held for 3 to 19 frames; `count` worlds at once."""
    rng = np.random.default_rng(seed)
    held, left = np.zeros(count, np.int64), np.zeros(count, np.int64)

    def player(frames: np.ndarray) -> np.ndarray:
        over = left == 0
        held[over] = rng.integers(size, size=int(over.sum()))
        left[over] = rng.integers(shortest, longest + 1, size=int(over.sum()))
        left[:] -= 1
        return held.copy()

    return player


def replayed(actions: np.ndarray) -> Player:
    """A player of given actions (n, t)."""
    steps: Iterator[np.ndarray] = iter(actions.T)
    return lambda frames: next(steps)


def constant(count: int, action: int) -> Player:
    """A player of one action in all worlds."""
    return lambda frames: np.full(count, action, np.int64)


def to_indices(frames: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Palette indices (n, h, w), uint8, of frames uint8 (n, 3, h, w): the nearest colour of each pixel."""
    packed = (frames[:, 0].astype(np.int32) << 16) | (frames[:, 1].astype(np.int32) << 8) | frames[:, 2]
    values, inverse = np.unique(packed, return_inverse=True)
    rgb = np.stack([values >> 16, (values >> 8) & 255, values & 255], 1)
    nearest = ((rgb[:, None] - palette[None]) ** 2).sum(2).argmin(1).astype(np.uint8)
    found: np.ndarray = nearest[inverse].reshape(packed.shape)
    return found


# ---------------------------------------------------------------------------------------------- figures of any world


def wrong_pixels(predicted: Recording, truth: np.ndarray, start: np.ndarray) -> dict[str, Any]:
    """Fractions of wrong pixels under the true actions, and the frame up to which copy-last is beaten.

    Args:
        predicted: the world, played with the recorded actions.
        truth: recorded frames after the start, palette indices (n, t, h, w).
        start: frames of the start, (n, h, w).
    """
    wrong = (predicted.frames[:, 1:] != truth).mean((0, 2, 3))
    copied = (start[:, None] != truth).mean((0, 2, 3))
    beaten = wrong < copied
    horizon = int(beaten.argmin()) if not beaten.all() else len(beaten)
    return {"wrong_pixels": wrong.tolist(), "wrong_pixels_copy_last": copied.tolist(), "horizon": horizon}


def single_ends(found: np.ndarray, within: int = 2) -> np.ndarray:
    """Ends of which each counts once: a game that is about to end is expected to in two or three frames in a row.

    Args:
        found: whether an end is predicted, bool (n, t).
        within: frames from one to the next, up to which both are one end.

    Returns:
        Its first frame of each, 1.0 in (n, t).
    """
    first = found.copy()
    for k in range(1, within + 1):
        first[:, k:] &= ~found[:, :-k]
    return first.astype(np.float64)


def event_scores(found: np.ndarray, truth: np.ndarray, within: int = 2) -> dict[str, float | None]:
    """Precision, recall and F1 of events, matched one to one within some frames.

    Args:
        found: values (n, t); 0 is no event.
        truth: values (n, t); an event is matched by an event of the same value only.
        within: largest distance, frames.
    """
    matched = 0
    for row, true in zip(found, truth, strict=True):
        free = [(t, true[t]) for t in np.flatnonzero(true)]
        for t in np.flatnonzero(row):
            near = [e for e in free if e[1] == row[t] and abs(e[0] - t) <= within]
            if near:
                free.remove(min(near, key=lambda e: abs(e[0] - t)))
                matched += 1
    made, real = int((found != 0).sum()), int((truth != 0).sum())
    precision = matched / made if made else None
    recall = matched / real if real else None
    f1 = 2 * matched / (made + real) if made + real else None
    return {"precision": precision, "recall": recall, "f1": f1, "events": real}


def obedience(
    worlds: Mapping[str, Callable[[], Running]], actions: Sequence[int], place: Place, hold: int = 10
) -> Obeyed:
    """Displacement of the player's object under each held action, in every world.

    Args:
        worlds: "world" and "true": functions that return them at the starts.
        actions: actions that move the object.
        place: frames (n, h, w) -> positions (n, 2), NaN where the object is not found.
        hold: frames that an action is held.

    Returns:
        Starts at which the true game moves the object by at least 4 px, and the fraction of them at which the world
        moves it the same way, at least half as far.
    """
    moving, obeyed = 0, 0
    for action in actions:
        moved = {}
        for name, make in worlds.items():
            world = make()
            before = place(world.frames)
            count = len(before)
            recording = play(world, constant(count, action), hold)
            moved[name] = place(recording.frames[:, -1]) - before
        true, made = moved["true"], moved["world"]
        length = np.linalg.norm(true, axis=1)
        valid = np.isfinite(length) & (length >= 4)
        along = np.nan_to_num((made * true).sum(1)[valid] / length[valid])
        moving += int(valid.sum())
        obeyed += int((along >= 0.5 * length[valid]).sum())
    return {"moving_starts": moving, "obeyed": obeyed / moving if moving else None}


#: Frames (n, h, w) -> positions (n, 2).
Place = Callable[[np.ndarray], np.ndarray]
Obeyed = dict[str, Any]


def centres(mask: np.ndarray) -> np.ndarray:
    """Centre (row, column) of the marked pixels of each frame, (..., 2), NaN without any; mask (..., h, w)."""
    count = mask.sum((-2, -1))
    rows, columns = np.arange(mask.shape[-2]), np.arange(mask.shape[-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        y = (mask.sum(-1) * rows).sum(-1) / count
        x = (mask.sum(-2) * columns).sum(-1) / count
    return np.stack([y, x], -1)
