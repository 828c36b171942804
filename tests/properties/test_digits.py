"""Digits of e^x: those of flint at more precision, rounded."""

from __future__ import annotations

import decimal
from fractions import Fraction
from itertools import pairwise
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.computations.exp import Exp
from mapreduce_rq.core.computation import More, Outcome
from mapreduce_rq.core.outcome import Deferred
from tests.support.oracles import arb, enclosure


@given(
    st.one_of(
        st.fractions(-300, 300, max_denominator=1000), st.floats(-50, 50).map(Fraction), st.integers(-2000, 2000)
    ),
    st.integers(1, 400),
    st.integers(1, 5),
    st.none() | st.integers(1, 100),
)
def test_digits_are_flints_rounded(x: Fraction, digits: int, cuts: int, part: int | None) -> None:
    """In one go, or in parts of so many digits as workers do them."""
    asked_from = patch("mapreduce_rq.core.numbers.expansion.ASKED_FROM", 10**9 if part is None else 1)
    largest = patch("mapreduce_rq.core.numbers.expansion.LARGEST_PART", part or 1)
    with asked_from, largest, patch("mapreduce_rq.core.numbers.expansion.PEELED_HERE", 200):
        compare_with_flint(x, digits, cuts)


def compare_with_flint(x: Fraction, digits: int, cuts: int) -> None:
    job = Exp.create({"x": Fraction(x), "digits": digits})
    partial, counted, total = job.reducer.zero(), 0, job.total
    assert total is not None
    while True:
        edges = sorted({counted + (total - counted) * k // cuts for k in range(cuts + 1)})
        for lo, hi in pairwise(edges):
            partial = job.reducer.merge(partial, job.map(lo, hi))
        counted = total
        found = job.conclude(partial, counted)
        if isinstance(found, Outcome):
            break
        assert isinstance(found, More)
        total = found.total
    ends = enclosure(lambda: arb(Fraction(x)).exp(), int((digits + 60) * 3.33))
    context = decimal.Context(prec=digits)
    low, high = (context.divide(decimal.Decimal(end.numerator), decimal.Decimal(end.denominator)) for end in ends)
    assert decimal.Decimal(found.value) == low == high
    assert isinstance(found.native, Deferred)
    assert found.native.make() == low
    if x:
        assert found.bound is not None
        true = decimal.Context(prec=digits + 60)
        error = true.subtract(
            true.divide(decimal.Decimal(ends[0].numerator), decimal.Decimal(ends[0].denominator)), low
        )
        assert abs(error) <= decimal.Decimal(found.bound)


@given(st.fractions(-20, 20, max_denominator=50), st.integers(1, 60), st.integers(1, 60))
def test_digits_of_a_finite_sum_are_exact(x: Fraction, terms: int, digits: int) -> None:
    job = Exp.create({"x": x, "terms": terms, "digits": digits})
    assert job.total is not None
    found = job.finish(job.map(0, job.total), job.total)
    assert isinstance(found, Outcome)
    total = term = Fraction(1)
    for n in range(1, terms):
        term = term * x / n
        total += term
    expected = decimal.Context(prec=digits).divide(decimal.Decimal(total.numerator), decimal.Decimal(total.denominator))
    assert decimal.Decimal(found.value) == expected
