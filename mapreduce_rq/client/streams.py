"""Values as they come: the iterator over an open job that ``imap`` returns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from mapreduce_rq.client.open_job import Feeder, Opener, OpenJob, OpenSource, Plan
from mapreduce_rq.core.reducers.handed import Raised, Unsent
from mapreduce_rq.errors import UsageError
from mapreduce_rq.runtime.master.observer import Observer

if TYPE_CHECKING:  # most show nothing
    from mapreduce_rq.progress.shown import Shown

BUFFER = 65_536
"""Items on their way from iterable to caller, if the caller gives no number. Of large items there are fewer."""

T = TypeVar("T")

_END = -1


class Values(Generic[T]):
    """An iterator over the values of a function, as they come. Close it if you do not read it to its end.

    What a term raises is raised where its value would stand; the next call continues with the next term.
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
        wait_workers: float | None = None,
    ) -> None:
        self._ordered = ordered
        self._size = buffersize or BUFFER
        self._came: SimpleQueue[tuple[int, list[Any], BaseException | None]] = SimpleQueue()
        self._early: dict[int, list[Any]] = {}  # by first term: values that came before their turn
        self._row: Iterator[Any] = iter(())
        self._next = 0  # the term whose turn it is
        self._put = self._taken = 0  # items that were put in, and those whose values the caller has
        self._tell: Callable[[], object] | None = None
        self._over = False
        self._shown = shown
        self._failure: BaseException | None = None  # of the iterable
        spec, _, codec = plan
        self._source = OpenSource(codec, spec.limits.chunk)
        self._job = OpenJob(
            client, plan, self._source, self._hand, self._ended, observer=shown or observer, wait_workers=wait_workers
        )
        self._feeder = Feeder(self._job, self._source, items, self._room, self._failed)

    @property
    def job(self) -> str:
        """The job's id."""
        return self._job.id

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None, unsent: Callable[[Unsent], BaseException] | None = None) -> T:
        """The next value. Raises TimeoutError if it is not there in ``timeout`` seconds.

        ``unsent``: makes the exception of a value that could not travel.
        """
        while True:
            for value in self._row:
                self._took_one()
                if isinstance(value, Raised):
                    raise unsent(value) if unsent is not None and isinstance(value, Unsent) else value.error
                return value  # type: ignore[no-any-return]  # it is the function's
            self._turn(timeout)

    def stretch(self) -> tuple[int, list[Any]] | None:
        """The next values, as many as have come together, and the term of the first; None at the end.

        What a term has raised stands among them as Raised.
        """
        while True:
            if row := list(self._row):
                self._taken += len(row)
                self._feeder.more()
                return self._next - len(row), row
            try:
                self._turn(None)
            except StopIteration:
                return None

    def _turn(self, timeout: float | None) -> None:
        """Put the next values into the row. Raises StopIteration at the end, or the error of the job or its items."""
        if self._over:
            raise StopIteration
        if self._ordered and self._next in self._early:
            lo, values = self._next, self._early.pop(self._next)
        else:
            if self._job.elsewhere:
                raise UsageError(self._job.elsewhere)
            try:
                lo, values, error = self._came.get(timeout != 0, timeout or None)
            except Empty:
                raise TimeoutError(f"no value in {timeout:g} s") from None
            except BaseException:  # Ctrl-C, while it waited
                self.close()
                raise
            if lo == _END:
                self.close()
                if error is None and self._failure is None:
                    raise StopIteration
                raise error or self._failure  # type: ignore[misc]  # one of the two
            if self._ordered and lo != self._next:
                self._early[lo] = values
                return
        self._row = iter(values)
        self._next = lo + len(values)

    def _took_one(self) -> None:
        self._taken += 1
        if self._taken % max(1, self._size // 4) == 0 or self._put - self._taken < 2:
            self._feeder.more()

    def _room(self) -> int:
        self._put = self._source.put_in
        return self._size - (self._put - self._taken)

    def tell(self, told: Callable[[], object]) -> None:
        """Have this called, in other threads, when values may have come."""
        self._tell = told
        told()

    @property
    def waiting(self) -> bool:
        """Whether something has come that was not looked at yet."""
        return not self._came.empty()

    def _hand(self, lo: int, values: list[Any]) -> None:
        self._came.put((lo, values, None))
        if self._tell is not None:
            self._tell()

    def _ended(self, error: BaseException | None) -> None:
        if self._shown is not None:
            try:
                self._shown.close(well=error is None)
            except Exception as raised:  # by the user's callable
                error = error or raised
        self._came.put((_END, [], error))
        if self._tell is not None:
            self._tell()

    def _failed(self, error: BaseException) -> None:
        """Keep the error of the iterable, or of an item that cannot travel: it is raised after the values before it."""
        self._failure = error

    @property
    def ended(self) -> bool:
        """Whether its job is over; values may be left to be taken."""
        return self._job.done()

    def wait(self) -> None:
        """Wait for the job's end."""
        self._job.wait()

    def unbound(self) -> None:
        """From now on items are read whether the caller takes their values or not."""
        self._size = sys.maxsize
        self._feeder.more()

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
        if hasattr(self, "_feeder"):  # it was made
            self.close()
