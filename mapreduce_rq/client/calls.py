"""Calls of any functions, each with a future, in one open job: what executor, pool and joblib have in common.

    submit ── (future, call) ──> CallSource ── take: encoded, given a term ──> master ── tasks ──> workers
    future <── set ── hand <── tally (each term once) <── replies

A call waits as it is until the master takes it; till then its future can be cancelled. It is encoded when it is taken,
many at a time, by the master's thread: what cannot travel fails its own future alone.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pickle import PicklingError
from typing import TYPE_CHECKING, Any, Protocol

from mapreduce_rq.client.arguments import heard_by
from mapreduce_rq.client.open_job import Opener, OpenJob, its_error
from mapreduce_rq.client.planning import Planner
from mapreduce_rq.core.bodies import Aside, ValueCodec, join
from mapreduce_rq.core.given import check
from mapreduce_rq.core.plain_values import Unfit
from mapreduce_rq.core.reducers.handed import Raised, Unanswered, Unsent
from mapreduce_rq.errors import BadFunction, WrongType
from mapreduce_rq.functions.calls import CALL, Call, References
from mapreduce_rq.functions.items import TAKE_BYTES
from mapreduce_rq.functions.shipping import First, need_pickles
from mapreduce_rq.functions.trust import Trust

if TYPE_CHECKING:  # most calls show nothing
    from mapreduce_rq.progress.printed import Logs

BLOCK = 64
"""Calls that are encoded together: what they have in common is written once."""

CLOSED = "cannot schedule new futures after shutdown: the client is closed"
SHUT = "cannot schedule new futures after shutdown"
AFTER_EXIT = "cannot schedule new futures after interpreter shutdown"


class Caller(Opener, Protocol):
    """What calls need of their client."""

    trust: Trust

    @property
    def planner(self) -> Planner:
        """What makes the plan of an open job."""


class CallSource:
    """Calls between who makes them and the master that sends them. Any thread may put in; one master takes."""

    def __init__(self, codec: ValueCodec, aside: Aside | None) -> None:
        self._codec = codec
        self._aside = aside
        self._waiting: deque[tuple[Future[Any], Call]] = deque()
        self._term = 0  # of the next call that is taken
        self._over = False
        self.sent: dict[int, Future[Any]] = {}
        """By term, the futures of calls that were taken and are not answered."""
        self.ring: Callable[[], None] = lambda: None

    def put(self, future: Future[Any], call: Call) -> None:
        """One more call."""
        self._waiting.append((future, call))
        self.ring()

    def ready(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def news(self) -> bool:
        """Whether there is something to take: calls, or the end."""
        return bool(self._waiting) or self._over

    def end(self) -> None:
        """No more will come."""
        self._over = True
        self.ring()

    def drain(self) -> list[Future[Any]]:
        """Take away those that wait."""
        drained = []
        with suppress(IndexError):
            while True:
                drained.append(self._waiting.popleft()[0])
        return drained

    def disown(self, why: str) -> None:
        """In a forked child: no call that was made before will have an answer here."""
        self.ring = lambda: None
        for future in [*self.drain(), *self.sent.values()]:
            future._condition = threading.Condition()  # noqa: SLF001  held by a thread that is not here
            fail(future, RuntimeError(why))
        self.sent.clear()

    def __call__(self, count: int) -> tuple[bytes, int, bool]:
        """As a ledger's source; no call where there is none yet."""
        bodies: list[bytes] = []
        got = size = 0
        block = 1
        while self._waiting and got < count and size < TAKE_BYTES:
            taken = self._take(min(block, count - got))
            body = self._encoded(taken)
            if taken:
                for future, _ in taken:
                    self.sent[self._term] = future
                    self._term += 1
                bodies.append(body)
                got += len(taken)
                size += len(body)
            block = min(2 * block, BLOCK)
        body = join(bodies) if bodies else b""
        if self._aside is not None and body:
            body = self._aside.put(body) or body
        return body, got, self._over and not self._waiting

    def _take(self, count: int) -> list[tuple[Future[Any], Call]]:
        taken: list[tuple[Future[Any], Call]] = []
        with suppress(IndexError):
            while len(taken) < count:
                entry = self._waiting.popleft()
                if entry[0].set_running_or_notify_cancel():
                    taken.append(entry)
        return taken

    def _encoded(self, taken: list[tuple[Future[Any], Call]]) -> bytes:
        """The body of these calls, less those that cannot travel: they are taken out, and fail."""
        while taken:
            try:
                return self._codec.encode([call for _, call in taken])
            except Unfit as unfit:
                future, _ = taken.pop(unfit.index)
                fail(future, unfit.__cause__ or PicklingError(f"an argument cannot travel: {unfit}"))
        return b""


class Calls:
    """Calls over one open job. ``first``: is called once in each process before any of them. ``logs``: what is given
    all that they print.
    """

    def __init__(
        self,
        client: Caller,
        *,
        first: First | None = None,
        worn_after: int | None = None,
        unsent: Callable[[Unsent], BaseException] = its_error,
        logs: Logs = False,
    ) -> None:
        limits, heard = heard_by(logs, None)
        plan = client.planner.open_job(CALL, limits=limits, first=first, worn_after=worn_after)
        self._trust = client.trust
        self._unsent = unsent  # the exception of a value that cannot travel
        self._references = References()
        self._latest: tuple[Any, Any] = (None, None)  # a function and what stands for it
        self._lock = threading.Lock()
        self._refusal = ""  # why no more are taken
        self._error: BaseException | None = None  # that the job came to
        self._then: Callable[[], None] | None = None
        self.ended = threading.Event()
        _, computation, codec = plan
        self._source = CallSource(codec, computation.aside)
        self._job = OpenJob(client, plan, self._source, self._hand, self._ended, observer=heard)
        _watch_exit()
        _live.add(self)

    @property
    def job(self) -> str:
        """The job's id."""
        return self._job.id

    @property
    def workers(self) -> int:
        """How many there are, as far as is known."""
        return self._job.report.workers

    def submit(
        self, function: Callable[..., Any], how: int, arguments: Sequence[Any], named: Mapping[str, Any]
    ) -> Future[Any]:
        """One more call (see functions/calls.py for ``how``). Raises RuntimeError where none are taken any more."""
        future: Future[Any] = Future()
        latest, sent = self._latest
        if function is not latest:
            try:
                check(func=function)
                sent = self._references.of(function)
                if sent is None:
                    need_pickles(getattr(function, "__qualname__", type(function).__name__), self._trust)
                    sent = function
                else:
                    self._latest = function, sent
            except (BadFunction, WrongType) as error:
                self.check()
                future.set_running_or_notify_cancel()
                future.set_exception(error)
                return future
        with self._lock:
            self.check()
            self._source.put(future, (sent, how, arguments, named))
        return future

    def check(self) -> None:
        """Raises BrokenProcessPool or RuntimeError where no more calls are taken."""
        if self._error is not None:
            raise broken(self._error)
        if self._refusal or self._job.elsewhere or _exiting:
            raise RuntimeError(self._refusal or self._job.elsewhere or AFTER_EXIT)

    def finish(self, why: str = SHUT, *, cancel: bool = False) -> None:
        """Take no more calls; ``cancel``: nor send those that wait. What is sent comes to its end."""
        with self._lock:
            self._refusal = self._refusal or why
            drained = self._source.drain() if cancel else []
        for future in drained:  # without the lock: what is called then may submit, or wait for a thread that does
            future.cancel()
            future.set_running_or_notify_cancel()
        self._latest = None, None
        self._source.end()

    def wait(self) -> None:
        """Wait until all calls are answered, after ``finish``."""
        if not self._job.elsewhere:
            self.ended.wait()

    def terminate(self) -> None:
        """End it at once, with what is in hand: futures that are not done are cancelled, or broken."""
        self.finish(cancel=True)
        self._job.cancel()

    def _hand(self, lo: int, values: list[Any]) -> None:
        sent = self._source.sent
        for term, value in enumerate(values, lo):
            future = sent.pop(term)
            if isinstance(value, Raised):
                fail(future, self._error_in(value))
            else:
                with suppress(InvalidStateError):  # another thread has set it
                    future.set_result(value)

    def _error_in(self, raised: Raised) -> BaseException:
        if isinstance(raised, Unsent):
            return self._unsent(raised)
        return broken(raised.error) if isinstance(raised, Unanswered) else raised.error

    def _ended(self, error: BaseException | None) -> None:
        with self._lock:
            self._error = error
            self._refusal = self._refusal or CLOSED
            left = [*self._source.sent.values(), *self._source.drain()]
            self._source.sent.clear()
        for future in left:
            fail(future, broken(error) if error is not None else RuntimeError(SHUT))
        self.ended.set()
        if self._then is not None:
            threading.Thread(target=self._then, name=f"mrq after {self._job.id}", daemon=True).start()

    def when_ended(self, then: Callable[[], None]) -> None:
        """Have this called, in a thread of its own, when all calls are answered."""
        self._then = then
        if self.ended.is_set():
            then()


def fail(future: Future[Any], error: BaseException) -> None:
    """Set an exception, whatever was set before."""
    with suppress(InvalidStateError):
        if not future.done():
            future.set_exception(error)


def broken(error: BaseException) -> BaseException:
    """What a call without an answer raises, as a pool of processes does."""
    from concurrent.futures.process import BrokenProcessPool  # 10 ms, and only where something has broken

    found = BrokenProcessPool(str(error))
    found.__cause__ = error
    return found


_live: weakref.WeakSet[Calls] = weakref.WeakSet()
_exiting = False
_watched = False


def _watch_exit() -> None:
    """Have calls answered before the interpreter ends. From the first client on: its own end comes after ours."""
    global _watched  # noqa: PLW0603  once
    if not _watched:
        _watched = True
        atexit.register(_at_exit)


def _at_exit() -> None:
    global _exiting  # noqa: PLW0603  once
    _exiting = True
    for calls in list(_live):
        calls.finish(AFTER_EXIT)
    for calls in list(_live):
        calls.wait()
