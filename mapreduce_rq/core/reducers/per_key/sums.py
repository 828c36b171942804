"""The column of exact sums of numbers: for each key an integer, or a few floats."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import chain, islice, repeat
from operator import add, length_hint
from typing import Any

from mapreduce_rq.core.numbers.exact import INT, Total, pieces_of, pieces_of_units, special
from mapreduce_rq.core.reducers.base import BadValue, Reducer
from mapreduce_rq.core.reducers.counter import add_counts
from mapreduce_rq.core.reducers.keys import Key
from mapreduce_rq.core.reducers.per_key.column import SECOND, Column, Rows
from mapreduce_rq.core.reducers.per_key.integers import (
    add_all,
    add_first_integers,
    are_integers,
    pack_integers,
    unpack_integers,
)
from mapreduce_rq.core.reducers.per_key.packed import row_of, those_there
from mapreduce_rq.core.reducers.per_key.partials import MOST_WAITING, PartialColumn, Partials
from mapreduce_rq.core.reducers.per_key.table import FLOATS, INTEGERS, Table, is_large, merged, table_of
from mapreduce_rq.core.reducers.sums import is_array, reals


class Sums:
    """Exact sums: for each key the sum of its integers, and a few floats whose exact sum is the sum of its floats.

    The first of these floats is in ``first``, the others are in ``more``. After ``_settle`` they are the same floats
    for the same sum, and the first is the rounded sum. Sums that floats cannot hold (beyond all floats, or of other
    types) are in ``others``.

    Or all sums are in a ``table``, and the rest is empty.
    """

    __slots__ = ("first", "more", "number", "others", "table", "whole")

    def __init__(self) -> None:
        self.whole: dict[Key, int] = {}
        self.first: dict[Key, float] = {}
        self.more: defaultdict[Key, list[float]] = defaultdict(list)
        self.number = 0  # the number of floats that came since the last ``_settle``
        self.others = Partials({})
        self.table: Table | None = None

    def __bool__(self) -> bool:
        return bool(self.table or self.whole or self.first or self.others)

    def spread(self) -> None:
        """Bring a table into dictionaries."""
        if self.table is not None:
            table, self.table = self.table, None
            sums = dict(zip(table.listed, table.sums.tolist(), strict=True))
            if table.form == FLOATS:
                self.first = sums
            else:
                self.whole = sums

    def tabled(self) -> Table | None:
        """The settled sums as a table; None if they cannot be one."""
        if self.table is not None:
            return self.table
        if self.more or self.others or bool(self.first) is bool(self.whole):
            return None
        return table_of(FLOATS, self.first) if self.first else table_of(INTEGERS, self.whole)

    def add_floats(self, pairs: Collection[Any], kind: type | None = None) -> int:
        """Add the floats of the first of these pairs, and return their number: see ``Column.add_first``.

        It ends at a nan, too. ``kind``: the type of the keys; None: there is no need to look at it.

        If a sum needs no rounding, it replaces its key's float at once. A sum needs no rounding if subtracting each of
        the two numbers gives the other one: then the error term of Knuth's TwoSum is zero. An infinity, and a sum
        beyond all floats, fail this test.
        """
        first, more = self.first, self.more
        get = first.get
        rest = iter(pairs)
        with suppress(ValueError):  # one that is not of two
            for key, value in rest:
                if type(value) is not float or (type(key) is not kind and kind is not None):
                    break
                before = get(key, 0.0)
                total = before + value
                if total - before == value and total - value == before:
                    first[key] = total
                elif key in first and value == value:  # noqa: PLR0124  no nan
                    more[key].append(value)
                elif value == value:  # noqa: PLR0124  an infinity
                    first[key] = value
                else:
                    break
            else:
                return len(pairs)
        return len(pairs) - length_hint(rest) - 1


class SumColumn(Column[Sums]):
    """An exact sum for each key."""

    def __init__(self, reducer: Reducer[Any]) -> None:
        super().__init__(reducer)
        self._partials = PartialColumn(reducer)

    def zero(self) -> Sums:
        return Sums()

    def add(self, state: Sums, rows: Rows) -> None:
        state.spread()
        kinds = set(map(type, map(SECOND, rows.pairs)))
        if kinds == {float}:
            self._add_floats(state, rows)
        elif are_integers(rows):
            add_all(state.whole, rows.pairs)
        elif all(issubclass(kind, float) for kind in kinds):  # numpy's doubles, too
            self._add_floats(state, rows.having(rows.keys, map(float, rows.values)))
        else:
            self._add_mixed(state, rows)

    def add_first(self, state: Sums, pairs: Sequence[Any], kind: type) -> int:
        state.spread()
        try:
            floats = type(pairs[0][1]) is float
        except IndexError:
            return 0
        if not floats:
            return add_first_integers(state.whole, pairs, kind)
        done = state.add_floats(pairs, kind)
        self._added(state, done)
        return done

    def _add_floats(self, state: Sums, rows: Rows) -> None:
        done = state.add_floats(rows.pairs)
        if done < len(rows.pairs):
            rows.refuse(done, "numbers other than nan")
        self._added(state, done)

    def _added(self, state: Sums, number: int) -> None:
        state.number += number
        if state.number >= MOST_WAITING:
            self._settle(state)

    def _add_mixed(self, state: Sums, rows: Rows) -> None:
        whole: list[int] = []
        floats: list[int] = []
        others: list[int] = []
        numbers = list(rows.values)
        for row, value in enumerate(rows.values):
            try:
                array = is_array(value) and hasattr(type(value), "__setitem__")  # numpy's scalars lack the latter
                (number,) = (value,) if array else reals(0, (value,))
            except BadValue:
                number = value
            kept = floats if isinstance(number, float) else whole if isinstance(number, int) else others
            kept.append(row)  # the reducer knows which other types it takes
            numbers[row] = number
        rows = rows.having(rows.keys, numbers)
        add_all(state.whole, rows.only(whole).pairs)
        self._add_floats(state, rows.only(floats))
        self._partials.add(state.others, rows.only(others))

    def _settle(self, state: Sums) -> None:
        """Bring the floats of all keys into their normal form."""
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
        if not (left.table is right.table is None) and self._merge_tables(left, right):
            return
        left.spread()
        right.spread()
        add_counts(left.whole, right.whole)
        if left.first:
            done = left.add_floats(right.first.items())
            if done < len(right.first):  # the next one is nan, the sum of both infinities
                rest = list(islice(right.first.items(), done, None))
                left.add_floats([pair for pair in rest if not math.isnan(pair[1])])
                for key in (key for key, value in rest if math.isnan(value)):
                    left.first.setdefault(key, 0.0)
                    left.more[key] += [math.inf, -math.inf]
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

    def _merge_tables(self, left: Sums, right: Sums) -> bool:
        """Merge as tables. False, if they do not fit into one: then nothing has changed but the form of the states."""
        if not left:
            left.table = right.table
            return True
        mine, theirs = left.tabled(), right.tabled()
        both = None if mine is None or theirs is None else merged(mine, theirs)
        if both is None:
            return False
        left.whole, left.first, left.number, left.table = {}, {}, 0, both
        return True

    def copy(self, state: Sums) -> Sums:
        found = Sums()
        self.merge(found, state)
        return found

    def only(self, state: Sums, keys: Sequence[Key]) -> Sums:
        state.spread()
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
        if state.table is not None:
            return state.table.listed
        self._settle(state)
        found = [each for each in (state.whole, state.first, self._partials.keys(state.others)) if each]
        return found[0] if len(found) == 1 else dict.fromkeys(chain.from_iterable(found))

    def in_order(self, state: Sums) -> bool:
        return state.table is not None

    def breadth(self, state: Sums) -> int:
        if state.table is not None:
            return len(state.table.keys)
        return 0 if state.others else len(state.whole) + len(state.first)

    def table(self, state: Sums) -> Table | None:
        self._settle(state)
        return state.tabled() if is_large(self.breadth(state)) else None

    def from_table(self, table: Table) -> Sums:
        found = Sums()
        found.table = table
        return found

    def pack(self, state: Sums, keys: Sequence[Key]) -> Any:
        state.spread()
        self._settle(state)
        odd = list(self._partials.keys(state.others))
        bodies = self._partials.pack(state.others, odd)
        return _packed_sums(keys, state.whole, state.first, state.more, dict(zip(odd, bodies, strict=True)))

    def canonical(self, state: Sums, keys: Sequence[Key]) -> Any:
        state.spread()
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
        """The complete partials of keys that have both integers and floats, or values of other types."""
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
        whole, first, counts, floats, others = row_of(packed, 5, list)
        found = Sums()
        if whole:
            found.whole = dict(those_there(keys, unpack_integers(whole, number)))
        if first:
            found.first = dict(those_there(keys, row_of(first, number, float, type(None))))
        if counts:
            pieces = iter(row_of(floats, sum(row_of(counts, number, int)), float))
            if min(counts) < 0 or not all(map(math.isfinite, floats)):
                raise ValueError("floats of a sum that no sum has")
            for key, count in zip(keys, counts, strict=True):
                if count:
                    found.more[key] = list(islice(pieces, count))
            if not found.more.keys() <= found.first.keys():
                raise ValueError("floats of a sum that has no first one")
        if others:
            bodies = list(those_there(keys, row_of(others, number, bytes, type(None))))
            found.others = self._partials.unpack([key for key, _ in bodies], [body for _, body in bodies])
        if len(self.keys(found)) != number:
            raise ValueError("a key without a sum")
        return found

    def exact(self, state: Sums) -> bool:
        if state.table is not None:
            return state.table.form == INTEGERS
        return not state.first and not state.others

    def results(self, state: Sums, keys: Sequence[Key]) -> list[Any]:
        if state.table is not None and keys == state.table.listed:
            return state.table.sums.tolist()  # type: ignore[no-any-return]  # numpy says Any
        state.spread()
        odd = self._odd(state)
        whole, first, finish = state.whole, state.first, self.reducer.finish_native
        if not odd and not whole:
            return list(map(add, map(first.__getitem__, keys), repeat(0.0)))  # one zero
        if not odd and not first:
            return list(map(whole.__getitem__, keys))
        return [finish(odd[key]) if key in odd else whole[key] if key in whole else first[key] + 0.0 for key in keys]


def _one_form(part: Any) -> Any:
    """The partial of a sum; or floats, if they can hold it. It is the same for the same sum.

    Beside an infinity, what the finite values add up to is left out: it depends on which of them came before it.
    """
    value = special(getattr(part, "flags", 0))  # sums of arrays have none
    if not isinstance(part, Total) or part.flags & INT:
        return part if value is None else type(part)(0, part.flags)
    if value is not None:
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
        pack_integers(list(map(whole.get, keys))) if whole else [],
        firsts,
        list(map(len, pieces)),
        list(chain.from_iterable(pieces)),
        list(map(bodies.get, keys)) if bodies else [],
    ]
