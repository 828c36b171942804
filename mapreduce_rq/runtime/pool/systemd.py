"""What systemd is told: that the workers are there, that they go, and that the supervisor's loop turns (the watchdog).

See sd_notify(3): one datagram to the socket that NOTIFY_SOCKET names. Without that variable nothing is told.
"""

from __future__ import annotations

import contextlib
import os
import socket


class Notifier:
    """Takes the variables out of the environment: what workers and their functions start has nothing to tell."""

    def __init__(self) -> None:
        path = os.environ.pop("NOTIFY_SOCKET", "")
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        ours = os.environ.pop("WATCHDOG_PID", "") in {"", str(os.getpid())}
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._every = int(microseconds) / 2e6 if microseconds.isdecimal() and ours else 0.0
        self._next = float("-inf")
        self._ready = False

    def ready(self) -> None:
        """The workers are known to the queue."""
        if not self._ready:
            self._ready = True
            self._tell("READY=1")

    def turned(self, now: float, status: str) -> None:
        """The loop has turned once more; ``now``: monotonic seconds. Told twice in each period of the watchdog."""
        if self._every and now >= self._next:
            self._next = now + self._every
            self._tell(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self) -> None:
        """The workers finish what they have in hand."""
        self._tell("STOPPING=1")

    def _tell(self, text: str) -> None:
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as letters:
                letters.sendto(text.encode(), self._address)
