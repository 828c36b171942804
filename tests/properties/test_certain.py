"""The digits of a running value that are shown as certain are the truth's, wherever in its bound the truth lies."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mapreduce_rq.core.numbers.certain import MOST_DIGITS, parted

VALUES = st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda value: value == 0 or 1e-200 < abs(value) < 1e200
)
ERRORS = st.one_of(st.just(0.0), st.floats(0, 1e200, allow_subnormal=False), st.floats(1e-15, 1.0))
SHARES = st.fractions(-1, 1)
FORMS = st.sampled_from([".10g", ".15g", ".17g", "r"])


def written(value: float, form: str) -> str:
    return repr(value) if form == "r" else format(value, form)


def digits_of(number: Fraction, like: str) -> str:
    """The number, cut behind as many places as the text ``like`` has, written in the same form."""
    mantissa, _, exponent = like.partition("e")
    places = len(mantissa.partition(".")[2])
    unit = Fraction(10) ** (int(exponent or 0) - places)
    count = abs(number) // unit
    text = str(count).rjust(places + 1, "0")
    text = f"{text[: len(text) - places]}.{text[len(text) - places :]}" if places else text
    return ("-" if number < 0 else "") + text


@given(VALUES, ERRORS, SHARES, FORMS)
@example(2.99999, 0.001, Fraction(1), "r")
@example(9.99, 0.02, Fraction(1), "r")
@example(4.99999999999, 0.0, Fraction(0), ".10g")
@example(-0.001, 0.001, Fraction(1), "r")
@example(1.5e-07, 1e-9, Fraction(-1), ".15g")
def test_what_is_certain_is_the_truth(value: float, error: float, share: Fraction, form: str) -> None:
    text = written(value, form)
    truth = Fraction(value) + share * Fraction(error)
    found = parted(text, error)
    assert digits_of(truth, text).startswith(found.certain), (text, error, truth)
    assert "".join(found) == text
    assert not found.beside


@given(VALUES, st.integers(2, 12))
def test_most_of_the_digits_that_a_bound_decides_are_shown(value: float, decided: int) -> None:
    """With a relative error of 10^-n about n digits are certain, unless a digit beside may change."""
    if value == 0:
        return
    text = written(value, ".17g")
    with localcontext(prec=60):
        digits = abs(Decimal(text)).scaleb(-Decimal(text).adjusted())  # 1 to 10
    error = abs(value) * 10.0**-decided
    significant = len(parted(text, error).certain.lstrip("-0.").replace(".", ""))
    middle = int(digits * 10 ** (decided - 2)) % 10  # the digit at which a carry would stop
    if 0 < middle < 9:
        assert significant >= decided - 2


@pytest.mark.parametrize(
    ("text", "error", "shown"),
    [
        ("3.14159", 0.001, "3.14"),
        ("3.14159", 5.0, ""),
        ("-3.14159", 0.001, "-3.14"),
        ("0.00123", 1e-5, "0.0012"),
        ("12345", 10, "123"),
        ("12345.5", 0.25, "12345"),
        ("7.38905609893065 (12 digits)", 1e-9, "7.38905609"),
        ("7.38905609893065e+20", 1e4, "7.3890560989306"),
        ("1/3", 0.0, ""),
        ("[1, 2]", 0.0, ""),
        ("17.5 primes", 0.25, "17"),
        ("17so", 0.25, ""),
        ("", 0.0, ""),
        ("3.14", float("nan"), ""),
        ("3.14", float("inf"), ""),
        ("3.14", -1.0, ""),
        ("1e9999", 0.0, ""),
        ("1e99999999999", 0.0, ""),
        ("1" * (MOST_DIGITS + 1), 0.0, ""),
        ("\N{ARABIC-INDIC DIGIT ONE}2", 0.25, ""),
    ],
)
def test_known(text: str, error: float, shown: str) -> None:
    assert parted(text, error).certain == shown
