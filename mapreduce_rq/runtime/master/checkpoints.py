"""When a job's checkpoint is due, and what is known of the last one.

A checkpoint costs the master time, and without it another master would read all replies again. So it is due after some
tasks, or a second with news; the longer the last one took, the longer the next waits.
"""

from __future__ import annotations

from mapreduce_rq.core.job.ledger import Ledger

CHECKPOINT_SECONDS = 1.0
CHECKPOINT_TASKS = 32
"""Tasks counted after which a checkpoint is due before CHECKPOINT_SECONDS have passed, or half of a large window."""
CHECKPOINT_SHARE = 20
"""The next checkpoint waits for this many times the time that the last one took: they take 5 % of the time at most."""


class Checkpoints:
    """The checkpoints of one job. Times are of the master's clock."""

    def __init__(self, now: float) -> None:
        self.uncommitted = 0  # tasks counted since the last one
        self.stored = -1  # terms that were counted in it, if it is certain to be in Redis
        self.at = 0.0  # when, by the clock on the wall
        self.too_large = False  # the fold does not fit into Redis, and only our caller needs it
        self._last = now
        self._cost = 0.0

    def due(self, ledger: Ledger, now: float) -> bool:
        """Whether the next commit is to carry one."""
        if not self.uncommitted or self.too_large:
            return False
        since = now - self._last
        if since < CHECKPOINT_SHARE * self._cost:
            return False
        if ledger.requests:  # now, while workers are busy with these; later there is no news
            return self.stored != ledger.counted
        return since >= CHECKPOINT_SECONDS or self.uncommitted > max(CHECKPOINT_TASKS, ledger.pace.window() // 2)

    def began(self, now: float) -> None:
        """The job was created, with an empty one."""
        self._last = now

    def written(self, counted: int, started: float, now: float) -> None:
        """One is in Redis, that took from ``started`` until now."""
        self.uncommitted = 0
        self.stored = counted
        self._last = now
        self._cost = now - started
