"""Logs what each worker does: its task, and the Python stacks that it writes to a pipe when it is asked."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable

from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.pool.child import Child
from mapreduce_rq.runtime.pool.kernel import rss
from mapreduce_rq.runtime.pool.signals import STACKS

log = logging.getLogger("mapreduce_rq.pool")

STACK_SECONDS = 0.2
"""Seconds that a worker has to write its stacks."""
STACK_BYTES = 32 * 1024


class Doings:
    """Logs what the workers of one pool do."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stacks_at = float("inf")  # the time at which the stacks that were asked for are read

    def tell(self, children: Iterable[Child]) -> None:
        """Log what each worker does, and ask for its stacks."""
        for child in children:
            doing = child.slate.read()
            what = f"in {doing.job} [{doing.lo}, {doing.hi}) for {doing.seconds:.1f} s" if doing.busy else "idle"
            what += " (stopped)" if child.stopped else ""
            log.info("worker %d: %s, %d tasks done, %.0f MB", child.pid, what, doing.done, rss(child.pid) / 1e6)
            if not child.stopped:
                os.kill(child.pid, STACKS)
        self._stacks_at = self._clock.now() + STACK_SECONDS

    def tell_stacks(self, children: Iterable[Child]) -> None:
        """Log the stacks that were asked for."""
        if self._clock.now() < self._stacks_at:
            return
        self._stacks_at = float("inf")
        for child in children:
            with contextlib.suppress(BlockingIOError):  # a worker that is stuck in the kernel has written none
                text = os.read(child.stacks, STACK_BYTES).decode(errors="replace")
                for line in filter(None, text.splitlines()):
                    log.info("worker %d: %s", child.pid, line)
