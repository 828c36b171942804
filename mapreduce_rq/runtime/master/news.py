"""The events of a job that are written to the queue's journal."""

from __future__ import annotations

from mapreduce_rq.broker.journal import LONGEST_TEXT, Journal
from mapreduce_rq.core.job.record import Cancelled, Done, Record
from mapreduce_rq.core.messages import Event, What
from mapreduce_rq.runtime.clock import Clock

News = Event
"""As the ledger's events are called so, too."""


def event_of(journal: Journal, job: str, what: What, text: str, clock: Clock) -> News:
    """An event that happens now."""
    return News(job=job, what=what, by=journal.by, text=text[:LONGEST_TEXT], at=clock.wall())


def told_of_end(record: Record) -> tuple[What, str]:
    """What is told of a job's end: which event, and its text."""
    if isinstance(record, Done):
        skipped = f", {len(record.skipped)} left out" if record.skipped else ""
        return "done", f"{record.terms_used} terms counted in {record.elapsed_s:.3g} s{skipped}"
    if isinstance(record, Cancelled):
        return "cancelled", record.message
    return "failed", f"{record.kind}: {record.message}"
