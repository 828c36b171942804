"""Answers with large values: each of these goes from the system right into the bytes that the caller gets.

hiredis gathers an answer in a buffer of its own, which grows, and copies each value out of it: to read answers of some
megabytes took two to three times as long as here, also because the system had to clear new memory again and again. So
before anything is taken from the socket we look at what is there (MSG_PEEK). If a large value begins, what stands
before it goes to hiredis, with a mark in the place of the value. The value is read by a call of its own, and replaces
the mark when hiredis has the whole answer.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

from hiredis import Reader

LARGE_BYTES = 64 * 1024
"""Bytes of a value from which on it is read like this."""
MOST_BYTES = 1 << 30
"""A server that announces more than this is not believed at once: hiredis takes memory for what has come."""
PEEK_BYTES = 4096
MOST_PARTS = 64
"""If no large value begins within this number of parts of an answer, the answer is left to hiredis."""
_CRLF = b"\r\n"
_SIZE = ord("$")


class LargeAnswers:
    """Reads answers from a socket, as long as ``reader`` has nothing of the next one.

    ``not_whole``: what the reader returns while an answer is not complete. A wait takes at most ``seconds``.
    """

    def __init__(self, sock: socket.socket, reader: Reader, *, seconds: float, not_whole: object) -> None:
        self._sock = sock
        self._reader = reader
        self._seconds = seconds
        self._not_whole = not_whole
        self._mark = os.urandom(16)
        self._buffer = bytearray(PEEK_BYTES)
        whole, part = divmod(seconds, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(whole), int(part * 1e6)))

    def read(self) -> tuple[Any, list[bytes]]:
        """The next answer, with marks, and the values to ``fill`` them with. If the answer is not whole, the reader is
        to be fed with the rest of it. Raises OSError.
        """
        reader, buffer = self._reader, self._buffer
        values: list[bytes] = []
        parts = 0
        while True:
            there = self._sock.recv_into(buffer, PEEK_BYTES, socket.MSG_PEEK)
            if not there:
                raise ConnectionError("Connection closed by server")
            at, size, number = _look(buffer, there)
            parts = 0 if size else parts + number
            if at or not size:  # if nothing is complete, the reader says what becomes of it
                taken = self._sock.recv_into(buffer, at or there)
                reader.feed(buffer, 0, taken)  # type: ignore[arg-type]  # its stub forgets bytearray
                answer = reader.gets()
                if answer is not self._not_whole or parts > MOST_PARTS or taken < at or not (at or size):
                    return answer, values
            if size:
                self._all(buffer.index(_CRLF, at) + 2 - at)
                values.append(self._all(size))
                reader.feed(b"$%d\r\n%b" % (len(self._mark), self._mark))
                reader.feed(self._all(2))
                answer = reader.gets()
                if answer is not self._not_whole:
                    return answer, values

    def fill(self, answer: Any, values: list[bytes]) -> Any:
        """The answer with these values in the places of the marks."""
        return self._filled(answer, iter(values))

    def _filled(self, answer: Any, values: Iterator[bytes]) -> Any:
        if type(answer) is list:
            for at, part in enumerate(answer):
                if type(part) is list or part == self._mark:
                    answer[at] = self._filled(part, values)
            return answer
        return next(values) if answer == self._mark else answer

    def _all(self, size: int) -> bytes:
        """The next ``size`` bytes. If all of them come in time, they are written once, into the bytes returned."""
        self._sock.settimeout(None)  # then the system waits for them, as long as the option above says
        try:
            pieces = []
            while size:
                piece = self._sock.recv(size, socket.MSG_WAITALL)
                if not piece:
                    raise ConnectionError("Connection closed by server")
                pieces.append(piece)
                size -= len(piece)
        except BlockingIOError:
            raise TimeoutError("timed out") from None
        finally:
            self._sock.settimeout(self._seconds)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _look(data: bytearray, end: int) -> tuple[int, int, int]:
    """How many bytes of the first ``end`` are complete parts of answers, up to a large value; the size of that value, 0
    if none begins there; and the number of parts.
    """
    at = number = 0
    while (line := data.find(_CRLF, at, end)) >= 0:
        behind = line + 2
        if data[at] == _SIZE:
            try:
                size = int(data[at + 1 : line])
            except ValueError:  # hiredis says what is wrong
                break
            if LARGE_BYTES <= size <= MOST_BYTES:
                return at, size, number
            behind += size + 2 if size >= 0 else 0
            if behind > end:
                break
        at = behind
        number += 1
    return at, 0, number
