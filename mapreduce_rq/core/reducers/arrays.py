"""Reduces numpy arrays element by element: the common part of the reducers of numbers.

The values of a job are numbers, or arrays of one shape. The first value decides which, and a value of another shape is
refused in one line. Arrays hold booleans, integers, floats of 16 to 64 bits or, for sums and means, complex numbers, in
any byte order and memory layout. Numbers and arrays without dimensions can be mixed; the result is then an array
without dimensions. Subclasses of arrays are refused, because they may have a meaning beyond their numbers (a mask, a
unit).
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from mapreduce_rq.core.numbers.columns import Columns, NotANumber
from mapreduce_rq.core.numbers.exact import FLOAT, INT, Total
from mapreduce_rq.core.numbers.packed_columns import Packed, packed_columns, unpacked_columns
from mapreduce_rq.core.numbers.rounding import upper_text
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.base import BadValue, MergeError, Reducer
from mapreduce_rq.core.written import written

P = TypeVar("P")

COMPLEX = 32
"""A flag of a sum of arrays, in addition to INT and FLOAT."""

REALS = "arrays of booleans, integers and floats of 16 to 64 bits"
NUMBERS = f"{REALS}, and of complex numbers of twice that"
MOST_DIMENSIONS = 64  # numpy's own limit


class BadArray(BadValue):
    """As BadValue, for an array: the message has its shape or type instead of its text."""

    def __init__(self, term: int, what: str, takes: str, beside: tuple[int, str] | None = None) -> None:
        super().__init__(term, None, takes, beside)
        self.what = what


class UnlikeValues(MergeError):
    """Two partials have values that cannot be reduced together: the job cannot go on.

    ``text`` has braces in the places of ``terms``.
    """

    def __init__(self, text: str, *terms: int) -> None:
        Exception.__init__(self, text, *terms)

    def renumber(self, number: Callable[[int], int]) -> None:
        text, *terms = self.args
        self.args = (text, *map(number, terms))

    def __str__(self) -> str:
        text, *terms = self.args
        return str(text).format(*terms)


class ArrayPartial(ABC):
    """A partial of arrays of one shape; ``term`` is the first of them, for messages."""

    __slots__ = ("shape", "term")

    def __init__(self, term: int, shape: tuple[int, ...]) -> None:
        self.term = term
        self.shape = shape

    @property
    def size(self) -> int:
        """The number of elements of an array."""
        return math.prod(self.shape)

    def begin_at(self, term: int) -> None:
        """Take this as the first term."""
        self.term = term

    @abstractmethod
    def empty(self) -> ArrayPartial:
        """A partial of the same shape, without values."""

    def of_numbers(self, numbers: Any) -> ArrayPartial | None:
        """A partial of the same kind without dimensions, from a partial of numbers; None if that has no numbers."""
        return None

    @abstractmethod
    def absorb(self, other: Any) -> None:
        """Merge another partial of the same shape, which is not changed."""

    @abstractmethod
    def encoded(self) -> bytes:
        """The bytes, which are the same for equal partials."""


def merged(left: Any, right: Any, *, zero: Any, reducer: str) -> Any:
    """The merge of two partials, at least one of arrays. The left one may be changed. Raises UnlikeValues."""
    if right == zero:
        return left
    if left == zero:
        left = right.empty()
    elif not isinstance(left, ArrayPartial):
        left = _points(right, left, reducer)
    elif not isinstance(right, ArrayPartial):
        right = _points(left, right, reducer)
    elif left.shape != right.shape:
        first, second = (left, right) if left.term < right.term else (right, left)
        raise UnlikeValues(
            f"term {{}} is {shaped(second.shape)}, and term {{}} is {shaped(first.shape)}: "
            f"the reducer {reducer} takes arrays of one shape",
            second.term,
            first.term,
        )
    left.absorb(right)
    left.begin_at(min(left.term, right.term))
    return left


def _points(arrays: ArrayPartial, numbers: Any, reducer: str) -> ArrayPartial:
    """The partial of some numbers that came among arrays. Raises UnlikeValues if the arrays have dimensions."""
    found = None if arrays.shape else arrays.of_numbers(numbers)
    if found is None:
        raise UnlikeValues(
            f"term {{}} is {shaped(arrays.shape)}, and other terms are numbers: the reducer {reducer} takes "
            "either numbers or arrays of one shape",
            arrays.term,
        )
    return found


def placed(partial: P, terms: Sequence[int]) -> P:
    """As ``Reducer.placed``, for reducers whose partials may be of arrays."""
    if isinstance(partial, ArrayPartial):
        partial.begin_at(terms[partial.term])
    return partial


def are_points(values: Iterable[Any]) -> bool:
    """Whether all arrays among the values are without dimensions."""
    return not any(hasattr(type(value), "ndim") and value.ndim for value in values)


def point_of(number: float) -> Any:
    """An array without dimensions that holds this number."""
    import numpy as np  # the caller has imported it

    return np.array(number)


def fold_each(reducer: Reducer[Any], terms: Iterable[tuple[int, Any]]) -> Any:
    """The partial of some terms and their values, taken one by one. Raises BadValue."""
    found = reducer.zero()
    for term, value in terms:
        found = reducer.merge(found, reducer.lift(term, value))
    return found


def shaped(shape: tuple[int, ...]) -> str:
    """The words for an array of this shape."""
    return f"an array of shape {shape}"


def has_arrays(kinds: Iterable[type]) -> bool:
    """Whether one of these types is numpy's array or a subclass of it. This does not import numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and any(issubclass(kind, numpy.ndarray) for kind in kinds)


def arrays_of(lo: int, values: Sequence[Any], kinds: str, takes: str) -> list[Any]:
    """The values, which are the terms from ``lo`` on, if all are arrays of one shape. Raises BadValue.

    ``kinds`` are numpy's letters for the kinds of elements.
    """
    import numpy as np  # the caller has imported it

    first = values[0]
    if not isinstance(first, np.ndarray):
        term = next(term for term, value in enumerate(values, lo) if isinstance(value, np.ndarray))
        what = BadValue(lo, first, "").what
        raise BadArray(term, shaped(values[term - lo].shape), "either numbers or arrays", (lo, what))
    for term, value in enumerate(values, lo):
        if not isinstance(value, np.ndarray):
            raise BadValue(term, value, "arrays of one shape", (lo, shaped(first.shape)))
        if type(value) not in {np.ndarray, np.memmap}:
            raise BadArray(term, f"a {type(value).__name__}", f"plain arrays: {takes}")
        if value.dtype.kind not in kinds or value.dtype.itemsize > (16 if value.dtype.kind == "c" else 8):
            raise BadArray(term, f"an array of {value.dtype}", takes)
        if value.shape != first.shape:
            raise BadArray(term, shaped(value.shape), "arrays of one shape", (lo, shaped(first.shape)))
    return list(values)


def array_with_nan(term: int, place: int, shape: tuple[int, ...]) -> BadValue:
    """The error for a term with a nan among its elements, at this place in C order."""
    import numpy as np  # the caller has imported it

    takes = "numbers other than nan"
    if not shape:
        return BadValue(term, math.nan, takes)
    index = tuple(map(int, np.unravel_index(place, shape)))
    return BadArray(term, f"an array with nan at {index if len(index) > 1 else index[0]}", takes)


def describe_array(native: Any, *, exact: bool, details: dict[str, Any] | None = None) -> Outcome:
    """An array as an outcome; its elements are exact, or rounded once."""
    spacing = 0.0 if exact or not native.size else _spacing(native)
    known = math.isfinite(spacing)
    numerator, denominator = spacing.as_integer_ratio() if known else (0, 1)
    return Outcome(
        value=written(native),
        bound=upper_text(numerator, 2 * denominator) if known else None,
        bound_kind=("proven" if spacing else "exact") if known else "none",
        native=native,
        details={"shape": list(native.shape), "dtype": str(native.dtype), **(details or {})},
    )


def _spacing(native: Any) -> float:
    """The value of the last bit of the largest element of an array of floats: rounding changes it by half of that at
    most. The result is not finite if an element is not.
    """
    import numpy as np  # the caller has imported it

    if native.dtype.kind == "c":  # both parts are rounded
        return 2 * max(_spacing(native.real), _spacing(native.imag))
    with np.errstate(over="ignore"):  # the spacing of the largest doubles
        return float(np.spacing(np.abs(native).max()))


class PackedSum(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A sum of arrays as it travels."""

    term: int
    shape: list[int]
    kinds: int
    real: Packed
    imag: Packed | None


_decode_sum = msgspec.msgpack.Decoder(PackedSum).decode


def checked_shape(shape: Sequence[int], held: int) -> tuple[int, ...]:
    """The shape of an array with ``held`` elements. Raises ValueError if the two do not fit."""
    if len(shape) > MOST_DIMENSIONS or min(shape, default=0) < 0 or math.prod(shape) != held:
        raise ValueError(f"{held} elements are not an array of shape {shape[:MOST_DIMENSIONS]}")
    return tuple(shape)


class ArraySum(ArrayPartial):
    """The exact sum of arrays, element by element; for complex elements it is two sums."""

    __slots__ = ("imag", "kinds", "real")

    def __init__(self, term: int, shape: tuple[int, ...]) -> None:
        super().__init__(term, shape)
        self.kinds = 0  # flags
        self.real = Columns(self.size)
        self.imag: Columns | None = None

    @classmethod
    def of(cls, lo: int, arrays: Sequence[Any]) -> ArraySum:
        """The sum of arrays that are the terms from ``lo`` on. Raises BadValue for nan."""
        found = cls(lo, arrays[0].shape)
        flat = [array.ravel() for array in arrays]
        whole = [row for row in flat if row.dtype.kind in "biu"]
        if whole:
            found.kinds |= INT
            found.real.add_integers(whole)
        places = [place for place, row in enumerate(flat) if row.dtype.kind in "fc"]
        if places:
            found.kinds |= FLOAT
            found._add(lo, places, flat, found.real, "real")
        places = [place for place in places if flat[place].dtype.kind == "c"]
        if places:
            found.kinds |= COMPLEX
            found.imag = Columns(found.size)
            found._add(lo, places, flat, found.imag, "imag")
        return found

    def _add(self, lo: int, places: list[int], flat: list[Any], part: Columns, name: str) -> None:
        try:
            part.add([getattr(flat[place], name) for place in places])
        except NotANumber:
            self._refuse_nan(lo, flat)

    def _refuse_nan(self, lo: int, flat: list[Any]) -> None:
        """Raise BadValue for the first term with a nan."""
        for term, row in enumerate(flat, lo):
            differs = row != row  # noqa: PLR0124  only nan differs from itself
            if differs.any():
                raise array_with_nan(term, int(differs.argmax()), self.shape)

    def empty(self) -> ArraySum:
        return ArraySum(self.term, self.shape)

    def of_numbers(self, numbers: Any) -> ArraySum | None:
        if not isinstance(numbers, Total):
            return None
        found = self.empty()
        found.add_total(numbers)
        return found

    def add_total(self, total: Total) -> None:
        """Add the sum of some numbers to the one element."""
        self.kinds |= total.flags & (INT | FLOAT)
        self.real.add_total(0, total)

    def absorb(self, other: ArraySum) -> None:
        self.kinds |= other.kinds
        self.real.merge([other.real])
        if other.imag is not None:
            if self.imag is None:
                self.imag = Columns(self.size)
            self.imag.merge([other.imag])

    def encoded(self) -> bytes:
        return msgspec.msgpack.encode(self.packed())

    def packed(self) -> PackedSum:
        """The sum in the form in which it travels."""
        imag = None if self.imag is None else packed_columns(self.imag)
        return PackedSum(self.term, list(self.shape), self.kinds, packed_columns(self.real), imag)

    @classmethod
    def decoded(cls, data: memoryview) -> ArraySum:
        """The sum of these bytes. Raises ValueError."""
        return cls.unpacked(_decode_sum(data))

    @classmethod
    def unpacked(cls, packed: PackedSum) -> ArraySum:
        """The sum that was packed. Raises ValueError."""
        if packed.term < 0 or packed.kinds not in {INT, FLOAT, INT | FLOAT, FLOAT | COMPLEX, INT | FLOAT | COMPLEX}:
            raise ValueError(f"a sum of arrays from term {packed.term} on, with flags {packed.kinds}")
        if (packed.imag is None) == bool(packed.kinds & COMPLEX):
            raise ValueError("a sum of complex arrays has two parts, and another has one")
        found = cls(packed.term, checked_shape(packed.shape, packed.real.size))
        found.kinds = packed.kinds
        found.real = unpacked_columns(found.size, packed.real)
        if packed.imag is not None:
            found.imag = unpacked_columns(found.size, packed.imag)
        return found

    def value(self) -> Any:
        """The sums, rounded once; exact integers if all values were."""
        if self.kinds == INT:
            return self.real.integers().reshape(self.shape)
        return self._complete([part.rounded() for part in self.parts])

    def means(self, count: int) -> Any:
        """The sums divided by an integer above 0, rounded once."""
        return self._complete([part.quotients(count) for part in self.parts])

    def _complete(self, parts: list[Any]) -> Any:
        found = parts[0]
        if len(parts) > 1:
            found = found.astype(complex)
            found.imag = parts[1]
        return found.reshape(self.shape)

    @property
    def parts(self) -> list[Columns]:
        """The real sums, and the imaginary ones if there are any."""
        return [self.real] if self.imag is None else [self.real, self.imag]

    def outcome(self) -> Outcome:
        """The sum as the result of a job."""
        native = self.value()
        exact = self.kinds == INT
        return describe_array(native, exact=exact, details={"overflow": any(part.overflows() for part in self.parts)})
