"""A connection over a unix socket, without redis-py: to a private server, and to any other that has such a socket.

To import redis-py takes 60 to 100 ms, because it imports asyncio, metadata of packages and much else; that was a third
of the time of `mrq compute`. Over a unix socket we do not need it: there is no TLS, no Sentinel and no Cluster, and the
parser is hiredis, which redis-py uses, too. This class has the methods of redis-py's connections that a wire calls.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from hiredis import Reader, pack_command

from mapreduce_rq.broker.connection import Endpoint
from mapreduce_rq.broker.large_answers import LARGE_BYTES, LargeAnswers
from mapreduce_rq.broker.refusals import NotRedis, Refusal

READ_BYTES = 64 * 1024
EXPECTED = 64
"""After a large answer, this number of answers may be large, too, and are looked at before they are read."""
FULL = "ERR max number of clients reached"
_NOT_WHOLE = object()
"""The parser returns this while an answer is not complete."""


class UnixLink:
    """One connection. Its methods raise OSError, Refusal and NotRedis."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._sock: socket.socket | None = None
        self._buffer = bytearray(READ_BYTES)
        self._reader = self._new_reader()
        self._large: LargeAnswers | None = None
        self._expected = 0  # the number of answers that may be large

    @staticmethod
    def _new_reader() -> Reader:
        return Reader(protocolError=NotRedis, replyError=Refusal, notEnoughData=_NOT_WHOLE)

    def connect(self) -> None:
        """Connect, give the password and choose the database, if there are any."""
        endpoint = self._endpoint
        self._reader = self._new_reader()
        self._large, self._expected = None, 0
        self._sock = opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        opened.settimeout(endpoint.connect_seconds)
        opened.connect(endpoint.path)
        opened.settimeout(endpoint.answer_seconds)
        if endpoint.password or endpoint.username:
            user = (endpoint.username,) if endpoint.username else ()
            try:
                self._ask("AUTH", *user, endpoint.password or "")
            except Refusal as refusal:
                text = str(refusal)
                raise Refusal(f"WRONGPASS {text}" if text.startswith("ERR ") else text) from None
        if endpoint.db:
            self._ask("SELECT", str(endpoint.db))

    def disconnect(self) -> None:
        """Close it, if it is open."""
        opened, self._sock = self._sock, None
        if opened is not None:
            opened.close()

    def __del__(self) -> None:
        self.disconnect()

    def send_packed_command(self, pieces: Iterable[bytes], **_: bool) -> None:
        """Send commands that are packed already. The named arguments are those of redis-py's method; they are ignored,
        because no connection of ours checks the server's health before a command.
        """
        opened = self._sock or self._opened()
        for piece in pieces:
            opened.sendall(piece)

    def read_response(self) -> Any:
        """The next answer. Raises Refusal if it is an error; an error inside of an answer is an object in it."""
        reader = self._reader
        answer = reader.gets()
        if answer is _NOT_WHOLE and self._expected and not reader.has_data():
            return self._read_large()
        came = 0
        while answer is _NOT_WHOLE:
            size = (self._sock or self._opened()).recv_into(self._buffer)
            if not size:
                raise ConnectionError("Connection closed by server")
            reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # its stub forgets bytearray
            came += size
            answer = reader.gets()
        if came >= LARGE_BYTES:
            self._expected = EXPECTED
        if isinstance(answer, Refusal):
            if str(answer).startswith(FULL):  # the server says this to any new connection, and closes it
                raise ConnectionError(str(answer).removeprefix("ERR "))
            raise answer
        return answer

    def _read_large(self) -> Any:
        """As ``read_response``, where the next answer may have large values."""
        if self._large is None:
            seconds, sock = self._endpoint.answer_seconds, self._sock or self._opened()
            self._large = LargeAnswers(sock, self._reader, seconds=seconds, not_whole=_NOT_WHOLE)
        answer, values = self._large.read()
        self._expected = EXPECTED if values else self._expected - 1
        if answer is _NOT_WHOLE:
            self._expected, expected = 0, self._expected
            answer = self.read_response()
            self._expected = max(self._expected, expected)
        if isinstance(answer, Refusal):
            raise answer
        return self._large.fill(answer, values) if values else answer

    def _ask(self, *command: str) -> Any:
        self.send_packed_command((pack_command(command),))  # type: ignore[arg-type]  # as in redis_wire.py
        return self.read_response()

    def _opened(self) -> socket.socket:
        if self._sock is None:
            raise ConnectionError("not connected")
        return self._sock
