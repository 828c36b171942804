"""The dashboard's knowledge: from looks at one queue or several, one after another.

A look is two round trips for each queue, for any number of jobs, terms and workers, and one more for the events since
the last look. A job's checkpoint and timeline are read only if its page is open. No look writes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from mapreduce_rq.broker.connection import Endpoint
from mapreduce_rq.broker.detail import Detail, read_detail
from mapreduce_rq.broker.journal import BEGINNING
from mapreduce_rq.broker.snapshot import JobView, Snapshot, WorkerView
from mapreduce_rq.cli.connect import Place
from mapreduce_rq.cli.screen.changes import Changes
from mapreduce_rq.cli.screen.happenings import Happenings
from mapreduce_rq.cli.screen.picture import Known
from mapreduce_rq.cli.screen.views import Seen, worker_state
from mapreduce_rq.core.job.record import State
from mapreduce_rq.errors import BrokerDown, BrokerError

MOST_ERRORS = 400
"""The number of looks for which the error of a job's running value is remembered."""
MOST_LOOKS = 1000


class Watching:
    """Looks at these queues. ``down_since``: when Redis last stopped answering, by ``time.monotonic``."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = list(places)
        self.snapshot: Snapshot | None = None
        self.seen = Seen(0.0)
        self.took = 0.0
        self.down_since: float | None = None
        self._before: list[Snapshot | None] = [None] * len(self.places)
        self._after = [BEGINNING] * len(self.places)
        self._down: set[int] = set()
        self._at: dict[str, Place] = {}  # by job
        self._changes = Changes()
        self._events = Happenings()
        self._errors: dict[str, deque[float]] = {}
        self._busy: dict[str, tuple[int, int]] = {}
        self._details: dict[str, Detail] = {}

    @property
    def url(self) -> str:
        """The server's URL, without passwords."""
        return ", ".join(dict.fromkeys(str(place.wire.endpoint) for place in self.places))

    def look(self, *pages: str) -> None:
        """Look at all queues. ``pages``: jobs whose pages are open. Raises BrokerDown if the first look fails."""
        now = time.monotonic()
        silent: set[Endpoint] = set()
        for index, place in enumerate(self.places):
            if place.wire.endpoint in silent and self._before[index] is not None:
                self._down.add(index)  # another queue of the same server: to ask again would only take time
                continue
            try:
                if index in self._down:
                    place.wire.connect()
                self.took = place.round_trip()
                self._before[index] = place.snapshot(self._before[index])
                self._after[index], events, _ = place.journal.read(self._after[index])
                self._events.read(events)
                self._down.discard(index)
            except BrokerDown:
                if self._before[index] is None:
                    raise
                self._down.add(index)
                silent.add(place.wire.endpoint)
        self._note_outage(now)
        found = [one for one in self._before if one is not None]
        self._at = {
            job.job: place
            for place, one in zip(self.places, self._before, strict=True)
            if one is not None
            for job in one.jobs
        }
        self.snapshot = merged(found)
        if self.down_since is None:
            self.seen = Seen(time.time(), self._changes.look(self.snapshot, now))
            self._events.look(self.snapshot, self.seen)
            self._remember(self.snapshot)
            self._details = {
                job: detail for job in dict.fromkeys(pages) if (detail := self._read_detail(job)) is not None
            }

    def rest(self) -> None:
        """Note that there was no look for a while: a change in the next look may be old, so it is not an event.

        The connections may have been cut meanwhile, which is not an outage of Redis: they are made anew.
        """
        self._events.rest()
        for place in self.places:
            with suppress(BrokerDown):  # the next look says so
                place.wire.connect()

    def _note_outage(self, now: float) -> None:
        if self._down and self.down_since is None:
            self.down_since = now
            self._events.away(time.time())
        elif not self._down and self.down_since is not None:
            self._events.back(time.time(), now - self.down_since)
            self.down_since = None

    def _remember(self, snapshot: Snapshot) -> None:
        running = {job.job: job for job in snapshot.jobs if job.state is State.RUNNING}
        for name, job in running.items():
            if job.report.error is not None:
                errors = self._errors.setdefault(name, deque(maxlen=MOST_ERRORS))
                if not errors or errors[-1] != job.report.error:
                    errors.append(job.report.error)
        listed = {job.job for job in snapshot.jobs}
        self._errors = {name: errors for name, errors in self._errors.items() if name in listed}
        looks = {}
        for one in snapshot.workers:
            times, of = self._busy.get(one.wid, (0, 0))
            if of >= MOST_LOOKS:
                times, of = times // 2, of // 2
            looks[one.wid] = (times + (worker_state(one, self.seen) == "busy"), of + 1)
        self._busy = looks

    def _read_detail(self, job: str) -> Detail | None:
        place = self._at.get(job)
        if place is None or self.snapshot is None:
            return None
        shown = self.snapshot.job(job)
        known = self._details.get(job)
        if known is not None and known.timeline is not None and shown is not None and shown.record:
            return known  # it has ended, and changes no more
        try:
            return read_detail(place.wire, place.keys, place.codecs, job)
        except BrokerDown:
            return known
        except BrokerError as error:
            return Detail(job, why=str(error))

    def place_of(self, job: str) -> Place | None:
        """The queue of a job."""
        return self._at.get(job)

    def known(self, page: str = "") -> Known:
        """The facts that are known besides the snapshot. ``page``: the job whose page is open."""
        return Known(self._events.listed(), self._details.get(page), tuple(self._errors.get(page, ())), self._busy)

    def close(self) -> None:
        """Close the connections."""
        for place in self.places:
            place.wire.close()


def merged(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Several queues as one snapshot. A worker on several queues is there once; the server is that of the first."""
    first = snapshots[0]
    if len(snapshots) == 1:
        return first
    jobs: list[JobView] = [job for one in snapshots for job in one.jobs]
    workers: dict[str, WorkerView] = {}
    for one in snapshots:
        for worker in one.workers:
            other = workers.get(worker.wid)
            kept = worker if other is None or other.beat is None else other
            workers[worker.wid] = kept if other is None else replace(kept, held=worker.held + other.held)
    return replace(
        first,
        queue=", ".join(one.queue for one in snapshots),
        jobs=tuple(sorted(jobs, key=lambda job: (-job.created, job.job))),
        workers=tuple(sorted(workers.values(), key=lambda one: one.address)),
        waiting=sum(one.waiting for one in snapshots),
        in_flight=sum(one.in_flight for one in snapshots),
        known_jobs=sum(one.known_jobs for one in snapshots),
        dropped=sum(one.dropped for one in snapshots),
        why_dropped=next((one.why_dropped for one in snapshots if one.why_dropped), ""),
        unread_jobs=sum(one.unread_jobs for one in snapshots),
        unread_workers=sum(one.unread_workers for one in snapshots),
    )
