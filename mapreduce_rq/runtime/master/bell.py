"""A bell with which other threads wake a master that waits for replies: there are new items, or there is room for more.

The master waits for its connection and for the bell at once, so neither delays the other. Ringing costs a system call
only where somebody waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress


class Bell:
    """``news``: whether there is a reason not to wait; asked once more after the bell is hung up to be rung."""

    def __init__(self, news: Callable[[], bool]) -> None:
        self._news = news
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._awaited = False

    def fileno(self) -> int:
        """What becomes readable when it is rung."""
        return self._reader

    def ring(self) -> None:
        """Wake the master, from any thread."""
        if self._awaited:
            self._awaited = False
            self.insist()

    def insist(self) -> None:
        """Wake the master whatever it waits for, from any thread."""
        with suppress(OSError):  # full: it is rung; or the job is over
            os.write(self._writer, b"!")

    def await_it(self) -> bool:
        """From now on it is rung. False where there is something to do at once."""
        self._awaited = True
        if self._news():
            self._awaited = False
            return False
        return True

    def heard(self) -> None:
        """It has been rung, or not: from now on it need not be."""
        self._awaited = False
        with suppress(OSError):
            os.read(self._reader, 64)

    def close(self) -> None:
        """The master is gone."""
        self._awaited = False
        for descriptor in (self._reader, self._writer):
            if descriptor >= 0:
                os.close(descriptor)
        self._reader = self._writer = -1  # else a late ring might go to another file of that number
