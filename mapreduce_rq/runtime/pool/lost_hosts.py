"""A supervisor's look at all workers of the queue: workers of lost hosts are removed, and their tasks go back to the
queue.

Masters do the same, and earlier (see sweep.py), but only while they live. On a queue of short jobs no master lives long
enough to be certain of a death.
"""

from __future__ import annotations

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.core.fleet.liveness import Watch
from mapreduce_rq.runtime.master.sweep import reap_dead

LOOK_SECONDS = 30.0
"""Seconds between two looks. They are rare: there may be many supervisors, and each reads all entries."""


class LostHosts:
    """Looks around for one supervisor."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._watch = Watch()
        self._look_at = float("-inf")

    def look(self, now: float) -> None:
        """Look if it is time. Call this only after beats could be written: otherwise no worker's beat could be written,
        and all would look dead. Raises BrokerError.
        """
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        entries = self._jobs.registry()
        self._watch.look(entries)
        forgotten = set(self._watch.forgotten())
        for wid in self._watch.dead():
            held = self._jobs.hand(wid)
            if held or wid in forgotten:
                reap_dead(self._jobs, wid, entries[wid], held, strike_off=wid in forgotten)
