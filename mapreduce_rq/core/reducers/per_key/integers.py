"""The columns of sums of integers and of counts: one integer for each key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from operator import length_hint
from typing import Any

from mapreduce_rq.core.numbers.integers import from_bytes, to_bytes
from mapreduce_rq.core.reducers.base import BadValue
from mapreduce_rq.core.reducers.counter import add_counts
from mapreduce_rq.core.reducers.keys import Key
from mapreduce_rq.core.reducers.per_key.column import SECOND, Column, Rows
from mapreduce_rq.core.reducers.per_key.packed import row_of
from mapreduce_rq.core.reducers.sums import integers


class IntColumn(Column[dict[Key, int]]):
    """A sum of integers for each key."""

    def zero(self) -> dict[Key, int]:
        return {}

    def add(self, state: dict[Key, int], rows: Rows) -> None:
        if not are_integers(rows):
            try:
                rows = rows.having(rows.keys, integers(0, rows.values))
            except BadValue as error:
                rows.refuse(error.term, error.takes)
        add_all(state, rows.pairs)

    def add_first(self, state: dict[Key, int], pairs: Sequence[Any], kind: type) -> int:
        return add_first_integers(state, pairs, kind)

    def merge(self, left: dict[Key, int], right: dict[Key, int]) -> None:
        add_counts(left, right)

    def copy(self, state: dict[Key, int]) -> dict[Key, int]:
        return dict(state)

    def only(self, state: dict[Key, int], keys: Sequence[Key]) -> dict[Key, int]:
        return dict(zip(keys, map(state.__getitem__, keys), strict=True))

    def keys(self, state: dict[Key, int]) -> Collection[Key]:
        return state.keys()

    def breadth(self, state: dict[Key, int]) -> int:
        return len(state)

    def exact(self, state: dict[Key, int]) -> bool:
        return True

    def pack(self, state: dict[Key, int], keys: Sequence[Key]) -> Any:
        return pack_integers(list(map(state.__getitem__, keys)))

    def unpack(self, keys: Sequence[Key], packed: Any) -> dict[Key, int]:
        row = unpack_integers(packed, len(keys))
        if None in row:
            raise ValueError("a key without a sum")
        return dict(zip(keys, row, strict=True))

    def results(self, state: dict[Key, int], keys: Sequence[Key]) -> list[Any]:
        return list(map(state.__getitem__, keys))


class CountColumn(IntColumn):
    """The number of values of each key."""

    def add(self, state: dict[Key, int], rows: Rows) -> None:
        if type(None) in set(map(type, rows.values)):
            rows.refuse(next(row for row, value in enumerate(rows.values) if value is None), "any value but None")
        add_counts(state, Counter(rows.keys))

    def add_first(self, state: dict[Key, int], pairs: Sequence[Any], kind: type) -> int:
        return 0  # ``add`` counts in C


def are_integers(rows: Rows) -> bool:
    """Whether all values are integers. Only then is their sum an integer."""
    try:
        return type(sum(map(SECOND, rows.pairs))) is int
    except Exception:  # of a type of the user
        return False


def add_first_integers(sums: dict[Key, int], pairs: Sequence[Any], kind: type) -> int:
    """As ``Column.add_first``, for sums of integers."""
    get = sums.get
    rest = iter(pairs)
    with suppress(ValueError):  # one that is not of two
        for key, value in rest:
            if type(key) is not kind or type(value) is not int:
                break
            sums[key] = get(key, 0) + value
        else:
            return len(pairs)
    return len(pairs) - length_hint(rest) - 1


def add_all(sums: dict[Key, int], pairs: Iterable[tuple[Key, int]]) -> None:
    """Add each integer to the sum of its key."""
    get = sums.get
    for key, value in pairs:
        sums[key] = get(key, 0) + value


def pack_integers(values: list[Any]) -> list[Any]:
    """Integers in a form that msgpack has: those beyond 64 bits as bytes. None stays None."""
    there = [value for value in values if value is not None] if None in values else values
    if min(there, default=0) >= _LEAST and max(there, default=0) < _BEYOND:
        return values
    return [value if value is None or _LEAST <= value < _BEYOND else to_bytes(value) for value in values]


def unpack_integers(packed: Any, number: int) -> list[Any]:
    """The integers that were packed, and None where None was. Raises ValueError for other data."""
    row = row_of(packed, number, int, bytes, type(None))
    return [_large(value) if type(value) is bytes else value for value in row] if bytes in set(map(type, row)) else row


def _large(data: bytes) -> int:
    value = int(from_bytes(data))  # it makes an mpz of a large integer
    if _LEAST <= value < _BEYOND:
        raise ValueError("an integer that has a shorter form")
    return value


_LEAST, _BEYOND = -(1 << 63), 1 << 64
