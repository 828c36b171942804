"""A worker's and a supervisor's end of a line to the hub, and the wire over it.

A frame is its length in eight bytes and a msgpack array: the channel and a request, or the channel and an answer. Each
wire of a process has a channel of its own on the one line, and takes a new one each time that it connects. So an answer
that is not waited for any more is dropped.
"""

from __future__ import annotations

import itertools
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from mapreduce_rq.broker.wire import SURE_BYTES, USUAL_BYTES, Argument, Command, Heard, Script
from mapreduce_rq.errors import BrokerDown, BrokerError, BrokerRefused, TooLarge

_HEAD = struct.Struct(">Q")
HEAD_BYTES = _HEAD.size
READ_BYTES = 256 * 1024
"""Bytes of the buffer for what is read. It is made once: memory of this size would be mapped and cleared anew for each
read, which took longer than all other parts of it.
"""
BUFFER_BYTES = 1024 * 1024

CALL, PIPELINE, TRANSACTION, SCRIPT, BYE, JOIN = range(6)
"""The kinds of requests in a frame."""

_encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode


def frame(*parts: Any) -> bytes:
    """The bytes of a frame."""
    payload = _encode(parts)
    return _HEAD.pack(len(payload)) + payload


class Frames:
    """Cuts the bytes that come over a line into frames."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # pieces of a frame that is not complete yet
        self._have = self._wanted = 0  # bytes in the pieces, and in the frame, as far as that is known

    def take(self, data: memoryview) -> list[Any]:
        """Add bytes, and return the frames that are complete now. Nothing refers to ``data`` afterwards."""
        if self._pieces:
            self._pieces.append(bytes(data))
            self._have += len(data)
            if self._have < self._wanted:
                return []
            data = memoryview(b"".join(self._pieces))
            self._pieces = []
        found = []
        at, size = 0, len(data)
        while size - at >= HEAD_BYTES:
            end = at + HEAD_BYTES + _HEAD.unpack_from(data, at)[0]
            if end > size:
                break
            found.append(decode(data[at + HEAD_BYTES : end]))
            at = end
        if at < size:
            self._pieces, self._have = [bytes(data[at:])], size - at
            known = size - at >= HEAD_BYTES
            self._wanted = HEAD_BYTES + (_HEAD.unpack_from(data, at)[0] if known else 0)
        return found


GONE = "the client of these workers has ended"
BROKEN = "the line to the client is broken"
"""After GONE or BROKEN, waiting does not help."""


class PipeEnd(msgspec.Struct, frozen=True):
    """The way of a pool of workers over pipes to the hub: the descriptor of its supervisor's line."""

    descriptor: int

    def __str__(self) -> str:
        return "pipes:"


class Line:
    """One process's end of a line. Its threads may use it at the same time."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        self._sending = threading.Lock()
        self._reading = threading.Lock()
        self._frames = Frames()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._boxes: dict[int, deque[Any]] = {}
        self._channels = itertools.count()
        self._half_sent = self._half_read = False  # perhaps it never does: a signal handler has raised an error there

    def fileno(self) -> int:
        """The descriptor."""
        return self._end.fileno()

    def channel(self) -> int:
        """A new channel. Raises BrokerRefused."""
        if self._half_sent or self._half_read or self._end.fileno() < 0:
            raise BrokerRefused(GONE)
        number = next(self._channels)
        self._boxes[number] = deque()
        return number

    def leave(self, channel: int) -> None:
        """Give a channel up: answers on it are dropped."""
        self._boxes.pop(channel, None)

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a complete frame, with descriptors. Raises BrokerRefused."""
        with self._sending:
            if self._half_sent:
                raise BrokerRefused(BROKEN)
            self._half_sent = True
            try:
                if descriptors:
                    data = data[socket.send_fds(self._end, [data], descriptors) :]
                self._end.sendall(data)
            except OSError as error:
                raise BrokerRefused(f"{GONE}: {error.strerror}") from None
            self._half_sent = False

    def receive(self, channel: int) -> Any:
        """The next answer on a channel. Raises BrokerRefused."""
        box = self._boxes[channel]
        while True:
            with self._reading:
                if box:
                    return box.popleft()
                self._poll.poll()  # a signal handler may raise here, and nothing is lost
                if self._half_read:
                    raise BrokerRefused(BROKEN)
                self._half_read = True
                try:
                    size = self._end.recv_into(self._buffer)
                except OSError:
                    size = 0
                if not size:
                    raise BrokerRefused(GONE)
                for number, *answer in self._frames.take(self._buffer[:size]):
                    if number in self._boxes:
                        self._boxes[number].append(answer)
                self._half_read = False

    def hung_up(self) -> bool:
        """Whether the hub's end is closed. Call this only when no answer is on its way."""
        try:
            return not self._end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Hang up."""
        self._end.close()


class LineWire:
    """A wire over a line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._channel = -1
        self._asked: deque[Heard | None] = deque()

    def another(self) -> LineWire:
        """Another wire over the same line, not connected yet."""
        return LineWire(self._line)

    def limit(self) -> int:
        """The most bytes of one argument: the same as over Redis, so that a job runs on both."""
        return USUAL_BYTES

    def connect(self) -> None:
        """Begin anew. Raises BrokerRefused."""
        self.close()
        self._channel = self._line.channel()

    def close(self) -> None:
        """Give the channel up. The line stays open for other wires."""
        channel, self._channel = self._channel, -1
        if channel >= 0:
            self._line.leave(channel)
            if self._asked:
                self._line.send(frame(channel, BYE))
        asked, self._asked = self._asked, deque()
        for heard in asked:
            if heard is not None:
                heard(BrokerDown("the line was closed before its answer came"))

    def call(self, *command: Argument) -> Any:
        """One command's answer."""
        self.ask_call(*command)
        return self.answer()

    def pipeline(self, commands: Sequence[Command], *, refusals: bool = False) -> list[Any]:
        """The answers of several commands; here none is refused."""
        return list(self._ask(PIPELINE, commands))

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """The answers of several commands that are done in one step."""
        return list(self._ask(TRANSACTION, commands))

    def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """A script's answer."""
        self.ask(script, keys, arguments)
        return self.answer()

    def ask(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        then: Command = (),
        heard: Heard | None = None,
    ) -> None:
        """Send a script, and a command ``then`` after it; see :class:`Wire`."""
        self._send(heard, SCRIPT, script.name, keys, arguments)
        if then:
            self._send(None, CALL, then)

    def ask_call(self, *command: Argument, then: Command = ()) -> None:
        """As ``ask``, for a command."""
        self._send(None, CALL, command)
        if then:
            self._send(None, CALL, then)

    def answer(self) -> Any:
        """The answer to the oldest request."""
        self.hear()
        answer = self._read()
        self._asked.popleft()
        if len(answer) > 1:
            raise BrokerError(answer[1])
        return answer[0]

    def hear(self) -> None:
        """Read the answers of requests with ``heard``."""
        while self._asked and (heard := self._asked[0]) is not None:
            answer = self._read()
            self._asked.popleft()
            heard(BrokerError(answer[1]) if len(answer) > 1 else answer[0])

    def _ask(self, *what: Any) -> Any:
        self._send(None, *what)
        return self.answer()

    def _send(self, heard: Heard | None, *what: Any) -> None:
        if self._channel < 0:
            raise BrokerDown("not connected to the client")
        data = frame(self._channel, *what)
        if len(data) > SURE_BYTES:
            check_size(len(data))
        self._line.send(data)
        self._asked.append(heard)

    def _read(self) -> Any:
        if self._channel < 0:
            raise BrokerDown("not connected to the client")
        return self._line.receive(self._channel)


def check_size(size: int) -> None:
    """Raise TooLarge for a size that one argument may not have."""
    if size > USUAL_BYTES:
        raise TooLarge("what is to be sent", size, USUAL_BYTES)


def a_line() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new line, with buffers for the largest step."""
    one, other = socket.socketpair()
    for end in (one, other):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return one, other
