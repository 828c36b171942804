"""The column of lists: the values of each key, which travel as one body."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from itertools import chain, islice
from typing import Any

from mapreduce_rq.core.bodies import ValueCodec
from mapreduce_rq.core.reducers.keys import Key
from mapreduce_rq.core.reducers.per_key.column import Column, Rows
from mapreduce_rq.core.reducers.per_key.packed import body_of, canonical_body, row_of, values_of


class ListColumn(Column["defaultdict[Key, list[Any]]"]):
    """All values of each key, in the order of their terms. They travel as one body."""

    @property
    def _codec(self) -> ValueCodec:
        return self.reducer.codec  # type: ignore[attr-defined, no-any-return]

    def zero(self) -> defaultdict[Key, list[Any]]:
        return defaultdict(list)

    def add(self, state: defaultdict[Key, list[Any]], rows: Rows) -> None:
        for key, value in rows.pairs:
            state[key].append(value)

    def merge(self, left: defaultdict[Key, list[Any]], right: defaultdict[Key, list[Any]]) -> None:
        for key, values in right.items():
            left[key] += values

    def copy(self, state: defaultdict[Key, list[Any]]) -> defaultdict[Key, list[Any]]:
        return defaultdict(list, zip(state, map(list, state.values()), strict=True))

    def only(self, state: defaultdict[Key, list[Any]], keys: Sequence[Key]) -> defaultdict[Key, list[Any]]:
        return defaultdict(list, zip(keys, map(state.__getitem__, keys), strict=True))

    def keys(self, state: defaultdict[Key, list[Any]]) -> Collection[Key]:
        return state.keys()

    def pack(self, state: defaultdict[Key, list[Any]], keys: Sequence[Key]) -> Any:
        return self._packed(state, keys, body_of)

    def canonical(self, state: defaultdict[Key, list[Any]], keys: Sequence[Key]) -> Any:
        return self._packed(state, keys, canonical_body)

    def _packed(self, state: defaultdict[Key, list[Any]], keys: Sequence[Key], body: Callable[..., bytes]) -> Any:
        lists = list(map(state.__getitem__, keys))
        return [list(map(len, lists)), body(self._codec, list(chain.from_iterable(lists)))]

    def unpack(self, keys: Sequence[Key], packed: Any) -> defaultdict[Key, list[Any]]:
        counts, body = row_of(packed, 2, list, bytes)
        counts = row_of(counts, len(keys), int)
        if min(counts, default=1) < 1:
            raise ValueError("a key without a value")
        values = iter(values_of(self._codec, body, sum(counts)))
        return defaultdict(list, {key: list(islice(values, count)) for key, count in zip(keys, counts, strict=True)})

    def results(self, state: defaultdict[Key, list[Any]], keys: Sequence[Key]) -> list[Any]:
        return list(map(list, map(state.__getitem__, keys)))
