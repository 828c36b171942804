"""The body of a message that holds values: the items of a task, or the values that a list is made of.

Plain data is compact, and a body that holds nothing else begins with its count alone:

    v | count                         5 bytes, big-endian; the packing of each value follows (see plain_values.py)

Values of any other type are pickled, if pickles are trusted, in frames that follow each other:

    p · · · | count | buffers | 0     16 bytes, little-endian
    sizes                             8 bytes each: of the pickle, then of each of its buffers
    the pickle, then each buffer      each at a multiple of 64 bytes from the beginning of the body, as is each frame

Buffers are those of pickle's protocol 5 (PEP 574): the memory of an array is copied into the body as it is, and an
array that is read is a view of the body, aligned for every type that numpy has. To join bodies of frames, they are
written one behind the other. A plain body that is joined to frames becomes a frame without buffers, ``w``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, NamedTuple, Protocol

from mapreduce_rq.core.plain_values import TAKES, pack_all, unpack_all

Buffer = bytes | bytearray | memoryview

ALIGNMENT = 64
MAX_BUFFERS = 1 << 24
PLAIN, WRAPPED, PICKLED = b"v", b"w", b"p"
ALLOW_PICKLES = "allow pickles: a signing key on both sides, allow_pickle=True here, and --allow-pickle for the workers"
ALLOW = "start workers with --allow-pickle and a key (MRQ_KEY) to read them"
FRAMED = frozenset({WRAPPED, PICKLED})

_HEAD = struct.Struct("<c3xIII")
_ALONE = struct.Struct("<c3xIIIQ40x")
"""The head of a frame without buffers, with the size of its pickle: most frames have none."""


class ValueCodec(Protocol):
    """Encodes and decodes the values of a job: as plain data, or also as pickles if these are trusted."""

    takes: ClassVar[str]
    """The kinds of values that it takes, in words for error messages."""

    remedy: ClassVar[str]
    """What the user can do about a value that it does not take, in words for error messages."""

    def encode(self, values: Sequence[Any]) -> bytes:
        """The values as one body. Raises Unfit."""

    def pieces(self, values: Sequence[Any]) -> list[Buffer]:
        """The same body in pieces, some of which may be the memory of the values themselves. Raises Unfit."""

    def decode(self, body: Buffer) -> list[Any]:
        """The values of a body; arrays are writable. Raises ValueError for bytes that are not a body."""

    def parts(self, body: Buffer) -> Iterator[list[Any]]:
        """As ``decode``, some values at a time."""


class PlainCodec:
    """Values as plain data."""

    takes: ClassVar[str] = TAKES
    remedy: ClassVar[str] = f"make it one of these, or {ALLOW_PICKLES}"

    def encode(self, values: Sequence[Any]) -> bytes:
        """The values as one body. Raises Unfit."""
        return pack_all(values, plain_head(len(values)))

    def pieces(self, values: Sequence[Any]) -> list[Buffer]:
        """The same body as the only piece. Raises Unfit."""
        return [self.encode(values)]

    def decode(self, body: Buffer) -> list[Any]:
        """The values of a plain body. Raises ValueError for bytes that are not a body, and for pickled values."""
        if body[:1] != PLAIN:
            raise ValueError(f"these values are pickled: {ALLOW}")
        return unpack_all(_count_of(body), memoryview(body)[5:])

    def parts(self, body: Buffer) -> Iterator[list[Any]]:
        """The same values, all at a time."""
        yield self.decode(body)


ASIDE = b"@"
"""The first byte of a reference to a body that was laid aside (see runtime/server/shelf.py); the size follows in 8
bytes."""


class Aside(Protocol):
    """The place where large bodies of one job are laid aside, if there is one."""

    def put(self, *pieces: Buffer) -> bytes | None:
        """Lay a body aside and return the reference to it; None if the body must travel as it is.

        The body is all these pieces, one behind the other.
        """

    def get(self, reference: Buffer) -> memoryview:
        """The body, writable. Raises ValueError if it is not there any more."""

    def drop(self, reference: Buffer) -> None:
        """Remove a body that no process will ask for any more; a process that has read it can go on using it."""

    def keep(self, references: set[bytes]) -> None:
        """Drop all bodies that this process has laid aside, except these."""

    def clear(self) -> None:
        """Drop all bodies of the job, because it is over."""


class Pieces(Protocol):
    """The place where the workers of one job lay the pieces of its shuffle, if there is such a place."""

    outlives: ClassVar[bool]
    """Whether the master can read the pieces, too, even when the job is over. Then results are laid there, too."""

    def lay(self, pieces: Sequence[bytes]) -> bytes | None:
        """Lay some pieces aside together and return the reference to them; None if they must travel as they are."""

    def row(self, references: Sequence[bytes], number: int) -> Iterator[Buffer]:
        """The piece with this number from each of the references, in their order; the memory stays valid.

        Raises ValueError if a piece is not there any more.
        """


def hash_of(pieces: Iterable[Buffer]) -> blake2b:
    """The hash of a body that was cut into pieces: its 64 hexadecimal digits are the name of a shared object."""
    found = blake2b(digest_size=32, person=b"mrq shared")
    for piece in pieces:
        found.update(piece)
    return found


def size_of(body: Buffer) -> int:
    """Bytes of a body; for a reference, bytes of the body that it refers to."""
    return int.from_bytes(body[1:9], "big") if body[:1] == ASIDE else len(body)


def plain_body(count: int, packed: bytes) -> bytes:
    """The body of ``count`` values from their joined packings. Raises ValueError as ``plain_head``."""
    return plain_head(count) + packed


def plain_head(count: int) -> bytes:
    """What stands before the packings of ``count`` values. Raises ValueError if they are too many for one body."""
    if count >= 1 << 32:
        raise ValueError(f"{count} values are too many for one body")
    return PLAIN + count.to_bytes(4, "big")


def join(bodies: Sequence[Buffer]) -> bytes:
    """One body with the values of all, in their order. Equal plain values give equal bodies, however they were cut."""
    return bytes(bodies[0]) if len(bodies) == 1 else b"".join(joined([[body] for body in bodies]))


def joined(bodies: Sequence[list[Buffer]]) -> list[Buffer]:
    """As :func:`join`, of bodies in pieces, and in pieces again: large values are not copied on the way."""
    if len(bodies) == 1:
        return bodies[0]
    plain = [pieces[0] for pieces in bodies if pieces[0][:1] == PLAIN]  # such a body is one piece
    if len(plain) == len(bodies):
        return [plain_body(sum(map(_count_of, plain)), b"".join([memoryview(body)[5:] for body in plain]))]
    found: list[Buffer] = []
    for pieces in bodies:
        first = pieces[0]
        found += frame(WRAPPED, _count_of(first), memoryview(first)[5:]) if first[:1] == PLAIN else pieces
    return found


def _count_of(plain: Buffer) -> int:
    return int.from_bytes(plain[1:5], "big")


class Frame(NamedTuple):
    """A frame that was read: its tag, how many values it holds, their pickle or packings, and its buffers."""

    tag: bytes
    values: int
    main: memoryview
    buffers: list[memoryview]


def frame(tag: bytes, count: int, main: Buffer, buffers: Sequence[memoryview] = ()) -> list[Buffer]:
    """The pieces of one frame, which the caller joins. The frame's length is a multiple of the alignment."""
    if not buffers:
        return [_ALONE.pack(tag, count, 0, 0, len(main)), main, bytes(-len(main) % ALIGNMENT)]
    sizes = [len(main), *(buffer.nbytes for buffer in buffers)]
    head = _HEAD.pack(tag, count, len(buffers), 0) + struct.pack(f"<{len(sizes)}Q", *sizes)
    pieces: list[Buffer] = [head, bytes(-len(head) % ALIGNMENT)]
    for piece, size in zip([main, *buffers], sizes, strict=True):
        pieces += [piece, bytes(-size % ALIGNMENT)]
    return pieces


def frames(body: Buffer) -> Iterator[Frame]:
    """The frames of a body that begins with one; buffers are writable. Raises ValueError."""
    view = memoryview(body)
    at = 0
    while at < len(view):
        try:
            tag, count, number, zero = _HEAD.unpack_from(view, at)
            if tag not in FRAMED or zero or number > MAX_BUFFERS:
                raise ValueError("these bytes are not a body of values")
            sizes = struct.unpack_from(f"<{number + 1}Q", view, at + _HEAD.size)
        except struct.error:
            raise ValueError("a body of values is cut off in its head") from None
        if number and view.readonly:
            view = memoryview(bytearray(view))  # the array is writable again, and aligned
        at += _padded(_HEAD.size + 8 * len(sizes))
        pieces = []
        for size in sizes:
            if at + size > len(view):
                raise ValueError("a body of values is cut off in its values")
            pieces.append(view[at : at + size])
            at += _padded(size)
        yield Frame(tag, count, pieces[0], pieces[1:])


def _padded(size: int) -> int:
    return size + -size % ALIGNMENT
