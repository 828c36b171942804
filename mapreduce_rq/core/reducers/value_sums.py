"""The sum of all types that have an exact sum: numbers, arrays of one shape, decimals, fractions.

A computation of numbers alone uses ``mapreduce_rq.core.reducers.sums``, and so imports nothing for the other types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mapreduce_rq.core.numbers.exact import Total, special
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.arrays import (
    NUMBERS,
    ArraySum,
    are_points,
    arrays_of,
    fold_each,
    has_arrays,
    merged,
    placed,
)
from mapreduce_rq.core.reducers.rationals import RationalSum, has_rationals, rational, rationals_of
from mapreduce_rq.core.reducers.sums import ExactSum, describe_rounded

_ARRAY_BYTE, _RATIONAL_BYTE = b"\x22", b"\x23"  # above the tags of sums of numbers
_NOTHING = Total(0, 0)


class Sum(ExactSum):
    """As ExactSum; for arrays of one shape, the exact sum of each element, by the same rules.

    The sum of arrays is an array: of int64 if all values were integers or booleans (of Python's integers, as objects,
    if a sum does not fit), of float64 if there were floats of any width, of complex128 if there were complex numbers.

    Decimals and fractions are summed exactly, too, in any context of decimals: to a Decimal if all values were decimals
    or integers, to a Fraction if there were fractions, to a float, rounded once, if there were floats.
    """

    def merge(self, left: Any, right: Any) -> Any:
        if type(left) is Total is type(right):
            return Total(left[0] + right[0], left[1] | right[1])
        if isinstance(left, ArraySum) or isinstance(right, ArraySum):
            return merged(left, right, zero=_NOTHING, reducer=self.name)
        return rational(left).plus(rational(right))

    def encode(self, partial: Any) -> bytes:
        if type(partial) is Total:
            return super().encode(partial)
        tag = _ARRAY_BYTE if isinstance(partial, ArraySum) else _RATIONAL_BYTE
        return b"".join([tag, partial.encoded()])

    def decode(self, data: bytes) -> Any:
        if data[:1] == _ARRAY_BYTE:
            return ArraySum.decoded(memoryview(data)[1:])
        if data[:1] == _RATIONAL_BYTE:
            return RationalSum.decoded(memoryview(data)[1:])
        return super().decode(data)

    def fold_others(self, lo: int, values: Sequence[Any], kinds: set[type]) -> Any:
        if has_arrays(kinds):
            if not all(has_arrays([kind]) for kind in kinds) and are_points(values):
                return fold_each(self, enumerate(values, lo))
            return ArraySum.of(lo, arrays_of(lo, values, "biufc", NUMBERS))
        if has_rationals(kinds):
            found, others = rationals_of(lo, values)
            return rational(fold_each(self, others)).plus(found)
        return super().fold_others(lo, values, kinds)

    def placed(self, partial: Any, terms: Sequence[int]) -> Any:
        return placed(partial, terms)

    def finish_native(self, partial: Any) -> Any:
        return super().finish_native(partial) if type(partial) is Total else partial.value()

    def describe(self, partial: Any) -> Outcome:
        if type(partial) is Total:
            return super().describe(partial)
        found: Outcome = partial.outcome()
        if isinstance(partial, RationalSum) and isinstance(found.native, float) and special(partial.flags) is None:
            return describe_rounded(found.native, *partial.ratio())
        return found
