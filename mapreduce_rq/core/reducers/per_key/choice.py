"""Chooses the form of the column for a reducer."""

from __future__ import annotations

from typing import Any

from mapreduce_rq.core.reducers.base import Reducer
from mapreduce_rq.core.reducers.custom import CallableReducer
from mapreduce_rq.core.reducers.per_key.column import Column
from mapreduce_rq.core.reducers.per_key.integers import CountColumn, IntColumn
from mapreduce_rq.core.reducers.per_key.lists import ListColumn
from mapreduce_rq.core.reducers.per_key.partials import ConcatColumn, PartialColumn, ValueColumn
from mapreduce_rq.core.reducers.per_key.sums import SumColumn
from mapreduce_rq.core.reducers.sequence import Concat, ListReducer
from mapreduce_rq.core.reducers.sums import Count, ExactSum, IntSum


def column_of(reducer: Reducer[Any]) -> Column[Any]:
    """The column for a reducer, in the fastest form that it allows."""
    kind = _COLUMNS.get(type(reducer), PartialColumn)
    if isinstance(reducer, ExactSum):  # or the reducer that takes arrays, too
        kind = SumColumn
    elif isinstance(reducer, CallableReducer):
        kind = ValueColumn
    return kind(reducer)


_COLUMNS: dict[type, type[Column[Any]]] = {
    IntSum: IntColumn,
    Count: CountColumn,
    ListReducer: ListColumn,
    Concat: ConcatColumn,
}
