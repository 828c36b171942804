"""Peers that need no server: the standard library's pools, joblib and dask."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing.pool import Pool
from typing import Any, Protocol

from benchmarks.machine import installed

Function = Callable[[int], Any]


class Peer(Protocol):
    """A contender with its workers running."""

    def fold(self, function: Function, n: int) -> Any:
        """The sum of function(k) for k < n, one message a k, added up here."""

    def one(self, function: Function, k: int) -> Any:
        """function(k), and nothing else to do meanwhile."""


@dataclass(frozen=True)
class Contender:
    """``open`` starts so many workers and gives the peer; leaving it ends them."""

    name: str
    open: Callable[[int], AbstractContextManager[Peer]]


class PoolPeer:
    """multiprocessing.Pool; ``chunk`` None: its own choice."""

    def __init__(self, pool: Pool, chunk: int | None) -> None:
        self._pool = pool
        self._chunk = chunk

    def fold(self, function: Function, n: int) -> Any:
        return sum(self._pool.map(function, range(n), self._chunk))

    def one(self, function: Function, k: int) -> Any:
        return self._pool.apply(function, (k,))


@contextmanager
def open_pool(workers: int, chunk: int | None = 1) -> Iterator[PoolPeer]:
    """A pool of forked processes, as mrq's workers are."""
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield PoolPeer(pool, chunk)


class ExecutorPeer:
    """concurrent.futures.ProcessPoolExecutor."""

    def __init__(self, executor: ProcessPoolExecutor, chunk: int) -> None:
        self._executor = executor
        self._chunk = chunk

    def fold(self, function: Function, n: int) -> Any:
        return sum(self._executor.map(function, range(n), chunksize=self._chunk))

    def one(self, function: Function, k: int) -> Any:
        return self._executor.submit(function, k).result()


@contextmanager
def open_executor(workers: int, chunk: int = 1) -> Iterator[ExecutorPeer]:
    """The standard library's executor of processes."""
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as executor:
        yield ExecutorPeer(executor, chunk)


class JoblibPeer:
    """joblib's Parallel on its own workers (loky)."""

    def __init__(self, parallel: Any, delayed: Any) -> None:
        self._parallel = parallel
        self._delayed = delayed

    def fold(self, function: Function, n: int) -> Any:
        return sum(self._parallel(self._delayed(function)(k) for k in range(n)))

    def one(self, function: Function, k: int) -> Any:
        return self._parallel([self._delayed(function)(k)])[0]


@contextmanager
def open_joblib(workers: int, batch: int | str = 1) -> Iterator[JoblibPeer]:
    """A batch size of 1, or joblib's own choice "auto"."""
    import joblib  # installed or not: asked before

    with joblib.Parallel(n_jobs=workers, batch_size=batch) as parallel:
        yield JoblibPeer(parallel, joblib.delayed)
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown()


class DaskPeer:
    """A dask.distributed cluster of processes on this machine."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def fold(self, function: Function, n: int) -> Any:
        return sum(self._client.gather(self._client.map(function, range(n), pure=False)))

    def one(self, function: Function, k: int) -> Any:
        return self._client.submit(function, k, pure=False).result()


@contextmanager
def open_dask(workers: int) -> Iterator[DaskPeer]:
    """One thread a process, as everybody here."""
    import logging

    from distributed import Client, LocalCluster  # installed or not: asked before

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with (
        LocalCluster(workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL) as cluster,
        Client(cluster) as client,
    ):
        yield DaskPeer(client)


def pools(*, slow: bool) -> list[Contender]:
    """The peers that are installed; ``slow``: those too that take seconds to start."""
    found = [Contender("multiprocessing.Pool", open_pool), Contender("concurrent.futures", open_executor)]
    if installed("joblib"):
        found.append(Contender("joblib", open_joblib))
    if slow and installed("distributed"):
        found.append(Contender("Dask", open_dask))
    return found
