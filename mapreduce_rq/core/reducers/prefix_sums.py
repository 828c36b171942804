"""Running totals: for each term the exact sum of all terms up to it, rounded once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

from mapreduce_rq.core.bodies import ValueCodec
from mapreduce_rq.core.numbers.rounding import upper_text
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.sequence import ListReducer, Stretch
from mapreduce_rq.core.reducers.sums import ExactSum, is_array, reals, refuse_nan
from mapreduce_rq.core.written import written


class PrefixSums(ListReducer):
    """The list of the sums of the first 1, 2, ... values. A sum is an integer if all its values are, otherwise a float.

    Partials hold the values, because sums must not be rounded before the next value is added. Skipped terms add nothing
    and have no entry. nan is refused; the sum of both infinities is nan.
    """

    name: ClassVar[str] = "prefix_sums"

    def __init__(self) -> None:
        super().__init__()
        self._sum = ExactSum()

    def fold(self, lo: int, values: Iterable[object]) -> Stretch:
        if is_array(values):
            values = values.ravel().tolist()  # type: ignore[attr-defined]  # an array has it
        numbers = list(reals(lo, values))
        refuse_nan(lo, numbers)
        return super().fold(lo, numbers)

    def travel_by(self, codec: ValueCodec) -> None:
        """Numbers need no pickle."""

    def decode(self, data: bytes) -> Stretch:
        stretch = super().decode(data)
        values = super().finish_native(stretch)  # a value that is not a number is found here, not at the end
        if not set(map(type, values)) <= {int, float}:
            raise ValueError("prefix sums of values that are no numbers")
        refuse_nan(stretch.lo, values)
        return stretch

    def finish_native(self, partial: Stretch) -> list[float | int]:
        add, lift, rounded = self._sum.merge, self._sum.lift, self._sum.finish_native
        running, sums = self._sum.zero(), []
        for place, value in enumerate(super().finish_native(partial)):
            running = add(running, lift(place, value))
            sums.append(rounded(running))
        return sums

    def describe(self, partial: Stretch) -> Outcome:
        sums = self.finish_native(partial)
        floats = [value for value in sums if isinstance(value, float)]
        finite = all(map(math.isfinite, floats))
        width = math.ulp(max(map(abs, floats))) / 2 if floats and finite else 0.0
        return Outcome(
            value="\n".join(map(written, sums)),
            bound=upper_text(*width.as_integer_ratio()) if finite else None,
            bound_kind=("proven" if width else "exact") if finite else "none",
            native=sums,
            details={"length": len(sums)},
        )
