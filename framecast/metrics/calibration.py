"""Whether a stochastic model's samples show what can happen as often as it does, where the source knows how often.

The source gives a `types.Law` for a clip: outcomes, their probabilities, and what tells which one frames show.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from framecast.core.types import OutcomeDistribution
from framecast.metrics.averages import Running, Series

_DRAWS, _SEED = 200, 11  # simulated models that draw from the law itself


@dataclass(frozen=True)
class Told:
    """One clip of one row. outcomes, probabilities: of its law.  counts: samples that show each outcome.  unclear:
    samples that show none.  distance: total variation between the frequencies of those that show one and the law; None
    if none does.  floor: its mean for a model that draws from the law, with as many samples."""

    outcomes: tuple[str, ...]
    probabilities: tuple[float, ...]
    counts: tuple[int, ...]
    unclear: int
    distance: float | None
    floor: float


def tell(law: OutcomeDistribution, samples: Sequence[np.ndarray]) -> Told:
    """What the samples of one clip show.

    samples: uint8 (t, c, h, w) each, as the law's `tell` wants them.
    """
    shown = [law.classify(frames) for frames in samples]
    counts = np.array([sum(s == i for s in shown) for i in range(len(law.outcomes))])
    known = int(counts.sum())
    p = np.asarray(law.probabilities)
    distance = float(np.abs(counts / known - p).sum() / 2) if known else None
    drawn = np.random.default_rng(_SEED).multinomial(max(known, 1), p, size=_DRAWS) / max(known, 1)
    floor = float((np.abs(drawn - p).sum(1) / 2).mean())
    return Told(law.outcomes, law.probabilities, tuple(int(c) for c in counts), len(shown) - known, distance, floor)


@dataclass
class CalibrationTally:
    """Averages over clips of one row.

    made, known: outcome -> frequency among the samples, and probability by the law, over the same clips.  distance,
    floor, unclear: see `Told`; unclear as a share of the samples.
    """

    made: dict[str, Running] = field(default_factory=dict)
    known: dict[str, Running] = field(default_factory=dict)
    distance: Running = field(default_factory=lambda: Running(1))
    floor: Running = field(default_factory=lambda: Running(1))
    unclear: Running = field(default_factory=lambda: Running(1))

    def add(self, told: Told, group: Hashable = None) -> None:
        """Take in one clip. group: its video."""
        groups = None if group is None else [group]

        def number(value: float) -> torch.Tensor:
            return torch.tensor([[value]], dtype=torch.float64)

        total = sum(told.counts)
        self.unclear.add(number(told.unclear / max(total + told.unclear, 1)), groups)
        if told.distance is None:
            return
        self.distance.add(number(told.distance), groups)
        self.floor.add(number(told.floor), groups)
        for name, count, p in zip(told.outcomes, told.counts, told.probabilities, strict=True):
            self.made.setdefault(name, Running(1)).add(number(count / total), groups)
            self.known.setdefault(name, Running(1)).add(number(p), groups)

    def series(self) -> dict[str, dict[str, Series] | Series]:
        """Curves of one number each, by name."""
        return {
            "frequency": {n: r.series() for n, r in self.made.items()},
            "probability": {n: r.series() for n, r in self.known.items()},
            "distance": self.distance.series(),
            "floor": self.floor.series(),
            "unclear": self.unclear.series(),
        }
