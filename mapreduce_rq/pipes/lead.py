"""Decides which of several threads serves the lines: the lead, and the threads that wait while another has it."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable


class Lead:
    """A lock that is taken with a token, and given back with that token, even if it was not taken.

    ``Lock.acquire`` is not enough: a signal handler (Ctrl-C) may raise after the lock was taken and before we know it,
    and then no thread would release it.
    """

    def __init__(self) -> None:
        self._holder: dict[str, object] = {}

    def take(self, token: object) -> bool:
        """Take the lead for this token if it is free. Returns whether the token has it now."""
        return self._holder.setdefault("lead", token) is token

    def give_back(self, token: object) -> bool:
        """Free the lead if the token has it. Returns whether it had it."""
        if self._holder.get("lead") is not token:
            return False
        self._holder.pop("lead", None)
        return True

    def free(self) -> bool:
        """Whether no thread has it."""
        return not self._holder


class Waiting:
    """A thread that waits while another has the lead, and can be woken."""

    def __init__(self, ready: Callable[[], bool], bell: int) -> None:
        self.ready = ready
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)
        if bell >= 0:
            self._poll.register(bell, select.POLLIN)

    def wake(self) -> None:
        """Wake it, from any thread."""
        with contextlib.suppress(OSError):  # the pipe is full, so the thread is awake
            os.write(self._writer, b"!")

    def wait(self, seconds: float) -> None:
        """Wait until it is woken, its bell rings, or the seconds are over."""
        self._poll.poll(seconds * 1000)

    def close(self) -> None:
        """Close its descriptors, because the thread does not wait any more."""
        os.close(self._reader)
        os.close(self._writer)


def readable(descriptor: int) -> bool:
    """Whether a descriptor can be read at once."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
