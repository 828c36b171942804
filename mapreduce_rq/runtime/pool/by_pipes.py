"""A pool's way to a queue in the client that has started it, over pipes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.errors import BrokerRefused
from mapreduce_rq.pipes.lines import JOIN, Line, LineWire, PipeEnd, a_line, frame
from mapreduce_rq.runtime.pool.way import Birth
from mapreduce_rq.runtime.server import guardian


class ByPipes:
    """Lines to the client. If the client's end of our line is closed, the client has ended."""

    def __init__(self, end: PipeEnd) -> None:
        self._line: Line | None = Line(socket.socket(fileno=end.descriptor))

    def wire(self, queue: str) -> Wire:
        """See Way."""
        assert self._line is not None
        return LineWire(self._line)

    def birth(self) -> Birth:
        """See Way."""
        return PipeBirth(self)

    def join(self, wid: str, end: socket.socket) -> None:
        """Give the hub its end of a worker's line. If the hub is gone, the supervisor sees that on its own line."""
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
        """Remove the shelf: if the client was killed, no other process does."""
        if shelf:
            guardian.remove(shelf)


class PipeBirth:
    """A new line for a worker."""

    def __init__(self, way: ByPipes) -> None:
        self._way = way
        self._theirs, self._hubs = a_line()
        self._line: Line | None = None

    def wire(self, queue: str) -> Wire:
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
