"""Inputs of `predict`: kinds of frames that are accepted, and the checks that every model's `predict` gets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from framecast.models.seeds import Generators

if TYPE_CHECKING:
    from framecast.models.base import Predictor

Frames = Tensor | np.ndarray


def checked(predict: Callable[..., Tensor], clip_generators: bool = False) -> Callable[..., Tensor]:
    """A `predict` that checks its arguments, brings them to the model's form, and turns gradients off.

    Args:
        predict: method of a model, for float (b, num_context, c, h, w) and actions (b, num_context + horizon - 1, a).
        clip_generators: whether it takes a list of generators, one of each clip; otherwise it gets one clip at a time,
            unless the model's class has clip_generators set.
    """

    @functools.wraps(predict)
    @torch.no_grad()
    def with_checks(
        self: Predictor,
        context: Frames,
        horizon: int,
        actions: Frames | None = None,
        samples: int = 1,
        generator: Generators = None,
    ) -> Tensor:
        name, need, least = type(self).__name__, self.num_context, self.min_context
        frames = as_frames(context, self)
        if frames.shape[1] < least:
            raise ValueError(f"{name} needs {least} context frames, got {frames.shape[1]}; give a longer clip")
        if horizon < 1 or samples < 1:
            raise ValueError(f"{name}: horizon and samples must be at least 1, got {horizon} and {samples}")
        if actions is not None:
            actions = torch.as_tensor(actions, dtype=torch.float32, device=frames.device)
            actions = actions[None] if actions.ndim == 2 else actions
            want = (frames.shape[0], frames.shape[1] + horizon - 1, self.spec.action_size)
            if tuple(actions.shape) != want:
                raise ValueError(
                    f"{name}: actions must be (b, context + horizon - 1, a) = {want}, got {tuple(actions.shape)}"
                )
            actions = actions[:, max(frames.shape[1] - need, 0) :]
        elif self.actions == "required":
            raise ValueError(f"{name} predicts from actions: pass actions (b, context + horizon - 1, a)")
        frames = frames[:, -need:]
        if isinstance(generator, Sequence) and not self.stochastic:
            generator = None
        if isinstance(generator, Sequence):
            if len(generator) != len(frames):
                raise ValueError(f"{name}: expected a generator of each of {len(frames)} clips, got {len(generator)}")
            if not (clip_generators or self.clip_generators):
                found = []
                for i, own in enumerate(generator):
                    led = None if actions is None else actions[i : i + 1]
                    found.append(predict(self, frames[i : i + 1], horizon, led, samples, own))
                return torch.cat(found, 1)
        return predict(self, frames, horizon, actions, samples, generator)

    return with_checks


def as_frames(x: Frames, model: Predictor) -> Tensor:
    """Frames of any accepted kind as float (b, t, c, h, w) in 0…1 on the model's device.

    Args:
        x: (b, t, c, h, w) or (t, c, h, w), uint8 0…255 or float 0…1.
        model: the model that receives them.

    Raises:
        ValueError: if axes, channels or dtype do not fit the model.
    """
    name = type(model).__name__
    if isinstance(x, np.ndarray) and not x.flags.writeable:  # torch has no read-only tensors
        x = x.copy()
    x = torch.as_tensor(x)
    if x.ndim == 4:
        x = x[None]
    if x.ndim != 5:
        raise ValueError(f"{name}: context must have axes (b, t, c, h, w) or (t, c, h, w), got shape {tuple(x.shape)}")
    if x.shape[2] != model.spec.channels:
        raise ValueError(
            f"{name}: frames have {x.shape[2]} channels but the model was built for {model.spec.channels}; "
            "frames are (b, t, c, h, w), channels before height"
        )
    parameter = next(model.parameters(), None)
    x = x.to(parameter.device if parameter is not None else x.device)
    if x.dtype == torch.uint8:
        return x.float().div_(255)
    if not x.is_floating_point():
        raise ValueError(f"{name}: frames must be uint8 (0…255) or float (0…1), got {x.dtype}")
    return x.float()
