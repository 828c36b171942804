"""Who of several threads serves the lines: the lead, and the threads that wait while another has it."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable


class Lead:
    """What one at a time has. It is taken with a token, and given back with that token, also if it was not taken.

    A lock's ``acquire`` does not do: an error of a signal's handler (Ctrl-C) may come after it has taken the lock and
    before we know of it, and then no thread gives it back.
    """

    def __init__(self) -> None:
        self._holder: dict[str, object] = {}

    def take(self, token: object) -> bool:
        """Whether the token has it now."""
        return self._holder.setdefault("lead", token) is token

    def give_back(self, token: object) -> None:
        """It is free, if the token had it."""
        if self._holder.get("lead") is token:
            self._holder.pop("lead", None)

    def free(self) -> bool:
        """Whether no thread has it."""
        return not self._holder


class Waiting:
    """A thread that waits while another has the lead, and how it is woken."""

    def __init__(self, ready: Callable[[], bool], bell: int) -> None:
        self.ready = ready
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)
        if bell >= 0:
            self._poll.register(bell, select.POLLIN)

    def wake(self) -> None:
        """From any thread."""
        with contextlib.suppress(OSError):  # full: it is awake
            os.write(self._writer, b"!")

    def wait(self, seconds: float) -> None:
        """Wait until it is woken, its bell rings, or the seconds are over."""
        self._poll.poll(seconds * 1000)

    def close(self) -> None:
        """The thread does not wait any more."""
        os.close(self._reader)
        os.close(self._writer)


def readable(descriptor: int) -> bool:
    """Whether a descriptor can be read at once."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
