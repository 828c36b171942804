"""Time and random bytes for the loops. The simulation gives them a clock of its own."""

from __future__ import annotations

import os
import time


class Clock:
    """The machine's clocks: ``now`` for differences, ``wall`` for people.

    The built-ins themselves: a worker asks three times for each task, and a lone task asks ten times in all.
    """

    now = staticmethod(time.monotonic)
    """Monotonic seconds."""
    nanoseconds = staticmethod(time.perf_counter_ns)
    """Monotonic nanoseconds, to measure short work with."""
    wall = staticmethod(time.time)
    """Unix seconds."""

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
