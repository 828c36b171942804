from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from mapreduce_rq.core.numbers.rational import MAX_LENGTH, Rational, number_text, parse_rational


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", Fraction(2)),
        (" +2 ", Fraction(2)),
        ("-0.1", Fraction(-1, 10)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("-.5e1", Fraction(-5)),
        ("1e-9", Fraction(1, 10**9)),
        ("12.50E+2", Fraction(1250)),
        ("1/3", Fraction(1, 3)),
        ("-6 / -4", Fraction(3, 2)),
        ("0x1.8p+1", Fraction(3)),
        ("-0X.8", Fraction(-1, 2)),
        ("0x1p-1074", Fraction(5e-324)),
        ("0", Fraction(0)),
        ("-0.0", Fraction(0)),
        ("1e3000", Fraction(10**3000)),
        ("7" * MAX_LENGTH, Fraction(int("7" * MAX_LENGTH))),
    ],
)
def test_text_is_taken_exactly(text: str, value: Fraction) -> None:
    assert parse_rational(text) == (value.numerator, value.denominator)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("nan", "not a finite number"),
        ("-inf", "not a finite number"),
        ("Infinity", "not a finite number"),
        ("1/0", "divides by zero"),
        ("1e999999999", "exponent 999999999 is out of range"),
        ("1e-999999999999999999999999", "is out of range"),
        ("0x1p99999", "is out of range"),
        ("1" * (MAX_LENGTH + 1), "too many"),
        ("two", "'two' is not a number"),
        ("1_000", "is not a number"),
        ("1,5", "is not a number"),
        (".", "is not a number"),
        ("e5", "is not a number"),
        ("0x", "is not a number"),
        ("1/2/3", "is not a number"),
        ("٣", "is not a number"),
        ("1\n2", "is not a number"),
    ],
)
def test_what_is_no_number_says_so_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_rational(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [2, -7, 0.1, 1e-320, -1.5e300, Fraction(22, 7), "1/3"], ids=repr)
def test_values_of_the_api_are_exact(value: object) -> None:
    found = parse_rational(number_text(value))
    assert Fraction(*found) == Fraction(value)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), True, None, [1], 1j, Decimal("0.1"), 1 << 20_000, Fraction(1, 1 << 20_000)],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        number_text(value)


def test_long_integers_of_the_api_are_exact() -> None:
    assert parse_rational(number_text(10**900)) == (10**900, 1)


def test_exact_text() -> None:
    assert str(parse_rational("0.1")) == "1/10"
    assert str(Rational(4, 1)) == "4"
