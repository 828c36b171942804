"""A job in the background: its master runs in a thread, and its caller may ask meanwhile how far it is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from mapreduce_rq.client.leading import Leader, let_go_text
from mapreduce_rq.client.wires import Wires
from mapreduce_rq.core.given import check
from mapreduce_rq.core.job.printed import Printed
from mapreduce_rq.core.job.record import Report, State
from mapreduce_rq.core.job.result import Result
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.core.reducers.sequence import ListReducer, Stretch
from mapreduce_rq.errors import JobError, MrqError, UsageError
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.observer import Observer, pass_on, tell_onlooker
from mapreduce_rq.runtime.master.standby import Standby

if TYPE_CHECKING:  # most jobs show nothing
    from mapreduce_rq.progress.shown import Shown


class Owner(Protocol):
    """What a job needs of the client that it belongs to."""

    leader: Leader
    wires: Wires

    @property
    def ends_with_it(self) -> str:
        """What its jobs need and what ends with the client: private server, or workers over pipes; '' if nothing."""

    def result_of(self, ended: Ended) -> Result:
        """The result of a job that ended."""

    def keep_in_sight(self, job: Job) -> None:
        """Remember a job, to let go of it when the client is closed."""

    def cancel(self, job: str, *, now: bool = False) -> str:
        """Cancel a job and return the state in which it ended."""


Pairs = list[tuple[int, Any]]


def led_elsewhere(job: str, leader: int) -> str:
    """The error to raise in a process that was forked from the one that leads a job."""
    return f"{job} is led by process {leader}, and this process is a fork of it: ask there"


class Job:
    """A job whose master runs in a thread of this process.

    ``lead`` makes the master, which reports to this object. ``shown`` shows the progress to people. ``heard`` gets what
    the job's functions print.
    """

    def __init__(
        self,
        client: Owner,
        spec: Spec,
        lead: Callable[[Job], Master],
        shown: Shown | None = None,
        heard: Observer | None = None,
    ) -> None:
        self.id = spec.job
        self._client = client
        self._report = Report(total=spec.total)
        self._ended: Ended | None = None
        self._error: BaseException | None = None
        self._over = threading.Event()
        self._leader = os.getpid()
        self._elsewhere = False  # this is a fork of the process that leads it
        self._lazy = spec.lazy
        self._coming = threading.Lock()  # guards the next two
        self._joining: list[SimpleQueue[Pairs | None]] = []  # queues of callers of results() that have no values yet
        self._watching: list[SimpleQueue[Pairs | None]] = []
        self._then: list[Callable[[], object]] = []
        self._shown = shown
        self._heard = heard
        self._master = lead(self)
        self._leads: Standby | Master = self._master  # setting its ``stop`` ends the watching, or the leading
        self._let_go = False
        try:
            client.leader.submit(self._master)
        except BaseException:
            self._show_end()
            client.wires.give_back(self._master.jobs.wire, sound=False)
            raise
        self._thread = threading.Thread(target=self._run, name=f"mrq {spec.job}", daemon=True)
        try:
            self._thread.start()
            client.keep_in_sight(self)
        except Exception as error:  # no more threads can be started
            client.leader.abandon(self._master, error)
            self._show_end()
            client.wires.give_back(self._master.jobs.wire, sound=False)
            raise
        except BaseException:  # Ctrl-C while the thread begins: the caller will have no job that it could end
            with suppress(MrqError):
                client.cancel(self.id, now=True)
            raise

    def _run(self) -> None:
        try:
            self._ended = self._client.leader.lead_on(self._master, self._taken)
            self._show_end()
        except BaseException as error:  # result() raises it
            self._error = error
            with suppress(Exception):  # perhaps this is what failed
                self._show_end()
        finally:
            self._client.wires.give_back(self._master.jobs.wire, sound=self._ended is not None)
            with self._coming:
                self._over.set()
                self._let_in()
                for queue in self._watching:
                    queue.put(None)
            for then in self._then:
                then()

    def _show_end(self) -> None:
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.close(well=self._ended is not None and self._ended.state is State.DONE)

    def _taken(self, leads: Standby | Master) -> None:
        """Another process has taken the job over: ``leads`` watches it now, and leads it if that process dies."""
        self._leads = leads
        leads.stop = self._let_go

    def progressed(self, report: Callable[[], Report]) -> None:
        """Keep the master's report; see Observer."""
        self._report = found = report()
        if self._shown is not None:
            self._shown.progressed(lambda: found)
        if self._joining:
            with self._coming:
                self._let_in()

    def _let_in(self) -> None:
        """Give new callers of results() the values counted so far. The next values follow as they are counted."""
        if not self._joining:
            return
        there = [pair for stretch in self._master.ledger.tally.segments() for pair in self._pairs(stretch)]
        for queue in self._joining:
            queue.put(there)
        self._watching += self._joining
        self._joining = []
        self._master.ledger.tally.watch = self._counted

    def _counted(self, stretch: Stretch) -> None:
        pairs = self._pairs(stretch)
        for queue in self._watching:
            queue.put(pairs)

    def _pairs(self, stretch: Stretch) -> Pairs:
        reducer, terms = self._master.computation.reducer, range(stretch.lo, stretch.hi)
        assert isinstance(reducer, ListReducer)
        if stretch.n < len(terms):
            out = {term for term, _ in self._master.ledger.skipped}
            return list(zip((term for term in terms if term not in out), reducer.finish_native(stretch), strict=True))
        return list(zip(terms, reducer.finish_native(stretch), strict=True))

    def noticed(self, text: str) -> None:
        """Show the master's notice, if progress is shown."""
        if self._shown is not None:
            self._shown.noticed(text)

    def happened(self, what: str, text: str) -> None:
        """Show an event, if progress is shown."""
        tell_onlooker(self._shown, what, text)

    def printed(self, printed: Printed) -> None:
        """Hand on what a function has printed."""
        pass_on(self._heard, printed)

    def let_go(self) -> None:
        """Have the master stop soon. Another process can resume the job from what is counted."""
        self._let_go = True
        self._leads.stop = True

    def let_go_by(self, deadline: float) -> None:
        """As ``let_go``, and wait for the master to stop, at most until this moment of ``time.monotonic``."""
        self.let_go()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def disown(self) -> None:
        """In a forked child: give the job up, because the parent leads it."""
        self._elsewhere = not self._over.is_set()
        self._coming = threading.Lock()  # the thread that held the old lock does not exist here

    def done(self) -> bool:
        """Whether the job has ended, well or not. Raises UsageError in a process forked from its own."""
        self._check_process()
        return self._over.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, at most ``timeout`` seconds, and return whether it came. Raises UsageError as ``done``."""
        check(timeout=timeout)
        self._check_process()
        return self._over.wait(timeout)

    def when_done(self, then: Callable[[], object]) -> None:
        """Have ``then`` called in another thread when the job ends; at once if it has ended."""
        check(then=then)
        with self._coming:
            if not self._over.is_set():
                self._then.append(then)
                return
        then()

    def _check_process(self) -> None:
        if self._elsewhere:
            raise UsageError(f"{led_elsewhere(self.id, self._leader)}, or run `mrq attach {self.id}`")

    @property
    def status(self) -> str:
        """One of running, done, failed, cancelled."""
        if not self._over.is_set():
            return State.RUNNING.word
        return self._ended.state.word if self._ended is not None else State.FAILED.word

    @property
    def progress(self) -> dict[str, Any]:
        """How far the job is, with the keys of ``Report.to_dict``: ``counted`` and ``total`` (terms), ``rate`` (terms
        per second), the running ``value`` with its ``error``, and more.
        """
        return msgspec.structs.asdict(self._report)

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the result, at most ``timeout`` seconds, and return it.

        Raises TimeoutError, JobFailed, JobCancelled, errors of the master, and UsageError as ``done``.
        """
        check(timeout=timeout)
        self._check_process()
        if not self._over.wait(timeout):
            raise TimeoutError(f"{self.id} is still running after {timeout:g} s")
        if self._error is not None:
            raise self._error
        if self._ended is None:
            over = self._client.leader.abandoned.get(self.id, False)
            raise JobError(let_go_text(self.id, ended=self._client.ends_with_it, lazy=self._lazy, cancelled=over))
        return self._client.result_of(self._ended)

    def results(self) -> Iterator[tuple[int, Any]]:
        """An iterator of pairs ``(term, value)`` for a job with ``reduce="list"``: each term once, in any order, as
        soon as its value is counted.

        Terms that were left out are missing. At the end the iterator raises what ``result`` raises. Raises UsageError
        for a job with another reducer.
        """
        if self._elsewhere:
            raise UsageError(led_elsewhere(self.id, self._leader))
        if type(self._master.computation.reducer) is not ListReducer:
            raise UsageError(f"{self.id} folds its values and keeps none of them: give reduce='list' for results()")
        queue: SimpleQueue[Pairs | None] = SimpleQueue()
        with self._coming:
            self._joining.append(queue)
            if self._over.is_set():
                self._let_in()
                queue.put(None)
        return self._results(queue)

    def _results(self, queue: SimpleQueue[Pairs | None]) -> Iterator[tuple[int, Any]]:
        try:
            while (pairs := queue.get()) is not None:
                for pair in pairs:
                    yield pair
                    if self._elsewhere:  # the other values come to the parent process
                        raise UsageError(led_elsewhere(self.id, self._leader))
        finally:
            with self._coming:
                if queue in self._watching:
                    self._watching.remove(queue)
        result = self.result()
        if self._leads is not self._master:
            yield from self._counted_elsewhere(result)

    def _counted_elsewhere(self, result: Result) -> Iterator[tuple[int, Any]]:
        """The values that another master counted, after it had taken the job over from ours."""
        given, out = self._master.ledger.tally.runs, {one["term"] for one in result.skipped}
        terms = (term for term in range(len(result.native) + len(out)) if term not in out)
        for term, value in zip(terms, result.native, strict=True):
            if not given.covers(term, term + 1):
                yield term, value

    def cancel(self, *, now: bool = False) -> str:
        """Cancel the job and return the state in which it ended."""
        return self._client.cancel(self.id, now=now)

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.status}>"
