"""True distribution of a clip's futures, provided by sources for which it is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class OutcomeDistribution:
    """True distribution of the possible futures of a clip, for a test of the frequencies of sampled futures.

    Attributes:
        outcomes: names of the outcomes.
        probabilities: of each outcome, at least 0, with sum 1.
        classify: future frames, uint8 (t, c, h, w) at the source's size -> index of their outcome, or None.
    """

    outcomes: tuple[str, ...]
    probabilities: tuple[float, ...]
    classify: Callable[[np.ndarray], int | None]

    def __post_init__(self) -> None:
        if not self.outcomes or len(self.outcomes) != len(self.probabilities):
            raise ValueError(
                f"OutcomeDistribution: expected {len(self.outcomes)} probabilities, got {len(self.probabilities)}"
            )
        if min(self.probabilities) < 0 or abs(sum(self.probabilities) - 1) > 1e-6:
            raise ValueError(f"OutcomeDistribution: expected probabilities with sum 1, got {self.probabilities}")
