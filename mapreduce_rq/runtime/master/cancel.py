"""Cancel a job from anywhere, with or without a master alive."""

from __future__ import annotations

from mapreduce_rq.broker.jobs import Jobs, Lost
from mapreduce_rq.core.job.record import SCHEMA
from mapreduce_rq.errors import NoSuchJob
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.pool.supervisor import CANCELLED_NOW


def cancel(jobs: Jobs, clock: Clock, job: str, *, now: bool = False, why: str = "cancelled") -> str:
    """End a job without a result; the state it ended in (which may be ``done`` if it was quicker).

    Its master's next commit fails on the token, its workers learn from their next answer; with ``now`` their
    supervisors kill what is in hand. Raises NoSuchJob.
    """
    while True:
        state = jobs.load(job)
        if state is None:
            raise NoSuchJob(f"there is no job {job} on queue {jobs.keys.name}: see `mrq jobs`")
        if state.state != "running":
            return state.state
        record = {
            "schema": SCHEMA,
            "job": job,
            "computation": state.spec.computation,
            "kind": "Cancelled",
            "message": why,
        }
        answer = jobs.commit(
            job,
            state.token,
            f"0:{clock.random(8).hex()}:cancel",
            what="over",
            number=state.spec.limits.keep,
            fields=[
                ("state", CANCELLED_NOW if now else "cancelled"),
                ("master", ""),
                ("record", jobs.codecs.record.seal(record)),
            ],
        )
        if not isinstance(answer, Lost):
            jobs.withdraw(job)
            jobs.forget_master(job)
            return "cancelled"
