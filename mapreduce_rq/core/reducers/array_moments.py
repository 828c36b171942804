"""The mean and the variance of arrays, element by element, from exact sums of the elements and of their squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from mapreduce_rq.core.numbers.column_spread import spread
from mapreduce_rq.core.numbers.columns import Columns
from mapreduce_rq.core.numbers.exact import UNIT_BITS, Total
from mapreduce_rq.core.numbers.packed_columns import Packed, packed_columns, unpacked_columns
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.arrays import ArrayPartial, ArraySum, PackedSum, describe_array
from mapreduce_rq.core.reducers.rationals import RationalMean

_SQUARE_BITS = 2 * UNIT_BITS
_EXACT_DOUBLES = 1 << 53


class _PackedMoments(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    count: int
    total: PackedSum
    squares: Packed | None


_decode = msgspec.msgpack.Decoder(_PackedMoments).decode


class ArrayMoments(ArrayPartial):
    """The number of arrays, their sum and, if a variance is wanted, the sum of the squares of their elements.

    For complex elements, the squares of both parts are in one sum.
    """

    __slots__ = ("count", "squares", "total")

    def __init__(self, count: int, total: ArraySum, squares: Columns | None) -> None:
        super().__init__(total.term, total.shape)
        self.count = count
        self.total = total
        self.squares = squares

    @classmethod
    def of(cls, lo: int, arrays: Sequence[Any], *, squares: bool) -> ArrayMoments:
        """The moments of arrays that are the terms from ``lo`` on. Raises BadValue for nan."""
        total = ArraySum.of(lo, arrays)
        found = cls(len(arrays), total, Columns(total.size, _SQUARE_BITS) if squares else None)
        if found.squares is not None:
            found._add_squares([array.ravel() for array in arrays], found.squares)
        return found

    def _add_squares(self, flat: Sequence[Any], squares: Columns) -> None:
        """Add the squares of the finite elements. Integers that are not doubles are added one by one."""
        import numpy as np  # the caller has imported it

        infinite = any(seen is not None for part in self.total.parts for seen in (part.plus, part.minus))
        rows = []
        for row in flat:
            if row.dtype.kind in "iu" and row.dtype.itemsize == 8:
                large = (row > _EXACT_DOUBLES) | (row < -_EXACT_DOUBLES)
                for column in np.flatnonzero(large).tolist():
                    squares.add_units(column, int(row[column]) ** 2 << _SQUARE_BITS)
                rows.append(np.where(large, 0, row))
            elif row.dtype.kind in "fc":
                parts = [row.real, row.imag] if row.dtype.kind == "c" else [row]
                rows += [np.where(np.isfinite(part), part, 0.0) for part in parts] if infinite else parts
            else:
                rows.append(row)
        squares.add_squares(rows)

    def begin_at(self, term: int) -> None:
        self.term = self.total.term = term

    def empty(self) -> ArrayMoments:
        squares = None if self.squares is None else Columns(self.size, _SQUARE_BITS)
        return ArrayMoments(0, self.total.empty(), squares)

    def of_numbers(self, numbers: Any) -> ArrayMoments | None:
        if isinstance(numbers, RationalMean):
            return None
        found = self.empty()
        found.count = numbers.n
        found.total.add_total(Total(numbers.units, numbers.flags))
        if found.squares is not None:
            found.squares.add_units(0, numbers.squares)
        return found

    def absorb(self, other: ArrayMoments) -> None:
        if (self.squares is None) != (other.squares is None):
            raise ValueError("moments with squares and without")
        self.count += other.count
        self.total.absorb(other.total)
        if self.squares is not None and other.squares is not None:
            self.squares.merge([other.squares])

    def encoded(self) -> bytes:
        squares = None if self.squares is None else packed_columns(self.squares)
        return msgspec.msgpack.encode(_PackedMoments(self.count, self.total.packed(), squares))

    @classmethod
    def decoded(cls, data: memoryview, *, squares: bool) -> ArrayMoments:
        """The moments of these bytes. Raises ValueError."""
        packed = _decode(data)
        if packed.count < 1 or (packed.squares is not None) != squares:
            raise ValueError(f"moments of {packed.count} arrays, with the squares of others")
        total = ArraySum.unpacked(packed.total)
        sums = None if packed.squares is None else unpacked_columns(total.size, packed.squares, _SQUARE_BITS)
        return cls(packed.count, total, sums)

    def means(self) -> Any:
        """The mean of each element, rounded once."""
        return self.total.means(self.count)

    def variances(self) -> Any:
        """The unbiased variance of each element, rounded once; nan for fewer than two values, and for infinities."""
        import numpy as np  # the caller has imported it

        if self.count < 2 or self.squares is None:
            return np.full(self.shape, math.nan)
        found = spread(self.count, self.squares, self.total.parts).quotients(self.count * (self.count - 1))
        for part in self.total.parts:
            for seen in (part.plus, part.minus):
                if seen is not None:
                    found[seen] = math.nan
        return found.reshape(self.shape)

    def outcome(self, native: Any) -> Outcome:
        """The means or the variances as the result of a job."""
        return describe_array(native, exact=False, details={"count": self.count})
