"""The smallest and the largest value, and where it is.

Integers and floats compare by their exact values. Of equal values (1 and 1.0, or 0.0 and -0.0) the one with the lowest
index counts. nan, which has no place among numbers, is refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

from mapreduce_rq.core.numbers.integers import digits, from_bytes, to_bytes
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.base import Reducer
from mapreduce_rq.core.reducers.sums import array_kind, batches, describe_integer, is_array, reals, refuse_nan


class Extreme(NamedTuple):
    """A value and the index of its term."""

    term: int
    value: float | int


_HEADER = struct.Struct("<qc")
_DOUBLE = struct.Struct("<d")


class _Extremes(Reducer[Extreme | None]):
    """What the four have in common; None is the partial of no values."""

    live: ClassVar[bool] = True
    largest: ClassVar[bool]

    def zero(self) -> Extreme | None:
        return None

    def merge(self, left: Extreme | None, right: Extreme | None) -> Extreme | None:
        if left is None or right is None:
            return right if left is None else left
        first, second = (left, right) if left.term <= right.term else (right, left)
        better = second.value > first.value if self.largest else second.value < first.value
        return second if better else first

    def encode(self, partial: Extreme | None) -> bytes:
        if partial is None:
            return b""
        term, value = partial
        if isinstance(value, int):
            return _HEADER.pack(term, b"i") + to_bytes(value)
        return _HEADER.pack(term, b"f") + _DOUBLE.pack(value)

    def decode(self, data: bytes) -> Extreme | None:
        if not data:
            return None
        if len(data) <= _HEADER.size:
            raise ValueError(f"{len(data)} bytes are too few for a value and its index")
        term, kind = _HEADER.unpack_from(data)
        body = data[_HEADER.size :]
        if kind == b"i" and term >= 0:
            return Extreme(term, int(from_bytes(body)))
        if kind == b"f" and term >= 0 and len(body) == _DOUBLE.size:
            value = _DOUBLE.unpack(body)[0]
            if math.isnan(value):
                raise ValueError("an extreme that is nan")
            return Extreme(term, value)
        raise ValueError("neither an integer nor a double with its index")

    def fold(self, lo: int, values: Iterable[Any]) -> Extreme | None:
        if is_array(values):
            array_kind(lo, values, "numbers (int or float)")
            flat = values.ravel()  # type: ignore[attr-defined]  # an array has it
            if not flat.size:
                return None
            at = int(flat.argmax() if self.largest else flat.argmin())  # the first nan, or the first of equals
            value = flat[at].item()
            if math.isnan(value):
                refuse_nan(lo, flat)
            return Extreme(lo + at, value)
        best: Extreme | None = None
        choose = max if self.largest else min
        for start, batch in batches(lo, values):
            numbers = list(reals(start, batch))
            refuse_nan(start, numbers)
            at = numbers.index(choose(numbers))
            best = self.merge(best, Extreme(start + at, numbers[at]))
        return best

    def finish_native(self, partial: Extreme | None) -> Any:
        return None if partial is None else partial.value

    def describe(self, partial: Extreme | None) -> Outcome:
        if partial is None:
            return Outcome(value="none", notes=("there were no values",))
        term, value = partial
        if isinstance(value, int):
            outcome = describe_integer(value)
            return Outcome(
                value=outcome.value,
                number=outcome.number,
                bound="0",
                bound_kind="exact",
                native=value,
                details={"term": term},
            )
        return Outcome(
            value=repr(value),
            number=value,
            bound="0",
            bound_kind="exact",
            native=value,
            details={"term": term},
        )


class Minimum(_Extremes):
    """The smallest value."""

    name: ClassVar[str] = "min"
    largest: ClassVar[bool] = False


class Maximum(_Extremes):
    """The largest value."""

    name: ClassVar[str] = "max"
    largest: ClassVar[bool] = True


class _Places(_Extremes):
    def finish_native(self, partial: Extreme | None) -> int | None:
        return None if partial is None else partial.term

    def describe(self, partial: Extreme | None) -> Outcome:
        if partial is None:
            return Outcome(value="none", notes=("there were no values",))
        term, value = partial
        text = digits(value) if isinstance(value, int) else repr(value)
        return Outcome(
            value=str(term),
            number=float(term),
            bound="0",
            bound_kind="exact",
            native=term,
            details={"at_value": text},
        )


class ArgMin(_Places):
    """The index of the smallest value."""

    name: ClassVar[str] = "argmin"
    largest: ClassVar[bool] = False


class ArgMax(_Places):
    """The index of the largest value."""

    name: ClassVar[str] = "argmax"
    largest: ClassVar[bool] = True
