"""The smallest and the largest value, and its term.

Integers and floats compare by their exact values. Of equal values (1 and 1.0, or 0.0 and -0.0) the one with the lowest
index counts. nan is refused, because it cannot be compared.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

from mapreduce_rq.core.numbers.integers import digits, from_bytes, to_bytes
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.base import Reducer
from mapreduce_rq.core.reducers.sums import array_kind, batches, describe_integer, is_array, reals, refuse_nan


class Extreme(NamedTuple):
    """A value and the index of its term, and whether any value was an array without dimensions."""

    term: int
    value: float | int
    point: bool = False


_HEADER = struct.Struct("<qc")
ARRAYS = _HEADER.pack(-1, b"a")
"""A header with an impossible index: it says that extremes of arrays follow."""
_DOUBLE = struct.Struct("<d")
_FLOATS, _INTEGERS = frozenset({b"f", b"F"}), frozenset({b"i", b"I"})  # capital letters: arrays without dimensions
_PLAIN = {float, int}


class Extremes(Reducer[Any]):
    """The common part of the four reducers. A partial is an Extreme; None if there are no values."""

    live: ClassVar[bool] = True
    largest: ClassVar[bool]

    def zero(self) -> Extreme | None:
        return None

    def merge(self, left: Any, right: Any) -> Any:
        if type(left) is not Extreme or type(right) is not Extreme:
            return self.merge_others(left, right)
        first, second = (left, right) if left.term <= right.term else (right, left)
        better = second.value > first.value if self.largest else second.value < first.value
        found = second if better else first
        return found._replace(point=True) if first.point is not second.point else found

    def merge_others(self, left: Any, right: Any) -> Any:
        """The merge of two partials, at least one of which is not of numbers."""
        return right if left is None else left

    def encode(self, partial: Any) -> bytes:
        if partial is None:
            return b""
        if type(partial) is not Extreme:
            return b"".join([ARRAYS, partial.encoded()])
        term, value, point = partial
        if isinstance(value, int):
            return _HEADER.pack(term, b"I" if point else b"i") + to_bytes(value)
        return _HEADER.pack(term, b"F" if point else b"f") + _DOUBLE.pack(value)

    def decode(self, data: bytes) -> Any:
        if not data:
            return None
        if len(data) <= _HEADER.size:
            raise ValueError(f"{len(data)} bytes are too few for a value and its index")
        term, kind = _HEADER.unpack_from(data)
        body = data[_HEADER.size :]
        if kind in _FLOATS and term >= 0 and len(body) == _DOUBLE.size:
            value = _DOUBLE.unpack(body)[0]
            if value != value:  # noqa: PLR0124  as nothing but nan does
                raise ValueError("an extreme that is nan")
            return Extreme(term, value, kind == b"F")
        if kind in _INTEGERS and term >= 0:
            return Extreme(term, int(from_bytes(body)), kind == b"I")
        if data[: len(ARRAYS)] == ARRAYS:
            return self.decode_arrays(memoryview(body))
        raise ValueError("neither an integer nor a double with its index")

    def lift_encoded(self, term: int, value: Any) -> bytes:
        if type(value) is float and value == value:  # noqa: PLR0124  as all but nan do
            return _HEADER.pack(term, b"f") + _DOUBLE.pack(value)
        return self.encode(self.lift(term, value))

    def decode_arrays(self, data: memoryview) -> Any:
        """A partial of arrays, for reducers that take arrays. Raises ValueError."""
        raise ValueError("extremes of arrays where there should be those of numbers")

    def fold(self, lo: int, values: Iterable[Any]) -> Any:
        if is_array(values):
            array_kind(lo, values, "numbers (int or float)")
            flat = values.ravel()  # type: ignore[attr-defined]  # an array has it
            if not flat.size:
                return None
            at = int(flat.argmax() if self.largest else flat.argmin())  # the first nan, or the first of equal values
            value = flat[at].item()
            if math.isnan(value):
                refuse_nan(lo, flat)
            return Extreme(lo + at, value)
        best: Any = None
        for start, batch in batches(lo, values):
            kinds = set(map(type, batch))
            part = self.fold_numbers(start, batch) if kinds <= _PLAIN else self.fold_others(start, batch, kinds)
            best = self.merge(best, part)
        return best

    def fold_others(self, lo: int, values: Sequence[Any], kinds: set[type]) -> Any:
        """The partial of values that are not all Python's numbers; ``kinds`` are their types."""
        return self.fold_numbers(lo, list(reals(lo, values)))

    def fold_numbers(self, lo: int, numbers: Sequence[float | int]) -> Extreme:
        """The partial of numbers, at least one."""
        refuse_nan(lo, numbers)
        at = numbers.index(max(numbers) if self.largest else min(numbers))
        return Extreme(lo + at, numbers[at])

    def placed(self, partial: Any, terms: Sequence[int]) -> Any:
        return partial._replace(term=terms[partial.term]) if type(partial) is Extreme else partial

    def finish_native(self, partial: Any) -> Any:
        return None if partial is None else partial.value

    def describe(self, partial: Any) -> Outcome:
        if partial is None:
            return Outcome(value="none", notes=("there were no values",))
        term, value, _ = partial
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


class _Places(Extremes):
    def finish_native(self, partial: Any) -> Any:
        return None if partial is None else partial.term

    def describe(self, partial: Any) -> Outcome:
        if partial is None:
            return Outcome(value="none", notes=("there were no values",))
        term, value, _ = partial
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
