"""The iterator over an open job that ``imap`` returns."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from mapreduce_rq.client.feeder import Feeder
from mapreduce_rq.client.open_job import Opener, OpenJob, Plan, its_error
from mapreduce_rq.client.open_source import OpenSource
from mapreduce_rq.core.given import check
from mapreduce_rq.core.reducers.handed import Raised, Unsent
from mapreduce_rq.errors import UsageError
from mapreduce_rq.runtime.master.observer import Observer

if TYPE_CHECKING:  # most calls show nothing
    from mapreduce_rq.progress.shown import Shown

BUFFER = 65_536
"""The number of items between iterable and caller, unless the caller gives one. If items are large, it is smaller."""

PIECES = 16
"""A full buffer is cut into this number of pieces. After each piece there is room for new items."""

T = TypeVar("T")
R = TypeVar("R")

_END = -1


class NotYet(TimeoutError):
    """No value has come in time. A function that raises TimeoutError raises the plain class."""


class Values(Generic[T]):
    """An iterator over the values of a function, as they come. Close it if you do not read it to its end.

    Several threads may share one iterator: each value goes to one of them. If a term raises, the iterator raises that
    exception in the place of the value, and the next call continues with the next term.
    """

    def __init__(
        self,
        client: Opener,
        plan: Plan,
        items: Iterator[Any],
        *,
        ordered: bool,
        buffersize: int | None = None,
        observer: Observer | None = None,
        shown: Shown | None = None,
        unsent: Callable[[Unsent], BaseException] = its_error,
        broken: Callable[[BaseException], BaseException] = lambda error: error,
        wait_workers: float | None = None,
    ) -> None:
        self._ordered = ordered
        self._size = buffersize or BUFFER
        self._came: SimpleQueue[tuple[int, list[Any], BaseException | None]] = SimpleQueue()
        self._early: dict[int, list[Any]] = {}  # by first term: values that came before their turn
        self._turning = threading.Lock()  # held to change the fields below
        self._row: Iterator[Any] = iter(())  # threads take values from it without the lock
        self._in_row = 0  # its length at its begin, until its values count as taken
        self._pieces: deque[list[Any]] = deque()  # the rows after it
        self._next = 0  # the first term after them
        self._taken = 0  # values of complete rows that the caller has
        self._tell: Callable[[], object] | None = None
        self._over = False
        self._shown = shown
        self._unsent = unsent  # the exception of a value that cannot travel
        self._broken = broken  # the exception of a job that failed
        self._failure: BaseException | None = None  # the error of the iterable
        spec, _, codec = plan
        failed = while_alive(self._failed, None)
        self._source = OpenSource(codec, spec.limits.chunk, failed)
        self._source.disowned = while_alive(self._disowned, None)
        hand, ended = while_alive(self._hand, None), while_alive(self._ended, None)
        self._job = OpenJob(
            client, plan, self._source, hand, ended, observer=shown or observer, wait_workers=wait_workers
        )
        try:
            self._feeder = Feeder(self._job, self._source, items, while_alive(self._room, 0), failed)
        except BaseException:  # Ctrl-C while its thread begins; workers may have items in hand already
            self._job.cancel()
            raise

    @property
    def job(self) -> str:
        """The job's id."""
        return self._job.id

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """The next value. Raises TimeoutError if it is not there in ``timeout`` seconds."""
        if timeout is not None and timeout != 0:
            check(timeout=timeout)
            timeout = float(timeout)
        end = time.monotonic() + timeout if timeout else None
        while True:
            row = self._row
            for value in row:
                if isinstance(value, Raised):
                    raise self._unsent(value) if isinstance(value, Unsent) else raised(value.error)
                return value  # type: ignore[no-any-return]  # it is the function's
            self._turn(row, timeout if end is None else max(0.0, end - time.monotonic()))

    def stretch(self) -> tuple[int, list[Any]] | None:
        """The term of the next value, and the next values that have come together; None at the end.

        The exception of a term stands among them as a ``Raised``. Only one thread may call this.
        """
        while True:
            row = self._row
            if found := list(row):
                while self._pieces:
                    found += self._pieces.popleft()
                    self._in_row = len(found)
                return self._next - len(found), found
            try:
                self._turn(row, None)
            except StopIteration:
                return None

    def _turn(self, row: Iterator[Any], timeout: float | None) -> None:
        """Begin the row after this one. Raises StopIteration at the end, or the error of the job or its items."""
        if self._closed():
            raise StopIteration
        if self._job.elsewhere:
            raise UsageError(self._job.elsewhere)
        if not self._turning.acquire(timeout != 0, timeout or -1):
            raise NotYet("another thread waits for the next value")
        try:
            if self._closed():
                raise StopIteration
            if self._row is row:  # otherwise another thread has begun it
                self._taken, self._in_row = self._taken + self._in_row, 0
                if self._pieces or self._await(timeout):
                    piece = self._pieces.popleft()
                    if len(piece) > 1:
                        self._in_row = len(piece)
                    else:
                        self._taken += 1  # it is taken at once
                    self._row = iter(piece)
                self._feeder.more()
        finally:
            self._turning.release()

    def _await(self, timeout: float | None) -> bool:
        """Wait for values, and return whether the next ones in order have come. Raises as ``_turn``."""
        if self._ordered and self._next in self._early:
            lo, values = self._next, self._early.pop(self._next)
        else:
            try:
                lo, values, error = self._came.get(timeout != 0, timeout or None)
            except Empty:
                raise NotYet("no value has come in time") from None
            except BaseException:  # Ctrl-C came while it waited
                self.close()
                raise
            if lo == _END:
                closed = self._closed()
                self.close()
                if closed or (error is None and self._failure is None):
                    raise StopIteration
                raise self._broken(error) if error is not None else self._failure  # type: ignore[misc]  # one of them
            if self._ordered and lo != self._next:
                self._early[lo] = values
                return False
        size = max(1, self._size // PIECES)
        self._pieces.extend([values] if len(values) <= size else cut(values, size))
        self._next = lo + len(values)
        return bool(values)

    def _closed(self) -> bool:
        return self._over

    def _room(self) -> int:
        return self._size - (self._source.put_in - self._taken)

    def _disowned(self) -> None:
        """In a forked child: the values go to the parent's callers, and threads that held the lock are gone."""
        self._row = iter(())
        self._pieces.clear()
        self._turning = threading.Lock()

    def tell(self, told: Callable[[], object]) -> None:
        """Have ``told`` called, in other threads, when values may have come."""
        self._tell = told
        told()

    @property
    def waiting(self) -> bool:
        """Whether values have come that were not looked at yet."""
        return not self._came.empty()

    def _hand(self, lo: int, values: list[Any]) -> None:
        self._came.put((lo, values, None))
        if self._tell is not None:
            self._tell()

    def _ended(self, error: BaseException | None) -> None:
        if self._shown is not None:
            try:
                self._shown.close(well=error is None)
            except Exception as raised:  # raised by the user's callable
                error = error or raised
        self._came.put((_END, [], error))
        if self._tell is not None:
            self._tell()

    def _failed(self, error: BaseException) -> None:
        """Keep the error of the iterable, or of an item that cannot be sent, to raise it after the earlier values."""
        self._failure = error

    @property
    def ended(self) -> bool:
        """Whether its job is over. There may still be values to take."""
        return self._job.done()

    def wait(self) -> None:
        """Wait for the job's end. In a forked child, which does not lead the job, return at once."""
        if not self._job.elsewhere:
            self._job.wait()

    def unbound(self) -> None:
        """Read items from now on without a limit, even if the caller does not take their values."""
        if not self._job.elsewhere:
            self._size = sys.maxsize
            self._feeder.more()

    def terminate(self) -> None:
        """End the job and its tasks in hand. Values that have come can still be taken; then an error is raised."""
        if not self._job.elsewhere:
            self._feeder.stop()
            self._job.cancel()

    def close(self) -> None:
        """End the job and its tasks in hand. A second call does nothing."""
        self._over = True
        if self._job.elsewhere:
            return
        self._feeder.stop()
        if not self._job.done():
            self._job.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_feeder"):  # the constructor came to its end
            self.close()


def while_alive(method: Callable[..., R], after: R) -> Callable[..., R]:
    """The bound method, without keeping its object alive; once the object is gone, calls return ``after``.

    The threads of a job must not keep the iterator: if a caller drops it, as ``break`` in a loop does, the job ends.
    """
    weak = weakref.WeakMethod(method)

    def call(*args: Any) -> R:
        found = weak()
        return after if found is None else found(*args)

    return call


def raised(error: BaseException) -> BaseException:
    """The exception that an iterator raises for a term's exception. StopIteration is wrapped: it would end a loop."""
    if not isinstance(error, StopIteration):
        return error
    found = RuntimeError("the function raised StopIteration")
    found.__cause__ = error
    return found


def cut(values: list[Any], size: int) -> Iterator[list[Any]]:
    """The values in lists of length ``size``; the last may be shorter."""
    return (values[at : at + size] for at in range(0, len(values), size))
