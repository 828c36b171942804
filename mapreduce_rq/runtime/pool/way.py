"""How a pool's supervisor and its workers reach their queue: in a Redis or, over pipes, in the client itself."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Protocol

from mapreduce_rq.broker.connection import Endpoint
from mapreduce_rq.broker.wire import RedisWire, Wire
from mapreduce_rq.errors import BrokerRefused
from mapreduce_rq.pipes.lines import JOIN, Line, LineWire, PipeEnd, a_line, frame
from mapreduce_rq.runtime.server import guardian


class Birth(Protocol):
    """The things that a worker is given when it is forked. They are made before, and used on both sides."""

    def wire(self) -> Wire:
        """In the worker: its wire, not connected yet."""

    def born(self, wid: str) -> None:
        """In its supervisor, after the worker was forked."""

    def over(self) -> bool:
        """In the worker: whether the client that it worked for is gone for good."""


class Way(Protocol):
    """The way to the queue."""

    def wire(self) -> Wire:
        """The supervisor's own wire, not connected yet."""

    def birth(self) -> Birth:
        """Before a worker is forked."""

    def watched(self) -> Sequence[int]:
        """Descriptors that become readable when the way may have ended."""

    def over(self) -> bool:
        """Whether the way has ended: then the pool must end, too."""

    def close(self) -> None:
        """Forget it."""

    def clear_away(self, shelf: str) -> None:
        """The pool ends: remove what no other process would remove."""


class ByRedis:
    """Each has a connection of its own, and a server that is gone may come back."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def wire(self) -> Wire:
        """See Way, and Birth."""
        return RedisWire(self._endpoint)

    def birth(self) -> Birth:
        """See Way."""
        return self

    def born(self, wid: str) -> None:
        """It connects by itself."""

    def watched(self) -> Sequence[int]:
        """Nothing: the wire finds out when it is used."""
        return ()

    def over(self) -> bool:
        """It never is."""
        return False

    def close(self) -> None:
        """See Way."""

    def clear_away(self, shelf: str) -> None:
        """The shelf of a private server goes with it."""


class ByPipes:
    """Lines to the client. Where its end of ours is closed the client has ended, however it did."""

    def __init__(self, end: PipeEnd) -> None:
        self._line: Line | None = Line(socket.socket(fileno=end.descriptor))

    def wire(self) -> Wire:
        """See Way."""
        assert self._line is not None
        return LineWire(self._line)

    def birth(self) -> Birth:
        """See Way."""
        return PipeBirth(self)

    def join(self, wid: str, end: socket.socket) -> None:
        """Hand the hub its end of a worker's line. Where the hub is gone, that is seen by who watches it."""
        if self._line is not None:
            with contextlib.suppress(BrokerRefused):
                self._line.send(frame(0, JOIN, wid), [end.fileno()])

    def watched(self) -> Sequence[int]:
        """See Way."""
        return () if self._line is None else (self._line.fileno(),)

    def over(self) -> bool:
        """See Way."""
        return self._line is not None and self._line.hung_up()

    def close(self) -> None:
        """See Way."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def clear_away(self, shelf: str) -> None:
        """Remove the shelf: no other process does, if the client was killed."""
        if shelf:
            guardian.remove(shelf)


class PipeBirth:
    """A new line."""

    def __init__(self, way: ByPipes) -> None:
        self._way = way
        self._theirs, self._hubs = a_line()
        self._line: Line | None = None

    def wire(self) -> Wire:
        """See Birth."""
        self._hubs.close()
        self._way.close()
        self._line = Line(self._theirs)
        return LineWire(self._line)

    def over(self) -> bool:
        """See Birth."""
        return self._line is not None and self._line.hung_up()

    def born(self, wid: str) -> None:
        """See Birth."""
        self._theirs.close()
        self._way.join(wid, self._hubs)
        self._hubs.close()


def way_of(endpoint: Endpoint | PipeEnd) -> Way:
    """The way that a pool's settings name."""
    return ByPipes(endpoint) if isinstance(endpoint, PipeEnd) else ByRedis(endpoint)
