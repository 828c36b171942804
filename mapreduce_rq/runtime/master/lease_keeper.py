"""Keeps a master's hold on its job while the master computes: a heavy merge or the end of a job may take minutes.

This is a second thread, with a connection of its own. It acts only inside of ``with keeper``, where the master computes
and sends nothing. It changes only the token, and never another master's token: the master's own next commit finds that
out. A master that is killed, stopped or stuck anywhere else does not keep its job. A single operation on huge numbers
holds Python's lock, and then this thread has to wait for its end.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from types import TracebackType

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.errors import BrokerError
from mapreduce_rq.runtime.master.lease import Lease

TEND_SECONDS = 1.0
"""Seconds between two looks at the token. If it is still the same at the next look, it is replaced."""


class Keeper:
    """Keeps one lease. There is no thread and no connection before :meth:`start`: most jobs end before they need it.

    It is started outside of ``with``. ``lock``: held while the master's own commit is on its way; None: it makes one.
    """

    _over: threading.Event

    def __init__(self, lease: Lease, jobs: Jobs, lock: AbstractContextManager[object] | None = None) -> None:
        self._lease = lease
        self._masters = jobs
        self._lock = lock
        self._started = self._closed = self._connected = self._computing = False
        self._seen = ""

    @cached_property
    def _wire(self) -> Wire:
        return self._masters.wire.another()

    @cached_property
    def _jobs(self) -> Jobs:
        return Jobs(self._wire, self._masters.keys, self._masters.codecs)

    @property
    def computing(self) -> bool:
        """Whether the master computes now, and sends no requests."""
        return self._computing

    def start(self) -> None:
        """Begin to keep the lease. A second call does nothing, nor does one after ``close``."""
        if not self._started and not self._closed:
            self._started = True
            self._lock = self._lock or threading.Lock()
            self._over = threading.Event()
            self._begin()

    def close(self) -> None:
        """Stop keeping the lease. It does not wait for the thread."""
        self._closed = True
        if self._started:
            self._over.set()

    def __enter__(self) -> None:
        if self._lock is None:
            self._computing = True
            return
        with self._lock:
            self._computing = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._lock is None:
            self._computing = False
            return
        with self._lock:
            self._computing = False

    def tend(self) -> None:
        """Replace the token if the master computes, and the token is the same as at the last look."""
        with self._lock or nullcontext():
            token = self._lease.token
            if not self._computing or token != self._seen:
                self._seen = token
                return
            try:
                if not self._connected:
                    self._wire.connect()
                    self._connected = True
                self._lease.keep(self._jobs)
            except BrokerError:
                self._connected = False  # the master gets the error itself at its next commit
                self._wire.close()
            self._seen = self._lease.token

    def _begin(self) -> None:
        threading.Thread(target=self._run, name="mrq keeper", daemon=True).start()

    def _run(self) -> None:
        while not self._over.wait(TEND_SECONDS):
            self.tend()
        self._wire.close()
