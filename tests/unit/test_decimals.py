from __future__ import annotations

import decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mapreduce_rq.core.numbers.decimals import (
    Rounded,
    error_units,
    fraction_fixed,
    round_enclosed,
    round_fraction,
    square_root,
)

WIDE = st.builds(lambda value, power: value * Fraction(10) ** power, st.fractions(), st.integers(-60, 60))


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (Fraction(1, 3), 5, "0.33333"),
        (Fraction(9, 10), 1, "0.9"),
        (Fraction(95, 100), 1, "1"),  # ties to even: 9.5 to 10
        (Fraction(85, 100), 1, "0.8"),
        (Fraction(999, 1000), 2, "1.0"),
        (Fraction(99999, 10), 3, "1.00e+04"),
        (Fraction(123456), 6, "123456"),
        (Fraction(-1, 8), 2, "-0.12"),
        (Fraction(0), 4, "0.000"),
        (Fraction(1, 10**6), 2, "1.0e-06"),
        (Fraction(1, 10**5), 2, "0.000010"),
    ],
)
def test_rounding_to_digits(value: Fraction, digits: int, text: str) -> None:
    assert round_fraction(value.numerator, value.denominator, digits).written().text() == text


@given(WIDE, st.integers(1, 40))
def test_rounding_is_that_of_decimal(value: Fraction, digits: int) -> None:
    context = decimal.Context(prec=digits, rounding=decimal.ROUND_HALF_EVEN)
    expected = context.divide(decimal.Decimal(value.numerator), decimal.Decimal(value.denominator))
    rounded = round_fraction(value.numerator, value.denominator, digits)
    assert decimal.Decimal(rounded.written().text()) == expected
    assert rounded.written().number() == float(expected)
    figures = rounded.written().text().lstrip("-").partition("e")[0].replace(".", "").lstrip("0")
    assert not value or len(figures) == digits


@given(WIDE, st.integers(1, 40), st.integers(-3, 3), st.integers(-400, -60))
def test_what_an_enclosure_decides_is_right(value: Fraction, digits: int, off: int, log2_error: int) -> None:
    assume(value)
    exact = round_fraction(value.numerator, value.denominator, digits)
    shift = Fraction(2) ** log2_error * Fraction(9, 10)
    for moved in (value - shift, value, value + shift):
        fixed = fraction_fixed(moved.numerator, moved.denominator, log2_error)
        if moved:
            found = round_enclosed(fixed, exact.exponent + off, digits)
            assert found is None or found == exact


def test_an_enclosure_around_a_tie_decides_nothing() -> None:
    assert round_enclosed(fraction_fixed(5, 4, -1000.0), 0, 2) is None
    assert round_enclosed(fraction_fixed(4, 3, -3.0), 0, 10) is None


@given(st.floats(-500, 100), st.integers(-50, 100))
def test_error_units_are_enough(log2_error: float, places: int) -> None:
    exact = Fraction(2) ** int(log2_error // 1) * Fraction(10) ** places
    assert error_units(log2_error, places) >= 1 + (exact if log2_error == log2_error // 1 else 0)


def test_half_a_unit_of_the_last_place() -> None:
    assert Rounded(7389, 0, 4).written().half_unit() == "5e-04"
    assert Rounded(7389, 0, 4).written().text() == "7.389"


def test_square_roots_of_any_size() -> None:
    assert square_root(10) == 3
    assert square_root(10**100_000) == 10**50_000
