"""The backend for joblib: all batches of one call of ``Parallel`` belong to one open job. This imports joblib."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from functools import partial
from pickle import PicklingError
from queue import SimpleQueue
from typing import Any

from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from mapreduce_rq.client.calls import Calls
from mapreduce_rq.client.client import CLIENT, Client
from mapreduce_rq.core.foreign_errors import RemoteError, told
from mapreduce_rq.core.given import only
from mapreduce_rq.core.messages import WORKER_DIED, WORKER_LOST
from mapreduce_rq.errors import BadParameter
from mapreduce_rq.functions.calls import ONE

Callback = Callable[[Future[Any]], None]

MOST_QUICK_CALLS = 1024
"""Calls in a batch, from which on batches of quick calls grow no more. joblib reads a batch for each worker at once, in
1.5 ms for 1024 calls; a larger batch leaves the workers idle for longer, and the garbage collector goes through all
calls that were read: 100 000 calls took 1.3 times as long in batches of 16 384.
"""
QUICK_SECONDS = 0.05
"""Seconds from a batch's way out to its answer, below which its calls are quick. It waits for the batch before it, so
the calls of such a batch take half of that at most.
"""
LAST_SECONDS = 1.0
"""Seconds at most to wait for a callback when all is ended: it may wait for an iterable that never gives an item."""

log = logging.getLogger(__name__)


class Callbacks:
    """Calls joblib back when a batch is answered, in a thread of its own.

    joblib reads the next items of the caller's iterable then, which takes longer than to send and to receive them, and
    has no end while the iterable waits. The master's thread must not wait for that: it sends what was read before.
    """

    def __init__(self) -> None:
        self._answered: SimpleQueue[tuple[Callback, Future[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="mrq joblib callbacks", daemon=True)
        self._thread.start()

    def add(self, callback: Callback, future: Future[Any]) -> None:
        """Have this called with the future."""
        self._answered.put((callback, future))

    def end(self) -> None:
        """Call none after those that were added."""
        self._answered.put(None)

    def wait(self, seconds: float) -> None:
        """Wait for the last one, after ``end``, but not without end: the iterable that it reads may be stuck."""
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    def _run(self) -> None:
        while (answered := self._answered.get()) is not None:
            callback, future = answered
            try:
                callback(future)
            except Exception:  # as a future does with it
                log.exception("a callback of joblib has raised an exception")
            del answered, callback, future  # the values may be large, and the next may be long in coming


class MrqBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """Workers of a queue compute the batches of calls that joblib hands out.

    ``client``: a client of yours, which you close yourself. Without it the backend makes a client with the arguments of
    :class:`Client` (such as ``url``, ``keys``, ``allow_pickle``) when it first needs one, and closes it at its own end.
    Calls travel as pickles, so on a shared server workers and client must both allow pickles. As with joblib's own
    backends, ``Parallel`` inside a call runs in threads, and inside of that one after another. ``n_jobs``: the number
    of batches that are sent and not answered; on a private server also the number of its workers.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Client | None = None,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **how: Any,
    ) -> None:
        if client is not None and (url is not None or how):
            raise BadParameter("joblib: a client was given, and arguments for another: give one of them")
        only("joblib's backend mrq", how, CLIENT | {"url", "client"})
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._client = client
        self._how = {"url": url, **how}
        self._calls: tuple[Calls, Callbacks] | None = None
        self._process = os.getpid()  # the process that made the calls: a fork makes its own
        self._lock = threading.Lock()  # held to make or remove client and calls

    def _connected(self, local: int | None = None) -> Client:
        if self._client is None:
            made = Client(**({} if local is None or self._how["url"] else {"local": local}) | self._how)
            self._client = made
            weakref.finalize(self, made.close)
        return self._client

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs == 1:
            return 1
        if n_jobs > 1:
            return n_jobs
        client = self._connected()
        workers = client.local if client.embedded else max(client.local, len(client.snapshot().workers))
        return max(1, workers + 1 + n_jobs)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **more: Any) -> int:
        self.parallel = parallel
        if n_jobs > 1:
            self._connected(n_jobs)
        found = self.effective_n_jobs(n_jobs)
        if found == 1 and n_jobs in {None, 1}:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        return found

    def compute_batch_size(self) -> int:
        """How many calls the next batch has: up to four times those of the last, where joblib by itself doubles them.

        As there, no batch should take more than twice the shortest time that joblib has in mind for one. Batches of
        quick calls stop growing earlier.
        """
        if self._effective_batch_size >= MOST_QUICK_CALLS and 0 < self._smoothed_batch_duration < QUICK_SECONDS:
            return int(self._effective_batch_size)
        if 0 < self._smoothed_batch_duration < self.MIN_IDEAL_BATCH_DURATION / 2:
            self._effective_batch_size *= 2
        size: int = super().compute_batch_size()
        return size

    def submit(self, func: Callable[[], Any], callback: Callback | None = None) -> Future[Any]:
        with self._lock:
            if self._calls is None or self._process != os.getpid():
                self._calls, self._process = (self._new_calls(), Callbacks()), os.getpid()
            calls, callbacks = self._calls
        future = calls.submit(func, ONE, (), {})
        if callback is not None:
            future.add_done_callback(partial(callbacks.add, callback))
        return future

    apply_async = submit  # as joblib before 1.5 calls it

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The values of a batch. If its workers died, it raises joblib's own error, for which programs look."""
        try:
            return out.result()
        except BrokenExecutor as error:
            cause = error.__cause__
            if isinstance(cause, RemoteError) and cause.kind in {WORKER_DIED, WORKER_LOST}:
                raise TerminatedWorkerError(str(error)) from cause
            raise

    def terminate(self) -> None:
        taken = self._taken()
        if taken is not None:
            calls, callbacks = taken
            calls.finish()
            callbacks.end()
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        taken = self._taken()
        if taken is not None:
            calls, callbacks = taken
            calls.terminate()
            callbacks.end()
            callbacks.wait(LAST_SECONDS)
        left = getattr(self.parallel, "_ready_batches", None)
        while left is not None and not left.empty():  # otherwise joblib would give the next call answers of this one
            left.get()

    def _new_calls(self) -> Calls:
        return Calls(self._connected(), unfit=_unpicklable)

    def _taken(self) -> tuple[Calls, Callbacks] | None:
        with self._lock:
            calls, self._calls = self._calls, None
        return calls if self._process == os.getpid() else None


def _unpicklable(error: BaseException) -> BaseException:
    """What joblib's own backends raise for a task that cannot be pickled; programs look for this class."""
    found = PicklingError(f"a task cannot be pickled to be sent to workers: {told(error)}")
    found.__cause__ = error
    return found
