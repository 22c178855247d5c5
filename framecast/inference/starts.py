"""Start frames of a roll-out and the recording after them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.remote import is_address
from framecast.core.types import ActionSpec, ClipRequest
from framecast.data import SOURCES
from framecast.data.base import Segment, Source, World
from framecast.data.cache import open_data
from framecast.data.loader import Loader
from framecast.data.options import DataConfig
from framecast.data.registry import find_source, fitted, replay
from framecast.data.windows import Windows
from framecast.evaluation.clips import check_fit
from framecast.inference.latents.io import EXAMPLES
from framecast.media.resize import resize_frames
from framecast.training.run_folder import Run

#: Largest number of starts offered in a page.
MOST = 12
#: Number of recorded frames after a start; half of the available ones for shorter data.
FUTURE = 48


@dataclass(frozen=True)
class Start:
    """Recorded context and the recording after it, read on demand.

    Attributes:
        name: video and frame.
        seen: context, uint8 (t, c, h, w).
        actions: actions during the context, (t - 1, a); None without actions.
        length: number of recorded frames after the context.
        pairs: loader of two frames and the action between them.
        video: video index.
        last: index of the last context frame.
        world: simulator restored to the last context frame, where the source has one; shared by all sessions.
        before: state of the simulator at the last context frame.
    """

    name: str
    seen: np.ndarray
    actions: Tensor | None
    length: int
    pairs: Loader | None
    video: int
    last: int
    world: World | None = None
    before: Any = None

    def simulated(self, state: Any, action: Any) -> tuple[np.ndarray, Any, float | None, bool]:
        """Simulated frame after `action`, uint8 (c, h, w), the next state of the simulator, reward (None without) and
        whether the game ended."""
        assert self.world is not None, "this start has no world"
        self.world.restore(state)
        result: Any = self.world.act(action)
        reward, over = (None, False) if result is None else (float(result[0]), bool(result[1]))
        if self.pairs is None:  # a game without a recording
            return self.world.frame().copy(), self.world.save(), reward, over
        source, size = self.pairs.source, (self.seen.shape[2], self.seen.shape[3])
        shown = fitted(self.world, (source.spec.channels, source.spec.height, source.spec.width), source.meta())
        return resize_frames(shown[None], size)[0], self.world.save(), reward, over

    def after(self, number: int) -> tuple[np.ndarray, Tensor | None] | None:
        """Recorded frame `number` after the context (1 is the next), uint8 (c, h, w), and the action (1, a) that led
        to it; None beyond the recording."""
        if self.pairs is None or not 1 <= number <= self.length:
            return None
        stride = self.pairs.request.stride
        batch = self.pairs.gather([(self.video, self.last + (number - 1) * stride)])
        return batch.context[0, 1].numpy(), batch.actions[:, 0] if batch.actions is not None else None


class Starts:
    """Start frames in recorded videos.

    Args:
        source, segments: videos and the segments to choose from.
        request: clip request of the model.
        seen: number of context frames.
        actions: action specification of the model; None if it takes none.
        seed: random seed for start selection.
        most: largest number of starts, evenly spaced.

    Raises:
        UserError: no video is long enough.
    """

    def __init__(
        self,
        source: Source,
        segments: list[Segment],
        request: ClipRequest,
        seen: int,
        actions: ActionSpec | None = None,
        seed: int = 0,
        most: int = MOST,
    ) -> None:
        self.source, self.segments, self.seen, self.actions = source, segments, seen, actions
        longest = max(((s.stop - s.start - 1) // request.stride + 1 for s in segments), default=0)
        self._request = request.consecutive(seen, 0)
        spaced = replace(self._request, future=max(0, min(FUTURE, (longest - seen) // 2)))
        self._places = Windows(source, segments, spaced).fixed(most, seed)
        self._worlds: dict[int, tuple[World | None, Any]] = {}

    def __len__(self) -> int:
        return len(self._places)

    @property
    def names(self) -> list[str]:
        """Video and last context frame of every start."""
        return [self._name(*place) for place in self._places]

    @property
    def fps(self) -> float:
        """Frames per second of a recording at the model's stride."""
        return self.source.spec.fps / self._request.stride

    def __getitem__(self, index: int) -> Start:
        video, first = self._places[index]
        segment = next(s for s in self.segments if s.video == video and s.start <= first < s.stop)
        stride = self._request.stride
        last = first + (self.seen - 1) * stride
        length = (segment.stop - 1 - last) // stride
        # The whole segment is windowed, so that a context at its very end is none the worse.
        batch = Loader(self.source, [segment], self._request, 1, actions=self.actions).gather([(video, first)])
        two = replace(self._request, context=2)
        pairs = Loader(self.source, [segment], two, 1, actions=self.actions) if length else None
        world, before = self._world(index, video, last) if pairs is not None else (None, None)
        return Start(
            name=self._name(video, first),
            seen=batch.context[0].numpy(),
            actions=None if batch.actions is None else batch.actions[0],
            length=length,
            pairs=pairs,
            video=video,
            last=last,
            world=world,
            before=before,
        )

    def _world(self, index: int, video: int, last: int) -> tuple[World | None, Any]:
        """Simulator at a start and its state; cached, because restoring replays the video from its beginning."""
        if index not in self._worlds:
            # With a stride, several recorded actions lead to one model frame; one user action cannot replace them.
            world = self._restored(video, last) if self._request.stride == 1 and self.actions else None
            self._worlds[index] = (world, None if world is None else world.save())
        return self._worlds[index]

    def _restored(self, video: int, last: int) -> World | None:
        """The game at a frame: replayed from its seed, or set to the recorded state where only excerpts are there."""
        if (world := replay(self.source, video, last)) is not None or "states" not in self.source.spec.extras:
            return world
        name = self.source.names[video].partition("-")[0]
        game = getattr(find_source(name), "game", None) if name in SOURCES else None
        if game is None:
            return None
        clip, scene = self.source.clip(video, last, 1), game()
        scene.set_state(clip.arrays["states"][0].tolist())
        return scene if bool((scene.frame() == clip.frames[0]).all()) else None

    def _name(self, video: int, first: int) -> str:
        return f"{self.source.names[video]}, frame {first + (self.seen - 1) * self._request.stride}"


def open_starts(run: Run, data: str | None = None, size: str | None = None, seed: int = 0, most: int = MOST) -> Starts:
    """Start frames of `data`, by default of the folder `examples` in the run, otherwise held-out frames of its data.

    Args:
        run: trained run.
        data: path or name of a source.
        size: frame size, "128" (shorter side) or "96x128"; None uses the training size.
        seed: random seed for start selection.
        most: largest number of starts, evenly spaced.

    Raises:
        UserError: there are no frames, or the model cannot take them.
    """
    request, trained = run.model_class.request(run.config.model), run.config.data
    # At least a training window, where available: latents of clips or of motion need it.
    model_context = request.context
    if data is None and (run.folder / EXAMPLES).is_dir():
        data = str(run.folder / EXAMPLES)
    known = trained.path in SOURCES or is_address(trained.path)
    if data is None and not (known or (trained.path and Path(trained.path).expanduser().exists())):
        raise UserError(
            f"{run.label}: its training data {trained.path!r} are not here; name real frames with --data PATH"
        )
    if data is None:
        source, _ = open_data(replace(trained, size=size or trained.size))
        segments = source.splits(request.source_length)["test"]
    else:
        brought = size or trained.size or trained.trained_size
        source, _ = open_data(DataConfig(path=data, size=brought, fit=trained.fit, axes=trained.axes))
        segments = [Segment(i, 0, int(n)) for i, n in enumerate(source.lengths)]
    check_fit(run, source, data or trained.path)
    longest = max(((s.stop - s.start - 1) // request.stride + 1 for s in segments), default=0)
    seen = max(model_context, min(request.length, longest))
    acts = run.model_class.actions != "none" and source.spec.actions is not None
    return Starts(source, segments, request, seen, run.config.spec.actions if acts else None, seed, most)


def noise(shape: tuple[int, ...], generator: torch.Generator) -> np.ndarray:
    """Frames of uniform noise, uint8."""
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8).numpy()
