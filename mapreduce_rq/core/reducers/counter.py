"""Counts how often each key occurs, and finds the most frequent keys.

A key is a text, bytes, a bool, an integer, a float or a tuple of texts, bytes and integers. Keys of different types are
different: True, 1 and 1.0 are three keys. In a Python dictionary they are one key, and it would keep the one that came
first, which depends on the schedule.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from operator import add, index, itemgetter
from typing import Any, ClassVar

import msgspec

from mapreduce_rq.core.numbers.integers import from_bytes, to_bytes
from mapreduce_rq.core.outcome import Deferred, Outcome
from mapreduce_rq.core.plain_values import pack, unpack_all
from mapreduce_rq.core.reducers.base import BadValue, Reducer
from mapreduce_rq.core.reducers.sums import batches, is_array, listed
from mapreduce_rq.core.text import in_lines
from mapreduce_rq.core.written import written

Key = Any
Counts = dict[str, "Counter[Key]"]
"""For each kind of key (a letter of KINDS) its counts; kinds without keys are absent."""

KINDS: dict[type, str] = {bool: "?", int: "i", float: "f", bytes: "b", str: "s", tuple: "t"}
"""The kinds of keys, in the order in which they are listed."""

_TYPES = {kind: each for each, kind in KINDS.items()}
_PLAIN = {"?", "i", "b", "s"}  # kinds of which each value is a key as it is
_MSGPACK = {"?", "b", "s"}  # kinds that msgpack itself has
_MANY = {list, set, frozenset}
_TORN = "+"
"""Before the letter of a kind: each key is packed by itself, as a text has halves of characters, which msgpack cannot
write."""

LISTED = 1000
"""From this number of keys, a job's record does not have the result as text: the text is made on demand."""

TAKES = "keys (text, bytes, bool, int, float, or a tuple of texts, bytes and ints), or lists, sets or dicts of them"


class CounterReducer(Reducer[Counts]):
    """The number of times that each key occurs.

    A term's value is one key, or many keys: a list, set or iterator of keys, or a dictionary of keys and counts.
    """

    name: ClassVar[str] = "counter"
    wide: ClassVar[bool] = True
    joins: ClassVar[bool] = True

    def zero(self) -> Counts:
        return {}

    def breadth(self, partial: Counts) -> int:
        return sum(map(len, partial.values()))

    def merge(self, left: Counts, right: Counts) -> Counts:
        for kind, counts in right.items():
            add_counts(left.setdefault(kind, Counter()), counts)
        return left

    def encode(self, partial: Counts) -> bytes:
        """The bytes: for each kind two rows, its keys and their counts, in any order."""
        counted = [(kind, counts) for kind, counts in partial.items() if counts]
        try:
            return _ENCODER.encode(
                [
                    (
                        kind,
                        list(counts) if kind in _MSGPACK else [_pack(kind, key) for key in counts],
                        list(counts.values()),
                    )
                    for kind, counts in counted
                ]
            )
        except UnicodeEncodeError:
            return _ENCODER.encode(
                [(_TORN + kind, list(map(pack, counts)), list(counts.values())) for kind, counts in counted]
            )

    def canonical(self, partial: Counts) -> bytes:
        rows = [(kind, _sorted(kind, counts), counts) for kind in KINDS.values() if (counts := partial.get(kind))]
        try:
            return _ENCODER.encode(
                [(kind, [(_pack(kind, key), counts[key]) for key in keys]) for kind, keys, counts in rows]
            )
        except UnicodeEncodeError:
            return _ENCODER.encode(
                [(_TORN + kind, [(pack(key), counts[key]) for key in keys]) for kind, keys, counts in rows]
            )

    def decode(self, data: bytes) -> Counts:
        try:
            found: Counts = {}
            for kind, packed, row in _DECODER.decode(data):
                keys = packed
                if kind[:1] == _TORN:
                    kind, keys = kind[1:], unpack_all(len(packed), b"".join(packed))  # noqa: PLW2901  the kind itself
                    if any(_checked(key) != (kind, key) for key in keys):
                        raise ValueError(f"keys of another kind than {kind}")
                elif kind not in _MSGPACK:
                    keys = [_unpack(kind, key) for key in packed]
                elif set(map(type, keys)) != {_TYPES[kind]}:
                    raise ValueError(f"keys of another kind than {kind}")
                counts = Counter(dict(zip(keys, row, strict=True)))
                if kind in found or not keys or len(counts) != len(keys) or min(row) < 1:
                    raise ValueError("counts that no counter makes")
                found[kind] = counts
        except (msgspec.MsgspecError, TypeError, UnicodeDecodeError) as error:
            raise ValueError(f"not counts: {error}") from None
        return found

    def fold(self, lo: int, values: Iterable[Any]) -> Counts:
        return self.fold_into({}, lo, values)

    def fold_at(self, terms: Sequence[int], values: Sequence[Any], partial: Counts | None = None) -> Counts:
        try:
            return self.fold_into({} if partial is None else partial, 0, values)
        except BadValue as error:
            raise error.at_row(terms) from None

    def fold_into(self, partial: Counts, lo: int, values: Iterable[Any]) -> Counts:
        if is_array(values):
            values = listed(values)
        for start, batch in batches(lo, values):
            types = set(map(type, batch))
            if len(types) == 1 and (kind := KINDS.get(next(iter(types)))) in _PLAIN:
                partial.setdefault(kind, Counter()).update(batch)
                continue
            if types <= _MANY and self._count_texts(partial, batch):
                continue
            for term, value in enumerate(batch, start):
                try:
                    self._count(partial, value)
                except TypeError:
                    raise BadValue(term, value, TAKES) from None
        return partial

    def _count_texts(self, found: Counts, batch: Sequence[Iterable[Any]]) -> bool:
        """Count the keys of all these values in one call, if all are texts. Otherwise it counts none:
        False.
        """
        counts = found.setdefault("s", Counter())
        before = len(counts)
        try:
            counts.update(chain.from_iterable(batch))
        except TypeError:  # one of them is not a key: counting one by one finds it
            return False
        if set(map(type, islice(reversed(counts), len(counts) - before))) <= {str}:  # the new keys are the last ones
            return True
        counts.subtract(chain.from_iterable(batch))
        found["s"] = +counts
        return False

    def _count(self, found: Counts, value: Any) -> None:
        """Count the key or keys that one term returned. Raises TypeError for a value that is not a key."""
        pairs: Iterable[tuple[Key, int]]
        if type(value) in KINDS:
            pairs = ((value, 1),)
        elif isinstance(value, Mapping):
            pairs = value.items()
        elif is_array(value):
            whole = listed(value)
            pairs = ((key, 1) for key in (whole if isinstance(whole, list) else [whole]))
        elif isinstance(value, (bytearray, memoryview)):
            raise TypeError
        else:
            pairs = ((key, 1) for key in value)
        for given, count in pairs:
            kind, key = _checked(given)
            if type(count) is not int or count < 0:
                raise TypeError
            if count:
                found.setdefault(kind, Counter())[key] += count

    def finish_native(self, partial: Counts) -> Any:
        """A Counter. If True and 1, or 1 and 1.0, both occur, it has one of them: the one that is listed last."""
        whole: Counter[Key] = Counter()
        for kind in KINDS.values():
            counts: Mapping[Key, int] = partial.get(kind, {})
            for key in _sorted(kind, counts):
                whole[key] = whole.pop(key, 0) + counts[key]
        return whole

    def describe(self, partial: Counts) -> Outcome:
        distinct, counted = sum(map(len, partial.values())), sum(map(Counter.total, partial.values()))
        large = distinct > LISTED
        return Outcome(
            value="" if large else "".join(self._text(partial)),
            text=Deferred(self._text, partial) if large else None,
            bound="0",
            bound_kind="exact",
            native=Deferred(self.finish_native, partial) if large else self.finish_native(partial),
            details={"distinct": distinct, "counted": counted},
            total=Deferred(self.canonical, partial) if large else None,
        )

    def _text(self, partial: Counts) -> Iterator[str]:
        return in_lines(f"{count}\t{written(key)}" for key, count in ranked(partial))


class TopK(CounterReducer):
    """The k most frequent keys; of equally frequent keys the smallest first. It counts all keys, so it is exact."""

    name: ClassVar[str] = "topk"

    def __init__(self, k: int = 10) -> None:
        self.k = index(k)
        if k < 1:
            raise ValueError(f"k is {k}, and must be at least 1")

    def finish_native(self, partial: Counts) -> list[tuple[Key, int]]:
        return ranked(partial, self.k)

    def describe(self, partial: Counts) -> Outcome:
        rows = ranked(partial, self.k)
        return Outcome(
            value="\n".join(f"{count}\t{written(key)}" for key, count in rows),
            bound="0",
            bound_kind="exact",
            native=rows,
            details={
                "distinct": sum(map(len, partial.values())),
                "counted": sum(map(Counter.total, partial.values())),
            },
        )


def ranked(counts: Counts, top: int | None = None) -> list[tuple[Key, int]]:
    """All keys, or the ``top`` first ones, with their counts: in falling order of the count, then by kind and key."""
    least = 0
    if top is not None and top < sum(map(len, counts.values())):
        least = heapq.nlargest(top, chain.from_iterable(map(dict.values, counts.values())))[-1]
    rows = [
        (key, counts[kind][key])
        for kind in KINDS.values()
        if kind in counts
        for key in _sorted(kind, (key for key, count in counts[kind].items() if count >= least))
    ]
    rows.sort(key=itemgetter(1), reverse=True)  # the sort is stable: equal counts stay in the order of their keys
    return rows[:top]


def add_counts(left: dict[Key, int], right: Mapping[Key, int]) -> None:
    """Add the counts of each key, in C."""
    sums = zip(right, map(add, map(left.get, right, repeat(0)), right.values()), strict=True) if left else right
    dict.update(left, sums)  # the method of Counter would count the pairs


def _checked(key: Key) -> tuple[str, Key]:
    """The kind of a key, and the key in its normal form. Raises TypeError for a value that is not a key."""
    kind = KINDS.get(type(key))
    if kind is None:
        raise TypeError
    if kind == "f":
        if math.isnan(key):
            raise TypeError
        return kind, key + 0.0  # one zero
    if kind == "t" and not all(type(part) in {str, bytes} or (type(part) is int and _fits(part)) for part in key):
        raise TypeError
    return kind, key


def _sorted(kind: str, keys: Iterable[Key]) -> list[Key]:
    if kind == "t":
        return sorted(keys, key=lambda key: [(type(part).__name__, part) for part in key])
    return sorted(keys)


def _fits(number: int) -> bool:
    return -(1 << 63) <= number < 1 << 63


def _pack(kind: str, key: Key) -> Any:
    """A key in a form that msgpack has: an integer beyond 64 bits as its bytes."""
    return to_bytes(key) if kind == "i" and not _fits(key) else key


def _unpack(kind: str, packed: Any) -> Key:
    """The key that :func:`_pack` was given. Raises ValueError for data that it cannot have made."""
    key = int(from_bytes(packed)) if kind == "i" and isinstance(packed, bytes) else packed
    if kind == "t" and isinstance(key, list):
        key = tuple(key)
    try:
        found, checked = _checked(key)
    except TypeError:
        found = ""
    if found != kind or (key is not packed and kind == "i" and _fits(key)):
        raise ValueError(f"{packed!r} is no key of the kind {kind}")
    return checked


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[tuple[str, list[Any], list[int]]])
