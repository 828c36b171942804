"""Decides which jobs a process takes that leads many jobs, and what happens to a job that has ended.

    handed over ── the wheel's door ──> adopt() ──> turns ──> over()
    orphans ────── look() ────────────>

runtime/master/wheel.py gives the jobs their turns, and waits for all of them in one place. If more jobs wait than the
process may lead, a job that has been led for a long time gives way: it keeps what is counted, and goes to the end of
the line.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.client.leading import Among, Leader
from mapreduce_rq.core.foreign_errors import told
from mapreduce_rq.errors import BrokerDown, MrqError, Superseded
from mapreduce_rq.runtime.master.leads import Lead, Turn
from mapreduce_rq.runtime.master.lease import is_first
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.observer import Observer
from mapreduce_rq.runtime.master.polling import Polling
from mapreduce_rq.runtime.master.standby import OrphanWatch, Setbacks
from mapreduce_rq.runtime.master.tender import Tender
from mapreduce_rq.runtime.master.wheel import Relieved, Wheel

MOST_LED = 8
"""Jobs led at the same time by default. It is small: a lost host may have led thousands, and other processes that stand
by can share them.
"""
CLOSE_SECONDS = 5.0
"""Seconds that ``lead_all`` waits at its end until all jobs are let go of."""
END_SECONDS = 1.0
"""Seconds between two looks at whether an error has ended the wheel."""
STINT_SECONDS = 30.0
"""A job that has been led for this number of seconds is let go of, if other jobs wait."""


class Adopters:
    """The steward of a wheel: it finds jobs, takes them, and sees to those that have ended."""

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
        self.error: BaseException | None = None  # one that no new connection repairs
        self.ended = threading.Event()
        self._backlog: dict[str, tuple[str, bool]] = {}
        """Jobs with no master and no place in a line, for which there was no room: their tokens, and whether urgent."""
        self._leader = leader
        self._observer = observer
        self._may_lead = may_lead
        self._watch = OrphanWatch(self.wheel.verbs, has_ended, leader.clock.now)
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
        if not self._watch.glance():
            return self._watch.pause
        due = {
            job: token
            for job, token in self._watch.orphans(self.wheel.leads).items()
            if job not in self.wheel.leads and self._setbacks.due(job)
        }
        hurry = self.wheel.verbs.urgent(list(due)) if due else set()
        self._backlog = {}
        for urgent in (True, False):
            self._lead_of({job: token for job, token in due.items() if (job in hurry) == urgent}, urgent=urgent)
        self.tender.stir()
        return self._watch.pause

    def _lead_of(self, due: dict[str, str], *, urgent: bool) -> None:
        """Take as many of these jobs as there is room for, and make room for the others."""
        line: list[str] = []
        if len(due) > self.wheel.room(urgent=urgent):  # the jobs at the head of the line go first
            line = self.wheel.verbs.line(urgent=urgent)
            due = {job: due[job] for job in line if job in due} | due
        for job, token in due.items():
            self.wheel.take(job, token, urgent=urgent)
        left = {job: token for job, token in due.items() if job not in self.wheel.leads}
        self._backlog |= {job: (token, urgent) for job, token in left.items() if job not in line}
        if left:
            self._make_room(urgent=urgent)

    def _make_room(self, *, urgent: bool) -> None:
        """Let go of the jobs that have been led for a long time, because others wait. A job that has counted nothing in
        that time waits longer for its next turn: perhaps no worker can compute it.
        """
        now = self._leader.clock.now()
        for job, lead in self.wheel.leads.items():
            if lead.urgent != urgent or lead.master is None or now - lead.since < STINT_SECONDS:
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
        following = next((name for name, (_, urgent) in self._backlog.items() if urgent == lead.urgent), None)
        if following is not None:
            token, urgent = self._backlog.pop(following)
            self.wheel.take(following, token, urgent=urgent)
        if turn.error is not None:
            if isinstance(turn.error, (Superseded, BrokerDown)):
                return
            why = str(turn.error)
            if not isinstance(turn.error, MrqError):  # an error of one job must not end the others
                why = f"it cannot be led: {told(turn.error)}; please report this"
            if self._setbacks.note(job, why):
                self.noticed(f"{job}: {why}")
        elif turn.ended is not None:
            self.noticed(f"{job} is {turn.ended.state.word}")
            self._leader.tidy(verbs)
        elif lead.master is not None and not self.wheel.closing and self._setbacks.due(job):
            verbs.hand_over(job, urgent=lead.urgent)  # the job gives way to others, and waits in the line again

    def noticed(self, text: str) -> None:
        """Pass on a line of text that a person may read."""
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

    At most ``most`` jobs are led at the same time. An outage of Redis does not end the call. ``may_lead`` is called
    with a job's state before that job is led, in the thread that would lead it. ``has_ended``: see ``OrphanWatch``.
    Raises BrokerError for what no new connection repairs.
    """
    adopters = Adopters(leader, observer, may_lead, has_ended, most)
    adopters.start()
    try:
        while not (stop.wait(END_SECONDS) or adopters.ended.is_set()):
            pass
    finally:
        adopters.close(CLOSE_SECONDS)
    if adopters.error is not None:
        raise adopters.error
