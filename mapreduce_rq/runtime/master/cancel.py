"""Cancels a job from any process, with or without a living master."""

from __future__ import annotations

from mapreduce_rq.broker.jobs import Jobs, Lost
from mapreduce_rq.broker.journal import Journal
from mapreduce_rq.core.job.ends import cancelled_record
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.job.timeline import ended
from mapreduce_rq.errors import BrokerError, NoSuchJob
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.fields import sealed_timeline
from mapreduce_rq.runtime.master.news import event_of, told_of_end
from mapreduce_rq.version import __version__

TRIES = 200
"""The number of tries: a master changes the token with each commit, and we may be too late at each try. After this
number it is not by chance.
"""
PAUSE_SECONDS = 0.01
"""Seconds between two tries. The pause grows with their number, so that all of them take 10 s at most."""


def cancel(
    jobs: Jobs,
    clock: Clock,
    job: str,
    *,
    now: bool = False,
    why: str = "cancelled",
    journal: Journal | None = None,
) -> State:
    """End a job without a result. Returns the state in which it ended (``done`` if the job ended first).

    Its master's next commit fails on the token, and its workers learn it from their next answer; with ``now``
    supervisors kill workers that have its tasks in hand. Raises NoSuchJob, BrokerError, BadMessage for a job that
    cannot be read.
    """
    for tries in range(TRIES):
        clock.sleep(min(tries, 5) * PAUSE_SECONDS)
        state = jobs.load(job)
        if state is None:
            raise NoSuchJob(f"there is no job {job} on queue {jobs.keys.name}: see `mrq jobs`")
        if not state.running:
            return state.state
        record = cancelled_record(state.spec, why, now=now)
        by = f" by {journal.by}" if journal is not None and journal.by else ""
        timeline = ended(
            state.timeline,
            job,
            began=state.spec.created,
            wall=clock.wall(),
            text=f"cancelled{by}" if why == "cancelled" else f"cancelled{by}: {why}",
            version=__version__,
        )
        answer = jobs.commit(
            job,
            state.token,
            f"0:{clock.random(8).hex()}:cancel",
            what="over",
            number=state.spec.limits.keep,
            fields=[
                ("state", record.state),
                ("master", ""),
                ("record", jobs.codecs.record.at(job).seal(record)),
                ("timeline", sealed_timeline(jobs.codecs, timeline)),
                ("since", b""),
            ],
        )
        if not isinstance(answer, Lost):
            if journal is not None:
                what, text = told_of_end(record)
                journal.tell([event_of(journal, job, what, text, clock)], ended=job, keep=state.spec.limits.keep)
            jobs.withdraw(job)
            jobs.forget_master(job)
            return State.CANCELLED
    raise BrokerError(
        f"{job} could not be cancelled: {jobs.keys.job(job)} changed before each of {TRIES} tries; try again"
    )
