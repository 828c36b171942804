"""What the workers of a shop compute: functions of its own, imported where its rq workers run."""

from __future__ import annotations

import hashlib

from rq import get_current_job
from rq.job import Job


def revenue(day: int) -> float:
    """Of one day, made up: as if it were read from somewhere."""
    return int.from_bytes(hashlib.blake2b(b"%d" % day, digest_size=4).digest(), "big") / 100


def announce(job: str) -> str:
    """An RQ job that depends on a map-reduce: what is to be done with its value."""
    current = get_current_job()
    assert current is not None
    total = Job.fetch(job, connection=current.connection).return_value()
    return f"revenue: {total:,.2f}"
