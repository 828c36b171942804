"""Time and random bytes for the loops. The simulation gives them a clock of its own."""

from __future__ import annotations

import os
import time


class Clock:
    """The machine's clocks: ``now`` for differences, ``wall`` for people."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    nanoseconds = staticmethod(time.perf_counter_ns)  # the builtin itself: a worker calls it three times for each task
    """Monotonic nanoseconds, to measure short work with."""

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def random(self, size: int) -> bytes:
        """Random bytes for names and nonces."""
        return os.urandom(size)


class Backoff:
    """The waits between attempts to reconnect: short at first, and at most a second, so that work resumes soon."""

    def __init__(self) -> None:
        self._next = 0.05

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        self._next, now = min(1.0, 2 * self._next), self._next
        return now
