"""How long workers and jobs have not changed, told by the looks of one process. Pure: it is given the time."""

from __future__ import annotations

from mapreduce_rq.broker.snapshot import Snapshot
from mapreduce_rq.core.job.record import State


class Changes:
    """How long a worker or a job has not changed, by our own clock: the clock of its host may be wrong."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[object, float]] = {}
        self._beating: set[str] = set()  # workers of whom we have seen two beats

    def look(self, snapshot: Snapshot, now: float) -> dict[str, float]:
        """Take in a snapshot. The seconds without a change, by id, for those that the snapshot before it had, too.

        A worker is left out until we have seen it change: it may have been silent for long before our first look.
        """
        beats: dict[str, object] = {one.wid: one.beat.count for one in snapshot.workers if one.beat is not None}
        signs = beats | {job.job: job.token for job in snapshot.jobs if job.state is State.RUNNING}
        before = self._last
        self._last = {
            name: before[name] if name in before and before[name][0] == sign else (sign, now)
            for name, sign in signs.items()
        }
        self._beating = {
            wid for wid in beats if wid in self._beating or (wid in before and before[wid][0] != beats[wid])
        }
        known = [name for name in signs if name in before and (name not in beats or name in self._beating)]
        return {name: now - self._last[name][1] for name in known}
