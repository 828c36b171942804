"""Values that are rare: each comes out as it went in, or is refused by its name, and none ends a job that is done."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from importlib import import_module
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.cli.screen.output import as_json
from mapreduce_rq.core.bodies import PlainCodec
from mapreduce_rq.core.plain_values import Unfit
from mapreduce_rq.core.reducers.base import BadValue
from mapreduce_rq.core.reducers.by_key import ByKey
from mapreduce_rq.core.reducers.catalogue import reducer as reducer_named
from mapreduce_rq.core.reducers.counter import CounterReducer
from mapreduce_rq.core.reducers.part_files import check_form, written_part
from mapreduce_rq.core.reducers.sequence import ListReducer
from mapreduce_rq.core.written import written
from mapreduce_rq.errors import BadParameter

TORN = "\udc80name"  # as a file's name that is not text in the system's encoding
TEXTS = st.sampled_from([TORN, "a\ud83d", "a", "é", ""])


# -- texts that UTF-8 cannot write -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.one_of(TEXTS, st.tuples(TEXTS, st.integers(0, 1))), st.integers(-9, 9)), max_size=9))
def test_a_key_may_be_the_name_of_any_file(pairs: list[tuple[Any, int]]) -> None:
    reducer = ByKey({"": reducer_named("sum")})
    expected: dict[Any, int] = {}
    total = reducer.zero()
    for number, (key, value) in enumerate(pairs):
        expected[key] = expected.get(key, 0) + value
        part = reducer.decode(reducer.encode(reducer.fold(number, [(key, value)])))
        total = reducer.merge(total, part)
    assert reducer.finish_native(reducer.decode(reducer.encode(total))) == expected
    assert reducer.canonical(total) == reducer.canonical(reducer.fold(0, pairs))


@given(st.lists(st.one_of(TEXTS, st.integers(0, 2)), max_size=9))
def test_names_of_any_files_are_counted(keys: list[Any]) -> None:
    reducer = CounterReducer()
    total = reducer.zero()
    for number, key in enumerate(keys):
        total = reducer.merge(total, reducer.decode(reducer.encode(reducer.fold(number, [[key]]))))
    assert reducer.finish_native(reducer.decode(reducer.encode(total))) == Counter(keys)
    assert reducer.canonical(total) == reducer.canonical(reducer.fold(0, keys))


def test_json_shows_the_halves_of_characters() -> None:
    value = {TORN: [TORN, {"a": (TORN, float("nan"))}]}
    shown = r"\udc80name"
    assert json.loads(as_json(value)) == {shown: [shown, {"a": [shown, None]}]}
    line = written_part([(TORN, [TORN])], [], "jsonl")
    assert json.loads(line) == {"key": shown, "value": [shown]}


PLAIN_KEYS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=())),
    st.sampled_from(
        ["\\udc80", "\udc80", "1", "null", "inf", "-inf", "2020-01-01", "YWJj", "1/3", "(1+2j)", "1.5", "P1D"]
    ),
    st.sampled_from(["\\udc80\udc81", "\udc80\\udc81", "\udc80\udc81", "\\udc80\\udc81"]),
    st.sampled_from(
        [math.inf, -math.inf, 1.5, Decimal("1.25"), Decimal("Infinity"), Fraction(1, 3), 1 + 2j, b"abc", b"1"]
    ),
    st.sampled_from(
        [
            dt.date(2020, 1, 1),
            dt.timedelta(days=1),
            dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
            UUID(int=5),
            str(UUID(int=5)),
        ]
    ),
)


@given(st.sets(st.one_of(PLAIN_KEYS, st.tuples(PLAIN_KEYS), st.tuples(PLAIN_KEYS, PLAIN_KEYS)), max_size=40))
def test_no_two_keys_of_a_part_file_become_one(keys: set[Any]) -> None:
    """1 and "1", b"abc" and its base64, a date and its text, None and both infinities."""
    lines = written_part([(key, 0) for key in keys], [], "jsonl").splitlines()
    apart = [written_part([(key, 0)], [], "jsonl").strip() for key in keys]  # as if each were in a part of its own
    assert lines == apart
    assert len({repr((row["key"], row.get("key_type"))) for row in map(json.loads, apart)}) == len(keys)


def test_only_a_key_that_json_lacks_has_a_mark() -> None:
    plain = [None, 1, 2.5, "a", (1, "a"), True, TORN, ("a", None, 1.0), ()]
    assert all(set(json.loads(written_part([(key, 0)], [], "jsonl"))) == {"key", "value"} for key in plain)
    for key, shown, mark in (
        (dt.date(2020, 1, 1), "2020-01-01", "date"),
        (b"abc", "YWJj", "bytes"),
        (math.inf, "inf", "float"),
        ((1, dt.date(2020, 1, 1)), [1, "2020-01-01"], [None, "date"]),
    ):
        row = json.loads(written_part([(key, {"n": 7})], ["n"], "jsonl"))
        assert row == {"key": shown, "key_type": mark, "n": 7}


def test_a_column_cannot_have_the_name_of_the_mark() -> None:
    for name in ("key", "key_type"):
        with pytest.raises(BadParameter, match=f"a column is called {name}"):
            check_form("jsonl", ["n", name])


# -- dates of numpy, which Python would make numbers of ----------------------------------------------------------------

FINE = ["2020-01-02T03:04:05.000000006", "NaT"]


@pytest.mark.parametrize(
    "key", [*(np.datetime64(each, "ns") for each in FINE), np.timedelta64(1, "ns"), np.timedelta64(1, "Y")]
)
def test_a_date_of_numpy_does_not_become_a_number_as_a_key(key: Any) -> None:
    for given_key in (key, (1, key)):
        with pytest.raises(BadValue, match=r"(date|timed)(time|elta)64"):
            ByKey({"": reducer_named("sum")}).fold(0, [(given_key, 1)])
    with pytest.raises(BadValue):
        CounterReducer().fold(0, [key])
    with pytest.raises(BadValue):
        CounterReducer().fold(0, [np.array([key])])
    with pytest.raises(BadValue):
        CounterReducer().fold(0, np.array([key]))


def test_a_date_of_numpy_that_python_has_too_is_a_key() -> None:
    found = ByKey({"": reducer_named("sum")}).fold(0, [(np.datetime64("2020-01-02"), 1)])
    assert ByKey({"": reducer_named("sum")}).finish_native(found) == {dt.date(2020, 1, 2): 1}


def test_dates_of_a_kernel_stay_dates() -> None:
    reducer = ListReducer()
    for unit in ("ns", "Y"):
        values = np.array(["2020", "NaT"], f"M8[{unit}]")
        found = reducer.finish_native(reducer.fold(0, values))
        assert not {type(each) for each in found} & {int, type(None)}
    assert reducer.finish_native(reducer.fold(0, np.array(["2020-01-02"], "M8[D]"))) == [dt.date(2020, 1, 2)]


def test_dates_of_numpy_are_text_in_json() -> None:
    value = np.datetime64("2020-01-02T03:04:05.000000006", "ns")
    line = written_part([("a", [value, np.array([value]), np.timedelta64(3, "ns")])], [], "jsonl")
    text = "2020-01-02T03:04:05.000000006"
    assert json.loads(line)["value"] == [text, [text], "3 nanoseconds"]


# -- arrays as plain data ----------------------------------------------------------------------------------------------

NOTED = np.dtype("f8", metadata={"unit": "m"})


@pytest.mark.parametrize(
    "dtype",
    [
        NOTED,
        np.dtype([("a", NOTED)]),
        np.dtype([("a", "f8")], metadata={"unit": "m"}),
        np.dtype([("a", (NOTED, (2,)))]),
    ],
)
def test_the_metadata_of_an_array_is_not_dropped(dtype: Any) -> None:
    for value in (np.zeros(2, dtype), np.zeros(2, dtype)[0] if dtype.names else None):
        if value is not None:
            with pytest.raises(Unfit, match="metadata"):
                PlainCodec().encode([value])


def test_an_array_of_a_type_from_another_library_is_not_sent_as_bytes() -> None:
    rational: Any = import_module("numpy._core._rational_tests").rational  # registered as other libraries do that
    with pytest.raises(Unfit, match="rational"):
        PlainCodec().encode([np.zeros(2, rational)])


# -- texts of values ---------------------------------------------------------------------------------------------------


class Mute:
    """An object whose text cannot be had."""

    def __repr__(self) -> str:
        raise LookupError


class Odd:
    """An object whose text is none."""

    def __repr__(self) -> str:
        return 3  # type: ignore[return-value]  # that is what is tested


@pytest.mark.parametrize("value", [Mute(), Odd(), np.arange(3).astype("M8")])
def test_a_value_without_a_text_has_its_type_as_text(value: Any) -> None:
    name = type(value).__name__
    assert name in written(value)
    assert written([1, value, "x"]).startswith("[1, ")
    assert written([1, value, "x"]).endswith(", 'x']")
    assert name in written({"k": (value,)})
