"""Exact sums of arrays of doubles, element by element: what ``mapreduce_rq.core.numbers.exact`` is for one number.

A column is the elements at one place in all arrays. Its sum is kept as a few doubles: the first is about as large as
the sum, and each further one is about 2^-53 of the one before. All first doubles together are an array, the first
level; the second doubles are the second level, and so on. Adding two doubles leaves an error that is a double itself
(Knuth's TwoSum). So an array is added to the first level, the errors of that to the second, and so on until a level
leaves no error. Two levels are enough for values of similar size, and cost 13 additions a value.

An addition is exact here only if it stays within the range of doubles. Columns that leave this range, or come near its
ends, are kept as Python integers beside the levels. Infinities are kept as two sets of places; the rules for them are
those of a single sum. Until ``settle`` the levels depend on the order of the additions. After ``settle`` equal totals
have equal levels, and the first level is the total rounded to the nearest double.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count as numbers_from
from itertools import zip_longest
from typing import Any

from mapreduce_rq.core.numbers.block_sums import WIDTH, Space, blocks, power_above, word_sum
from mapreduce_rq.core.numbers.error_free import distil, quotients, two_product, two_sum, undecided
from mapreduce_rq.core.numbers.exact import MINUS_INFINITY, PLUS_INFINITY, UNIT_BITS, Total, to_units
from mapreduce_rq.core.numbers.rounding import nearest_double

CELLS = 1 << 15
"""The number of doubles that are added up at a time. Many narrow arrays are added in one call of numpy, which costs
less per array.
"""

LIMIT = 2.0**1000
"""A column whose sum is at least this large is kept as a Python integer."""

_NEAR_LIMIT = LIMIT / 2
DIVISORS = 1 << 48
SMALLEST_DIVIDED, LARGEST_DIVIDED = 2.0**-900, 2.0**990
SMALLEST_SQUARED, LARGEST_SQUARED = 2.0**-480, 2.0**480


class NotANumber(Exception):
    """A row to be added has a nan in it."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__(f"row {row} has nan in column {column}")
        self.row, self.column = row, column


class Columns:
    """Exact sums of ``size`` columns. Every value is a whole multiple of the unit, 2^-``unit_bits``."""

    __slots__ = ("levels", "minus", "odd", "plus", "size", "unit_bits")

    def __init__(self, size: int, unit_bits: int = UNIT_BITS) -> None:
        self.size = size
        self.unit_bits = unit_bits
        self.levels: list[Any] = []
        self.odd: dict[int, int] = {}  # column: units to be added to its levels
        self.plus: Any = None  # where an infinity was seen, as booleans
        self.minus: Any = None

    def add(self, rows: Sequence[Any]) -> None:
        """Add arrays of one dimension, of doubles or what numpy turns into these exactly. Raises NotANumber."""
        self._add_all(rows, lambda pieces, _: pieces)

    def add_squares(self, rows: Sequence[Any]) -> None:
        """Add the squares of such arrays, of finite values only; the unit must be 2^-2148."""
        self._add_all(rows, self._squares, each=2)

    def add_integers(self, rows: Sequence[Any]) -> None:
        """Add arrays of integers or booleans, at most 2^20 of them."""
        import numpy as np  # the caller has imported it

        wide = [row for row in rows if row.dtype.itemsize == 8]
        narrow = [row for row in rows if row.dtype.itemsize < 8]
        sums = []
        if narrow:
            sums.append(word_sum(narrow).astype(np.float64))
        if wide:  # halves, whose sums fit into a word, and into a double, too
            sums.append(word_sum(row & 0xFFFFFFFF for row in wide).astype(np.float64))
            sums.append(word_sum((row >> 32).astype(np.int64) for row in wide) * 2.0**32)
        self.add(sums)

    def add_units(self, column: int, units: int) -> None:
        """Add an exact number of units to one column."""
        self.odd[column] = self.odd.get(column, 0) + int(units)

    def add_total(self, column: int, total: Total) -> None:
        """Add the sum of some numbers to one column."""
        import numpy as np  # the caller has imported it

        self.add_units(column, total.units << (self.unit_bits - UNIT_BITS))
        for name, flag in (("plus", PLUS_INFINITY), ("minus", MINUS_INFINITY)):
            if total.flags & flag:
                setattr(self, name, np.arange(self.size) == column)

    def merge(self, others: Sequence[Columns]) -> None:
        """Add the sums of others, which stay as they are."""
        import numpy as np  # the caller has imported it

        levels = [other.levels for other in others]
        if not self.levels and levels:
            self.levels = [level.copy() for level in levels.pop(0)]
        for top, rows in enumerate(zip_longest(*levels)):
            self._add_all([row for row in rows if row is not None], lambda pieces, _: pieces, top=top)
        for other in others:
            for column, units in other.odd.items():
                self.add_units(column, units)
            for name in ("plus", "minus"):
                mine, theirs = getattr(self, name), getattr(other, name)
                if theirs is not None:
                    setattr(self, name, theirs if mine is None else np.logical_or(mine, theirs))

    # -- results ---------------------------------------------------------------------------------------------------

    def rounded(self) -> Any:
        """The double nearest to each sum: an infinity where one was added, or where the sum is beyond all doubles."""
        import numpy as np  # the caller has imported it

        self.settle()
        found = self.levels[0].copy() if self.levels else np.zeros(self.size)
        for column, units in self.odd.items():
            found[column] = nearest_double(units, 1 << self.unit_bits)
        return self._with_infinities(found)

    def integers(self) -> Any:
        """The sums as an array of int64 if all fit, else of Python's integers; they must be whole."""
        import numpy as np  # the caller has imported it

        self.settle()
        found = np.zeros(self.size, np.int64)
        if not self.levels:
            return found
        large = np.abs(self.levels[0]) >= 2.0**62
        for level in self.levels:
            found += np.where(large, 0.0, level).astype(np.int64)
        exact = {column: self.units(column) >> self.unit_bits for column in np.flatnonzero(large).tolist()}
        exact |= {column: units >> self.unit_bits for column, units in self.odd.items()}
        if not all(-(1 << 63) <= value < 1 << 63 for value in exact.values()):
            found = found.astype(object)
        for column, value in exact.items():
            found[column] = value
        return found

    def quotients(self, divisor: int) -> Any:
        """The double nearest to each sum divided by an integer above 0."""
        import numpy as np  # the caller has imported it

        self.settle()
        found = np.zeros(self.size)
        with np.errstate(all="ignore"):
            for lo, hi in blocks(self.size if self.levels else 0):
                rows = np.stack([level[lo:hi] for level in self.levels])
                size = np.abs(rows[0])
                plain = (size > SMALLEST_DIVIDED) & (size < LARGEST_DIVIDED) & (divisor < DIVISORS)
                found[lo:hi], unclear = quotients(rows, float(divisor))
                plain[unclear] = False
                for at in np.flatnonzero(~plain & (size > 0)).tolist():
                    found[lo + at] = nearest_double(self.units(lo + at), divisor << self.unit_bits)
        for column, units in self.odd.items():
            found[column] = nearest_double(units, divisor << self.unit_bits)
        return self._with_infinities(found)

    def overflows(self) -> bool:
        """Whether a sum without infinities is beyond all doubles."""
        return any(
            math.isinf(nearest_double(units, 1 << self.unit_bits))
            and not any(seen is not None and seen[column] for seen in (self.plus, self.minus))
            for column, units in self.odd.items()
        )

    def _with_infinities(self, found: Any) -> Any:
        if self.plus is not None:
            found[self.plus] = math.inf
        if self.minus is not None:
            found[self.minus] = -math.inf
            if self.plus is not None:
                found[self.plus & self.minus] = math.nan
        return found

    def units(self, column: int) -> int:
        """The exact finite sum of a column, in units."""
        shift = self.unit_bits - UNIT_BITS
        return self.odd.get(column, 0) + (sum(to_units(float(level[column])) for level in self.levels) << shift)

    # -- one form for equal totals ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """Bring the levels into the one form: each is the double nearest to the sum less the levels before it."""
        import numpy as np  # the caller has imported it

        self._make_own()
        strange = set(self.odd)
        for level in self.levels:
            if not (level.max(initial=0.0) < _NEAR_LIMIT and level.min(initial=0.0) > -_NEAR_LIMIT):
                strange.update(np.flatnonzero(np.abs(level) >= _NEAR_LIMIT).tolist())
        self._write_anew(sorted(strange))
        if len(self.levels) > 1:
            with np.errstate(all="ignore"):
                for lo, hi in blocks(self.size):
                    self._settle_block(lo, hi)
            first = self.levels[0]  # levels below the limit may have added up to one above it
            if not (first.max(initial=0.0) < LIMIT and first.min(initial=0.0) > -LIMIT):
                self._write_anew(np.flatnonzero(np.abs(first) >= LIMIT).tolist())
        while self.levels and not (self.levels[-1].max(initial=0.0) or self.levels[-1].min(initial=0.0)):
            self.levels.pop()

    def _write_anew(self, columns: Sequence[int]) -> None:
        """The one form of some columns, by Python's integers."""
        for column in columns:
            units = self.units(column)
            self.odd.pop(column, None)
            for level in self.levels:
                level[column] = 0.0
            if self.is_odd(units):
                self.odd[column] = units
            else:
                self._spell(column, units >> (self.unit_bits - UNIT_BITS))

    def _settle_block(self, lo: int, hi: int) -> None:
        import numpy as np  # the caller has imported it

        if len(self.levels) == 2:
            first, second = self.levels
            first[lo:hi], second[lo:hi] = two_sum(first[lo:hi], second[lo:hi])
            return
        rows = np.stack([level[lo:hi] for level in self.levels])
        unclear = np.union1d(distil(rows), undecided(rows))
        for level, row in zip(self.levels, rows, strict=True):
            level[lo:hi] = row
        self._write_anew((unclear + lo).tolist())

    def _spell(self, column: int, units: int) -> None:
        """Write the levels of a column, which are 0 until now, from its units of 2^-1074."""
        import numpy as np  # the caller has imported it

        for place in numbers_from():
            if not units:
                return
            if place == len(self.levels):
                self.levels.append(np.zeros(self.size))
            self.levels[place][column] = value = nearest_double(units, 1 << UNIT_BITS)
            units -= to_units(value)

    def is_odd(self, units: int) -> bool:
        """Whether levels cannot hold this sum. This depends on the sum alone, not on how it came about."""
        shift = self.unit_bits - UNIT_BITS
        return abs(nearest_double(units, 1 << self.unit_bits)) >= LIMIT or bool(units & ((1 << shift) - 1))

    # -- adding ----------------------------------------------------------------------------------------------------

    def _add_all(
        self, rows: Sequence[Any], made: Callable[[Sequence[Any], int], Sequence[Any]], *, each: int = 1, top: int = 0
    ) -> None:
        """Add what ``made`` gives for each block of rows and the number of its first column.

        ``made`` gives ``each`` times as many rows as it is given. They are about as large as the level ``top``.
        """
        import numpy as np  # the caller has imported it

        if not self.size or not rows:
            return
        self._make_own()
        width = min(self.size, WIDTH)
        height = power_above(min(len(rows) * each, max(CELLS // width, 4) - 1))
        space = Space(height, width)
        group = (height - 1) // each
        with np.errstate(all="ignore"):
            for lo, hi in blocks(self.size):
                for first in range(0, len(rows), group):
                    pieces = made([row[lo:hi] for row in rows[first : first + group]], lo)
                    if not self._add_block(lo, hi, pieces, space, top):
                        try:
                            pieces = self._put_aside(lo, hi, pieces)
                        except NotANumber as found:
                            raise NotANumber(first + found.row, lo + found.column) from None
                        self._add_block(lo, hi, pieces, space, top)

    def _squares(self, pieces: Sequence[Any], lo: int) -> Sequence[Any]:
        """The squares of some rows, and their errors. Squares of very large or small values are noted as units."""
        import numpy as np  # the caller has imported it

        values = np.empty((len(pieces), len(pieces[0])))
        for place, piece in enumerate(pieces):
            values[place] = piece
        size = np.abs(values)
        if not (size.max() < LARGEST_SQUARED and size.min() > SMALLEST_SQUARED):
            strange = (size != 0) & ~((size > SMALLEST_SQUARED) & (size < LARGEST_SQUARED))
            for row, column in np.argwhere(strange).tolist():
                units = to_units(float(values[row, column]))
                self.add_units(lo + column, units * units)
            values[strange] = 0.0
        product, error = two_product(values, values)
        return [*product, *error]

    def _make_own(self) -> None:
        """Copy levels that are views of the bytes they were read from, so that they can be changed."""
        self.levels = [level if level.flags.writeable else level.copy() for level in self.levels]

    def _add_block(self, lo: int, hi: int, pieces: Sequence[Any], space: Space, top: int) -> bool:
        """Add the columns [lo, hi) of some rows, from level ``top`` on.

        Returns False, and changes nothing, if a sum is not finite.
        """
        import numpy as np  # the caller has imported it

        height, width = power_above(len(pieces)), hi - lo
        rows = space.rows[:height, :width]
        for place, piece in enumerate(pieces, 1):
            rows[place] = piece
        rows[len(pieces) + 1 :] = 0.0
        sums = []
        for place in numbers_from(top):
            rows[0] = self.levels[place][lo:hi] if place < len(self.levels) else 0.0
            sums.append(space.fold(height, width))
            errors = rows[1:]
            if not (errors.max() or errors.min()):
                break
            if place > top and not np.isfinite(errors).all():
                return False
        while len(self.levels) < top + len(sums):
            self.levels.append(np.zeros(self.size))
        for level, found in zip(self.levels[top:], sums, strict=False):
            level[lo:hi] = found
        return True

    def _put_aside(self, lo: int, hi: int, pieces: Sequence[Any]) -> list[Any]:
        """Those values of some rows that are finite and not huge. The others are noted. Raises NotANumber."""
        import numpy as np  # the caller has imported it

        values = np.empty((len(pieces), hi - lo))
        for place, piece in enumerate(pieces):
            values[place] = piece
        nan = np.isnan(values)
        if nan.any():
            row, column = np.argwhere(nan)[0].tolist()
            raise NotANumber(row, column)
        for name, infinity in (("plus", math.inf), ("minus", -math.inf)):
            seen = (values == infinity).any(axis=0)
            if seen.any():
                known = getattr(self, name)
                known = np.zeros(self.size, bool) if known is None else known.copy()
                known[lo:hi] |= seen
                setattr(self, name, known)
        shift = self.unit_bits - UNIT_BITS
        values[np.isinf(values)] = 0.0
        blocks = [values, *(level[lo:hi].reshape(1, -1) for level in self.levels)]
        for block in blocks:
            huge = np.abs(block) >= _NEAR_LIMIT  # without these, a block cannot add up to an infinity
            for row, column in np.argwhere(huge).tolist():
                self.add_units(lo + column, to_units(float(block[row, column])) << shift)
            block[huge] = 0.0
        return list(values)
