"""The form of column for any reducer: a partial for each key, and values that wait to be folded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any

from mapreduce_rq.core.bodies import ValueCodec
from mapreduce_rq.core.reducers.keys import Key
from mapreduce_rq.core.reducers.per_key.column import Column, Rows
from mapreduce_rq.core.reducers.per_key.packed import body_of, canonical_body, row_of, values_of
from mapreduce_rq.core.reducers.sequence import Stretch
from mapreduce_rq.core.written import weight_of

MOST_WAITING = 1 << 20
"""The most values that wait to be folded together with others of their keys: 40 MB of floats."""
MOST_WAITING_BYTES = 64 << 20
"""The most bytes of arrays and texts that wait, unless those of a single block of pairs have more."""


class Partials:
    """For each key a partial, and the values (with their terms) that wait to be folded."""

    __slots__ = ("bytes", "done", "number", "waiting")

    def __init__(self, done: dict[Key, Any]) -> None:
        self.done = done
        self.waiting: defaultdict[Key, list[tuple[int, Any]]] = defaultdict(list)
        self.number = 0  # the number of values that wait
        self.bytes = 0  # about the bytes of arrays and texts among them

    def __bool__(self) -> bool:
        return bool(self.done or self.waiting)


class PartialColumn(Column[Partials]):
    """A partial for each key."""

    def zero(self) -> Partials:
        return Partials({})

    def add(self, state: Partials, rows: Rows) -> None:
        waiting = state.waiting
        for key, row in zip(rows.keys, zip(rows.terms, rows.values, strict=True), strict=True):
            waiting[key].append(row)
        state.number += len(rows.pairs)
        if rows.pairs:  # the others are like the last one
            state.bytes += len(rows.pairs) * weight_of(rows.pairs[-1][1])
        if state.number >= MOST_WAITING or state.bytes >= MOST_WAITING_BYTES:
            self._fold(state)

    def _fold(self, state: Partials) -> None:
        done, reducer = state.done, self.reducer
        waiting, state.waiting = state.waiting, defaultdict(list)
        state.number = state.bytes = 0
        for key, rows in waiting.items():
            part = reducer.fold_at(list(map(itemgetter(0), rows)), list(map(itemgetter(1), rows)))
            done[key] = self._joined(done[key] if key in done else reducer.zero(), part)

    def _joined(self, left: Any, right: Any) -> Any:
        if isinstance(right, Stretch):  # each key counts its own terms
            right = right._replace(lo=left.hi, hi=left.hi + right.hi - right.lo)
        return self.reducer.merge(left, right)

    def merge(self, left: Partials, right: Partials) -> None:
        self._fold(left)
        self._fold(right)
        done, zero = left.done, self.reducer.zero
        for key, part in right.done.items():
            # a new partial for a key without one: merging may change the left one
            done[key] = self._joined(done[key] if key in done else zero(), part)

    def copy(self, state: Partials) -> Partials:
        self._fold(state)
        return Partials(dict(state.done))  # this is called only under the ordered law, where partials do not change

    def only(self, state: Partials, keys: Sequence[Key]) -> Partials:
        return Partials(dict(zip(keys, self.partials(state, keys), strict=True)))

    def keys(self, state: Partials) -> Collection[Key]:
        self._fold(state)
        return state.done.keys()

    def partials(self, state: Partials, keys: Sequence[Key]) -> list[Any]:
        """The partial of each key."""
        self._fold(state)
        return list(map(state.done.__getitem__, keys))

    def pack(self, state: Partials, keys: Sequence[Key]) -> Any:
        return list(map(self.reducer.encode, self.partials(state, keys)))

    def canonical(self, state: Partials, keys: Sequence[Key]) -> Any:
        return list(map(self.reducer.canonical, self.partials(state, keys)))

    def unpack(self, keys: Sequence[Key], packed: Any) -> Partials:
        bodies = row_of(packed, len(keys), bytes)
        return Partials(dict(zip(keys, map(self.reducer.decode, bodies), strict=True)))

    def results(self, state: Partials, keys: Sequence[Key]) -> list[Any]:
        return list(map(self.reducer.finish_native, self.partials(state, keys)))


class ConcatColumn(PartialColumn):
    """As the base class, for joined texts and bytes: the joined bytes of a key are its result and its partial at once,
    so a large result is not in memory twice.
    """

    def results(self, state: Partials, keys: Sequence[Key]) -> list[Any]:
        self._fold(state)
        done, reducer = state.done, self.reducer
        found = []
        for key in keys:
            part = done[key]
            if len(part.bodies) > 1:
                part = done[key] = part._replace(bodies=(reducer.joined(part.bodies),))  # type: ignore[attr-defined]
            found.append(reducer.finish_native(part))
        return found


class ValueColumn(PartialColumn):
    """As the base class, for reducers whose partials are objects of the user: one body holds all of them."""

    @property
    def _codec(self) -> ValueCodec:
        return self.reducer.codec  # type: ignore[attr-defined, no-any-return]  # see column_of

    def pack(self, state: Partials, keys: Sequence[Key]) -> Any:
        return body_of(self._codec, self.partials(state, keys))

    def canonical(self, state: Partials, keys: Sequence[Key]) -> Any:
        return canonical_body(self._codec, self.partials(state, keys))

    def unpack(self, keys: Sequence[Key], packed: Any) -> Partials:
        return Partials(dict(zip(keys, values_of(self._codec, packed, len(keys)), strict=True)))
