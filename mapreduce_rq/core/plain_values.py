"""Python values as msgpack and back, equal and of the same types: what no pickle is needed for.

Beyond msgpack's own types, extensions carry integers of any size, tuples, sets and complex numbers. A dictionary keeps
its order. Reading makes plain data only: no class is found by name and nothing is called.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from mapreduce_rq.core.numbers.integers import digits, from_bytes, to_bytes

TAKES = "bool, int, float, complex, text, bytes, and lists, tuples, sets and dicts of these and None"

_BIG, _TUPLE, _SET, _FROZENSET, _COMPLEX = 1, 2, 3, 4, 5

_SCALARS = {type(None), bool, float, str, bytes}


def pack(value: Any) -> bytes:
    """The value's bytes. Raises TypeError, ValueError or RecursionError for one that cannot travel."""
    if type(value) in _SCALARS:
        return _ENCODER.encode(value)
    return _ENCODER.encode(_plain(value))


def unpack_all(count: int, body: bytes) -> list[Any]:
    """The values of ``count`` packings joined. Raises ValueError for bytes that hold anything else."""
    if count >= 1 << 32:
        raise ValueError(f"a list of {count} values is too long")
    try:
        values = _DECODER.decode(b"\xdd" + count.to_bytes(4, "big") + body)  # msgpack's array of that length
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not {count} values: {error}") from None
    assert isinstance(values, list)
    return values


_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def written(value: Any) -> str:
    """As ``str``, with integers of any size in it, which Python refuses to write beyond 4300 digits."""
    try:
        return str(value)
    except ValueError:
        return _written(value)


def _written(value: Any) -> str:
    if type(value) is int:
        return digits(value)
    if type(value) is dict:
        return "{" + ", ".join(f"{_written(key)}: {_written(each)}" for key, each in value.items()) + "}"
    if type(value) in _BRACKETS:
        comma = "," if type(value) is tuple and len(value) == 1 else ""
        first, last = _BRACKETS[type(value)]
        return f"{first}{', '.join(map(_written, value))}{comma}{last}"
    return repr(value)


def _plain(value: Any) -> Any:
    """The value with what msgpack lacks replaced by extensions."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 64 else msgspec.msgpack.Ext(_BIG, to_bytes(value))
    if kind is list:
        return [_plain(each) for each in value]
    if kind is dict:
        for key in value:
            if type(key) not in {str, bytes, int, bool, float}:
                raise TypeError(f"a key of a dict is a {type(key).__name__}")
        return {_plain(key): _plain(each) for key, each in value.items()}
    if kind is tuple:
        return msgspec.msgpack.Ext(_TUPLE, _ENCODER.encode([_plain(each) for each in value]))
    if kind is set or kind is frozenset:
        packed = sorted(pack(each) for each in value)  # one order, so that equal sets are equal bytes
        body = b"\xdd" + len(packed).to_bytes(4, "big") + b"".join(packed)
        return msgspec.msgpack.Ext(_SET if kind is set else _FROZENSET, body)
    if kind is complex:
        return msgspec.msgpack.Ext(_COMPLEX, struct.pack("<dd", value.real, value.imag))
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # numpy's scalars and arrays, as plain values
        return _plain(value.tolist())
    raise TypeError(f"a {kind.__name__} cannot travel")


def _extension(code: int, data: memoryview) -> Any:
    body = bytes(data)
    if code == _BIG:
        return int(from_bytes(body))  # a big one is an mpz, and what was sent was none
    if code == _COMPLEX:
        if len(body) != 16:
            raise ValueError("a complex number takes 16 bytes")
        return complex(*struct.unpack("<dd", body))
    parts = {_TUPLE: tuple, _SET: set, _FROZENSET: frozenset}.get(code)
    if parts is None:
        raise ValueError(f"unknown extension {code}")
    inner = _DECODER.decode(body)
    if not isinstance(inner, list):
        raise ValueError("an extension that holds no list")  # malformed bytes, not a wrong argument
    try:
        return parts(inner)
    except TypeError as error:
        raise ValueError(f"not the members of a set: {error}") from None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(ext_hook=_extension)
