"""Tables: the sums of many integer keys as two arrays, in the order of the keys.

A table of a hundred thousand keys is packed, checked, merged and sorted within a millisecond or two; dictionaries take
ten times that, and they are most of the time that one master has to itself when all workers are done. So a state that
is large travels as a table where it can: if all keys and all sums are integers of 64 bits, or all keys are and all sums
are finite floats that needed no rounding. If merging two tables rounds, or goes beyond 64 bits, they become
dictionaries again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

LEAST_KEYS = 4096
"""The least keys of a table that travels: with fewer, dictionaries cost no more."""
IMPORT_KEYS = 1 << 16
"""As `LEAST_KEYS`, in a process that has not imported numpy yet, which takes 0.1 s."""

TABLE = 3
"""The form of keys in a table, beside the forms of ``pack_keys``."""
INTEGERS, FLOATS = "i", "f"
_TYPES = {INTEGERS: "<i8", FLOATS: "<f8"}
_WIDTH = 8


class Table:
    """The sum of each key; ``form`` says whether the sums are integers or floats. Its arrays are never changed."""

    __slots__ = ("__dict__", "form", "keys", "sums")

    def __init__(self, form: str, keys: Any, sums: Any) -> None:
        self.form = form
        self.keys = keys  # rising, each once
        self.sums = sums

    @cached_property
    def listed(self) -> list[int]:
        """The keys as Python's integers."""
        return self.keys.tolist()  # type: ignore[no-any-return]  # numpy says Any


def is_large(number: int) -> bool:
    """Whether this number of keys is worth a table."""
    return number >= (LEAST_KEYS if "numpy" in sys.modules else IMPORT_KEYS)


def table_of(form: str, sums: Mapping[Any, Any]) -> Table | None:
    """The table of these sums, which are all of one type. None if a key or a sum does not fit."""
    import numpy as np  # 0.1 s, and only for many keys

    if set(map(type, sums)) != {int}:
        return None
    try:
        keys = np.fromiter(sums, np.int64, len(sums))
        values = np.fromiter(sums.values(), _TYPES[form], len(sums))
    except OverflowError:
        return None
    if form == FLOATS:
        if not np.isfinite(values).all():
            return None
        values += 0.0  # one zero
    if (keys[1:] > keys[:-1]).all():
        return Table(form, keys, values)
    order = np.argsort(keys)
    return Table(form, keys[order], values[order])


def merged(one: Table, other: Table) -> Table | None:
    """The table of the sums of both. None if a sum would be rounded, or does not fit."""
    import numpy as np  # the caller has imported it

    if one.form != other.form:
        return None
    if one.keys.size < other.keys.size:
        one, other = other, one
    if np.array_equal(one.keys, other.keys):
        sums = _added(one.sums, other.sums, one.form)
        return None if sums is None else Table(one.form, one.keys, sums)
    places = np.searchsorted(one.keys, other.keys)
    known = one.keys[np.minimum(places, one.keys.size - 1)] == other.keys
    added = _added(one.sums[places[known]], other.sums[known], one.form)
    if added is None:
        return None
    sums = one.sums.copy()
    sums[places[known]] = added
    places, new = places[~known], ~known
    return Table(one.form, np.insert(one.keys, places, other.keys[new]), np.insert(sums, places, other.sums[new]))


def _added(left: Any, right: Any, form: str) -> Any:
    """The sums of two rows; None if one of them is not exact. For floats the test is that of `Sums.add_floats`."""
    import numpy as np  # as above

    with np.errstate(all="ignore"):
        total = left + right
        if form == FLOATS:
            exact = (total - left == right).all() and (total - right == left).all()
        else:
            exact = (((left ^ total) & (right ^ total)) >= 0).all()  # else both have a sign that the sum has not
    return total if exact else None


def pack_tables(tables: Sequence[Table]) -> tuple[int, int, bytes, list[tuple[str, bytes]]]:
    """Tables of the same keys as data that msgpack has: the number of keys, `TABLE`, the keys, the sums of each."""
    keys = tables[0].keys
    rows = [(table.form, table.sums.astype(_TYPES[table.form], copy=False).tobytes()) for table in tables]
    return len(keys), TABLE, keys.astype(_TYPES[INTEGERS], copy=False).tobytes(), rows


def unpack_tables(number: int, packed: Any, columns: Sequence[Any]) -> list[Table]:
    """The tables that were packed. Raises ValueError for other data."""
    keys = _row(INTEGERS, packed, number)
    if number < LEAST_KEYS or not (keys[1:] > keys[:-1]).all():
        raise ValueError("a table whose keys are few, or do not rise")
    return [_unpacked(keys, column) for column in columns]


def _unpacked(keys: Any, packed: Any) -> Table:
    import numpy as np  # as above

    form, body = packed if type(packed) is list and len(packed) == 2 else ("", b"")
    if form not in (INTEGERS, FLOATS):
        raise ValueError("a table with sums in no known form")
    sums = _row(form, body, len(keys))
    if form == FLOATS:
        if not np.isfinite(sums).all():
            raise ValueError("a table with a sum that is not finite")
        sums = sums + 0.0  # one zero
    return Table(form, keys, sums)


def _row(form: str, packed: Any, number: int) -> Any:
    import numpy as np  # as above

    if type(packed) is not bytes or len(packed) != number * _WIDTH:
        raise ValueError(f"a row of a table should have {number} numbers")
    return np.frombuffer(packed, _TYPES[form])
