"""Roll-out of one browser: current frame, history, controls and recording. Independent of sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.inference.starts import Start, noise
from framecast.media.grid import as_rgb, side_by_side
from framecast.media.images import to_uint8
from framecast.models.base import RolloutState
from framecast.models.rollout import RolloutSession
from framecast.web.actions import finite, idle, vector
from framecast.web.games import GamePlayer
from framecast.web.player import Player

#: Largest length of the history, in moments and in bytes.
HISTORY, HISTORY_BYTES = 600, 48 << 20
#: Largest length of a recording, in frames and in bytes.
FILM_FRAMES, FILM_BYTES = 3600, 64 << 20
#: Assumed size of the state of a simulator, bytes.
_WORLD_BYTES = 1 << 14


class Complaint(ValueError):
    """A request of a browser is invalid; one sentence for its user."""


@dataclass
class Moment:
    """One frame of a roll-out and the state needed to continue from it.

    Attributes:
        number: frame number, 0 for the start frame.
        picture: the frame, uint8 (c, h, w).
        carry: state of the roll-out.
        kind: "real", "noise", "game" (of a real game), "dream" (predicted) or "hand" (decoded from an edited latent).
        action: action that led to this frame.
        code: latent (1, z); None where the model has none.
        milliseconds: computing time.
        truth: frame of the simulator under the same actions, where the source has one.
        world: state of the simulator at `truth`, of a real game at `picture`.
        score: sum of the rewards predicted since the start; None for a model without rewards.
        true_score: sum of the simulator's rewards.
        over: whether the game ended with this frame, as predicted or played.
    """

    number: int
    picture: np.ndarray
    carry: RolloutState
    kind: str
    action: Any = None
    code: Tensor | None = None
    milliseconds: float = 0.0
    truth: np.ndarray | None = None
    world: Any = None
    score: float | None = None
    true_score: float | None = None
    over: bool = False

    @property
    def bytes(self) -> int:
        """Size in memory, bytes."""
        beside = 0 if self.truth is None else self.truth.nbytes + _WORLD_BYTES
        return beside + self.picture.nbytes + sum(t.numel() * t.element_size() for t in self.carry.values())


@dataclass
class Recording:
    """Frames of a video being recorded."""

    fps: float
    frames: dict[str, list[np.ndarray]] = field(default_factory=dict)
    bytes: int = 0

    @property
    def length(self) -> int:
        """Number of frames."""
        return max((len(frames) for frames in self.frames.values()), default=0)

    @property
    def full(self) -> bool:
        """Whether the largest length is reached; further frames are ignored."""
        return self.length >= FILM_FRAMES or self.bytes >= FILM_BYTES

    def add(self, pictures: Mapping[str, np.ndarray]) -> None:
        """Append one frame to each video; a video without a new frame repeats its last."""
        if self.full:
            return
        for name, picture in pictures.items():
            self.frames.setdefault(name, []).append(picture)
            self.bytes += picture.nbytes
        for name, frames in self.frames.items():
            if name not in pictures:
                frames.append(frames[-1])

    def film(self) -> Iterator[np.ndarray]:
        """Frames of the labelled videos side by side, uint8 (3, h, w)."""
        for i in range(self.length):
            yield side_by_side({name: frames[i][None] for name, frames in self.frames.items()}, least=384)[0]


class Session:
    """Roll-out of one browser. Methods that compute must be called on the thread of the model."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self.settings: dict[str, float] = {}
        self.pins: dict[int, float] = {}
        self.held: Any = None
        self.tapped: Any = None
        self.following = player.actions is not None and player.starts.actions is not None
        self.recording: Recording | None = None
        self.real = isinstance(player, GamePlayer)
        self.take = player.recorder.take() if isinstance(player, GamePlayer) and player.recorder is not None else None
        self.start_index, self.seed = 0, player.seed - 1
        self.reset(0)

    # -------------------------------------------------------------------------------------------- position

    def reset(self, start: int | None = None, from_noise: bool = False, again: bool = False) -> None:
        """Return to a start frame and release pinned latent dimensions.

        Args:
            start: index of the start; None keeps the current one.
            from_noise: start from frames of noise.
            again: keep the random seed; by default each reset increments it.

        Raises:
            Complaint: there is no such start.
        """
        player = self.player
        index = self.start_index if start is None else start
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(player.starts):
            raise Complaint(f"start must be in 0…{len(player.starts) - 1}")
        if not again:
            self.seed += 1
        if index != self.start_index or not hasattr(self, "start"):
            self.start: Start = player.starts[index]
            self.start_index = index
        self.from_noise = from_noise
        generator = torch.Generator().manual_seed(self.seed)
        self.seen = noise(self.start.seen.shape, generator) if from_noise else self.start.seen
        self.following = self.following and not from_noise
        self.dream = RolloutSession(
            player.model, self.seen, player.past(self.start), torch.Generator().manual_seed(self.seed), player.precision
        )
        self.pins, self.tapped = {}, None
        self.hand: tuple[np.ndarray, Tensor] | None = None
        picture = np.ascontiguousarray(self.seen[-1])
        kind = "noise" if from_noise else "real"
        alive = self.start.world is not None and player.actions is not None and not from_noise
        truth, world = (picture, self.start.before) if alive else (None, None)
        first = Moment(0, picture, self.dream.carry, kind, code=self._code(), truth=truth, world=world)
        self.moments = [self._new_game(first) if isinstance(player, GamePlayer) else first]
        self.at, self._held_bytes = 0, self.moments[0].bytes

    def _new_game(self, first: Moment) -> Moment:
        """The first moment of a new game, with the session's seed."""
        game = self.player.game  # type: ignore[attr-defined]
        game.begin(self.seed)
        if self.take is not None:
            self.take.start()
        return replace(first, picture=game.frame().copy(), kind="game", truth=None, world=game.save(), score=0.0)

    @property
    def now(self) -> Moment:
        """The moment shown."""
        return self.moments[self.at]

    def _code(self) -> Tensor | None:
        return self.dream.code if self.player.steerable else None

    # ---------------------------------------------------------------------------------------------------- stepping

    def step(self) -> None:
        """Predict one frame from the moment shown; later moments are discarded."""
        began = time.perf_counter()
        self.hand = None
        if self.player.sliders and not self.player.steerable:
            self.pins = {}
        self._forget_after(self.at)
        self.dream.carry = self.now.carry
        for name, value in self.settings.items():
            self.dream.set_control(name, value)
        action, led = self._action()
        if self.real:
            self._play_on(action, began)
            return
        frame = self.dream.step(None if led is None else led.to(self.player.device))
        kind = "dream"
        if self.pins and self.player.steerable:
            frame, kind = self.dream.take(self._pinned(self.dream.code)), "hand"
        picture = to_uint8(frame[0].cpu())
        milliseconds = 1000 * (time.perf_counter() - began)
        moment = Moment(self.now.number + 1, picture, self.dream.carry, kind, action, self._code(), milliseconds)
        moment.score, moment.over = _outcome(self.dream.carry, self.now.score)
        if self.now.world is not None:
            moment.truth, moment.world, reward, _ = self.start.simulated(self.now.world, action)
            moment.true_score = None if reward is None else (self.now.true_score or 0.0) + reward
        self._keep(moment)
        if self.recording is not None:
            self.recording.add(self.pictures())

    def _play_on(self, action: Any, began: float) -> None:
        """One frame of a real game; `began` is the time of the request, seconds."""
        picture, world, reward, over = self.start.simulated(self.now.world, action)
        number, milliseconds = self.now.number + 1, 1000 * (time.perf_counter() - began)
        score = (self.now.score or 0.0) + (reward or 0.0)
        moment = Moment(number, picture, {}, "game", action, None, milliseconds, None, world, score, None, over)
        if self.take is not None:
            self.take.add(number, action, reward or 0.0, over)
        self._keep(moment)
        if self.recording is not None:
            self.recording.add(self.pictures())

    def _action(self) -> tuple[Any, Tensor | None]:
        """Action at the frame shown: as sent to the page, and as a tensor for the model."""
        spec, number = self.player.actions, self.now.number
        if spec is None:
            return None, None
        if self.following:
            recorded = self.start.after(number + 1)
            if recorded is not None and recorded[1] is not None:
                shown = int(recorded[1].argmax()) if spec.kind == "discrete" else None
                return shown, recorded[1]
        # A key pressed and released between two frames counts for one frame.
        chosen = self.held if self.tapped is None else self.tapped
        self.tapped = None
        chosen = idle(spec) if chosen is None else chosen
        return chosen, vector(spec, chosen)

    def _keep(self, moment: Moment) -> None:
        self.moments.append(moment)
        self._held_bytes += moment.bytes
        while len(self.moments) > 2 and (len(self.moments) > HISTORY or self._held_bytes > HISTORY_BYTES):
            self._held_bytes -= self.moments.pop(0).bytes
        self.at = len(self.moments) - 1

    def _forget_after(self, at: int) -> None:
        for moment in self.moments[at + 1 :]:
            self._held_bytes -= moment.bytes
        del self.moments[at + 1 :]

    def go(self, number: int) -> None:
        """Show frame `number` of the history, or the nearest one stored; the roll-out continues from there."""
        if not isinstance(number, int) or isinstance(number, bool):
            raise Complaint("frame must be an integer")
        first = self.moments[0].number
        self.at = min(max(number - first, 0), len(self.moments) - 1)
        self.hand, self.pins = None, {}

    # -------------------------------------------------------------------------------------------------- control

    def press(self, action: Any) -> None:
        """Set the action from now on, None for idle; stops following recorded actions.

        Raises:
            Complaint: the model does not have this action.
        """
        spec = self.player.actions
        if spec is None:
            raise Complaint("this model takes no actions")
        if action is not None:
            try:
                vector(spec, action)
            except ValueError as error:
                raise Complaint(str(error)) from error
            self.tapped, self.following = action, False
        self.held = action

    def follow(self, on: bool) -> None:
        """Follow the recorded actions, or stop following them.

        Raises:
            Complaint: there are no recorded actions.
        """
        if on and (self.player.actions is None or self.start.actions is None or self.from_noise):
            raise Complaint("there are no recorded actions to follow here")
        self.following = bool(on)

    def set_control(self, name: str, value: float) -> None:
        """Set a control of the model, also for later roll-outs.

        Raises:
            Complaint: unknown name, or value outside its range.
        """
        control = next((c for c in self.player.model.controls() if c.name == name), None)
        if control is None:
            raise Complaint("this model has no such control")
        if not finite(value) or not control.low <= value <= control.high:
            raise Complaint(f"{control.label} lies in {control.low:g}…{control.high:g}")
        self.settings[name] = float(value)

    def pin(self, values: Mapping[int, float]) -> None:
        """Pin latent dimensions to values and show the decoded edited latent.

        The roll-out of an `EditableLatent` model continues from it with the dimensions held; other models show a still
        image.

        Raises:
            Complaint: a dimension or value has no slider.
        """
        sliders = {slider.index: slider for slider in self.player.sliders}
        if not sliders:
            raise Complaint("this model has no latent space")
        for index, value in values.items():
            slider = sliders.get(index)
            if slider is None or not finite(value) or not slider.low <= value <= slider.high:
                raise Complaint("a slider was set to a value it does not have")
        self.pins |= {index: float(value) for index, value in values.items()}
        if not self.player.steerable:
            window = self._window()
            base = self.hand[1] if self.hand is not None else self.player.encode(window)
            code = self._pinned(base[None])[0]
            self.hand = (to_uint8(self.player.decode(code, window).cpu()), code)
            return
        self.dream.carry = self.now.carry
        frame = self.dream.take(self._pinned(self.dream.code))
        self._forget_after(self.at)
        old = self.moments.pop()
        self._held_bytes -= old.bytes
        picture = to_uint8(frame[0].cpu())
        self._keep(replace(old, picture=picture, carry=self.dream.carry, kind="hand", code=self.dream.code))

    def free(self, indices: list[int] | None = None) -> None:
        """Release pinned dimensions, by default all of them; without pins the edited still image is removed."""
        for index in list(self.pins) if indices is None else indices:
            self.pins.pop(index, None)
        if not self.pins:
            self.hand = None

    def _pinned(self, code: Tensor) -> Tensor:
        code = code.clone()
        for index, value in self.pins.items():
            code[:, index] = value
        return code

    def _window(self) -> Tensor:
        """Last frames up to the one shown, as many as a start has."""
        past = [moment.picture for moment in self.moments[: self.at + 1] if moment.number > 0]
        frames = np.concatenate([self.seen, np.stack(past)]) if past else self.seen
        return self.player.floats(frames[-len(self.seen) :])

    # --------------------------------------------------------------------------------------------- display

    def truth(self) -> np.ndarray | None:
        """Simulated or else recorded frame at the moment shown, uint8 (c, h, w); None without either."""
        if self.from_noise or self.real:
            return None
        if self.now.truth is not None:
            return self.now.truth
        if self.now.number == 0:
            return np.ascontiguousarray(self.seen[-1])
        recorded = self.start.after(self.now.number)
        return None if recorded is None else recorded[0]

    def pictures(self) -> dict[str, np.ndarray]:
        """Frames shown, by name: dream, and recording where there is one."""
        dream = self.hand[0] if self.hand is not None else self.now.picture
        truth = self.truth()
        return {"dream": dream} | ({} if truth is None else {"recording": truth})

    def look(self, still: bool = False) -> tuple[dict[str, Any], bytes]:
        """Header and pixels of the moment shown; pixels are those of `pictures` as RGB, row by row.

        Args:
            still: not playing, so that a latent that must be computed is included.
        """
        now, pictures = self.now, self.pictures()
        code = now.code[0].cpu() if now.code is not None else None
        if self.hand is not None:
            code = self.hand[1].cpu()
        elif code is None and still and self.player.sliders:
            code = self.player.encode(self._window()).cpu()
        values = [] if code is None else [round(float(code[s.index]), 3) for s in self.player.sliders]
        header = {
            "type": "frame",
            "number": now.number,
            "first": self.moments[0].number,
            "last": self.moments[-1].number,
            "kind": "hand" if self.hand is not None else now.kind,
            "recorded": "recording" in pictures,
            "noise": self.from_noise,
            "alive": self.now.world is not None,
            "score": now.score,
            "true_score": now.true_score,
            "over": now.over,
            "following": self.following,
            "action": now.action,
            "code": values,
            "pins": list(self.pins),
            "start": self.start_index,
            "seed": self.seed,
            "ms": round(now.milliseconds, 2),
            "filmed": self.recording.length if self.recording is not None else None,
        }
        pixels = b"".join(_pixels(picture) for picture in pictures.values())
        return header, pixels

    def close(self) -> None:
        """Finish what is recorded of a real game; the browser has left."""
        if self.take is not None:
            self.take.finish()

    # -------------------------------------------------------------------------------------------------- recording

    def record(self, fps: float) -> None:
        """Start a recording with the moment shown; an older one is discarded."""
        self.recording = Recording(fps)
        self.recording.add(self.pictures())

    def stop(self) -> Recording:
        """Stop recording and return the recording.

        Raises:
            Complaint: nothing is being recorded.
        """
        if self.recording is None:
            raise Complaint("nothing is being recorded")
        recording, self.recording = self.recording, None
        return recording


def _outcome(carry: RolloutState, score: float | None) -> tuple[float | None, bool]:
    """Score after a step, and whether the game ended, from the entries `reward` and `terminated` (a probability) that
    models with such heads put into their state."""
    over = bool("terminated" in carry and float(carry["terminated"][0]) > 0.5)
    return ((score or 0.0) + float(carry["reward"][0]) if "reward" in carry else None), over


def _pixels(picture: np.ndarray) -> bytes:
    return np.ascontiguousarray(as_rgb(picture[None])[0].transpose(1, 2, 0)).tobytes()
