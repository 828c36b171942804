"""The smallest and the largest of numbers, and of arrays of one shape, element by element.

For arrays, the result has the type that numpy gives to the arrays together; a zero in it is 0.0, never -0.0. An array
without dimensions counts as its number; the result is then also an array without dimensions, of int64 or float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.array_extremes import ArrayExtreme
from mapreduce_rq.core.reducers.arrays import (
    REALS,
    are_points,
    arrays_of,
    describe_array,
    has_arrays,
    merged,
    placed,
    point_of,
)
from mapreduce_rq.core.reducers.extremes import Extremes


class _OfArraysToo(Extremes):
    """Extremes of numbers, and of arrays of one shape, element by element."""

    def merge_others(self, left: Any, right: Any) -> Any:
        if isinstance(left, ArrayExtreme) or isinstance(right, ArrayExtreme):
            return merged(left, right, zero=None, reducer=self.name)
        return super().merge_others(left, right)

    def decode_arrays(self, data: memoryview) -> ArrayExtreme:
        return ArrayExtreme.decoded(data, largest=self.largest)

    def fold_others(self, lo: int, values: Sequence[Any], kinds: set[type]) -> Any:
        if not has_arrays(kinds):
            return super().fold_others(lo, values, kinds)
        if not are_points(values):
            return ArrayExtreme.of(lo, arrays_of(lo, values, "biuf", REALS), largest=self.largest)
        numbers = []
        for term, value in enumerate(values, lo):
            numbers += (
                [one.item() for one in arrays_of(term, [value], "biuf", REALS)]
                if has_arrays([type(value)])
                else [value]
            )
        return super().fold_others(lo, numbers, kinds)._replace(point=True)

    def placed(self, partial: Any, terms: Sequence[int]) -> Any:
        return placed(super().placed(partial, terms), terms)

    def finish_native(self, partial: Any) -> Any:
        if isinstance(partial, ArrayExtreme):
            return partial.result()
        value = super().finish_native(partial)
        return value if partial is None or not partial.point else point_of(value)

    def describe(self, partial: Any) -> Outcome:
        if isinstance(partial, ArrayExtreme) or (partial is not None and partial.point):
            return describe_array(self.finish_native(partial), exact=True)
        return super().describe(partial)


class Minimum(_OfArraysToo):
    """The smallest value; for arrays, the smallest value of each element."""

    name: ClassVar[str] = "min"
    largest: ClassVar[bool] = False


class Maximum(_OfArraysToo):
    """The largest value; for arrays, the largest value of each element."""

    name: ClassVar[str] = "max"
    largest: ClassVar[bool] = True
