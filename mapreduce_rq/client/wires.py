"""The connections of one client: its own, which one thread uses at a time, and others that its jobs borrow."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BrokerError, UsageError

IDLE_WIRES = 8
"""At most this number of idle wires is kept for the next jobs."""


CLOSED = "this client is closed: make a new one"


class Wires:
    """The wires of one client. ``make`` returns a wire that is not connected yet. ``own``: the verbs over the client's
    own wire.
    """

    def __init__(self, keys: Keys, codecs: Codecs, make: Callable[[], Wire]) -> None:
        self._keys = keys
        self._codecs = codecs
        self.new = make
        self.own = self.verbs_over(make())
        self.lock = threading.Lock()  # the thread that uses our own wire holds it
        self._idle: list[Wire] = []  # connected wires that ended jobs have left
        self.inherited = False  # whether our own wire came from a parent by fork
        self.closed = False

    def verbs_over(self, wire: Wire) -> Jobs:
        """The verbs on the queue's jobs over this wire."""
        return Jobs(wire, self._keys, self._codecs)

    def borrow(self) -> Wire:
        """A connected wire: one that an ended job has left, or else a new one. Raises BrokerError, UsageError."""
        if self._idle:
            return self._idle.pop()
        wire = self.new()
        try:
            wire.connect()
        except BrokerError:
            if self.closed:
                raise UsageError(CLOSED) from None
            raise
        return wire

    def give_back(self, wire: Wire, *, sound: bool) -> None:
        """Keep a wire for the next job, if its last job ended well and not enough wires are kept already."""
        if sound and len(self._idle) < IDLE_WIRES and not self.closed:
            self._idle.append(wire)
        else:
            wire.close()

    @contextlib.contextmanager
    def using(self) -> Iterator[Jobs]:
        """Verbs over a borrowed wire for the duration of the block. Raises BrokerError."""
        wire = self.borrow()
        sound = False
        try:
            yield self.verbs_over(wire)
            sound = True
        finally:
            self.give_back(wire, sound=sound)

    def verbs(self) -> contextlib.AbstractContextManager[Jobs]:
        """Our own verbs; or, while another thread or our caller uses them, verbs over a second wire.

        To enter it raises UsageError once the client is closed, and BrokerError.
        """
        return _Verbs(self)

    def refuse(self) -> None:
        """Close every wire that is given back from now on, because the client is being closed."""
        self.closed = True

    def close_own(self, deadline: float, before: Callable[[], None] | None) -> None:
        """Wait until no thread uses our own wire, at most until this moment of ``time.monotonic``; then call ``before``
        and close the wire.
        """
        if self.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            try:
                if before is not None:
                    before()
                self.own.wire.close()
            finally:
                self.lock.release()

    def close_idle(self) -> None:
        """Close the wires that no job uses."""
        while self._idle:
            self._idle.pop().close()

    def begin_anew(self) -> None:
        """In a forked child: all connections belong to the parent. New ones are made when they are needed."""
        self.lock, self._idle, self.inherited = threading.Lock(), [], True


class _Verbs:
    """See ``Wires.verbs``. It is no generator: a lone task is too short for one."""

    __slots__ = ("_borrowed", "_wires")

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._borrowed: contextlib.AbstractContextManager[Jobs] | None = None

    def __enter__(self) -> Jobs:
        wires = self._wires
        if wires.closed:
            raise UsageError(CLOSED)
        if not wires.lock.acquire(blocking=False):
            self._borrowed = wires.using()
            return self._borrowed.__enter__()
        if wires.inherited:
            try:
                wires.own.wire.connect()
            except BaseException:
                wires.lock.release()
                raise
            wires.inherited = False
        return wires.own

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._borrowed is not None:
            self._borrowed.__exit__(kind, error, at)
            return
        if self._wires.closed:
            self._wires.own.wire.close()
        self._wires.lock.release()
