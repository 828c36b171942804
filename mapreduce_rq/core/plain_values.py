"""Python values as msgpack and back, equal and of the same types: plain data, which needs no pickle.

Beyond msgpack's own types, extensions carry integers of any size, tuples, sets, bytearrays, complex numbers, dates and
times, decimals, fractions, UUIDs, and numpy's arrays and scalars. A dictionary keeps its order. Reading makes plain
data only: no class is looked up by name, and no code of the sender is called.

There are two ways to the same bytes. Most data has only msgpack's own types: a whole list of it is one call of msgspec.
Before that call the types are checked, one layer of the data after the other and each layer in C, because msgspec alone
would write a tuple as a list and a date as text. All other data is converted value by value.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec

from mapreduce_rq.core.numbers.integers import from_bytes, to_bytes
from mapreduce_rq.core.plain_arrays import (
    ARRAY,
    EXTENSION,
    LARGE_BYTES,
    SCALAR,
    packed_by_numpy,
    pieces_of,
    read_array,
    read_scalar,
)
from mapreduce_rq.core.written import is_torn

TAKES = (
    "None, bool, int, float, complex, text, bytes, dates and times, Decimal, Fraction, UUID, numpy arrays, and lists, "
    "tuples, sets and dicts of these"
)

_BIG, _TUPLE, _SET, _FROZENSET, _COMPLEX, _BYTEARRAY = 1, 2, 3, 4, 5, 6  # 7 and 8: see plain_arrays.py
_DATETIME, _DATE, _TIME, _TIMEDELTA, _TIMEZONE, _DECIMAL, _FRACTION, _UUID = 9, 10, 11, 12, 13, 14, 15, 16
_TEXT = 17  # with halves of characters, as names of files have them that are not text in the system's encoding
_DICT = 18  # with a key of another type than msgspec writes as one

_SCALARS = {type(None), bool, float, str, bytes}
_DIRECT = _SCALARS | {int}
"""Types that msgpack itself has; its integers have up to 64 bits."""
_KEYS = frozenset({str, bytes, int, bool, float, type(None)})
MAX_DEPTH = 500
"""The most layers of containers within each other. msgpack's own readers take somewhat more."""


class Unfit(Exception):
    """One of several values cannot be sent. ``index``: its place among them. ``why``: the reason."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(why)
        self.index = index


def pack(value: Any) -> bytes:
    """The value's bytes. Raises TypeError, ValueError or RecursionError for a value that cannot be sent."""
    if type(value) in _SCALARS and not (type(value) is str and is_torn(value)):
        return _ENCODER.encode(value)
    return _ENCODER.encode(_plain(value))


def pack_all(values: Sequence[Any], head: bytes = b"") -> bytes:
    """The packings of all values, joined, behind the ``head``. Raises Unfit."""
    if is_direct(values):
        try:
            packed = _ENCODER.encode(values if type(values) is list else list(values))
            return head + memoryview(packed)[_header_size(len(values)) :]
        except (OverflowError, ValueError, TypeError, RecursionError):
            pass  # a large integer, or text that UTF-8 cannot write: the code below writes it, or names the value
    packings: list[bytes | memoryview] = [head]
    for index, value in enumerate(values):
        try:
            packings += pieces_of(value) or (pack(value),)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise Unfit(index, _why(error)) from None
    return b"".join(packings)


def _why(error: Exception) -> str:
    return "it is nested too deeply, or within itself" if isinstance(error, RecursionError) else str(error)


def _header_size(count: int) -> int:
    """Bytes before the members of a msgpack array."""
    return 1 if count < 16 else 3 if count < 1 << 16 else 5


def is_direct(values: Iterable[Any]) -> bool:
    """Whether msgpack has exactly these types, in all layers. It does not check that each integer fits."""
    layer = values
    for _ in range(MAX_DEPTH):
        kinds = set(map(type, layer)) - _DIRECT
        if not kinds:
            return True
        if kinds == {dict}:
            dicts = [value for value in layer if type(value) is dict]
            if not set(map(type, chain.from_iterable(dicts))) <= _KEYS:
                return False
            layer = list(chain.from_iterable(map(dict.values, dicts)))
        elif kinds == {list}:
            layer = list(chain.from_iterable(value for value in layer if type(value) is list))
        elif kinds == {dict, list}:
            dicts = [value for value in layer if type(value) is dict]
            if not set(map(type, chain.from_iterable(dicts))) <= _KEYS:
                return False
            inner = chain.from_iterable(value for value in layer if type(value) is list)
            layer = [*inner, *chain.from_iterable(map(dict.values, dicts))]
        else:
            return False
    return False


def unpack_all(count: int, body: bytes | memoryview) -> list[Any]:
    """The values of ``count`` joined packings. Raises ValueError for other bytes."""
    if count >= 1 << 32:
        raise ValueError(f"a list of {count} values is too long")
    try:
        if len(body) >= LARGE_BYTES and (extensions := _all_large(count, memoryview(body))) is not None:
            return extensions
        values = _DECODER.decode(b"\xdd" + count.to_bytes(4, "big") + body)  # msgpack's array of that length
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"these bytes are not {count} values: {error}") from None
    assert isinstance(values, list)
    return values


def _all_large(count: int, body: memoryview) -> list[Any] | None:
    """The values, if they are large extensions and nothing else: so a body of large arrays is not copied."""
    values: list[Any] = []
    at = 0
    while at < len(body) and body[at] == EXTENSION[0] and len(values) < count:
        head, at = at, at + len(EXTENSION) + 5
        end = at + int.from_bytes(body[head + 1 : head + 5], "big")
        if end > len(body):
            return None
        values.append(_extension(body[at - 1], body[at:end]))
        at = end
    return values if at == len(body) and len(values) == count else None


def _plain(value: Any) -> Any:
    """The value, with an extension in the place of each part that msgpack does not have."""
    kind = type(value)
    if kind is str and is_torn(value):
        return msgspec.msgpack.Ext(_TEXT, value.encode(errors="surrogatepass"))
    if kind in _SCALARS:
        return value
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 64 else msgspec.msgpack.Ext(_BIG, to_bytes(value))
    if kind is list:
        return [_plain(each) for each in value]
    if kind is dict:
        keys = list(map(_plain, value))
        if not set(map(type, keys)) <= _KEYS:  # some are extensions, which msgspec writes as values only
            members = chain.from_iterable(zip(keys, map(_plain, value.values()), strict=True))
            return msgspec.msgpack.Ext(_DICT, _ENCODER.encode(list(members)))
        return dict(zip(keys, map(_plain, value.values()), strict=True))
    if kind is tuple:
        return msgspec.msgpack.Ext(_TUPLE, _ENCODER.encode([_plain(each) for each in value]))
    if kind is set or kind is frozenset:
        packed = sorted(pack(each) for each in value)  # in one order, so that equal sets give equal bytes
        body = b"\xdd" + len(packed).to_bytes(4, "big") + b"".join(packed)
        return msgspec.msgpack.Ext(_SET if kind is set else _FROZENSET, body)
    if kind is complex:
        return msgspec.msgpack.Ext(_COMPLEX, struct.pack("<dd", value.real, value.imag))
    if kind is bytearray:
        return msgspec.msgpack.Ext(_BYTEARRAY, bytes(value))
    write = _WRITERS.get((kind.__module__, kind.__qualname__))
    if write is not None and _is_itself(kind):
        code, parts = write(value)
        return msgspec.msgpack.Ext(code, parts if isinstance(parts, bytes) else _ENCODER.encode(parts))
    if kind.__module__ == "numpy" and hasattr(value, "dtype"):
        return packed_by_numpy(value, kind)
    raise TypeError(f"a {kind.__name__} cannot travel")


def _is_itself(kind: type) -> bool:
    """Whether a class with the name of a standard one is that class."""
    import sys  # only to look there

    return getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind


def _zone(value: Any) -> Any:
    """A time zone as plain data: None, a fixed offset in seconds, or a name of the IANA database."""
    zone = value.tzinfo
    if zone is None:
        return None
    if type(zone).__module__ == "datetime":  # timezone: a fixed offset, perhaps with a name
        name = zone.tzname(None)
        offset = zone.utcoffset(None)
        named = len(zone.__getinitargs__()) > 1
        return [offset.days * 86_400 + offset.seconds, offset.microseconds, name if named else None]
    if type(zone).__module__.startswith("zoneinfo") and zone.key:
        return str(zone.key)
    raise TypeError(f"a time zone of type {type(zone).__name__} cannot travel")


def _datetime(value: Any) -> tuple[int, Any]:
    fields = [value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond]
    return _DATETIME, [*fields, _zone(value), value.fold]


def _time(value: Any) -> tuple[int, Any]:
    return _TIME, [value.hour, value.minute, value.second, value.microsecond, _zone(value), value.fold]


def _fraction(value: Any) -> tuple[int, Any]:
    return _FRACTION, [_plain(value.numerator), _plain(value.denominator)]


def _timezone(value: Any) -> tuple[int, Any]:
    import datetime as dt  # there already: the value is of it

    return _TIMEZONE, _zone(dt.time(tzinfo=value))


_WRITERS: dict[tuple[str, str], Callable[[Any], tuple[int, Any]]] = {
    ("datetime", "datetime"): _datetime,
    ("datetime", "date"): lambda value: (_DATE, [value.year, value.month, value.day]),
    ("datetime", "time"): _time,
    ("datetime", "timedelta"): lambda value: (_TIMEDELTA, [value.days, value.seconds, value.microseconds]),
    ("datetime", "timezone"): _timezone,
    ("decimal", "Decimal"): lambda value: (_DECIMAL, str(value).encode()),
    ("fractions", "Fraction"): _fraction,
    ("uuid", "UUID"): lambda value: (_UUID, value.bytes),
}
"""Converters by module and name, so that we need not import these modules: a program that has such a value has imported
them."""


def _extension(code: int, data: memoryview) -> Any:
    read = _READERS.get(code)
    if read is None:
        raise ValueError(f"unknown extension {code}")
    try:
        return read(data)
    except ValueError:
        raise
    except Exception as error:  # a library raises this for malformed bytes; the caller's arguments are right
        raise ValueError(f"extension {code} cannot be read: {type(error).__name__}: {error}") from None


def _members(data: memoryview) -> list[Any]:
    inner = _DECODER.decode(data)
    if not isinstance(inner, list):
        raise ValueError("an extension does not hold a list")
    return inner


def _read_dict(data: memoryview) -> dict[Any, Any]:
    members = _members(data)
    return dict(zip(members[::2], members[1::2], strict=True))


def _complex(data: memoryview) -> complex:
    if len(data) != 16:
        raise ValueError("a complex number takes 16 bytes")
    return complex(*struct.unpack("<dd", data))


def _zone_of(found: Any) -> Any:
    import datetime as dt  # 1 ms, and only for such values

    if found is None:
        return None
    if isinstance(found, str):
        import zoneinfo  # 5 ms, and only for such values

        return zoneinfo.ZoneInfo(found)
    seconds, microseconds, name = found
    offset = dt.timedelta(seconds=seconds, microseconds=microseconds)
    if name is not None:
        return dt.timezone(offset, name)
    return dt.timezone(offset) if offset else dt.UTC


def _read_datetime(data: memoryview) -> Any:
    import datetime as dt  # 1 ms, and only for such values

    year, month, day, *rest, zone, fold = _members(data)
    made = dt.datetime(year, month, day, *rest)  # noqa: DTZ001  as it was, aware or not
    return made.replace(tzinfo=_zone_of(zone), fold=fold)


def _read_time(data: memoryview) -> Any:
    import datetime as dt  # 1 ms, and only for such values

    *fields, zone, fold = _members(data)
    return dt.time(*fields).replace(tzinfo=_zone_of(zone), fold=fold)


def _read_date(data: memoryview) -> Any:
    import datetime as dt  # 1 ms, and only for such values

    return dt.date(*_members(data))


def _read_timedelta(data: memoryview) -> Any:
    import datetime as dt  # 1 ms, and only for such values

    days, seconds, microseconds = _members(data)
    return dt.timedelta(days, seconds, microseconds)


def _read_decimal(data: memoryview) -> Any:
    import decimal  # 3 ms, and only for such values

    return decimal.Decimal(bytes(data).decode("ascii"))


def _read_fraction(data: memoryview) -> Any:
    import fractions  # 5 ms, and only for such values

    return fractions.Fraction(*_members(data))


def _read_uuid(data: memoryview) -> Any:
    import uuid  # 3 ms, and only for such values

    return uuid.UUID(bytes=bytes(data))


_READERS: dict[int, Callable[[memoryview], Any]] = {
    _BIG: lambda data: int(from_bytes(bytes(data))),  # from_bytes may return an mpz, and an int was sent
    _TUPLE: lambda data: tuple(_members(data)),
    _SET: lambda data: set(_members(data)),
    _FROZENSET: lambda data: frozenset(_members(data)),
    _COMPLEX: _complex,
    _BYTEARRAY: bytearray,
    ARRAY: read_array,
    SCALAR: read_scalar,
    _DATETIME: _read_datetime,
    _DATE: _read_date,
    _TIME: _read_time,
    _TIMEDELTA: _read_timedelta,
    _TIMEZONE: lambda data: _zone_of(_DECODER.decode(data)),
    _DECIMAL: _read_decimal,
    _FRACTION: _read_fraction,
    _UUID: _read_uuid,
    _DICT: _read_dict,
    _TEXT: lambda data: bytes(data).decode(errors="surrogatepass"),
}

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(ext_hook=_extension)
