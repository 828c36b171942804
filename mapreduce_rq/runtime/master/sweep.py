"""A master's look around: who is alive, whose tasks go back to the queue, and where its own tasks are.

Looks prove a death only by their number (see core/fleet/liveness.py), and only looks that could write count: where a
full Redis refuses us, it refuses the workers' beats too.
"""

from __future__ import annotations

from collections.abc import Callable

from mapreduce_rq.broker.jobs import STRIKE_OFF, Jobs
from mapreduce_rq.core.fleet.give_back import given_back
from mapreduce_rq.core.fleet.liveness import OBITUARY, Watch
from mapreduce_rq.core.job.ledger import Surveyed
from mapreduce_rq.core.messages import LOST, Task
from mapreduce_rq.errors import BadMessage, BrokerError, BrokerFull, NoWorkers
from mapreduce_rq.runtime.clock import Clock

SWEEP_SECONDS = 3.0
FIRST_LOOK_SECONDS = 0.05
"""The first look comes early: how many workers there are decides how large to cut."""
LONELY_SWEEP_SECONDS = 0.5
"""As long as no worker is known, look more often, so that people hear of it within two seconds."""
NO_WORKERS_SECONDS = 1.0
"""Without a worker for so long, say so: local ones may still be starting."""
STALE_SECONDS = 15.0
"""A beat this old by the clocks, and never seen to change, is not counted as a worker one can hope for."""


class Sweeper:
    """Looks around for one job. ``expected``: local workers that may not have beaten yet."""

    def __init__(
        self, jobs: Jobs, clock: Clock, job: str, notice: Callable[[str], None], *, expected: int, wait: float | None
    ) -> None:
        self.workers = expected
        self.present: set[str] = set()  # ids of those that were alive at the last look
        self.sweeps = 0
        self.spec_bytes = 0  # in the job's hash, at the last look
        self._jobs = jobs
        self._clock = clock
        self._job = job
        self._notice = notice
        self._expected = expected
        self._wait = wait  # seconds to wait for a first worker; None: for ever
        self._watch = Watch()
        self._began = self._last_sweep = self._without_since = clock.now()
        self._last_look = float("-inf")  # that counted
        self._said = False
        self._met = False  # a worker has been seen
        self._full = False  # Redis was, at the last sweep

    @property
    def interval(self) -> float:
        """Seconds from one sweep to the next."""
        if self.sweeps == 0:
            return FIRST_LOOK_SECONDS
        return SWEEP_SECONDS if self.workers else LONELY_SWEEP_SECONDS

    def due_in(self, now: float) -> float:
        """Seconds until it is time; not above 0: it is."""
        return self._last_sweep + self.interval - now

    def hurry(self) -> None:
        """After a new connection: look at once, and start counting looks anew."""
        self._last_sweep = self._last_look = float("-inf")
        self._watch = Watch()
        self._without_since = self._clock.now()  # nobody could be seen meanwhile

    def despair(self, error: BrokerError) -> None:
        """Redis cannot be asked: no worker can be seen. Raises NoWorkers if a first one was waited for long enough."""
        if self._wait is not None and not self._met and self._clock.now() - self._began >= self._wait:
            raise NoWorkers(f"no worker came to queue {self._jobs.keys.name} within {self._wait:g} s: {error}")

    def sweep(self, now: float, hear: Callable[[int], None]) -> Surveyed | None:
        """Look around and reap; None if Redis is too full to look. Raises NoWorkers, BrokerDown.

        ``hear(n)`` reads at least ``n`` more replies, or all there are: what was answered before the look must be known
        before what is missing is called lost.
        """
        self._last_sweep = now
        self.sweeps += 1
        try:
            survey = self._jobs.survey(self._job, self.sweeps)
        except BrokerFull as error:
            self._without_since = now
            if not self._full:
                self._full = True
                self._notice(f"{error}; until then no worker can answer")
            return None
        if self._full:
            self._full = False
            self._notice("Redis takes answers again")
        self.spec_bytes = survey.spec_bytes
        hear(survey.replies)
        if now - self._last_look >= SWEEP_SECONDS * 0.9:  # the hurried looks of the start prove nobody's death
            self._last_look = now
            self._watch.look(survey.beats)
        dead, forgotten = set(self._watch.dead()), set(self._watch.forgotten())
        waiting = self._mine(survey.waiting)
        held: list[Task] = []
        for wid, raws in survey.held.items():
            if wid in dead:
                if raws or wid in forgotten:
                    self._reap(wid, survey.beats[wid], raws, strike_off=wid in forgotten)
                waiting += self._mine(raws)
            else:
                held += self._mine(raws)
        self.present = {
            wid
            for wid, beat in survey.beats.items()
            if wid not in dead and (self._watch.moved(wid) or not self._stale(wid, beat))
        }
        starting = self._expected if now - self._began < NO_WORKERS_SECONDS else 0
        self._count(max(len(self.present), starting), now)
        return Surveyed(waiting, held, self.workers, slack=not survey.waiting)

    def _mine(self, raws: list[bytes]) -> list[Task]:
        found = []
        for raw in raws:
            try:
                task = self._jobs.codecs.task.open(raw)
            except BadMessage:
                continue
            if task.job == self._job:
                found.append(task)
        return found

    def _reap(self, wid: str, beat: bytes, raws: list[bytes], *, strike_off: bool) -> None:
        given, why = reap_dead(self._jobs, wid, beat, raws, strike_off=strike_off)
        if given:
            self._notice(f"worker {wid.rpartition(':')[0]} is gone ({why}): {given} tasks given back")

    def _stale(self, wid: str, beat: bytes) -> bool:
        """Whether a beat is so old by the clocks that its worker should not be counted on. Decides nothing else."""
        try:
            at: float = self._jobs.codecs.beat.at(wid).open(beat).at
        except BadMessage:
            return True
        return abs(self._clock.wall() - at) > STALE_SECONDS

    def _count(self, alive: int, now: float) -> None:
        if alive and not self.workers and self._said:
            self._notice(f"{alive} worker{'s' * (alive > 1)} appeared")
            self._said = False
        self.workers = alive
        queue = self._jobs.keys.name
        if alive:
            self._without_since = now
            self._met = True
        elif self._wait is not None and now - self._without_since >= self._wait:
            raise NoWorkers(f"no worker came to queue {queue} within {self._wait:g} s")
        elif not self._said and now - self._without_since >= NO_WORKERS_SECONDS:
            self._said = True
            self._notice(f"0 workers on queue {queue}: start `mrq worker` with the same URL, or add --local 4; waiting")


def reap_dead(jobs: Jobs, wid: str, beat: bytes, raws: list[bytes], *, strike_off: bool) -> tuple[int, str]:
    """Give back what a dead worker holds, and perhaps strike it off: (how many tasks went back, why it is dead)."""
    obituary = beat.startswith(OBITUARY)
    in_hand = None
    why = LOST
    if obituary:
        why = beat.removeprefix(OBITUARY).decode(errors="replace")
    else:
        try:
            last = jobs.codecs.beat.at(wid).open(beat)
            in_hand = (last.job, last.lo, last.hi) if last.state != "idle" else None
        except BadMessage:
            pass
    # A supervisor that wrote an obituary has already given back and blamed what was in hand.
    moves = given_back(jobs.codecs, raws, in_hand, why, guess=not obituary)
    return jobs.reap(wid, STRIKE_OFF if strike_off else "", moves), why
