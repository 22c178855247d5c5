"""Running a predictor: `rollout` for whole futures, `Dream` frame by frame.

The one place that switches a model to eval and opens autocast for prediction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from framecast.models.base import EditableLatent, Frames, Predictor, RolloutState
from framecast.nn.precision import autocast


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

    Args:
        context: (b, t, c, h, w) uint8 or float 0…1.
        actions: (b, t + horizon - 1, a) where the model takes them.
        precision: "fp32" or "bf16" (autocast).

    Returns:
        (s, b, horizon, c, h, w) float 0…1.

    Raises:
        ValueError: if the model cannot take what it is given.
    """
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    with evaluating(model), autocast(device, precision):
        return model.predict(context, horizon, actions=actions, samples=samples, generator=generator).float()


class RolloutSession:
    """A prediction that goes on frame by frame, for playing: `step(action)` gives the next frame.

    carry: the whole state, a dict of tensors. Kept and put back, it goes on from where it was.
    """

    def __init__(
        self,
        model: Predictor,
        context: Frames,
        actions: Frames | None = None,
        generator: torch.Generator | None = None,
        precision: str = "fp32",
    ) -> None:
        self.model, self.precision = model, precision
        with self._running():
            self.carry: RolloutState = model.rollout_init(context, actions=actions, generator=generator)

    def step(self, action: Tensor | None = None) -> Tensor:
        """The next frame, (b, c, h, w) float 0…1. action: (b, a), what is done at the last frame."""
        with self._running():
            self.carry, frame = self.model.rollout_step(self.carry, action)
        return frame.float()

    def set_control(self, name: str, value: float) -> None:
        """Set one of the model's controls, from the next frame on.

        Raises:
            ValueError: for a name the model does not offer.
        """
        names = [control.name for control in self.model.controls()]
        if name not in names:
            raise ValueError(f"{type(self.model).__name__} has no control {name!r}, only {', '.join(names) or 'none'}")
        self.carry = {**self.carry, name: torch.full_like(self.carry[name], value)}

    @property
    def steerable(self) -> bool:
        """Whether codes made by hand can be put in; `code` and `take` need it."""
        return isinstance(self.model, EditableLatent)

    @property
    def code(self) -> Tensor:
        """The code of the last frame, (b, z). Only of a steerable model."""
        with self._running():
            return self._steered().get_latent(self.carry).float()

    def take(self, z: Tensor) -> Tensor:
        """Go on as if the last frame had code z (b, z); that frame, (b, c, h, w) 0…1. Only of a steerable model."""
        model = self._steered()
        with self._running():
            self.carry = model.with_latent(self.carry, z)
            return model.decode(z[:, None])[:, 0].float()

    def _steered(self) -> EditableLatent:
        if not isinstance(self.model, EditableLatent):
            raise ValueError(f"{type(self.model).__name__} does not dream in codes")
        return self.model

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        parameter = next(self.model.parameters(), None)
        device = parameter.device if parameter is not None else torch.device("cpu")
        with evaluating(self.model), torch.no_grad(), autocast(device, self.precision):
            yield
