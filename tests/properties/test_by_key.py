"""Folding by key: what a dictionary of exact fractions says, the same bytes however it was cut and came together."""

from __future__ import annotations

import datetime as dt
import math
import operator
import random
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mapreduce_rq.core.reducers.base import BadValue, Law, Reducer, TermFailed
from mapreduce_rq.core.reducers.by_key import ByKey, Groups
from mapreduce_rq.core.reducers.catalogue import reducer
from mapreduce_rq.core.reducers.combine import Combine
from mapreduce_rq.core.reducers.custom import CallableReducer

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.one_of(
    FLOATS,
    st.integers(-(2**70), 2**70),
    st.integers(-5, 5),
    st.booleans(),
    st.sampled_from([math.inf, -math.inf, -0.0, 1e308, -1e308, 0.1, 1e-320]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([2**63, 2**64, -(2**70), 0.0, -0.0, 1.0, 1.5, 2.0**70, math.inf]),
    st.text(max_size=2),
    st.binary(max_size=1),
    st.sampled_from(
        [Decimal(1), Decimal("1.0"), Decimal("0.5"), Fraction(1), Fraction(1, 2), complex(1), complex(0, 1)]
    ),
    st.sampled_from([dt.date(2024, 1, 2), dt.datetime(2024, 1, 2, tzinfo=dt.UTC), dt.timedelta(1)]),
)
KEYS = st.recursive(SCALARS, lambda inner: st.one_of(st.tuples(inner), st.tuples(inner, inner)), max_leaves=3)
FEW_KEYS = st.one_of(st.integers(0, 3), st.sampled_from(["a", "b", ("a", 1), ("a", True), ("a", 1.0), 1.0, True]), KEYS)


def terms_of(keys: st.SearchStrategy[Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What a term may give."""
    pairs = st.tuples(keys, values)
    return st.one_of(pairs, pairs, st.lists(pairs, max_size=3), st.dictionaries(keys, values, max_size=2))


def pairs_of(terms: list[Any]) -> list[tuple[Any, Any]]:
    """All pairs of these terms, in their order."""
    found: list[tuple[Any, Any]] = []
    for term in terms:
        found += [term] if isinstance(term, tuple) else term.items() if isinstance(term, dict) else term
    return found


def cut(data: st.DataObject, terms: list[Any]) -> list[tuple[int, int]]:
    """Spans that make up the terms."""
    cuts = sorted(set(data.draw(st.lists(st.integers(0, len(terms)), max_size=6))) | {0, len(terms)})
    return list(pairwise(cuts))


def came_together(made: Reducer[Groups], bodies: list[bytes], seed: int) -> Groups:
    """Encoded partials merged: in any order and grouping, or for the ordered law in any grouping of neighbours."""
    rng = random.Random(seed)
    partials = [made.decode(body) for body in bodies] or [made.zero()]
    if made.law is not Law.ORDERED:
        rng.shuffle(partials)
    while len(partials) > 1:
        at = rng.randrange(len(partials) - 1)
        merged = made.merge(partials[at], partials[at + 1])
        if rng.random() < 0.3:
            merged = made.decode(made.encode(merged))
        partials[at : at + 2] = [merged]
    return partials[0]


def shape(key: Any) -> Any:
    """A key with its types."""
    if isinstance(key, tuple):
        return tuple(map(shape, key))
    return type(key).__name__, repr(key)


INNER: dict[str, tuple[Callable[[], Reducer[Any]], st.SearchStrategy[Any]]] = {
    "sum": (lambda: reducer("sum"), NUMBERS),
    "decimal": (lambda: reducer("sum"), st.one_of(st.decimals("-1e9", "1e9", places=2), st.integers())),
    "fraction": (lambda: reducer("sum"), st.one_of(st.fractions(-9, 9), st.integers())),
    "int_sum": (lambda: reducer("int_sum"), st.integers(-(2**70), 2**70)),
    "count": (lambda: reducer("count"), NUMBERS),
    "min": (lambda: reducer("min"), NUMBERS),
    "argmax": (lambda: reducer("argmax"), NUMBERS),
    "mean": (lambda: reducer("mean"), NUMBERS),
    "product": (lambda: reducer("product"), NUMBERS),
    "counter": (lambda: reducer("counter"), st.one_of(st.text(max_size=1), st.lists(st.integers(0, 2), max_size=2))),
    "list": (
        lambda: reducer("list"),
        st.one_of(st.none(), st.text(max_size=2), st.integers(), st.lists(st.booleans())),
    ),
    "concat": (lambda: reducer("concat"), st.text(max_size=3)),
    "distinct": (lambda: reducer("distinct", k=16), st.integers(0, 40)),
    "quantiles": (lambda: reducer("quantiles"), FLOATS),
    "callable": (lambda: CallableReducer(operator.add, ""), st.text(max_size=2)),
    "combine": (lambda: Combine(set, lambda seen, value: seen | {value}, operator.or_, len), st.integers(0, 9)),
    "by_key": (lambda: ByKey({"": reducer("sum")}), st.tuples(st.sampled_from([0, 1, 1.0, True]), NUMBERS)),
}


@pytest.mark.parametrize("name", INNER)
@given(st.data(), st.integers())
def test_cuts_order_and_grouping_change_no_byte(name: str, data: st.DataObject, seed: int) -> None:
    make, values = INNER[name]
    made = ByKey({"": make()})
    terms = data.draw(st.lists(terms_of(FEW_KEYS, values), max_size=20))
    whole = made.fold(0, terms)
    expected = made.canonical(whole)
    bodies = [made.encode(made.fold(lo, terms[lo:hi])) for lo, hi in cut(data, terms)]
    found = came_together(made, bodies, seed)
    assert made.canonical(found) == expected
    assert made.canonical(made.merge_encoded(made.zero(), bodies)) == expected
    assert made.canonical(made.decode(made.encode(whole))) == expected
    assert made.canonical(whole) == expected
    assert repr(made.describe(found)) == repr(made.describe(whole))
    one, other = (sorted(map(repr, map(shape, made.finish_native(each)))) for each in (found, whole))
    assert one == other


@pytest.mark.parametrize("name", INNER)
@given(st.data())
def test_each_key_has_what_the_reducer_makes_of_its_values(name: str, data: st.DataObject) -> None:
    make, values = INNER[name]
    made, alone = ByKey({"": make()}), make()
    terms = data.draw(st.lists(terms_of(FEW_KEYS, values), max_size=20))
    groups: dict[Any, tuple[list[int], list[Any]]] = {}
    for number, term in enumerate(terms):
        for key, value in pairs_of([term]):
            row = groups.setdefault(key, ([], []))
            row[0].append(number)
            row[1].append(value)
    expected = {key: alone.finish_native(alone.fold_at(*row)) for key, row in groups.items()}
    found = made.finish_native(
        came_together(made, [made.encode(made.fold(lo, terms[lo:hi])) for lo, hi in cut(data, terms)], 1)
    )
    assert found.keys() == expected.keys()
    assert {key: repr(found[key]) for key in groups} == {key: repr(value) for key, value in expected.items()}


@given(st.data())
def test_sums_are_those_of_fractions(data: st.DataObject) -> None:
    made = ByKey({"": reducer("sum")})
    pairs = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.one_of(FLOATS, st.integers(-(2**80), 2**80))), max_size=40)
    )
    bodies = [made.encode(made.fold(lo, pairs[lo:hi])) for lo, hi in cut(data, pairs)]
    found = made.finish_native(came_together(made, bodies, 0))
    for key in {key for key, _ in pairs}:
        values = [value for each, value in pairs if each == key]
        exact = sum(map(Fraction, values), Fraction(0))
        if all(type(value) is int for value in values):
            assert type(found[key]) is int
            assert found[key] == exact
        else:
            assert repr(found[key]) == repr(rounded(exact))
    assert found.keys() == {key for key, _ in pairs}


def rounded(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


@given(st.lists(FLOATS, max_size=12), st.lists(FLOATS, max_size=12))
@example([1e308, 1e308, -1e308], [1e308, -1e308, -1e308])
@example([1e308, 1e308], [-1e308])
@example([0.1] * 10, [0.2] * 5)
def test_equal_sums_are_equal_bytes(one: list[float], other: list[float]) -> None:
    """Whatever floats they are of: the second list is made to have the sum of the first."""
    made = ByKey({"": reducer("sum")})
    exact = sum(map(Fraction, one), Fraction(0))
    rest = exact - sum(map(Fraction, other), Fraction(0))
    while rest:
        piece = max(-1.7e308, min(1.7e308, rounded(rest)))
        other = [*other, piece]
        rest -= Fraction(piece)
    if not one or not other:
        return
    first, second = (made.canonical(made.fold(0, [("k", value) for value in row])) for row in (one, other))
    assert first == second


@given(st.lists(st.tuples(KEYS, st.integers()), max_size=12))
def test_equal_keys_are_one_and_the_same_one_is_shown(pairs: list[tuple[Any, int]]) -> None:
    made = ByKey({"": reducer("sum")})
    shown = {shape(key) for key in made.finish_native(made.fold(0, pairs))}
    assert len(shown) == len({key for key, _ in pairs})
    assert shown == {shape(key) for key in made.finish_native(made.fold(0, pairs[::-1]))}
    lists = ByKey({"": reducer("sum")}, sorted=True)
    rows = lists.finish_native(lists.fold(0, pairs))
    assert repr(rows) == repr(lists.finish_native(lists.fold(0, pairs[::-1])))


@given(
    st.lists(st.tuples(st.integers(0, 9), st.one_of(FLOATS, st.sampled_from([math.inf, -math.inf]))), max_size=30),
    st.integers(1, 12),
)
def test_top_are_the_largest_results(pairs: list[tuple[int, float]], top: int) -> None:
    everything = ByKey({"": reducer("sum")})
    made = ByKey({"": reducer("sum")}, top=top)
    found = made.finish_native(made.fold(0, pairs))
    results = everything.finish_native(everything.fold(0, pairs))
    expected = sorted(results.items(), key=lambda pair: (pair[1] != pair[1], -pair[1], pair[0]))[:top]
    assert repr(found) == repr(expected)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(), st.text(max_size=2)), max_size=20))
def test_columns_are_folded_each_by_its_own(rows: list[tuple[str, int, str]]) -> None:
    made = ByKey({"n": reducer("sum"), "t": reducer("list")})
    terms = [(key, {"n": number, "t": text, "unused": None}) for key, number, text in rows]
    expected: dict[str, Any] = {}
    for key, number, text in rows:
        columns = expected.setdefault(key, {"n": 0, "t": []})
        columns["n"] += number
        columns["t"].append(text)
    assert made.finish_native(made.decode(made.encode(made.fold(0, terms)))) == expected


@pytest.mark.parametrize("name", INNER)
@given(st.data())
def test_bytes_that_no_partial_makes_are_refused(name: str, data: st.DataObject) -> None:
    make, values = INNER[name]
    made = ByKey({"": make()})
    if data.draw(st.booleans()):
        body = data.draw(st.binary(max_size=60))
    else:
        terms = data.draw(st.lists(terms_of(FEW_KEYS, values), min_size=1, max_size=4))
        valid = bytearray(made.encode(made.fold(0, terms)))
        bit = data.draw(st.integers(0, 8 * len(valid) - 1))
        valid[bit // 8] ^= 1 << bit % 8
        body = bytes(valid)
    try:
        partial = made.decode(body)
    except ValueError:
        return
    made.encode(partial)
    if name not in {"callable", "combine", "concat", "product"}:  # of what is no value of a user's, or takes all memory
        made.describe(made.merge(made.zero(), partial))


@pytest.mark.parametrize("name", INNER)
@given(st.data())
def test_merging_leaves_the_right_one_alone(name: str, data: st.DataObject) -> None:
    make, values = INNER[name]
    made = ByKey({"": make()})
    rows = [data.draw(st.lists(terms_of(FEW_KEYS, values), min_size=1, max_size=4)) for _ in range(3)]
    right = made.fold(4, rows[1])
    before = made.canonical(right)
    left = made.fold(0, rows[0])
    kept = made.canonical(left)
    once = made.merge(left, right)
    assert made.canonical(right) == before
    if made.law is Law.ORDERED:
        assert made.canonical(left) == kept
    made.merge(once, made.fold(8, rows[2]))
    assert made.canonical(right) == before


def test_a_sum_that_was_beyond_all_floats_on_its_way_has_the_one_form() -> None:
    made = ByKey({"": reducer("sum")})
    terms = [[(0, 0.0), (1, math.inf)], [(1, -1.7e308), (1, -1e308)]]
    apart = [made.encode(made.fold(term, [pairs])) for term, pairs in enumerate(terms)]
    assert made.canonical(made.merge_encoded(made.zero(), apart)) == made.canonical(made.fold(0, terms))


REFUSED = [
    (1, "a pair"),
    (None, "a pair"),
    ("ab", "a pair"),
    (b"ab", "a pair"),
    (("a",), "pairs"),
    (("a", 1, 2), "pairs"),
    (["ab"], "pairs"),
    ([("a", 1), ("b",)], "pairs"),
    (([], 1), "unhashable"),
    (((1, []), 1), "unhashable"),
    ((frozenset({1}), 1), "frozenset"),
    ((math.nan, 1), "nan"),
    ((np.float64("nan"), 1), "nan"),
    (((1, math.nan), 1), "nan"),
    ((Decimal("nan"), 1), "nan"),
    pytest.param((object(), 1), "cannot travel", id="an object"),
    (("a", "b"), "numbers"),
    (("a", None), "numbers"),
    (("a", math.nan), "nan"),
]


@pytest.mark.parametrize(("value", "says"), REFUSED, ids=repr)
def test_what_is_no_pair_no_key_or_no_value_is_refused_by_its_term(value: Any, says: str) -> None:
    made = ByKey({"": reducer("sum")})
    for lo in (0, 7):
        with pytest.raises(BadValue, match=says) as caught:
            made.encode(made.fold(lo, [("a", 1), [("b", 1), ("c", 2)], value, ("d", 1)]))
        assert caught.value.term == lo + 2


KNOWN = [[("a", 1)], [("a", 0.5)], [("a", 1), ("a", 0.5)]]
"""Values that a partial has already, so that most of what comes after them needs few checks."""


@pytest.mark.parametrize("known", KNOWN, ids=repr)
@pytest.mark.parametrize(("value", "says"), REFUSED, ids=repr)
def test_what_comes_late_is_refused_by_its_term(value: Any, says: str, known: list[tuple[str, Any]]) -> None:
    made = ByKey({"": reducer("sum")})
    found = made.fold(0, known)
    with pytest.raises(BadValue, match=says) as caught:
        made.encode(made.fold_into(found, 3, [known[-1], ("b", known[-1][1]), value, ("d", 1)]))
    assert caught.value.term == 5
    made = ByKey({"": reducer("sum")})
    with pytest.raises(BadValue, match=says) as caught:
        made.encode(made.fold_at([4, 8], [[("b", known[-1][1])], value], made.fold(0, known)))
    assert caught.value.term == 8


LATE = [
    *(("a", 1), ("a", 1.5), ("a", True), ("a", -0.0), ("a", math.inf), ("a", 1e308), ("a", 2**70), ("a", Decimal(2))),
    *((1, 1), (1, 1.5), (1.0, 1), (True, 1.5), (None, 1), (("a",), 1), (np.int64(1), np.float64(1.5))),
]


@pytest.mark.parametrize("name", ["sum", "int_sum", "count"])
@given(st.lists(st.lists(st.sampled_from(LATE), max_size=6), max_size=6))
def test_pairs_of_any_kinds_in_any_batches_have_the_same_bytes(name: str, batches: list[list[Any]]) -> None:
    def whole(pair: Any) -> Any:
        return pair if name == "sum" else (pair[0], int(min(pair[1], 7)))

    rows = [[whole(pair) for pair in batch] for batch in batches]
    made = ByKey({"": reducer(name)})
    at, found = 0, made.zero()
    for batch in rows:
        found = made.fold_into(found, at, batch)
        at += len(batch)
    alone = made.zero()
    for term, pair in enumerate(pair for batch in rows for pair in batch):
        alone = made.merge(alone, made.fold(term, [pair]))
    assert made.canonical(found) == made.canonical(alone)
    assert repr(made.finish_native(found)) == repr(made.finish_native(alone))


def test_the_breadth_is_the_number_of_keys_where_a_key_has_an_even_size() -> None:
    for name, expected in (("sum", 2), ("int_sum", 2), ("count", 2), ("list", 0), ("distinct", 0)):
        made = ByKey({"": reducer(name)})
        assert made.breadth(made.fold(0, [("a", 1), ("b", 2), ("a", 3)])) == expected
    assert reducer("counter").breadth(reducer("counter").fold(0, ["a", "b", "a", 1])) == 3


def test_beside_an_infinity_the_cuts_change_no_byte() -> None:
    made = ByKey({"": reducer("sum")})
    values = [(1, 1e308), (1.0, 1e308), (1, Decimal(2)), (1, 1), (1, math.inf)]
    whole, parts = made.fold(0, values), made.zero()
    for term, value in enumerate(values):
        parts = made.merge(parts, made.fold(term, [value]))
    assert made.canonical(whole) == made.canonical(parts)
    assert made.finish_native(whole) == made.finish_native(parts) == {1: math.inf}


def test_a_generator_that_raises_names_its_term() -> None:
    def pairs() -> Any:
        yield "a", 1
        raise OSError("gone")

    made = ByKey({"": reducer("sum")})
    with pytest.raises(TermFailed) as caught:
        made.fold(5, [[("a", 1)], pairs()])
    assert caught.value.term == 6
    assert isinstance(caught.value.__cause__, OSError)


def test_a_row_without_a_column_is_refused_by_its_term() -> None:
    made = ByKey({"n": reducer("sum"), "t": reducer("list")})
    with pytest.raises(BadValue, match="'n', 't'") as caught:
        made.fold(3, [("a", {"n": 1, "t": 2}), ("a", {"n": 1})])
    assert caught.value.term == 4
    with pytest.raises(BadValue, match="for 'n'") as caught:
        made.encode(made.fold(3, [("a", {"n": math.nan, "t": 2})]))


def test_numpy_scalars_are_keys_as_pythons_are() -> None:
    made = ByKey({"": reducer("sum")})
    pairs = [(np.int64(1), 1), (1, 2), (np.str_("a"), 3), ("a", 4), ((np.int32(2), "x"), 5)]
    assert {shape(key): value for key, value in made.finish_native(made.fold(0, pairs)).items()} == {
        ("int", "1"): 3,
        ("str", "'a'"): 7,
        (("int", "2"), ("str", "'x'")): 5,
    }


def test_both_infinities_and_an_integer_are_nan() -> None:
    made = ByKey({"": reducer("sum")})
    partials = [made.fold(0, [("a", value)]) for value in (math.inf, -math.inf, 3)]
    for order in ((0, 1, 2), (2, 0, 1), (0, 2, 1)):
        whole = made.zero()
        for at in order:
            whole = made.merge(whole, made.decode(made.encode(partials[at])))
        assert repr(made.finish_native(made.decode(made.encode(whole)))) == "{'a': nan}"


def test_a_sum_by_key_takes_what_a_sum_takes() -> None:
    made, alone = ByKey({"": reducer("sum")}), reducer("sum")
    values = [
        np.float64(0.1),
        np.float32(0.5),
        np.int8(3),
        True,
        2,
        0.2,
        np.array(1.5),
        np.array([1.0, 2.0]),
        np.array([3, 4]),
    ]
    keys = [*"fiiiffpaa"]
    found = made.finish_native(made.decode(made.encode(made.fold(0, zip(keys, values, strict=True)))))
    for key in "fipa":
        expected = alone.finish_native(
            alone.fold(0, [value for at, value in zip(keys, values, strict=True) if at == key])
        )
        assert repr(found[key]) == repr(expected)


@pytest.mark.parametrize("order", [1, -1])
def test_a_key_whose_sum_is_nan_is_lost_by_no_merge_nor_are_those_behind_it(order: int) -> None:
    made = ByKey({"": reducer("sum")})
    left = made.fold(0, [(0, 0.5), (3, 1.0)])
    right = made.fold(2, [(1, math.inf), (1, -math.inf), (2, 2.0), (3, math.inf), (3, -math.inf), (4, 1e16), (4, 1.0)])
    parts = [made.decode(made.encode(part)) for part in (left, right)][::order]
    expected = made.fold(
        0,
        [(0, 0.5), (2, 2.0), (4, 1e16), (4, 1.0), *((key, value) for key in (1, 3) for value in (math.inf, -math.inf))],
    )
    found = made.merge(*parts)
    assert repr(made.finish_native(found)) == "{0: 0.5, 1: nan, 2: 2.0, 3: nan, 4: 1e+16}"
    assert made.canonical(made.decode(made.encode(found))) == made.canonical(expected)
