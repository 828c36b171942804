"""Messages to systemd: the workers are ready, they stop, and the supervisor's loop still runs (the watchdog).

See sd_notify(3): one datagram to the socket that NOTIFY_SOCKET names. Without that variable no message is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket


class Notifier:
    """Sends the messages. It removes the variables from the environment, so that no process started by a worker or a
    function sends any.
    """

    def __init__(self) -> None:
        path = os.environ.pop("NOTIFY_SOCKET", "")
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        ours = os.environ.pop("WATCHDOG_PID", "") in {"", str(os.getpid())}
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._every = int(microseconds) / 2e6 if microseconds.isdecimal() and ours else 0.0
        self._next = float("-inf")
        self._ready = False

    def ready(self) -> None:
        """Say that the workers are known to the queue."""
        if not self._ready:
            self._ready = True
            self._tell("READY=1")

    def turned(self, now: float, status: str) -> None:
        """Say that the loop still runs, twice in each period of the watchdog. ``now``: monotonic seconds."""
        if self._every and now >= self._next:
            self._next = now + self._every
            self._tell(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that the workers finish their tasks in hand and leave."""
        self._tell("STOPPING=1")

    def _tell(self, text: str) -> None:
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as letters:
                letters.sendto(text.encode(), self._address)
