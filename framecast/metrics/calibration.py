"""Calibration of stochastic predictors: how often samples show each outcome, beside its true probability.

For sources that provide a `OutcomeDistribution` for a clip: outcomes, their probabilities, and a classifier of
frames.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from framecast.core.outcomes import OutcomeDistribution
from framecast.metrics.averages import Series, summarize

_DRAWS, _SEED = 200, 11  # simulated models that sample from the true distribution


@dataclass(frozen=True)
class OutcomeCounts:
    """Outcomes that the samples of one clip show.

    Attributes:
        outcomes: Names, from the distribution.
        probabilities: True probability of each outcome.
        counts: Number of samples that show each outcome.
        unclear: Number of samples that show no outcome.
        distance: Total variation between the frequencies of the classified samples and the true distribution; None
            without a classified sample.
        floor: Expected distance of a model that samples from the true distribution, with as many samples.
    """

    outcomes: tuple[str, ...]
    probabilities: tuple[float, ...]
    counts: tuple[int, ...]
    unclear: int
    distance: float | None
    floor: float


def count_outcomes(law: OutcomeDistribution, samples: Sequence[np.ndarray]) -> OutcomeCounts:
    """Outcomes that the samples of one clip show.

    Args:
        law: True distribution of the clip's outcomes.
        samples: uint8 (t, c, h, w) each, the input of `law.classify`.
    """
    shown = [law.classify(frames) for frames in samples]
    counts = np.array([sum(s == i for s in shown) for i in range(len(law.outcomes))])
    known = int(counts.sum())
    p = np.asarray(law.probabilities)
    distance = float(np.abs(counts / known - p).sum() / 2) if known else None
    drawn = np.random.default_rng(_SEED).multinomial(max(known, 1), p, size=_DRAWS) / max(known, 1)
    floor = float((np.abs(drawn - p).sum(1) / 2).mean())
    return OutcomeCounts(
        law.outcomes, law.probabilities, tuple(int(c) for c in counts), len(shown) - known, distance, floor
    )


def calibration_series(
    clips: Sequence[OutcomeCounts], groups: Sequence[Hashable] | None = None
) -> dict[str, dict[str, Series] | Series]:
    """Averages over the clips of one row, as curves of one number each.

    Args:
        clips: Counts of every clip.
        groups: The video of each clip; None treats clips as independent.

    Returns:
        "frequency" and "probability" -> outcome -> share of the samples and true probability over the same clips;
        "distance", "floor" and "unclear" (share of the samples), see `OutcomeCounts`.
    """

    def mean(values: Sequence[float], at: Sequence[int]) -> Series:
        column = torch.tensor(values, dtype=torch.float64)[:, None]
        return summarize(column, None if groups is None else [groups[i] for i in at])

    totals = [sum(clip.counts) for clip in clips]
    clear = [i for i, clip in enumerate(clips) if clip.distance is not None]
    shown: dict[str, tuple[list[float], list[float], list[int]]] = {}
    for i in clear:
        for name, count, p in zip(clips[i].outcomes, clips[i].counts, clips[i].probabilities, strict=True):
            frequencies, probabilities, at = shown.setdefault(name, ([], [], []))
            frequencies.append(count / totals[i])
            probabilities.append(p)
            at.append(i)
    unclear = [clip.unclear / max(total + clip.unclear, 1) for clip, total in zip(clips, totals, strict=True)]
    return {
        "frequency": {name: mean(found, at) for name, (found, _, at) in shown.items()},
        "probability": {name: mean(known, at) for name, (_, known, at) in shown.items()},
        "distance": mean([clips[i].distance or 0.0 for i in clear], clear),
        "floor": mean([clips[i].floor for i in clear], clear),
        "unclear": mean(unclear, range(len(clips))),
    }
