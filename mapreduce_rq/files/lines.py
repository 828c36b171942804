"""Lines of files, many at a time: as bytes, cut only at line ends."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import BinaryIO

PIECE = 1 << 18
"""Bytes read at a time: few enough that their records stay in the cache."""

LONGEST = 1 << 28
"""Bytes of a line at most: a file with no line end in as many bytes is not text."""


class TooLong(Exception):
    """A line has more than LONGEST bytes; ``at`` is the byte where it begins."""

    def __init__(self, at: int) -> None:
        super().__init__(f"a line of more than {LONGEST} bytes begins at byte {at}")
        self.at = at


def lines_between(file: BinaryIO, start: int, end: int, size: int) -> Iterator[tuple[int, bytes]]:
    """The lines that begin at ``start <= offset < end``, to their ends: in pieces of whole lines, with their offsets.

    Bytes from ``size`` on are not read: they were written after the file was measured. Raises TooLong.
    """
    at = start
    if start:  # skip to the first line that begins in here: it begins at start itself if a line ends just before
        at = _behind_line(file, start - 1, min(end, size))
    while at < end:
        file.seek(at)
        piece = file.read(min(PIECE, end - at))
        if not piece:
            return
        if not piece.endswith(b"\n"):
            piece += _rest_of_line(file, at + len(piece), at + piece.rfind(b"\n") + 1, size)
        yield at, piece
        at += len(piece)


def _behind_line(file: BinaryIO, at: int, end: int) -> int:
    """The offset after the end of the line that has the byte ``at``; ``end`` if that is not before it: all the ranges
    that a long line has would read it to its end.
    """
    file.seek(at)
    while at < end:
        part = file.readline(min(PIECE, end - at))
        at += len(part)
        if not part or part.endswith(b"\n"):
            break
    return at


def _rest_of_line(file: BinaryIO, at: int, begins: int, size: int) -> bytes:
    parts = []
    while at < size:
        part = file.readline(min(PIECE, size - at))
        if not part:
            break
        parts.append(part)
        at += len(part)
        if part.endswith(b"\n"):
            break
        if at - begins > LONGEST:
            raise TooLong(begins)
    return b"".join(parts)


def pieces_of(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """All lines of a stream, in pieces of whole lines, with their offsets. Raises TooLong, and the stream's errors."""
    at, size = 0, 0
    rest: list[bytes] = []  # the beginning of a line, perhaps a long one, which is joined once; and its size
    while piece := stream.read(PIECE):
        cut = piece.rfind(b"\n") + 1
        if not cut:
            rest.append(piece)
            size += len(piece)
            if size > LONGEST:
                raise TooLong(at)
            continue
        whole = b"".join([*rest, piece[:cut]])
        rest = [piece[cut:]] if cut < len(piece) else []
        size = len(piece) - cut
        del piece  # it may be large
        yield at, whole
        at += len(whole)
    if rest:
        yield at, b"".join(rest)


def starts(piece: bytes, at: int) -> list[int]:
    """Where each line of a piece begins."""
    sizes = (len(line) + 1 for line in piece.removesuffix(b"\n").split(b"\n")[:-1])
    return list(accumulate(sizes, initial=at))
