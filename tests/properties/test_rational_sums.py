"""Sums and means of decimals and fractions: exact, in any context of decimals, and the same bytes at any schedule."""

from __future__ import annotations

import decimal
import math
import random
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mapreduce_rq.core.reducers.base import BadValue, Reducer
from mapreduce_rq.core.reducers.catalogue import reducer

DECIMALS: Any = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False),
    st.decimals(min_value=-1000, max_value=1000, places=2),
    st.sampled_from([Decimal("1E+40"), Decimal("-1E+40"), Decimal("1E-40"), Decimal("-0.00"), Decimal("0E+3")]),
).filter(lambda value: Decimal("1E-2000") < abs(value) < Decimal("1E+2000") or not value)
FRACTIONS = st.fractions()
INTEGERS = st.one_of(st.integers(-9, 9), st.integers(-(2**70), 2**70), st.booleans())
FLOATS = st.one_of(st.floats(-10, 10), st.floats(allow_nan=False, allow_infinity=False))
INFINITE = st.sampled_from([Decimal("Infinity"), Decimal("-Infinity")])
VALUES: dict[str, Any] = {
    "decimals": st.lists(DECIMALS, min_size=1, max_size=12),
    "decimals and integers": st.lists(st.one_of(DECIMALS, INTEGERS), min_size=1, max_size=12),
    "fractions": st.lists(FRACTIONS, min_size=1, max_size=12),
    "fractions and integers": st.lists(st.one_of(FRACTIONS, INTEGERS), min_size=1, max_size=12),
    "all": st.lists(st.one_of(DECIMALS, FRACTIONS, INTEGERS, FLOATS), min_size=1, max_size=12),
    "with infinities": st.lists(st.one_of(DECIMALS, FRACTIONS, INFINITE), min_size=1, max_size=6),
}
CUTS = st.lists(st.integers(0, 20), max_size=3)


def one_total(made: Reducer[Any], values: list[Any], cuts: list[int], seed: int) -> Any:
    """Whatever the cuts, the order and the grouping of merges: the same bytes; the result."""
    edges = sorted({0, len(values), *(cut % (len(values) + 1) for cut in cuts)})
    rng = random.Random(seed)
    whole = made.encode(made.fold(0, values))
    assert made.encode(made.decode(whole)) == whole
    bodies = [made.encode(made.fold(lo, values[lo:hi])) for lo, hi in pairwise(edges)]
    rng.shuffle(bodies)
    assert made.encode(made.merge_encoded(made.zero(), bodies)) == whole
    singles = [made.decode(made.lift_encoded(term, value)) for term, value in enumerate(values)]
    rng.shuffle(singles)
    while len(singles) > 1:
        at = rng.randrange(len(singles) - 1)
        singles[at : at + 2] = [made.merge(singles[at], singles[at + 1])]
    assert made.encode(made.merge(made.zero(), singles[0])) == whole
    outcome = made.describe(made.decode(whole))
    native = made.finish_native(made.decode(whole))
    assert type(outcome.native) is type(native)
    return native


def kind_of(values: list[Any]) -> type:
    """The type that the sum has."""
    for kind in (float, Fraction, Decimal, int):
        if any(isinstance(value, kind) for value in values):
            return kind
    raise AssertionError(values)


def exact(values: list[Any]) -> Fraction:
    return sum(map(Fraction, values), Fraction(0))


@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind != "with infinities"])
@given(st.data(), CUTS, st.integers())
def test_sums_and_means_are_exact_in_any_context(kind: str, data: st.DataObject, cuts: list[int], seed: int) -> None:
    values: list[Any] = data.draw(VALUES[kind])
    with decimal.localcontext(decimal.Context(prec=3, Emax=9, Emin=-9, capitals=0, traps=[])):
        total, mean = (one_total(reducer(name), values, cuts, seed) for name in ("sum", "mean"))
    wanted = exact(values)
    made = kind_of(values)
    assert [type(total)] == [made]
    if made is float:
        assert total == rounded(wanted)
        assert mean == rounded(wanted / len(values))
        return
    assert Fraction(total) == wanted
    if made is int:
        assert mean == rounded(wanted / len(values))
    elif made is Fraction:
        assert type(mean) is Fraction
        assert mean == wanted / len(values)
    else:
        places = [value.as_tuple().exponent if isinstance(value, Decimal) else 0 for value in values]
        assert total.as_tuple().exponent == min(places)
        assert type(mean) is Decimal
        assert len(mean.as_tuple().digits) <= 28
        assert abs(Fraction(mean) - wanted / len(values)) * 2 <= Fraction(10) ** (mean.adjusted() - 27)


def rounded(value: Fraction) -> float:
    try:
        return float(value) + 0.0
    except OverflowError:
        return math.inf if value > 0 else -math.inf


@given(VALUES["with infinities"], CUTS, st.integers())
@example([Decimal("Infinity"), Decimal("-Infinity")], [1], 0)
def test_infinite_decimals_follow_the_rules_of_floats(values: list[Any], cuts: list[int], seed: int) -> None:
    infinite = {float(value) for value in values if isinstance(value, Decimal) and value.is_infinite()}
    for name in ("sum", "mean"):
        found = one_total(reducer(name), values, cuts, seed)
        if infinite:
            assert type(found) is (float if kind_of(values) is Fraction else Decimal)
            assert math.isnan(found) if len(infinite) == 2 else float(found) in infinite


def test_zeros_have_no_sign() -> None:
    assert str(reducer("sum").finish_native(reducer("sum").fold(0, [Decimal("-0.00")] * 2))) == "0.00"


def test_money_is_what_it_is() -> None:
    made = reducer("sum")
    total = made.fold(0, [Decimal("0.10"), Decimal("1E+30"), 3, Decimal("-1E+30"), Decimal("0.20")])
    assert made.describe(total).value == "3.30"
    assert made.describe(total).bound_kind == "exact"
    thirds = made.describe(made.fold(0, [Fraction(1, 3), 0.5, Decimal("0.25")]))
    assert thirds.native == float(Fraction(13, 12))
    assert thirds.bound == "7.402e-17"  # 13/12 is a third of the last bit, 2^-52/3, beyond its double; rounded up


def test_results_of_any_length_are_written() -> None:
    made = reducer("sum")
    assert made.describe(made.fold(0, [Fraction(1, 3), 10**6000])).value == f"3{'0' * 5999}1/3"
    assert made.describe(made.fold(0, [Decimal(1), Decimal("1E+6000")])).value == f"1{'0' * 5999}1"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("NaN"), r"Decimal Decimal\('NaN'\), and the reducer takes numbers other than nan"),
        (Decimal("sNaN"), r"Decimal Decimal\('sNaN'\), and the reducer takes numbers other than nan"),
        (Decimal("1E+999999"), r"Decimal Decimal\('1E\+999999'\), .* exponents from -100000 to 100000"),
        (Decimal("0E-999999"), r"Decimal Decimal\('0E-999999'\), .* exponents from -100000 to 100000"),
        (math.nan, "float nan, and the reducer takes numbers other than nan"),
        ("1", r"str '1', and the reducer takes numbers"),
        (None, "None, and the reducer takes numbers"),
    ],
)
@pytest.mark.parametrize("name", ["sum", "mean"])
def test_what_cannot_be_added_is_refused_with_its_term(name: str, value: Any, text: str) -> None:
    for good in (Decimal(1), Fraction(1, 3)):
        with pytest.raises(BadValue, match=f"^term 12 is {text}"):
            reducer(name).fold(10, [good, 1, value, good])


@pytest.mark.parametrize("name", ["sum", "mean"])
@given(VALUES["all"], st.data())
def test_bytes_that_no_such_sum_makes_are_refused(name: str, values: list[Any], data: st.DataObject) -> None:
    made = reducer(name)
    body = bytearray(made.encode(made.fold(0, [*values, data.draw(st.one_of(DECIMALS, FRACTIONS))])))
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    body[bit // 8] ^= 1 << bit % 8
    for forged in (bytes(body), bytes(body[: data.draw(st.integers(0, len(body)))])):
        try:
            partial = made.decode(forged)
        except ValueError:
            continue
        made.describe(made.merge(made.zero(), partial))
