"""Model, start frames, actions and sliders shared by all browsers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.core.types import ActionSpec
from framecast.inference.starts import Start, Starts
from framecast.models.base import Predictor
from framecast.models.latent import EditableLatent, LatentModel
from framecast.models.rollout import RolloutSession, evaluating
from framecast.web.actions import idle, pad, vector

#: Largest number of latent sliders; of longer latents the dimensions that vary most.
SLIDERS = 64
#: Range of a slider in standard deviations of the data to either side; at least -3 to 3.
REACH = 3.0
#: Number of starts from which the distribution of latents is estimated.
_SURVEYED = 8


@dataclass(frozen=True)
class Slider:
    """Slider of one latent dimension.

    Attributes:
        index: latent dimension.
        low, high: range of the slider.
        mean, std: of the dimension over real frames.
    """

    index: int
    low: float
    high: float
    mean: float
    std: float


class Player:
    """Model, start frames, actions and sliders shared by all browsers.

    `fps` is the frame rate of the data divided by the stride of the model.

    Raises:
        ValueError: the model cannot take these frames.
    """

    def __init__(
        self, model: Predictor, starts: Starts, name: str, title: str, seed: int = 0, precision: str = "fp32"
    ) -> None:
        self.model, self.starts, self.name, self.title = model, starts, name, title
        self.seed, self.precision = seed, precision
        self.actions: ActionSpec | None = model.spec.actions if model.actions != "none" else None
        self.fps = starts.fps
        self.sliders = self._survey() if isinstance(model, LatentModel) else []

    def hello(self) -> dict[str, Any]:
        """First message to a page: sizes, starts, controls, actions and sliders as plain data."""
        first = self.starts[0].seen
        return {
            "type": "hello",
            "name": self.name,
            "model": self.title,
            "height": int(first.shape[2]),
            "width": int(first.shape[3]),
            "fps": self.fps,
            "stochastic": bool(self.model.stochastic),
            "starts": self.starts.names,
            "controls": self._controls(),
            "actions": None if self.actions is None else pad(self.actions),
            "recorded": self.actions is None or self.starts.actions is not None,
            "sliders": [vars(slider) for slider in self.sliders],
            "steerable": self.steerable,
            "real": False,
        }

    def _controls(self) -> list[dict[str, Any]]:
        """Controls of the model with their initial values."""
        found = self.model.controls()
        carry = (
            RolloutSession(self.model, self.starts[0].seen, self.past(self.starts[0]), None, self.precision).carry
            if found
            else {}
        )
        return [{**vars(control), "value": round(float(carry[control.name][0]), 4)} for control in found]

    def past(self, start: Start) -> Tensor | None:
        """Actions during the context of a start, (1, t - 1, a); idle actions where none are recorded."""
        if self.actions is None:
            return None
        if start.actions is not None:
            return start.actions[None]
        return vector(self.actions, idle(self.actions))[None].expand(1, len(start.seen) - 1, -1)

    @property
    def steerable(self) -> bool:
        """Whether a roll-out can continue from an edited latent."""
        return isinstance(self.model, EditableLatent)

    @torch.no_grad()
    def encode(self, window: Tensor) -> Tensor:
        """Latent (z,) of the last frame of `window`, float (t, c, h, w) in 0…1."""
        with evaluating(self.model):
            return self.model.encode(window[None])[0, -1].float()  # type: ignore[operator, no-any-return]

    @torch.no_grad()
    def decode(self, z: Tensor, window: Tensor) -> Tensor:
        """Decoded image (c, h, w) of a latent (z,); decoders that need context use the last frames of `window`."""
        with evaluating(self.model):
            context = window[None, -self.model.num_context :]
            return self.model.decode(z[None, None], context)[0, -1].float()  # type: ignore[operator, no-any-return]

    def floats(self, frames: np.ndarray) -> Tensor:
        """uint8 frames as float in 0…1 on the device of the model."""
        return torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).float().div(255)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        parameter = next(self.model.parameters(), None)
        return parameter.device if parameter is not None else torch.device("cpu")

    def _survey(self) -> list[Slider]:
        count = min(len(self.starts), _SURVEYED)
        chosen = sorted({round(i) for i in np.linspace(0, len(self.starts) - 1, count)})
        with evaluating(self.model), torch.no_grad():
            windows = [self.floats(self.starts[i].seen)[None] for i in chosen]
            latents = torch.cat([self.model.encode(w)[0].float() for w in windows]).cpu()  # type: ignore[operator]
        mean, std = latents.mean(0), latents.std(0, correction=0)
        order = range(len(mean))
        if len(mean) > SLIDERS:
            order = sorted(int(i) for i in std.argsort(descending=True)[:SLIDERS])  # type: ignore[assignment]
        return [_slider(i, float(mean[i]), float(std[i])) for i in order]


def _slider(index: int, mean: float, std: float) -> Slider:
    low, high = min(-REACH, math.floor(mean - REACH * std)), max(REACH, math.ceil(mean + REACH * std))
    if abs(mean) + 2 * std <= REACH:  # latents that a variational model keeps near N(0, 1)
        low, high = -REACH, REACH
    return Slider(index, low, high, round(mean, 4), round(std, 4))
