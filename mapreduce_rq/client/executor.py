"""An executor like those of ``concurrent.futures``: ``submit`` and ``map`` on workers anywhere."""

from __future__ import annotations

import itertools
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Protocol, TypeVar

from mapreduce_rq.client.arguments import counted
from mapreduce_rq.client.calls import Caller, Calls
from mapreduce_rq.core.given import COUNT, check, expect
from mapreduce_rq.functions.calls import ONE, ROWS
from mapreduce_rq.functions.shipping import First

if TYPE_CHECKING:  # most calls show nothing
    from mapreduce_rq.progress.count import Count
    from mapreduce_rq.progress.printed import Logs
    from mapreduce_rq.progress.shown import Progress

P = ParamSpec("P")
T = TypeVar("T")


class Owner(Caller, Protocol):
    """What an executor needs of the client that it belongs to."""

    def close(self) -> None:
        """End the client's local workers and its private server."""


class Executor(futures.Executor):
    """A ``concurrent.futures.Executor`` whose calls are answered by workers of a client's queue.

    All calls belong to one job. Functions and arguments travel as they do with ``ProcessPoolExecutor``, and a call's
    future raises what the call raised. A call whose worker dies is made again by another worker; a call during which
    three workers died raises BrokenProcessPool. ``initializer(*initargs)`` is called once in each process before the
    first call. After ``max_tasks_per_child`` calls a new process takes the place of the old one. ``logs``: the output
    of the calls comes here, see ``Client.map_reduce``; the number of a call is its term.
    """

    def __init__(
        self,
        client: Owner,
        *,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        logs: Logs = False,
        owned: bool = False,
    ) -> None:
        check(initializer=initializer, initargs=initargs, max_tasks_per_child=max_tasks_per_child)
        if max_tasks_per_child is not None and max_tasks_per_child <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
        first = First(os.urandom(8).hex(), partial(initializer, *initargs)) if initializer is not None else None
        self._calls = Calls(client, first=first, worn_after=max_tasks_per_child, logs=logs)
        self._client = client if owned else None
        self._lost = weakref.finalize(self, self._calls.finish)  # no more calls can come: those that were made are done
        self._lost.atexit = False

    def __reduce__(self) -> NoReturn:
        raise TypeError("an executor cannot be pickled, nor sent to a worker")

    @property
    def job(self) -> str:
        """The id of the job that all calls belong to."""
        return self._calls.job

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]:
        """A future of ``fn(*args, **kwargs)``. Raises RuntimeError after ``shutdown``, BrokenProcessPool."""
        return self._calls.submit(fn, ONE, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: Progress = None,
    ) -> Iterator[T]:
        """The values of ``fn`` over the iterables, in their order, as the built-in ``map``.

        The iterables are read at once, or, with ``buffersize``, only that number of calls ahead of the values that were
        taken. ``chunksize``: the number of calls that travel together. ``progress``: see ``Client.map_reduce``; what a
        callable raises is logged. Raises TimeoutError if a value is not there ``timeout`` seconds after this call, and
        what ``fn`` raises.
        """
        check(fn=fn, timeout=timeout, buffersize=buffersize)
        expect("chunksize", chunksize, COUNT)
        for iterable in iterables:
            check(iterable=iterable)
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else time.monotonic() + timeout
        rows = zip(*iterables, strict=False)
        seen = counted(progress, fn)
        if chunksize == 1:
            return _values(self._calls, fn, ONE, rows, size=buffersize, end=end, seen=seen)
        chunks = iter(lambda: list(itertools.islice(rows, chunksize)), [])
        size = None if buffersize is None else max(1, buffersize // chunksize)
        return _flat(_values(self._calls, fn, ROWS, chunks, size=size, end=end, seen=seen))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. ``wait`` for all calls that were made or, with ``cancel_futures``, for those sent."""
        check(wait=wait, cancel_futures=cancel_futures)
        self._calls.finish(cancel=cancel_futures)
        client, self._client = self._client, None
        if wait:
            self._calls.wait()
            if client is not None:
                client.close()
        elif client is not None:
            self._calls.when_ended(client.close)


def _values(
    calls: Calls,
    function: Callable[..., Any],
    how: int,
    rows: Iterator[Any],
    *,
    size: int | None,
    end: float | None,
    seen: Count | None,
) -> Iterator[Any]:
    """The values of calls. The first calls are made now, the others while values are taken."""

    def call(row: Any) -> futures.Future[Any]:
        future = calls.submit(function, how, row, {})
        return future if seen is None else seen.watch(future, 1 if how == ONE else len(row))

    some = rows if size is None else itertools.islice(rows, size)
    waiting = deque(map(call, some))
    if seen is not None and size is None:
        seen.all_are_made()

    def values() -> Iterator[Any]:
        try:
            while waiting:
                waiting.extend(map(call, itertools.islice(rows, 1)))
                yield _first_of(waiting, end)  # so that the value is not kept alive here
            if seen is not None:
                seen.all_are_made()
        finally:
            for future in waiting:
                future.cancel()
            if seen is not None:
                seen.close()

    return values()


def _first_of(waiting: deque[futures.Future[Any]], end: float | None) -> Any:
    value = waiting[0].result(None if end is None else end - time.monotonic())
    waiting.popleft()
    return value


def _flat(chunks: Iterator[list[Any]]) -> Iterator[Any]:
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()
