"""Schedules: learning rates over steps or the elapsed share, and the steps at which a phase runs."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Decay:
    """A learning rate that changes linearly from `start` to `end` in `steps` steps and then stays constant."""

    start: float
    end: float
    steps: int

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)


@dataclass(frozen=True)
class Cosine:
    """A factor on the learning rate that falls from 1 to `end` along half a cosine, over the elapsed share 0…1."""

    end: float = 0.01

    def __call__(self, elapsed: float) -> float:
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * min(max(elapsed, 0.0), 1.0))) / 2


def always(step: int) -> bool:
    """Schedule of a phase that runs at every step."""
    return True


@dataclass(frozen=True)
class every:
    """Schedule of a phase that runs at steps `offset`, `offset + n`, … of the stage; it has no state to resume."""

    n: int
    offset: int = 0

    def __call__(self, step: int) -> bool:
        return step >= self.offset and (step - self.offset) % self.n == 0


@dataclass(frozen=True)
class between:
    """Schedule of a phase that runs at all steps except those of `every(n)`, such as n - 1 critic steps of n."""

    n: int

    def __call__(self, step: int) -> bool:
        return step % self.n != 0
