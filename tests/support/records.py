"""Records of jobs that have ended, to be shown, stored and forged."""

from __future__ import annotations

from typing import Any

from mapreduce_rq.core.job.record import Cancelled, Done, Failed


def done(job: str = "exp-a", **changes: Any) -> Done:
    """The record of a job that ended with a value."""
    fields: dict[str, Any] = {
        "params": {}, "value": "7.389", "number": 7.389, "bound": "0.1", "bound_kind": "proven", "terms": 50,
        "terms_used": 50, "tasks": 4, "workers": 2, "elapsed_s": 0.5, "digest": "00ff", "ended": "all", "skipped": [],
        "details": {}, "notes": [],
    }  # fmt: skip
    return Done(job=job, computation="exp", **fields | changes)


def failed(job: str = "exp-a", **changes: Any) -> Failed:
    """The record of a job that failed."""
    fields: dict[str, Any] = {
        "params": {}, "term": 3, "span": (3, 4), "kind": "ValueError", "message": "no", "traceback": "", "where": "h:1",
    }  # fmt: skip
    return Failed(job=job, computation="exp", **fields | changes)


def cancelled(job: str = "exp-a", *, now: bool = False, message: str = "cancelled") -> Cancelled:
    """The record of a job that somebody cancelled."""
    return Cancelled(job=job, computation="exp", message=message, now=now)
