"""Decides when a job's checkpoint is due, and remembers the last one.

A checkpoint takes time; without it, another master would have to read all replies again. So one is due after some
tasks, or after a second with news. The longer the last one took, the longer the next one waits. After one of some
megabytes the next one waits for answers of some times its size: where a fold keeps all values, as lists by key do, it
would otherwise carry the same values again and again.

A job that fails or is cancelled writes no further checkpoint: a retry of it goes on from the last one. It is a new job
with a stream of its own, so no answer to the old job is counted in it, and what came after the checkpoint is computed
again: time is lost, and no term is counted twice.
"""

from __future__ import annotations

from mapreduce_rq.core.job.ledger import Ledger

CHECKPOINT_SECONDS = 1.0
CHECKPOINT_TASKS = 32
"""After this number of counted tasks (or half of a large window) a checkpoint is due before CHECKPOINT_SECONDS."""
CHECKPOINT_SHARE = 20
"""The next checkpoint waits for the time that the last one took, times this: so they take 5 % of the time at most."""
HEAVY_BYTES = 1024 * 1024
"""A checkpoint of at least this number of bytes is heavy."""
HEAVY_TIMES = 4
"""After a heavy checkpoint the next one waits for answers of this many times its bytes. Another master would read these
answers again, as it does those of a list."""


class Checkpoints:
    """The checkpoints of one job. Times are of the master's clock."""

    def __init__(self, now: float) -> None:
        self.uncommitted = 0  # tasks counted since the last checkpoint
        self.stored = -1  # the terms counted in the last one that is certainly in Redis
        self.at = 0.0  # its time, in unix seconds
        self.too_large = False  # only our caller needs the fold, which does not fit into Redis or is large
        self.heard = 0  # bytes of the answers since the last one, if that was heavy
        self._size = 0
        self._last = now
        self._cost = 0.0

    @property
    def has_news(self) -> bool:
        """Whether something was counted since the last one, and the next one will have it."""
        return self.uncommitted > 0 and not self.too_large

    @property
    def heavy(self) -> bool:
        """Whether the last one was heavy."""
        return self._size >= HEAVY_BYTES

    def due(self, ledger: Ledger, now: float) -> bool:
        """Whether the next commit must have a checkpoint."""
        if not self.has_news:
            return False
        since = now - self._last
        if since < CHECKPOINT_SHARE * self._cost:
            return False
        if ledger.requests:  # now, while workers are busy with these tasks; later there is no news
            return self.stored != ledger.counted
        if since < CHECKPOINT_SECONDS and self.uncommitted <= CHECKPOINT_TASKS:  # nearly always
            return False
        if self.heavy and self.heard < HEAVY_TIMES * self._size:
            return False
        return since >= CHECKPOINT_SECONDS or self.uncommitted > max(CHECKPOINT_TASKS, ledger.pace.window() // 2)

    def began(self, now: float) -> None:
        """Note that the job was created, with an empty checkpoint."""
        self._last = now

    def hurry(self) -> None:
        """Have one written with the first news: after a takeover, answers of many seconds are in no checkpoint."""
        self._last = float("-inf")

    def written(self, counted: int, started: float, now: float, size: int) -> None:
        """Note that a checkpoint of ``size`` bytes is in Redis, which took from ``started`` until ``now``."""
        self.uncommitted = self.heard = 0
        self._size = size
        self.stored = counted
        self._last = now
        self._cost = now - started
