"""Columns as they travel: equal sums have equal bytes, and no other bytes can be read."""

from __future__ import annotations

from typing import Any

import msgspec

from mapreduce_rq.core.numbers.columns import LIMIT, Columns
from mapreduce_rq.core.numbers.error_free import overlap
from mapreduce_rq.core.numbers.exact import UNIT_BITS
from mapreduce_rq.core.numbers.integers import from_bytes, to_bytes

_MOST_LEVELS = 64  # 2098 bits of all doubles and 64 of a count, 53 in a level: 41, and some that overlap


class Packed(msgspec.Struct, array_like=True):
    """Settled sums as they travel: levels as doubles, and apart from them the columns that levels cannot hold."""

    levels: list[memoryview]
    places: list[bytes]  # of the doubles of a level that is mostly 0, as 64-bit words; empty: it holds all of them
    odd: list[int]  # columns in rising order
    units: list[bytes]  # of these
    plus: bytes  # a bit for each column, or nothing
    minus: bytes

    @property
    def size(self) -> int:
        """The number of columns; the first level always has them all."""
        return len(self.levels[0]) // 8 if self.levels else 0


def packed_columns(sums: Columns) -> Packed:
    """Settle the sums and pack them."""
    import numpy as np  # the caller has imported it

    sums.settle()
    levels, places = sums.levels[:1] or [np.zeros(sums.size)], [b""] * max(len(sums.levels), 1)
    for place, level in enumerate(sums.levels[1:], 1):
        where = np.flatnonzero(level)
        levels.append(level)
        if 2 * where.size < sums.size:
            levels[place], places[place] = level[where], where.astype("<i8").tobytes()
    odd = sorted(sums.odd.items())
    return Packed(
        [memoryview(level.astype("<f8", copy=False).view(np.uint8)) for level in levels],
        places,
        [column for column, _ in odd],
        [to_bytes(units) for _, units in odd],
        *(b"" if seen is None else np.packbits(seen).tobytes() for seen in (sums.plus, sums.minus)),
    )


def unpacked_columns(size: int, packed: Packed, unit_bits: int = UNIT_BITS) -> Columns:
    """The sums that were packed. Raises ValueError for what :func:`packed_columns` cannot have written."""
    import numpy as np  # the caller may not have imported it: 0.1 s, and only for arrays

    found = Columns(size, unit_bits)
    if len(packed.levels) != len(packed.places) or not 0 < len(packed.levels) <= _MOST_LEVELS:
        raise ValueError(f"a sum has {len(packed.levels)} levels, and {len(packed.places)} lists of places")
    for level, places in zip(packed.levels, packed.places, strict=True):
        found.levels.append(_level_of(size, level, places, dense=not found.levels))
    with np.errstate(all="ignore"):
        if any(map(overlap, found.levels, found.levels[1:])):
            raise ValueError("the levels of a sum overlap")
    if len(packed.odd) != len(packed.units):
        raise ValueError(f"a sum has {len(packed.odd)} odd columns, and {len(packed.units)} integers for them")
    if packed.odd != sorted(set(packed.odd)) or not all(0 <= column < size for column in packed.odd):
        raise ValueError("the odd columns are not of this sum, or not in order")
    found.odd = dict(zip(packed.odd, map(int, map(from_bytes, packed.units)), strict=True))
    if not all(map(found.is_odd, found.odd.values())):
        raise ValueError("an odd column could be held by levels: this is not its shortest form")
    found.plus, found.minus = (_places_of(size, bits) for bits in (packed.plus, packed.minus))
    return found


def _level_of(size: int, level: memoryview, places: bytes, *, dense: bool) -> Any:
    """A level as an array. Raises ValueError for bytes that are not a level."""
    import numpy as np  # the caller has imported it

    if len(level) % 8 or len(places) % 8:
        raise ValueError(f"{len(level)} bytes of doubles, and {len(places)} of places")
    found = np.frombuffer(level, "<f8")
    found.flags.writeable = False
    if not (found.max(initial=0.0) < LIMIT and found.min(initial=0.0) > -LIMIT):
        raise ValueError("a level of a sum is not finite, or too large")
    if not places:
        if found.size != size:
            raise ValueError(f"{found.size} doubles for {size} columns")
        return found
    where = np.frombuffer(places, "<i8")
    if dense or where.size != found.size or 2 * where.size >= size or not found.all():
        raise ValueError("a level of a sum is not in its shortest form")
    if where[0] < 0 or where[-1] >= size or (np.diff(where) <= 0).any():
        raise ValueError("columns that are none of this sum, or in no order")
    level_of_all = np.zeros(size)
    level_of_all[where] = found
    return level_of_all


def _places_of(size: int, bits: bytes) -> Any:
    """Booleans from bits; None for no bytes. Raises ValueError for another number of bits, or if all are 0."""
    import numpy as np  # the caller has imported it

    if not bits:
        return None
    if len(bits) != (size + 7) // 8:
        raise ValueError(f"{len(bits)} bytes of bits for {size} columns")
    found = np.unpackbits(np.frombuffer(bits, np.uint8))
    if found[size:].any() or not found.any():
        raise ValueError("a set of columns is empty, and has bytes: this is not its shortest form")
    return found[:size].astype(bool)
