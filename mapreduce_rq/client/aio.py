"""The client for asyncio. Its jobs run in threads of their own, which never block the loop.

    coroutine ── to a thread ──> Client ── job with its master in a thread ── call_soon_threadsafe ──> coroutine

The loop reads async iterables into a buffer, and the job's thread takes the items from there (see ``Handover``).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, overload

from mapreduce_rq.client.async_values import AsyncValues, Handover, Items, T, close_all, readable
from mapreduce_rq.client.client import CLIENT, IMAP, SUBMIT_FUNCTION, Client
from mapreduce_rq.client.found_job import FoundJob
from mapreduce_rq.client.job import Job
from mapreduce_rq.client.loop_calls import in_thread, tell
from mapreduce_rq.client.planning import FOLDING, FUNCTION
from mapreduce_rq.core.given import KINDS, check, only
from mapreduce_rq.core.job.result import Result
from mapreduce_rq.core.reducers.keyed import by_key
from mapreduce_rq.errors import UsageError

KEYED = {"zero", "law", "options", "top", "sorted", "parts"}
"""The arguments of ``reduce_by_key`` that go to ``by_key``."""
WAIT_SECONDS = 5.0
"""A thread waits for the end of a job for this number of seconds, and then is asked again."""
BUFFER = 1024
"""The loop reads this number of items of an async iterable ahead of the thread that takes them."""


class AsyncClient:
    """A ``Client`` whose methods are coroutines. Its arguments are those of ``Client``.

        async with AsyncClient(url) as mrq:
            total = await mrq.map_reduce(f, items)
            async for value in mrq.imap(f, items): ...

    Items may come from async iterables. If an asyncio task is cancelled while it waits for a job, the job is cancelled,
    too. Any number of clients and jobs may share one loop. The methods raise what those of ``Client`` raise.
    """

    def __init__(self, url: str | None = None, **how: Any) -> None:
        only("AsyncClient", how, CLIENT)
        check(url=url, **{name: how[name] for name in KINDS.keys() & how.keys()})
        self._make = partial(Client, url, **how)
        self._client: Client | None = None

    async def __aenter__(self) -> Self:
        if threading.active_count() == 1:
            self._client = self._make()  # in this thread the workers can be forked, which is quicker
        else:
            self._client = await in_thread(self._make, undo=Client.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End local workers and a private server. Jobs on a shared server are let go of."""
        if self._client is not None:
            await in_thread(self._client.close)

    @property
    def client(self) -> Client:
        """The ``Client`` that does the work. Raises UsageError outside of ``async with``."""
        if self._client is None:
            raise UsageError("this client is not open: use `async with AsyncClient(...) as mrq`")
        return self._client

    async def map_reduce(self, function: Callable[..., Any] | str, items: Items, *more: Items, **how: Any) -> Any:
        """The fold of ``function(item)`` over all items. ``how``: see ``Client.map_reduce``."""
        only("AsyncClient.map_reduce", how, SUBMIT_FUNCTION)
        job = await self.submit_function(function, items, *more, **how)
        return await job.native()

    async def reduce_by_key(
        self, pairs: Callable[..., Any] | str, items: Items, reduce: Any = "sum", **how: Any
    ) -> Any:
        """For each key the fold of its values. ``how``: see ``Client.reduce_by_key``."""
        only("AsyncClient.reduce_by_key", how, (SUBMIT_FUNCTION - FOLDING) | KEYED | {"reduce"})
        keyed = by_key(reduce, **{name: how.pop(name) for name in KEYED & how.keys()})
        return await self.map_reduce(pairs, items, reduce=keyed, **how)

    async def submit(self, computation: str, /, **how: Any) -> AsyncJob:
        """Start a job of a built-in computation. ``how``: see ``Client.submit``."""
        return AsyncJob(await in_thread(partial(self.client.submit, computation, **how), undo=_abandon))

    async def submit_function(
        self, function: Callable[..., Any] | str, items: Items, *more: Items, **how: Any
    ) -> AsyncJob:
        """Start a job of a function of yours. ``how``: see ``Client.submit_function``."""
        only("AsyncClient.submit_function", how, SUBMIT_FUNCTION)
        rows, read = readable((items, *more), BUFFER)
        try:
            start = partial(self.client.submit_function, function, *rows, **how)
            return AsyncJob(await in_thread(start, undo=_abandon), read)
        except BaseException:
            close_all(read)
            raise

    async def submit_detached(self, computation: str, /, **how: Any) -> AsyncFoundJob:
        """Queue a job for an `mrq master` to lead. ``how``: see ``Client.submit_detached``."""
        return AsyncFoundJob(await in_thread(partial(self.client.submit_detached, computation, **how)))

    async def submit_function_detached(
        self, function: Callable[..., Any] | str, items: Items, *more: Items, **how: Any
    ) -> AsyncFoundJob:
        """As ``submit_detached``, for a function of yours. ``how``: see ``Client.submit_function_detached``."""
        only("AsyncClient.submit_function_detached", how, FUNCTION)
        rows, read = readable((items, *more), BUFFER)
        try:
            start = partial(self.client.submit_function_detached, function, *rows, **how)
            return AsyncFoundJob(await in_thread(start))
        finally:
            close_all(read)

    async def job(self, job: str) -> AsyncFoundJob:
        """The job with this id. Raises NoSuchJob, BrokerError."""
        return AsyncFoundJob(await in_thread(partial(self.client.job, job)))

    async def retry(self, job: str) -> AsyncFoundJob:
        """Queue a failed or cancelled job anew: the new job. See ``Client.retry``."""
        return AsyncFoundJob(await in_thread(partial(self.client.retry, job)))

    @overload
    def imap(
        self, function: Callable[..., Coroutine[Any, Any, T]], items: Items, *more: Items, **how: Any
    ) -> AsyncValues[T]: ...
    @overload
    def imap(self, function: Callable[..., T] | str, items: Items, *more: Items, **how: Any) -> AsyncValues[T]: ...
    def imap(self, function: Callable[..., Any] | str, items: Items, *more: Items, **how: Any) -> AsyncValues[Any]:
        """The values of ``function(item)`` as an async iterator. ``how``: see ``Client.imap``."""
        only("AsyncClient.imap", how, IMAP)
        return self._imap(function, items, *more, **how)

    def _imap(self, function: Callable[..., Any] | str, items: Items, *more: Items, **how: Any) -> AsyncValues[Any]:
        rows, read = readable((items, *more), how.get("buffersize") or BUFFER)
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
        """As ``imap``, but each value comes as soon as it is there."""
        only("AsyncClient.imap_unordered", how, IMAP - {"ordered"})
        return self._imap(function, items, *more, ordered=False, **how)

    def starmap(self, function: Callable[..., T] | str, items: Items, **how: Any) -> AsyncValues[T]:
        """As ``imap``, but each item is a row of arguments: the values of ``function(*item)``."""
        only("AsyncClient.starmap", how, IMAP - {"star"})
        return self._imap(function, items, star=True, **how)


class AsyncJob:
    """A job that an asyncio task can wait for. If the waiting task is cancelled, the job is cancelled, too."""

    def __init__(self, job: Job, read: Iterable[Handover] = ()) -> None:
        self._job = job
        job.when_done(partial(close_all, read))

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
        """Wait for the end of the job. If the waiting task is cancelled, the job goes on."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        self._job.when_done(lambda: tell(loop, over))
        await over

    async def result(self) -> Result:
        """Wait for the result and return it. Raises JobFailed, JobCancelled, and errors of the master."""
        try:
            await self.wait()
        except asyncio.CancelledError:
            await _finally(self._job)
            raise
        return self._job.result(0)

    async def native(self) -> Any:
        """Wait for the result and return its Python object. Raises as ``result``."""
        result = await self.result()
        return await in_thread(lambda: result.native)

    async def cancel(self, *, now: bool = False) -> str:
        """Cancel it. The state it ended in."""
        return await in_thread(partial(self._job.cancel, now=now))


class AsyncFoundJob:
    """A job by its id, which other processes lead: a ``FoundJob`` whose methods are coroutines.

    The job goes on if the task that waits for it is cancelled. The methods raise NoSuchJob and BrokerError.
    """

    def __init__(self, job: FoundJob) -> None:
        self._job = job

    @property
    def id(self) -> str:
        """The job's id."""
        return self._job.id

    async def status(self) -> str:
        """One of running, done, failed, cancelled."""
        return await in_thread(lambda: self._job.status)

    async def progress(self) -> dict[str, Any]:
        """How far the job is: see ``Job.progress``."""
        return await in_thread(lambda: self._job.progress)

    async def done(self) -> bool:
        """Whether the job has ended, well or not."""
        return await in_thread(self._job.done)

    async def wait(self) -> None:
        """Wait for the end."""
        while not await in_thread(partial(self._job.wait, WAIT_SECONDS)):
            pass  # a thread waits for Redis; if this task is cancelled, the thread is free again after that time

    async def result(self) -> Result:
        """Wait for the result and return it. Raises JobFailed, JobCancelled."""
        await self.wait()
        return await in_thread(self._job.result)

    async def cancel(self, *, now: bool = False) -> str:
        """Cancel it. The state it ended in."""
        return await in_thread(partial(self._job.cancel, now=now))

    async def retry(self) -> AsyncFoundJob:
        """Queue a failed or cancelled job anew, from what it has counted, and return the new job. Raises UsageError."""
        return AsyncFoundJob(await in_thread(self._job.retry))


def _abandon(job: Job) -> None:
    with suppress(Exception):  # the job may have ended, or its server may be gone
        job.cancel(now=True)


async def _finally(job: Job) -> None:
    """Cancel a job, even if the asyncio task that does it is cancelled again."""
    with suppress(asyncio.CancelledError):
        await asyncio.shield(in_thread(partial(_abandon, job)))
