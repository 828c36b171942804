"""How long workers and jobs have not changed, told by the looks of one process. Pure: it is given the time."""

from __future__ import annotations

from mapreduce_rq.broker.snapshot import Snapshot
from mapreduce_rq.core.job.record import State


class Changes:
    """How long a worker or a job has not changed, by our own clock: the clock of its host may be wrong."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[object, float]] = {}

    def look(self, snapshot: Snapshot, now: float) -> dict[str, float]:
        """Take in a snapshot. The seconds without a change, by id, for those that the snapshot before it had, too."""
        signs: dict[str, object] = {one.wid: one.beat.count for one in snapshot.workers if one.beat is not None}
        signs |= {job.job: job.token for job in snapshot.jobs if job.state is State.RUNNING}
        before = self._last
        self._last = {
            name: before[name] if name in before and before[name][0] == sign else (sign, now)
            for name, sign in signs.items()
        }
        return {name: now - self._last[name][1] for name in signs if name in before}
