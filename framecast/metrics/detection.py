"""Detection: a threshold with a stated false-alarm rate, area under the ROC curve, interval of a share.

Source: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, section 2.2 (conformal quantile);
Hanley and McNeil, Radiology 143, 1982 (AUC as a rank statistic); Clopper and Pearson, Biometrika 26, 1934.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from framecast.core.errors import UserError


def conformal_threshold(scores: np.ndarray, rate: float) -> float:
    """Threshold that a further score, exchangeable with these, exceeds with a probability of at most `rate`.

    The ceil((n + 1)(1 - rate))-th smallest of n scores.

    Args:
        scores: float (n,), one per independent unit, such as a block of frames.
        rate: false-alarm rate per unit, above 0 and below 1.

    Raises:
        UserError: for fewer scores than the rate needs.
    """
    if not 0 < rate < 1:
        raise UserError(f"the false-alarm rate must be above 0 and below 1, got {rate:g}")
    rank = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    if rank > len(scores):
        least = math.ceil(1 / rate - 1 - 1e-9)
        raise UserError(
            f"a false-alarm rate of {rate:g} needs at least {least} blocks of normal material, got {len(scores)}; "
            f"give more of it, shorter blocks, or a rate of at least {math.ceil(1e4 / (len(scores) + 1)) / 1e4:g}"
        )
    return float(np.sort(np.asarray(scores, np.float64))[rank - 1])


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve: probability that a positive scores above a negative, ties counted half.

    Args:
        scores: float (n,).
        labels: bool (n,), true for positives.

    Returns:
        0…1; NaN without positives or without negatives.
    """
    labels = np.asarray(labels, bool)
    _, place, counts = np.unique(np.asarray(scores, np.float64), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # of ties the mean rank
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return math.nan
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def binomial_interval(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a share.

    Args:
        hits: number of successes, 0…count.
        count: number of independent trials, at least 1.
        level: confidence level, 0…1.

    Returns:
        Lower and upper bound in 0…1.
    """
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else _solved(lambda p: 1 - _cumulative(hits - 1, count, p), tail)
    high = 1.0 if hits == count else _solved(lambda p: 1 - _cumulative(hits, count, p), 1 - tail)
    return low, high


def _solved(rising: Callable[[float], float], value: float) -> float:
    """The argument in 0…1 at which a rising function reaches a value, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2


def _cumulative(k: int, n: int, p: float) -> float:
    """P(X <= k) of a binomial distribution, 0 < p < 1."""
    return sum(
        math.exp(
            math.lgamma(n + 1)
            - math.lgamma(i + 1)
            - math.lgamma(n - i + 1)
            + i * math.log(p)
            + (n - i) * math.log1p(-p)
        )
        for i in range(k + 1)
    )
