"""Seeds derived from what they are for, equal on every machine."""

from __future__ import annotations

import hashlib
from typing import Any


def seed_for(*parts: Any) -> int:
    """A 63-bit seed from anything printable: the same on every machine, different for different parts."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
