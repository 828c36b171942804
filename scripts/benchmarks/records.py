"""Records of many keys, whose sums are known. Workers import this by its name."""

from __future__ import annotations

import os

VARIABLE = "MRQ_MANY_KEYS"
KEYS = int(os.environ.get(VARIABLE, "10000000"))
"""A power of ten."""
PRIME = 1_000_003
"""It divides no power of ten: so each key comes equally often, and neighbours are far from each other."""


def record(k: int) -> tuple[int, int]:
    """One of the keys, and a value from 0 to 9 which is the same each time that the key comes."""
    key = k * PRIME % KEYS
    return key, key % 10
