"""What a process does that leads many jobs: which ones it takes, and what becomes of those that are over.

    handed over ── the wheel's door ──> adopt() ──> turns ──> over()
    orphans ────── look() ────────────>

The turns, and the one place where it waits for everything, are in runtime/master/wheel.py. Where more jobs wait than it
may lead, those that have been led for long give way: they keep what is counted, and go to the end of the line.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.client.leading import Among, Leader
from mapreduce_rq.core.foreign_errors import told
from mapreduce_rq.errors import BrokerDown, MrqError, Superseded
from mapreduce_rq.runtime.master.lease import is_first
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.observer import Observer
from mapreduce_rq.runtime.master.polling import Polling
from mapreduce_rq.runtime.master.standby import POLL_SECONDS, OrphanWatch, Setbacks
from mapreduce_rq.runtime.master.tender import Tender
from mapreduce_rq.runtime.master.wheel import Lead, Relieved, Turn, Wheel

MOST_LED = 8
"""Jobs led at the same time, unless it is said: a lost host may have led thousands, and others may share them."""
CLOSE_SECONDS = 5.0
"""How long the end waits until all jobs are let go of."""
STINT_SECONDS = 30.0
"""A job that has been led for this time is let go of, if other jobs wait for their turn."""


class Adopters:
    """The steward of a wheel."""

    def __init__(
        self,
        leader: Leader,
        observer: Observer,
        may_lead: Callable[[JobState], bool],
        has_ended: Callable[[str], bool],
        most: int,
    ) -> None:
        self.tender = self._new_tender(leader)
        self.wheel = self._new_wheel(leader, most)
        self.error: BaseException | None = None  # what no connection mends
        self.ended = threading.Event()
        self._backlog: dict[str, str] = {}  # orphans that are in no line, and for which the last look had no room
        self._leader = leader
        self._observer = observer
        self._may_lead = may_lead
        self._watch = OrphanWatch(self.wheel.verbs, has_ended)
        self._setbacks = Setbacks(leader.clock)

    def _new_tender(self, leader: Leader) -> Tender:
        return Tender(leader.wires.new, self.go_on)

    def _new_wheel(self, leader: Leader, most: int) -> Wheel:
        wires = leader.wires
        return Wheel(wires.new, wires.verbs_over, leader.clock, Polling(), steward=self, most=most)

    # -- its threads -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self.tender.run, args=(self.wheel,), name="mrq tender", daemon=True).start()
        self.go_on()

    def go_on(self) -> None:
        """Have a thread go round with the wheel until that is closed, or taken from it."""
        threading.Thread(target=self._run, name="mrq master", daemon=True).start()

    def _run(self) -> None:
        try:
            while not self.wheel.over:
                self.wheel.go_round()
        except Relieved:
            return
        except BaseException as error:
            self.error = error
        self.ended.set()

    def close(self, seconds: float) -> None:
        """Let go of all jobs, and wait for that at most ``seconds``."""
        self.wheel.close()
        self.ended.wait(seconds)
        self.tender.close()
        if self.ended.is_set():
            self.wheel.end()

    # -- as the wheel's steward ------------------------------------------------------------------------------------

    def look(self) -> float:
        """Find jobs that have no master, take those for which there is room, and make room for the others."""
        due = {
            job: token
            for job, token in self._watch.orphans().items()
            if job not in self.wheel.leads and self._setbacks.due(job)
        }
        line: list[str] = []
        if len(due) > self.wheel.room:  # then those go first that stand first in the line
            line = self.wheel.verbs.line()
            due = {job: due[job] for job in line if job in due} | due
        for job, token in due.items():
            self.wheel.take(job, token)
        left = {job: token for job, token in due.items() if job not in self.wheel.leads}
        self._backlog = {job: token for job, token in left.items() if job not in line}
        if left:
            self._make_room()
        self.tender.stir()
        return POLL_SECONDS

    def _make_room(self) -> None:
        """Let go of the jobs that have been led for long, for others wait. One that counts nothing waits for longer:
        perhaps no worker can compute it.
        """
        now = self._leader.clock.now()
        for job, lead in self.wheel.leads.items():
            if lead.master is None or now - lead.since < STINT_SECONDS:
                continue
            if lead.master.ledger.counted == lead.counted:
                self._setbacks.put_off(job)
            lead.master.stop = True
            lead.due = 0.0

    def adopt(self, lead: Lead) -> Master | None:
        """The master of a job, unless another process was quicker."""
        self.tender.stir()
        verbs = self._leader.wires.verbs_over(lead.wire)
        state = verbs.load(lead.job)
        if state is None or not state.running or (state.master and state.token != lead.token):
            return None
        if not self._may_lead(state):
            return None
        new = not state.master and is_first(state.token)
        among = Among(self.tender.keeper, self.wheel.told, self.wheel.workers() if new else 0)
        return self._leader.adopt(state, verbs, self._observer, among=among)

    def over(self, lead: Lead, turn: Turn) -> None:
        """A job has ended, or is not to be led here any more."""
        job, verbs = lead.job, self.wheel.verbs
        if self._backlog:
            following = next(iter(self._backlog))
            self.wheel.take(following, self._backlog.pop(following))
        if turn.error is not None:
            if isinstance(turn.error, (Superseded, BrokerDown)):
                return
            why = str(turn.error)
            if not isinstance(turn.error, MrqError):  # a fault with one job must not end those of others
                why = f"it cannot be led: {told(turn.error)}; please report this"
            if self._setbacks.note(job, why):
                self.noticed(f"{job}: {why}")
        elif turn.ended is not None:
            self.noticed(f"{job} is {turn.ended.state.word}")
            self._leader.tidy(verbs)
        elif lead.master is not None and not self.wheel.closing and self._setbacks.due(job):
            verbs.hand_over(job)  # it has given way

    def noticed(self, text: str) -> None:
        """A line for people."""
        self._observer.noticed(text)


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
    led, in the thread that would lead it. ``has_ended``: see ``OrphanWatch``. Raises BrokerError.
    """
    adopters = Adopters(leader, observer, may_lead, has_ended, most)
    adopters.start()
    try:
        stop.wait()
    finally:
        adopters.close(CLOSE_SECONDS)
    if adopters.error is not None:
        raise adopters.error
