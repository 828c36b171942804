"""Tables of sums by key: the same results and digests as without them, and no other bytes can be read."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mapreduce_rq.core.reducers.by_key import ByKey
from mapreduce_rq.core.reducers.catalogue import reducer
from mapreduce_rq.core.reducers.per_key import table
from tests.properties.test_by_key import NUMBERS, came_together, cut, rounded, shape

INTEGERS = st.one_of(st.integers(-3, 3), st.sampled_from([2**62, 2**63 - 1, 2**63, -(2**63), -(2**64)]))
EVEN = st.integers(-40, 40).map(lambda number: number / 8)
KEYS = st.one_of(st.integers(0, 6), st.integers(0, 6), st.sampled_from([2**63 - 1, -(2**63), 2**63, True, 1.0, "a"]))
SINGLE = ByKey({"": reducer("sum")})
MANY = 5000


@pytest.fixture(autouse=True, scope="module")
def of_any_size() -> Iterator[None]:
    """However few keys there are, they travel as a table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "LEAST_KEYS", 1)
        yield


def pairs_of(keys: st.SearchStrategy[Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(st.tuples(keys, values), max_size=24)


PAIRS = st.one_of(
    pairs_of(st.integers(0, 6), EVEN),
    pairs_of(st.integers(0, 6), INTEGERS),
    pairs_of(KEYS, st.one_of(EVEN, NUMBERS)),
)


def is_table(body: bytes) -> bool:
    return bool(msgspec.msgpack.decode(body)[1] == table.TABLE)


@given(st.data(), PAIRS, st.integers())
def test_cuts_order_and_grouping_change_no_byte(data: st.DataObject, pairs: list[Any], seed: int) -> None:
    alone = SINGLE.zero()
    for term, pair in enumerate(pairs):
        alone = SINGLE.merge(alone, SINGLE.fold(term, [pair]))
    expected = SINGLE.canonical(alone)
    bodies = [SINGLE.encode(SINGLE.fold(lo, pairs[lo:hi])) for lo, hi in cut(data, pairs)]
    found = came_together(SINGLE, bodies, seed)
    onto = SINGLE.merge_encoded(SINGLE.zero(), bodies)
    shown = sorted(map(repr, map(shape, SINGLE.finish_native(alone).items())))
    for each in (found, onto, SINGLE.decode(SINGLE.encode(alone))):
        assert sorted(map(repr, map(shape, SINGLE.finish_native(each).items()))) == shown
        assert repr(SINGLE.describe(each)) == repr(SINGLE.describe(alone))
        assert SINGLE.canonical(each) == expected
    assert SINGLE.canonical(SINGLE.fold_into(onto, 0, [])) == expected


@given(st.data(), st.lists(st.tuples(st.integers(0, 2), st.one_of(EVEN, st.floats(-1e9, 1e9))), max_size=40))
@example(None, [(0, 2.0**53), (0, 1.0), (0, 1.0)])
@example(None, [(0, 1e308), (0, 1e308), (0, -1e308)])
def test_sums_of_floats_are_rounded_once(data: st.DataObject | None, pairs: list[tuple[int, float]]) -> None:
    spans = [(at, at + 1) for at in range(len(pairs))] if data is None else cut(data, pairs)
    bodies = [SINGLE.encode(SINGLE.fold(lo, pairs[lo:hi])) for lo, hi in spans]
    found = SINGLE.finish_native(came_together(SINGLE, bodies, 0))
    assert list(found) == sorted({key for key, _ in pairs})
    for key, value in found.items():
        assert repr(value) == repr(rounded(sum((Fraction(each) for at, each in pairs if at == key), Fraction(0))))


@given(PAIRS, PAIRS, PAIRS)
def test_merging_leaves_the_right_one_alone(first: Any, second: Any, third: Any) -> None:
    left, right, last = (SINGLE.decode(SINGLE.encode(SINGLE.fold(0, pairs))) for pairs in (first, second, third))
    before = SINGLE.canonical(SINGLE.fold(0, second))
    once = SINGLE.merge(left, right)
    SINGLE.merge(once, last)
    SINGLE.fold_into(once, 0, third)
    assert SINGLE.canonical(right) == before


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-9, 9), EVEN), min_size=1, max_size=9))
def test_columns_have_a_table_each_or_none(rows: list[tuple[int, int, float]]) -> None:
    terms = [(key, {"i": whole, "f": value}) for key, whole, value in rows]
    for made, expected in (
        (ByKey({"i": reducer("sum"), "f": reducer("sum")}), True),
        (ByKey({"i": reducer("sum"), "f": reducer("max")}), False),
    ):
        whole = made.fold(0, terms)
        body = made.encode(whole)
        assert is_table(body) is expected
        found = made.merge(made.zero(), made.decode(body))
        assert made.finish_native(found) == made.finish_native(whole)
        assert made.canonical(made.merge(found, made.decode(body))) == made.canonical(made.fold(0, terms + terms))


@pytest.mark.parametrize("value", [0.25, 3])
def test_many_keys_travel_as_a_table_and_few_do_not(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(table, "LEAST_KEYS", 4096)
    pairs = [(key * 7919 % MANY, value * key) for key in range(2 * MANY)]
    body = SINGLE.encode(SINGLE.fold(0, pairs))
    assert is_table(body)
    assert not is_table(SINGLE.encode(SINGLE.fold(0, pairs[:4000])))
    assert not is_table(SINGLE.encode(SINGLE.fold(0, [(str(key), value) for key, value in pairs])))
    sums: dict[int, float] = {}
    for key, each in pairs:
        sums[key] = sums.get(key, 0) + each
    found = SINGLE.finish_native(SINGLE.decode(body))
    assert list(found.items()) == sorted(sums.items())
    assert set(map(type, found)) == {int}
    assert set(map(type, found.values())) == {type(value)}


def words(form: str, *numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}{form}", *numbers)


GOOD = (2, table.TABLE, words("q", 1, 2), [("f", words("d", 0.5, 1.5))])


@pytest.mark.parametrize(
    "message",
    [
        (3, *GOOD[1:]),
        (-2, *GOOD[1:]),
        (0, table.TABLE, b"", [("f", b"")]),
        (*GOOD[:2], words("q", 2, 1), GOOD[3]),
        (*GOOD[:2], words("q", 1, 1), GOOD[3]),
        (*GOOD[:2], words("q", 1, 2, 3), GOOD[3]),
        (*GOOD[:2], words("q", 1, 2)[:-1], GOOD[3]),
        (*GOOD[:2], [1, 2], GOOD[3]),
        (*GOOD[:3], []),
        (*GOOD[:3], [GOOD[3][0], GOOD[3][0]]),
        (*GOOD[:3], [("f", words("d", 0.5))]),
        (*GOOD[:3], [("f", words("d", 0.5, float("nan")))]),
        (*GOOD[:3], [("f", words("d", 0.5, float("inf")))]),
        (*GOOD[:3], [("g", words("d", 0.5, 1.5))]),
        (*GOOD[:3], [("f", [0.5, 1.5])]),
        (*GOOD[:3], [([], words("d", 0.5, 1.5))]),
        (*GOOD[:3], [[[], [0.5, 1.5], [], [], []]]),
        (*GOOD[:3], [words("d", 0.5, 1.5)]),
        (*GOOD[:3], [7]),
        (*GOOD[:3], [(*GOOD[3][0], b"")]),
        (2, 0, [1, 2], GOOD[3]),
    ],
)
def test_a_table_that_none_has_packed_is_refused(message: Any) -> None:
    assert SINGLE.finish_native(SINGLE.decode(msgspec.msgpack.encode(GOOD))) == {1: 0.5, 2: 1.5}
    with pytest.raises(ValueError, match=r".+"):
        SINGLE.decode(msgspec.msgpack.encode(message))


def test_a_small_table_and_one_for_a_column_without_tables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    body = msgspec.msgpack.encode(GOOD)
    with pytest.raises(ValueError, match="a table in a column that has none"):
        ByKey({"": reducer("max")}).decode(body)
    monkeypatch.setattr(table, "LEAST_KEYS", 3)
    with pytest.raises(ValueError, match="few"):
        SINGLE.decode(body)


def test_a_zero_below_nothing_is_one_with_the_zero_above() -> None:
    body = msgspec.msgpack.encode((*GOOD[:3], [("f", words("d", -0.0, 1.5))]))
    found = SINGLE.decode(body)
    assert repr(SINGLE.finish_native(found)) == "{1: 0.0, 2: 1.5}"
    assert SINGLE.canonical(found) == SINGLE.canonical(SINGLE.fold(0, [(1, 0.0), (2, 1.5)]))


def test_a_process_without_numpy_imports_it_for_very_many_keys_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "LEAST_KEYS", 4096)
    assert (table.is_large(4095), table.is_large(4096)) == (False, True)
    monkeypatch.delitem(sys.modules, "numpy")
    assert (table.is_large(4096), table.is_large(65_535), table.is_large(65_536)) == (False, False, True)


def test_the_bytes_of_a_table_are_those_of_this_wire_version() -> None:
    """Another version reads them: to change one is to change WIRE_VERSION."""
    expected = (2, 3, words("q", -1, 7), [["i", words("q", 4, 6)], ["f", words("d", 0.5, 1.5)]])
    made = ByKey({"i": reducer("sum"), "f": reducer("sum")})
    body = made.encode(made.fold(0, [(7, {"i": 6, "f": 1.5}), (-1, {"i": 4, "f": 0.5})]))
    assert body == msgspec.msgpack.encode(expected)


# -- merging -----------------------------------------------------------------------------------------------------------

WHOLE = st.one_of(st.integers(-3, 3), st.sampled_from([2**62, 2**63 - 1, -(2**62), -(2**63)]))
FLOAT = st.one_of(EVEN, st.sampled_from([0.0, -0.0, 2.0**53, -(2.0**53), 1e308, -1e308, 5e-324]))
SUMS = st.one_of(
    st.tuples(st.just(table.INTEGERS), st.dictionaries(st.integers(0, 5), WHOLE, min_size=1)),
    st.tuples(st.just(table.FLOATS), st.dictionaries(st.integers(0, 5), FLOAT, min_size=1)),
)


def fits(one: float, other: float) -> bool:
    """Whether a table has the sum of these two, and not a rounded one."""
    if isinstance(one, int):
        return -(2**63) <= one + other < 2**63
    total = one + other
    return abs(total) < float("inf") and Fraction(total) == Fraction(one) + Fraction(other)


@given(SUMS, SUMS)
@example((table.FLOATS, {1: 0.5}), (table.FLOATS, {1: 2.0**53}))
@example((table.FLOATS, {1: 2.0**53}), (table.FLOATS, {1: 0.5}))
@example((table.FLOATS, {1: 0.5}), (table.FLOATS, {0: 1.0, 1: 2.0**53}))
@example((table.FLOATS, {1: 1e308}), (table.FLOATS, {1: 1e308, 2: 0.5}))
@example((table.INTEGERS, {1: 2**62}), (table.INTEGERS, {1: 2**62, 2: 1}))
@example((table.INTEGERS, {1: -(2**63)}), (table.INTEGERS, {1: -1}))
@example((table.INTEGERS, {1: 1}), (table.INTEGERS, {1: 2, 2: 1}))
@example((table.INTEGERS, {1: 1}), (table.FLOATS, {1: 2.0}))
def test_two_tables_are_merged_exactly_or_not_at_all(one: Any, other: Any) -> None:
    left, right = table.table_of(*one), table.table_of(*other)
    assert left is not None
    assert right is not None
    found = table.merged(left, right)
    sums = {key: (one[1].get(key, 0) + other[1].get(key, 0)) for key in sorted({**one[1], **other[1]})}
    if one[0] != other[0] or not all(fits(one[1][key], other[1][key]) for key in one[1] if key in other[1]):
        assert found is None
        return
    assert found is not None
    assert found.form == one[0]
    assert found.listed == list(sums)
    assert found.sums.tolist() == list(sums.values())
    for each, (_, before) in ((left, one), (right, other)):
        assert dict(zip(each.listed, each.sums.tolist(), strict=True)) == before  # both are as they were


@pytest.mark.parametrize(
    ("form", "sums"),
    [
        (table.INTEGERS, {1: 2**63}),
        (table.INTEGERS, {2**63: 1}),
        (table.FLOATS, {1: float("inf")}),
        (table.FLOATS, {1: 0.5, 2: float("nan")}),
        (table.INTEGERS, {True: 1}),
        (table.INTEGERS, {1: 1, "a": 1}),
    ],
)
def test_sums_that_a_table_cannot_have_are_in_none(form: str, sums: dict[Any, Any]) -> None:
    assert table.table_of(form, sums) is None


@pytest.mark.parametrize("keys", [[3, 1, 2], [1, 2, 3]])
def test_a_table_has_its_keys_in_order_and_one_zero(keys: list[int]) -> None:
    found = table.table_of(table.FLOATS, {key: -0.0 if key == 2 else key / 2 for key in keys})
    assert found is not None
    assert found.listed == [1, 2, 3]
    assert repr(found.sums.tolist()) == "[0.5, 0.0, 1.5]"
