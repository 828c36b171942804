"""Makes the events of a job for the queue's journal."""

from __future__ import annotations

from mapreduce_rq.broker.journal import LONGEST_TEXT, Journal
from mapreduce_rq.core.job.record import Cancelled, Done, Record
from mapreduce_rq.core.messages import Event, What
from mapreduce_rq.core.text import plural
from mapreduce_rq.runtime.clock import Clock

News = Event
"""Another name for ``Event``, because the ledger has events, too."""


def event_of(journal: Journal, job: str, what: What, text: str, clock: Clock) -> News:
    """An event that happens now."""
    return News(job=job, what=what, by=journal.by, text=text[:LONGEST_TEXT], at=clock.wall())


def told_of_end(record: Record) -> tuple[What, str]:
    """The event for a job's end: its kind, and its text."""
    if isinstance(record, Done):
        skipped = f", {len(record.skipped)} left out" if record.skipped else ""
        return "done", f"{plural(record.terms_used, 'term')} counted in {record.elapsed_s:.3g} s{skipped}"
    if isinstance(record, Cancelled):
        return "cancelled", record.message
    return "failed", f"{record.kind}: {record.message}"
