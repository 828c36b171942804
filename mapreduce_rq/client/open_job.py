"""A job whose items come one after another, and whose values are handed to the caller as they arrive. ``imap``,
executor, pool and joblib are built on it.

    items ── put ──> OpenSource ── take ──> master ── tasks ──> workers
    caller <── hand ── Handed reducer <── tally (each span once) <── replies

Any thread may put items in, at any time; a bell then wakes the master. The tally folds each span once, even if workers
die or answer twice, so each value is handed on once. The number of items that were put in and whose values are not
taken yet is limited: at the limit, the thread that puts items in waits. So memory is constant for any number of items.

Such a job ends with the process that opened it: no other process has its items.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.wire import Ear
from mapreduce_rq.client.job import led_elsewhere
from mapreduce_rq.client.leading import Leader
from mapreduce_rq.client.open_source import Feed
from mapreduce_rq.client.wires import Wires
from mapreduce_rq.core.bodies import ValueCodec
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job.printed import Printed
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.job.result import Result
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.core.reducers.handed import Handed, Unsent
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import JobError, UsageError
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.bell import Bell
from mapreduce_rq.runtime.master.cancel import cancel
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.observer import Observer, Silent, pass_on, tell_onlooker

CANCEL_SECONDS = 5.0


Plan = tuple[Spec, Computation[Any], ValueCodec]
"""Spec and computation of an open job, and the codec of its items."""
Hand = Callable[[int, list[Any]], None]
"""It gets the number of a first term, and the values from there on. It is called in the master's thread, in the order
of arrival.
"""


class Opener(Protocol):
    """What an open job needs of the client that it belongs to."""

    keys: Keys
    codecs: Codecs
    clock: Clock
    leader: Leader
    wires: Wires

    def result_of(self, ended: Ended) -> Result:
        """The result of a job that ended. Raises the error with which it ended."""

    def keep_in_sight(self, job: OpenJob) -> None:
        """Remember a job, to let go of it when the client is closed."""


class OpenJob:
    """One open job, with its master in a thread of its own.

    ``hand`` is called with the values. ``ended`` is called once, at the end, with the error or None. ``observer`` is
    called in the master's thread with the job's progress.
    """

    def __init__(
        self,
        client: Opener,
        plan: Plan,
        source: Feed,
        hand: Hand,
        ended: Callable[[BaseException | None], None],
        *,
        observer: Observer | None = None,
        wait_workers: float | None = None,
    ) -> None:
        self._client = client
        self._observer = observer or Silent()
        self._ended = ended
        spec, computation, _ = plan
        assert isinstance(computation.reducer, Handed)
        computation.reducer.hand = hand
        self.id = spec.job
        self.source = source
        self._bell = Bell(self.source.news)
        self.source.ring = self._bell.ring
        self._wires = [client.wires.borrow(), client.wires.borrow()]
        verbs = Jobs(self._wires[0], client.keys, client.codecs)
        ear = self._wires[1]
        assert isinstance(ear, Ear)
        verbs.ear = ear
        self._over = threading.Event()
        self.elsewhere = ""  # the error in a fork of the process that leads it
        self.given_up = False  # its client let go of it
        self._master = client.leader.master(
            spec, computation, self, source=self.source, verbs=verbs, bell=self._bell, wait_workers=wait_workers
        )
        try:
            client.leader.submit(self._master)
        except BaseException:
            self._leave(sound=False)
            raise
        self._thread = threading.Thread(target=self._run, name=f"mrq {spec.job}", daemon=True)
        try:
            self._thread.start()
            client.keep_in_sight(self)
        except Exception as error:  # no more threads can be started
            client.leader.abandon(self._master, error)
            self._leave(sound=False)
            raise
        except BaseException:  # Ctrl-C while the thread begins: the caller will have no job that it could end
            self.let_go()
            raise

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._over.is_set()

    def let_go(self) -> None:
        """Have the job end soon, because its client is being closed and no other process has its items.

        This is not the end of its items: then a job whose items are all answered by now would be done.
        """
        self.given_up = True
        self._master.stop = True
        self._bell.insist()

    def let_go_by(self, deadline: float) -> None:
        """As ``let_go``, and wait for the job's end, at most until this moment of ``time.monotonic``."""
        self.let_go()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def disown(self) -> None:
        """In a forked child: give the job up, because the parent leads it and takes its items."""
        if not self._over.is_set():
            self.elsewhere = led_elsewhere(self.id, os.getppid())
            self._bell.close()
            self.source.disown(self.elsewhere)

    @property
    def workers(self) -> int:
        """The number of workers, as far as its master knows."""
        return self._master.workers

    def ring(self) -> None:
        """Wake the master, because there may be items to send."""
        self._bell.ring()

    def finish(self) -> None:
        """Say that no more items will come: the job ends when the items that were put in are answered."""
        self.source.end()

    def cancel(self) -> None:
        """End the job now, and kill its tasks that workers have in hand. No value is handed on after this."""
        if not self.elsewhere:
            self.let_go_by(time.monotonic() + CANCEL_SECONDS)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, at most ``timeout`` seconds. Return whether it came. Raises UsageError as ``Job.done``."""
        if self.elsewhere:
            raise UsageError(self.elsewhere)
        return self._over.wait(timeout)

    def progressed(self, report: Callable[[], Report]) -> None:
        """Pass the master's report on; see Observer. None is made if nobody asks for it: that takes some time."""
        self._observer.progressed(report)

    def noticed(self, text: str) -> None:
        """Hand the master's notice on to the observer."""
        self._observer.noticed(text)

    def happened(self, what: str, text: str) -> None:
        """Hand an event on to the observer."""
        tell_onlooker(self._observer, what, text)

    def printed(self, printed: Printed) -> None:
        """Hand what a function has printed on to the observer."""
        pass_on(self._observer, printed)

    def _run(self) -> None:
        error: BaseException | None = None
        sound = False
        try:
            ended = self._master.run()
            if ended is None:
                with self._client.leader.uncertain(self.id):
                    cancel(self._master.jobs, self._client.clock, self.id, now=True, why="its client has closed it")
                error = JobError(f"{self.id} was closed before its end")
            else:
                sound = True
                self._client.result_of(ended)
        except BaseException as caught:
            error = caught
            if not sound:
                self._client.leader.abandon(self._master, caught)
        finally:
            self._leave(sound=False)  # its second wire may still be waiting for replies
            self._over.set()
            self._ended(error)

    def _leave(self, *, sound: bool) -> None:
        for wire in self._wires:
            self._client.wires.give_back(wire, sound=sound)
        self._bell.close()  # after the wires, which may wait for it


def its_error(unsent: Unsent) -> BaseException:
    """The exception for a value that cannot be sent, unless the interface has one of its own."""
    return unsent.error
