"""Calls of joblib's ``Parallel``: each has an open job for its batches, and a thread that calls joblib back.

Run     one call of Parallel: its batches
Line    an open job and its thread. After a run it is kept a while for the next one, for to open a job takes as
        long as some short calls, and programs call Parallel in a loop.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from mapreduce_rq.client.calls import Calls
from mapreduce_rq.client.client import Client
from mapreduce_rq.functions.calls import ONE

Callback = Callable[[Future[Any]], None]

LAST_SECONDS = 1.0
"""Seconds at most to wait for a callback when all is ended: it may wait for an iterable that never gives an item."""
MOST_WAITING = 4096
"""Calls that are answered and not handed to the caller, from which on nobody waits for the last one: to hand 100 000
values out takes 10 ms, which then pass while others are computed.
"""

KEPT_SECONDS = 1.0
"""Seconds that an open job waits for the next call of ``Parallel``, before it ends."""

log = logging.getLogger(__name__)


class Line:
    """An open job of a client, and the thread that serves one run after another with it."""

    _kept: ClassVar[WeakKeyDictionary[Client, list[Line]]] = WeakKeyDictionary()
    """By client, the lines that wait for a run."""
    _changing = threading.Lock()

    def __init__(self, client: Client, calls: Calls) -> None:
        self.calls = calls
        self._client = client
        self._process = os.getpid()
        self._runs: SimpleQueue[Run] = SimpleQueue()
        self.thread = threading.Thread(target=self._serve, name=f"mrq joblib {calls.job}", daemon=True)
        self.thread.start()

    @classmethod
    def of(cls, client: Client, new: Callable[[], Calls]) -> Line:
        """A line of this client: one that is kept, or a new one over ``new`` calls. Raises what ``new`` raises."""
        with cls._changing:
            kept = cls._kept.get(client, [])
            while kept:
                line = kept.pop()
                if line.ours and line.calls.open:
                    return line
        return cls(client, new())

    @property
    def ours(self) -> bool:
        """Whether this process made it. A fork has no threads of its parent's."""
        return self._process == os.getpid()

    def begin(self, run: Run) -> None:
        """Serve this run, to its end."""
        self._runs.put(run)

    def _serve(self) -> None:
        run: Run | None = self._runs.get()
        try:
            while run is not None:
                run.call_back()
                run = None  # what its callbacks hold must not wait with us
                run = self._next() if self.calls.open else None
        finally:
            self.calls.finish()

    def _next(self) -> Run | None:
        """Wait for the next run; None if none comes."""
        with self._changing:
            self._kept.setdefault(self._client, []).append(self)
        with suppress(Empty):
            return self._runs.get(timeout=KEPT_SECONDS)
        with self._changing:
            kept = self._kept.get(self._client, [])
            if self in kept:
                kept.remove(self)
                return None
        return self._runs.get()  # it was taken at the last moment


def _new_lock() -> None:
    """In a forked child: a thread that is not here may hold the lock."""
    Line._changing = threading.Lock()  # noqa: SLF001  ours


os.register_at_fork(after_in_child=_new_lock)


class Run:
    """The batches of one ``Parallel``, with which joblib calls back when they are answered, in a thread of its own.

    joblib reads the next items of the caller's iterable then, which takes longer than to send and to receive them, and
    has no end while the iterable waits. The master's thread must not wait for that: it sends what was read before.

    ``over`` is called in that thread after ``leave``, when no batch is left. It returns whether the run ends: it does
    not if there are more batches by now. Neither that nor ``parallel`` is kept alive by a run that waits.
    """

    def __init__(self, line: Line, parallel: Any, over: Callable[[Run], bool]) -> None:
        self._parallel = weakref.ref(parallel, lambda _: self.leave())
        self._line = line
        self._over = weakref.WeakMethod(over)
        self._caller = 0  # the thread that sent the last batch, other than ours
        self._changed = threading.Lock()  # held to change the next two
        self._left = 0  # batches whose callback has not returned
        self._waiting = 0  # calls that were answered since the caller waits
        self._leaves = False
        self._worth_a_look = threading.Event()
        self._answered: SimpleQueue[tuple[Callback | None, Future[Any]] | None] = SimpleQueue()
        line.begin(self)

    @property
    def ours(self) -> bool:
        """Whether this process made it. A fork makes its own runs."""
        return self._line.ours

    @property
    def left(self) -> int:
        """The number of batches whose callback has not returned."""
        return self._left

    @property
    def aborts(self) -> bool:
        """Whether joblib gives its call up: a batch or the iterable has raised, or the caller was interrupted."""
        return bool(getattr(self._parallel(), "_aborting", True))

    @property
    def wants_all(self) -> bool:
        """Whether this thread has called ``Parallel`` for a list of all values, with no limit of time."""
        parallel = self._parallel()
        if self._caller != threading.get_ident() or getattr(parallel, "return_generator", True):
            return False
        return getattr(parallel, "timeout", 0) is None

    def submit(self, func: Callable[[], Any], callback: Callback | None) -> Future[Any]:
        """Send one more batch. Raises as ``Calls.submit``."""
        if threading.current_thread() is not self._line.thread:
            self._caller = threading.get_ident()
        with self._changed:
            self._left += 1
        try:
            future = self._line.calls.submit(func, ONE, (), {})
        except BaseException:
            with self._changed:
                self._left -= 1
            raise
        future.add_done_callback(lambda done: self._answered.put((callback, done)))
        return future

    def wait(self) -> None:
        """Wait until all is answered, or joblib gives up; not so long if many values wait for their caller."""
        with self._changed:
            self._waiting = 0
            if self._is_worth_a_look():
                return
            self._worth_a_look.clear()
        self._worth_a_look.wait()

    def leave(self) -> None:
        """End once all is answered: joblib has no more batches, although the last callback may not have returned."""
        self._leaves = True
        self._answered.put(None)

    def end(self) -> None:
        """End now, with the tasks in hand; callbacks of batches that are not answered see them fail."""
        self._line.calls.terminate()
        self.leave()
        if threading.current_thread() is not self._line.thread:
            self._line.thread.join(LAST_SECONDS)

    def _ends(self) -> bool:
        over = self._over()
        return over is None or over(self)

    def _is_worth_a_look(self) -> bool:
        return not self._left or self._waiting > MOST_WAITING or self.aborts

    def call_back(self) -> None:
        """Call joblib back for each batch that is answered, until the run is over; in the line's thread."""
        while not (self._leaves and not self._left and self._ends()):
            answered = self._answered.get()
            if answered is None:
                continue
            callback, future = answered
            try:
                if callback is not None:
                    callback(future)
            except Exception:  # as a future does with it
                log.exception("a callback of joblib has raised an exception")
            with self._changed:
                self._left -= 1
                self._waiting += getattr(callback, "batch_size", 1)
                if self._is_worth_a_look():
                    self._worth_a_look.set()
            del answered, callback, future  # the values may be large, and the next may be long in coming
