"""Running a predictor: `rollout` for whole futures, `RolloutSession` frame by frame.

The only place that switches a model to eval mode and enables autocast for prediction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from framecast.models.base import Predictor, RolloutState
from framecast.models.graphs import graphed_step
from framecast.models.inputs import Frames
from framecast.models.latent import EditableLatent
from framecast.models.seeds import Generators
from framecast.nn.precision import autocast


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """A context in eval mode; afterwards every part has its previous mode."""
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
    generator: Generators = None,
    precision: str = "fp32",
) -> Tensor:
    """The next `horizon` frames after `context`, by the model's `predict`.

    Args:
        context: (b, t, c, h, w) uint8 or float 0…1.
        actions: (b, t + horizon - 1, a) where the model takes them.
        generator: source of randomness, one or a list with one of each clip.
        precision: "fp32" or "bf16" (autocast).

    Returns:
        (s, b, horizon, c, h, w) float 0…1.

    Raises:
        ValueError: if the inputs do not fit the model.
    """
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    with evaluating(model), autocast(device, precision):
        return model.predict(context, horizon, actions=actions, samples=samples, generator=generator).float()


class RolloutSession:
    """A prediction frame by frame, for playing: `step(action)` returns the next frame.

    Attributes:
        carry: the rollout state; a stored state that is assigned again continues from there.
    """

    def __init__(
        self,
        model: Predictor,
        context: Frames,
        actions: Frames | None = None,
        generator: Generators = None,
        precision: str = "fp32",
    ) -> None:
        self.model, self.precision = model, precision
        with self._running():
            self.carry: RolloutState = model.rollout_init(context, actions=actions, generator=generator)

    def step(self, action: Tensor | None = None) -> Tensor:
        """The next frame, (b, c, h, w) float 0…1. action: (b, a), at the last frame."""
        with self._running() as device:
            step = graphed_step(self.model) if device.type == "cuda" else self.model.rollout_step
            self.carry, frame = step(self.carry, action)
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
        """Whether latents can be edited; `code` and `take` need it."""
        return isinstance(self.model, EditableLatent)

    @property
    def code(self) -> Tensor:
        """The latent of the last frame, (b, z), of a model with editable latents."""
        with self._running():
            return self._steered().get_latent(self.carry).float()

    def take(self, z: Tensor) -> Tensor:
        """Replace the latent of the last frame by z (b, z); that frame, (b, c, h, w) 0…1, of a model with editable
        latents."""
        model = self._steered()
        with self._running():
            self.carry = model.with_latent(self.carry, z)
            if type(self.model).draw_frames is not Predictor.draw_frames:  # it may need a frame of the state
                return self.model.draw_frames(self.carry, z[:, None])[:, 0].float()
            return model.decode(z[:, None])[:, 0].float()

    def _steered(self) -> EditableLatent:
        if not isinstance(self.model, EditableLatent):
            raise ValueError(f"{type(self.model).__name__} has no editable latents")
        return self.model

    @contextlib.contextmanager
    def _running(self) -> Iterator[torch.device]:
        parameter = next(self.model.parameters(), None)
        device = parameter.device if parameter is not None else torch.device("cpu")
        with evaluating(self.model), torch.no_grad(), autocast(device, self.precision):
            yield device
