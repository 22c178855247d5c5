"""The training steps of the small profiles, as the engine does them, on one fixed batch of the bouncing shapes.

Imports nothing but framecast, so that `benchmarks.paired` can run it in another checkout.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from framecast.core import memory
from framecast.data.cache import open_data
from framecast.data.synthetic.bouncing import Bouncing, BouncingConfig
from framecast.models.registry import find_model
from framecast.training.device import Device
from framecast.training.presets import preset
from framecast.training.state import TrainState
from framecast.training.step import train_step
from framecast.training.train import settle
from framecast.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of training step.

    Attributes:
        name: of the row.
        model: name of the model.
        profile: its profile.
        stage: index of the stage.
        turn: step of the stage, which decides the phases that run.
        changes: fields of the model's config that differ from the profile.
    """

    name: str
    model: str
    profile: str = "small"
    stage: int = 0
    turn: int = 0
    changes: dict[str, Any] = field(default_factory=dict)


_GAN = {"mode": "epva-gan", "size": 64}
CASES = (
    Case(name="direct:small", model="direct"),
    Case(name="categorical:small", model="categorical"),
    Case(name="multiscale-gan:small, adversarial", model="multiscale-gan"),
    Case(name="multiscale-gan:small, plain", model="multiscale-gan", changes={"adversarial": False}),
    Case(name="dreams:small, vision", model="dreams"),
    Case(name="dreams:small, memory", model="dreams", stage=1),
    Case(name="dreams:narrow, vision", model="dreams", profile="narrow"),
    Case(name="dreams:narrow, memory", model="dreams", profile="narrow", stage=1),
    Case(name="hierarchical:small", model="hierarchical"),
    Case(name="hierarchical:narrow", model="hierarchical", profile="narrow"),
    Case(name="hierarchical:narrow, epva-gan", model="hierarchical", profile="narrow", changes=_GAN),
    Case(name="hierarchical:narrow, epva-gan's critic", model="hierarchical", profile="narrow", turn=1, changes=_GAN),
    Case(name="visual-dynamics:small", model="visual-dynamics"),
)


def make_data(folder: Path) -> None:
    """Write the store of which the batches are."""
    Bouncing(BouncingConfig(videos=12, frames=128, seed=3)).prepare(folder)


class Step:
    """One call is one training step, on a fixed batch for each stream.

    Args:
        data: a store.
        folder: for precomputed latents.
        case: of `CASES`.
        device: with the precision.
        tiny: of the profile `tiny` instead.
    """

    def __init__(self, data: Path, folder: Path, case: Case, device: Device, tiny: bool = False) -> None:
        torch.manual_seed(0)
        self.kept = contextlib.ExitStack()  # as while training, where the checkout has it
        self.kept.enter_context(getattr(memory, "kept_memory", contextlib.nullcontext)())
        self.device, self.turn = device, case.turn
        profile = "tiny" if tiny else case.profile
        config, model_class = preset(case.model, profile), find_model(case.model)
        changes = {**case.changes, **({"size": 32} if tiny and "size" in case.changes else {})}
        source, found = open_data(replace(config.data, path=str(data)))
        config = replace(config, data=found, model=replace(config.model, **changes))
        config = replace(config, train=replace(config.train, steps=100, epochs=None, budget=None, prefetch=0))
        config = settle(config, source, model_class)
        model = model_class(config.model, config.spec).to(device.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.state = TrainState.create(model, 0)
        trainer = Trainer(config, source, folder, device, self.state, quiet=True)
        trainer.initialize_from_batch()
        self.state.enter_stage(case.stage)
        trainer.loaders = trainer._loaders()
        trainer._close()
        self.clips = config.train.batch_size
        streams = {phase.stream for phase in self.state.current.phases}
        self.batches = {s: trainer.loaders["train"].batch(0, s).to(device.device) for s in streams}

    def __call__(self) -> dict[str, torch.Tensor]:
        self.state.stage_step = self.turn
        return train_step(self.state, lambda stream, _: self.batches[stream], self.device)
