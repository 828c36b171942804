"""Values of several types in files of Parquet: each comes out as it went in, or is refused in one line.

pyarrow alone makes dates of numbers beside a date, a date of a time, and bytes of a text, and says nothing.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.core.reducers.part_files import of_one_schema, written_part
from mapreduce_rq.errors import BadParameter

parquet: Any = pytest.importorskip("pyarrow.parquet")
arrow: Any = pytest.importorskip("pyarrow")

NOON = dt.datetime(2020, 1, 1, 12)  # noqa: DTZ001  a time without a zone is another value
SCALARS = [
    *(None, True, 0, 2, 2**53 + 1, 2**63, 1577836800000000, 0.1, 0.5, float(2**53), float("inf")),
    *("1", "abc", b"1", b"abc", UUID(int=5).bytes, UUID(int=5), str(UUID(int=5))),
    *(Decimal("0.1"), Decimal("1.5"), Decimal("1E+30"), dt.timedelta(1), dt.date(2020, 1, 1)),
    *(dt.datetime(2020, 1, 1), NOON, dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),  # noqa: DTZ001  as above
]
ONE = st.sampled_from(SCALARS)
VALUES = st.one_of(ONE, st.tuples(ONE), st.tuples(ONE, ONE), st.fixed_dictionaries({"a": ONE}))


def read(parts: list[list[Any]]) -> list[Any]:
    """The values of a column, written in these parts and read."""
    contents = [written_part([(f"{k}", value) for k, value in enumerate(part)], [], "parquet") for part in parts]
    return [
        value
        for content in of_one_schema(contents)
        for value in parquet.read_table(arrow.BufferReader(content)).column("value").to_pylist()
    ]


def plain(value: Any) -> Any:
    return [plain(one) for one in value] if isinstance(value, tuple) else value


@given(st.lists(st.lists(VALUES, max_size=3), min_size=1, max_size=3))
def test_each_value_comes_out_as_it_went_in_or_is_refused(parts: list[list[Any]]) -> None:
    refused = None
    try:
        found = read(parts)
    except BadParameter as error:
        refused = str(error)
    if refused is not None:
        assert refused.startswith("the results cannot be written as Parquet, whose columns have one type: ")
        assert "\n" not in refused
        return
    assert found == [plain(value) for part in parts for value in part]
    assert [isinstance(value, bytes) for value in found] == [
        isinstance(value, bytes) for part in parts for value in part
    ]


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([[dt.date(2020, 1, 1), 2.5]], "value has date and float"),
        ([[dt.date(2020, 1, 1), NOON]], "value has date and datetime"),
        ([["abc", b"abc"]], "value has bytes and str"),
        ([["abc"], [b"abc"]], "value has binary and string values"),
        ([[("abc",)], [(b"abc",)]], "value has binary and string values"),
        ([[0.1], [Decimal("0.1")]], "value has decimal and floating values"),
        ([[(1, "a")]], "value has a tuple with members of several types"),
        ([[NOON, NOON.replace(tzinfo=dt.UTC)]], "value has times with and without a zone"),
    ],
)
def test_what_no_column_holds_is_named(parts: list[list[Any]], why: str) -> None:
    with pytest.raises(BadParameter, match=why):
        read(parts)


def test_integers_may_stand_beside_other_numbers() -> None:
    assert read([[1, 2.5], [3]]) == [1, 2.5, 3]
    assert read([[1, Decimal("2.5")], [None]]) == [1, Decimal("2.5"), None]
    assert read([[{"a": 1}, {"a": None}], [{"a": 2.5}]]) == [{"a": 1}, {"a": None}, {"a": 2.5}]
