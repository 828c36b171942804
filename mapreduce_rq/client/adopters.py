"""The threads of a process that leads many jobs: each leads one after another over a connection of its own.

    handed over ── handed_over() ──> lead() ──> threads that wait, each with a wire
    orphans ── look around ──────> offer() ──>

Each thread waits for the answers of its job's workers, and the thread that calls these methods for jobs that are handed
over: all of them in Redis, and none asks again and again. Where more jobs wait than there are threads, those that
have been led for long give way: they keep what is counted, and go to the end of the line.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.client.leading import Leader
from mapreduce_rq.errors import BrokerDown, MrqError, Superseded
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.observer import Observer
from mapreduce_rq.runtime.master.standby import POLL_SECONDS, OrphanWatch, Setbacks

MOST_LED = 8
"""Jobs led at the same time, unless it is said: each costs a thread and a connection, and a lost host may have led
thousands."""
WAIT_SECONDS = 1.0
"""How long one wait for a job is: then it is seen whether to stop."""
CLOSE_SECONDS = 5.0
"""How long the end waits for the threads to let go of their jobs."""
STINT_SECONDS = 30.0
"""A job that has been led for this time is let go of, if other jobs wait for their turn."""


class Adopters:
    """Lead the jobs that are offered, in at most ``most`` threads. One thread may call these methods."""

    def __init__(
        self,
        leader: Leader,
        observer: Observer,
        may_lead: Callable[[JobState], bool],
        most: int = MOST_LED,
    ) -> None:
        self._leader = leader
        self._wires = leader.wires
        self._clock = leader.clock
        self._observer = observer
        self._may_lead = may_lead
        self._most = most
        self._changed = threading.Condition()  # guards all below; one thread may take it twice
        # Jobs that a thread shall lead now, never more than there is room for; and the tokens of dead masters.
        self._waiting: dict[str, str] = {}
        self._backlog: dict[str, str] = {}  # such jobs beyond the room that there was at the last look around
        self._led: dict[str, Master | None] = {}  # None: it has no master here yet
        self._since: dict[str, tuple[float, int]] = {}  # since when a job is led, and the terms that were counted then
        self._setbacks = Setbacks(leader.clock)
        self._threads: list[threading.Thread] = []
        self._closed = False

    @property
    def _room(self) -> int:
        return self._most - len(self._led) - len(self._waiting)

    def await_room(self, seconds: float) -> int:
        """How many more jobs can be led now; waits ``seconds`` until there is room for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._room > 0, seconds)
            return max(0, self._room)

    def lead(self, jobs: Mapping[str, str]) -> None:
        """Lead these jobs, as far as there is room. Each has no master, or one that is gone, whose token this is."""
        with self._changed:
            for job, token in jobs.items():
                if job not in self._led and job not in self._waiting and self._room > 0:
                    self._waiting[job] = token
            idle = len(self._threads) - len(self._led)
            for _ in range(min(len(self._waiting) - idle, self._most - len(self._threads))):
                self._threads.append(threading.Thread(target=self._run, name="mrq master", daemon=True))
                self._threads[-1].start()
            self._changed.notify_all()

    def offer(self, orphans: Mapping[str, str]) -> None:
        """Take over jobs that have no master now, as far as there is room; make room for the others."""
        with self._changed:
            due = {job: token for job, token in orphans.items() if job not in self._led and self._setbacks.due(job)}
            self.lead(due)
            self._backlog = {job: token for job, token in due.items() if job not in self._waiting}
            if self._backlog:
                self._make_room()

    def close(self, seconds: float) -> None:
        """Let go of all jobs, and wait for that at most ``seconds``."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._backlog.clear()
            for master in self._led.values():
                if master is not None:
                    master.stop = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _make_room(self) -> None:
        """Let go of the jobs that have been led for long, for others wait. One that counts nothing waits for longer:
        perhaps no worker can compute it.
        """
        now = self._clock.now()
        for job, master in self._led.items():
            if master is None or now - self._since[job][0] < STINT_SECONDS:
                continue
            if master.ledger.counted == self._since[job][1]:
                self._setbacks.put_off(job)
            master.stop = True

    def _run(self) -> None:
        wire: Wire | None = None
        while (found := self._next()) is not None:
            job, token = found
            wire = wire or self._wires.new()
            sound = False
            try:
                sound = self._adopt(job, token, self._wires.verbs_over(wire))
            finally:
                if not sound:
                    wire.close()
                    wire = None
                with self._changed:
                    del self._led[job]
                    self._since.pop(job, None)
                    self._changed.notify_all()
        if wire is not None:
            wire.close()

    def _next(self) -> tuple[str, str] | None:
        """The next job for a thread, with a token, once there is one; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._backlog or self._closed)
            if self._closed:
                return None
            line = self._waiting or self._backlog
            job = next(iter(line))
            self._led[job] = None
            return job, line.pop(job)

    def _adopt(self, job: str, token: str, verbs: Jobs) -> bool:
        """Lead one job, unless another process was quicker. Whether the wire can be used for another job."""
        notice = self._observer.noticed
        try:
            state = self._found(job, verbs)
            if state is None or not state.running or (state.master and state.token != token):
                return True
            if not self._may_lead(state):
                return True
            master = self._leader.adopt(state, verbs, self._observer)
            with self._changed:
                if self._closed:
                    master.stop = True
                self._led[job] = master
                self._since[job] = self._clock.now(), master.ledger.counted
            ended = master.run()
            if ended is not None:
                notice(f"{job} is {ended.state.word}")
                self._leader.tidy(verbs)
            elif not self._closed and self._setbacks.due(job):
                verbs.hand_over(job)  # it has given way
        except Superseded:
            return True
        except MrqError as error:
            if self._setbacks.note(job, str(error)):
                notice(f"{job}: {error}")
            return False
        return True

    def _found(self, job: str, verbs: Jobs) -> JobState | None:
        """The job, over a wire that may not be connected yet, or may have been closed meanwhile."""
        try:
            return verbs.load(job)
        except BrokerDown:
            verbs.wire.connect()
            return verbs.load(job)


def lead_all(
    leader: Leader,
    observer: Observer,
    stop: threading.Event,
    may_lead: Callable[[JobState], bool] = lambda _: True,
    has_ended: Callable[[str], bool] = lambda _: False,
    *,
    most: int = MOST_LED,
) -> None:
    """Lead every job of the queue that was handed over, or whose master dies or lets go, until ``stop`` is set.

    At most ``most`` jobs are led at the same time; it goes on through outages. ``may_lead`` is asked before a job is
    led, in the thread that would lead it. ``has_ended``: see ``OrphanWatch``.
    """
    adopters = Adopters(leader, observer, may_lead, most)
    try:
        with leader.wires.verbs() as verbs:  # other threads may use the client meanwhile
            watch = OrphanWatch(verbs, has_ended)
            connected, look_at = True, leader.clock.now()
            while not stop.is_set():
                try:
                    if not connected:
                        verbs.wire.connect()
                        connected, watch = True, OrphanWatch(verbs, has_ended)
                    if leader.clock.now() >= look_at:
                        look_at = leader.clock.now() + POLL_SECONDS
                        adopters.offer(watch.orphans())
                    wait = min(WAIT_SECONDS, max(0.001, look_at - leader.clock.now()))
                    if room := adopters.await_room(wait):
                        adopters.lead(dict.fromkeys(verbs.handed_over(room, wait), ""))
                except BrokerDown as error:
                    if connected:
                        observer.noticed(f"{error}; trying again")
                    connected = False
                    stop.wait(WAIT_SECONDS)
    finally:
        adopters.close(CLOSE_SECONDS)
