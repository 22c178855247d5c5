"""Running a predictor: `rollout` for whole futures, `Dream` frame by frame.

The one place that switches a model to eval and opens autocast for prediction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from framecast.engine.device import autocast
from framecast.models.base import Carry, Frames, Predictor


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Within: eval mode; afterwards every part as before, also one that was in another mode than the whole."""
    before = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def rollout(
    model: Predictor,
    context: Frames,
    horizon: int,
    actions: Frames | None = None,
    samples: int = 1,
    generator: torch.Generator | None = None,
    precision: str = "fp32",
) -> Tensor:
    """The next `horizon` frames after `context`, predictions fed back as the model's family does it.

    context: (b, t, c, h, w) uint8 or float 0…1.  actions: (b, t + horizon - 1, a) where the model takes them.
    precision: "fp32" or "bf16" (autocast).
    Returns: (s, b, horizon, c, h, w) float 0…1.
    Raises: ValueError when the model cannot take what it is given.
    """
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    with evaluating(model), autocast(device, precision):
        return model.predict(context, horizon, actions=actions, samples=samples, generator=generator).float()


class Dream:
    """A prediction that goes on frame by frame, for playing: `step(action)` gives the next frame."""

    def __init__(
        self,
        model: Predictor,
        context: Frames,
        actions: Frames | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.model = model
        with evaluating(model), torch.no_grad():
            self.carry: Carry = model.begin(context, actions=actions, generator=generator)

    def step(self, action: Tensor | None = None) -> Tensor:
        """The next frame, (b, c, h, w) float 0…1. action: (b, a), what is done at the last frame."""
        with evaluating(self.model), torch.no_grad():
            self.carry, frame = self.model.advance(self.carry, action)
        return frame
