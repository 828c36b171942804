"""The exact product of numbers: an integer times a power of two, rounded once at the end."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import Any, ClassVar

from mapreduce_rq.core.numbers.exact import FLOAT, INT, NAN, PLUS_INFINITY, flag_of
from mapreduce_rq.core.numbers.integers import big_type, from_bytes, is_big, to_bytes
from mapreduce_rq.core.numbers.rounding import nearest_double
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.base import Reducer
from mapreduce_rq.core.reducers.sums import (
    array_kind,
    batches,
    describe_integer,
    describe_rounded,
    is_array,
    reals,
    refuse_nan,
)

_HEADER = struct.Struct("<Bq")  # flags, exponent of two
_FARTHEST = 1 << 50  # exponent of 2^40 of the smallest doubles
_BEYOND = 1200  # powers of two from one that no double reaches


class Factors:
    """A product: its odd factors, 2^exponent, and flags (those of sums, see ``mapreduce_rq.core.numbers.exact``).

    A factor waits until another one of similar size comes, as in a binary counter: to multiply each factor into one
    growing number would take time in the square of their count. Two objects are equal if their products and flags are.
    """

    __slots__ = ("exponent", "flags", "odd")

    def __init__(self, odd: Iterable[int] = (), exponent: int = 0, flags: int = 0) -> None:
        self.odd: list[int] = []
        self.exponent = exponent
        self.flags = flags
        for factor in odd:
            self.append(factor)

    def append(self, factor: int) -> None:
        """Multiply by an integer, 0 included."""
        if factor == 0:
            self.odd, self.exponent = [0], 0
            return
        if self.odd and self.odd[0] == 0:
            return
        twos = (factor & -factor).bit_length() - 1
        self.exponent += twos
        factor >>= twos
        odd = self.odd
        while odd and odd[-1].bit_length() <= factor.bit_length():
            factor = times(odd.pop(), factor)
        if factor != 1:
            odd.append(factor)

    def whole(self) -> int:
        """The product of the odd factors (0 if any factor was 0)."""
        while len(self.odd) > 1:
            last = self.odd.pop()
            self.odd[-1] = times(self.odd[-1], last)
        return self.odd[0] if self.odd else 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Factors) and (self.whole(), self.exponent, self.flags) == (
            other.whole(),
            other.exponent,
            other.flags,
        )

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Factors({len(self.odd)} factors, exponent {self.exponent}, flags {self.flags})"


def times(left: int, right: int) -> int:
    """The product, computed by gmpy2 if that is faster."""
    if is_big(left.bit_length() + right.bit_length()):
        left = big_type()(left)
    return left * right


class Product(Reducer[Factors]):
    """The exact product of integers and floats, rounded once at the end; its size grows with the number of values.

    nan is refused; zero times infinity is nan. The sign of a zero is lost.
    """

    name: ClassVar[str] = "product"

    def zero(self) -> Factors:
        return Factors()

    def merge(self, left: Factors, right: Factors) -> Factors:
        left.exponent += right.exponent
        left.flags |= right.flags
        for factor in right.odd:
            left.append(factor)
        if left.odd[:1] == [0]:
            left.exponent = 0
        return left

    def encode(self, partial: Factors) -> bytes:
        return _HEADER.pack(partial.flags, partial.exponent) + to_bytes(partial.whole())

    def decode(self, data: bytes) -> Factors:
        if len(data) <= _HEADER.size:
            raise ValueError(f"{len(data)} bytes are too few for a product")
        flags, exponent = _HEADER.unpack_from(data)
        odd = from_bytes(data[_HEADER.size :])
        if flags > 31 or flags & NAN or abs(exponent) > _FARTHEST or (exponent if odd == 0 else not odd & 1):
            raise ValueError("not a product in its shortest form")
        return Factors((odd,), exponent, flags)

    def fold(self, lo: int, values: Iterable[Any]) -> Factors:
        if is_array(values):
            array_kind(lo, values, "numbers (int or float)")
            values = values.ravel().tolist()  # type: ignore[attr-defined]  # an array has it
        found = Factors()
        for start, batch in batches(lo, values):
            for value in reals(start, batch):
                if isinstance(value, int):
                    found.flags |= INT
                    found.append(value)
                elif math.isfinite(value):
                    found.flags |= FLOAT
                    num, den = value.as_integer_ratio()
                    found.append(num)
                    if num:
                        found.exponent -= den.bit_length() - 1
                else:
                    found.flags |= FLOAT | (flag_of(value) & NAN or PLUS_INFINITY)
                    found.append(-1 if value < 0 else 1)
            if found.flags & NAN:
                refuse_nan(start, list(reals(start, batch)))
        if found.odd[:1] == [0]:
            found.exponent = 0
        return found

    def finish_native(self, partial: Factors) -> float | int:
        odd = partial.whole()
        if odd == 0 and partial.flags & PLUS_INFINITY:
            return math.nan
        if partial.flags & PLUS_INFINITY:
            return math.inf if odd > 0 else -math.inf
        if not partial.flags & FLOAT:
            return int(odd) << partial.exponent
        return nearest_double(*_fraction(odd, partial.exponent))

    def describe(self, partial: Factors) -> Outcome:
        value = self.finish_native(partial)
        if isinstance(value, int):
            return describe_integer(value)
        if partial.flags & PLUS_INFINITY:
            return Outcome(value=repr(value), number=value, native=value, details={"overflow": False})
        return describe_rounded(value, *_fraction(partial.whole(), partial.exponent))


def _fraction(odd: int, exponent: int) -> tuple[int, int]:
    """The product as a fraction. For a product far beyond all doubles, it is one that is just beyond them."""
    size = odd.bit_length() + exponent
    if odd and not -_BEYOND < size < _BEYOND:
        odd, exponent = 1 if odd > 0 else -1, _BEYOND if size > 0 else -_BEYOND
    return (int(odd) << exponent, 1) if exponent >= 0 else (int(odd), 1 << -exponent)
