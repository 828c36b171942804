"""Blocks: how many values of a function are held before they are folded.

The memory of a task must not grow with its size, and a fold has a cost for each call. A wide reducer has hardly any: so
its blocks are small enough for the values, all objects of Python, to stay in the cache of the processor until they are
folded. Lists of ten words each, 20 000 of them in a block, take twice the time of a loop that holds one at a time.
"""

from __future__ import annotations

from typing import Any

from mapreduce_rq.core.reducers.base import Reducer
from mapreduce_rq.core.written import weight_of

BLOCK = 8192
"""Values of a block, unless the reducer is wide."""

WIDE_BLOCK = 2048
"""As `BLOCK`, for a wide reducer, which has no fixed cost per block: a small block of pairs stays in the cache, and its
memory is used again without a run of the garbage collector."""
LEAST_BLOCK = 64
"""The least values of a block for a wide reducer, however many things each of them has."""
HELD_BYTES = 64 << 20
"""Bytes of arrays and texts held at a time, unless a single value has more."""

_MANY = frozenset({list, dict, set, frozenset})


def block_after(reducer: Reducer[Any], value: Any) -> int:
    """How many values to hold at a time, if the next ones are like this one."""
    largest = WIDE_BLOCK if reducer.wide else BLOCK
    most = max(1, HELD_BYTES // max(1, weight_of(value)))
    if reducer.wide and type(value) in _MANY and value:
        largest = max(LEAST_BLOCK, largest // (2 * len(value)))
    return min(largest, most)
