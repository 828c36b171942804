"""Limits the number of ended jobs that a queue remembers, and deletes their records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mapreduce_rq.broker.job_hash import text_of
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.core.job.record import State
from mapreduce_rq.errors import BrokerError

AT_ONCE = 500
"""The number of jobs that are read together."""
MAX_RECORDS = 1000
"""The number of ended jobs that a queue remembers, each for the seconds of its ``keep``."""
MAX_DETACHED = 10_000
"""The same number if the older jobs are detached: their submitter has left, and comes for the result later."""


def prune(verbs: Jobs, keep: int = MAX_RECORDS) -> int:
    """Delete the oldest ended jobs beyond ``keep`` listed ones, and expired ids from the list. Returns their number.

    Detached jobs stay, up to MAX_DETACHED listed ones.
    """
    oldest = [text_of(job) for job in verbs.wire.call("ZRANGE", verbs.keys.jobs, 0, -1 - keep)]
    excess = max(0, len(oldest) + keep - MAX_DETACHED)
    return delete_ended(verbs, oldest[:excess]) + delete_ended(verbs, oldest[excess:], detached=False)


def delete_ended(verbs: Jobs, jobs: Sequence[str], *, detached: bool = True) -> int:
    """Delete those of these jobs that do not run, and remove them from the list. Returns their number.

    ``detached``: delete detached jobs, too.
    """
    wire, keys = verbs.wire, verbs.keys
    deleted = 0
    for at in range(0, len(jobs), AT_ONCE):
        some = jobs[at : at + AT_ONCE]
        rows = wire.pipeline([("HMGET", keys.job(job), "state", "detached") for job in some], refusals=True)
        over = [job for job, row in zip(some, rows, strict=True) if _is_over(row, detached)]
        if over:
            gone = [
                key for job in over for key in (keys.job(job), keys.values(job), keys.bodies(job), keys.pieces(job))
            ]
            wire.transaction([("UNLINK", *gone), ("ZREM", keys.jobs, *over)])
        deleted += len(over)
    return deleted


def _is_over(row: Any, detached: bool) -> bool:
    """Whether a job does not run and may be deleted; also true for data that is not a job."""
    if isinstance(row, BrokerError):
        return True
    state, kept = row
    return state != State.RUNNING.encode() and (detached or not kept)
