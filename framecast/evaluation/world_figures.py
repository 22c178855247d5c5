"""All figures of a playable world beside those of the true game: `paddle_figures`, `maze_figures`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from framecast.core.types import ClipRequest
from framecast.data.base import Source
from framecast.data.loader import Loader
from framecast.data.windows import Windows
from framecast.evaluation import maze_world, paddle_world
from framecast.evaluation.worlds import (
    Place,
    Player,
    Recording,
    Running,
    Starts,
    event_scores,
    game_palette,
    held_actions,
    obedience,
    play,
    replayed,
    single_ends,
    wrong_pixels,
)
from framecast.models.base import Predictor
from framecast.models.outcomes import OutcomeModel
from framecast.models.rollout import RolloutSession, evaluating
from framecast.nn.precision import autocast


@dataclass(frozen=True, kw_only=True)
class WorldProtocol:
    """Size of an evaluation."""

    worlds: int = 32
    """Worlds played under random held actions."""
    frames: int = 1000
    """Frames of each."""
    played_worlds: int = 16
    """Worlds played by a scripted player."""
    played_frames: int = 300
    """Frames of each."""
    recorded: int = 96
    """Starts continued under the recorded actions."""
    horizon: int = 64
    """Frames of each."""
    followed_frames: int = 250
    """Recorded frames of each world along which rewards are predicted one step ahead."""
    timed_frames: int = 100
    """Frames of one world that are timed."""
    seed: int = 0
    """Random seed of starts and actions."""
    precision: str = "fp32"
    """Autocast precision."""


class Measured:
    """A model and the true game at the same starts.

    Args:
        model: the world.
        source: store of recordings of its game.
        protocol: size of the evaluation.
        keep: filled with recordings by name, for videos.
    """

    def __init__(
        self, model: Predictor, source: Source, protocol: WorldProtocol, keep: dict[str, Recording] | None
    ) -> None:
        self.model, self.source, self.protocol = model, source, protocol
        self.keep = {} if keep is None else keep
        self.palette = game_palette(source, model)
        self.starts = self._starts(protocol.worlds)

    def _starts(self, count: int, future: int = 0) -> Starts:
        return Starts(self.source, self.model.num_context, count, future, self.protocol.seed, self.palette)

    def held(self) -> dict[str, Recording]:
        """World and true game under the same random held actions."""
        p, starts = self.protocol, self.starts
        return self._kept("held", starts, lambda: held_actions(len(starts), starts.size, p.seed), p.frames)

    def played(self, player: Player, name: str = "played") -> dict[str, Recording]:
        """World and true game under one scripted player; `name` is that of the kept recordings."""
        return self._kept(name, self._starts(self.protocol.played_worlds), lambda: player, self.protocol.played_frames)

    def _kept(self, name: str, starts: Starts, player: Callable[[], Player], frames: int) -> dict[str, Recording]:
        found = {which: play(make(), player(), frames) for which, make in self.makers(starts).items()}
        self.keep |= {name: found["world"], f"{name}_true": found["true"]}
        return found

    def makers(self, starts: Starts) -> dict[str, Callable[[], Running]]:
        """Functions that return the world and the true game at some starts."""
        return {"world": lambda: starts.model_world(self.model, self.protocol.precision), "true": starts.true_game}

    def obeyed(self, actions: Sequence[int], place: Place) -> dict[str, Any]:
        """Obedience at the starts of the evaluation."""
        return obedience(self.makers(self.starts), actions, place)

    def under_true_actions(self) -> tuple[Recording, np.ndarray, dict[str, Any]]:
        """The world under the recorded actions, the recording, and figures of wrong pixels.

        The action-shuffle ratio is the error at the last frame under the actions of another start over that under the
        right ones: 1 for a model that ignores actions.
        """
        p = self.protocol
        starts = self._starts(p.recorded, p.horizon)
        truth, actions = starts.recorded(), starts.recorded_actions()
        predicted = play(starts.model_world(self.model, p.precision), replayed(actions), p.horizon)
        figures = wrong_pixels(predicted, truth, predicted.frames[:, 0])
        other = play(starts.model_world(self.model, p.precision), replayed(np.roll(actions, 1, axis=0)), 16)
        right = (predicted.frames[:, 1:17] != truth[:, :16]).mean()
        figures["action_shuffle_ratio"] = float((other.frames[:, 1:] != truth[:, :16]).mean() / max(right, 1e-9))
        return predicted, truth, figures

    def rewards(self) -> dict[str, Any] | None:
        """Precision, recall and F1 of rewards and ends, one step ahead along recordings; None without heads."""
        model, p = self.model, self.protocol
        if not isinstance(model, OutcomeModel) or not model.outcome_names:
            return None
        need = model.num_context + p.followed_frames
        request = ClipRequest(
            context=need,
            future=0,
            extras=tuple("rewards" if name == "reward" else name for name in model.outcome_names),
        )
        segments = self.source.splits(need)["test"]
        places = Windows(self.source, segments, request).fixed(p.worlds, p.seed)
        batch = Loader(self.source, segments, request, 1).gather(places)
        made: dict[str, list[np.ndarray]] = {name: [] for name in model.outcome_names}
        lead, actions = model.num_context, batch.actions
        with evaluating(model), torch.no_grad(), autocast(torch.device("cpu"), p.precision):
            past = None if actions is None else actions[:, : lead - 1]
            state = model.rollout_init(batch.context[:, :lead], past)
            for t in range(lead, need):
                frame = batch.context[:, t].float() / 255
                state = model.observe(state, frame, None if actions is None else actions[:, t - 1])
                for name, values in made.items():
                    values.append(state[name].numpy())
        found = {}
        for name, values in made.items():
            guess = np.stack(values, 1)
            array = "rewards" if name == "reward" else name
            truth = batch.extras[array][:, lead - 1 : need - 1].numpy().astype(np.float64)
            found[name] = event_scores(guess if name == "reward" else single_ends(guess > 0.5), truth)
        return found

    def frames_per_second(self) -> float:
        """Frames per second of one world on this machine, of CPU time."""
        frames = self.protocol.timed_frames
        session = RolloutSession(
            self.model,
            self.starts.batch.context[:1],
            None if self.starts.batch.actions is None else self.starts.batch.actions[:1],
            precision=self.protocol.precision,
        )
        action = torch.zeros(1, self.starts.size)
        action[:, 0] = 1
        for _ in range(5):
            session.step(action)
        begun = time.process_time()
        for _ in range(frames):
            session.step(action)
        return frames / (time.process_time() - begun)


def paddle_figures(
    model: Predictor,
    source: Source,
    protocol: WorldProtocol,
    keep: dict[str, Recording] | None = None,
    court: paddle_world.Court = paddle_world.PADDLE,
) -> dict[str, Any]:
    """Figures of a world of two paddles and a ball, the true game's beside each.

    Args:
        model: the world.
        source: store of recordings of the game.
        protocol: size of the evaluation.
        keep: filled with recordings by name, for videos.
        court: colours and places of the game.
    """
    measured = Measured(model, source, protocol, keep)
    held, followed = measured.held(), measured.played(paddle_world.follower(court), "followed")
    free = {name: paddle_world.presence(r, court) for name, r in held.items()}
    idle = {name: paddle_world.rallies(r, court) for name, r in held.items()}
    play_ = {name: paddle_world.rallies(r, court) for name, r in followed.items()}
    pauses = {n: idle[n]["pauses"] + play_[n]["pauses"] for n in idle}
    predicted, truth, pixels = measured.under_true_actions()

    def place(frames: np.ndarray) -> np.ndarray:
        return paddle_world.paddle_places(frames, court, "player")

    return {
        "random_held_actions": {n: free[n] | _without_pauses(idle[n]) for n in free},
        "ball_follower": {n: _without_pauses(p) for n, p in play_.items()},
        "serves_in_time": {n: paddle_world.serves_in_time(pauses[n], pauses["true"]) for n in pauses},
        "pauses_median": {n: float(np.median(p)) if p else None for n, p in pauses.items()},
        "obedience": measured.obeyed((court.up, court.down), place),
        "ball_within_4_px": paddle_world.ball_within(predicted.frames[:, 1:], truth, court, (4, 8, 16, 32, 60)),
        "true_actions": pixels,
        "outcomes": measured.rewards(),
        "frames_per_second": measured.frames_per_second(),
    }


def _without_pauses(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "pauses"}


def maze_figures(
    model: Predictor,
    source: Source,
    protocol: WorldProtocol,
    keep: dict[str, Recording] | None = None,
    board: maze_world.Board | None = None,
) -> dict[str, Any]:
    """Figures of a world of a maze, the true game's beside each; see `paddle_figures`."""
    board = maze_world.maze_board() if board is None else board
    measured = Measured(model, source, protocol, keep)
    held, played = measured.held(), measured.played(maze_world.dot_eater(board))
    _, _, pixels = measured.under_true_actions()

    def place(frames: np.ndarray) -> np.ndarray:
        return maze_world.runner_places(frames, board)

    def happened(recording: Recording) -> dict[str, Any]:
        return maze_world.dots(recording, board) | maze_world.deaths(recording, board)

    return {
        "random_held_actions": {n: maze_world.presence(r, board) | happened(r) for n, r in held.items()},
        "dot_eater": {n: happened(r) for n, r in played.items()},
        "obedience": measured.obeyed(board.moves, place),
        "true_actions": pixels,
        "outcomes": measured.rewards(),
        "frames_per_second": measured.frames_per_second(),
    }
