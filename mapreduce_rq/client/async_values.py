"""Values and items that come one by one in a loop of asyncio: an async iterator over values, and the items of an async
iterable for a thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from mapreduce_rq.client.loop_calls import call_soon, in_thread, tell
from mapreduce_rq.client.streams import NotYet, Values, while_alive

T = TypeVar("T")

Items = Iterable[Any] | AsyncIterable[Any]


class AsyncValues(Generic[T]):
    """An async iterator over the values of a function, as they come. If you leave it early, ``async with`` ends its
    job.
    """

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
        async with self._turn:  # one task waits for values; others queue for the lock
            return await self._following()

    def _there(self, values: Values[T]) -> T:
        """The next value if it is there. Raises NotYet, StopAsyncIteration, and what the function has raised."""
        try:
            return values.next(0)
        except StopIteration:
            close_all(self._read)
            raise StopAsyncIteration from None
        except StopAsyncIteration as error:  # from the function: as it is, it would end the iteration
            raise RuntimeError("the function raised StopAsyncIteration") from error

    async def _following(self) -> T:
        if self._values is None:
            if self._closed:
                raise StopAsyncIteration
            try:
                self._values = await in_thread(self._start, undo=Values.close)
            except BaseException:
                close_all(self._read)
                raise
            self._values.tell(while_alive(self._told, None))
        while True:
            with suppress(NotYet):
                return self._there(self._values)
            self._waiter = self._loop.create_future()
            if not self._values.waiting:  # a value may have come before the waiter was set
                try:
                    await self._waiter
                except asyncio.CancelledError:
                    await self.aclose()
                    raise
            self._waiter = None

    def _told(self) -> None:
        if self._waiter is not None:  # read in another thread: at worst the call is superfluous
            tell(self._loop, self._waiter)

    async def aclose(self) -> None:
        """End the job and the tasks that workers have in hand."""
        self._closed = True
        close_all(self._read)
        if self._values is not None:
            await asyncio.shield(in_thread(self._values.close))

    def __del__(self) -> None:
        values = getattr(self, "_values", None)
        if values is not None and not values.ended:  # the iteration was left early: the loop must not wait for the end
            close_all(self._read)
            threading.Thread(target=values.close, daemon=True).start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()


class Handover:
    """The items of an async iterable: the loop reads them, and a thread iterates over them.

    The loop reads on while fewer than ``most`` items wait. What the iterable raises is raised in the thread.
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
            call_soon(self._loop, self._room.set)
        return item

    def close(self) -> None:
        """Read no more; from any thread."""
        with self._news:
            self._over = True
            self._ready.clear()
            self._news.notify()
        call_soon(self._loop, self._task.cancel)


def readable(iterables: Iterable[Items], most: int) -> tuple[list[Iterable[Any]], list[Handover]]:
    """The iterables in a form that a thread can read, and among them the handovers that the loop fills."""
    rows = [Handover(each, most) if isinstance(each, AsyncIterable) else each for each in iterables]
    return rows, [each for each in rows if isinstance(each, Handover)]


def close_all(read: Iterable[Handover]) -> None:
    """Stop reading all of them."""
    for each in read:
        each.close()
