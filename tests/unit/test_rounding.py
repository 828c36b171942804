from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.core.numbers.rounding import decided_double, nearest_double, scaled_ratio, upper_text

LARGEST = int(1.7976931348623157e308)
HALF_ULP = 1 << 970


def test_nearest_double_at_the_ends_of_the_range() -> None:
    assert nearest_double(LARGEST + HALF_ULP - 1, 1) == 1.7976931348623157e308
    assert nearest_double(LARGEST + HALF_ULP, 1) == math.inf  # a tie: to even, and even is out
    assert nearest_double(-(LARGEST + HALF_ULP), 1) == -math.inf
    assert nearest_double(1, 1 << 1074) == 5e-324
    assert nearest_double(1, 1 << 1075) == 0.0  # a tie to even
    assert nearest_double(3, 1 << 1076) == 5e-324
    assert math.copysign(1, nearest_double(-1, 1 << 2000)) == 1


@given(st.fractions(), st.integers(-1100, 1000))
def test_nearest_double_is_that_of_fractions(value: Fraction, power: int) -> None:
    value *= Fraction(2) ** power
    try:
        expected = float(value)
    except OverflowError:
        expected = math.inf if value > 0 else -math.inf
    assert nearest_double(value.numerator, value.denominator) == expected


def test_decided_double() -> None:
    assert decided_double(1, 3, 1, 10**30) == 1 / 3
    assert decided_double(1, 3, 1, 10**15) is None
    tie = (1 << 53) + 1
    assert decided_double(tie, 1 << 53, 1, 10**90) is None
    assert decided_double(tie, 1 << 53, 0, 1) == 1.0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(1), "1e+00"),
        (Fraction(10), "1e+01"),
        (Fraction(1, 1000), "1e-03"),
        (Fraction(12345), "1.235e+04"),
        (Fraction(12340), "1.234e+04"),
        (Fraction(99991), "1e+05"),
        (Fraction(1, 3), "3.334e-01"),
        (Fraction(1, 10**200) + Fraction(1, 10**300), "1.001e-200"),
    ],
)
def test_upper_text(value: Fraction, text: str) -> None:
    assert upper_text(value.numerator, value.denominator) == text


@given(st.fractions(min_value=0), st.integers(-500, 500), st.integers(1, 6))
def test_upper_text_is_a_bound_and_a_close_one(value: Fraction, power: int, digits: int) -> None:
    value *= Fraction(10) ** power
    found = Fraction(upper_text(value.numerator, value.denominator, digits))
    assert value <= found <= value * (1 + Fraction(10) ** (1 - digits))


@given(st.integers(1, 10**30), st.integers(1, 10**30), st.integers(50_000, 60_000), st.booleans())
def test_upper_text_far_from_one(num: int, den: int, power: int, down: bool) -> None:
    num, den = (num, den << power) if down else (num << power, den)
    found = Decimal(upper_text(num, den))
    whole, fraction = f"{found:.3e}".split("e")
    exact = Fraction(num, den)
    found_exact = Fraction(whole) * Fraction(10) ** int(fraction)
    assert exact <= found_exact <= exact * Fraction(1002, 1000)


@given(st.integers(-(10**400), 10**400), st.integers(1, 10**400))
def test_scaled_ratio(num: int, den: int) -> None:
    ratio, power = scaled_ratio(num, den)
    exact = Fraction(num, den)
    assert abs(Fraction(ratio) * Fraction(2) ** power - exact) <= abs(exact) * Fraction(1, 1 << 50)
