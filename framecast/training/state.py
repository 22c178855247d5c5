"""TrainState: everything a run is made of at one moment, so that saving and loading it is the whole of resuming."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from framecast.core.types import Optimiser, Phase, Stage
from framecast.models.base import Predictor


@dataclass
class TrainState:
    """model, its EMA copy, the stages and the optimisers of the current one (by phase name), and the counters.

    step counts over the whole run, stage_step within the stage.  ended: the last stage is over.  best, bad,
    best_weights: patience.  seconds: time spent training so far, for `--budget`.  seed: of the run; each step reseeds
    from it, so no generator state is kept.
    """

    model: Predictor
    ema: Predictor
    stages: list[Stage]
    seed: int = 0
    ema_decay: float = 0.999
    step: int = 0
    stage: int = 0
    stage_step: int = 0
    ended: bool = False
    best: float | None = None
    bad: int = 0
    best_weights: dict[str, Tensor] | None = None
    seconds: float = 0.0
    optimisers: dict[str, torch.optim.Optimizer] = field(default_factory=dict)

    @classmethod
    def create(cls, model: Predictor, seed: int = 0, ema_decay: float = 0.999) -> TrainState:
        """State at step 0. Stages are asked of the model once, here; names and groups are checked."""
        stages = model.stages()
        for stage in stages:
            _check_stage(model, stage)
        ema = copy.deepcopy(model).requires_grad_(False).eval()
        state = cls(model=model, ema=ema, stages=stages, seed=seed, ema_decay=ema_decay)
        state.enter_stage(0)
        return state

    @property
    def current(self) -> Stage:
        """The stage being trained."""
        return self.stages[self.stage]

    def enter_stage(self, index: int) -> None:
        """Begin a stage: fresh optimisers, counters from zero."""
        self.stage, self.stage_step = index, 0
        self.best, self.bad, self.best_weights = None, 0, None
        self.optimisers = {
            p.name: make_optimiser(p.optimiser, phase_parameters(self.model, p)) for p in self.current.phases
        }

    @torch.no_grad()
    def update_ema(self) -> None:
        """Move the EMA copy towards the model. The decay warms up, so that short runs do not drag their start along."""
        decay = min(self.ema_decay, (1 + self.stage_step) / (10 + self.stage_step))
        averages, values = _floats(self.ema), _floats(self.model)
        if not averages:  # a baseline without weights
            return
        if self.ema_decay == 0:
            torch._foreach_copy_(averages, values)
        else:
            torch._foreach_lerp_(averages, values, 1 - decay)
        for a, b in zip(self.ema.buffers(), self.model.buffers(), strict=True):
            if not a.is_floating_point():
                a.copy_(b)

    def note_validation(self, value: float) -> bool:
        """Take note of a validation value; True when it is the best of the stage. Lower is better, nan never is."""
        better = math.isfinite(value) and (self.best is None or value < self.best - self.current.until.min_delta)
        if better:
            self.best, self.bad = value, 0
            if self.current.until.patience is not None:
                self.best_weights = {k: v.detach().clone() for k, v in self.ema.state_dict().items()}
        else:
            self.bad += 1
        return better

    def best_model(self) -> Predictor:
        """What a snapshot keeps: the EMA copy, with the best weights so far where the stage looks for them."""
        if self.best_weights is None:
            return self.ema
        best = copy.deepcopy(self.ema)
        best.load_state_dict(self.best_weights)
        return best

    def leave_stage(self) -> bool:
        """End the stage: restore its best weights if it kept any, enter the next. False after the last one, when the
        run has ended."""
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
            self.ema.load_state_dict(self.best_weights)
            self.best_weights = None
        self.ended = self.stage + 1 >= len(self.stages)
        if self.ended:
            return False
        self.enter_stage(self.stage + 1)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, so that it loads with weights_only=True."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimisers": {k: o.state_dict() for k, o in self.optimisers.items()},
            "step": self.step,
            "stage": self.stage,
            "stage_step": self.stage_step,
            "ended": self.ended,
            "best": self.best,
            "bad": self.bad,
            "best_weights": self.best_weights,
            "seconds": self.seconds,
            "seed": self.seed,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Become what was saved."""
        self.enter_stage(saved["stage"])
        self.model.load_state_dict(saved["model"])
        self.ema.load_state_dict(saved["ema"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(saved["optimisers"][name])
        for name in ("step", "stage_step", "ended", "best", "bad", "best_weights", "seconds", "seed"):
            setattr(self, name, saved[name])


def phase_parameters(model: nn.Module, phase: Phase) -> list[nn.Parameter]:
    """The parameters a phase trains, each once, in the order of the model."""
    found = {id(p): p for name in phase.modules for p in model.get_submodule(name).parameters()}
    return [p for p in model.parameters() if id(p) in found]


def make_optimiser(settings: Optimiser, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """torch's own optimiser for these settings; fused where torch has it (one kernel instead of ten passes)."""
    rate = settings.rate(0)
    common: dict[str, Any] = {"lr": rate, "weight_decay": settings.weight_decay}
    if settings.kind == "sgd":
        return torch.optim.SGD(parameters, momentum=settings.momentum, fused=True, **common)
    if settings.kind == "radam":
        return torch.optim.RAdam(parameters, betas=settings.betas, eps=settings.eps, foreach=True, **common)
    return torch.optim.Adam(parameters, betas=settings.betas, eps=settings.eps, fused=True, **common)


def bound_to(model: Predictor, method: Callable[..., Any]) -> Callable[..., Any]:
    """The same method, bound to `model`: stages and phases hold methods of the trained model, others want the EMA's."""
    return MethodType(method.__func__, model) if isinstance(method, MethodType) else method


def _check_stage(model: Predictor, stage: Stage) -> None:
    names = [p.name for p in stage.phases]
    if len(set(names)) != len(names):
        raise ValueError(f"stage {stage.name!r}: phases need names of their own, got {names}")
    if not names and next(model.parameters(), None) is not None:
        raise ValueError(f"stage {stage.name!r} has no phases, so nothing would be trained")
    groups = [group for group, _ in itertools.groupby(p.group for p in stage.phases) if group is not None]
    if len(set(groups)) != len(groups):
        raise ValueError(f"stage {stage.name!r}: the phases of one group must stand side by side, got groups {groups}")
    for phase in stage.phases:
        for module in phase.modules:
            try:
                model.get_submodule(module)
            except AttributeError as error:
                raise ValueError(f"phase {phase.name!r} trains {module!r}, which the model has not: {error}") from error
        if not phase_parameters(model, phase):
            raise ValueError(f"phase {phase.name!r} trains {', '.join(phase.modules)}, which have no parameters")


def _floats(model: nn.Module) -> list[Tensor]:
    tensors = [*model.parameters(), *model.buffers()]
    return [t.detach() for t in tensors if t.is_floating_point()]
