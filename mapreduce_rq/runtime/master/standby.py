"""A standby: it watches a running job, and says when the job needs a new master.

A master's token changes at least every second. If a token has not changed in DEAD_AFTER looks, POLL_SECONDS apart, its
master counts as dead. A master that lets go of its job says so in Redis, and then the job can be taken over at once.
Looks that Redis does not answer do not count.

**How long this takes.** There are two times, and only one of them is for safety. The *patience* is how long a token
must stay the same before its master counts as dead: DEAD_AFTER * POLL_SECONDS = 10 s, ten times the beat of a living
master. It spares a master that is slow, swapped out or behind a network that stutters. With a shorter one, more jobs
would be taken from masters that live. The *blur* is how much later than that we notice: we do not see when the token
changed last, but only our next look at it. So it is one interval between looks, and a shorter blur costs no safety.
Therefore there are GLANCES looks in each POLL_SECONDS, and each of them counts as a part of a look. A dead master's job
is taken over 10 to 10.5 s after its last beat. With one look in two seconds it was 10 to 12 s.

A glance must be cheap, since every process that stands by makes it. It reads three short fields of each job that
another process leads, and neither the list of all jobs nor what is counted. If nobody else leads a job, or others lead
more than MOST_GLANCED, there are only the looks at all jobs: glances of hundreds of hosts at thousands of jobs would
cost too much.

A pause of the observer, or an outage, counts as one look at most, however long it was.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from msgspec.structs import replace

from mapreduce_rq.broker.job_hash import JobState, token_bytes
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.core.fleet.liveness import DEAD_AFTER, Watch
from mapreduce_rq.core.job.record import Done, Report
from mapreduce_rq.errors import BrokerDown, BrokerFull, NoSuchJob
from mapreduce_rq.runtime.clock import Backoff, Clock
from mapreduce_rq.runtime.master.observer import Observer

POLL_SECONDS = 2.0
GLANCES = 4
"""Looks at a job's token in each POLL_SECONDS."""
GLANCE_SECONDS = POLL_SECONDS / GLANCES
MOST_GLANCED = 100
"""The most jobs of other masters at whose tokens a process looks that often."""
QUIET_SECONDS = 5.0
"""Seconds without a sign of life after which a master may be dead: a living one writes every second."""
AGAIN_SECONDS = 60.0
"""Seconds after which a job that could not be led here is tried again: a missing module may be installed by then."""


OVER_LOOKS = 30
"""A job that does not run is left out for this number of looks: it runs again only if a failover has undone its end."""
HINTED_LOOKS = 2
"""The number of looks without a change that is enough if RQ has seen the end of the RQ job that led the job."""

Leases = Mapping[str, tuple[str, str]]
"""Running jobs, each with its token and its master; see ``Jobs.leases``."""


class OrphanWatch:
    """Watches all jobs of a queue, and finds those whose master is dead.

    ``has_ended`` returns whether RQ has seen the end of an RQ job's run. If that run was the master, fewer looks are
    needed. If the master lives all the same, fencing makes sure that it changes nothing after another has taken over.
    ``now``: the observer's own clock, in seconds; only pauses between its own looks are measured.
    """

    def __init__(
        self,
        jobs: Jobs,
        has_ended: Callable[[str], bool] = lambda _: False,
        now: Callable[[], float] = Clock.now,
    ) -> None:
        self.jobs = jobs
        self._has_ended = has_ended
        self._now = now
        self._looked_at = now()
        self._watch = Watch()
        self._over: dict[str, int] = {}  # jobs that did not run, each with the number of looks until it is read again
        self._glanced: list[str] = []  # jobs that others lead, unless these are many
        self._glances = 0  # since the last look at all jobs
        self._found: set[str] = set()  # the orphans of that look

    @property
    def pause(self) -> float:
        """Seconds until the next :meth:`glance`."""
        return GLANCE_SECONDS if self._glanced else POLL_SECONDS

    def glance(self) -> bool:
        """Look at the tokens of the jobs that others lead. Returns whether it is time for a look at all jobs.

        Call it every ``pause`` seconds. Raises BrokerError.
        """
        self._glances += 1
        if not self._glanced or self._glances >= GLANCES:
            return True
        leases = self.jobs.leases(self._glanced)
        self._look(leases)
        return not self._orphaned(leases) <= self._found

    def orphans(self, led: Container[str] = ()) -> dict[str, str]:
        """Running jobs whose master is dead or has let go, with their tokens; the oldest first.

        ``led``: the jobs that this process leads. Raises BrokerError.
        """
        leases = self._leases()
        self._look(leases)
        self._found = self._orphaned(leases)
        others = [job for job, (_, master) in leases.items() if master and job not in led]
        self._glanced = others if len(others) <= MOST_GLANCED else []
        self._glances = 0
        return {job: token for job, (token, _) in leases.items() if job in self._found}

    def _leases(self) -> Leases:
        """As ``Jobs.leases``, without most of the ended jobs, whose records stay listed for a day."""
        listed = self.jobs.listed()
        due = [job for job in listed if self._over.get(job, 0) <= 0]
        leases = self.jobs.leases(due)
        asked = set(due)
        self._over = {job: OVER_LOOKS if job in asked else self._over[job] - 1 for job in listed if job not in leases}
        return leases

    def _look(self, leases: Leases) -> None:
        now = self._now()
        worth = min(1.0, (now - self._looked_at) / POLL_SECONDS)
        self._looked_at = now
        self._watch.look({job: token_bytes(token) for job, (token, _) in leases.items()}, worth)

    def _orphaned(self, leases: Leases) -> set[str]:
        dead = set(self._watch.dead())
        for job in set(self._watch.dead(HINTED_LOOKS)) - dead:
            host = self.jobs.host(job)
            if host and self._has_ended(host):
                dead.add(job)
        return dead | {job for job, (_, master) in leases.items() if not master}


class Setbacks:
    """Jobs that could not be led here: each is tried again after AGAIN_SECONDS, and each reason is reported once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._again: dict[str, float] = {}
        self._told: dict[str, str] = {}

    def due(self, job: str) -> bool:
        """Whether to try this job now."""
        return self._clock.now() >= self._again.get(job, 0.0)

    def put_off(self, job: str) -> None:
        """Try this job later, after others."""
        self._again[job] = self._clock.now() + AGAIN_SECONDS

    def note(self, job: str, why: str) -> bool:
        """Note that this job could not be led. Returns whether the reason is new."""
        self.put_off(job)
        told = self._told.get(job)
        self._told[job] = why
        return told != why


class Standby:
    """Watches one job. ``stop`` may be set from another thread."""

    def __init__(
        self,
        jobs: Jobs,
        clock: Clock,
        job: str,
        observer: Observer,
        *,
        takes_over: bool = True,
        looks: int = DEAD_AFTER,
    ) -> None:
        self.jobs = jobs
        self.clock = clock
        self.job = job
        self.observer = observer
        self.stop = False
        self.led: bool | None = None  # whether a master leads the job; None: it is not known yet
        self._takes_over = takes_over
        self._looks = looks
        self._report = Report()

    def wait(self) -> JobState | None:
        """Wait until the job is over or can be taken over, and return it; None if told to ``stop``.

        Raises NoSuchJob, BrokerRefused. An outage does not end the call.
        """
        watch = Watch()
        backoff = Backoff()
        connected = True
        said: set[str] = set()
        while not self.stop:
            try:
                if not connected:
                    self.jobs.wire.connect()
                    connected, watch, backoff = True, Watch(), Backoff()
                state = self.jobs.load(self.job)
                if state is None:
                    raise NoSuchJob(f"there is no job {self.job} on queue {self.jobs.keys.name}: see `mrq jobs`")
                for fault in state.faults:
                    if fault not in said:
                        self.observer.noticed(fault)
                said |= set(state.faults)
                if not state.running or not state.master:
                    self.led = False
                    self._tell_end(state)
                    return state
                watch.look({self.job: token_bytes(state.token)}, 1 / GLANCES)
                if watch.dead(self._looks):
                    self.led = False
                    return state
                self._judge(watch, state)
                if state.report is not None:
                    self._report = state.report
                    self.observer.progressed(lambda: self._report)
                self._pause(watch)
            except (BrokerDown, BrokerFull) as error:
                if connected:
                    self.observer.noticed(f"{error}; trying again")
                connected = False
                self.clock.sleep(backoff.next())
        return None

    def _pause(self, watch: Watch) -> None:
        """Wait until it is time to read the whole job again. Meanwhile look only at its token."""
        for left in reversed(range(GLANCES)):
            self.clock.sleep(GLANCE_SECONDS)
            if self.stop or not left:
                return
            token, master = self.jobs.leases([self.job]).get(self.job, ("", ""))
            if not master:
                return  # it has ended, or its master has let go
            watch.look({self.job: token_bytes(token)}, 1 / GLANCES)
            if watch.dead(self._looks):
                return

    def _tell_end(self, state: JobState) -> None:
        """Give the observer the last report: the job may have ended long after our last look at its report."""
        if isinstance(record := state.record, Done):
            last = state.report or self._report
            self._report = replace(last, counted=record.counted, total=record.terms, out=0, value=record.value)
            self.observer.progressed(lambda: self._report)

    def _judge(self, watch: Watch, state: JobState) -> None:
        """Decide whether a master leads the job: at first by the age of its report, afterwards by its token."""
        looks = watch.unchanged(self.job)
        moved = watch.moved(self.job)
        if moved and looks < 1:
            self.led = True
            return
        reported = state.report.at if state.report is not None else 0.0
        age = 0.0 if moved else self.clock.wall() - (reported or state.spec.created)
        quiet = max(age, looks * POLL_SECONDS)
        if quiet < QUIET_SECONDS or self.led is False:
            return
        self.led = False
        left = (self._looks - looks) * POLL_SECONDS
        then = f"taking over in {left:.0f} s" if self._takes_over else f"mrq resume {self.job}"
        self.observer.noticed(f"no sign of its master for {quiet:.0f} s; {then}, unless one comes")
