"""State of training. Saving and loading it is all that resuming needs."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from framecast.core.types import Batch, Loss, Optimiser, Phase, Stage
from framecast.models.base import Predictor


@dataclass
class TrainState:
    """Model, EMA copy, optimisers and counters of a run.

    Attributes:
        model: the trained model.
        ema: its copy with the exponential moving average of the weights, in eval mode.
        stages: stages of the model.
        ema_stages: the same of the EMA copy, whose functions use its weights.
        seed: of the run; every step is seeded from it, so no generator state is stored.
        ema_decay: decay of the average in 0…1; 0 copies the weights.
        step: number of steps of the run.
        stage: index of the current stage.
        stage_step: number of steps of the current stage.
        ended: whether the last stage is over.
        best: lowest monitored value of the stage's validations, such as the loss.
        bad: number of validations since then.
        best_weights: EMA weights of then, for a stage that keeps its best weights.
        seconds: training time, for `--budget`; with a budget the same in every process.
        stage_seconds: training time at the start of the stage.
        optimisers: of the current stage, by phase name.
        losses: compiled losses of the current stage, by phase name; other phases use their own.
        graphs: recorded losses and gradients of the current stage; None where nothing is recorded.
        parts: what the phases of the current stage train, by phase name.
        fault: whether no weight may be updated any more, in any process: scalar bool on the device.
        faults: (phase, parts of its loss and "total") -> first step at which each was inf or nan, int64 (n,).
    """

    model: Predictor
    ema: Predictor
    stages: list[Stage]
    ema_stages: list[Stage]
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
    stage_seconds: float = 0.0
    optimisers: dict[str, torch.optim.Optimizer] = field(default_factory=dict)
    losses: dict[str, Callable[[Batch, int], Loss]] = field(default_factory=dict)
    graphs: Any = None
    parts: dict[str, PhaseParts] = field(default_factory=dict)
    fault: Tensor = field(default_factory=lambda: torch.tensor(False))
    faults: dict[tuple[str, tuple[str, ...]], Tensor] = field(default_factory=dict)

    @classmethod
    def create(cls, model: Predictor, seed: int = 0, ema_decay: float = 0.999) -> TrainState:
        """State at step 0.

        Raises:
            ValueError: the model's stages are invalid.
        """
        stages = model.stages()
        for stage in stages:
            _check_stage(model, stage)
        ema = copy.deepcopy(model).requires_grad_(False).eval()
        state = cls(model=model, ema=ema, stages=stages, ema_stages=ema.stages(), seed=seed, ema_decay=ema_decay)
        state.enter_stage(0)
        return state

    @property
    def current(self) -> Stage:
        """The stage being trained."""
        return self.stages[self.stage]

    @property
    def current_ema(self) -> Stage:
        """The same stage of the EMA copy, for its validation loss and precomputed latents."""
        return self.ema_stages[self.stage]

    def enter_stage(self, index: int) -> None:
        """Start a stage with new optimisers and counters at zero."""
        self.stage, self.stage_step, self.stage_seconds = index, 0, self.seconds
        self.best, self.bad, self.best_weights = None, 0, None
        self.losses, self.graphs = {}, None
        self.parts = {p.name: PhaseParts.of(self.model, p) for p in self.current.phases}
        self.optimisers = {
            p.name: make_optimiser(p.optimiser, self.parts[p.name].parameters) for p in self.current.phases
        }

    @torch.no_grad()
    def update_ema(self) -> None:
        """Update the EMA copy. The decay warms up, so that the initial weights have no influence on short runs."""
        decay = min(self.ema_decay, (1 + self.stage_step) / (10 + self.stage_step))
        averages, values, counters, counted = self._averaged
        if averages and self.ema_decay == 0:
            torch._foreach_copy_(averages, values)
        elif averages:  # a baseline has no weights
            torch._foreach_lerp_(averages, values, 1 - decay)
        if counters:
            torch._foreach_copy_(counters, counted)

    @functools.cached_property
    def _averaged(self) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Floats of the EMA copy and of the model, then their integer buffers. Collected once: each module counts."""
        average, own = _tensors(self.ema), _tensors(self.model)
        floats, whole = ([i for i, t in enumerate(own) if t.is_floating_point() is kind] for kind in (True, False))
        return (
            [average[i] for i in floats],
            [own[i] for i in floats],
            [average[i] for i in whole],
            [own[i] for i in whole],
        )

    def note_validation(self, value: float, keep: bool) -> bool:
        """Record a monitored value; True if it is the lowest of the stage. nan is never the lowest.

        Args:
            value: validation loss, or another value that is better the lower it is.
            keep: whether the stage keeps the EMA weights of its lowest value.
        """
        better = math.isfinite(value) and (self.best is None or value < self.best - self.current.until.min_delta)
        if better:
            self.best, self.bad = value, 0
            if keep:
                self.best_weights = {k: v.detach().clone() for k, v in self.ema.state_dict().items()}
        else:
            self.bad += 1
        return better

    def best_model(self) -> Predictor:
        """The model of a snapshot: the EMA copy, with the best weights in a stage that keeps them."""
        if self.best_weights is None:
            return self.ema
        best = copy.deepcopy(self.ema)
        best.load_state_dict(self.best_weights)
        return best

    def leave_stage(self) -> bool:
        """End the stage: restore its best weights, if any, and start the next. False after the last stage.

        Weights that the next stage does not train become those of the EMA copy, which precomputes the latents and is
        saved: else the average would later follow the raw weights, away from what the next stage is trained on.
        """
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
            self.ema.load_state_dict(self.best_weights)
            self.best_weights = None
        self.ended = self.stage + 1 >= len(self.stages)
        if self.ended:
            return False
        self.enter_stage(self.stage + 1)
        self._settle_frozen()
        return True

    @torch.no_grad()
    def _settle_frozen(self) -> None:
        modules = [self.model.get_submodule(name) for phase in self.current.phases for name in phase.modules]
        trained = {id(tensor) for module in modules for tensor in _tensors(module)}
        for own, average in zip(_tensors(self.model), _tensors(self.ema), strict=True):
            if id(own) not in trained:
                own.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors and plain values, which load with weights_only=True."""
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
            "stage_seconds": self.stage_seconds,
            "seed": self.seed,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.enter_stage(saved["stage"])
        self.model.load_state_dict(saved["model"])
        self.ema.load_state_dict(saved["ema"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(saved["optimisers"][name])
        for name in ("step", "stage_step", "ended", "best", "bad", "best_weights", "seconds", "stage_seconds", "seed"):
            setattr(self, name, saved[name])


@dataclass(frozen=True)
class PhaseParts:
    """What a phase trains, collected once: walking through all modules takes milliseconds.

    Attributes:
        parameters: those it trains, each once, in the order of the model.
        others: all other parameters of the model.
        norms: batch norm outside its modules.
    """

    parameters: list[nn.Parameter]
    others: list[nn.Parameter]
    norms: list[nn.Module]

    @classmethod
    def of(cls, model: nn.Module, phase: Phase) -> PhaseParts:
        """Those of a phase of a model."""
        parameters = phase_parameters(model, phase)
        wanted = {id(p) for p in parameters}
        trained = {id(m) for name in phase.modules for m in model.get_submodule(name).modules()}
        return cls(
            parameters,
            [p for p in model.parameters() if id(p) not in wanted],
            [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and id(m) not in trained],
        )


def phase_parameters(model: nn.Module, phase: Phase) -> list[nn.Parameter]:
    """The parameters a phase trains, each once, in the order of the model."""
    found = {id(p): p for name in phase.modules for p in model.get_submodule(name).parameters()}
    return [p for p in model.parameters() if id(p) in found]


def make_optimiser(settings: Optimiser, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The torch optimiser for these settings, fused if available (one kernel instead of ten)."""
    rate = settings.rate(0)
    common: dict[str, Any] = {"lr": rate, "weight_decay": settings.weight_decay}
    if settings.kind == "sgd":
        return torch.optim.SGD(parameters, momentum=settings.momentum, fused=True, **common)
    if settings.kind == "radam":
        return torch.optim.RAdam(parameters, betas=settings.betas, eps=settings.eps, foreach=True, **common)
    adam = torch.optim.AdamW if settings.kind == "adamw" else torch.optim.Adam
    return adam(parameters, betas=settings.betas, eps=settings.eps, fused=True, **common)


def _check_stage(model: Predictor, stage: Stage) -> None:
    names = [p.name for p in stage.phases]
    if len(set(names)) != len(names):
        raise ValueError(f"stage {stage.name!r}: expected unique names of phases, got {names}")
    if not names and next(model.parameters(), None) is not None:
        raise ValueError(f"stage {stage.name!r} has no phases; expected at least one")
    groups = [group for group, _ in itertools.groupby(p.group for p in stage.phases) if group is not None]
    if len(set(groups)) != len(groups):
        raise ValueError(f"stage {stage.name!r}: phases of one group must be consecutive, got groups {groups}")
    for phase in stage.phases:
        for module in phase.modules:
            try:
                model.get_submodule(module)
            except AttributeError as error:
                raise ValueError(
                    f"phase {phase.name!r} trains {module!r}, not a module of the model: {error}"
                ) from error
        if not phase_parameters(model, phase):
            raise ValueError(f"phase {phase.name!r} trains {', '.join(phase.modules)}, which have no parameters")


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
