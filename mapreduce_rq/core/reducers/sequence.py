"""All values in the order of their terms: as a list, or joined to one text or one string of bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import msgspec

from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.plain_values import TAKES, pack, unpack_all, written
from mapreduce_rq.core.reducers.base import BadValue, Law, Reducer
from mapreduce_rq.core.reducers.sums import is_array
from mapreduce_rq.core.span import Span


class Stretch(NamedTuple):
    """The values of the terms ``[lo, hi)``: how many they are, flags of what they are, and their bytes joined."""

    lo: int
    hi: int
    n: int
    flags: int
    body: bytes


EMPTY = Stretch(0, 0, 0, 0, b"")

TEXT, BYTES = 1, 2

_HEADER = struct.Struct("<qqqB")


class _Stretches(Reducer[Stretch]):
    law: ClassVar[Law] = Law.ORDERED

    def zero(self) -> Stretch:
        return EMPTY

    def merge(self, left: Stretch, right: Stretch) -> Stretch:
        if left.lo == left.hi:
            return right
        if right.lo == right.hi:
            return left
        if left.hi != right.lo:
            raise ValueError(f"{Span(*left[:2])} and {Span(*right[:2])} are not neighbours in this order")
        return Stretch(left.lo, right.hi, left.n + right.n, left.flags | right.flags, left.body + right.body)

    def encode(self, partial: Stretch) -> bytes:
        lo, hi, count, flags, body = partial
        return _HEADER.pack(lo, hi, count, flags) + body if lo < hi else b""

    def decode(self, data: bytes) -> Stretch:
        if not data:
            return EMPTY
        if len(data) < _HEADER.size:
            raise ValueError(f"{len(data)} bytes are too few for a stretch of values")
        lo, hi, count, flags = _HEADER.unpack_from(data)
        if not 0 <= lo < hi or not 0 <= count <= hi - lo or flags > (TEXT | BYTES):
            raise ValueError(f"{count} values cannot be those of {Span(lo, hi)}")
        return Stretch(lo, hi, count, flags, data[_HEADER.size :])

    def gap(self, lo: int, hi: int) -> Stretch:
        return Stretch(lo, hi, 0, 0, b"")


class ListReducer(_Stretches):
    """The list of all values in the order of their terms, whatever the order of arrival."""

    name: ClassVar[str] = "list"

    def decode(self, data: bytes) -> Stretch:
        stretch = super().decode(data)
        self.check(stretch.lo, unpack_all(stretch.n, stretch.body))  # a bad value is found here, not at the very end
        return stretch

    def check(self, lo: int, values: list[Any]) -> None:
        """Raises ValueError for values that ``fold`` would have refused."""

    def fold(self, lo: int, values: Iterable[Any]) -> Stretch:
        if is_array(values):
            values = values.tolist()  # type: ignore[attr-defined]  # an array has it
        packed = []
        for term, value in enumerate(values, lo):
            try:
                if value is None:
                    raise TypeError
                packed.append(pack(value))
            except (TypeError, OverflowError, ValueError, RecursionError, msgspec.MsgspecError):
                raise BadValue(term, value, TAKES) from None
        return Stretch(lo, lo + len(packed), len(packed), 0, b"".join(packed)) if packed else EMPTY

    def finish_native(self, partial: Stretch) -> list[Any]:
        return unpack_all(partial.n, partial.body)

    def describe(self, partial: Stretch) -> Outcome:
        native = self.finish_native(partial)
        return Outcome(
            value="\n".join(map(written, native)),
            bound="0",
            bound_kind="exact",
            native=native,
            details={"length": len(native)},
        )


class Concat(_Stretches):
    """All texts, or all bytes, joined in the order of their terms."""

    name: ClassVar[str] = "concat"

    def fold(self, lo: int, values: Iterable[Any]) -> Stretch:
        parts, flags = [], 0
        for term, value in enumerate(values, lo):
            if isinstance(value, str):
                flags |= TEXT
                try:
                    parts.append(value.encode())
                except UnicodeEncodeError:
                    raise BadValue(term, value, "text that UTF-8 can write") from None
            elif isinstance(value, (bytes, bytearray, memoryview)):
                flags |= BYTES
                parts.append(bytes(value))
            else:
                raise BadValue(term, value, "text or bytes")
            if flags == TEXT | BYTES:
                raise BadValue(term, value, "text or bytes, not both in one job")
        return Stretch(lo, lo + len(parts), len(parts), flags, b"".join(parts)) if parts else EMPTY

    def finish_native(self, partial: Stretch) -> str | bytes:
        """The text, or the bytes where there were any (texts among them are then UTF-8)."""
        return partial.body if partial.flags & BYTES else partial.body.decode()

    def describe(self, partial: Stretch) -> Outcome:
        native = self.finish_native(partial)
        text = native if isinstance(native, str) else native.hex()
        notes = ("text and bytes were mixed: the texts became UTF-8",) if partial.flags == TEXT | BYTES else ()
        return Outcome(
            value=text,
            bound="0",
            bound_kind="exact",
            native=native,
            details={"length": len(native)},
            notes=notes,
        )
