"""Calls of any functions, each with a future, in one open job. Executor, pool and joblib are built on this.

    submit ── (future, call) ──> CallSource ── take: encoded, given a term ──> master ── tasks ──> workers
    future <── set ── hand <── tally (each term once) <── replies

A call waits until the master takes it, and until then its future can be cancelled. The master's thread encodes calls
when it takes them, many at a time. If the arguments of a call cannot be sent, only the future of that call fails.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, InvalidStateError
from contextlib import suppress
from pickle import PicklingError
from typing import TYPE_CHECKING, Any, Protocol

from mapreduce_rq.client.arguments import heard_by
from mapreduce_rq.client.open_job import CANCEL_SECONDS, Opener, OpenJob, its_error
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
"""Calls that are encoded together at most: their common parts are written once."""

CLOSED = "cannot schedule new futures after shutdown: the client is closed"
SHUT = "cannot schedule new futures after shutdown"
AFTER_EXIT = "cannot schedule new futures after interpreter shutdown"


class Caller(Opener, Protocol):
    """What calls need of their client."""

    trust: Trust

    @property
    def planner(self) -> Planner:
        """The object that makes the plan of an open job."""


def _as_it_is(error: BaseException) -> BaseException:
    return error


class CallSource:
    """Calls that wait for the master to send them. Any thread may put calls in; one master takes them."""

    def __init__(self, codec: ValueCodec, aside: Aside | None, unfit: Callable[[BaseException], BaseException]) -> None:
        self._unfit = unfit
        self._codec = codec
        self._aside = aside
        self._waiting: deque[tuple[Future[Any], Call]] = deque()
        self._taken: list[tuple[Future[Any], Call]] = []  # they are being encoded
        self._term = 0  # of the next call that is taken
        self._over = False
        self.sent: dict[int, Future[Any]] = {}
        """By term, the futures of calls that were taken and are not answered."""
        self.ring: Callable[[], None] = lambda: None

    def put(self, future: Future[Any], call: Call) -> None:
        """Put one more call in."""
        self._waiting.append((future, call))
        self.ring()

    def ready(self) -> int:
        """The number of calls that wait."""
        return len(self._waiting)

    def news(self) -> bool:
        """Whether there is something for the master to take: calls, or the end."""
        return bool(self._waiting) or self._over

    def end(self) -> None:
        """Say that no more calls will come."""
        self._over = True
        self.ring()

    def drain(self) -> list[Future[Any]]:
        """Remove the calls that wait, and return their futures."""
        drained = []
        with suppress(IndexError):
            while True:
                drained.append(self._waiting.popleft()[0])
        return drained

    def disown(self, why: str) -> None:
        """In a forked child: fail the calls made before the fork, for their answers come to the parent."""
        self.ring = lambda: None
        for future in [*self.drain(), *(future for future, _ in self._taken), *self.sent.values()]:
            future._condition = threading.Condition()  # noqa: SLF001  held by a thread that is not here
            fail(future, RuntimeError(why))
        self.sent.clear()

    def __call__(self, count: int) -> tuple[bytes, int, bool]:
        """As a ledger's source: the next calls, and none if none waits."""
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
                self._taken = []
                bodies.append(body)
                got += len(taken)
                size += len(body)
            block = min(2 * block, BLOCK)
        body = join(bodies) if bodies else b""
        if self._aside is not None and body:
            body = self._aside.put(body) or body
        return body, got, self._over and not self._waiting

    def _take(self, count: int) -> list[tuple[Future[Any], Call]]:
        taken = self._taken = []
        with suppress(IndexError):
            while len(taken) < count:
                entry = self._waiting.popleft()
                if entry[0].set_running_or_notify_cancel():
                    taken.append(entry)
        return taken

    def _encoded(self, taken: list[tuple[Future[Any], Call]]) -> bytes:
        """The body of these calls. Calls that cannot be encoded are removed from it, and their futures fail."""
        while taken:
            try:
                return self._codec.encode([call for _, call in taken])
            except Unfit as unfit:
                future, _ = taken.pop(unfit.index)
                fail(future, self._unfit(unfit.__cause__ or PicklingError(f"an argument cannot travel: {unfit}")))
        return b""


class Calls:
    """Calls over one open job. ``first`` is called once in each worker process, before any other call. ``unsent`` makes
    the exception of a value that cannot travel, and ``unfit`` that of arguments, of the pickler's own. ``logs``: see
    ``Client.map_reduce``. ``outlasts``: whether the interpreter's end waits until all calls are answered.
    """

    def __init__(
        self,
        client: Caller,
        *,
        first: First | None = None,
        worn_after: int | None = None,
        unsent: Callable[[Unsent], BaseException] = its_error,
        unfit: Callable[[BaseException], BaseException] = _as_it_is,
        logs: Logs = False,
        outlasts: bool = True,
    ) -> None:
        limits, heard = heard_by(logs, None)
        try:
            plan = client.planner.open_job(CALL, limits=limits, first=first, worn_after=worn_after)
        except BadFunction as refused:
            if refused.__cause__ is not None:  # the reason why an initializer or its arguments cannot be sent
                raise refused.__cause__ from refused
            raise
        self._outlasts = outlasts
        self._trust = client.trust
        self._unsent = unsent
        self._references = References()
        self._latest: tuple[Any, Any] = (None, None)  # a function, and the reference that is sent for it
        self._lock = threading.Lock()
        self._refusal = ""  # why no more calls are taken; "": they are
        self._error: BaseException | None = None  # the one with which the job ended
        self._lost = False  # calls had no answer then
        self._then: Callable[[], None] | None = None
        self.ended = threading.Event()
        _, computation, codec = plan
        self._source = CallSource(codec, computation.aside, unfit)
        self._job = OpenJob(client, plan, self._source, self._hand, self._ended, observer=heard)
        _watch_exit()
        _live.add(self)

    @property
    def job(self) -> str:
        """The job's id."""
        return self._job.id

    @property
    def workers(self) -> int:
        """The number of workers, as far as the master knows."""
        return self._job.workers

    def submit(
        self, function: Callable[..., Any], how: int, arguments: Sequence[Any], named: Mapping[str, Any]
    ) -> Future[Any]:
        """Make one more call (``how``: see functions/calls.py). Raises RuntimeError once no more are taken."""
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

    @property
    def open(self) -> bool:
        """Whether more calls are taken."""
        return self._error is None and not (self._refusal or self._job.elsewhere or _exiting)

    def check(self) -> None:
        """Raises BrokenProcessPool or RuntimeError if no more calls are taken."""
        if self._error is not None and (self._lost or not self._job.given_up):  # an idle job ends well so
            raise broken(self._error)
        if self._refusal or self._job.elsewhere or _exiting:
            raise RuntimeError(self._refusal or self._job.elsewhere or AFTER_EXIT)

    def finish(self, why: str = SHUT, *, cancel: bool = False) -> None:
        """Take no more calls. ``cancel``: the calls that wait are not sent. Calls that were sent are answered."""
        with self._lock:
            self._refusal = self._refusal or why
            drained = self._source.drain() if cancel else []
        for future in drained:  # not under the lock: its callback may submit, or wait for a thread that does
            future.cancel()
            future.set_running_or_notify_cancel()
        self._latest = None, None
        self._source.end()

    def wait(self) -> None:
        """Wait until all calls are answered, after ``finish``."""
        if not self._job.elsewhere:
            self.ended.wait()

    def terminate(self) -> None:
        """End the job at once, with the tasks in hand. Futures that are not done are cancelled, or fail."""
        self.finish(cancel=True)
        self._job.cancel()

    def leave(self) -> None:
        """At the interpreter's end: take no more calls, and if the end does not wait for answers, give all calls up."""
        self.finish(AFTER_EXIT, cancel=not self._outlasts)
        if not self._outlasts:
            self._job.let_go()

    def wait_to_leave(self, deadline: float) -> None:
        """After ``leave``: wait until all calls are answered; or, if they are given up, until the job has ended, but
        not beyond this moment of ``time.monotonic``.
        """
        if self._outlasts:
            self.wait()
        elif not self._job.elsewhere:
            self._job.let_go_by(deadline)

    def _hand(self, lo: int, values: list[Any]) -> None:
        sent = self._source.sent
        for term, value in enumerate(values, lo):
            future = sent.pop(term)
            if isinstance(value, Raised):
                fail(future, self._error_in(value))
            else:
                with suppress(InvalidStateError):  # another thread has set the future
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
            self._lost = bool(left)
        for future in left:
            fail(future, broken(error) if error is not None else RuntimeError(SHUT))
        self.ended.set()
        if self._then is not None:
            threading.Thread(target=self._then, name=f"mrq after {self._job.id}", daemon=True).start()

    def when_ended(self, then: Callable[[], None]) -> None:
        """Have ``then`` called, in a thread of its own, when all calls are answered."""
        self._then = then
        if self.ended.is_set():
            then()


def fail(future: Future[Any], error: BaseException) -> None:
    """Set a future's exception, unless the future is done."""
    with suppress(InvalidStateError):
        if not future.done():
            future.set_exception(error)


def broken(error: BaseException) -> BaseException:
    """The exception of a call that has no answer: the one that a ``ProcessPoolExecutor`` raises."""
    found: BaseException = BrokenExecutor(str(error))
    with suppress(RuntimeError):  # an interpreter that ends refuses the import: then no program can know the class
        from concurrent.futures.process import BrokenProcessPool  # takes 10 ms, and only a failure needs it

        found = BrokenProcessPool(str(error))
    found.__cause__ = error
    return found


_live: weakref.WeakSet[Calls] = weakref.WeakSet()
_exiting = False
_watched = False


def _watch_exit() -> None:
    """Have all calls answered, or given up, before the interpreter ends. Registered with the first ``Calls``: a
    client's own end, which was registered earlier, comes later.
    """
    global _watched  # noqa: PLW0603  once
    if not _watched:
        _watched = True
        atexit.register(_at_exit)


def _at_exit() -> None:
    global _exiting  # noqa: PLW0603  once
    _exiting = True
    for calls in list(_live):
        calls.leave()
    deadline = time.monotonic() + CANCEL_SECONDS
    for calls in list(_live):
        calls.wait_to_leave(deadline)
