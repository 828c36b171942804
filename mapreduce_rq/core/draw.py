"""A range in a random order, in which each place depends only on its index: all workers get the same order.

The first terms are then a random sample of the range, without replacement, so a tolerance may end a job early. The
order is a permutation by a Feistel network (Luby and Rackoff, "How to construct pseudorandom permutations from
pseudorandom functions", 1988) on the smallest power of two that holds the range. A place outside of the range goes
through the network again until it is inside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002), less
than once on average.
"""

from __future__ import annotations

from typing import Any

ROUNDS = 8
_WORD = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # of splitmix64, which scatters a word


def drawn(lo: int, hi: int, size: int, key: int) -> list[int]:
    """The places of terms ``lo <= k < hi`` in a range of ``size``. All ``size`` terms have all places, each once."""
    import numpy as np  # heavy, hence here

    bits = max(2, (size - 1).bit_length())
    places = _permuted(np.arange(lo, hi, dtype=np.uint64), bits, key)
    while (outside := np.flatnonzero(places >= size)).size:
        places[outside] = _permuted(places[outside], bits, key)
    found: list[int] = places.tolist()
    return found


def _permuted(places: Any, bits: int, key: int) -> Any:
    import numpy as np  # its caller has imported it

    low = bits // 2
    shift, masks = np.uint64(low), (np.uint64((1 << low) - 1), np.uint64((1 << (bits - low)) - 1))
    halves = [places & masks[0], places >> shift]
    for number in range(ROUNDS):
        changed, other = halves[number % 2], halves[1 - number % 2]
        changed ^= _scattered(other + np.uint64((key + (number + 1) * _ODD) & _WORD)) & masks[number % 2]
    return halves[1] << shift | halves[0]


def _scattered(words: Any) -> Any:
    """The last step of splitmix64: each bit of a word changes each bit of its image half of the time."""
    import numpy as np  # its caller has imported it

    words = (words ^ words >> np.uint64(30)) * np.uint64(_FIRST)
    words = (words ^ words >> np.uint64(27)) * np.uint64(_SECOND)
    return words ^ words >> np.uint64(31)
