"""The one rounding at the very end: exact fractions to doubles and to short texts."""

from __future__ import annotations

import decimal
import math


def nearest_double(num: int, den: int) -> float:
    """The double nearest to num/den, ties to even; an infinity beyond the largest double, +0.0 for what rounds to zero.

    Python's division of two ints is correctly rounded, subnormal results included.
    """
    try:
        return int(num) / int(den) + 0.0
    except OverflowError:
        return math.inf if (num > 0) == (den > 0) else -math.inf


def decided_double(num: int, den: int, error_num: int, error_den: int) -> float | None:
    """The double that each number within error_num/error_den of num/den rounds to; None if they round to several.

    ``den`` and ``error_den`` are positive.
    """
    centre, common, error = num * error_den, den * error_den, error_num * den
    low, high = nearest_double(centre - error, common), nearest_double(centre + error, common)
    return low if low == high else None


def scaled_ratio(num: int, den: int) -> tuple[float, int]:
    """``(m, e)`` with num/den = m 2^e up to a relative error of 2^-50, at the cost of two shifts; (0.0, 0) for zero."""
    if not num:
        return 0.0, 0
    drop_num, drop_den = max(num.bit_length() - 64, 0), max(den.bit_length() - 64, 0)
    return int(num >> drop_num) / int(den >> drop_den), drop_num - drop_den


def upper_text(num: int, den: int, digits: int = 4) -> str:
    """num/den >= 0 as ``3.853e-50``: with ``digits`` significant digits, and rounded up, so that it stays a bound."""
    if not num:
        return "0"
    if abs(num.bit_length() - den.bit_length()) > 40_000:
        return _upper_text_far(num, den, digits)
    num, den = int(num), int(den)
    exponent = math.floor((num.bit_length() - den.bit_length()) * math.log10(2))
    while True:
        shift = digits - 1 - exponent
        scaled = -(-num * 10**shift // den) if shift >= 0 else -(-num // (den * 10**-shift))
        if scaled > 10**digits:  # the guess was one too low; if equal, it is a carry, 9.9996 -> 10.00, and right
            exponent += 1
        elif scaled <= 10 ** (digits - 1) and not _is_power(num, den, exponent):
            exponent -= 1
        else:
            return _scientific(scaled, exponent, digits)


def _is_power(num: int, den: int, exponent: int) -> bool:
    """Whether num/den is exactly ten to the exponent."""
    return bool(num * 10 ** max(-exponent, 0) == den * 10 ** max(exponent, 0))


def _scientific(scaled: int, exponent: int, digits: int) -> str:
    text = str(scaled)
    exponent += len(text) - digits
    fraction = text[1:digits].rstrip("0")
    return f"{text[0]}{'.' if fraction else ''}{fraction}e{exponent:+03d}"


def _upper_text_far(num: int, den: int, digits: int) -> str:
    """As :func:`upper_text`, where the power of ten would be a large integer: by 64 leading bits, and ``decimal``."""
    drop_num, drop_den = max(num.bit_length() - 64, 0), max(den.bit_length() - 64, 0)
    most, least = int(num >> drop_num) + (drop_num > 0), int(den >> drop_den)
    wide = decimal.Context(prec=40, rounding=decimal.ROUND_CEILING, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
    value = wide.divide(
        wide.multiply(most, wide.power(2, drop_num)),
        wide.multiply(least, wide.power(2, drop_den)),
    )
    value = wide.multiply(value, decimal.Decimal("1.000000000000000000001"))  # covers the powers' own rounding
    short = decimal.Context(prec=digits, rounding=decimal.ROUND_CEILING, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
    value = short.plus(value)
    return _scientific(int("".join(map(str, value.as_tuple().digits)).ljust(digits, "0")), value.adjusted(), digits)
