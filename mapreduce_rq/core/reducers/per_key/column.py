"""Columns: for each key the partial of an inner reducer, in a form that is fast for that reducer.

A column's state is one dictionary or a few, by key. For most reducers it has a partial for each key, and values that
wait until there are enough to be folded in one call (``partials``). Some reducers have a faster form. Sums and counts
of integers are integers (``integers``). Sums of floats are floats, while they need no rounding (``sums``). Lists are
the values (``lists``). These forms travel as rows of plain numbers, or as one body (``packed``). ``choice`` says which
reducer has which form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any, Generic, NoReturn, TypeVar

from mapreduce_rq.core.reducers.base import BadValue, Reducer
from mapreduce_rq.core.reducers.keys import Key
from mapreduce_rq.core.reducers.per_key.table import Table

S = TypeVar("S")


class Rows:
    """Pairs of keys and values. Each pair comes from a value that was folded, and that value from a term.

    ``terms``: the terms of the values that were folded. ``owners``: returns, for each pair, the number of the value
    that it comes from; None: each value has one pair.
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

    def after(self, row: int) -> Rows:
        """The rows from this one on."""
        if not row:
            return self
        if self._owners is None:
            return Rows(self.pairs[row:], self._terms[row:])
        return Rows(self.pairs[row:], self._terms, lambda: self.owners[row:])

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
        """For each row the number of the value that it comes from."""
        return range(len(self.pairs)) if self._owners is None else self._owners()

    @property
    def terms(self) -> Sequence[int]:
        """The term of each row."""
        return self._terms if self._owners is None else [self._terms[owner] for owner in self.owners]

    def refuse(self, row: int, takes: str, value: Any = ...) -> NoReturn:
        """Raise BadValue for the value of a row."""
        owner = self.owners[row]
        error = BadValue(self._terms[owner], self.values[row] if value is ... else value, takes)
        error.row = owner
        raise error from None


FIRST, SECOND = itemgetter(0), itemgetter(1)


class Column(ABC, Generic[S]):
    """The states of one inner reducer. ``merge`` (its right argument) and ``pack`` may change a state's form, and do
    not change what it means.
    """

    def __init__(self, reducer: Reducer[Any]) -> None:
        self.reducer = reducer

    @abstractmethod
    def zero(self) -> S:
        """The state without keys."""

    @abstractmethod
    def add(self, state: S, rows: Rows) -> None:
        """Fold rows, whose terms come after those of the state. Raises BadValue."""

    def add_first(self, state: S, pairs: Sequence[Any], kind: type) -> int:
        """Fold the first of these pairs, as long as they need no check but the loop's own; return their number.

        Each of ``pairs`` is a tuple or a list, perhaps not of two. The loop ends at the first one that is no pair, that
        has a key of another type than ``kind``, or a value that the column must look at more closely. Most pairs of
        most jobs need no more, and a loop that tests each pair itself costs less than a pass over all of them for each
        test.
        """
        return 0

    @abstractmethod
    def merge(self, left: S, right: S) -> None:
        """Merge ``right`` into ``left``; the terms of ``right`` come after those of ``left``."""

    @abstractmethod
    def copy(self, state: S) -> S:
        """A state that may be changed without changing this one."""

    @abstractmethod
    def only(self, state: S, keys: Sequence[Key]) -> S:
        """The state of some of its keys. The caller must not use one of the two after it has changed the other."""

    @abstractmethod
    def keys(self, state: S) -> Collection[Key]:
        """Its keys, each once."""

    def in_order(self, state: S) -> bool:
        """Whether ``keys`` gives the keys in the order of ``keys.in_order``. False if that is not known."""
        return False

    def breadth(self, state: S) -> int:
        """The number of its keys, about, if each has about the same number of bytes, however many values were folded;
        otherwise 0. It changes nothing, and does not fold what waits.
        """
        return 0

    @abstractmethod
    def pack(self, state: S, keys: Sequence[Key]) -> Any:
        """The state as data that msgpack itself has. ``keys`` are all keys of the state, in the order to use."""

    @abstractmethod
    def unpack(self, keys: Sequence[Key], packed: Any) -> S:
        """The state that was packed. Raises ValueError for data that ``pack`` cannot have made."""

    def table(self, state: S) -> Table | None:
        """The state as a table, if it is large and fits one."""
        return None

    def from_table(self, table: Table) -> S:
        """The state that ``table`` gave. Raises ValueError in a column that has no tables."""
        raise ValueError("a table in a column that has none")

    def canonical(self, state: S, keys: Sequence[Key]) -> Any:
        """As ``pack``, and the same for states of the same rows, for any cuts and any order of merges."""
        return self.pack(state, keys)

    def exact(self, state: S) -> bool:
        """Whether the results are exact: neither rounded nor estimates."""
        return False

    @abstractmethod
    def results(self, state: S, keys: Sequence[Key]) -> list[Any]:
        """The reducer's Python object for each key."""
