"""All values in the order of their terms: as a list, or joined to one text or one string of bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple

from mapreduce_rq.core.bodies import ALIGNMENT, FRAMED, Buffer, PlainCodec, ValueCodec, join
from mapreduce_rq.core.outcome import Deferred, Outcome
from mapreduce_rq.core.plain_values import Unfit
from mapreduce_rq.core.reducers.ahead import Ahead
from mapreduce_rq.core.reducers.base import BadValue, Law, Reducer
from mapreduce_rq.core.reducers.sums import is_array, listed
from mapreduce_rq.core.span import Span
from mapreduce_rq.core.text import plural
from mapreduce_rq.core.written import written


class Stretch(NamedTuple):
    """The values of the terms ``[lo, hi)``, in bodies, in order. A term may have no value, or several.

    ``n``: the number of values; ``flags``: their kinds.

    A body that came in an answer stays as it is: a merge joins references to bodies, and copies no body.
    """

    lo: int
    hi: int
    n: int
    flags: int
    bodies: tuple[Buffer, ...]


EMPTY = Stretch(0, 0, 0, 0, ())

TEXT, BYTES = 1, 2
APART = 4
"""A flag of the encoding: the body begins at a multiple of the alignment, as frames must."""

SMALL_BYTES = 4096
"""Bytes. Bodies that are smaller than this together are copied into one, because many small bodies need more memory."""

_HEADER = struct.Struct("<qqqB")


RECORD_BYTES = 64 * 1024
"""From this number of bytes of all values, a job's record does not have them as text: the text is made on demand."""


def size_of(partial: Stretch) -> int:
    """The number of bytes of the values."""
    return sum(len(body) for body in partial.bodies)


class _Stretches(Reducer[Stretch]):
    law: ClassVar[Law] = Law.ORDERED
    keeps: ClassVar[bool] = True

    def zero(self) -> Stretch:
        return EMPTY

    def size(self, partial: Stretch) -> int:
        return size_of(partial)

    def merge(self, left: Stretch, right: Stretch) -> Stretch:
        if left.lo == left.hi:
            return right
        if right.lo == right.hi:
            return left
        if left.hi != right.lo:
            raise ValueError(f"{Span(*left[:2])} and {Span(*right[:2])} are not neighbours in this order")
        bodies = left.bodies + right.bodies
        if left.bodies and right.bodies and len(left.bodies[-1]) + len(right.bodies[0]) < SMALL_BYTES:
            at = len(left.bodies) - 1
            bodies = (*bodies[:at], self.joined(bodies[at : at + 2]), *bodies[at + 2 :])
        return Stretch(left.lo, right.hi, left.n + right.n, left.flags | right.flags, bodies)

    def encode(self, partial: Stretch) -> bytes:
        lo, hi, count, flags, bodies = partial
        if lo == hi:
            return b""
        body = self.joined(bodies) if bodies else b""
        if not self.framed(body):
            return _HEADER.pack(lo, hi, count, flags) + body
        return _HEADER.pack(lo, hi, count, flags | APART).ljust(ALIGNMENT, b"\0") + body

    def joined(self, bodies: tuple[Buffer, ...]) -> bytes:
        """The bodies joined to one. There is at least one."""
        raise NotImplementedError

    def framed(self, body: bytes) -> bool:
        """Whether the body must begin at a multiple of the alignment."""
        return False

    def decode(self, data: bytes) -> Stretch:
        if not data:
            return EMPTY
        if len(data) < _HEADER.size:
            raise ValueError(f"{len(data)} bytes are too few for a stretch of values")
        lo, hi, count, flags = _HEADER.unpack_from(data)
        if not 0 <= lo < hi or count < 0 or flags > (TEXT | BYTES | APART):
            raise ValueError(f"{count} values cannot be those of {Span(lo, hi)}")
        at = ALIGNMENT if flags & APART else _HEADER.size
        if any(data[_HEADER.size : at]):
            raise ValueError("a stretch of values with something between its head and them")
        body = memoryview(data)[at:]
        return Stretch(lo, hi, count, flags & ~APART, (body,) if body else ())

    def spanning(self, partial: Stretch, lo: int, hi: int) -> Stretch:
        return partial._replace(lo=lo, hi=hi)

    def gap(self, lo: int, hi: int) -> Stretch:
        return Stretch(lo, hi, 0, 0, ())


class ListReducer(_Stretches):
    """The list of all values in the order of their terms, for any order of arrival.

    ``codec`` encodes them: as plain data, or also as pickles if the job's computation trusts these.
    """

    name: ClassVar[str] = "list"

    def __init__(self) -> None:
        self.codec: ValueCodec = PlainCodec()

    def travel_by(self, codec: ValueCodec) -> None:
        self.codec = codec

    def hasten(self) -> None:
        self.ahead = Ahead(self.codec.parts)

    def decode(self, data: bytes) -> Stretch:
        partial = super().decode(data)
        if self.ahead is not None:
            for body in partial.bodies:
                self.ahead.offer(body)
        return partial

    def joined(self, bodies: tuple[Buffer, ...]) -> bytes:
        return join(bodies)

    def framed(self, body: bytes) -> bool:
        return bytes(body[:1]) in FRAMED

    def fold(self, lo: int, values: Iterable[Any]) -> Stretch:
        if is_array(values):  # a kernel's, of the values of a span
            values = listed(values)
        row = values if isinstance(values, list) else list(values)
        if not row:
            return EMPTY
        try:
            body = self.codec.encode(row)
        except Unfit as unfit:
            raise BadValue(lo + unfit.index, row[unfit.index], f"{self.codec.takes} ({unfit})") from None
        return Stretch(lo, lo + len(row), len(row), 0, (body,))

    def finish_native(self, partial: Stretch) -> list[Any]:
        values: list[Any] = []
        for body in partial.bodies:
            values += self._read(body)
        return _complete(values, partial.n)

    def _read(self, body: Buffer) -> list[Any]:
        return self.codec.decode(body) if self.ahead is None else self.ahead.take(body)

    def describe(self, partial: Stretch) -> Outcome:
        if size_of(partial) > RECORD_BYTES:
            return Outcome(
                value="",
                text=Deferred(self._text, partial),
                bound="0",
                bound_kind="exact",
                native=Deferred(self._of, [partial], self._used_up),
                details={"length": partial.n},
                total=Deferred(self.canonical, partial),
            )
        native = self.finish_native(partial)
        return Outcome(
            value="\n".join(map(written, native)),
            bound="0",
            bound_kind="exact",
            native=native,
            details={"length": len(native)},
        )

    def _of(self, box: list[Stretch]) -> list[Any]:
        return self.finish_native(box[0])

    def _used_up(self, box: list[Stretch]) -> list[Any]:
        """As ``finish_native``, but each body is freed when it is decoded, so no large list is in memory twice."""
        count, bodies = box[0].n, list(reversed(box.pop().bodies))
        values: list[Any] = []
        while bodies:
            values += self._read(bodies.pop())
        return _complete(values, count)

    def _text(self, partial: Stretch) -> Iterator[str]:
        """The text, a piece for each body."""
        between = ""
        for body in partial.bodies:
            values = self.codec.decode(body)
            if values:
                yield between + "\n".join(map(written, values))
                between = "\n"

    def canonical(self, partial: Stretch) -> bytes:
        """As in the base class. Values that can only be pickled are pickles here, which may differ for equal values."""
        if any(bytes(body[:1]) in FRAMED for body in partial.bodies):
            with suppress(Unfit):
                values = self.finish_native(partial)
                partial = partial._replace(bodies=(PlainCodec().encode(values),))
        return self.encode(partial)


def _complete(values: list[Any], terms: int) -> list[Any]:
    if len(values) != terms:
        raise ValueError(f"{plural(len(values), 'value')} came for {plural(terms, 'term')}")
    return values


class Concat(_Stretches):
    """All texts, or all bytes, joined in the order of their terms."""

    name: ClassVar[str] = "concat"

    def joined(self, bodies: tuple[Buffer, ...]) -> bytes:
        return b"".join(bodies)

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
        return Stretch(lo, lo + len(parts), len(parts), flags, (b"".join(parts),)) if parts else EMPTY

    def finish_native(self, partial: Stretch) -> str | bytes:
        """The text; or bytes if any value was bytes (texts among them are then in UTF-8)."""
        body = b"".join(partial.bodies)
        return body if partial.flags & BYTES else body.decode()

    def describe(self, partial: Stretch) -> Outcome:
        native = self.finish_native(partial)
        large = size_of(partial) > RECORD_BYTES
        notes = ("text and bytes were mixed: the texts became UTF-8",) if partial.flags == TEXT | BYTES else ()
        return Outcome(
            value="" if large else _shown(native),
            text=Deferred(_pieces, native) if large else None,
            bound="0",
            bound_kind="exact",
            native=native,
            details={"length": len(native)},
            notes=notes,
            total=Deferred(self.encode, partial) if large else None,
        )


def _pieces(native: str | bytes) -> list[str]:
    return [_shown(native)]


def _shown(native: str | bytes) -> str:
    return native if isinstance(native, str) else native.hex()
