"""A connection over a unix socket, without redis-py: a private server, and any other that has such a socket.

To import redis-py takes 60 to 100 ms, which is a third of what `mrq compute` took with it: it brings asyncio, metadata
of packages and much else. Over a unix socket we need nothing of it: no TLS, no Sentinel, no Cluster, and the parser is
hiredis, which redis-py uses, too. This class has those methods of redis-py's connections that a wire calls.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from hiredis import Reader, pack_command

from mapreduce_rq.broker.connection import ANSWER_SECONDS, CONNECT_SECONDS, Endpoint
from mapreduce_rq.broker.refusals import NotRedis, Refusal

READ_BYTES = 64 * 1024
FULL = "ERR max number of clients reached"
_NOT_WHOLE = object()
"""What the parser gives while an answer is not whole."""


class UnixLink:
    """One connection. Its methods raise OSError, Refusal and NotRedis."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._sock: socket.socket | None = None
        self._buffer = bytearray(READ_BYTES)
        self._reader = self._new_reader()

    @staticmethod
    def _new_reader() -> Reader:
        return Reader(protocolError=NotRedis, replyError=Refusal, notEnoughData=_NOT_WHOLE)

    def connect(self) -> None:
        """Connect, give the password and choose the database, if there are any."""
        endpoint = self._endpoint
        self._reader = self._new_reader()
        self._sock = opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        opened.settimeout(CONNECT_SECONDS)
        opened.connect(endpoint.path)
        opened.settimeout(ANSWER_SECONDS)
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
        """Send commands that are packed already. No connection of ours asks a server how it is before a command, so
        what redis-py has for that is not looked at.
        """
        opened = self._opened()
        for piece in pieces:
            opened.sendall(piece)

    def read_response(self) -> Any:
        """The next answer. Raises Refusal for one that is a refusal; within an answer such a one is an object."""
        reader = self._reader
        answer = reader.gets()
        while answer is _NOT_WHOLE:
            size = self._opened().recv_into(self._buffer)
            if not size:
                raise ConnectionError("Connection closed by server")
            reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # its stub forgets bytearray
            answer = reader.gets()
        if isinstance(answer, Refusal):
            if str(answer).startswith(FULL):  # it is said to a new connection, whatever that asks for, and closes it
                raise ConnectionError(str(answer).removeprefix("ERR "))
            raise answer
        return answer

    def _ask(self, *command: str) -> Any:
        self.send_packed_command((pack_command(command),))  # type: ignore[arg-type]  # as in redis_wire.py
        return self.read_response()

    def _opened(self) -> socket.socket:
        if self._sock is None:
            raise ConnectionError("not connected")
        return self._sock
