"""The connections of one client: its own, which one thread uses at a time, and those that its jobs borrow."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BrokerError, UsageError

IDLE_WIRES = 8
"""Wires at most that are kept for the next jobs."""


class Wires:
    """``make`` gives a wire that is not connected yet. ``own``: the verbs over the client's own wire."""

    def __init__(self, keys: Keys, codecs: Codecs, make: Callable[[], Wire]) -> None:
        self._keys = keys
        self._codecs = codecs
        self.new = make
        self.own = self.verbs_over(make())
        self._lock = threading.Lock()  # held by the thread that uses our own wire
        self._idle: list[Wire] = []  # connected, left by jobs that have ended
        self._inherited = False  # our own wire was a parent's
        self._closed = False

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
            if self._closed:
                raise UsageError("this client is closed") from None
            raise
        return wire

    def give_back(self, wire: Wire, *, sound: bool) -> None:
        """Keep a wire for the next job, if its last job ended well and not enough wires are kept already."""
        if sound and len(self._idle) < IDLE_WIRES and not self._closed:
            self._idle.append(wire)
        else:
            wire.close()

    @contextlib.contextmanager
    def using(self) -> Iterator[Jobs]:
        """Verbs over a borrowed wire, as long as the block lasts. Raises BrokerError."""
        wire = self.borrow()
        sound = False
        try:
            yield self.verbs_over(wire)
            sound = True
        finally:
            self.give_back(wire, sound=sound)

    @contextlib.contextmanager
    def verbs(self) -> Iterator[Jobs]:
        """Our own verbs. While another thread or our caller uses them: verbs over a second wire. Raises UsageError once
        the client is closed.
        """
        self._check()
        if self._lock.acquire(blocking=False):
            try:
                if self._inherited:
                    self.own.wire.connect()
                    self._inherited = False
                yield self.own
            finally:
                if self._closed:
                    self.own.wire.close()
                self._lock.release()
            return
        with self.using() as verbs:
            yield verbs

    def _check(self) -> None:
        if self._closed:
            raise UsageError("this client is closed")

    def refuse(self) -> None:
        """The client is being closed: a wire that is given back is closed from now on."""
        self._closed = True

    def close_own(self, deadline: float, before: Callable[[], None] | None) -> None:
        """Close our own wire once no thread uses it, if that is before this moment of ``time.monotonic``. ``before`` is
        called first.
        """
        if self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            try:
                if before is not None:
                    before()
                self.own.wire.close()
            finally:
                self._lock.release()

    def close_idle(self) -> None:
        """Close the wires that no job has."""
        while self._idle:
            self._idle.pop().close()

    def begin_anew(self) -> None:
        """In a forked child: all connections belong to the parent. New ones are made when they are needed."""
        self._lock, self._idle, self._inherited = threading.Lock(), [], True
