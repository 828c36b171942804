"""A pool like ``multiprocessing.Pool``: ``map``, ``apply``, ``imap`` and the others, on workers anywhere."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]  # its stub forgets it
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, TypeVar

from mapreduce_rq.client.arguments import counted, heard_by, seen_by
from mapreduce_rq.client.calls import Caller, Calls, broken
from mapreduce_rq.client.pool_results import AsyncResult, IMapIterator, Refused
from mapreduce_rq.client.streams import Values
from mapreduce_rq.core.given import COUNT, check, expect, shown
from mapreduce_rq.core.messages import Limits
from mapreduce_rq.core.reducers.handed import Unsent
from mapreduce_rq.errors import BadFunction, MrqError, UsageError, WrongType
from mapreduce_rq.functions.calls import EACH, ONE, ROWS
from mapreduce_rq.functions.shipping import First

if TYPE_CHECKING:  # most calls show nothing
    from mapreduce_rq.progress.printed import Logs
    from mapreduce_rq.progress.shown import Progress

T = TypeVar("T")

CHUNKS = 4
"""``map`` cuts its items into this number of chunks per worker, as the original does."""


class Owner(Caller, Protocol):
    """What a pool needs of the client that it belongs to."""

    @property
    def local(self) -> int:
        """The number of the client's local workers."""


class Pool:
    """A ``multiprocessing.Pool`` whose calls are answered by workers of a client's queue.

    The methods take, return and raise what those of the original do, with one difference: a call is not lost when its
    worker dies. It is made again by another worker; a call during which three workers died raises BrokenProcessPool.
    ``initializer(*initargs)`` is called once in each process before the first call. After ``maxtasksperchild`` calls or
    chunks a new process takes the place of the old one. ``logs``: the output of the calls comes here, see
    ``Client.map_reduce``; the number of a call or chunk is its term.
    """

    def __init__(
        self,
        client: Owner,
        *,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        logs: Logs = False,
    ) -> None:
        check(initializer=initializer, initargs=initargs)
        asked: object = maxtasksperchild  # of any type: the standard library raises ValueError for every wrong number
        if asked is not None and not (isinstance(asked, int) and asked > 0):
            raise ValueError(f"maxtasksperchild is {shown(maxtasksperchild)}, and must be a positive int or None")
        check(maxtasksperchild=maxtasksperchild)
        self._client = client
        self._first = First(os.urandom(8).hex(), partial(initializer, *initargs)) if initializer is not None else None
        self._worn_after = maxtasksperchild
        self._logs = logs
        self._calls = Calls(
            client,
            first=self._first,
            worn_after=maxtasksperchild,
            unsent=_encoding_error,
            logs=logs,
            outlasts=False,  # the original's workers end with the interpreter, too
        )
        self._streams: list[Values[Any]] = []
        self._state = "RUN"
        self._lost = weakref.finalize(self, self._calls.terminate)
        self._lost.atexit = False

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} state={self._state} job={self._calls.job}>"

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    # -- calls -----------------------------------------------------------------------------------------------------

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None) -> T:
        """The value of ``func(*args, **kwds)``."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[T]:
        """As ``apply``, but it returns an ``AsyncResult`` at once. A callback gets the value, or what was raised."""
        plainly = type(args) is tuple and kwds is None and callback is None and error_callback is None
        if not plainly:  # the check takes a third of the call's time
            check(args=args, kwds=kwds, callback=callback, error_callback=error_callback)
        self._check()
        future = self._calls.submit(func, ONE, tuple(args), dict(kwds or {}))
        return AsyncResult([future], lambda values: values[0], callback, error_callback, self)

    def map(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        progress: Progress = None,
    ) -> list[T]:
        """The list of ``func(item)``. ``progress``: see ``Client.map_reduce``; what a callable raises is logged."""
        return self.map_async(func, iterable, chunksize, progress=progress).get()

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        progress: Progress = None,
    ) -> list[T]:
        """The list of ``func(*item)``."""
        return self.starmap_async(func, iterable, chunksize, progress=progress).get()

    def map_async(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        progress: Progress = None,
    ) -> AsyncResult[list[T]]:
        """As ``map``, but it returns an ``AsyncResult`` at once; see ``apply_async``."""
        check(callback=callback, error_callback=error_callback)
        return AsyncResult(
            self._chunked(func, EACH, iterable, chunksize, progress), _flat, callback, error_callback, self
        )

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        progress: Progress = None,
    ) -> AsyncResult[list[T]]:
        """As ``starmap``, but it returns an ``AsyncResult`` at once; see ``apply_async``."""
        check(callback=callback, error_callback=error_callback)
        return AsyncResult(
            self._chunked(func, ROWS, iterable, chunksize, progress), _flat, callback, error_callback, self
        )

    def _chunked(
        self, function: Callable[..., Any], how: int, iterable: Iterable[Any], chunksize: int | None, progress: Progress
    ) -> list[Future[Any]]:
        check(iterable=iterable, chunksize=chunksize)
        self._check()
        if chunksize is not None and chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        items = iterable if isinstance(iterable, list) else list(iterable)
        size = chunksize or max(1, -(-len(items) // (CHUNKS * self._workers)))
        chunks = [items[at : at + size] for at in range(0, len(items), size)]
        seen = counted(progress, function, len(items))
        if seen is None:
            return [self._calls.submit(function, how, chunk, {}) for chunk in chunks]
        return [seen.watch(self._calls.submit(function, how, chunk, {}), len(chunk)) for chunk in chunks]

    @property
    def _workers(self) -> int:
        return max(1, self._client.local, self._calls.workers)

    # -- values as they come ---------------------------------------------------------------------------------------

    def imap(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1, *, progress: Progress = None
    ) -> IMapIterator[T]:
        """An iterator of ``func(item)``, in the order of the items."""
        return self._streamed(func, iterable, chunksize, progress, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1, *, progress: Progress = None
    ) -> IMapIterator[T]:
        """As ``imap``, but each value comes as soon as it is there."""
        return self._streamed(func, iterable, chunksize, progress, ordered=False)

    def _streamed(
        self,
        function: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        progress: Progress,
        *,
        ordered: bool,
    ) -> IMapIterator[Any]:
        check(iterable=iterable)
        expect("chunksize", chunksize, COUNT)
        self._check()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        items = iter(iterable)
        limit = Limits(chunk=chunksize if chunksize > 1 else None)  # 1: the client chooses
        limits, heard = heard_by(self._logs, limit)
        try:
            plan = self._client.planner.open_job(
                function, limits=limits, first=self._first, worn_after=self._worn_after
            )
        except BadFunction as refused:
            return IMapIterator(Refused(items, _unsent(function, refused)))
        seen = seen_by(progress, plan[0].label, heard)
        values: Values[Any] = Values(
            self._client,
            plan,
            items,
            ordered=ordered,
            observer=seen or heard,
            shown=seen,
            unsent=_encoding_error,
            broken=_broken,
        )
        self._streams = [stream for stream in self._streams if not stream.ended] + [values]
        return IMapIterator(values)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._state != "RUN":
            raise ValueError("Pool not running")
        self._calls.check()

    def close(self) -> None:
        """Take no more calls. Calls that were made are answered."""
        if self._state == "RUN":
            self._state = "CLOSE"
            self._calls.finish()
            for stream in self._streams:
                stream.unbound()

    def terminate(self) -> None:
        """End all calls at once. Results that are not there raise an error."""
        self._state = "TERMINATE"
        self._calls.terminate()
        for stream in self._streams:
            stream.terminate()

    def join(self) -> None:
        """Wait until all calls are answered. Raises ValueError before ``close`` or ``terminate``."""
        if self._state == "RUN":
            raise ValueError("Pool is still running")
        self._calls.wait()
        for stream in self._streams:
            stream.wait()

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.terminate()


def _unsent(function: Any, refused: BadFunction) -> UsageError:
    return refused if callable(function) else WrongType(f"func is {shown(function)}, and must be a function")


def _flat(chunks: list[list[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(chunks))


def _broken(error: BaseException) -> BaseException:
    """The exception for a job that has ended. What a callable for progress has raised stays as it is."""
    return broken(error) if isinstance(error, MrqError) else error


def _encoding_error(unsent: Unsent) -> BaseException:
    error: BaseException = MaybeEncodingError(unsent.error, _Shown(unsent.shown))
    return error


class _Shown(str):
    """The text of a value, which ``MaybeEncodingError`` shows with ``repr``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
