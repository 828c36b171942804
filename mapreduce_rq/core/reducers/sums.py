"""Exact sums of integers, and of floats and integers; and the count of values."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, count, islice
from operator import index, ne
from typing import Any, ClassVar

from mapreduce_rq.core.numbers.exact import (
    FLOAT,
    INT,
    NAN,
    UNIT_BITS,
    Total,
    special,
    total_by_fsum,
    total_of_array,
    total_of_floats,
)
from mapreduce_rq.core.numbers.integers import digits, from_bytes, to_bytes
from mapreduce_rq.core.numbers.rounding import nearest_double, upper_text
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.base import BadValue, Reducer

BATCH = 1 << 16
"""The number of values that are taken from an iterator at a time: memory stays constant for a span of any length."""

_HEADER = struct.Struct("<BB")  # flags; the number of zero bytes left out at the low end of the units
_DOUBLE = struct.Struct("<Bd")  # a sum of floats that is a double itself, as that of one float is
_DOUBLE_TAG = 32  # above all flags
_INTEGER = struct.Struct("<Bq")  # a sum of integers that fits a word
_INTEGER_TAG = 33
_WORD = 1 << 63
_MANTISSA_BITS = 53
_LARGEST_BITS = 1024 + UNIT_BITS


class IntSum(Reducer[int]):
    """The sum of integers of any size."""

    live: ClassVar[bool] = True
    name: ClassVar[str] = "int_sum"

    def zero(self) -> int:
        return 0

    def merge(self, left: int, right: int) -> int:
        return left + right

    def encode(self, partial: int) -> bytes:
        return to_bytes(partial)

    def decode(self, data: bytes) -> int:
        return from_bytes(data)

    def merge_encoded(self, accumulator: int, bodies: list[bytes]) -> int:
        return sum(map(from_bytes, bodies), accumulator)

    def lift_encoded(self, term: int, value: Any) -> bytes:
        return to_bytes(value if type(value) is int else self.lift(term, value))

    def fold(self, lo: int, values: Iterable[Any]) -> int:
        if is_array(values):
            return _array_sum(lo, values)
        total = 0
        for start, batch in batches(lo, values):
            part = sum(batch) if set(map(type, batch)) <= _INTS else None
            total += part if part is not None else sum(integers(start, batch))
        return total

    def describe(self, partial: int) -> Outcome:
        return describe_integer(partial)


class Count(IntSum):
    """The number of values."""

    name: ClassVar[str] = "count"

    def lift_encoded(self, term: int, value: Any) -> bytes:
        return to_bytes(self.lift(term, value))

    def fold(self, lo: int, values: Iterable[Any]) -> int:
        if is_array(values):
            return len(values)  # type: ignore[arg-type]  # arrays have a length
        total = 0
        for start, batch in batches(lo, values):
            if type(None) in set(map(type, batch)):
                term = next(term for term, value in enumerate(batch, start) if value is None)
                raise BadValue(term, None, "any value but None")
            total += len(batch)
        return total


class ExactSum(Reducer[Any]):
    """The exact sum of floats and integers, rounded once at the end: an integer if all values were, otherwise a float.

    Partials are Totals. nan is refused. Infinities are allowed; the sum of both is nan.
    """

    live: ClassVar[bool] = True
    name: ClassVar[str] = "sum"

    def zero(self) -> Total:
        return Total(0, 0)

    def merge(self, left: Total, right: Total) -> Total:
        return Total(left[0] + right[0], left[1] | right[1])

    def encode(self, partial: Total) -> bytes:
        units, flags = partial
        if not units:
            return _HEADER.pack(flags, 0)
        zero_bits = (units & -units).bit_length() - 1
        if flags == FLOAT and (bits := units.bit_length()) <= _LARGEST_BITS and bits - zero_bits <= _MANTISSA_BITS:
            return _DOUBLE.pack(_DOUBLE_TAG, math.ldexp(units >> zero_bits, zero_bits - UNIT_BITS))
        if flags == INT and -_WORD <= (whole := units >> UNIT_BITS) < _WORD:
            return _INTEGER.pack(_INTEGER_TAG, whole)
        zeros = min(zero_bits >> 3, 255)
        return _HEADER.pack(flags, zeros) + to_bytes(units >> (zeros << 3))

    def decode(self, data: bytes) -> Total:
        if len(data) < _HEADER.size:
            raise ValueError(f"{len(data)} bytes are too few for a sum")
        if data[0] == _DOUBLE_TAG:
            return total_by_fsum(_doubles([data]))
        if data[0] == _INTEGER_TAG:
            return Total(_integer_sum([data]) << UNIT_BITS, INT)
        flags, zeros = _HEADER.unpack_from(data)
        if flags > 31 or flags & NAN:
            raise ValueError(f"unknown flags {flags} of a sum")
        if len(data) == _HEADER.size:
            if zeros:
                raise ValueError("a sum of zero has no zero bytes to leave out")
            return Total(0, flags)
        if zeros < 255 and data[_HEADER.size] == 0:
            raise ValueError("a zero byte of a sum that should have been left out")
        total = Total(from_bytes(data[_HEADER.size :]) << (zeros << 3), flags)
        if flags in {FLOAT, INT} and self.encode(total) != data:
            raise ValueError("a sum that is a double or a word has a shorter form")
        return total

    def merge_encoded(self, accumulator: Any, bodies: list[bytes]) -> Any:
        first = {body[:1] for body in bodies}
        doubles, integers, others = bodies, bodies, []
        if len(first) > 1 or not first <= {_TAG_BYTE, _INTEGER_BYTE}:
            doubles = [body for body in bodies if body[:1] == _TAG_BYTE]
            integers = [body for body in bodies if body[:1] == _INTEGER_BYTE]
            others = [self.decode(body) for body in bodies if body[:1] not in {_TAG_BYTE, _INTEGER_BYTE}]
        units = flags = 0
        if _TAG_BYTE in first:
            units, flags = total_of_floats(_doubles(doubles))
        if _INTEGER_BYTE in first:
            units += _integer_sum(integers) << UNIT_BITS
            flags |= INT
        accumulator = self.merge(accumulator, Total(units, flags))
        for other in others:
            accumulator = self.merge(accumulator, other)
        return accumulator

    def lift_encoded(self, term: int, value: Any) -> bytes:
        if type(value) is float and value and math.isfinite(value):
            return _DOUBLE.pack(_DOUBLE_TAG, value)
        if type(value) is int and value and -_WORD <= value < _WORD:
            return _INTEGER.pack(_INTEGER_TAG, value)
        return self.encode(self.lift(term, value))

    def fold(self, lo: int, values: Iterable[Any]) -> Any:
        if is_array(values):
            return _array_total(lo, values)
        total: Any = Total(0, 0)
        for start, batch in batches(lo, values):
            kinds = set(map(type, batch))
            part: Any
            if all(issubclass(kind, float) for kind in kinds):  # numpy's doubles, too
                part = total_of_floats(batch)
            elif kinds <= _INTS:
                part = Total(sum(batch) << UNIT_BITS, INT)
            else:
                part = self.fold_others(start, batch, kinds)
            if type(part) is Total and part.flags & NAN:
                refuse_nan(start, list(reals(start, batch)))
            total = self.merge(total, part)
        return total

    def fold_others(self, lo: int, values: Sequence[Any], kinds: set[type]) -> Any:
        """The partial of values that are not all floats or all integers; ``kinds`` are their types."""
        numbers = list(reals(lo, values))
        whole = [value for value in numbers if isinstance(value, int)]
        units, flags = total_of_floats([value for value in numbers if isinstance(value, float)])
        return Total(units + (sum(whole) << UNIT_BITS), flags | (INT if whole else 0))

    def finish_native(self, partial: Total) -> float | int:
        value = special(partial.flags)
        if value is not None:
            return value
        if partial.flags == INT:
            return int(partial.units >> UNIT_BITS)  # a big one is kept as an mpz
        return nearest_double(partial.units, 1 << UNIT_BITS)

    def describe(self, partial: Total) -> Outcome:
        if (value := special(partial.flags)) is not None:
            return Outcome(value=repr(value), number=value, native=value, details={"overflow": False})
        return describe_rounded(self.finish_native(partial), partial.units, 1 << UNIT_BITS)


_TAG_BYTE = bytes([_DOUBLE_TAG])
_INTEGER_BYTE = bytes([_INTEGER_TAG])


def _integer_sum(bodies: list[bytes]) -> int:
    """The sum of integers sent as words. Raises ValueError for one that is malformed or zero."""
    if set(map(len, bodies)) != {_INTEGER.size}:
        raise ValueError("a word of another size")
    found = _unpacked("xq", bodies)
    if not all(found):
        raise ValueError("a sum sent as a word that is zero")
    return sum(found)


def _unpacked(one: str, bodies: list[bytes]) -> tuple[Any, ...]:
    """The number in each of these bodies, of the same size: one call for all of them."""
    return struct.unpack(f"<{one * len(bodies)}", b"".join(bodies))


def _doubles(bodies: list[bytes]) -> tuple[float, ...]:
    """The doubles of sums sent as such. Raises ValueError for one that is malformed, zero or not finite."""
    if set(map(len, bodies)) != {_DOUBLE.size}:
        raise ValueError("a double of another size")
    found = _unpacked("xd", bodies)
    if not all(found) or not all(map(math.isfinite, found)):
        raise ValueError("a sum sent as a double that is zero or not finite")
    return found


_INTS = {int, bool}


def describe_integer(value: int) -> Outcome:
    """An exact integer as an outcome."""
    return Outcome(
        value=digits(value), number=nearest_double(value, 1), bound="0", bound_kind="exact", native=int(value)
    )


def describe_rounded(value: float, num: int, den: int) -> Outcome:
    """A value that is num/den rounded once, as an outcome. The bound is the exact distance of the two, rounded up."""
    if isinstance(value, int):
        return describe_integer(value)
    details = {"overflow": math.isinf(value)}
    if math.isinf(value):
        return Outcome(value=repr(value), number=value, native=value, details=details)
    value_num, value_den = value.as_integer_ratio()
    error = abs(num * value_den - value_num * den)
    return Outcome(
        value=repr(value),
        number=value,
        bound=upper_text(error, den * value_den),
        bound_kind="proven" if error else "exact",
        native=value,
        details=details,
    )


def batches(lo: int, values: Iterable[Any]) -> Iterator[tuple[int, Sequence[Any]]]:
    """The values in sequences of bounded length, each with the index of its first term."""
    if isinstance(values, (list, tuple)) and len(values) <= BATCH:
        if values:
            yield lo, values
        return
    stream = iter(values)
    while batch := list(islice(stream, BATCH)):
        yield lo, batch
        lo += len(batch)


def integers(lo: int, values: Iterable[Any]) -> Iterator[int]:
    """Each value as an int. Raises BadValue for a value of another type, also for a float that is a whole number."""
    for term, value in enumerate(values, lo):
        try:
            yield index(value)
        except TypeError:
            if kind_of_scalar(value) != "b":
                raise BadValue(term, value, "integers") from None
            yield int(value)


def reals(lo: int, values: Iterable[Any]) -> Iterator[float | int]:
    """Each value as a Python int or float; numpy's scalars become these. Raises BadValue for any other type."""
    for term, value in enumerate(values, lo):
        if isinstance(value, float):
            yield float(value)
            continue
        try:
            yield index(value)
        except TypeError:
            kind = kind_of_scalar(value)
            if kind != "b" and (kind != "f" or value.dtype.itemsize > 8):
                raise BadValue(term, value, "numbers (int or float)") from None
            yield int(value) if kind == "b" else float(value)


def kind_of_scalar(value: Any) -> str:
    """The letter of a numpy scalar's kind; b for a boolean, which counts as an integer, as in Python."""
    if not hasattr(type(value), "dtype"):  # of the class: a user's object may raise anything
        return ""
    return "" if getattr(value, "shape", None) != () else str(getattr(value.dtype, "kind", ""))


def refuse_nan(lo: int, numbers: Any) -> None:
    """Raise BadValue for the first nan among numbers or in an array, whose terms begin at ``lo``."""
    if is_array(numbers):
        flat = numbers.ravel()
        differs = ne(flat, flat)  # from itself, as nothing but nan does
        at = int(differs.argmax()) if differs.any() else None
    else:
        at = next(compress(count(), map(ne, numbers, numbers)), None)
    if at is not None:
        raise BadValue(lo + at, math.nan, "numbers other than nan")


def is_array(values: Iterable[Any]) -> bool:
    """Whether the values are a numpy array. This does not import numpy, and runs no code of a user's object."""
    kind = type(values)
    return hasattr(kind, "dtype") and hasattr(kind, "ravel")


def listed(values: Any) -> Any:
    """The elements of an array as Python's objects. Dates stay numpy's if some would become numbers or None."""
    found = values.tolist()
    if values.dtype.kind in "mM" and {int, type(None)} & set(map(type, values.ravel().tolist())):
        return list(values)
    return found


def array_kind(lo: int, values: Any, takes: str) -> str:
    """The kind of an array of numbers: ``i`` or ``f``. Raises BadValue for any other array."""
    kind: str = "i" if values.dtype.kind in "iub" else values.dtype.kind
    if kind not in {"i", "f"} or (kind == "f" and values.dtype.itemsize > 8):
        raise BadValue(lo, values, takes)
    return kind


def _array_sum(lo: int, values: Any) -> int:
    """The exact sum of an integer array: 32-bit halves, which 64-bit words hold for 2^31 values."""
    if array_kind(lo, values, "integers") != "i":
        raise BadValue(lo, values, "integers")
    whole = values.ravel()
    if whole.dtype.itemsize < 8:
        return int(whole.sum(dtype="int64"))
    low, high = whole & 0xFFFFFFFF, whole >> 32
    return (int(high.sum()) << 32) + int(low.sum())


def _array_total(lo: int, values: Any) -> Total:
    if array_kind(lo, values, "numbers (int or float)") == "i":
        return Total(_array_sum(lo, values) << UNIT_BITS, INT if len(values) else 0)
    total = total_of_array(values)
    if total.flags & NAN:
        refuse_nan(lo, values)
    return total
