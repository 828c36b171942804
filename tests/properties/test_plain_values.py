"""Values as bytes: each comes back equal and of its type, equal sets give equal bytes, other bytes are no values."""

from __future__ import annotations

import datetime as dt
import math
import struct
import sys
import uuid
import zoneinfo
from collections import OrderedDict
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mapreduce_rq.core.plain_values import MAX_DEPTH, Unfit, is_direct, pack, pack_all, unpack_all

OFFSETS = st.builds(
    dt.timedelta, minutes=st.integers(-1439, 1439), seconds=st.integers(0, 59), microseconds=st.sampled_from([0, 0, 1])
).filter(lambda offset: abs(offset) < dt.timedelta(days=1))
ZONES = st.one_of(
    st.none(),
    st.just(dt.UTC),
    OFFSETS.map(dt.timezone),
    st.builds(dt.timezone, OFFSETS, st.sampled_from(["", "here", "UTC"])),
    st.sampled_from(["Asia/Tokyo", "Europe/Berlin"]).map(zoneinfo.ZoneInfo),
)
FOLDS = st.integers(0, 1)
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1]),
    st.floats(allow_nan=False),
    st.booleans(),
)
KEYS = st.one_of(
    st.none(),
    NUMBERS,
    st.text(max_size=3),
    st.text(st.characters(codec=None), max_size=3),  # with halves of characters
    st.binary(max_size=3),
    st.complex_numbers(allow_nan=False),
    st.builds(Decimal, st.sampled_from(["0", "-0", "1.20", "1E+99", "Infinity"])),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.timedeltas(),
    OFFSETS.map(dt.timezone),
    st.builds(lambda when, zone, fold: when.replace(tzinfo=zone, fold=fold), st.datetimes(), ZONES, FOLDS),
    st.builds(lambda when, zone, fold: when.replace(tzinfo=zone, fold=fold), st.times(), ZONES, FOLDS),
)
HASHABLE = st.recursive(
    KEYS,
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)
VALUES = st.recursive(
    st.one_of(HASHABLE, st.binary(max_size=3).map(bytearray), st.sets(HASHABLE, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
        st.dictionaries(HASHABLE, inner, max_size=3),
    ),
    max_leaves=8,
)


def shape(value: Any) -> Any:
    """What makes a value what it is: equal ones of other types differ in it."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, [(shape(key), shape(each)) for key, each in value.items()]
    if isinstance(value, (list, tuple)):
        return kind, list(map(shape, value))
    if isinstance(value, (set, frozenset)):
        return kind, sorted(repr(shape(each)) for each in value)
    if isinstance(value, (dt.datetime, dt.time)):
        return kind, repr(value), value.fold, shape(value.tzinfo)
    if isinstance(value, zoneinfo.ZoneInfo):
        return kind, value.key
    if isinstance(value, np.ndarray):
        order = value.flags.c_contiguous, value.flags.f_contiguous
        return kind, value.dtype, value.shape, order, value.tobytes()
    if isinstance(value, np.generic):
        return kind, value.dtype, value.tobytes()
    return kind, repr(value)


def again(value: Any) -> Any:
    """The value as it arrives."""
    (found,) = unpack_all(1, pack_all([value]))
    return found


@given(st.lists(VALUES, max_size=4))
@example([dt.timezone(dt.timedelta(0))])
@example([dt.datetime(2024, 10, 27, 1, 30, fold=1)])  # noqa: DTZ001  one without a zone
def test_each_value_comes_back_as_it_was(values: list[Any]) -> None:
    body = pack_all(values)
    found = unpack_all(len(values), body)
    assert shape(found) == shape(values)
    assert unpack_all(len(values), memoryview(body)) == found
    assert pack_all(found) == body
    assert body == b"".join(map(pack, values))  # both ways lead to the same bytes
    assert pack_all(tuple(values)) == body


ARRAYS = [
    np.array(3.5),
    np.zeros((0, 3)),
    np.zeros((2, 0), order="F"),
    np.arange(6, dtype=">i2").reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24, dtype="<u4").reshape(2, 3, 4).transpose(1, 0, 2),
    np.broadcast_to(np.arange(3), (2, 3)),
    np.array(["2024-01-01", "NaT"], dtype="M8[D]"),
    np.array([1, 2], dtype="m8[ms]"),
    np.array(["a", "bcd", ""]),
    np.array([b"a", b"bcd"]),
    np.array([True, False]),
    np.array([1j, 2], dtype="c8"),
    np.array([(1, 2.5, "x")], dtype=[("a", "<i4"), ("b", ">f8"), ("c", "U3")]),
    np.array([(1, [2.5, 3.5])], dtype=[("a", "i1"), ("b", "f4", (2,))]),
    np.array([((1, 2), 3)], dtype=np.dtype([("in", [("x", "i1"), ("y", "i8")]), ("z", "i2")], align=True)),
    np.zeros(2, dtype=np.dtype({"names": ["a"], "formats": ["i2"], "offsets": [4], "itemsize": 16})),
    np.zeros(2, dtype=[]),
    np.zeros(2, dtype="V5"),
]
SCALARS = [
    np.float32(0.1),
    np.int8(-1),
    np.bool_(True),
    np.complex64(1j),
    np.str_("ab"),
    np.str_(""),
    np.bytes_(b"x"),
    np.bytes_(b""),
    np.datetime64("2024-01-01T01", "h"),
    np.timedelta64(7, "ms"),
    ARRAYS[13][0],
    np.void(b"abc"),
    np.zeros((), [])[()],
]


@pytest.mark.parametrize("value", ARRAYS + SCALARS, ids=repr)
def test_arrays_and_scalars_of_numpy_come_back_as_they_were(value: Any) -> None:
    before = shape(value)
    found = again(value)
    if isinstance(value, np.ndarray):
        assert (found.dtype, found.shape, found.flags.writeable) == (value.dtype, value.shape, True)
        assert found.dtype.isalignedstruct == value.dtype.isalignedstruct
        assert found.flags.f_contiguous == (value.flags.f_contiguous or value.ndim < 2 or not value.size)
        assert found.tobytes() == value.tobytes()
        found[...] = np.zeros((), found.dtype)
        assert shape(value) == before
    else:
        assert shape(found) == before


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
def test_any_number_of_values_is_packed(count: int) -> None:
    for values in ([7] * count, [(7,)] * count):
        body = pack_all(values)
        assert body == pack(values[0]) * count if count else body == b""
        assert unpack_all(count, body) == values


def test_equal_sets_give_equal_bytes() -> None:
    for kind in (set, frozenset):
        values = [*range(2000), "b", "a", (1, 2), None]
        assert pack(kind(values)) == pack(kind(values[::-1]))
    assert pack({1}) != pack(frozenset({1}))


def test_a_dictionary_keeps_its_order() -> None:
    for keys in (["b", "a"], [(2,), (1,)], [2**70, 1]):
        assert list(again(dict.fromkeys(keys))) == keys


# -- the bytes of this wire version ------------------------------------------------------------------------------------


def ext(code: int, data: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data))


def plain(*parts: Any) -> bytes:
    return msgspec.msgpack.encode(parts)


WIRE: list[tuple[Any, bytes]] = [
    (None, b"\xc0"),
    (2**64 - 1, b"\xcf" + b"\xff" * 8),
    (-(2**63), b"\xd3\x80" + bytes(7)),
    (2**64, ext(1, bytes(8) + b"\1")),
    (-(2**64), ext(1, bytes(8) + b"\xff")),
    ((1, "a"), ext(2, plain(1, "a"))),
    ({1}, ext(3, b"\xdd\0\0\0\1\1")),
    (frozenset({1}), ext(4, b"\xdd\0\0\0\1\1")),
    (1.5 - 2j, ext(5, struct.pack("<dd", 1.5, -2))),
    (bytearray(b"ab"), ext(6, b"ab")),
    (np.array([[1, 2]], "<i2"), ext(7, plain("<i2", [1, 2], "C", struct.pack("<hh", 1, 2)))),
    (
        np.asfortranarray(np.array([[1, 2], [3, 4]], "<i2")),
        ext(7, plain("<i2", [2, 2], "F", struct.pack("<4h", 1, 3, 2, 4))),
    ),
    (np.str_(""), ext(8, plain("<U0", b""))),
    (np.float32(1.5), ext(8, plain("<f4", struct.pack("<f", 1.5)))),
    (dt.datetime(2024, 2, 29, 1, 2, 3, 4), ext(9, plain(2024, 2, 29, 1, 2, 3, 4, None, 0))),  # noqa: DTZ001
    (dt.datetime(2024, 2, 29, tzinfo=dt.UTC, fold=1), ext(9, plain(2024, 2, 29, 0, 0, 0, 0, [0, 0, None], 1))),
    (dt.date(2024, 2, 29), ext(10, plain(2024, 2, 29))),
    (dt.time(1, 2, 3, 4, zoneinfo.ZoneInfo("Asia/Tokyo")), ext(11, plain(1, 2, 3, 4, "Asia/Tokyo", 0))),
    (dt.timedelta(-1, 2, 3), ext(12, plain(-1, 2, 3))),
    (dt.timezone(dt.timedelta(-1, 2, 3), "here"), ext(13, plain(-86_398, 3, "here"))),
    (Decimal("-1.20"), ext(14, b"-1.20")),
    (Fraction(1, 3), ext(15, plain(1, 3))),
    (uuid.UUID(int=7), ext(16, bytes(15) + b"\7")),
    ("a\udcff", ext(17, b"a\xed\xb3\xbf")),
    ({(1,): 2}, ext(18, plain(msgspec.msgpack.Ext(2, plain(1)), 2))),
    ({1: (2,)}, b"\x81\1" + ext(2, plain(2))),
]


@pytest.mark.parametrize(("value", "body"), WIRE, ids=lambda each: "" if isinstance(each, bytes) else repr(each))
def test_the_bytes_of_each_type_are_those_of_this_wire_version(value: Any, body: bytes) -> None:
    """Another version reads them: to change one is to change WIRE_VERSION."""
    assert pack_all([value]) == pack(value) == body
    assert shape(unpack_all(1, body)) == shape([value])


# -- what is no value --------------------------------------------------------------------------------------------------

OBJECTS = {"fields": [["a", "|O", 0]], "size": 8, "aligned": False}
BAD = {
    "an unknown extension": ext(19, b""),
    "another one": ext(0, b""),
    "a tuple that is a number": ext(2, b"\7"),
    "a tuple of a text": ext(2, b"\xa2ab"),
    "a dictionary of a text": ext(18, b"\xa2ab"),
    "a tuple of half a list": ext(2, b"\x92\1"),
    "a set of a list": ext(3, b"\xdd\0\0\0\1\x90"),
    "a frozen set of a list": ext(4, b"\xdd\0\0\0\1\x90"),
    "a short complex number": ext(5, bytes(15)),
    "a long complex number": ext(5, bytes(24)),
    "an array with a byte too much": ext(7, plain("<i2", [2], "C", bytes(5))),
    "an array with a byte too few": ext(7, plain("<i2", [2], "C", bytes(3))),
    "an array of less than nothing": ext(7, plain("<i2", [-1, -1], "C", bytes(2))),
    "an array of objects": ext(7, plain("|O", [1], "C", bytes(8))),
    "an array of objects within": ext(
        7, plain({"fields": [["a", "|O", 0]], "size": 8, "aligned": False}, [1], "C", bytes(8))
    ),
    "an array of no type": ext(7, plain("no type", [1], "C", bytes(8))),
    "a number of objects": ext(8, plain("|O", bytes(8))),
    "a number with a byte too much": ext(8, plain("<i2", bytes(3))),
    "a date of the month 13": ext(10, plain(2024, 13, 1)),
    "a date of two numbers": ext(10, plain(2024, 1)),
    "a time without a fold": ext(11, plain(1, 2, 3, 4)),
    "a zone that none knows": ext(13, msgspec.msgpack.encode("Nowhere/Here")),
    "a zone of two days": ext(13, plain(172_800, 0, None)),
    "a decimal of words": ext(14, b"no number"),
    "a decimal that is not ASCII": ext(14, b"\xff"),
    "a fraction of nothing": ext(15, plain(1, 0)),
    "a short UUID": ext(16, bytes(15)),
    "text that is none": ext(17, b"\xff"),
    "a dictionary of a key alone": ext(18, plain(1)),
    "a dictionary with a list for a key": ext(18, plain([], 1)),
}


@pytest.mark.parametrize("what", BAD)
def test_other_bytes_are_no_value(what: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        unpack_all(1, BAD[what])
    with pytest.raises(ValueError, match=r".+"):
        unpack_all(1, b"\x91" + BAD[what])


@pytest.mark.parametrize("count", [0, 1, 3, 100, (1 << 32) - 1, 1 << 32, 1 << 40])
def test_another_number_of_values_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} values"):
        unpack_all(count, b"\1\2")


@given(st.integers(0, 5), st.binary(max_size=60))
def test_any_bytes_are_values_or_refused(count: int, body: bytes) -> None:
    try:
        assert len(unpack_all(count, body)) == count
    except ValueError:
        pass


class Text(str):
    """Equal to a str, and not one."""

    __slots__ = ()


class Zone(dt.tzinfo):
    """Of the caller's own."""

    def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)

    dst = utcoffset

    def tzname(self, _: dt.datetime | None) -> str:
        return "here"


class Typed:
    """Has a dtype, as values of other libraries have."""

    dtype = np.dtype("i4")


class Array(np.ndarray):
    """Of the caller's own."""


UNFIT = [
    *(object(), range(3), Text("a"), OrderedDict(a=1), {Text("a"): 1}, [(Text("a"),)], {1: [Text("a")]}),
    *(dt.datetime(2024, 1, 1, tzinfo=Zone()), dt.time(1, tzinfo=Zone())),
    np.array([None]),
    np.array([(None,)], dtype=[("a", "O")]),
    np.arange(3).view(Array),
    np.ma.masked_array([1]),
    np.array([(1,)], dtype=[(("title", "a"), "i4")]),
    np.array([(1,)], dtype=(np.record, [("a", "i4")])),
    np.zeros(1, np.dtype("i4", metadata={"unit": "m"})),
    np.dtype("i4"),
    np.broadcast(1, 2),
    Typed(),
    np.random.default_rng(1),
]


@pytest.mark.parametrize("value", UNFIT, ids=lambda value: type(value).__name__)
def test_what_would_come_back_as_something_else_is_refused_and_named(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot travel"):
        pack(value)
    with pytest.raises(Unfit, match="cannot travel") as caught:
        pack_all([1, (2,), value, value])
    assert caught.value.index == 2


def test_it_is_said_what_cannot_travel() -> None:
    for value, text in (
        (range(3), "a range cannot travel"),
        (np.array([None]), "an array of object cannot travel"),
        (np.finfo(float), "a numpy.finfo cannot travel"),
        (np.broadcast(1, 2), "a broadcast cannot travel"),
        (Typed(), "a Typed cannot travel"),
    ):
        with pytest.raises(Unfit) as caught:
            pack_all([value])
        assert str(caught.value) == text


def test_a_class_with_a_standard_name_is_not_taken_for_the_standard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = type("Decimal", (), {"__module__": "decimal", "__str__": lambda _: "7"})
    with pytest.raises(TypeError, match="a Decimal cannot travel"):
        pack(made())
    nowhere = type("UUID", (), {"__module__": "uuid", "bytes": b"7"})
    monkeypatch.setitem(sys.modules, "uuid", ModuleType("uuid"))
    with pytest.raises(TypeError, match="a UUID cannot travel"):
        pack(nowhere())


def nested(depth: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": [value], "list": [value], "tuple": (value,), "dict": {"a": value}}[kind]
    return value


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_values_of_many_layers_travel(kind: str) -> None:
    deep = nested(MAX_DEPTH - 2, kind)
    assert is_direct([deep])
    assert again(deep) == deep
    assert not is_direct([nested(MAX_DEPTH + 1, kind)])


@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_a_value_that_is_nested_too_deeply_is_named(kind: str) -> None:
    with pytest.raises(Unfit, match="it is nested too deeply, or within itself") as caught:
        pack_all([1, nested(100_000, kind)])
    assert caught.value.index == 1


def test_a_value_within_itself_is_named() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(Unfit, match="within itself"):
        pack_all([ring])


@pytest.mark.parametrize(
    ("values", "direct"),
    [
        ([], True),
        ([1, "a", None, 0.5, b"", True], True),
        ([{"a": [1, {"b": 2}]}, [3, {4: 5}], [[]]], True),
        ([(1,)], False),
        ([[1, (1,)]], False),
        ([{"a": (1,)}], False),
        ([{(1,): 1}], False),
        ([{(1,): 1}, []], False),
        ([{"a": 1}, [{2}]], False),
        ([Text("a")], False),
        ([{Text("a"): 1}], False),
    ],
)
def test_data_of_msgpacks_own_types_is_written_at_once(values: list[Any], direct: bool) -> None:
    assert is_direct(values) is direct


def test_nan_comes_back() -> None:
    assert math.isnan(again(math.nan))
    assert math.isnan(again(Decimal("NaN")))


ARRAYS = [
    np.arange(70_000.0),
    np.arange(70_000).astype(">i4"),
    np.asfortranarray(np.arange(70_000).reshape(700, 100)),
    np.arange(70_000).reshape(700, 100).T,
    np.arange(140_000)[::2],
    np.arange(70_000).astype("M8[s]"),
    np.full((5, 3000), "text"),
    np.full(20_000, b"bytes"),
    np.ones(70_000, bool),
    np.ones((1, 40_000, 1), complex),
    np.zeros(20_000, "V8"),
    np.zeros(9_000, [("number", "f8"), ("text", "U2")]),
    np.zeros(65_536, "u1"),
    np.zeros(65_535, "u1"),
    np.broadcast_to(np.float64(3), (200, 100)),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_a_large_array_has_the_same_bytes_alone_and_among_others(array: Any) -> None:
    """Alone and among large ones it is neither packed nor read by way of msgspec, among small values it is."""
    array.flags.writeable = False
    alone, among = pack_all([array]), pack_all([array, 3])
    assert among == alone + b"\x03"
    assert alone == pack(array)
    (found,) = unpack_all(1, alone)
    again, three = unpack_all(2, among)
    assert three == 3
    for one in (found, again, unpack_all(2, memoryview(alone + alone))[1]):
        assert (one.dtype, one.shape, one.strides) == (array.dtype, array.shape, np.array(array, order="K").strides)
        assert one.tobytes() == array.tobytes()
        assert one.flags.writeable
        assert pack_all([one]) == alone


@pytest.mark.parametrize("count", [0, 1, 3])
def test_large_arrays_of_another_number_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"these bytes are not {count} values"):
        unpack_all(count, pack_all(ARRAYS[:2]))


@pytest.mark.parametrize("cut", [1, 5, 6, 20, 100_000])
def test_a_large_array_that_is_cut_off_is_refused(cut: int) -> None:
    packed = pack_all([ARRAYS[0]] * 2)
    with pytest.raises(ValueError, match="these bytes are not 2 values"):
        unpack_all(2, packed[:-cut])


def test_large_arrays_that_are_damaged_are_one_value_or_refused() -> None:
    packed = pack_all([ARRAYS[0]])
    for at in range(64):
        for bit in range(8):
            damaged = bytearray(packed)
            damaged[at] ^= 1 << bit
            with suppress(ValueError):
                assert len(unpack_all(1, bytes(damaged))) == 1
