"""Random seeds derived from their purpose, equal on every machine."""

from __future__ import annotations

import hashlib
from typing import Any


def seed_for(*parts: Any) -> int:
    """A 63-bit seed, the same on every machine.

    Args:
        parts: values with a deterministic `repr`, such as the run's seed, a purpose and a step.

    Returns:
        An integer in 0…2^63 - 1 that differs for different parts.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
