"""Detection: a threshold with a stated false-alarm rate.

Source: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, section 2.2 (conformal quantile).
"""

from __future__ import annotations

import math

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
