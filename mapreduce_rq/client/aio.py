"""The client for asyncio. Its jobs run in threads of their own; the loop waits for none of them.

    coroutine ── to a thread ──> Client ── job with its master in a thread ── call_soon_threadsafe ──> coroutine

Async iterables are read in the loop, into a buffer from which the job's thread takes (see ``Handover``).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from mapreduce_rq.client.client import Client
from mapreduce_rq.client.found_job import FoundJob
from mapreduce_rq.client.job import Job
from mapreduce_rq.client.streams import NotYet, Values
from mapreduce_rq.core.given import KINDS, check
from mapreduce_rq.core.job.result import Result
from mapreduce_rq.core.reducers.keyed import by_key
from mapreduce_rq.errors import UsageError

T = TypeVar("T")

Items = Iterable[Any] | AsyncIterable[Any]

KEYED = {"zero", "law", "options", "top", "sorted"}
"""What ``by_key`` takes, beside what it folds with."""
WAIT_SECONDS = 5.0
"""Seconds that a thread waits for the end of a job at a time."""
BUFFER = 1024
"""Items of an async iterable that are read ahead of the thread that takes them."""


class AsyncClient:
    """A ``Client`` whose methods are coroutines. Its arguments are those of ``Client``.

        async with AsyncClient(url) as mrq:
            total = await mrq.map_reduce(f, items)
            async for value in mrq.imap(f, items): ...

    Items may come from async iterables. If a task that waits for a job is cancelled, its job is cancelled too. Any
    number of clients and jobs may share one loop.
    """

    def __init__(self, url: str | None = None, **how: Any) -> None:
        check(url=url, **{name: how[name] for name in KINDS.keys() & how.keys()})
        self._make = partial(Client, url, **how)
        self._client: Client | None = None

    async def __aenter__(self) -> Self:
        if threading.active_count() == 1:
            self._client = self._make()  # workers can be forked, which is quicker than to start them from a thread
        else:
            self._client = await _in_thread(self._make, undo=Client.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End local workers and a private server. Jobs on a shared server are let go of."""
        if self._client is not None:
            await _in_thread(self._client.close)

    @property
    def client(self) -> Client:
        """The client behind it. Raises UsageError outside of ``async with``."""
        if self._client is None:
            raise UsageError("this client is not open: use `async with AsyncClient(...) as mrq`")
        return self._client

    async def map_reduce(self, function: Callable[..., Any] | str, items: Items, *more: Items, **how: Any) -> Any:
        """The fold of ``function(item)`` over all items. ``how``: see ``Client.map_reduce``."""
        job = await self.submit_function(function, items, *more, **how)
        return await job.native()

    async def reduce_by_key(
        self, pairs: Callable[..., Any] | str, items: Items, reduce: Any = "sum", **how: Any
    ) -> Any:
        """For each key the fold of its values. ``how``: see ``Client.reduce_by_key``."""
        keyed = by_key(reduce, **{name: how.pop(name) for name in KEYED & how.keys()})
        return await self.map_reduce(pairs, items, reduce=keyed, **how)

    async def submit(self, computation: str, /, **how: Any) -> AsyncJob:
        """Start a job of a built-in computation. ``how``: see ``Client.submit``."""
        return AsyncJob(await _in_thread(partial(self.client.submit, computation, **how), undo=_abandon))

    async def submit_function(
        self, function: Callable[..., Any] | str, items: Items, *more: Items, **how: Any
    ) -> AsyncJob:
        """Start a job of a function of yours. ``how``: see ``Client.submit_function``."""
        rows, read = _sync((items, *more), BUFFER)
        try:
            start = partial(self.client.submit_function, function, *rows, **how)
            return AsyncJob(await _in_thread(start, undo=_abandon), read)
        except BaseException:
            _close(read)
            raise

    async def submit_detached(self, computation: str, /, **how: Any) -> AsyncFoundJob:
        """Queue a job for an `mrq master` to lead. ``how``: see ``Client.submit_detached``."""
        return AsyncFoundJob(await _in_thread(partial(self.client.submit_detached, computation, **how)))

    async def submit_function_detached(
        self, function: Callable[..., Any] | str, items: Items, *more: Items, **how: Any
    ) -> AsyncFoundJob:
        """As ``submit_detached``, for a function of yours. ``how``: see ``Client.submit_function_detached``."""
        rows, read = _sync((items, *more), BUFFER)
        try:
            start = partial(self.client.submit_function_detached, function, *rows, **how)
            return AsyncFoundJob(await _in_thread(start))
        finally:
            _close(read)

    async def job(self, job: str) -> AsyncFoundJob:
        """The job with this id. Raises NoSuchJob, BrokerError."""
        return AsyncFoundJob(await _in_thread(partial(self.client.job, job)))

    async def retry(self, job: str) -> AsyncFoundJob:
        """Queue a failed or cancelled job anew: the new job. See ``Client.retry``."""
        return AsyncFoundJob(await _in_thread(partial(self.client.retry, job)))

    @overload
    def imap(
        self, function: Callable[..., Coroutine[Any, Any, T]], items: Items, *more: Items, **how: Any
    ) -> AsyncValues[T]: ...
    @overload
    def imap(self, function: Callable[..., T] | str, items: Items, *more: Items, **how: Any) -> AsyncValues[T]: ...
    def imap(self, function: Callable[..., Any] | str, items: Items, *more: Items, **how: Any) -> AsyncValues[Any]:
        """The values of ``function(item)`` as an async iterator. ``how``: see ``Client.imap``."""
        rows, read = _sync((items, *more), how.get("buffersize") or BUFFER)
        return AsyncValues(partial(self.client.imap, function, *rows, **how), read)

    @overload
    def imap_unordered(
        self, function: Callable[..., Coroutine[Any, Any, T]], items: Items, *more: Items, **how: Any
    ) -> AsyncValues[T]: ...
    @overload
    def imap_unordered(
        self, function: Callable[..., T] | str, items: Items, *more: Items, **how: Any
    ) -> AsyncValues[T]: ...
    def imap_unordered(
        self, function: Callable[..., Any] | str, items: Items, *more: Items, **how: Any
    ) -> AsyncValues[Any]:
        """As ``imap``, each value as soon as it is there."""
        return self.imap(function, items, *more, ordered=False, **how)

    def starmap(self, function: Callable[..., T] | str, items: Items, **how: Any) -> AsyncValues[T]:
        """As ``imap``, where each item is a row of arguments."""
        return self.imap(function, items, star=True, **how)


class AsyncJob:
    """A job that a loop can wait for. If the waiting task is cancelled, so is the job."""

    def __init__(self, job: Job, read: Iterable[Handover] = ()) -> None:
        self._job = job
        job.when_done(partial(_close, read))

    @property
    def id(self) -> str:
        """The job's id."""
        return self._job.id

    @property
    def status(self) -> str:
        """One of running, done, failed, cancelled."""
        return self._job.status

    @property
    def progress(self) -> dict[str, Any]:
        """How far the job is: see ``Job.progress``."""
        return self._job.progress

    def done(self) -> bool:
        """Whether the job has ended, well or not."""
        return self._job.done()

    async def wait(self) -> None:
        """Wait for the end. If the waiting task is cancelled, the job goes on."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        self._job.when_done(lambda: _tell(loop, over))
        await over

    async def result(self) -> Result:
        """The result. Raises JobFailed, JobCancelled, and errors of the master."""
        try:
            await self.wait()
        except asyncio.CancelledError:
            await _finally(self._job)
            raise
        return self._job.result(0)

    async def native(self) -> Any:
        """The Python object of the result."""
        result = await self.result()
        return await _in_thread(lambda: result.native)

    async def cancel(self, *, now: bool = False) -> str:
        """Cancel it. The state it ended in."""
        return await _in_thread(partial(self._job.cancel, now=now))


class AsyncFoundJob:
    """A job by its id, which other processes lead: a ``FoundJob`` whose methods are coroutines.

    It goes on whatever becomes of the task that waits for it. Its methods raise NoSuchJob, and BrokerError.
    """

    def __init__(self, job: FoundJob) -> None:
        self._job = job

    @property
    def id(self) -> str:
        """The job's id."""
        return self._job.id

    async def status(self) -> str:
        """One of running, done, failed, cancelled."""
        return await _in_thread(lambda: self._job.status)

    async def progress(self) -> dict[str, Any]:
        """How far the job is: see ``Job.progress``."""
        return await _in_thread(lambda: self._job.progress)

    async def done(self) -> bool:
        """Whether the job has ended, well or not."""
        return await _in_thread(self._job.done)

    async def wait(self) -> None:
        """Wait for the end."""
        while not await _in_thread(partial(self._job.wait, WAIT_SECONDS)):
            pass  # a thread waits in Redis; where this task is cancelled, it is free again after that time

    async def result(self) -> Result:
        """The result. Raises JobFailed, JobCancelled."""
        await self.wait()
        return await _in_thread(self._job.result)

    async def cancel(self, *, now: bool = False) -> str:
        """Cancel it. The state it ended in."""
        return await _in_thread(partial(self._job.cancel, now=now))

    async def retry(self) -> AsyncFoundJob:
        """Queue it anew from what it has counted, if it failed or was cancelled: the new job."""
        return AsyncFoundJob(await _in_thread(self._job.retry))


class AsyncValues(Generic[T]):
    """An async iterator over the values of a function, as they come. ``async with`` ends it if it is left early."""

    def __init__(self, start: Callable[[], Values[T]], read: Iterable[Handover]) -> None:
        self._start, self._read = start, read
        self._values: Values[T] | None = None
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._values is not None:
            with suppress(NotYet):
                return self._there(self._values)
        async with self._turn:  # of several tasks one waits, and the others behind it
            return await self._following()

    def _there(self, values: Values[T]) -> T:
        """The next value. Raises NotYet, StopAsyncIteration, and what the function has raised."""
        try:
            return values.next(0)
        except StopIteration:
            _close(self._read)
            raise StopAsyncIteration from None
        except StopAsyncIteration as error:  # the function's: it would say that there are no more values
            raise RuntimeError("the function raised StopAsyncIteration") from error

    async def _following(self) -> T:
        if self._values is None:
            if self._closed:
                raise StopAsyncIteration
            try:
                self._values = await _in_thread(self._start, undo=Values.close)
            except BaseException:
                _close(self._read)
                raise
            self._values.tell(self._told)
        while True:
            with suppress(NotYet):
                return self._there(self._values)
            self._waiter = self._loop.create_future()
            if not self._values.waiting:  # a value may have come before there was a waiter to tell
                try:
                    await self._waiter
                except asyncio.CancelledError:
                    await self.aclose()
                    raise
            self._waiter = None

    def _told(self) -> None:
        if self._waiter is not None:  # asked from another thread: at worst it is told in vain
            _tell(self._loop, self._waiter)

    async def aclose(self) -> None:
        """End the job and its tasks in hand."""
        self._closed = True
        _close(self._read)
        if self._values is not None:
            await asyncio.shield(_in_thread(self._values.close))

    def __del__(self) -> None:
        values = getattr(self, "_values", None)
        if values is not None and not values.ended:  # left early: the loop must not wait for its end
            _close(self._read)
            threading.Thread(target=values.close, daemon=True).start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()


class Handover:
    """Items of an async iterable, read in the loop, for a thread that iterates over them.

    The loop reads on as long as fewer than ``most`` of them wait. What the iterable raises is raised in the thread.
    """

    def __init__(self, items: AsyncIterable[Any], most: int) -> None:
        self._items, self._most = items, most
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._ready: deque[Any] = deque()
        self._error: BaseException | None = None
        self._over = False
        self._news = threading.Condition()
        self._task = self._loop.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for item in self._items:
                with self._news:
                    self._ready.append(item)
                    self._news.notify()
                while len(self._ready) >= self._most:
                    self._room.clear()
                    if len(self._ready) >= self._most:
                        await self._room.wait()
        except BaseException as error:
            self._error = error if isinstance(error, Exception) else None
            if not isinstance(error, Exception):
                raise
        finally:
            with self._news:
                self._over = True
                self._news.notify()
            if isinstance(self._items, AsyncIterator) and hasattr(self._items, "aclose"):
                with suppress(Exception):
                    await self._items.aclose()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._news:
            while not self._ready and not self._over:
                self._news.wait()
            if not self._ready:
                if self._error is not None:
                    raise self._error
                raise StopIteration
            item = self._ready.popleft()
        if len(self._ready) == self._most // 2 or not self._ready:
            _call(self._loop, self._room.set)
        return item

    def close(self) -> None:
        """Read no more; from any thread."""
        with self._news:
            self._over = True
            self._ready.clear()
            self._news.notify()
        _call(self._loop, self._task.cancel)


def _sync(iterables: Iterable[Items], most: int) -> tuple[list[Iterable[Any]], list[Handover]]:
    """The iterables as a thread can read them, and those of them that the loop reads."""
    rows = [Handover(each, most) if isinstance(each, AsyncIterable) else each for each in iterables]
    return rows, [each for each in rows if isinstance(each, Handover)]


def _close(read: Iterable[Handover]) -> None:
    for each in read:
        each.close()


async def _in_thread(call: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """What the call returns, made in a thread. If the waiting task is cancelled, what it made is undone."""
    made = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(made)
    except asyncio.CancelledError:
        if undo is not None:
            made.add_done_callback(partial(_undone, undo))
        raise


def _undone(undo: Callable[[Any], object], made: asyncio.Future[Any]) -> None:
    if not made.cancelled() and made.exception() is None:
        threading.Thread(target=undo, args=(made.result(),), daemon=True).start()


def _abandon(job: Job) -> None:
    with suppress(Exception):  # it is not waited for: it may have ended, or its server may be gone
        job.cancel(now=True)


async def _finally(job: Job) -> None:
    """Cancel a job, whatever becomes of the task that does it."""
    with suppress(asyncio.CancelledError):
        await asyncio.shield(_in_thread(partial(_abandon, job)))


def _tell(loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
    _call(loop, lambda: None if waiter.done() else waiter.set_result(None))


def _call(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # the loop is closed, and nothing in it waits any more
        loop.call_soon_threadsafe(call)
