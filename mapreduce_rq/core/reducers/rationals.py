"""Sums and means of values that include decimals or fractions: exact, in any context of decimals.

The type of the result is the first of these that occurs among the values: a float, rounded once; a Fraction; a Decimal,
with as many places as the longest of the decimals. Python refuses to add a Decimal and a float or a Fraction, because
it would have to round; here sums are rounded only at the end. Integers and booleans can be mixed with all of them.
Infinities follow the rules of float sums; if all values are decimals, the infinity is a Decimal. nan is refused. The
denominator of a sum of fractions may grow with each term.
"""

from __future__ import annotations

import decimal
import math
import sys
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import msgspec

from mapreduce_rq.core.numbers.exact import FLOAT, INT, MINUS_INFINITY, PLUS_INFINITY, UNIT_BITS, Total, special
from mapreduce_rq.core.numbers.integers import digits, from_bytes, to_bytes
from mapreduce_rq.core.numbers.rounding import nearest_double
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.base import BadValue

DECIMAL, FRACTION = 64, 128
"""Flags in addition to those of other sums."""

FARTHEST = 100_000
"""The largest exponent of a decimal; the smallest is minus this. The sum of 1E+1000000 and 1 has a million digits."""

MEAN_DIGITS = 28
"""The number of digits of a mean of decimals: the precision of Python's default context."""

_FLAGS = INT | FLOAT | PLUS_INFINITY | MINUS_INFINITY | DECIMAL | FRACTION


class _Packed(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    flags: int
    units: bytes
    decimal: str
    numerator: bytes
    denominator: bytes


_decode = msgspec.msgpack.Decoder(_Packed).decode


def has_rationals(kinds: Iterable[type]) -> bool:
    """Whether one of these types is Decimal or Fraction. This imports nothing."""
    fractions = sys.modules.get("fractions")
    sought = (decimal.Decimal, fractions.Fraction) if fractions else (decimal.Decimal,)
    return any(issubclass(kind, sought) for kind in kinds)


EXACTLY = decimal.Context(
    prec=decimal.MAX_PREC,
    rounding=decimal.ROUND_HALF_EVEN,
    Emin=decimal.MIN_EMIN,
    Emax=decimal.MAX_EMAX,
    traps=[decimal.Inexact, decimal.InvalidOperation],
)
"""A context in which no sum of decimals is rounded. The user may have changed the process's own context."""

_MEANS = decimal.Context(
    prec=MEAN_DIGITS, rounding=decimal.ROUND_HALF_EVEN, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX
)


class RationalSum(NamedTuple):
    """Exact sums of the decimals, of the fractions, and of other numbers: ``units`` and flags, as in a Total."""

    units: int
    flags: int
    decimal: decimal.Decimal | None = None
    fraction: tuple[int, int] = (0, 1)

    def plus(self, other: RationalSum) -> RationalSum:
        """The sum of both."""
        if self.decimal is None or other.decimal is None:
            decimals = other.decimal if self.decimal is None else self.decimal
        else:
            decimals = EXACTLY.add(self.decimal, other.decimal)
        fraction = _added([self.fraction, other.fraction])
        return RationalSum(self.units + other.units, self.flags | other.flags, decimals, fraction)

    def encoded(self) -> bytes:
        """The bytes, which are the same for equal sums."""
        text = "" if self.decimal is None else EXACTLY.to_sci_string(self.decimal)
        return msgspec.msgpack.encode(_Packed(self.flags, to_bytes(self.units), text, *map(to_bytes, self.fraction)))

    @classmethod
    def decoded(cls, data: memoryview) -> RationalSum:
        """The sum of these bytes. Raises ValueError."""
        packed = _decode(data)
        units, numerator, denominator = map(from_bytes, (packed.units, packed.numerator, packed.denominator))
        if packed.flags & ~_FLAGS or not packed.flags & (DECIMAL | FRACTION):
            raise ValueError(f"flags {packed.flags} of a sum of decimals and fractions")
        if denominator < 1 or math.gcd(numerator, denominator) != 1:
            raise ValueError("a fraction that is not in its lowest terms")
        found = _decimal_of(packed.decimal) if packed.decimal else None
        return cls(int(units), packed.flags, found, (int(numerator), int(denominator)))

    def ratio(self) -> tuple[int, int]:
        """The finite part, as a numerator and a denominator without a common factor."""
        parts = [self.fraction, _lowest(self.units, 1 << UNIT_BITS)]
        if self.decimal is not None:
            parts.append(self.decimal.as_integer_ratio())
        return _added(parts)

    def value(self, count: int | None = None) -> Any:
        """The sum, or the mean of ``count`` values: a float, a Fraction or a Decimal."""
        infinite = special(self.flags)
        if infinite is not None:
            return infinite if self.flags & (FLOAT | FRACTION) else decimal.Decimal(str(infinite))
        numerator, denominator = self.ratio()
        if self.flags & FLOAT:
            return nearest_double(numerator, denominator * (count or 1))
        if self.flags & FRACTION:
            from fractions import Fraction  # 5 ms, and only for such values

            return Fraction(numerator, denominator * (count or 1))
        total = decimal.Decimal(0) if self.decimal is None else self.decimal
        if self.flags & INT:
            total = EXACTLY.add(total, decimal.Decimal(int(self.units >> UNIT_BITS)))
        if not total:
            total = total.copy_abs()
        return total if count is None else _MEANS.divide(total, decimal.Decimal(count))

    def outcome(self, count: int | None = None) -> Outcome:
        """The sum, or the mean of ``count`` values, as the result of a job."""
        native = self.value(count)
        if special(self.flags) is not None:
            return Outcome(value=_text(native), number=float(native), native=native)
        exact = not self.flags & FLOAT and (count is None or bool(self.flags & FRACTION))
        return Outcome(
            value=_text(native),
            number=native if isinstance(native, float) else nearest_double(*native.as_integer_ratio()),
            bound="0" if exact else None,
            bound_kind="exact" if exact else "none",
            native=native,
        )


class RationalMean(NamedTuple):
    """The number of values and their sum, from which a mean is made."""

    n: int
    total: RationalSum

    def plus(self, other: RationalMean) -> RationalMean:
        """The number and the sum of the values of both."""
        return RationalMean(self.n + other.n, self.total.plus(other.total))

    def encoded(self) -> bytes:
        """The bytes, which are the same for equal partials."""
        return self.n.to_bytes(8, "little") + self.total.encoded()

    @classmethod
    def decoded(cls, data: memoryview) -> RationalMean:
        """The partial of these bytes. Raises ValueError."""
        count = int.from_bytes(data[:8], "little")
        if not count:
            raise ValueError("the mean of no decimals or fractions")
        return cls(count, RationalSum.decoded(data[8:]))


def rational(total: Total | RationalSum) -> RationalSum:
    """A sum of numbers in the form that can have decimals and fractions, too."""
    return RationalSum(*total) if isinstance(total, Total) else total


def rationals_of(lo: int, values: Sequence[Any]) -> tuple[RationalSum, list[tuple[int, Any]]]:
    """The sum of the decimals and fractions among some terms, and the other terms. Raises BadValue."""
    from fractions import Fraction  # 5 ms, and only for such values

    decimals: list[Any] = []
    ratios: list[tuple[int, int]] = []
    others: list[tuple[int, Any]] = []
    flags = 0
    for term, value in enumerate(values, lo):
        if isinstance(value, Fraction):
            ratios.append(value.as_integer_ratio())
            flags |= FRACTION
        elif isinstance(value, decimal.Decimal):
            flags |= DECIMAL
            if value.is_nan():
                raise BadValue(term, value, "numbers other than nan")
            if value.is_infinite():
                flags |= PLUS_INFINITY if value > 0 else MINUS_INFINITY
            elif not _is_near(value):
                raise BadValue(term, value, f"decimals with exponents from -{FARTHEST} to {FARTHEST}")
            else:
                decimals.append(value)
        else:
            others.append((term, value))
    total = reduce(EXACTLY.add, decimals) if decimals else None
    return RationalSum(0, flags, total, _added(ratios)), others


def _added(ratios: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The sum of fractions in lowest terms. They are added in pairs, so that sums of similar size are added."""
    row = list(ratios) or [(0, 1)]
    while len(row) > 1:
        row = [_lowest(*_sum_of(row[at : at + 2])) for at in range(0, len(row), 2)]
    return row[0]


def _sum_of(pair: Sequence[tuple[int, int]]) -> tuple[int, int]:
    if len(pair) == 1:
        return pair[0]
    (left, below), (right, under) = pair
    return left * under + right * below, below * under


def _lowest(numerator: int, denominator: int) -> tuple[int, int]:
    common = math.gcd(numerator, denominator)
    return numerator // common, denominator // common


def _is_near(value: decimal.Decimal) -> bool:
    """Whether a decimal is finite, and its exponent in the range that sums may have."""
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and -FARTHEST <= exponent <= FARTHEST


def _decimal_of(text: str) -> decimal.Decimal:
    """A sum of decimals from its text. Raises ValueError for any other text."""
    try:
        found = EXACTLY.create_decimal(text)
    except decimal.InvalidOperation:
        raise ValueError("a text that is no decimal") from None
    if EXACTLY.to_sci_string(found) != text or not _is_near(found):
        raise ValueError("a decimal that is no sum of such")
    return found


def _text(native: Any) -> str:
    """The number's text, of any length."""
    if isinstance(native, float):
        return repr(native)
    if isinstance(native, decimal.Decimal):
        return EXACTLY.to_sci_string(native)
    numerator = digits(native.numerator)
    return numerator if native.denominator == 1 else f"{numerator}/{digits(native.denominator)}"
