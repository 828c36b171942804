"""A standby's threads: each leads one orphaned job after another, so only a few are led at the same time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.computations import load
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.errors import JobFailed, MrqError
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.observer import Observer
from mapreduce_rq.runtime.master.standby import Setbacks

MOST_LED = 8
"""Jobs led at the same time: each costs a thread and a connection, and a lost host may have led thousands."""
STUCK_SECONDS = 30.0
"""A job that counts nothing for this time is let go of, if other jobs wait for their turn."""


class Client(Protocol):
    """What the threads need of the client."""

    clock: Clock
    trust: Trust

    def new_wire(self) -> Wire:
        """A wire that is not connected."""

    def verbs_over(self, wire: Wire) -> Jobs:
        """The verbs on its queue over a wire."""

    def master(
        self, spec: Spec, computation: Computation[Any], observer: Observer, *, verbs: Jobs | None = None
    ) -> Master:
        """A master for a job."""


class Adopters:
    """Lead the jobs that are offered, in threads. One thread may call these methods."""

    def __init__(self, client: Client, observer: Observer, may_lead: Callable[[JobState], bool]) -> None:
        self._client = client
        self._observer = observer
        self._may_lead = may_lead
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, str]] = deque()  # jobs and their tokens
        self._led: dict[str, Master | None] = {}  # None: it has no master here yet
        self._progress: dict[str, tuple[int, float]] = {}  # terms counted, and since when that number stands
        self._setbacks = Setbacks(client.clock)
        self._threads: list[threading.Thread] = []
        self._closed = False

    def offer(self, orphans: Mapping[str, str]) -> None:
        """Take over jobs that have no master now, given with their tokens."""
        with self._lock:
            due = self._setbacks.due
            self._waiting = deque(row for row in orphans.items() if row[0] not in self._led and due(row[0]))
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            wanted = min(len(self._waiting), MOST_LED - len(self._threads))
            for _ in range(wanted):
                self._threads.append(threading.Thread(target=self._run, name="mrq standby", daemon=True))
                self._threads[-1].start()
            if len(self._waiting) > wanted:
                self._make_room()

    def close(self, seconds: float) -> None:
        """Let go of all jobs, and wait for that at most ``seconds``."""
        deadline = time.monotonic() + seconds
        with self._lock:
            self._closed = True
            self._waiting.clear()
            for master in self._led.values():
                if master is not None:
                    master.stop = True
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _make_room(self) -> None:
        """Let go of jobs that count nothing, for others wait; perhaps no worker can compute them."""
        now = self._client.clock.now()
        for job, master in self._led.items():
            counted = master.ledger.counted if master is not None else -1
            before, since = self._progress.get(job, (-2, now))
            self._progress[job] = (counted, since if counted == before else now)
            if master is not None and now - self._progress[job][1] >= STUCK_SECONDS:
                self._setbacks.put_off(job)
                master.stop = True

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                job, token = self._waiting.popleft()
                self._led[job] = None
            try:
                self._adopt(job, token)
            finally:
                with self._lock:
                    del self._led[job]
                    self._progress.pop(job, None)

    def _adopt(self, job: str, token: str) -> None:
        """Lead one orphaned job over a connection of its own, unless another standby was quicker."""
        client, notice = self._client, self._observer.noticed
        wire = client.new_wire()
        verbs = client.verbs_over(wire)
        try:
            wire.connect()
            state = verbs.load(job)
            if state is None or not state.running or state.token != token or not self._may_lead(state):
                return
            if state.spec.lazy:
                raise JobFailed("it cannot continue: its items came from an iterator in a process that is gone")
            computation = load(state.spec.computation).to_lead(state.spec.params, client.trust)
            master = client.master(state.spec, computation, self._observer, verbs=verbs)
            with self._lock:
                if self._closed:
                    return
                self._led[job] = master
            master.take_over(state)
            notice(f"leading {job} from its checkpoint: {master.ledger.counted} terms counted")
            ended = master.run()
            if ended is not None:
                notice(f"{job} is {ended.state}")
        except MrqError as error:
            if self._setbacks.note(job, str(error)):
                notice(f"{job}: {error}")
        finally:
            wire.close()
