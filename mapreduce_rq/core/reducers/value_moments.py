"""The mean and the variance of numbers and of arrays of one shape, and the mean of decimals and fractions."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from msgspec.structs import replace

from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.array_moments import ArrayMoments
from mapreduce_rq.core.reducers.arrays import NUMBERS, are_points, arrays_of, fold_each, has_arrays, merged, placed
from mapreduce_rq.core.reducers.moments import NOTHING, OTHERS, Moments, Statistics
from mapreduce_rq.core.reducers.rationals import RationalMean, RationalSum, has_rationals, rationals_of
from mapreduce_rq.core.reducers.sums import describe_rounded

_RATIONAL, _ARRAYS = OTHERS, OTHERS + 1


class _OfArraysToo(Statistics):
    """Statistics of numbers; and of arrays of one shape, by element, rounded once, without a confidence interval."""

    squares: ClassVar[bool]
    """Whether the result for arrays needs the sum of squares."""

    @abstractmethod
    def of_arrays(self, partial: ArrayMoments) -> Any:
        """The result for arrays."""

    def merge(self, left: Any, right: Any) -> Any:
        if type(left) is Moments and type(right) is Moments:
            return Moments(left[0] + right[0], left[1] + right[1], left[2] + right[2], left[3] | right[3])
        return merged(left, right, zero=NOTHING, reducer=self.name)

    def encode_others(self, partial: Any) -> bytes:
        return b"".join([_ARRAYS.to_bytes(8, "little"), partial.encoded()])

    def decode_others(self, count: int, data: memoryview) -> Any:
        if count != _ARRAYS:
            return super().decode_others(count, data)
        return ArrayMoments.decoded(data, squares=self.squares)

    def fold_others(self, lo: int, values: Sequence[Any], kinds: set[type]) -> Any:
        if has_arrays(kinds):
            if not all(has_arrays([kind]) for kind in kinds) and are_points(values):
                return fold_each(self, enumerate(values, lo))
            return ArrayMoments.of(lo, arrays_of(lo, values, "biufc", NUMBERS), squares=self.squares)
        return super().fold_others(lo, values, kinds)

    def placed(self, partial: Any, terms: Sequence[int]) -> Any:
        return placed(partial, terms)

    def finish_native(self, partial: Any) -> Any:
        return self.of_arrays(partial) if isinstance(partial, ArrayMoments) else super().finish_native(partial)

    def describe(self, partial: Any) -> Outcome:
        if isinstance(partial, ArrayMoments):
            return partial.outcome(self.of_arrays(partial))
        return super().describe(partial)


class Mean(_OfArraysToo):
    """The mean, as Statistics; for arrays, the mean of each element, correctly rounded.

    The mean of decimals is a Decimal rounded to 28 digits, in any context. The mean of fractions is an exact Fraction.
    Both have no confidence interval. If types are mixed, the type of the result is that of the sum.
    """

    name: ClassVar[str] = "mean"
    squares: ClassVar[bool] = False

    def of_arrays(self, partial: ArrayMoments) -> Any:
        return partial.means()

    def merge(self, left: Any, right: Any) -> Any:
        if type(left) is Moments and type(right) is Moments:
            return Moments(left[0] + right[0], left[1] + right[1], left[2] + right[2], left[3] | right[3])
        if isinstance(left, ArrayMoments) or isinstance(right, ArrayMoments):
            return super().merge(left, right)
        return _rational(left).plus(_rational(right))

    def encode_others(self, partial: Any) -> bytes:
        if isinstance(partial, RationalMean):
            return _RATIONAL.to_bytes(8, "little") + partial.encoded()
        return super().encode_others(partial)

    def decode_others(self, count: int, data: memoryview) -> Any:
        return RationalMean.decoded(data) if count == _RATIONAL else super().decode_others(count, data)

    def fold_others(self, lo: int, values: Sequence[Any], kinds: set[type]) -> Any:
        if has_arrays(kinds) or not has_rationals(kinds):
            return super().fold_others(lo, values, kinds)
        found, others = rationals_of(lo, values)
        return _rational(fold_each(self, others)).plus(RationalMean(len(values) - len(others), found))

    def finish_native(self, partial: Any) -> Any:
        return partial.total.value(partial.n) if isinstance(partial, RationalMean) else super().finish_native(partial)

    def describe(self, partial: Any) -> Outcome:
        if isinstance(partial, RationalMean):
            return partial.total.outcome(partial.n)
        return super().describe(partial)


def _rational(partial: Moments | RationalMean) -> RationalMean:
    if isinstance(partial, RationalMean):
        return partial
    return RationalMean(partial.n, RationalSum(partial.units, partial.flags))


class Variance(_OfArraysToo):
    """The unbiased variance (divisor n - 1), correctly rounded; for arrays, the variance of each element.

    The variance of complex numbers is the sum of the variances of their real and imaginary parts.
    """

    name: ClassVar[str] = "variance"
    estimates: ClassVar[bool] = False
    squares: ClassVar[bool] = True

    def of_arrays(self, partial: ArrayMoments) -> Any:
        return partial.variances()

    def finish_native(self, partial: Any) -> Any:
        return partial.variance() if type(partial) is Moments else super().finish_native(partial)

    def describe(self, partial: Any) -> Outcome:
        if type(partial) is not Moments:
            return super().describe(partial)
        value = partial.variance()
        if not math.isfinite(value):
            return Outcome(value=repr(value), number=value, native=value, details=self.details(partial))
        rounded = describe_rounded(value, *partial.variance_fraction())
        return replace(rounded, native=value, details=self.details(partial))
