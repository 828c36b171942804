"""What the methods of a pool return before the calls are answered: the results and iterators of ``multiprocessing``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from multiprocessing import TimeoutError as LateError
from types import GenericAlias
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

from mapreduce_rq.client.calls import broken
from mapreduce_rq.client.streams import NotYet, Values
from mapreduce_rq.core.given import check
from mapreduce_rq.errors import BadFunction, JobError, UsageError

UNSENT = "the pool was closed before this call was sent"

T = TypeVar("T")


class AsyncResult(Generic[T]):
    """The result of a pool's call, or the list of results of several calls."""

    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)

    def __init__(
        self,
        futures: list[Future[Any]],
        joined: Callable[[list[Any]], T],
        callback: Callable[[T], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        pool: object = None,
    ) -> None:
        self._pool = pool  # as in the original: a pool that is dropped lives until its results are there
        self._futures = futures
        self._joined = joined
        self._callback, self._error_callback = callback, error_callback
        self._left = len(futures)
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        for future in futures:
            future.add_done_callback(self._one_is_done)
        if not futures:
            self._done()

    def _one_is_done(self, _: Future[Any]) -> None:
        with self._lock:
            self._left -= 1
            left = self._left
        if not left:
            self._done()

    def _done(self) -> None:
        """All calls are answered: keep the value, or what the first failed call raised."""
        futures, self._futures = self._futures, []
        errors = (broken(JobError(UNSENT)) if future.cancelled() else future.exception() for future in futures)
        self._error = next((error for error in errors if error is not None), None)
        try:
            if self._error is None:
                self._value = self._joined([future.result() for future in futures])
                if self._callback is not None:
                    self._callback(self._value)
            elif self._error_callback is not None:
                self._error_callback(self._error)
        finally:
            self._callback = self._error_callback = None
            self._event.set()
            self._pool = None

    def get(self, timeout: float | None = None) -> T:
        """Wait for the value, at most ``timeout`` seconds, and return it.

        Raises multiprocessing.TimeoutError, and what the call has raised.
        """
        self.wait(timeout)
        if not self._event.is_set():
            raise LateError
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[no-any-return]  # it is the function's

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, at most ``timeout`` seconds."""
        check(timeout=timeout)
        self._event.wait(timeout)

    def ready(self) -> bool:
        """Whether the result is there."""
        return self._event.is_set()

    def successful(self) -> bool:
        """Whether the call ended without an exception. Raises ValueError while the result is not there."""
        if not self._event.is_set():
            raise ValueError(f"{self!r} not ready")
        return self._error is None


class IMapIterator(Generic[T]):
    """The iterator that ``imap`` returns."""

    def __init__(self, values: Values[T] | Refused) -> None:
        self._values = values

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """The next value. Raises multiprocessing.TimeoutError if it is not there in ``timeout`` seconds."""
        if timeout is not None:
            check(timeout=timeout)
        try:
            return self._values.next(timeout)
        except NotYet:
            raise LateError from None
        except BadFunction as refused:
            if refused.__cause__ is not None:  # the reason why an item cannot be sent
                raise refused.__cause__ from refused
            raise

    def __del__(self) -> None:
        self._values.unbound()  # as in the original, all items are computed, even if their values are not read


class Refused:
    """Stands for the values of a function that cannot be sent: each item raises the error."""

    def __init__(self, items: Iterator[Any], refused: UsageError) -> None:
        self._items = items
        self._error = refused

    def next(self, timeout: float | None) -> NoReturn:
        """Raise the error."""
        next(self._items)
        raise self._error

    def unbound(self) -> None:
        """Do nothing: there is nothing to compute."""
