"""The events of a job that are shown above its bar: a few at a time, so that a person can read them.

Ten lines may come at once, then one every two seconds, and 200 in all; the next line says how many were left out.
`mrq events` shows all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mapreduce_rq.core.text import plural

AT_ONCE = 10
EACH_SECONDS = 2.0
MOST = 200


class FewEvents:
    """Collects events, and returns the lines to be shown."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._room = float(AT_ONCE)
        self._counted_at = clock()
        self._shown = 0
        self._left_out = 0
        self._lines: list[str] = []

    def add(self, text: str) -> None:
        """Add an event."""
        if self._shown >= MOST:
            return
        now = self._clock()
        self._room = min(AT_ONCE, self._room + (now - self._counted_at) / EACH_SECONDS)
        self._counted_at = now
        if self._room < 1:
            self._left_out += 1
            return
        self._room -= 1
        self._shown += 1
        if self._left_out:
            self._lines.append(f"{plural(self._left_out, 'more event')} left out here")
            self._left_out = 0
        self._lines.append(text)
        if self._shown == MOST:
            self._lines.append("no more events are shown here")

    def take(self) -> list[str]:
        """Return the lines that were not shown yet."""
        lines, self._lines = self._lines, []
        return lines
