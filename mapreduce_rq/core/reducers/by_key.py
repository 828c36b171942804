"""The reduce of map-reduce: a reducer folds the values of each key, or one reducer for each of several columns.

A term's value is a pair ``(key, value)``, a dictionary, or an iterable of pairs. A tuple is always one pair.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, count, repeat
from operator import itemgetter
from typing import Any, ClassVar, NoReturn

import msgspec

from mapreduce_rq.core.bodies import ValueCodec
from mapreduce_rq.core.outcome import Deferred, Outcome
from mapreduce_rq.core.reducers.base import BadValue, Law, Reducer, TermFailed
from mapreduce_rq.core.reducers.counter import LISTED
from mapreduce_rq.core.reducers.keys import (
    SIMPLE,
    BadKey,
    Key,
    Kinds,
    checked,
    in_order,
    may_mix,
    pack_any,
    pack_keys,
    preferred,
    unpack_keys,
)
from mapreduce_rq.core.reducers.keys import TAKES as KEYS
from mapreduce_rq.core.reducers.per_key.choice import column_of
from mapreduce_rq.core.reducers.per_key.column import FIRST, Column, Rows
from mapreduce_rq.core.reducers.per_key.table import TABLE, pack_tables, unpack_tables
from mapreduce_rq.core.reducers.sequence import RECORD_BYTES
from mapreduce_rq.core.reducers.sums import batches
from mapreduce_rq.core.text import in_lines
from mapreduce_rq.core.written import is_larger, written

PAIRS = "a pair (key, value), a dict, or an iterable of pairs"


class Groups:
    """The partials of all keys: a state for each column; all states have the same keys.

    If equal keys may differ (1 and 1.0), ``names`` has the key to show for each; otherwise the states' own keys are
    shown.
    """

    __slots__ = ("kinds", "names", "seen", "states")

    def __init__(self, states: list[Any]) -> None:
        self.states = states
        self.kinds: Kinds = set()
        self.seen: set[type] = set()  # types of keys that need no check, while there are no names
        self.names: dict[Key, Key] | None = None

    def learn(self, keys: Sequence[Key], kinds: Kinds | None, own: Callable[[], Iterable[Key]]) -> None:
        """Note that keys of these kinds (see ``checked``) join the keys that ``own`` returns."""
        if self.names is None:
            if kinds is not None and (kinds <= self.kinds or not may_mix(self.kinds | kinds)):
                self.kinds |= kinds
                self.seen = self.kinds & SIMPLE
                return
            self.names = {key: key for key in own()}
        names = self.names
        for key in keys:
            names[key] = preferred(names[key], key) if key in names else key

    def shown(self, keys: Iterable[Key]) -> list[Key]:
        """The key to show for each of these."""
        return list(keys if self.names is None else map(self.names.__getitem__, keys))


class ByKey(Reducer[Groups]):
    """Folds the values of each key.

    ``reducers``: one reducer, under the name ``""``; or one for each column, and a value is then a mapping with these
    names. ``top`` and ``sorted``: see ``by_key``.
    """

    name: ClassVar[str] = "by_key"
    wide: ClassVar[bool] = True

    def __init__(self, reducers: Mapping[str, Reducer[Any]], *, top: int | None = None, sorted: bool = False) -> None:  # noqa: A002  as the built-in
        if not reducers:
            raise ValueError("there must be a column at least")
        if top is not None and (type(top) is not int or top < 1):
            raise ValueError(f"top is {top}, and must be a whole number, at least 1")
        self.reducers = dict(reducers)
        self.top, self.sorted = top, sorted
        self._columns: list[Column[Any]] = [column_of(reducer) for reducer in self.reducers.values()]
        self._names = [] if list(self.reducers) == [""] else list(self.reducers)
        laws = {reducer.law for reducer in self.reducers.values()}
        (self.law,) = [law for law in (Law.ORDERED, Law.APPROXIMATE, Law.COMMUTATIVE) if law in laws][:1]  # type: ignore[misc]  # of this one
        self.joins = self.law is not Law.ORDERED  # type: ignore[misc]  # as above

    @property
    def columns(self) -> list[str]:
        """The names of the columns; empty if there is only one column, without a name."""
        return self._names

    @property
    def vague(self) -> list[str]:
        """The names of the reducers that only estimate."""
        return [reducer.name for reducer in self.reducers.values() if reducer.law is Law.APPROXIMATE]

    def travel_by(self, codec: ValueCodec) -> None:
        for reducer in self.reducers.values():
            reducer.travel_by(codec)

    def breadth(self, partial: Groups) -> int:
        return min(column.breadth(state) for column, state in zip(self._columns, partial.states, strict=True))

    def zero(self) -> Groups:
        return Groups([column.zero() for column in self._columns])

    # -- folding ---------------------------------------------------------------------------------------------------

    def fold(self, lo: int, values: Iterable[Any]) -> Groups:
        return self.fold_into(self.zero(), lo, values)

    def fold_into(self, partial: Groups, lo: int, values: Iterable[Any]) -> Groups:
        for start, batch in batches(lo, values):
            self._add(partial, _rows(range(start, start + len(batch)), batch))
        return partial

    def fold_at(self, terms: Sequence[int], values: Sequence[Any], partial: Groups | None = None) -> Groups:
        found = self.zero() if partial is None else partial
        self._add(found, _rows(terms, values))
        return found

    def _add(self, groups: Groups, rows: Rows) -> None:
        if groups.names is None and len(groups.seen) == 1 and not self._names:
            (kind,) = groups.seen
            done = self._columns[0].add_first(groups.states[0], rows.pairs, kind)
            if done == len(rows.pairs):
                return
            rows = rows.after(done)
        _check(rows)
        if groups.names is not None or not set(map(type, map(FIRST, rows.pairs))) <= groups.seen:
            rows = self._learn(groups, rows)
        if not self._names:
            self._columns[0].add(groups.states[0], rows)
            return
        for name, column, state in zip(self._names, self._columns, groups.states, strict=True):
            try:
                values = list(map(itemgetter(name), rows.values))
            except (KeyError, TypeError, IndexError):
                self._refuse_row(rows, name)
            try:
                column.add(state, rows.having(rows.keys, values))
            except BadValue as error:
                error.takes += f" for {name!r}"
                raise

    def _learn(self, groups: Groups, rows: Rows) -> Rows:
        """The rows with their keys in normal form, after the groups have learnt these keys."""
        try:
            keys, kinds = checked(rows.keys)
        except BadKey as error:
            rows.refuse(error.index, f"{KEYS} ({error})", rows.keys[error.index])
        groups.learn(keys, kinds, lambda: self.keys(groups))
        return rows if keys is rows.keys else rows.having(keys, rows.values)

    def _refuse_row(self, rows: Rows, name: str) -> NoReturn:
        for at, value in enumerate(rows.values):
            if not isinstance(value, Mapping) or name not in value:
                rows.refuse(at, f"for each key mappings with {', '.join(map(repr, self._names))}")
        raise ValueError(f"a mapping that has {name!r} and does not give it")

    def merge(self, left: Groups, right: Groups) -> Groups:
        return self.merge_into(self._copy(left) if self.law is Law.ORDERED else left, right)

    def merge_into(self, left: Groups, right: Groups) -> Groups:
        """As ``merge``, but it may change ``left`` under the ordered law, too."""
        if right.names is None and left.names is None and not may_mix(left.kinds | right.kinds):
            left.learn((), right.kinds, tuple)
        else:
            left.learn(right.shown(self.keys(right)), None, lambda: self.keys(left))
        for column, mine, theirs in zip(self._columns, left.states, right.states, strict=True):
            column.merge(mine, theirs)
        return left

    def merge_encoded(self, accumulator: Groups, bodies: list[bytes]) -> Groups:
        """As the base class. The smaller one of two partials is merged into the larger one, if their order is free."""
        for partial in [self.decode(body) for body in bodies]:
            swapped = self.law is not Law.ORDERED and self.breadth(partial) > self.breadth(accumulator)
            accumulator = self.merge(partial, accumulator) if swapped else self.merge(accumulator, partial)
        return accumulator

    def _copy(self, groups: Groups) -> Groups:
        found = Groups([column.copy(state) for column, state in zip(self._columns, groups.states, strict=True)])
        found.learn((), groups.kinds, tuple)
        found.names = None if groups.names is None else dict(groups.names)
        return found

    def keys(self, groups: Groups) -> Collection[Key]:
        """The keys of the groups, each once, as dictionaries have them; ``Groups.shown`` gives the keys to show."""
        return self._columns[0].keys(groups.states[0])

    def only(self, groups: Groups, keys: Sequence[Key]) -> Groups:
        """The groups of some of the keys. The caller must not use one of the two after it has changed the other."""
        columns = zip(self._columns, groups.states, strict=True)
        found = Groups([column.only(state, keys) for column, state in columns])
        found.kinds, found.seen = set(groups.kinds), set(groups.seen)
        if groups.names is not None:
            found.names = {key: groups.names[key] for key in keys}
        return found

    def rows(self, groups: Groups) -> list[tuple[Key, Any]]:
        """Each key with its result, in the order of the keys."""
        return self._pairs(groups, self._in_order(groups))

    def exact(self, groups: Groups) -> bool:
        """Whether all results are exact."""
        return all(column.exact(state) for column, state in zip(self._columns, groups.states, strict=True))

    # -- as bytes --------------------------------------------------------------------------------------------------

    def encode(self, partial: Groups) -> bytes:
        columns = list(zip(self._columns, partial.states, strict=True))
        if partial.names is None and None not in (tables := [column.table(state) for column, state in columns]):
            return _ENCODER.encode(pack_tables(tables))  # type: ignore[arg-type]  # none is None
        keys = list(self.keys(partial))
        return self._packed(partial, keys, [column.pack(state, keys) for column, state in columns])

    def canonical(self, partial: Groups) -> bytes:
        keys = self._in_order(partial)
        columns = zip(self._columns, partial.states, strict=True)
        return self._packed(partial, keys, [column.canonical(state, keys) for column, state in columns])

    def _packed(self, groups: Groups, keys: list[Key], columns: list[Any]) -> bytes:
        shown = groups.shown(keys)
        try:
            return _ENCODER.encode((len(keys), *pack_keys(shown), columns))
        except UnicodeEncodeError:  # of halves of characters, as names of files have them
            return _ENCODER.encode((len(keys), *pack_any(shown), columns))

    def decode(self, data: bytes) -> Groups:
        try:
            number, form, packed, columns = _DECODER.decode(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise ValueError(f"not what a key each has: {error}") from None
        if len(columns) != len(self._columns):
            raise ValueError(f"{len(columns)} columns where there should be {len(self._columns)}")
        if form == TABLE:
            tables = zip(self._columns, unpack_tables(number, packed, columns), strict=True)
            found = Groups([column.from_table(table) for column, table in tables])
            found.learn((), {int}, tuple)
            return found
        keys, kinds = unpack_keys(form, packed, number)
        found = Groups([column.unpack(keys, each) for column, each in zip(self._columns, columns, strict=True)])
        found.learn(keys, kinds, tuple)
        return found

    def _in_order(self, groups: Groups) -> list[Key]:
        keys = groups.shown(self.keys(groups))
        if groups.names is None and self._columns[0].in_order(groups.states[0]):
            return keys
        return in_order(keys)

    # -- results ---------------------------------------------------------------------------------------------------

    def finish_native(self, partial: Groups) -> Any:
        """A dictionary in the order of the keys, or with ``top`` or ``sorted`` a list of pairs."""
        if self.top is not None:
            return self._ranked(partial, self.top)
        keys = self._in_order(partial)
        if not (self.sorted or self._names):  # a million pairs less in memory
            return dict(zip(keys, self._columns[0].results(partial.states[0], keys), strict=True))
        pairs = self._pairs(partial, keys)
        return pairs if self.sorted else dict(pairs)

    def _pairs(self, groups: Groups, keys: list[Key]) -> list[tuple[Key, Any]]:
        rows = [column.results(state, keys) for column, state in zip(self._columns, groups.states, strict=True)]
        if not self._names:
            return list(zip(keys, rows[0], strict=True))
        return list(
            zip(keys, (dict(zip(self._names, row, strict=True)) for row in zip(*rows, strict=True)), strict=True)
        )

    def _ranked(self, groups: Groups, top: int) -> list[tuple[Key, Any]]:
        """The pairs with the largest results; nan counts as the smallest. Of equal results, the first keys count."""
        keys = groups.shown(self.keys(groups))
        results = self._columns[0].results(groups.states[0], keys)
        kinds = set(map(type, results))
        try:
            if any(issubclass(kind, (Mapping, AbstractSet)) for kind in kinds):
                raise TypeError  # some pairs of these compare, but not all
            largest = heapq.nlargest(top, (result for result in results if result == result))  # noqa: PLR0124  no nan
            chosen = [key for key, result in zip(keys, results, strict=True) if largest and result >= largest[-1]]
            rank = dict(zip(chosen, self._columns[0].results(groups.states[0], chosen), strict=True))
            row = sorted(in_order(chosen), key=rank.__getitem__, reverse=True)[:top]
        except TypeError:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ValueError(f"top needs results that have an order, and these are of type {names}") from None
        if len(row) < top:
            row += in_order(key for key, result in zip(keys, results, strict=True) if result != result)  # noqa: PLR0124
        return self._pairs(groups, row[:top])

    def describe(self, partial: Groups) -> Outcome:
        number = len(self.keys(partial))
        exact = self.exact(partial)
        vague = self.vague
        about: dict[str, Any] = {
            "bound": "0" if exact else None,
            "bound_kind": "exact" if exact else "none",
            "details": {"keys": number} | ({"columns": self._names} if self._names else {}),
            "notes": (f"approximate: {', '.join(vague)}",) if vague else (),
        }
        if number <= LISTED or self.top is not None:
            native = self.finish_native(partial)
            text = "" if (larger := is_larger(native, RECORD_BYTES)) else "".join(self._text(partial))
            if not larger and len(text) <= RECORD_BYTES:
                return Outcome(value=text, native=native, **about)
        return Outcome(
            value="",
            text=Deferred(self._text, partial),
            native=Deferred(self.finish_native, partial),
            total=Deferred(self.canonical, partial),
            **about,
        )

    def _text(self, groups: Groups) -> Iterator[str]:
        """A line for each key, in the order of the keys or of the results, with tabs before the results."""
        pairs = self._pairs(groups, self._in_order(groups)) if self.top is None else self._ranked(groups, self.top)
        rows = ((key, *(result.values() if self._names else (result,))) for key, result in pairs)
        return in_lines("\t".join(map(written, row)) for row in rows)


def _rows(terms: Sequence[int], values: Sequence[Any]) -> Rows:
    """The values of terms as rows, one for each pair. Raises BadValue for a value that is not a pair, a dictionary or
    an iterable of pairs; TermFailed for an iterable that raises.
    """
    if [*map(type, values)].count(tuple) == len(values):  # takes half the time of a set
        return Rows(values, terms)
    kinds = set(map(type, values))
    pairs: list[Any] = []
    counts: list[int] = []
    if kinds == {dict}:
        counts = list(map(len, values))
        pairs = list(chain.from_iterable(map(dict.items, values)))
    elif kinds == {list}:
        counts = list(map(len, values))
        pairs = list(chain.from_iterable(values))
    else:
        for row, value in enumerate(values):
            before = len(pairs)
            try:
                pairs += _pairs_of(row, value)
            except (BadValue, TermFailed) as error:
                raise error.at_row(terms) from error.__cause__
            counts.append(len(pairs) - before)

    rows = Rows(pairs, terms, lambda: list(chain.from_iterable(map(repeat, count(), counts))))
    if not set(map(type, pairs)) <= _PAIR_KINDS:
        _refuse_pair(rows, next(at for at, pair in enumerate(pairs) if type(pair) not in _PAIR_KINDS))
    return rows


def _check(rows: Rows) -> None:
    """Raises BadValue for the first pair that is not of two."""
    if not set(map(len, rows.pairs)) <= {2}:
        _refuse_pair(rows, next(at for at, pair in enumerate(rows.pairs) if len(pair) != 2))


def _refuse_pair(rows: Rows, at: int) -> NoReturn:
    rows.refuse(at, "pairs (key, value) in an iterable", rows.pairs[at])


def _pairs_of(term: int, value: Any) -> Iterable[Any]:
    """The pairs of one term."""
    if isinstance(value, tuple):
        return (value,)
    if isinstance(value, Mapping):
        return value.items()
    if value is None or isinstance(value, (str, bytes, bytearray, memoryview)):
        raise BadValue(term, value, PAIRS)
    try:
        return list(value)
    except Exception as error:
        if isinstance(error, TypeError) and not hasattr(type(value), "__iter__") and not hasattr(value, "__getitem__"):
            raise BadValue(term, value, PAIRS) from None
        raise TermFailed(term) from error


_PAIR_KINDS = {tuple, list}
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[int, int, Any, list[Any]])
