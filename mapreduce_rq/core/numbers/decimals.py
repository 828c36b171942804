"""Correctly rounded decimal digits, as many as are asked for, from numbers known to lie in an interval.

A value is given as ``fixed(places) -> (f, d)``: integers with |value 10^places - f| <= d. If both ends of that
interval round to the same digits, those are the digits of the value; otherwise more guard digits or more terms are
needed. Ziv's strategy: "Fast evaluation of elementary mathematical functions with correctly rounded last bit" (1991).
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from mapreduce_rq.core.numbers.integers import big_type, digits, is_big
from mapreduce_rq.core.outcome import BoundKind, Deferred, Outcome

Fixed = Callable[[int], tuple[int, int]]

GUARDS = (12, 40)
"""Numbers of guard digits to try. With the first, the floors of ``fixed`` leave one value in 10^11 undecided; with the
second, practically none."""

MAX_DIGITS = 100_000_000


class Written(NamedTuple):
    """0.``figures`` 10^(``exponent`` + 1): a value rounded to as many significant digits as there are figures."""

    figures: str
    exponent: int
    negative: bool = False

    def half_unit(self) -> str:
        """Half a unit of the last digit, as text: the largest error of a correctly rounded value."""
        return f"5e{self.exponent - len(self.figures):+03d}"

    def outcome(
        self, bound: str | None, bound_kind: BoundKind, details: dict[str, Any], notes: tuple[str, ...]
    ) -> Outcome:
        """The value as an outcome, with a Decimal for Python, which takes 1/60 s for a few million digits."""
        text = self.text()
        return Outcome(
            value=text,
            number=self.number(),
            bound=bound,
            bound_kind=bound_kind,
            native=Deferred(decimal.Decimal, text),
            details=details,
            notes=notes,
        )

    def number(self) -> float:
        """The nearest double (of a very long value, that of its first thousand digits)."""
        leading = self.figures[:1000]
        size = float(f"{leading}e{self.exponent - len(leading) + 1}")
        return -size if self.negative else size

    def text(self) -> str:
        """All digits, in positional notation if that needs no padding zeros, otherwise in scientific notation."""
        figures, exponent = self.figures, self.exponent
        sign = "-" if self.negative else ""
        if 0 <= exponent < len(figures):
            point = exponent + 1
            return f"{sign}{figures[:point]}.{figures[point:]}" if point < len(figures) else f"{sign}{figures}"
        if -5 <= exponent < 0:
            return f"{sign}0.{'0' * (-exponent - 1)}{figures}"
        fraction = f".{figures[1:]}" if len(figures) > 1 else ""
        return f"{sign}{figures[0]}{fraction}e{exponent:+03d}"


class Rounded(NamedTuple):
    """``mantissa`` 10^(``exponent`` - digits + 1): a value rounded to ``digits`` significant digits."""

    mantissa: int
    exponent: int
    digits: int

    def written(self) -> Written:
        """The same value in figures. A million of them take a tenth of a second."""
        return Written(digits(abs(self.mantissa)).rjust(self.digits, "0"), self.exponent, self.mantissa < 0)


def round_enclosed(fixed: Fixed, exponent: int, wanted: int) -> Rounded | None:
    """The value, which is not 0, to ``wanted`` significant digits; None if the interval does not decide them.

    ``exponent``: the power of ten of the value's first digit; a guess that is one off does no harm.
    """
    for guard in GUARDS:
        while True:
            centre, error = fixed(wanted - 1 - exponent + guard)
            size = _figures(centre)
            if size == wanted + guard:
                break
            exponent += size - wanted - guard
        unit = 10**guard
        low, high = _half_up(centre - error, unit), _half_up(centre + error, unit)
        if low == high:
            return _carried(low, exponent, wanted)
    return None


def round_fraction(num: int, den: int, wanted: int) -> Rounded:
    """The exact value num/den (den > 0), rounded to ``wanted`` significant digits, ties to even."""
    if not num:
        return Rounded(0, 0, wanted)
    exponent = math.floor((num.bit_length() - den.bit_length()) * math.log10(2))
    while True:
        places = wanted - 1 - exponent
        top, bottom = (num * power_of_ten(places), den) if places >= 0 else (num, den * power_of_ten(-places))
        mantissa, rest = divmod(abs(top), bottom)
        size = _figures(mantissa)
        if size == wanted:
            break
        exponent += size - wanted
    if 2 * rest > bottom or (2 * rest == bottom and mantissa & 1):
        mantissa += 1
    return _carried(mantissa if num > 0 else -mantissa, exponent, wanted)


def fraction_fixed(num: int, den: int, log2_error: float) -> Fixed:
    """The value that differs from num/den (den > 0) by at most 2^log2_error, as a function of the places."""

    def fixed(places: int) -> tuple[int, int]:
        if places >= 0:
            return num * power_of_ten(places) // den, error_units(log2_error, places)
        return num // (den * power_of_ten(-places)), error_units(log2_error, places)

    return fixed


def error_units(log2_error: float, places: int) -> int:
    """A bound on 2^log2_error in units of 10^-places, and one more unit for a floor."""
    bits = log2_error + places * math.log2(10)
    return 2 if bits < 0 else 1 + (1 << math.ceil(bits + 1))


def power_of_ten(exponent: int) -> int:
    """Ten to the exponent, an ``mpz`` if it is big."""
    power: int = (big_type()(10) if is_big(int(exponent * 3.33)) else 10) ** exponent
    return power


def square_root(number: int) -> int:
    """The integer square root."""
    if not is_big(number.bit_length()):
        return math.isqrt(number)
    from gmpy2 import isqrt, mpz  # heavy, hence here

    root: int = isqrt(mpz(number))
    return root


def _half_up(value: int, unit: int) -> int:
    return (2 * value + unit) // (2 * unit)


def _carried(mantissa: int, exponent: int, wanted: int) -> Rounded:
    """The rounded value. If rounding up made one more digit, as from 9.99 to 10.0, the last zero is removed."""
    if abs(mantissa) == power_of_ten(wanted):
        return Rounded(mantissa // 10, exponent + 1, wanted)
    return Rounded(mantissa, exponent, wanted)


def _figures(number: int) -> int:
    """The number of digits of a number; 1 for zero."""
    number = abs(number)
    dropped = max(number.bit_length() - 64, 0)
    size = (math.log10(int(number >> dropped)) if number else 0.0) + dropped * math.log10(2)
    if abs(size - round(size)) > 1e-6:  # not near a power of ten, so the logarithm tells
        return math.floor(size) + 1
    near = round(size)
    return near + (number >= power_of_ten(near))
