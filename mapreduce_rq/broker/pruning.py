"""What a queue remembers of ended jobs, and how their records are deleted."""

from __future__ import annotations

from collections.abc import Sequence

from mapreduce_rq.broker.job_hash import text_of
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.core.job.record import State

AT_ONCE = 500
"""Jobs that are asked for together."""
MAX_RECORDS = 1000
"""Ended jobs that a queue remembers, each for the time that its ``keep`` says."""


def prune(verbs: Jobs, keep: int = MAX_RECORDS) -> int:
    """Delete the oldest ended jobs beyond ``keep`` listed ones, and expired ids from the list. Returns how many."""
    oldest = verbs.wire.call("ZRANGE", verbs.keys.jobs, 0, -1 - keep)
    return delete_ended(verbs, [text_of(job) for job in oldest])


def delete_ended(verbs: Jobs, jobs: Sequence[str]) -> int:
    """Delete those of these jobs that do not run, and take them off the list. Returns how many."""
    wire, keys = verbs.wire, verbs.keys
    deleted = 0
    for at in range(0, len(jobs), AT_ONCE):
        some = jobs[at : at + AT_ONCE]
        states = wire.pipeline([("HGET", keys.job(job), "state") for job in some], refusals=True)
        over = [job for job, state in zip(some, states, strict=True) if state != State.RUNNING.encode()]
        if over:
            gone = [key for job in over for key in (keys.job(job), keys.values(job), keys.bodies(job))]
            wire.transaction([("UNLINK", *gone), ("ZREM", keys.jobs, *over)])
        deleted += len(over)
    return deleted
