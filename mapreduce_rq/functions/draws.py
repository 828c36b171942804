"""Random numbers that depend on a term and a seed, and on nothing else.

A term may be computed by any worker, twice, or again after a crash, and its value must be the same each time. A
generator that one process keeps would give other numbers each time. So each term has its own part of one counter-based
generator (Philox; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): the seed is its key, the term is
the upper half of its counter. Two parts overlap only after 2^130 words, and `montecarlo` uses other keys.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, SupportsIndex

from mapreduce_rq.core.given import shown
from mapreduce_rq.errors import BadParameter

if TYPE_CHECKING:
    import numpy as np

_KEY_OF_TERMS = 1 << 64
"""This bit stands beside the seed in the key; `montecarlo` has the seed alone."""
_MOST = 1 << 127


def random_for(term: SupportsIndex, seed: SupportsIndex = 0) -> np.random.Generator:
    """A numpy generator whose numbers depend on ``term`` and ``seed`` only, on any worker and with any schedule.

    ``term``: the item of a range, or the index of an item (from ``enumerate(items)``), from -2^127 up to 2^127.
    ``seed``: below 2^64; another seed gives other numbers. ``random()`` and ``integers()`` give the same bits on any
    machine; other distributions use the C library's functions, whose last bit may differ. A generator takes about
    20 us to make. Raises BadParameter.
    """
    import numpy as np  # heavy, hence here

    try:
        at, key = index(term), index(seed)
    except TypeError:
        raise BadParameter(f"random_for: {shown(term)} and {shown(seed)}: a term and a seed must be integers") from None
    if not -_MOST <= at < _MOST:
        raise BadParameter(f"random_for: the term {term} must be from -2^127 up to 2^127")
    if not 0 <= key < 1 << 64:
        raise BadParameter(f"random_for: the seed {seed} must be from 0 to 2^64 - 1")
    return np.random.Generator(np.random.Philox(key=_KEY_OF_TERMS | key, counter=(at % (2 * _MOST)) << 128))
