"""Finds the bucket of a key: the same on every host, in every process and version of Python.

Equal keys are in one bucket: 1, 1.0, True and Decimal(1), also within tuples. Python's own hash of a text differs from
process to process, and its hash of a number differs between machines, so we use neither. The keys of a bucket do not
depend on the number of parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from math import isinf
from operator import mod
from typing import TYPE_CHECKING, Any
from zlib import crc32

from mapreduce_rq.core.plain_values import pack
from mapreduce_rq.core.reducers.keys import Key

if TYPE_CHECKING:
    from numpy import ndarray

BUCKETS = 1024
"""The number of buckets. The number of parts is a power of two, and at most this."""

_PRIME = (1 << 61) - 1
_MASK = (1 << 64) - 1
_SPREAD = 0x9E3779B97F4A7C15
"""The golden ratio in 64 bits: its products with neighbouring numbers differ in their highest bits."""
_SHIFT = 64 - 10


def buckets_of(keys: Sequence[Key]) -> ndarray[Any, Any]:
    """The bucket of each key, as an array of integers."""
    import numpy as np  # takes 80 ms, so it is not imported at the start

    kinds = set(map(type, keys))
    if kinds <= {int, bool}:
        try:
            numbers = np.array(keys, dtype=np.int64) % _PRIME
        except OverflowError:
            numbers = np.array(list(map(mod, keys, repeat(_PRIME))), dtype=np.int64)
    elif kinds == {str}:
        numbers = np.array(list(map(_of_text, keys)), dtype=np.uint64)
    else:
        numbers = np.array(list(map(_number_of, keys)), dtype=np.uint64)
    with np.errstate(over="ignore"):
        found: ndarray[Any, Any] = (numbers.astype(np.uint64) * np.uint64(_SPREAD)) >> np.uint64(_SHIFT)
    return found.astype(np.int64)


def _of_text(key: str) -> int:
    return crc32(key.encode("utf-8", "surrogatepass"))


def _number_of(key: Key) -> int:
    """Some number below 2**64, the same for equal keys."""
    kind = type(key)
    number = _NUMBERS.get(kind) or _BY_NAME.get((kind.__module__, kind.__name__))
    return 0 if number is None else number(key)


def _of_integer(key: int) -> int:
    return int(key) % _PRIME


def _of_float(key: float) -> int:
    return _of_ratio(key) if not isinf(key) else _INFINITE if key > 0 else _INFINITE + 1


_INFINITE = 314159


def _of_ratio(key: Any) -> int:
    """The number of a float, a Decimal or a Fraction: modulo the prime, as for an integer that it may be equal to."""
    top, bottom = key.as_integer_ratio()
    if bottom % _PRIME == 0:
        return _INFINITE + 2
    return int(top * pow(bottom, -1, _PRIME) % _PRIME)


def _of_decimal(key: Any) -> int:
    """As ``_of_ratio``, without making the ratio, which may have millions of digits."""
    if not key.is_finite():
        return _of_float(float(key))
    sign, digits, exponent = key.as_tuple()
    found = int("".join(map(str, digits))) * pow(10, exponent, _PRIME) % _PRIME
    return -found % _PRIME if sign else found


def _of_complex(key: complex) -> int:
    real = _of_float(key.real)
    return real if key.imag == 0 else (real + 1000003 * _of_float(key.imag)) & _MASK


def _of_tuple(key: tuple[Key, ...]) -> int:
    found = len(key)
    for part in key:
        found = ((found ^ _number_of(part)) * 1000003 + 97531) & _MASK
    return found


def _of_moment(key: Any) -> int:
    """The number of a datetime. Equal datetimes may be in different time zones."""
    offset = key.utcoffset()
    key = key.replace(tzinfo=None, fold=0)
    try:
        return _of_packed(key if offset is None else key - offset)
    except OverflowError:
        return 0


def _of_packed(key: Key) -> int:
    return crc32(pack(key))


_NUMBERS: dict[type, Callable[[Any], int]] = {
    int: _of_integer,
    bool: _of_integer,
    float: _of_float,
    complex: _of_complex,
    str: _of_text,
    bytes: crc32,
    tuple: _of_tuple,
    type(None): lambda _: 0,
}
_BY_NAME: dict[tuple[str, str], Callable[[Any], int]] = {
    ("decimal", "Decimal"): _of_decimal,
    ("fractions", "Fraction"): _of_ratio,
    ("uuid", "UUID"): _of_packed,
    ("datetime", "date"): _of_packed,
    ("datetime", "timedelta"): _of_packed,
    ("datetime", "datetime"): _of_moment,
}
"""For types whose modules only a program with such keys imports. All keys of any other type are in one bucket."""
