"""The backend for joblib: the batches of one ``Parallel`` belong to one open job (``joblib_run.py``). This imports
joblib.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from pickle import PicklingError
from typing import Any
from weakref import WeakKeyDictionary

from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from mapreduce_rq.client.calls import Calls
from mapreduce_rq.client.client import CLIENT, Client
from mapreduce_rq.client.joblib_run import Callback, Line, Run
from mapreduce_rq.core.foreign_errors import RemoteError, told
from mapreduce_rq.core.given import only
from mapreduce_rq.core.messages import WORKER_DIED, WORKER_LOST
from mapreduce_rq.errors import BadParameter

MOST_QUICK_CALLS = 1024
"""Calls in a batch, from which on batches of quick calls grow no more. joblib reads a batch for each worker at once, in
1.5 ms for 1024 calls; a larger batch leaves the workers idle for longer, and the garbage collector goes through all
calls that were read: 100 000 calls took 1.3 times as long in batches of 16 384.
"""
QUICK_SECONDS = 0.2
"""Seconds from a batch's way out to its answer, below which its calls are quick. It waits for the batch before it, so
the calls of such a batch take half of that at most.
"""


class MrqBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """Workers of a queue compute the batches of calls that joblib hands out.

    ``client``: a client of yours, which you close yourself. Without it the backend makes a client with the arguments of
    :class:`Client` (such as ``url``, ``keys``, ``allow_pickle``) when it first needs one, and closes it at its own end.
    Calls travel as pickles, so on a shared server workers and client must both allow pickles. As with joblib's own
    backends, ``Parallel`` inside a call runs in threads, and inside of that one after another. ``n_jobs``: the number
    of batches that are sent and not answered; on a private server also the number of its workers.
    """

    MIN_IDEAL_BATCH_DURATION = 0.8
    """Seconds from a batch's way out to its answer, below which batches grow. Half of that time is work: a batch waits
    for the one before it, because two for each worker are out. joblib means 0.2 s of work, for processes on one host;
    a worker here takes about twice as long from one batch to the next as theirs, so it is twice the work, too.
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
        self._runs: WeakKeyDictionary[Any, Run] = WeakKeyDictionary()
        """By Parallel: several use one backend, in threads or as open generators."""
        self._lock = threading.RLock()  # held to make or remove client and runs

    def _connected(self, local: int | None = None) -> Client:
        with self._lock:
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
        parallel = getattr(callback, "parallel", self)
        with self._lock:
            run = self._runs.get(parallel)
            if run is None or not run.ours:
                client = self._connected()
                line = Line.of(client, lambda: Calls(client, unfit=_unpicklable))
                run = self._runs[parallel] = Run(line, parallel, self._forgets)
            return run.submit(func, callback)

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

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """In this, joblib looks for values every 10 ms. A caller who wants all of them waits for the last one here."""
        with self._lock:
            mine = [run for run in self._runs.values() if run.ours and run.wants_all]
        if mine:
            mine[-1].wait()
        yield

    def terminate(self) -> None:
        """Joblib does not say which ``Parallel`` is over: all runs end as soon as nothing of them is left."""
        with self._lock:
            runs = [run for run in self._runs.values() if run.ours]
            for run in runs:
                if not run.left:
                    self._forgets(run)
        for run in runs:
            run.leave()
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Joblib does not say here either whose call is given up; it notes it before. Other calls go on."""
        with self._lock:
            aborted = {parallel: run for parallel, run in self._runs.items() if run.ours and run.aborts}
            for parallel in aborted:
                del self._runs[parallel]
        for run in aborted.values():
            run.end()
        for parallel in aborted or [self.parallel]:
            left = getattr(parallel, "_ready_batches", None)
            while left is not None and not left.empty():  # else joblib would give the next call answers of this one
                left.get()

    def _forgets(self, run: Run) -> bool:
        """Whether the run is forgotten: nothing of it is left, and nothing more will be sent to it."""
        with self._lock:
            if not run.left:
                for parallel in [parallel for parallel, other in self._runs.items() if other is run]:
                    del self._runs[parallel]
            return not run.left


def _unpicklable(error: BaseException) -> BaseException:
    """What joblib's own backends raise for a task that cannot be pickled; programs look for this class."""
    found = PicklingError(f"a task cannot be pickled to be sent to workers: {told(error)}")
    found.__cause__ = error
    return found
