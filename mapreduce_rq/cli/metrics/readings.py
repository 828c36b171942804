"""Makes a queue's gauges and counters from snapshots. Pure; the size is bounded for any number of jobs.

Counters count events from the first look on. If they counted earlier ones, each new start of this process would look
like a sudden burst in a rate.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from mapreduce_rq.broker.snapshot import JobView, Snapshot
from mapreduce_rq.cli.screen.views import WORKER_ORDER, Seen, worker_state
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.job.timeline import BUCKETS, Timeline
from mapreduce_rq.core.messages import Event

WANTED_SECONDS = 30.0
"""Seconds in which the known work should be done; the number of wanted workers follows from this."""
SAME_DEATH_SECONDS = 60.0
"""Seconds. The masters of all jobs that run report a worker's death, each at its next look around: events about the
same worker within this time are about one death.
"""
MOST_DEAD = 1000
"""The number of dead workers that are remembered for this, the newest ones."""
JOB_STATES = ("running", "done", "failed", "cancelled")


def uncut_tasks(job: JobView) -> int:
    """The number of tasks that the uncut terms of a running job will make, at the present size of tasks.

    0 if the total is not known, and in a job's first second: its first tasks are in the queue then.
    """
    report = job.report
    if job.state is not State.RUNNING or report.total is None or not report.chunk:
        return 0
    return -(-max(0, report.total - report.cut) // report.chunk)


def backlog(snapshot: Snapshot) -> int:
    """Tasks that are waiting, in workers' hands, or not cut yet."""
    return snapshot.waiting + snapshot.in_flight + sum(map(uncut_tasks, snapshot.jobs))


def workers_wanted(snapshot: Snapshot) -> int:
    """The number of workers that would do the known work within WANTED_SECONDS; at most one per task.

    0 only if there is no work. If no speed is known yet, one worker is wanted, which finds it out.
    """
    tasks = backlog(snapshot)
    if not tasks:
        return 0
    seconds = 0.0
    for job in snapshot.jobs:
        report = job.report
        if job.state is State.RUNNING and report.total is not None and report.rate > 0:
            seconds += (report.total - report.counted) / report.rate * max(1, report.workers)
    return min(tasks, max(1, math.ceil(seconds / WANTED_SECONDS)))


def workers_by_state(snapshot: Snapshot, seen: Seen) -> dict[str, int]:
    """The number of workers in each state; all states are there."""
    found = Counter(worker_state(one, seen) for one in snapshot.workers)
    return {state: found[state] for state in WORKER_ORDER}


def jobs_by_state(snapshot: Snapshot) -> dict[str, int]:
    """The number of jobs in each state, of those that a snapshot reads; all states are there."""
    found = Counter(job.state.word for job in snapshot.jobs)
    return {state: found[state] for state in JOB_STATES}


def checkpoint_age(snapshot: Snapshot, seen: Seen) -> float | None:
    """Seconds since the oldest checkpoint of a running job; None if no running job has one."""
    saved = [job.report.saved for job in snapshot.jobs if job.state is State.RUNNING and job.report.saved]
    return max(0.0, seen.at - min(saved)) if saved else None


@dataclass
class Totals:
    """Counters: they only grow."""

    terms: int = 0
    tasks: int = 0
    duplicates: int = 0
    dropped: int = 0
    events: Counter[str] = field(default_factory=Counter)
    buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)  # tasks by the bits of their nanoseconds
    task_seconds: float = 0.0
    lost: int = 0  # workers

    def __post_init__(self) -> None:
        self._before: dict[str, tuple[int, int, int, int]] | None = None
        self._ended: set[str] = set()  # jobs whose timelines are counted, or ended before the first look
        self._dead: dict[str, float] = {}  # by the name of a lost worker, the time of the last event about it

    def look(self, snapshot: Snapshot) -> list[str]:
        """Count what is new. Returns the jobs that have ended since the look before: their timelines are to come."""
        first, before = self._before is None, self._before or {}
        now: dict[str, tuple[int, int, int, int]] = {}
        for job in snapshot.jobs:
            report = job.report
            was = before.get(job.job, (0, 0, 0, 0))
            # A master that took over counts its answers anew: a count never falls here.
            reads = (report.counted, report.tasks, report.ignored, report.dropped)
            now[job.job] = tuple(map(max, reads, was))  # type: ignore[assignment]  # four of four
            if not first:
                self.terms += now[job.job][0] - was[0]
                self.tasks += now[job.job][1] - was[1]
                self.duplicates += now[job.job][2] - was[2]
                self.dropped += now[job.job][3] - was[3]
        self._before = now
        ended = {job.job for job in snapshot.jobs if job.state is not State.RUNNING}
        new = [] if first else sorted(ended - self._ended)
        self._ended = ended
        return new

    def happened(self, events: Iterable[Event]) -> None:
        """Count events, and workers that were lost."""
        for event in events:
            self.events[event.what] += 1
            if event.what == "worker lost":
                name = event.text.partition(": ")[0]
                self.lost += abs(event.at - self._dead.pop(name, -math.inf)) > SAME_DEATH_SECONDS
                self._dead[name] = event.at
                if len(self._dead) > MOST_DEAD:
                    del self._dead[next(iter(self._dead))]

    def ran(self, timeline: Timeline) -> None:
        """Count the tasks of a job that has ended."""
        for bits, tasks in enumerate(timeline.buckets[:BUCKETS]):
            self.buckets[bits] += max(0, tasks)
        self.task_seconds += sum(max(0, cell) for row in timeline.rows for cell in row.cells[3::4]) / 1e6
