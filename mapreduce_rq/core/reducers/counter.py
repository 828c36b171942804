"""How often each key occurs, and the most frequent ones.

A key is a text, bytes, a bool, an integer, a float or a tuple of texts, bytes and integers. Keys of different types
are different (True, 1 and 1.0 are three keys), although Python's dictionaries take them for one: which of them a
dictionary kept would depend on the order of arrival.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from operator import index
from typing import Any, ClassVar

import msgspec

from mapreduce_rq.core.numbers.integers import from_bytes, to_bytes
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.plain_values import written
from mapreduce_rq.core.reducers.base import BadValue, Reducer
from mapreduce_rq.core.reducers.sums import batches, is_array

Key = Any
Counts = dict[str, "Counter[Key]"]
"""For each kind of key (a letter of KINDS) its counts; kinds without keys are absent."""

KINDS: dict[type, str] = {bool: "?", int: "i", float: "f", bytes: "b", str: "s", tuple: "t"}
"""In the order in which kinds are listed."""

_PLAIN = {"?", "i", "b", "s"}  # kinds whose every value is a key as it stands

TAKES = "keys (text, bytes, bool, int, float, or a tuple of texts, bytes and ints), or lists, sets or dicts of them"


class CounterReducer(Reducer[Counts]):
    """How often each key occurs.

    A term's value is one key, or many at once: a list, set or iterator of keys, or a dictionary of keys and counts.
    """

    name: ClassVar[str] = "counter"

    def zero(self) -> Counts:
        return {}

    def merge(self, left: Counts, right: Counts) -> Counts:
        for kind, counts in right.items():
            if kind in left:
                left[kind].update(counts)
            else:
                left[kind] = Counter(counts)
        return left

    def encode(self, partial: Counts) -> bytes:
        return _ENCODER.encode(
            [
                (kind, [(_pack(kind, key), counts[key]) for key in _sorted(kind, counts)])
                for kind in KINDS.values()
                if (counts := partial.get(kind))
            ]
        )

    def decode(self, data: bytes) -> Counts:
        try:
            found: Counts = {}
            for kind, pairs in _DECODER.decode(data):
                keys = [_unpack(kind, key) for key, _ in pairs]
                counts = Counter(dict(zip(keys, (count for _, count in pairs), strict=True)))
                if kind in found or not keys or len(counts) != len(keys) or min(counts.values()) < 1:
                    raise ValueError("counts that no counter makes")
                found[kind] = counts
        except (msgspec.MsgspecError, TypeError) as error:
            raise ValueError(f"not counts: {error}") from None
        return found

    def fold(self, lo: int, values: Iterable[Any]) -> Counts:
        if is_array(values):
            values = values.tolist()  # type: ignore[attr-defined]  # an array has it
        found: Counts = {}
        for start, batch in batches(lo, values):
            types = set(map(type, batch))
            if len(types) == 1 and (kind := KINDS.get(types.pop())) in _PLAIN:
                found.setdefault(kind, Counter()).update(batch)
                continue
            for term, value in enumerate(batch, start):
                try:
                    self._count(found, value)
                except TypeError:
                    raise BadValue(term, value, TAKES) from None
        return found

    def _count(self, found: Counts, value: Any) -> None:
        """Count the key or keys that one term gave. Raises TypeError for what is none."""
        pairs: Iterable[tuple[Key, int]]
        if type(value) in KINDS:
            pairs = ((value, 1),)
        elif isinstance(value, Mapping):
            pairs = value.items()
        elif is_array(value):
            whole = value.tolist()
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
        """A Counter; if True and 1, or 1 and 1.0, both occur, the one that is listed last stands for both."""
        whole: Counter[Key] = Counter()
        for kind in KINDS.values():
            for key, count in partial.get(kind, {}).items():
                whole[key] = whole.pop(key, 0) + count
        return whole

    def describe(self, partial: Counts) -> Outcome:
        rows = ranked(partial)
        return Outcome(
            value="\n".join(f"{count}\t{written(key)}" for key, count in rows),
            bound="0",
            bound_kind="exact",
            native=self.finish_native(partial),
            details={"distinct": len(rows), "counted": sum(count for _, count in rows)},
        )


class TopK(CounterReducer):
    """The k most frequent keys, of equals the smallest first; found among the counts of all keys, hence exact."""

    name: ClassVar[str] = "topk"

    def __init__(self, k: int = 10) -> None:
        self.k = index(k)
        if k < 1:
            raise ValueError(f"k is {k}, and must be at least 1")

    def finish_native(self, partial: Counts) -> list[tuple[Key, int]]:
        return ranked(partial)[: self.k]

    def describe(self, partial: Counts) -> Outcome:
        rows = ranked(partial)
        return Outcome(
            value="\n".join(f"{count}\t{written(key)}" for key, count in rows[: self.k]),
            bound="0",
            bound_kind="exact",
            native=rows[: self.k],
            details={"distinct": len(rows), "counted": sum(count for _, count in rows)},
        )


def ranked(counts: Counts) -> list[tuple[Key, int]]:
    """All keys with their counts: the highest count first, of equals by kind and key."""
    rows = [
        (key, count)
        for kind in KINDS.values()
        if kind in counts
        for key, count in ((key, counts[kind][key]) for key in _sorted(kind, counts[kind]))
    ]
    rows.sort(key=lambda row: -row[1])  # stable: equals stay in the order of their keys
    return rows


def _checked(key: Key) -> tuple[str, Key]:
    """The kind of a key, and the key in its one form. Raises TypeError for what is none."""
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
    """A key as msgpack has it: an integer beyond 64 bits as its bytes."""
    return to_bytes(key) if kind == "i" and not _fits(key) else key


def _unpack(kind: str, packed: Any) -> Key:
    """The key of :func:`_pack`. Raises ValueError for what it cannot have made."""
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
_DECODER = msgspec.msgpack.Decoder(list[tuple[str, list[tuple[Any, int]]]])
