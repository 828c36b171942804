"""Columns: for each key the partial of an inner reducer, in a form that is quick for that reducer.

A column's state is one dictionary or a few, by key. For most reducers it has a partial for each key, and values that
wait until there are enough to be folded in one call. For some reducers there is a quicker form. Sums and counts of
integers are integers. Sums of floats are the floats themselves, as long as these need no rounding. Lists are the
values. These travel as rows of plain numbers, or as one body.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from itertools import chain, islice, repeat
from operator import add, itemgetter, ne
from typing import Any, Generic, NoReturn, TypeVar

from mapreduce_rq.core.bodies import PlainCodec, ValueCodec
from mapreduce_rq.core.numbers.exact import INT, Total, pieces_of, pieces_of_units, special
from mapreduce_rq.core.numbers.integers import from_bytes, to_bytes
from mapreduce_rq.core.plain_values import Unfit
from mapreduce_rq.core.reducers.base import BadValue, Reducer
from mapreduce_rq.core.reducers.counter import add_counts
from mapreduce_rq.core.reducers.custom import CallableReducer
from mapreduce_rq.core.reducers.keys import Key
from mapreduce_rq.core.reducers.sequence import ListReducer, Stretch
from mapreduce_rq.core.reducers.sums import Count, ExactSum, IntSum, integers, reals

S = TypeVar("S")

MOST_WAITING = 1 << 20
"""Values at most that wait to be folded with others of their keys: 40 MB of floats."""


class Rows:
    """Pairs of keys and values; each is of a value that was folded, and that of a term.

    ``terms`` are those of the values; ``owners`` gives for each pair which of the values it is of, when it is asked;
    None: there is a pair for each.
    """

    def __init__(
        self, pairs: Sequence[Any], terms: Sequence[int], owners: Callable[[], Sequence[int]] | None = None
    ) -> None:
        self.pairs = pairs
        self._terms, self._owners = terms, owners

    def having(self, keys: Iterable[Key], values: Iterable[Any]) -> Rows:
        """The same rows with other keys and values."""
        owners = None if self._owners is None else lambda: self.owners
        return Rows(list(zip(keys, values, strict=True)), self._terms, owners)

    def only(self, rows: Sequence[int]) -> Rows:
        """Some of the rows."""
        return Rows([self.pairs[row] for row in rows], self._terms, lambda: [self.owners[row] for row in rows])

    @cached_property
    def keys(self) -> list[Key]:
        """The keys."""
        return list(map(FIRST, self.pairs))

    @cached_property
    def values(self) -> list[Any]:
        """The values."""
        return list(map(SECOND, self.pairs))

    @cached_property
    def owners(self) -> Sequence[int]:
        """Which of the values each row is of."""
        return range(len(self.pairs)) if self._owners is None else self._owners()

    @property
    def terms(self) -> Sequence[int]:
        """The term of each row."""
        return self._terms if self._owners is None else [self._terms[owner] for owner in self.owners]

    def refuse(self, row: int, takes: str, value: Any = ...) -> NoReturn:
        """Raises BadValue for the value of a row."""
        owner = self.owners[row]
        error = BadValue(self._terms[owner], self.values[row] if value is ... else value, takes)
        error.row = owner
        raise error from None


FIRST, SECOND = itemgetter(0), itemgetter(1)


class Column(ABC, Generic[S]):
    """The states of one inner reducer. Those of ``merge`` and ``pack`` stay as they were, but for their form."""

    def __init__(self, reducer: Reducer[Any]) -> None:
        self.reducer = reducer

    @abstractmethod
    def zero(self) -> S:
        """The state without a key."""

    @abstractmethod
    def add(self, state: S, rows: Rows) -> None:
        """Fold rows, whose terms come after those of the state. Raises BadValue."""

    @abstractmethod
    def merge(self, left: S, right: S) -> None:
        """Change ``left`` to what both have; the terms of ``right`` come after its own."""

    @abstractmethod
    def copy(self, state: S) -> S:
        """A state that may be changed without changing this one."""

    @abstractmethod
    def only(self, state: S, keys: Sequence[Key]) -> S:
        """The state of some of its keys; one of the two is not used any more once the other is changed."""

    @abstractmethod
    def keys(self, state: S) -> Collection[Key]:
        """Its keys, each once."""

    @abstractmethod
    def pack(self, state: S, keys: Sequence[Key]) -> Any:
        """What stands for these keys, which are all of the state's, as data that msgpack has itself."""

    @abstractmethod
    def unpack(self, keys: Sequence[Key], packed: Any) -> S:
        """The state that was packed. Raises ValueError for what ``pack`` cannot have made."""

    def canonical(self, state: S, keys: Sequence[Key]) -> Any:
        """As ``pack``, and the same for states of the same rows, however they were cut and came together."""
        return self.pack(state, keys)

    def exact(self, state: S) -> bool:
        """Whether the results are no rounded ones, nor estimates."""
        return False

    @abstractmethod
    def results(self, state: S, keys: Sequence[Key]) -> list[Any]:
        """The reducer's Python object for each key."""


def column_of(reducer: Reducer[Any]) -> Column[Any]:
    """The column that is right for a reducer."""
    kind = _COLUMNS.get(type(reducer), PartialColumn)
    if isinstance(reducer, ExactSum):  # or that which takes arrays, too
        kind = SumColumn
    elif isinstance(reducer, CallableReducer):
        kind = ValueColumn
    return kind(reducer)


# -- any reducer ---------------------------------------------------------------------------------------------------


class Partials:
    """For each key a partial, and values with their terms that are still to be folded."""

    __slots__ = ("done", "number", "waiting")

    def __init__(self, done: dict[Key, Any]) -> None:
        self.done = done
        self.waiting: defaultdict[Key, list[tuple[int, Any]]] = defaultdict(list)
        self.number = 0  # of values that wait

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
        if state.number >= MOST_WAITING:
            self._fold(state)

    def _fold(self, state: Partials) -> None:
        done, reducer = state.done, self.reducer
        waiting, state.waiting = state.waiting, defaultdict(list)
        state.number = 0
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
            # A partial of its own where there is none yet: merging may change the left one.
            done[key] = self._joined(done[key] if key in done else zero(), part)

    def copy(self, state: Partials) -> Partials:
        self._fold(state)
        return Partials(dict(state.done))  # under the ordered law, where alone it is asked for, partials do not change

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
        bodies = _row(packed, len(keys), bytes)
        return Partials(dict(zip(keys, map(self.reducer.decode, bodies), strict=True)))

    def results(self, state: Partials, keys: Sequence[Key]) -> list[Any]:
        return list(map(self.reducer.finish_native, self.partials(state, keys)))


class ValueColumn(PartialColumn):
    """As the base class, of reducers whose partials are objects of the user: all of them in one body."""

    @property
    def _codec(self) -> ValueCodec:
        return self.reducer.codec  # type: ignore[attr-defined, no-any-return]  # see column_of

    def pack(self, state: Partials, keys: Sequence[Key]) -> Any:
        return _body(self._codec, self.partials(state, keys))

    def canonical(self, state: Partials, keys: Sequence[Key]) -> Any:
        return _canonical_body(self._codec, self.partials(state, keys))

    def unpack(self, keys: Sequence[Key], packed: Any) -> Partials:
        return Partials(dict(zip(keys, _values(self._codec, packed, len(keys)), strict=True)))


# -- integers ------------------------------------------------------------------------------------------------------


class IntColumn(Column[dict[Key, int]]):
    """A sum of integers for each key."""

    def zero(self) -> dict[Key, int]:
        return {}

    def add(self, state: dict[Key, int], rows: Rows) -> None:
        if not _are_integers(rows):
            try:
                rows = rows.having(rows.keys, integers(0, rows.values))
            except BadValue as error:
                rows.refuse(error.term, error.takes)
        _add_all(state, rows.pairs)

    def merge(self, left: dict[Key, int], right: dict[Key, int]) -> None:
        add_counts(left, right)

    def copy(self, state: dict[Key, int]) -> dict[Key, int]:
        return dict(state)

    def only(self, state: dict[Key, int], keys: Sequence[Key]) -> dict[Key, int]:
        return dict(zip(keys, map(state.__getitem__, keys), strict=True))

    def keys(self, state: dict[Key, int]) -> Collection[Key]:
        return state.keys()

    def exact(self, state: dict[Key, int]) -> bool:
        return True

    def pack(self, state: dict[Key, int], keys: Sequence[Key]) -> Any:
        return _pack_integers(list(map(state.__getitem__, keys)))

    def unpack(self, keys: Sequence[Key], packed: Any) -> dict[Key, int]:
        row = _unpack_integers(packed, len(keys))
        if None in row:
            raise ValueError("a key without a sum")
        return dict(zip(keys, row, strict=True))

    def results(self, state: dict[Key, int], keys: Sequence[Key]) -> list[Any]:
        return list(map(state.__getitem__, keys))


class CountColumn(IntColumn):
    """How many values each key has."""

    def add(self, state: dict[Key, int], rows: Rows) -> None:
        if type(None) in set(map(type, rows.values)):
            rows.refuse(next(row for row, value in enumerate(rows.values) if value is None), "any value but None")
        add_counts(state, Counter(rows.keys))


def _are_integers(rows: Rows) -> bool:
    """Whether all values are integers: their sum is one then, and else it is something else, or there is none."""
    try:
        return type(sum(map(SECOND, rows.pairs))) is int
    except Exception:  # of a user's own type
        return False


def _add_all(sums: dict[Key, int], pairs: Iterable[tuple[Key, int]]) -> None:
    get = sums.get
    for key, value in pairs:
        sums[key] = get(key, 0) + value


def _pack_integers(values: list[Any]) -> list[Any]:
    """Integers, those that msgpack lacks as bytes; None stays."""
    there = [value for value in values if value is not None] if None in values else values
    if min(there, default=0) >= _LEAST and max(there, default=0) < _BEYOND:
        return values
    return [value if value is None or _LEAST <= value < _BEYOND else to_bytes(value) for value in values]


def _unpack_integers(packed: Any, number: int) -> list[Any]:
    """The integers, and None where there is none."""
    row = _row(packed, number, int, bytes, type(None))
    return [_large(value) if type(value) is bytes else value for value in row] if bytes in set(map(type, row)) else row


def _large(data: bytes) -> int:
    value = int(from_bytes(data))  # of a large one it makes an mpz
    if _LEAST <= value < _BEYOND:
        raise ValueError("an integer that has a shorter form")
    return value


_LEAST, _BEYOND = -(1 << 63), 1 << 64


# -- exact sums ----------------------------------------------------------------------------------------------------


class Sums:
    """Exact sums: for each key the sum of its integers, and floats whose exact sum is that of its floats.

    Of those the first is in ``first`` and all others in ``more``. Once they are settled, they are the same floats for
    the same sum, and the first is the sum rounded. What these cannot hold (a sum beyond all floats, values of other
    types) is in ``others``.
    """

    __slots__ = ("first", "more", "number", "others", "whole")

    def __init__(self) -> None:
        self.whole: dict[Key, int] = {}
        self.first: dict[Key, float] = {}
        self.more: defaultdict[Key, list[float]] = defaultdict(list)
        self.number = 0  # of floats that came since it was settled
        self.others = Partials({})

    def add_floats(self, pairs: Iterable[tuple[Key, float]]) -> None:
        """Add floats, nan not among them. A sum that needs no rounding is taken at once, and no float waits for it.

        It needs none if both numbers come out again when the other is taken away: then the error term of Knuth's
        TwoSum is zero. An infinity, and a sum beyond all floats, do not pass.
        """
        first, more = self.first, self.more
        for key, value in pairs:
            if key in first:
                before = first[key]
                total = before + value
                added = total - before
                if added == value and total - added == before:
                    first[key] = total
                else:
                    more[key].append(value)
            else:
                first[key] = value


class SumColumn(Column[Sums]):
    """An exact sum for each key."""

    def __init__(self, reducer: Reducer[Any]) -> None:
        super().__init__(reducer)
        self._partials = PartialColumn(reducer)

    def zero(self) -> Sums:
        return Sums()

    def add(self, state: Sums, rows: Rows) -> None:
        if _are_integers(rows):
            _add_all(state.whole, rows.pairs)
            return
        kinds = set(map(type, rows.values))
        if kinds == {float}:
            self._add_floats(state, rows)
        elif all(issubclass(kind, float) for kind in kinds):  # numpy's doubles, too
            self._add_floats(state, rows.having(rows.keys, map(float, rows.values)))
        else:
            self._add_mixed(state, rows)

    def _add_floats(self, state: Sums, rows: Rows) -> None:
        if any(map(ne, rows.values, rows.values)):
            rows.refuse(list(map(ne, rows.values, rows.values)).index(True), "numbers other than nan")
        state.add_floats(rows.pairs)
        state.number += len(rows.pairs)
        if state.number >= MOST_WAITING:
            self._settle(state)

    def _add_mixed(self, state: Sums, rows: Rows) -> None:
        whole: list[int] = []
        floats: list[int] = []
        others: list[int] = []
        numbers = list(rows.values)
        for row, value in enumerate(rows.values):
            try:
                array = hasattr(value, "dtype") and hasattr(value, "__setitem__")  # numpy's scalars lack the latter
                (number,) = (value,) if array else reals(0, (value,))
            except BadValue:
                number = value
            kept = floats if isinstance(number, float) else whole if isinstance(number, int) else others
            kept.append(row)  # the reducer knows what it takes of others
            numbers[row] = number
        rows = rows.having(rows.keys, numbers)
        _add_all(state.whole, rows.only(whole).pairs)
        self._add_floats(state, rows.only(floats))
        self._partials.add(state.others, rows.only(others))

    def _settle(self, state: Sums) -> None:
        """Bring the floats of all keys into their one form."""
        if not state.number:
            return
        state.number = 0
        first, settled = state.first, defaultdict(list)
        for key, floats in state.more.items():
            floats.append(first[key])
            try:
                first[key], *rest = pieces_of(floats)
            except OverflowError:
                del first[key]
                done = state.others.done
                done[key] = self.reducer.merge(done.get(key, self.reducer.zero()), self.reducer.fold(0, floats))
                continue
            if rest:
                settled[key] = rest
        state.more = settled

    def merge(self, left: Sums, right: Sums) -> None:
        add_counts(left.whole, right.whole)
        if left.first:
            left.add_floats(right.first.items())
        else:
            left.first.update(right.first)
        more = left.more
        for key, floats in right.more.items():
            more[key] += floats
        left.number += len(right.first) + right.number
        if left.number >= max(MOST_WAITING, len(left.first)):
            self._settle(left)
        if right.others:
            self._partials.merge(left.others, right.others)

    def copy(self, state: Sums) -> Sums:
        found = Sums()
        self.merge(found, state)
        return found

    def only(self, state: Sums, keys: Sequence[Key]) -> Sums:
        self._settle(state)
        found = Sums()
        whole, first, more = state.whole, state.first, state.more
        found.whole = {key: whole[key] for key in keys if key in whole} if whole else {}
        found.first = {key: first[key] for key in keys if key in first} if first else {}
        found.more.update((key, more[key]) for key in keys if key in more)
        if odd := self._partials.keys(state.others):
            found.others = self._partials.only(state.others, [key for key in keys if key in odd])
        return found

    def keys(self, state: Sums) -> Collection[Key]:
        self._settle(state)
        found = [each for each in (state.whole, state.first, self._partials.keys(state.others)) if each]
        return found[0] if len(found) == 1 else dict.fromkeys(chain.from_iterable(found))

    def pack(self, state: Sums, keys: Sequence[Key]) -> Any:
        self._settle(state)
        odd = list(self._partials.keys(state.others))
        bodies = self._partials.pack(state.others, odd)
        return _packed_sums(keys, state.whole, state.first, state.more, dict(zip(odd, bodies, strict=True)))

    def canonical(self, state: Sums, keys: Sequence[Key]) -> Any:
        whole, first, more, bodies = state.whole, state.first, state.more, {}
        if odd := self._odd(state):
            whole = {key: value for key, value in whole.items() if key not in odd}
            first = {key: value for key, value in first.items() if key not in odd}
            more = {key: floats for key, floats in more.items() if key not in odd}  # type: ignore[assignment]
        for key, part in odd.items():
            form = _one_form(part)
            if isinstance(form, list):
                first[key], *rest = form
                if rest:
                    more[key] = rest
            else:
                bodies[key] = self.reducer.canonical(form)
        return _packed_sums(keys, whole, first, more, bodies)

    def _odd(self, state: Sums) -> dict[Key, Any]:
        """The whole partials of keys that have more than integers alone or floats alone."""
        self._settle(state)
        merge, fold = self.reducer.merge, self.reducer.fold
        found: dict[Key, Any] = {}
        for key in {*self._partials.keys(state.others), *(state.whole.keys() & state.first.keys())}:
            part = merge(self.reducer.zero(), state.others.done.get(key, self.reducer.zero()))
            if key in state.whole:
                part = merge(part, fold(0, [state.whole[key]]))
            if key in state.first:
                floats = [state.first[key], *state.more.get(key, ())]
                part = merge(part, fold(0, [math.inf, -math.inf] if math.isnan(floats[0]) else floats))
            found[key] = part
        return found

    def unpack(self, keys: Sequence[Key], packed: Any) -> Sums:
        number = len(keys)
        whole, first, counts, floats, others = _row(packed, 5, list)
        found = Sums()
        if whole:
            found.whole = dict(_there(keys, _unpack_integers(whole, number)))
        if first:
            found.first = dict(_there(keys, _row(first, number, float, type(None))))
        if counts:
            pieces = iter(_row(floats, sum(_row(counts, number, int)), float))
            if min(counts) < 0 or not all(map(math.isfinite, floats)):
                raise ValueError("floats of a sum that no sum has")
            for key, count in zip(keys, counts, strict=True):
                if count:
                    found.more[key] = list(islice(pieces, count))
            if not found.more.keys() <= found.first.keys():
                raise ValueError("floats of a sum that has no first one")
        if others:
            bodies = list(_there(keys, _row(others, number, bytes, type(None))))
            found.others = self._partials.unpack([key for key, _ in bodies], [body for _, body in bodies])
        if len(self.keys(found)) != number:
            raise ValueError("a key without a sum")
        return found

    def exact(self, state: Sums) -> bool:
        return not state.first and not state.others

    def results(self, state: Sums, keys: Sequence[Key]) -> list[Any]:
        odd = self._odd(state)
        whole, first, finish = state.whole, state.first, self.reducer.finish_native
        if not odd and not whole:
            return list(map(add, map(first.__getitem__, keys), repeat(0.0)))  # one zero
        if not odd and not first:
            return list(map(whole.__getitem__, keys))
        return [finish(odd[key]) if key in odd else whole[key] if key in whole else first[key] + 0.0 for key in keys]


def _one_form(part: Any) -> Any:
    """The partial of a sum, or floats if it is one that these can hold: the same for the same sum."""
    if not isinstance(part, Total) or part.flags & INT:
        value = special(part.flags) if isinstance(part, Total) else None
        return part if value is None else Total(0, part.flags)
    if (value := special(part.flags)) is not None:
        return [value]
    try:
        return pieces_of_units(part.units)
    except OverflowError:
        return part


def _packed_sums(
    keys: Sequence[Key],
    whole: dict[Key, int],
    first: dict[Key, float],
    more: dict[Key, list[float]],
    bodies: dict[Key, bytes],
) -> list[Any]:
    pieces: list[Sequence[float]] = list(map(more.get, keys, repeat(()))) if more else []
    if len(first) == len(keys):
        firsts: list[Any] = list(map(add, map(first.__getitem__, keys), repeat(0.0)))  # one zero
    else:
        firsts = [first[key] + 0.0 if key in first else None for key in keys] if first else []
    return [
        _pack_integers(list(map(whole.get, keys))) if whole else [],
        firsts,
        list(map(len, pieces)),
        list(chain.from_iterable(pieces)),
        list(map(bodies.get, keys)) if bodies else [],
    ]


# -- lists ---------------------------------------------------------------------------------------------------------


class ListColumn(Column["defaultdict[Key, list[Any]]"]):
    """All values of each key in the order of their terms: they travel as one body."""

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
        return self._packed(state, keys, _body)

    def canonical(self, state: defaultdict[Key, list[Any]], keys: Sequence[Key]) -> Any:
        return self._packed(state, keys, _canonical_body)

    def _packed(self, state: defaultdict[Key, list[Any]], keys: Sequence[Key], body: Callable[..., bytes]) -> Any:
        lists = list(map(state.__getitem__, keys))
        return [list(map(len, lists)), body(self._codec, list(chain.from_iterable(lists)))]

    def unpack(self, keys: Sequence[Key], packed: Any) -> defaultdict[Key, list[Any]]:
        counts, body = _row(packed, 2, list, bytes)
        counts = _row(counts, len(keys), int)
        if min(counts, default=1) < 1:
            raise ValueError("a key without a value")
        values = iter(_values(self._codec, body, sum(counts)))
        return defaultdict(list, {key: list(islice(values, count)) for key, count in zip(keys, counts, strict=True)})

    def results(self, state: defaultdict[Key, list[Any]], keys: Sequence[Key]) -> list[Any]:
        return list(map(list, map(state.__getitem__, keys)))


# -- rows of a message ---------------------------------------------------------------------------------------------


def _row(packed: Any, number: int, *kinds: type) -> list[Any]:
    """The list that should be there. Raises ValueError for anything else, or of another length, or with other types."""
    if type(packed) is not list or len(packed) != number or not set(map(type, packed)) <= set(kinds):
        raise ValueError(f"there should be {number} of {' or '.join(kind.__name__ for kind in kinds)}")
    return packed


def _there(keys: Sequence[Key], values: Sequence[Any]) -> Iterable[tuple[Key, Any]]:
    """Keys with their values, those without one left out."""
    pairs = zip(keys, values, strict=True)
    return ((key, value) for key, value in pairs if value is not None) if None in values else pairs


def _body(codec: ValueCodec, values: Sequence[Any]) -> bytes:
    try:
        return codec.encode(values)
    except Unfit as unfit:
        name = type(values[unfit.index]).__name__
        raise ValueError(f"a {name} cannot travel ({unfit}); what travels is {codec.takes}: {codec.remedy}") from None


def _canonical_body(codec: ValueCodec, values: Sequence[Any]) -> bytes:
    """As ``_body``, however they travel; of values that a pickle alone takes the pickle, which may differ of equals."""
    try:
        return PlainCodec().encode(values)
    except Unfit:
        return _body(codec, values)


def _values(codec: ValueCodec, packed: Any, number: int) -> list[Any]:
    if type(packed) is not bytes:
        raise ValueError("no body of values")
    values = codec.decode(packed)
    if len(values) != number:
        raise ValueError(f"{len(values)} values where there should be {number}")
    return values


_COLUMNS: dict[type, type[Column[Any]]] = {
    IntSum: IntColumn,
    Count: CountColumn,
    ListReducer: ListColumn,
}
