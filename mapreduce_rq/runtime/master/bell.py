"""A bell by which other threads wake a master that waits for replies: there are new items, or there is room for more.

The master waits for its connection and for the bell at the same time, so neither delays the other. Ringing costs a
system call only if the master waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress


class Bell:
    """A bell. ``news`` returns whether there is a reason not to wait; it is called again after the bell can be rung."""

    def __init__(self, news: Callable[[], bool]) -> None:
        self._news = news
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._awaited = False

    def fileno(self) -> int:
        """A descriptor that becomes readable when the bell is rung."""
        return self._reader

    def ring(self) -> None:
        """Wake the master, from any thread."""
        if self._awaited:
            self._awaited = False
            self.insist()

    def insist(self) -> None:
        """Wake the master even if it does not wait for the bell, from any thread."""
        with suppress(OSError):  # the pipe is full, so the bell has been rung; or the job is over
            os.write(self._writer, b"!")

    def await_it(self) -> bool:
        """Have the bell rung from now on. Returns False if there is something to do at once."""
        self._awaited = True
        if self._news():
            self._awaited = False
            return False
        return True

    def rest(self) -> None:
        """Have ``ring`` do nothing from now on. If it rings in this moment, the next wait ends at once."""
        self._awaited = False

    def heard(self) -> None:
        """Stop the ringing: empty the pipe, and have ``ring`` do nothing from now on."""
        self._awaited = False
        with suppress(OSError):
            os.read(self._reader, 64)

    def close(self) -> None:
        """Close the descriptors, because the master is gone."""
        self._awaited = False
        for descriptor in (self._reader, self._writer):
            if descriptor >= 0:
                os.close(descriptor)
        self._reader = self._writer = -1  # otherwise a late ring could go to another file with this number
