"""The exact sum of doubles and integers: one big integer, in units of the smallest subnormal.

Every double is a whole multiple of 2^-1074, so a sum kept as an integer of such units is exact, its merge is the
integer ``+``, and one rounding at the very end gives the double nearest to the true sum, whatever the order and the
grouping. Rules for values that are not finite: both infinities give nan; one infinity gives itself. A nan only sets
its flag, and reducers refuse a total with that flag.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from mapreduce_rq.core.numbers.rounding import nearest_double

UNIT_BITS = 1074
"""A unit is 2^-1074."""

NAN, PLUS_INFINITY, MINUS_INFINITY, FLOAT, INT = 1, 2, 4, 8, 16
"""Flags of a total: which kinds of values were added. The result is an integer only if all values were integers."""

BLOCK = 256
"""The number of values in one call of fsum. Any number from 64 to 1024 is about as fast; more do not fit into the
cache.
"""

NUMPY_PAYS = 1 << 20
"""From this number of values, importing numpy (80 ms) costs less than summing without it (80 ns more per value)."""

NUMPY_WINS = 1 << 9
"""From this number of values, numpy is faster, once it is imported: its calls cost 30 us."""


class Total(NamedTuple):
    """An exact sum: ``units`` times 2^-1074, and flags."""

    units: int
    flags: int


def total_of_floats(values: Sequence[float]) -> Total:
    """The exact sum of Python floats."""
    if len(values) >= (NUMPY_WINS if "numpy" in sys.modules else NUMPY_PAYS):
        import numpy as np  # heavy, hence here

        return total_of_array(np.fromiter(values, np.float64, len(values)))
    return total_by_fsum(values)


def total_by_fsum(values: Sequence[float]) -> Total:
    """The exact sum without numpy, 45 to 110 ns a value.

    ``fsum`` gives the double nearest to the sum of a block. The rounding error of that is the sum of the block and of
    the negative of that double, and so on until the error is 0.
    """
    units, flags = 0, FLOAT if values else 0
    for start in range(0, len(values), BLOCK):
        block = list(values[start : start + BLOCK])
        parts = []
        try:
            while part := math.fsum(block):
                parts.append(to_units(part))
                block.append(-part)
            units += sum(parts)
        except (OverflowError, ValueError):  # a value is not finite, or sums of this block exceed the largest double
            for value in values[start : start + BLOCK]:
                if math.isfinite(value):
                    units += to_units(value)
                else:
                    flags |= flag_of(value)
    return Total(units, flags)


def total_of_array(array: Any) -> Total:
    """The exact sum of a numpy array of doubles: 3 to 10 ns a value, up to 30 if they span hundreds of powers of two.

    Adding and subtracting a large constant rounds all values of a block to multiples of one unit. The unit is so coarse
    that the sum of these multiples is an exact double in any order. The rounding errors are treated the same way (Rump,
    Ogita and Oishi, "Accurate floating-point summation", 2008). Two rounds are enough for values of similar size; what
    is left after four is added up by exponent.
    """
    import numpy as np  # the caller has imported it

    array = np.ascontiguousarray(array, dtype=np.float64).reshape(-1)
    units, flags = 0, FLOAT if array.size else 0
    bins: Any = None
    for start in range(0, array.size, _STEP):
        rest = array[start : start + _STEP]
        largest = float(np.abs(rest).max())
        if not largest < _LARGE:
            finite = np.isfinite(rest)
            for value in np.unique(rest[~finite]).tolist():
                flags |= flag_of(value)
            rest = rest[finite]
            huge = np.abs(rest) >= _LARGE
            # sums of these could overflow; divided by 2^200, which is exact, they cannot
            units += total_of_array(rest[huge] * 2.0**-200).units << 200
            rest = rest[~huge]
            largest = float(np.abs(rest).max(initial=0.0))
        exponent = math.frexp(largest)[1]  # all values are below 2^exponent
        for _ in range(4):
            coarse = math.ldexp(1.5, exponent + _STEP_BITS)
            part = (rest + coarse) - coarse  # multiples of 2^(exponent + 15 - 52): their sums have 52 bits at most
            units += to_units(float(part.sum()))
            rest = rest - part
            if not rest.any():
                break
            exponent -= 52 - _STEP_BITS
        else:
            bins = _by_exponent(rest) + (0.0 if bins is None else bins)
            if start // _STEP % _FLUSH == _FLUSH - 1:
                units, bins = units + _units_of(bins), None
    return Total(units if bins is None else units + _units_of(bins), flags)


_STEP_BITS = 15
_STEP = 1 << _STEP_BITS  # values at a time: the temporaries stay in the second-level cache
_LARGE = 2.0**950  # from which sums and the constants above them could overflow


_FLUSH = (1 << 26) // _STEP  # steps after which bins must be emptied to stay exact


def _by_exponent(values: Any) -> Any:
    """The sums of a block, one for each exponent: of the values' leading 26 significant bits, and of their other bits.

    Within one exponent the sums of up to 2^26 such halves are exact.
    """
    import numpy as np  # the caller has imported it

    bits = values.view(np.int64)
    exponents = (bits >> 52) & 0x7FF
    leading = (bits & ~((1 << 27) - 1)).view(np.float64)
    return np.stack([np.bincount(exponents, half, 2048) for half in (leading, values - leading)])


def _units_of(bins: Any) -> int:
    return sum(map(to_units, bins[bins.nonzero()].tolist()))


def to_units(value: float) -> int:
    """A finite double in units. Raises OverflowError or ValueError if it is not finite."""
    num, den = value.as_integer_ratio()
    return num << (UNIT_BITS + 1 - den.bit_length())


def pieces_of(values: list[float]) -> list[float]:
    """The exact sum of floats as one float or more: equal sums give equal floats. A few values take about 0.5 us.

    The first float is the sum rounded to the nearest double, the next is the error of that, rounded, and so on until
    the error is 0. An infinity, or nan for both infinities, stands alone. Raises OverflowError for a finite sum beyond
    all doubles.
    """
    try:
        pieces = [first := math.fsum(values)]
        if math.isnan(first):
            return pieces
        rest = [*values, -first]
        while part := math.fsum(rest):
            pieces.append(part)
            rest.append(-part)
        return pieces
    except (OverflowError, ValueError):  # a value is not finite, or a sum on the way is beyond all doubles
        flags = 0
        for value in values:
            if not math.isfinite(value):
                flags |= flag_of(value)
        found = math.nan if flags & NAN else special(flags)
        return [found] if found is not None else pieces_of_units(sum(map(to_units, values)))


def pieces_of_units(units: int) -> list[float]:
    """As :func:`pieces_of`, of a sum in units."""
    pieces = [_nearest(units)]
    while units := units - to_units(pieces[-1]):
        pieces.append(_nearest(units))
    return pieces


def _nearest(units: int) -> float:
    found = nearest_double(units, 1 << UNIT_BITS)
    if math.isinf(found):
        raise OverflowError("the sum is beyond all doubles")
    return found


def flag_of(value: float) -> int:
    """The flag of a value that is not finite."""
    return NAN if math.isnan(value) else PLUS_INFINITY if value > 0 else MINUS_INFINITY


def special(flags: int) -> float | None:
    """The sum if the flags alone decide it: nan or an infinity; otherwise None."""
    if flags & PLUS_INFINITY and flags & MINUS_INFINITY:
        return math.nan
    if flags & PLUS_INFINITY:
        return math.inf
    return -math.inf if flags & MINUS_INFINITY else None
